from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "crosswire/record.h" nogil:
    ctypedef struct cw_quote:
        int64_t ts_exch
        int64_t ts_rx
        uint64_t seq
        double bid
        double bid_qty
        double ask
        double ask_qty
        uint32_t instrument
        uint16_t venue
        uint16_t flags

    ctypedef struct cw_trade:
        int64_t ts_exch
        int64_t ts_rx
        uint64_t seq
        uint64_t trade_id
        double price
        double qty
        uint32_t count
        int8_t side
        uint8_t kind
        uint16_t reserved
        uint32_t instrument
        uint16_t venue
        uint16_t flags

    ctypedef union cw_record:
        cw_quote quote
        cw_trade trade
