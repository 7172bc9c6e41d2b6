from libc.stdint cimport int32_t, uint8_t

from .heap cimport cw_heap

cdef extern from "crosswire/inflate.h" nogil:
    ctypedef enum cw_inflate_form:
        CW_INFLATE_RAW
        CW_INFLATE_GZIP
        CW_INFLATE_ZLIB

    enum:
        CW_WINDOW_BITS_MIN
        CW_WINDOW_BITS_MAX

    ctypedef struct cw_inflate:
        void *stream
        const cw_heap *heap
        int32_t broken
        uint8_t form
        uint8_t keeps_context
        uint8_t is_bare
        uint8_t is_done
        uint8_t is_behind

    int cw_inflate_open(cw_inflate *self, const cw_heap *heap, cw_inflate_form form,
                        int window_bits, int keeps_context) noexcept
    int cw_inflate_feed(cw_inflate *self, const uint8_t *p, size_t n, size_t *used, uint8_t *out,
                        size_t room, size_t *made) noexcept
    int cw_inflate_last(cw_inflate *self, const uint8_t *p, size_t n, size_t *used, uint8_t *out,
                        size_t room, size_t *made) noexcept
    int cw_inflate_end(cw_inflate *self, uint8_t *out, size_t room, size_t *made) noexcept
    void cw_inflate_close(cw_inflate *self) noexcept
