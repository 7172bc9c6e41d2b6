/* base.h — codes, errors and byte access shared by all kernels.
 *
 * Rules of the house: C11; no Python, no I/O, no clock, no mutable globals; every length is
 * checked before it is used; memory is lent by the caller and never freed here, or asked of a heap
 * that the caller lends (heap.h). One object has one writer thread; nothing here locks.
 *
 * Three kinds of result are kept apart. "Not yet" is CW_NEED_MORE, "refused" is CW_FULL or
 * CW_TAKEN, and "broken" is a code of CW_E_FIRST or above, which comes with a byte position. */
#ifndef CROSSWIRE_BASE_H
#define CROSSWIRE_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CW_CACHE_LINE 64

typedef enum cw_code {
    CW_OK = 0,
    CW_NEED_MORE = 1, /* nothing is wrong; more bytes are needed */
    CW_FULL = 2,      /* a bound was reached; nothing was taken */
    CW_TAKEN = 3,     /* it is there already; nothing was changed */

    CW_E_FIRST = 16,
    /* frames: RFC 6455 section 5, and 7.4 for close codes */
    CW_E_FRAME_RESERVED_BITS = CW_E_FIRST,
    CW_E_FRAME_OPCODE,
    CW_E_FRAME_CONTROL_FRAGMENTED,
    CW_E_FRAME_CONTROL_TOO_LONG,
    CW_E_FRAME_LENGTH_FORM, /* length not in its shortest form, or its top bit is set */
    CW_E_FRAME_MASKED,      /* a server must not mask */
    CW_E_FRAME_UNMASKED,    /* a client must mask */
    CW_E_FRAME_TOO_BIG,
    CW_E_FRAME_CONTINUATION, /* continuation without a message, or data inside one */
    CW_E_FRAME_FRAGMENTS,    /* more fragments in a message than allowed */
    CW_E_FRAME_CLOSE,        /* close payload of one byte, or a code that must not be sent */
    CW_E_FRAME_FLOOD,        /* more control frames in a second than allowed */
    CW_E_UTF8,
    CW_E_INFLATE, /* a compressed message: corrupt, cut, or with bytes behind its end */
    CW_E_MEMORY,  /* the heap that was lent has no more */
    /* messages */
    CW_E_JSON_CUT,
    CW_E_JSON_SYNTAX,
    CW_E_JSON_DEPTH,
    CW_E_JSON_TRAILING,
    CW_E_KEY_DOUBLED,
    CW_E_KEY_MISSING,
    CW_E_TYPE, /* a field is not the kind of JSON value that the layout says */
    CW_E_NUMBER_FORM,
    CW_E_NUMBER_LENGTH, /* more text than any number of a market has */
    CW_E_NUMBER_RANGE,
    CW_E_SYMBOL_UNKNOWN,
    CW_E_SYMBOLS_FULL,
    CW_E_MESSAGE_UNKNOWN, /* neither data nor anything the venue's control plane understands */
    CW_E_MESSAGE_BINARY,  /* a binary message where the venue sends text */
    CW_E_LAST
} cw_code;

#define CW_E_COUNT (CW_E_LAST - CW_E_FIRST)

typedef struct cw_error {
    uint64_t at; /* byte offset of the fault, in the message or (frames) in the stream */
    int32_t code;
    uint32_t reserved;
} cw_error;

/* The name of a code ("json-cut"), constant for ever; NULL for a number that is no code. */
const char *cw_code_name(int code);

/* One sentence that says what is wrong; NULL for a number that is no code. */
const char *cw_code_text(int code);

/* Unaligned little-endian loads. The caller has checked the length. */
static inline uint32_t cw_load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t cw_load_u64(const void *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* For what runs once per message and is called from one place that matters. */
#define CW_HOT static inline __attribute__((always_inline))

#define CW_LIKELY(x) __builtin_expect(!!(x), 1)
#define CW_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
