from libc.stdint cimport uint16_t, uint64_t

from crosswire.kernels.engine cimport cw_engine
from crosswire.kernels.histogram cimport cw_histogram

cdef extern from "crosswire/merge.h" nogil:
    ctypedef enum cw_merge_key:
        CW_MERGE_NONE
        CW_MERGE_SEQ
        CW_MERGE_TS_SEQ

    ctypedef struct cw_merged:
        uint64_t wins
        uint64_t duplicates
        uint64_t gaps_filled
        cw_histogram margin

    int cw_group_check(const cw_engine *self, uint16_t venue, uint16_t group) noexcept
