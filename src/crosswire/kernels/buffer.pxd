from libc.stdint cimport uint8_t, uint32_t

cdef extern from "crosswire/buffer.h" nogil:
    enum:
        CW_GUARD_BEFORE
        CW_GUARD_AFTER

    ctypedef struct cw_buffer:
        uint8_t *data
        uint32_t received

    size_t cw_buffer_size(uint32_t capacity) noexcept
