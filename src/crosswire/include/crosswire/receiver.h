/* receiver.h — frames to whole messages: the receiving side of one WebSocket connection.
 *
 * RFC 6455 sections 5 to 8, both roles. Bytes are written at the tail of the receive buffer;
 * cw_receiver_next gives one message or control frame at a time. A message that came in one frame
 * is a view of the receive buffer, unmasked in place. Fragments, frames larger than the buffer and
 * compressed messages (permessage-deflate, RFC 7692) are put together in the assembly: up to
 * small_size bytes in a block lent at the start, beyond that in one of the heap, which is given
 * back with the next call.
 *
 * Text is checked as it arrives, so a bad byte ends the connection before the rest of its frame
 * comes. The first error is the last: the connection must be failed with
 * cw_close_code_for(error.code). */
#ifndef CROSSWIRE_RECEIVER_H
#define CROSSWIRE_RECEIVER_H

#include "buffer.h"
#include "frame.h"
#include "inflate.h"
#include "ops.h"
#include "utf8.h"

/* One message, or one control frame. */
typedef struct cw_message {
    uint8_t *payload; /* valid until the next call; the guards of buffer.h are around it */
    uint64_t at;      /* stream offset of its first byte, in a view; 0 in the assembly */
    uint32_t len;
    uint8_t opcode; /* CW_TEXT, CW_BINARY, CW_CLOSE, CW_PING or CW_PONG */
    uint8_t is_view;
    uint8_t reserved[2];
} cw_message;

typedef struct cw_receiver_terms {
    cw_role role;
    int checks_text; /* 0: the owner checks that a view is UTF-8, and calls cw_receiver_fail; the
                      * receiver may find a bad byte first */
    void *rx;        /* cw_buffer_size(rx_capacity) bytes */
    uint32_t rx_capacity;
    uint32_t small_size;
    void *small; /* cw_buffer_size(small_size) bytes */
    cw_heap heap;
    uint32_t message_max;   /* most bytes of one message */
    uint32_t fragments_max; /* most frames of one message */
    uint32_t controls_max;  /* most control frames a second; 0: any number */
} cw_receiver_terms;

#define CW_RECEIVER_RX_MIN 256 /* a whole control frame, and more */
#define CW_RATIO_ALARM 100u      /* a message that expands so many times is counted, */
#define CW_RATIO_ALARM_MIN 65536u /* from this size on: a small one may be all back references */

typedef struct cw_receiver {
    cw_buffer rx;
    const cw_ops *ops;
    cw_heap heap;
    uint8_t *small, *large; /* behind their front guards; large is NULL unless it is in use */
    uint32_t small_size, message_max, fragments_max, controls_max;
    uint8_t role, checks_text;
    uint8_t opcode;       /* of the message in the assembly, 0: none */
    uint8_t is_streaming; /* a frame's payload goes to the assembly piece by piece */
    uint8_t has_close;    /* a close frame came: nothing more is read */
    uint8_t has_deflate;  /* messages may be compressed */
    uint8_t is_compressed; /* the message in the assembly is */
    uint8_t reserved;
    cw_utf8 utf8;
    uint32_t assembled, fragment_count;
    uint32_t front_len; /* payload of the unfinished frame at rx.parsed that is plain and checked */
    uint32_t view_len;  /* of the frame at rx.parsed whose payload was handed out as a view */
    cw_frame streamed;
    uint64_t streamed_len;
    uint64_t packed_len; /* of the compressed message in the assembly, as it came */
    cw_inflate inflate;
    uint64_t stream_at; /* stream offset of rx.data[0] */
    uint64_t frames, controls;
    uint64_t ratio_alarms; /* messages that expanded CW_RATIO_ALARM times, within message_max */
    int64_t second_began; /* of the control frames that are counted together */
    uint32_t second_count;
    cw_error error; /* code 0: none */
} cw_receiver;

/* Build a receiver. CW_OK; CW_E_FRAME_TOO_BIG when the receive buffer is below its minimum or a
 * message could be larger than 2^31 bytes. */
int cw_receiver_init(cw_receiver *self, const cw_ops *ops, const cw_receiver_terms *terms);

/* A connection begins: forget the stream and what was agreed on it, keep the counters. */
void cw_receiver_open(cw_receiver *self);

/* The connection agreed on permessage-deflate: the peer's window of 1 << window_bits bytes, 8..15,
 * and whether it refers back to earlier messages. To be said once, behind cw_receiver_open. Returns
 * as cw_inflate_open. The receiver must not be moved from here on. */
int cw_receiver_take_deflate(cw_receiver *self, int window_bits, int keeps_context);

/* Give back what the heap gave; an unfinished message is lost. The receiver may be opened again. */
void cw_receiver_close(cw_receiver *self);

/* Where to write next; *free_size is 0 only while there is more to take, or behind the end. */
static inline uint8_t *cw_receiver_tail(cw_receiver *self, uint32_t *free_size) {
    return cw_buffer_tail(&self->rx, free_size);
}

/* `n` bytes were written at the tail. CW_OK; CW_E_FRAME_TOO_BIG when they cannot have been, which
 * breaks the connection. */
int cw_receiver_commit(cw_receiver *self, uint32_t n);

/* The next message, at the monotonic stamp of the read (ns). CW_OK; CW_NEED_MORE when all that
 * came is taken, and always behind a close frame; else the code of the error, which stays. */
int cw_receiver_next(cw_receiver *self, int64_t mono_now, cw_message *out);

/* Make room in the receive buffer; a view that was handed out is over. For an owner that takes
 * frames by itself; cw_receiver_next does it too, when it says CW_NEED_MORE. */
void cw_receiver_compact(cw_receiver *self);

/* The connection is broken by something at a stream offset. Returns the code of the first error. */
int cw_receiver_fail(cw_receiver *self, int code, uint64_t at);

/* 1 while no message is unfinished: the next frame is the first of one. */
static inline int cw_receiver_is_between(const cw_receiver *self) {
    return !self->opcode && !self->is_streaming;
}

/* Say that whole frames up to p, behind rx.parsed, were taken by the owner. */
static inline void cw_receiver_skip(cw_receiver *self, const uint8_t *p, uint64_t frames) {
    self->rx.parsed = (uint32_t)(p - self->rx.data);
    self->front_len = self->view_len = 0;
    self->frames += frames;
}

/* The view that was handed out is done with: what follows it comes next. For an owner that takes
 * frames by itself; cw_receiver_next does it too. */
static inline void cw_receiver_settle(cw_receiver *self) {
    if (self->view_len)
        cw_receiver_skip(self, self->rx.data + self->rx.parsed + self->view_len, 1);
}

#endif
