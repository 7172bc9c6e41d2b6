from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "crosswire/signal.h" nogil:
    ctypedef enum cw_signal_event:
        CW_SIGNAL_OPEN
        CW_SIGNAL_UPDATE
        CW_SIGNAL_CLOSE

    ctypedef enum cw_close_reason:
        CW_CLOSE_NONE
        CW_CLOSE_BUY_MOVED
        CW_CLOSE_SELL_MOVED
        CW_CLOSE_GATE
        CW_CLOSE_LIVENESS
        CW_CLOSE_LOST
        CW_CLOSE_STALE

    ctypedef struct cw_leg:
        uint16_t venue
        int8_t side
        uint8_t fee_mode
        uint32_t instrument
        double vwap
        double limit
        double qty
        uint64_t book_seq
        int64_t ts_exch
        uint32_t age_us
        uint32_t lag_us
        int32_t skew_us
        uint32_t skew_err_us

    ctypedef struct cw_signal:
        uint64_t seq
        uint64_t opp_id
        uint32_t rule_id
        uint8_t kind
        uint8_t event
        uint8_t n_legs
        uint8_t close_reason
        uint32_t gates
        uint32_t flags
        int64_t ts_exch
        int64_t ts_rx
        int64_t mono_rx
        uint32_t d_decode
        uint32_t d_book
        uint32_t d_detect
        uint32_t d_publish
        int64_t ts_open
        double qty
        double notional_ref
        double profit_ref
        double ev_ref
        float gross_bps
        float net_bps
        float worst_bps
        float risk_bps
        cw_leg legs[4]
