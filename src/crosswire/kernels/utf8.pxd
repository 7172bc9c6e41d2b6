from libc.stdint cimport uint8_t

cdef extern from "crosswire/utf8.h" nogil:
    ctypedef struct cw_utf8:
        uint8_t need

    int cw_utf8_feed(cw_utf8 *self, const uint8_t *p, size_t n, size_t *at) noexcept
    int cw_utf8_is_whole(const cw_utf8 *self) noexcept
