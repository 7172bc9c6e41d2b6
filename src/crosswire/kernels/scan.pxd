from libc.stdint cimport uint8_t, uint64_t

cdef extern from "crosswire/scan.h" nogil:
    ctypedef struct cw_scanner:
        uint8_t predicts
        uint64_t hits
        uint64_t misses
