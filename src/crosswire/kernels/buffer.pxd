from libc.stdint cimport uint32_t

cdef extern from "crosswire/buffer.h" nogil:
    enum:
        CW_GUARD_BEFORE
        CW_GUARD_AFTER

    ctypedef struct cw_buffer:
        uint32_t received

    size_t cw_buffer_size(uint32_t capacity) noexcept
