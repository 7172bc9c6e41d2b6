/* line.h — one connection's bytes, from the receive buffer to the ring: the whole hot path.
 *
 * The receive engine writes at cw_line_tail, then calls cw_line_feed with ONE stamp per read and
 * calls it again with n = 0 while it says CW_FED_MORE. Nothing here allocates but the receiver, for
 * messages that are larger than its small block. */
#ifndef CROSSWIRE_LINE_H
#define CROSSWIRE_LINE_H

#include "engine.h"
#include "receiver.h"

/* Bits that cw_line_feed returns. */
#define CW_FED_MORE 0x1u     /* stopped early: call again with n = 0 */
#define CW_FED_SIGNALS 0x2u  /* the ring holds signals */
#define CW_FED_CONTROL 0x4u  /* the inbox holds messages for the control plane */
#define CW_FED_RECORDS 0x8u  /* a batch is full */
#define CW_FED_BROKEN 0x10u  /* receiver.error: the connection must be failed */
#define CW_FED_CLOSED 0x20u  /* a close frame was received: nothing more is read */

/* One entry of the inbox: this head, then `len` bytes, padded to 4. */
typedef struct cw_inbox_entry {
    uint32_t len;
    uint8_t opcode;
    uint8_t reserved[3];
} cw_inbox_entry;

typedef struct cw_line_error {
    cw_error error;
    uint64_t message; /* ordinal of the message on this line, from 0 */
    uint32_t instrument;
    uint32_t reserved;
} cw_line_error;

#define CW_LINE_ERRORS 16 /* most recent message errors that are kept until read */

struct cw_line {
    cw_engine *engine;
    cw_receiver receiver;
    cw_scanner scanner;
    uint8_t *inbox;
    uint32_t inbox_len, inbox_capacity;
    cw_message held; /* taken from the receiver, and waits for room in the inbox */
    uint16_t id;
    uint8_t has_held;
    uint8_t is_done;      /* broken, closed or lost: nothing more is read */
    uint8_t last_scanned; /* kind of the last record: where the next one is written */
    uint8_t is_merged;    /* it is of a group */
    uint8_t reserved[2];
    uint64_t bytes, messages;
    uint64_t inbox_count; /* entries that were put there */
    uint64_t error_count; /* messages that were lost to an error */
    cw_line_error errors[CW_LINE_ERRORS];
    cw_record scratch; /* where records go that nobody wants as rows */
};

typedef struct cw_line cw_line;

#define CW_LINE_INBOX_MIN 544 /* four control frames */

typedef struct cw_line_memory {
    cw_receiver_terms receiver; /* checks_text is the line's to say */
    uint8_t *inbox;
    uint32_t inbox_capacity;
} cw_line_memory;

/* Make a line of `venue`. It stays where it is: its scanner points into itself. CW_FULL when the
 * engine has no room for another; CW_E_FRAME_TOO_BIG when the receive buffer or the inbox is below
 * its minimum. */
int cw_line_init(cw_line *self, cw_engine *engine, uint16_t venue,
                 const cw_line_memory *memory);

/* Make a line that was never opened one of several that carry the same streams; `group`, `merged`
 * and what is returned are those of cw_group_join. */
int cw_line_join(cw_line *self, uint16_t group, cw_merged *merged);

/* Give back what the heap gave. */
void cw_line_close(cw_line *self);

/* The connection is open (again): forget all stream state, keep the counters and templates. */
void cw_line_open(cw_line *self, int64_t ts_now, int64_t mono_now);

/* From now on the line carries every stream of its group: all were acknowledged and have settled.
 * Holds until it is opened again, lost, broken or closed; does nothing where it is not open. */
void cw_line_cover(cw_line *self, int64_t ts_now, int64_t mono_now);

/* The connection ended. Returns signals written. */
uint32_t cw_line_lose(cw_line *self, int64_t ts_now, int64_t mono_now);

/* Where to write next; *free_size is 0 only while CW_FED_MORE is pending or the line is done. */
uint8_t *cw_line_tail(cw_line *self, uint32_t *free_size);

/* `n` bytes were written at the tail at this moment; before a new read the ring must be drained.
 * Returns CW_FED_ bits; 0: all was read and nothing needs attention. */
uint32_t cw_line_feed(cw_line *self, uint32_t n, int64_t ts_rx, int64_t mono_rx);

/* The connection is broken by the receiver's error; for the parts of a line. Returns
 * CW_FED_BROKEN. */
uint32_t cw_line_break(cw_line *self);

#endif
