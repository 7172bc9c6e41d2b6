/* zlib_heap.h — zlib's stream in memory of a cw_heap; shared by inflate.c and deflate.c. */
#ifndef CROSSWIRE_ZLIB_HEAP_H
#define CROSSWIRE_ZLIB_HEAP_H

#define ZLIB_CONST 1 /* next_in is a pointer to const */
#include <zlib.h>

#include "crosswire/heap.h"

/* How much of `n` bytes zlib is handed at a time; it counts in unsigned int. */
static inline uInt cw_zlib_step(size_t n, uInt most) { return n < most ? (uInt)n : most; }

static voidpf cw_zlib_take(voidpf opaque, uInt items, uInt size) {
    if (size && items > SIZE_MAX / size) return Z_NULL;
    return cw_heap_take(opaque, (size_t)items * size);
}

static void cw_zlib_give(voidpf opaque, voidpf block) { cw_heap_give(opaque, block); }

/* A z_stream ready for an Init function; NULL when there is no memory. It has a block of its own
 * because zlib keeps its address. */
static inline z_stream *cw_zlib_stream(const cw_heap *heap) {
    z_stream *z = cw_heap_take(heap, sizeof *z);
    if (!z) return NULL;
    memset(z, 0, sizeof *z);
    z->zalloc = cw_zlib_take;
    z->zfree = cw_zlib_give;
    z->opaque = (voidpf)heap; /* only read */
    return z;
}

#endif
