from libc.stdint cimport uint32_t, uint64_t

from crosswire.kernels.signal cimport cw_signal

cdef extern from "crosswire/ring.h" nogil:
    ctypedef struct cw_ring:
        cw_signal *slots
        uint64_t refused

    const cw_signal *cw_ring_peek(const cw_ring *self, uint32_t *count) noexcept
    void cw_ring_release(cw_ring *self, uint32_t count) noexcept
