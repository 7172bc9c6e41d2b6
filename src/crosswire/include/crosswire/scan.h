/* scan.h — one JSON message to records, by a layout.
 *
 * Strategy: predict, then verify. The structure of each message that was understood is kept as a
 * template: literal bytes between scalars. The next message is compared with the templates of its
 * stream; where the literals agree, the scalars are read in place, each checked by its own rule.
 * A number is often as long as it was the last time, and shows as many decimals: such hints,
 * verified, let the processor go on before a scalar is read. Prices and sizes are only located on
 * the way, and read together at the end.
 * Any disagreement falls back to the order-free scan, which is a whole JSON parser, validates
 * every byte, and names what is wrong. A template never accepts what the scan would refuse.
 *
 * A scanner that has scanned points into itself: it is neither copied nor moved.
 * At least CW_GUARD_BEFORE bytes before and CW_GUARD_AFTER bytes behind the message must be
 * readable; their contents do not matter. */
#ifndef CROSSWIRE_SCAN_H
#define CROSSWIRE_SCAN_H

#include "layout.h"
#include "symbol.h"

#define CW_TEMPLATES 8
#define CW_TEMPLATE_STEPS 48
#define CW_LITERAL_MAX 16
#define CW_JSON_DEPTH 64
#define CW_SURPRISES_MAX 4

typedef enum cw_scanned {
    CW_SCAN_QUOTE = 1,
    CW_SCAN_TRADE = 2,
    CW_SCAN_COUNTED = 3, /* a kind that is counted only; kind and instrument are set */
    CW_SCAN_CONTROL = 4, /* whole JSON, but no data: for the control plane */
    CW_SCAN_END = 5      /* no further record in this message */
} cw_scanned;

typedef struct cw_step {
    uint8_t literal[CW_LITERAL_MAX];
    uint16_t mask; /* bit per byte of the literal that counts */
    uint8_t len;   /* of the literal; 0 is allowed */
    uint8_t hole;  /* what follows it */
    uint8_t target; /* where the value goes: a field's offset in the record; of a decimal: its place */
    uint8_t hint;   /* of an integer: the length it had last */
    uint8_t is_number; /* an integer stands as a JSON number: without leading zeros */
    uint8_t fraction;  /* of a decimal: digits behind the point */
    uint8_t surprises; /* times that they were not as many */
    uint8_t reserved[7];
} cw_step;

typedef struct cw_template {
    cw_record blank; /* the record before its holes are filled */
    cw_step steps[CW_TEMPLATE_STEPS];
    uint16_t step_count;
    uint8_t kind;     /* of the message, as it is counted */
    uint8_t is_quote;
    uint8_t decimals; /* bit per place: bid, bid_qty, ask, ask_qty or price, qty */
    uint8_t reserved[59];
} cw_template;

typedef struct cw_scanner {
    /* set by the owner */
    const cw_layout *layout;
    cw_symbols *symbols;
    uint32_t *instrument_next; /* where an unknown symbol may take an id; NULL: it may not */
    uint32_t instrument_limit;
    uint16_t venue;
    uint8_t predicts; /* 0 switches the templates off */

    /* result of the last call */
    uint8_t kind;        /* the message's kind, valid for records and counted messages */
    uint32_t instrument; /* also set where an error came after the symbol; else no instrument */
    cw_error error;

    /* own state */
    uint64_t hits, misses;
    uint32_t miss_run;
    cw_template *front; /* the template used last; NULL: there is none */
    uint8_t order[CW_TEMPLATES]; /* most recently used first */
    uint8_t template_count;
    const uint8_t *next_at; /* further elements of a message of many records */
    const uint8_t *message, *message_end;
    const cw_layout_message *matched;
    cw_template templates[CW_TEMPLATES];
} cw_scanner;

/* Forget the templates and results; the owner's fields stay. */
void cw_scanner_reset(cw_scanner *self);

#endif
