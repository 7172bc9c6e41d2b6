from libc.stdint cimport uint8_t

from .heap cimport cw_heap

cdef extern from "crosswire/deflate.h" nogil:
    enum:
        CW_DEFLATE_BITS_MIN
        CW_DEFLATE_BITS_MAX

    ctypedef struct cw_deflate:
        void *stream
        const cw_heap *heap
        uint8_t keeps_context

    int cw_deflate_open(cw_deflate *self, const cw_heap *heap, int window_bits, int keeps_context,
                        int level) noexcept
    size_t cw_deflate_bound(size_t n) noexcept
    int cw_deflate_message(cw_deflate *self, const uint8_t *p, size_t n, uint8_t *out, size_t room,
                           size_t *made) noexcept
    void cw_deflate_close(cw_deflate *self) noexcept
