"""Records as numpy sees them: their dtypes, computed from the C structs, and C memory as arrays."""

import enum

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint8_t, uintptr_t
from libc.stdlib cimport calloc, free, realloc

from crosswire.kernels.heap cimport cw_heap
from crosswire.kernels.record cimport cw_quote, cw_trade
from crosswire.kernels.signal cimport (
    CW_CLOSE_BUY_MOVED, CW_CLOSE_GATE, CW_CLOSE_LIVENESS, CW_CLOSE_LOST, CW_CLOSE_NONE,
    CW_CLOSE_SELL_MOVED, CW_CLOSE_STALE, CW_SIGNAL_CLOSE, CW_SIGNAL_OPEN, CW_SIGNAL_UPDATE, cw_leg,
    cw_signal,
)

import numpy as np

__all__ = ["QUOTE_DTYPE", "SIGNAL_DTYPE", "TRADE_DTYPE", "CloseReason", "SignalEvent"]


cdef object _dtype(list fields, size_t size):
    """A dtype whose offsets are those of the C struct: (name, format, offset)."""
    return np.dtype({
        "names": [name for name, _, _ in fields],
        "formats": [form for _, form, _ in fields],
        "offsets": [offset for _, _, offset in fields],
        "itemsize": size,
    })


cdef object _quote_dtype():
    cdef cw_quote *z = NULL
    return _dtype([
        ("ts_exch", "<i8", <uintptr_t>&z.ts_exch), ("ts_rx", "<i8", <uintptr_t>&z.ts_rx),
        ("seq", "<u8", <uintptr_t>&z.seq), ("bid", "<f8", <uintptr_t>&z.bid),
        ("bid_qty", "<f8", <uintptr_t>&z.bid_qty), ("ask", "<f8", <uintptr_t>&z.ask),
        ("ask_qty", "<f8", <uintptr_t>&z.ask_qty),
        ("instrument", "<u4", <uintptr_t>&z.instrument),
        ("venue", "<u2", <uintptr_t>&z.venue), ("flags", "<u2", <uintptr_t>&z.flags),
    ], sizeof(cw_quote))


cdef object _trade_dtype():
    cdef cw_trade *z = NULL
    return _dtype([
        ("ts_exch", "<i8", <uintptr_t>&z.ts_exch), ("ts_rx", "<i8", <uintptr_t>&z.ts_rx),
        ("seq", "<u8", <uintptr_t>&z.seq), ("trade_id", "<u8", <uintptr_t>&z.trade_id),
        ("price", "<f8", <uintptr_t>&z.price), ("qty", "<f8", <uintptr_t>&z.qty),
        ("count", "<u4", <uintptr_t>&z.count), ("side", "i1", <uintptr_t>&z.side),
        ("kind", "u1", <uintptr_t>&z.kind), ("reserved", "<u2", <uintptr_t>&z.reserved),
        ("instrument", "<u4", <uintptr_t>&z.instrument),
        ("venue", "<u2", <uintptr_t>&z.venue), ("flags", "<u2", <uintptr_t>&z.flags),
    ], sizeof(cw_trade))


cdef object _leg_dtype():
    cdef cw_leg *z = NULL
    return _dtype([
        ("venue", "<u2", <uintptr_t>&z.venue), ("side", "i1", <uintptr_t>&z.side),
        ("fee_mode", "u1", <uintptr_t>&z.fee_mode),
        ("instrument", "<u4", <uintptr_t>&z.instrument), ("vwap", "<f8", <uintptr_t>&z.vwap),
        ("limit", "<f8", <uintptr_t>&z.limit), ("qty", "<f8", <uintptr_t>&z.qty),
        ("book_seq", "<u8", <uintptr_t>&z.book_seq), ("ts_exch", "<i8", <uintptr_t>&z.ts_exch),
        ("age_us", "<u4", <uintptr_t>&z.age_us), ("lag_us", "<u4", <uintptr_t>&z.lag_us),
        ("skew_us", "<i4", <uintptr_t>&z.skew_us),
        ("skew_err_us", "<u4", <uintptr_t>&z.skew_err_us),
    ], sizeof(cw_leg))


cdef object _signal_dtype():
    cdef cw_signal *z = NULL
    return _dtype([
        ("seq", "<u8", <uintptr_t>&z.seq), ("opp_id", "<u8", <uintptr_t>&z.opp_id),
        ("rule_id", "<u4", <uintptr_t>&z.rule_id), ("kind", "u1", <uintptr_t>&z.kind),
        ("event", "u1", <uintptr_t>&z.event), ("n_legs", "u1", <uintptr_t>&z.n_legs),
        ("close_reason", "u1", <uintptr_t>&z.close_reason),
        ("gates", "<u4", <uintptr_t>&z.gates), ("flags", "<u4", <uintptr_t>&z.flags),
        ("ts_exch", "<i8", <uintptr_t>&z.ts_exch), ("ts_rx", "<i8", <uintptr_t>&z.ts_rx),
        ("mono_rx", "<i8", <uintptr_t>&z.mono_rx),
        ("d_decode", "<u4", <uintptr_t>&z.d_decode), ("d_book", "<u4", <uintptr_t>&z.d_book),
        ("d_detect", "<u4", <uintptr_t>&z.d_detect),
        ("d_publish", "<u4", <uintptr_t>&z.d_publish),
        ("ts_open", "<i8", <uintptr_t>&z.ts_open), ("qty", "<f8", <uintptr_t>&z.qty),
        ("notional_ref", "<f8", <uintptr_t>&z.notional_ref),
        ("profit_ref", "<f8", <uintptr_t>&z.profit_ref),
        ("ev_ref", "<f8", <uintptr_t>&z.ev_ref),
        ("gross_bps", "<f4", <uintptr_t>&z.gross_bps), ("net_bps", "<f4", <uintptr_t>&z.net_bps),
        ("worst_bps", "<f4", <uintptr_t>&z.worst_bps),
        ("risk_bps", "<f4", <uintptr_t>&z.risk_bps),
        ("legs", (_leg_dtype(), 4), <uintptr_t>&z.legs),
    ], sizeof(cw_signal))


QUOTE_DTYPE = _quote_dtype()
TRADE_DTYPE = _trade_dtype()
SIGNAL_DTYPE = _signal_dtype()


class SignalEvent(enum.IntEnum):
    """``event`` of a signal."""

    OPEN = CW_SIGNAL_OPEN
    UPDATE = CW_SIGNAL_UPDATE
    CLOSE = CW_SIGNAL_CLOSE


class CloseReason(enum.IntEnum):
    """``close_reason`` of a signal."""

    NONE = CW_CLOSE_NONE
    """It is no CLOSE."""
    BUY_MOVED = CW_CLOSE_BUY_MOVED
    SELL_MOVED = CW_CLOSE_SELL_MOVED
    GATE = CW_CLOSE_GATE
    """A book stopped being valid."""
    LIVENESS = CW_CLOSE_LIVENESS
    """A venue fell silent."""
    LOST = CW_CLOSE_LOST
    """A connection ended."""
    STALE = CW_CLOSE_STALE
    """A book was not quoted within its deadline."""


# ------------------------------------------------------------------ memory


@cython.final
cdef class _Block:
    """Zeroed C memory on a cache line, read-only for Python; given back with its last user, be
    that an owner of C structs or an array. It knows no owner, so nothing can keep itself alive."""

    def __cinit__(self):
        self.start = NULL

    def __dealloc__(self):
        free(self.start)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 1, flags)


cdef _Block new_block(size_t size):
    cdef _Block block = _Block.__new__(_Block)
    block.start = calloc(1, size + 63)
    if block.start is NULL:
        raise MemoryError()
    block.data = <uint8_t *>((<uintptr_t>block.start + 63) & ~<uintptr_t>63)
    block.size = size
    return block


cdef object rows_of(_Block block, void *first, Py_ssize_t count, object dtype):
    return np.frombuffer(block, dtype, count, <uint8_t *>first - block.data)


cdef void *_resize(void *user, void *block, size_t size) noexcept nogil:
    if size:
        return realloc(block, size)
    free(block)
    return NULL


cdef cw_heap c_heap() noexcept:
    cdef cw_heap heap
    heap.resize = _resize
    heap.user = NULL
    return heap
