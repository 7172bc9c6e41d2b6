from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from crosswire.kernels.book cimport cw_books
from crosswire.kernels.cross cimport cw_crosses, cw_pair_terms
from crosswire.kernels.histogram cimport cw_histogram
from crosswire.kernels.layout cimport cw_layout
from crosswire.kernels.loss cimport cw_losses
from crosswire.kernels.ops cimport cw_ops
from crosswire.kernels.record cimport cw_record
from crosswire.kernels.ring cimport cw_ring
from crosswire.kernels.symbol cimport cw_symbols

cdef extern from "crosswire/engine.h" nogil:
    enum:
        CW_KINDS
        CW_STAGES

    ctypedef struct cw_limits:
        uint32_t instruments
        uint32_t pairs
        uint32_t lines
        uint32_t venues
        uint32_t signals

    ctypedef struct cw_venue:
        cw_symbols symbols

    ctypedef struct cw_pulse:
        uint16_t group
        uint8_t is_covering
        uint8_t is_open
        uint8_t place
        uint8_t is_live

    ctypedef struct cw_batch:
        cw_record *rows
        uint32_t count
        uint32_t capacity

    ctypedef struct cw_clock:
        int64_t (*now_ns)(void *user) noexcept

    ctypedef struct cw_engine:
        const cw_ops *ops
        cw_books books
        cw_crosses crosses
        cw_ring ring
        cw_venue *venues
        cw_pulse *pulses
        uint64_t *counts
        cw_batch quotes
        cw_batch trades
        cw_clock clock
        cw_losses losses
        uint8_t takes_unknown
        uint8_t latest_only
        uint64_t messages
        uint64_t errors[64]
        cw_histogram rx_to_signal
        cw_histogram stages[4]

    size_t cw_engine_size(const cw_limits *limits) noexcept
    cw_engine *cw_engine_init(void *memory, const cw_limits *limits, const cw_ops *ops) noexcept
    int cw_engine_add_venue(cw_engine *self, const cw_layout *layout, int64_t liveness_limit_ns,
                            double fee_bps, int seq_is_rising, uint16_t *id) noexcept
    void cw_engine_set_data_limit(cw_engine *self, uint16_t venue, int64_t data_limit_ns) noexcept
    void cw_engine_set_merge_key(cw_engine *self, uint16_t venue, int key) noexcept
    int cw_engine_add_instrument(cw_engine *self, uint16_t venue, const uint8_t *symbol,
                                 uint32_t symbol_len, double fee_bps, double multiplier,
                                 uint32_t *id) noexcept
    int cw_engine_set_pairs(cw_engine *self, const cw_pair_terms *pairs, uint32_t count) noexcept
    uint32_t cw_engine_advance(cw_engine *self, int64_t ts_now, int64_t mono_now) noexcept
