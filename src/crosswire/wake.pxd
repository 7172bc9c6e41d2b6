"""What compiled readers need of a wake-up: the system's clocks, and where stamps are counted."""

from libc.stdint cimport int64_t
from posix.types cimport clockid_t

from crosswire.kernels.histogram cimport cw_histogram

cdef int64_t clock_ns(clockid_t clock) noexcept nogil


cdef class KernelDelay:
    cdef cw_histogram c

    cdef void note(self, int64_t stamp_ns) noexcept nogil
