from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "crosswire/book.h" nogil:
    enum:
        CW_NO_LINE

    ctypedef struct cw_top:
        double bid
        double bid_qty
        double ask
        double ask_qty
        uint64_t seq
        int64_t ts_exch
        int64_t ts_rx
        int64_t mono_rx
        double cost_factor
        double yield_factor
        double multiplier
        uint32_t epoch
        uint16_t line
        uint16_t venue
        uint32_t flags
        uint8_t is_valid
        uint8_t is_live
        uint64_t quotes
        uint64_t stale

    ctypedef struct cw_books:
        cw_top *tops
        double *net_ask
        double *net_bid
        uint32_t capacity
        uint32_t count
