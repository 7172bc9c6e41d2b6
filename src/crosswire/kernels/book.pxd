from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "crosswire/book.h" nogil:
    ctypedef struct cw_top:
        double bid
        double bid_qty
        double ask
        double ask_qty
        uint64_t seq
        int64_t ts_exch
        int64_t ts_rx
        uint16_t venue
        uint8_t is_valid
        uint8_t is_live
        uint8_t is_stale
        uint64_t quotes
        uint64_t stale

    ctypedef struct cw_books:
        cw_top *tops
        uint32_t count
