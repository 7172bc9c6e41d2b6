/* frame.h — WebSocket frames, RFC 6455 section 5: headers read and written, payloads masked.
 *
 * Works on lent bytes; keeps no state. Both roles: a client reads unmasked and writes masked
 * frames, a server the other way round. */
#ifndef CROSSWIRE_FRAME_H
#define CROSSWIRE_FRAME_H

#include "base.h"

typedef enum cw_role { CW_CLIENT = 0, CW_SERVER = 1 } cw_role;

typedef enum cw_opcode {
    CW_CONTINUATION = 0,
    CW_TEXT = 1,
    CW_BINARY = 2,
    CW_CLOSE = 8,
    CW_PING = 9,
    CW_PONG = 10
} cw_opcode;

#define CW_FRAME_HEADER_MAX 14
#define CW_CONTROL_MAX 125

typedef struct cw_frame {
    uint64_t payload_len;
    uint8_t header_len;
    uint8_t opcode;
    uint8_t is_final;
    uint8_t is_masked;
    uint8_t is_compressed; /* RSV1, which only cw_frame_read_deflate lets through */
    uint8_t mask[4];
    uint8_t reserved[3];
} cw_frame;

/* Read one header from `n` bytes at `p`, as received by `role`.
 * CW_OK: `out` is filled. CW_NEED_MORE: the header is not whole yet; what is there is in order.
 * Otherwise an error at byte *at of the header. Does not know about fragments in progress. */
int cw_frame_read(const uint8_t *p, size_t n, cw_role role, cw_frame *out, uint32_t *at);

/* The same where permessage-deflate was agreed: the first frame of a message may have RSV1 set
 * (RFC 7692 6). */
int cw_frame_read_deflate(const uint8_t *p, size_t n, cw_role role, cw_frame *out, uint32_t *at);

/* Write a header of at most CW_FRAME_HEADER_MAX bytes; returns its length. `mask` is four bytes,
 * or NULL for an unmasked frame. */
uint32_t cw_frame_write(uint8_t *p, cw_opcode opcode, int is_final, uint64_t payload_len,
                        const uint8_t *mask);

/* 1 when a peer may send this close code (RFC 6455 7.4 and the registry), else 0. */
int cw_close_code_is_valid(uint32_t code);

/* The close code that answers an error: 1002, 1007, 1008, 1009, 1011. */
uint32_t cw_close_code_for(int code);

#endif
