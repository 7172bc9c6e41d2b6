from libc.stdint cimport uint64_t

cdef extern from "crosswire/histogram.h" nogil:
    ctypedef struct cw_histogram:
        uint64_t count
        uint64_t max

    void cw_histogram_clear(cw_histogram *self) noexcept
    void cw_histogram_record(cw_histogram *self, uint64_t value) noexcept
    uint64_t cw_histogram_quantile(const cw_histogram *self, double p) noexcept
