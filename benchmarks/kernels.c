/* kernels.c — loops around single kernels, for rows where a call from Python would be most of what
 * is timed. benchmarks/kernels.py builds them with csrc/ and times them from outside. */
#include <stdlib.h>

#include "crosswire/frame.h"
#include "crosswire/inflate.h"
#include "crosswire/ops.h"

#define SHOWN __attribute__((visibility("default")))

enum { OUTPUT_SIZE = 1 << 16 };

static void *resize(void *user, void *block, size_t size) {
    (void)user;
    if (size) return realloc(block, size);
    free(block);
    return NULL;
}

/* Read the headers of all frames in [p, p + n), as a client, `times` times; returns the bytes of
 * their payloads, 0 when one is no frame. */
SHOWN size_t walk_headers(size_t times, const uint8_t *p, size_t n) {
    size_t sum = 0;
    while (times--)
        for (size_t at = 0; at < n;) {
            cw_frame frame;
            uint32_t where;
            if (cw_frame_read(p + at, n - at, CW_CLIENT, &frame, &where) != CW_OK) return 0;
            at += frame.header_len + frame.payload_len;
            sum += frame.payload_len;
        }
    return sum;
}

/* Copy [p, p + n) to one place, `size` bytes at a time; returns how many were copied. */
SHOWN size_t copy_blocks(size_t times, const uint8_t *p, size_t n, size_t size, uint8_t *to) {
    size_t sum = 0;
    while (times--)
        for (size_t at = 0; at + size <= n; at += size) {
            memcpy(to, p + at, size);
            __asm__ volatile("" : : "r"(to) : "memory"); /* it is needed each time */
            sum += size;
        }
    return sum;
}

/* Unmask [p, p + n) in place, `size` bytes at a time. */
SHOWN size_t unmask_blocks(size_t times, uint8_t *p, size_t n, size_t size) {
    static const uint8_t KEY[4] = {0x37, 0xFA, 0x21, 0x3D};
    const cw_ops *ops = cw_ops_for(CW_LEVEL_AVX512);
    size_t sum = 0;
    while (times--)
        for (size_t at = 0; at + size <= n; at += size) {
            ops->mask(p + at, size, KEY, 0);
            sum += size;
        }
    return sum;
}

/* Look for bytes above 127 in [p, p + n), `size` bytes at a time; returns how many are below. */
SHOWN size_t check_ascii(size_t times, const uint8_t *p, size_t n, size_t size) {
    const cw_ops *ops = cw_ops_for(CW_LEVEL_AVX512);
    size_t sum = 0;
    while (times--)
        for (size_t at = 0; at + size <= n; at += size) sum += ops->ascii_prefix(p + at, size);
    return sum;
}

/* Read messages of permessage-deflate, each behind its size in four bytes as the machine has them;
 * returns the bytes that they had, 0 when one cannot be read. */
SHOWN size_t inflate_messages(const uint8_t *p, size_t n, int keeps_context) {
    static uint8_t out[OUTPUT_SIZE];
    static const cw_heap HEAP = {resize, NULL};
    size_t at = 0, sum = 0, used, made;
    cw_inflate inflate;
    if (cw_inflate_open(&inflate, &HEAP, CW_INFLATE_RAW, 15, keeps_context) != CW_OK) return 0;
    while (at < n) {
        uint32_t size;
        memcpy(&size, p + at, sizeof size);
        at += sizeof size;
        if (cw_inflate_last(&inflate, p + at, size, &used, out, sizeof out, &made) != CW_OK) {
            sum = 0;
            break;
        }
        at += size;
        sum += made;
    }
    cw_inflate_close(&inflate);
    return sum;
}
