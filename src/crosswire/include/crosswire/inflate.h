/* inflate.h — compressed messages read: permessage-deflate (RFC 7692), and gzip (RFC 1952) or zlib
 * (RFC 1950) inside a message, for venues that compress so. zlib lies beneath.
 *
 * One message is fed in any number of pieces, then ended; then the next. What comes out goes into
 * the caller's memory, never more than the room that is given: a bomb is met by giving no more
 * room. No call looks further than its room and its input reach.
 *
 * The verdict on a message, its output and the position of a fault do not depend on how it is cut.
 * The one exception is named at cw_inflate_open. */
#ifndef CROSSWIRE_INFLATE_H
#define CROSSWIRE_INFLATE_H

#include "heap.h"

typedef enum cw_inflate_form {
    CW_INFLATE_RAW = 0,  /* a message of RFC 7692: no header, without its tail 00 00 FF FF */
    CW_INFLATE_GZIP = 1, /* a message is one whole gzip member and nothing else */
    CW_INFLATE_ZLIB = 2  /* a message is one whole zlib stream and nothing else */
} cw_inflate_form;

#define CW_WINDOW_BITS_MIN 8
#define CW_WINDOW_BITS_MAX 15

/* The owner sets all to zero, or opens it, before anything else. It may be moved in memory, though
 * not while a call is on. */
typedef struct cw_inflate {
    void *stream;        /* zlib's; NULL while closed */
    const cw_heap *heap; /* lent from open to close */
    int32_t broken;      /* the code that every further call returns, or CW_OK */
    uint8_t form;
    uint8_t keeps_context;
    uint8_t is_bare;   /* no byte since the message, or a deflate stream inside it, began */
    uint8_t is_done;   /* gzip, zlib: the member is whole */
    uint8_t is_behind; /* there may be output without more input */
} cw_inflate;

/* Make ready for the first message. `heap` is lent until cw_inflate_close: about 10 KiB at once,
 * and the window when the first message needs it; nothing after that.
 *
 * `window_bits` 8..15: messages refer back 1 << window_bits bytes at most. A message that refers
 * further back breaks what was agreed; with 15 there is no such message, with less it is refused
 * only where that lies before the output of the call at hand, so there the verdict does depend on
 * the cuts (it is never output that was not meant). gzip does not tell its window: use 15.
 * `keeps_context`, RAW only: not 0 when a message may refer to those before it ("context
 * takeover"); every other message begins with an empty window.
 *
 * CW_OK; CW_E_MEMORY when the heap has no more, and CW_FULL when window_bits is out of bounds. Then
 * the object is closed. An object that is open is closed first by the caller. */
int cw_inflate_open(cw_inflate *self, const cw_heap *heap, cw_inflate_form form, int window_bits,
                    int keeps_context);

/* Read `n` more bytes at `p` of a message (NULL when n is 0) into the `room` bytes at `out` (NULL
 * when room is 0). *used says how many bytes of input were taken, *made how many of output stand in
 * `out`; both are always set. Input and output must not overlap.
 *
 * CW_OK: all input is taken, all output of it delivered; with n 0 too.
 * CW_FULL: the room is full, and there may be more to come. Call again with the input from *used
 *     on, be it empty, and with new room. So is room 0, whenever anything may be left.
 * CW_E_INFLATE: what is fed cannot be read; *used bytes were taken until that was seen, and output
 *     before the fault was delivered. Bad are blocks, distances, headers, checksums and lengths
 *     that do not hold, a preset dictionary, and bytes (thus a second member) behind a gzip or zlib
 *     member.
 * CW_E_MEMORY: the heap has no memory for the window.
 *
 * After either error every call returns it again and takes nothing, until the object is closed. A
 * closed object returns CW_E_INFLATE. zlib is handed at most 64 KiB of input and room at a time.
 *
 * RAW: a deflate stream that ends inside a message (BFINAL, RFC 7692 7.2.3.4) is followed by
 * another, which may refer back into it. */
int cw_inflate_feed(cw_inflate *self, const uint8_t *p, size_t n, size_t *used, uint8_t *out,
                    size_t room, size_t *made);

/* Read the last piece of a message: as cw_inflate_feed, and where that says CW_OK, cw_inflate_end.
 * CW_FULL: call again with the input from *used on, be it empty, and with new room. It is there
 * because it is faster: a message's end is seen without asking zlib once more. */
int cw_inflate_last(cw_inflate *self, const uint8_t *p, size_t n, size_t *used, uint8_t *out,
                    size_t room, size_t *made);

/* The message is over. What was held back for lack of room comes first, as by cw_inflate_feed.
 *
 * CW_OK: the message was whole and the next may be fed. Without context the window is empty; no
 *     memory is given back.
 * CW_FULL: the room is full; call again with new room.
 * CW_E_INFLATE: the message ends too early. RAW: 00 00 FF FF (RFC 7692 7.2.2) does not complete it.
 *     A message without any byte is taken as an empty one, and a message may end right behind a
 *     final block: zlib writes nothing for the second of two flushes, and senders that end with
 *     BFINAL are known to leave the 00 behind it away.
 *
 * All input must have been taken before: a message is ended after a CW_OK, or a CW_FULL with *used
 * == n, of cw_inflate_feed. */
int cw_inflate_end(cw_inflate *self, uint8_t *out, size_t room, size_t *made);

/* Give all memory back. Closed objects, and those that are all zero, may be closed again. */
void cw_inflate_close(cw_inflate *self);

#endif
