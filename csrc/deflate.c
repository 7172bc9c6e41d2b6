/* deflate.c — zlib's deflate, one whole message a call. */
#include "crosswire/deflate.h"

#include <assert.h>

#include "zlib_heap.h"

enum {
    MEMORY_LEVEL = 8, /* zlib's own choice; the bound holds for all nine */
    STEP = 1 << 30,
    TAIL_SIZE = 4 /* 00 00 FF FF, which stands at the end of every sync flush */
};

int cw_deflate_open(cw_deflate *self, const cw_heap *heap, int window_bits, int keeps_context,
                    int level) {
    z_stream *z;
    memset(self, 0, sizeof *self);
    if (window_bits < CW_DEFLATE_BITS_MIN || window_bits > CW_DEFLATE_BITS_MAX || level < -1 ||
        level > 9)
        return CW_FULL;
    z = cw_zlib_stream(heap);
    if (!z) return CW_E_MEMORY;
    if (deflateInit2(z, level, Z_DEFLATED, -window_bits, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        cw_heap_give(heap, z);
        return CW_E_MEMORY;
    }
    self->stream = z;
    self->heap = heap;
    self->keeps_context = keeps_context != 0;
    return CW_OK;
}

void cw_deflate_close(cw_deflate *self) {
    if (!self->stream) return;
    (void)deflateEnd(self->stream);
    cw_heap_give(self->heap, self->stream);
    memset(self, 0, sizeof *self);
}

/* No literal takes more than 9 bits (n / 8). A block adds 10 bits when its codes are the fixed ones
 * and 5 bytes when it is stored; it holds no fewer than 127 literals at the lowest memory level
 * (n / 64). The rest is a block that has just begun, the flush, and what zlib must have left over
 * to know that it is done. */
size_t cw_deflate_bound(size_t n) {
    size_t more = n / 8 + n / 64 + 32;
    return n > SIZE_MAX - more ? SIZE_MAX : n + more;
}

int cw_deflate_message(cw_deflate *self, const uint8_t *p, size_t n, uint8_t *out, size_t room,
                       size_t *made) {
    z_stream *z = self->stream;
    size_t used = 0;
    *made = 0;
    if (!z || room < cw_deflate_bound(n)) return CW_FULL;
    if (n == 0) {
        out[(*made)++] = 0x00;
        return CW_OK;
    }
    do { /* once, for less than a GiB */
        uInt given = cw_zlib_step(n - used, STEP), lent = cw_zlib_step(room - *made, STEP);
        z->next_in = p + used;
        z->avail_in = given;
        z->next_out = out + *made;
        z->avail_out = lent;
        (void)deflate(z, used + given < n ? Z_NO_FLUSH : Z_SYNC_FLUSH);
        used += given - z->avail_in;
        *made += lent - z->avail_out;
    } while ((used < n || z->avail_out == 0) && *made < room);
    assert(used == n && *made > TAIL_SIZE && *made < room);
    *made -= TAIL_SIZE;
    if (!self->keeps_context) (void)deflateReset(z);
    return CW_OK;
}
