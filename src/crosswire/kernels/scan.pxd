from libc.stdint cimport uint64_t

cdef extern from "crosswire/scan.h" nogil:
    ctypedef struct cw_scanner:
        uint64_t hits
        uint64_t misses
