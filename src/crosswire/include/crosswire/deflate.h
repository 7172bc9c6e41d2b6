/* deflate.h — messages compressed for permessage-deflate (RFC 7692 7.2.1). zlib lies beneath.
 *
 * One call makes one message; the frame around it, with RSV1 set, is the caller's. */
#ifndef CROSSWIRE_DEFLATE_H
#define CROSSWIRE_DEFLATE_H

#include "heap.h"

#define CW_DEFLATE_BITS_MIN 9 /* zlib reads windows of 8 bits and cannot write them */
#define CW_DEFLATE_BITS_MAX 15

/* The owner sets all to zero, or opens it, before anything else. It may be moved in memory. */
typedef struct cw_deflate {
    void *stream;        /* zlib's; NULL while closed */
    const cw_heap *heap; /* lent from open to close */
    uint8_t keeps_context;
} cw_deflate;

/* Make ready for the first message. `heap` is lent until cw_deflate_close: up to 270 KiB now,
 * nothing later.
 *
 * `window_bits` 9..15: a message refers back 1 << window_bits bytes at most.
 * `keeps_context`: not 0 when messages may refer to those before them.
 * `level`: 0 (stored) to 9 (smallest), 1 being the fastest that compresses; -1 is zlib's choice.
 *
 * CW_OK; CW_E_MEMORY when the heap has no more, and CW_FULL when window_bits or level is out of
 * bounds. Then the object is closed. */
int cw_deflate_open(cw_deflate *self, const cw_heap *heap, int window_bits, int keeps_context,
                    int level);

/* The room in bytes that a message of `n` bytes needs at most, whatever was opened: n + n / 8 +
 * n / 64 + 32. SIZE_MAX when that is more than a size can say. */
size_t cw_deflate_bound(size_t n);

/* Compress the whole message of `n` bytes at `p` (NULL when n is 0) into the `room` bytes at `out`,
 * without the tail 00 00 FF FF. Nothing at all becomes the one byte 00 (RFC 7692 7.2.3.6).
 *
 * CW_OK: *made bytes stand in `out`. CW_FULL: room is less than cw_deflate_bound(n), or the object
 * is closed; nothing was taken and *made is 0. */
int cw_deflate_message(cw_deflate *self, const uint8_t *p, size_t n, uint8_t *out, size_t room,
                       size_t *made);

/* Give all memory back. Closed objects, and those that are all zero, may be closed again. */
void cw_deflate_close(cw_deflate *self);

#endif
