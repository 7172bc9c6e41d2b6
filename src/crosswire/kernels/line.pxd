from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from crosswire.kernels.base cimport cw_error
from crosswire.kernels.engine cimport cw_engine
from crosswire.kernels.merge cimport cw_merged
from crosswire.kernels.receiver cimport cw_receiver, cw_receiver_terms
from crosswire.kernels.scan cimport cw_scanner

cdef extern from "crosswire/line.h" nogil:
    enum:
        CW_FED_MORE
        CW_FED_SIGNALS
        CW_FED_CONTROL
        CW_FED_RECORDS
        CW_LINE_ERRORS

    ctypedef struct cw_inbox_entry:
        uint32_t len
        uint8_t opcode

    ctypedef struct cw_line_error:
        cw_error error
        uint64_t message
        uint32_t instrument

    ctypedef struct cw_line:
        cw_receiver receiver
        cw_scanner scanner
        uint32_t inbox_len
        uint16_t id
        uint8_t is_done
        uint64_t bytes
        uint64_t messages
        uint64_t error_count
        cw_line_error errors[16]

    ctypedef struct cw_line_memory:
        cw_receiver_terms receiver
        uint8_t *inbox
        uint32_t inbox_capacity

    int cw_line_init(cw_line *self, cw_engine *engine, uint16_t venue,
                     const cw_line_memory *memory) noexcept
    int cw_line_join(cw_line *self, uint16_t group, cw_merged *merged) noexcept
    void cw_line_close(cw_line *self) noexcept
    void cw_line_open(cw_line *self, int64_t ts_now, int64_t mono_now) noexcept
    void cw_line_cover(cw_line *self, int64_t ts_now, int64_t mono_now) noexcept
    uint32_t cw_line_lose(cw_line *self, int64_t ts_now, int64_t mono_now) noexcept
    uint8_t *cw_line_tail(cw_line *self, uint32_t *free_size) noexcept
    uint32_t cw_line_feed(cw_line *self, uint32_t n, int64_t ts_rx, int64_t mono_rx) noexcept
