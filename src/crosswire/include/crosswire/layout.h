/* layout.h — a venue's messages as data: where symbol, prices, sizes, ids and times stand.
 *
 * A layout is a tree of nodes over one array, and a table of message kinds. Children of a node
 * are contiguous. The scanner (scan.h) walks it; nothing else knows a venue. */
#ifndef CROSSWIRE_LAYOUT_H
#define CROSSWIRE_LAYOUT_H

#include "record.h"

typedef enum cw_slot {
    CW_SLOT_SYMBOL = 0,
    CW_SLOT_SEQ,
    CW_SLOT_BID,
    CW_SLOT_BID_QTY,
    CW_SLOT_ASK,
    CW_SLOT_ASK_QTY,
    CW_SLOT_TS_MS,
    CW_SLOT_TRADE_ID,
    CW_SLOT_PRICE,
    CW_SLOT_QTY,
    CW_SLOT_SIDE,
    CW_SLOT_BUYER_IS_MAKER,
    CW_SLOT_COUNT,
    CW_SLOT_TRADE_KIND,
    CW_SLOT_TAG,
    CW_SLOT_BIDS,
    CW_SLOT_ASKS,
    CW_SLOT_CONTROL,
    CW_SLOTS,
    CW_SLOT_NONE = 0xFF
} cw_slot;

typedef enum cw_text_kind {
    CW_TEXT_ANY = 0,
    CW_TEXT_STRING,
    CW_TEXT_NUMBER,
    CW_TEXT_BOOL,
    CW_TEXT_ARRAY,
    CW_TEXT_OBJECT,
    CW_TEXT_NULL
} cw_text_kind;

#define CW_KEY_MAX 24
#define CW_TAG_MAX 24
#define CW_LAYOUT_NODES_MAX 96
#define CW_LAYOUT_MESSAGES_MAX 16
#define CW_SYMBOL_MAX 32
#define CW_INDEX_EACH 0xFFFFu /* the node stands for every element of its array */
#define CW_INDEX_KEY 0xFFFEu  /* the node stands at a key of an object */

typedef struct cw_layout_node {
    uint8_t key[CW_KEY_MAX];
    uint16_t key_len;
    uint16_t index;       /* element of its array, CW_INDEX_EACH or CW_INDEX_KEY */
    uint16_t child_first; /* children: nodes [child_first, child_first + child_count) */
    uint16_t child_count;
    uint8_t slot; /* cw_slot or CW_SLOT_NONE */
    uint8_t reserved[7];
} cw_layout_node;

typedef struct cw_layout_message {
    uint8_t tag[CW_TAG_MAX];
    uint16_t tag_len; /* 0: the TAG slot must be empty */
    uint8_t record;   /* cw_record_kind */
    uint8_t kind;     /* index under which it is counted */
    uint32_t required; /* bit per slot */
    uint32_t any_of;   /* bit per slot; one must be there; 0: no such condition */
    uint32_t used;     /* bit per slot that this kind reads */
    uint8_t text[CW_SLOTS]; /* cw_text_kind expected per slot */
    uint8_t reserved[6];
} cw_layout_message;

typedef struct cw_layout {
    cw_layout_node nodes[CW_LAYOUT_NODES_MAX];
    cw_layout_message messages[CW_LAYOUT_MESSAGES_MAX];
    uint16_t node_count;
    uint16_t message_count;
    uint16_t each_node; /* node whose elements are records, 0xFFFF: the message is one record */
    uint16_t word_len;  /* of a message that is no JSON and yet in order; 0: there is none */
    uint8_t word[16];   /* such as a text "pong" */
} cw_layout;

/* 1 when every index and length in the table is within bounds and every kind requires a symbol and
 * uses only slots that its record has a place for, in the kind of text that they are read from: a
 * symbol, side and kind of trade are strings, "buyer is maker" is a bool. A scanner must be given
 * no other. */
int cw_layout_is_valid(const cw_layout *self);

#endif
