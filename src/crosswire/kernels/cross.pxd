from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "crosswire/cross.h" nogil:
    ctypedef struct cw_route:
        uint32_t buy
        uint32_t sell
        uint32_t rule_id
        uint8_t is_open
        uint64_t opp_id
        int64_t ts_open
        double last_net_bps
        double last_qty

    ctypedef struct cw_crosses:
        cw_route *routes
        uint32_t pair_count
        uint64_t opp_next
        uint64_t signal_next

    ctypedef struct cw_pair_terms:
        uint32_t a
        uint32_t b
        uint32_t rule_id
        double open_net_bps
        double close_net_bps
        double qty_max
