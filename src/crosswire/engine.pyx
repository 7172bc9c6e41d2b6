"""The data plane: Engine and Line, thin owners of the C structs, and the record dtypes.

Bytes are fed to a Line; records go to the tops and the routes of its Engine; signals stand in the
ring and are handed to one callback as a numpy view. Nothing here allocates per message.

Thread rule: an Engine and its Lines belong to one thread. The GIL is held while feeding: a read is
parsed in microseconds, and releasing it would cost more than it gives.
"""

import logging
import os

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.stdlib cimport posix_memalign
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from crosswire.kernels.base cimport (
    CW_E_COUNT, CW_E_FIRST, CW_E_MESSAGE_UNKNOWN, CW_OK, cw_code_name, cw_code_text,
)
from crosswire.kernels.book cimport cw_top
from crosswire.kernels.buffer cimport CW_GUARD_AFTER, CW_GUARD_BEFORE, cw_buffer_size
from crosswire.kernels.cross cimport cw_pair_terms, cw_route
from crosswire.kernels.engine cimport (
    CW_KINDS, CW_STAGES, cw_batch, cw_engine, cw_engine_add_instrument, cw_engine_add_venue,
    cw_engine_advance, cw_engine_init, cw_engine_set_pairs, cw_engine_size, cw_limits,
)
from crosswire.kernels.frame cimport CW_CLIENT, CW_SERVER, cw_close_code_for
from crosswire.kernels.histogram cimport cw_histogram, cw_histogram_quantile
from crosswire.kernels.layout cimport cw_layout, cw_layout_is_valid
from crosswire.kernels.line cimport (
    CW_FED_CONTROL, CW_FED_MORE, CW_FED_RECORDS, CW_FED_SIGNALS, CW_LINE_ERRORS,
    cw_inbox_entry, cw_line, cw_line_error, cw_line_feed, cw_line_init, cw_line_lose,
    cw_line_memory, cw_line_open, cw_line_tail,
)
from crosswire.kernels.ops cimport CW_LEVEL_AVX2, CW_LEVEL_AVX512, CW_LEVEL_BASE, cw_level, \
    cw_level_best, cw_ops_for
from crosswire.kernels.record cimport cw_quote, cw_record, cw_trade
from crosswire.kernels.ring cimport cw_ring_peek, cw_ring_release
from crosswire.kernels.signal cimport cw_leg, cw_signal
from crosswire.kernels.symbol cimport cw_symbol, cw_symbols

import numpy as np

from .errors import UsageError, VenueError
from .layout import compile_layout

__all__ = [
    "Engine", "Line", "MessageError", "Pair", "QUOTE_DTYPE", "SIGNAL_DTYPE", "TRADE_DTYPE", "Top",
    "isa_levels",
]

_log = logging.getLogger("crosswire")
_log.addHandler(logging.NullHandler())

# ------------------------------------------------------------------ dtypes, from the C structs


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

# ------------------------------------------------------------------ small helpers

_ISA = {"base": CW_LEVEL_BASE, "avx2": CW_LEVEL_AVX2, "avx512": CW_LEVEL_AVX512}


def isa_levels():
    """Return the instruction-set levels that this processor has, lowest first."""
    return tuple(name for name, level in _ISA.items() if level <= cw_level_best())


cdef cw_level _level_of(object isa) except *:
    if isa is None:
        isa = os.environ.get("CROSSWIRE_ISA") or "avx512"
    if isa not in _ISA:
        raise UsageError(f"CROSSWIRE_ISA is {isa!r}; it may be {', '.join(_ISA)}")
    return _ISA[isa]


cdef str _name_of(int code):
    return cw_code_name(code).decode()


cdef int64_t _monotonic(void *user) noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


@cython.final
cdef class _Memory:
    """A window of C memory as a read-only buffer; keeps its owner alive."""

    cdef object owner
    cdef void *data
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 1, flags)


cdef object _array_over(object owner, void *data, Py_ssize_t size, object dtype):
    cdef _Memory memory = _Memory.__new__(_Memory)
    memory.owner = owner
    memory.data = data
    memory.size = size
    return np.frombuffer(memory, dtype=dtype)


class Pair:
    """Two instruments to be watched for crosses in both directions.

    Args:
        rule_id: number that signals carry, unique among the pairs.
        a: instrument id.
        b: instrument id.
        open_net_bps: a route opens at this net edge or above.
        close_net_bps: an open route closes at this net edge or below, but never while it is at
            ``open_net_bps`` or above.
        qty_max: largest size of a signal, in base units.
    """

    __slots__ = ("a", "b", "close_net_bps", "open_net_bps", "qty_max", "rule_id")

    def __init__(self, rule_id, a, b, open_net_bps=0.0, close_net_bps=None, qty_max=float("inf")):
        self.rule_id = rule_id
        self.a = a
        self.b = b
        self.open_net_bps = open_net_bps
        self.close_net_bps = open_net_bps if close_net_bps is None else close_net_bps
        self.qty_max = qty_max

    def __repr__(self):
        return (f"Pair(rule_id={self.rule_id}, a={self.a}, b={self.b}, "
                f"open_net_bps={self.open_net_bps}, close_net_bps={self.close_net_bps})")


class Top:
    """A copy of one instrument's top of book, with what makes it readable.

    Attributes:
        bid, bid_qty, ask, ask_qty: prices and sizes, 0.0 for an empty side.
        seq: the venue's number of the quote.
        ts_exch, ts_rx: UTC ns, 0 = unknown.
        is_valid: quoted since its connection was opened, two-sided, neither crossed nor locked.
        is_live: its connection is not silent.
        quotes, stale: quotes applied, and quotes refused because ``seq`` did not rise.
    """

    __slots__ = ("ask", "ask_qty", "bid", "bid_qty", "is_live", "is_valid", "quotes", "seq",
                 "stale", "ts_exch", "ts_rx")

    def __init__(self, **fields):
        for name, value in fields.items():
            setattr(self, name, value)

    def __repr__(self):
        return "Top(" + ", ".join(f"{n}={getattr(self, n)!r}" for n in self.__slots__) + ")"


class MessageError(VenueError):
    """A message that was lost to an error.

    Attributes:
        code: the error's name.
        at: byte offset in the message.
        message: ordinal of the message on its line, from 0.
        instrument: id, or ``None`` where it cannot be told.
    """

    def __init__(self, code, at, message, instrument, text):
        super().__init__(code, at, text)
        self.message = message
        self.instrument = instrument


# ------------------------------------------------------------------ Engine


@cython.final
cdef class Engine:
    """Instruments, tops of book, routes and the ring of signals.

    Args:
        instruments_max, pairs_max, lines_max, venues_max: bounds; memory is taken once.
        signals_max: slots of the ring, a power of two, at least four times the pairs.
        rows_max: rows of the batches handed to ``on_quotes`` and ``on_trades``.
        isa: instruction-set level; ``None`` reads ``CROSSWIRE_ISA`` or takes the best.
        takes_unknown: symbols that were not added become instruments (replay, decode).
        latest_only: hand signals over once per read instead of as soon as they stand.
        is_timed: measure the time from read to signal.

    Attributes:
        on_signals: called with an array of SIGNAL_DTYPE, shape (n,), valid during the call.
        on_quotes: called with an array of QUOTE_DTYPE, shape (n,), valid during the call.
        on_trades: called with an array of TRADE_DTYPE, shape (n,), valid during the call.

    A callback that raises is logged and counted in ``callback_errors``; nothing else is lost.
    Calling back into the engine from a callback raises UsageError.
    """

    cdef cw_engine *c
    cdef void *memory
    cdef list layouts
    cdef list venue_names
    cdef dict venue_ids
    cdef list kinds
    cdef list symbols
    cdef list lines
    cdef object ring_rows
    cdef object quote_rows, trade_rows
    cdef object _on_signals, _on_quotes, _on_trades
    cdef bint is_feeding
    cdef uint32_t rows_max
    cdef readonly uint64_t callback_errors
    cdef object __weakref__

    def __cinit__(self):
        self.c = NULL
        self.memory = NULL
        self.layouts = []

    def __init__(self, *, instruments_max=4096, pairs_max=16384, lines_max=64, venues_max=32,
                 signals_max=65536, rows_max=4096, isa=None, takes_unknown=False,
                 latest_only=False, is_timed=False):
        cdef cw_limits limits
        cdef size_t size
        if self.c is not NULL:
            raise UsageError("an engine is built once")
        limits.instruments = instruments_max
        limits.pairs = pairs_max
        limits.lines = lines_max
        limits.venues = venues_max
        limits.signals = signals_max
        size = cw_engine_size(&limits)
        if size == 0:
            raise UsageError(
                "engine limits out of range: instruments 1..2^20, pairs up to 2^22, lines "
                "1..65534, venues 1..256, signals a power of two up to 2^24")
        if posix_memalign(&self.memory, 64, size) != 0:
            raise MemoryError()
        memset(self.memory, 0, size)
        self.c = cw_engine_init(self.memory, &limits, cw_ops_for(_level_of(isa)))
        self.c.takes_unknown = bool(takes_unknown)
        self.c.latest_only = bool(latest_only)
        if is_timed:
            self.c.clock.now_ns = _monotonic
        self.rows_max = rows_max
        self.venue_names = []
        self.venue_ids = {}
        self.kinds = []
        self.symbols = []
        self.lines = []
        self.ring_rows = _array_over(
            self, self.c.ring.slots, <Py_ssize_t>signals_max * sizeof(cw_signal), SIGNAL_DTYPE)

    def __dealloc__(self):
        cdef uintptr_t layout
        for layout in self.layouts:
            free(<void *>layout)
        free(self.memory)

    # ---- directory

    def add_venue(self, str name, layout, *, double fee_bps=0.0, double liveness_limit_s=5.0):
        """Add a venue and return its id.

        Args:
            name: the venue's name.
            layout: its :class:`~crosswire.venue.Layout`.
            fee_bps: taker fee of instruments that are found on the way.
            liveness_limit_s: a connection silent for longer is not alive.

        Raises:
            UsageError: the name is taken, there is no room, or the layout is too large.
        """
        cdef uint16_t venue_id
        if name in self.venue_ids:
            raise UsageError(f"venue {name!r} was added before")
        if not liveness_limit_s > 0:
            raise UsageError(f"liveness_limit_s of {name!r} must be above 0")
        compiled = compile_layout(layout)
        cdef cw_layout *table = _build_layout(compiled)
        self.layouts.append(<uintptr_t>table)
        limit = min(liveness_limit_s * 1e9, 2.0 ** 62)
        if cw_engine_add_venue(self.c, table, <int64_t>limit, fee_bps, layout.seq_is_rising,
                               &venue_id) != CW_OK:
            raise UsageError(f"no room for venue {name!r}")
        self.venue_names.append(name)
        self.venue_ids[name] = venue_id
        self.kinds.append(compiled.kinds)
        return venue_id

    def add_instrument(self, str venue, str symbol, *, double fee_bps, double multiplier=1.0):
        """Add an instrument and return its id.

        Args:
            venue: name of a venue that was added.
            symbol: the venue's own spelling, 1 to 32 bytes.
            fee_bps: taker fee in basis points, within (-1000, 1000).
            multiplier: base units per unit of size.

        Raises:
            UsageError: the venue is unknown, the terms are impossible, or there is no room.
        """
        cdef bytes text = symbol.encode()
        cdef uint32_t instrument
        if venue not in self.venue_ids:
            raise UsageError(f"venue {venue!r} was not added")
        if not -1000.0 < fee_bps < 1000.0 or not 0.0 < multiplier < 1e12:
            raise UsageError(f"{venue} {symbol}: impossible fee_bps {fee_bps} or "
                             f"multiplier {multiplier}")
        code = cw_engine_add_instrument(self.c, self.venue_ids[venue], text,
                                        <uint32_t>len(text), fee_bps, multiplier, &instrument)
        if code != CW_OK:
            raise UsageError(f"{venue} {symbol!r} cannot be added: {_name_of(code)}")
        return instrument

    def set_pairs(self, pairs):
        """Declare all pairs at once, replacing those before. No route may be open.

        Args:
            pairs: sequence of :class:`Pair`.

        Raises:
            UsageError: an instrument is unknown, a threshold is impossible, or there are too many.
        """
        cdef Py_ssize_t i, n = len(pairs)
        cdef cw_pair_terms *terms = <cw_pair_terms *>calloc(max(n, 1), sizeof(cw_pair_terms))
        if terms is NULL:
            raise MemoryError()
        try:
            for i in range(n):
                pair = pairs[i]
                if not (-5000.0 < pair.close_net_bps <= pair.open_net_bps < 1e6
                        and pair.qty_max > 0):
                    raise UsageError(f"impossible thresholds: {pair!r}")
                terms[i].a = pair.a
                terms[i].b = pair.b
                terms[i].rule_id = pair.rule_id
                terms[i].open_net_bps = pair.open_net_bps
                terms[i].close_net_bps = pair.close_net_bps
                terms[i].qty_max = pair.qty_max
            for i in range(2 * self.c.crosses.pair_count):
                if self.c.crosses.routes[i].is_open:
                    raise UsageError("pairs cannot be changed while a route is open")
            if cw_engine_set_pairs(self.c, terms, <uint32_t>n) != CW_OK:
                raise UsageError(f"{n} pairs: too many, or one names an unknown instrument")
        finally:
            free(terms)

    def line(self, str venue, *, bint is_server=False, uint32_t read_size=16384,
             uint32_t message_max=8 << 20, uint32_t fragments_max=65536):
        """Return a new :class:`Line` of a venue.

        Args:
            venue: name of a venue that was added.
            is_server: read masked frames, as a server does.
            read_size: bytes that one read may bring, 64 to 2^24.
            message_max: largest message in bytes; a larger one fails the connection.
            fragments_max: most fragments of one message.

        Raises:
            UsageError: the venue is unknown or there is no room for another line.
        """
        if venue not in self.venue_ids:
            raise UsageError(f"venue {venue!r} was not added")
        if not 64 <= read_size <= 1 << 24 or message_max > 1 << 30:
            raise UsageError("read_size must be 64..2^24 and message_max at most 2^30")
        cdef Line line = Line.__new__(Line)
        line._build(self, self.venue_ids[venue], is_server, read_size, message_max, fragments_max)
        self.lines.append(line)
        return line

    # ---- time

    def advance(self, int64_t ts_now, int64_t mono_now):
        """Let time pass to this stamp (UTC ns, monotonic ns): silent lines are found, what was
        open on them is closed, and the signals are handed over."""
        self._begin()
        try:
            cw_engine_advance(self.c, ts_now, mono_now)
            self._give_signals()
        finally:
            self.is_feeding = False

    # ---- consumers

    @property
    def on_signals(self):
        return self._on_signals

    @on_signals.setter
    def on_signals(self, callback):
        self._on_signals = callback

    @property
    def on_quotes(self):
        return self._on_quotes

    @on_quotes.setter
    def on_quotes(self, callback):
        self._on_quotes = callback
        self.quote_rows = self._set_batch(&self.c.quotes, callback, QUOTE_DTYPE)

    @property
    def on_trades(self):
        return self._on_trades

    @on_trades.setter
    def on_trades(self, callback):
        self._on_trades = callback
        self.trade_rows = self._set_batch(&self.c.trades, callback, TRADE_DTYPE)

    cdef object _set_batch(self, cw_batch *batch, object callback, object dtype):
        if self.is_feeding:
            raise UsageError("consumers cannot be changed from inside a callback")
        batch.count = batch.capacity = 0
        batch.rows = NULL
        if callback is None:
            return None
        # one line more than needed, so that the rows can begin on a cache line
        block = np.zeros(self.rows_max + 1, dtype=dtype)
        cdef uintptr_t start = block.ctypes.data
        cdef uintptr_t aligned = (start + 63) & ~<uintptr_t>63
        rows = block.view("u1")[aligned - start:][: self.rows_max * 64].view(dtype)
        batch.rows = <cw_record *>aligned
        batch.capacity = self.rows_max
        return rows

    cdef int _begin(self) except -1:
        if self.is_feeding:
            raise UsageError("the engine was called from inside one of its callbacks")
        self.is_feeding = True
        return 0

    cdef int _call(self, object callback, object rows) except -1:
        try:
            callback(rows)
        except Exception:
            self.callback_errors += 1
            if self.callback_errors <= 10:
                _log.exception("a callback raised; error %d", self.callback_errors)
        return 0

    cdef int _give_signals(self) except -1:
        cdef uint32_t count
        cdef Py_ssize_t first
        while True:
            slot = cw_ring_peek(&self.c.ring, &count)
            if count == 0:
                return 0
            first = slot - self.c.ring.slots
            if self._on_signals is not None:
                self._call(self._on_signals, self.ring_rows[first:first + count])
            cw_ring_release(&self.c.ring, count)

    cdef int _give_rows(self) except -1:
        cdef uint32_t n = self.c.quotes.count
        if n:
            self._call(self._on_quotes, self.quote_rows[:n])
            self.c.quotes.count = 0
        n = self.c.trades.count
        if n:
            self._call(self._on_trades, self.trade_rows[:n])
            self.c.trades.count = 0
        return 0

    # ---- what there is

    @property
    def isa(self):
        """The instruction-set level in use."""
        return self.c.ops.name.decode()

    @property
    def instrument_count(self):
        return self.c.books.count

    @property
    def instruments(self):
        """The directory: a list of (venue name, venue's symbol), the index being the id."""
        cdef cw_symbols *table
        cdef cw_symbol *slot
        cdef uint32_t i
        cdef Py_ssize_t venue_id
        found = [None] * self.c.books.count
        for venue_id, name in enumerate(self.venue_names):
            table = &self.c.venues[venue_id].symbols
            for i in range(table.capacity):
                slot = &table.slots[i]
                if slot.len and slot.instrument < self.c.books.count:
                    text = PyBytes_FromStringAndSize(<char *>slot.text, slot.len)
                    found[slot.instrument] = (name, text.decode("utf-8", "replace"))
        return found

    def top(self, uint32_t instrument):
        """Return a copy of an instrument's :class:`Top`.

        Raises:
            UsageError: there is no such instrument.
        """
        if instrument >= self.c.books.count:
            raise UsageError(f"no instrument {instrument}")
        cdef cw_top *t = &self.c.books.tops[instrument]
        return Top(bid=t.bid, bid_qty=t.bid_qty, ask=t.ask, ask_qty=t.ask_qty, seq=t.seq,
                   ts_exch=t.ts_exch, ts_rx=t.ts_rx, is_valid=bool(t.is_valid),
                   is_live=bool(t.is_live), quotes=t.quotes, stale=t.stale)

    def counts(self, uint32_t instrument):
        """Return messages received per kind for an instrument, kinds that came only.

        Raises:
            UsageError: there is no such instrument.
        """
        if instrument >= self.c.books.count:
            raise UsageError(f"no instrument {instrument}")
        cdef uint64_t *row = self.c.counts + <size_t>instrument * CW_KINDS
        kinds = self.kinds[self.c.books.tops[instrument].venue]
        return {kind: row[i] for i, kind in enumerate(kinds) if row[i]}

    @property
    def errors(self):
        """Errors by name, those that happened only."""
        return {_name_of(CW_E_FIRST + i): self.c.errors[i]
                for i in range(CW_E_COUNT) if self.c.errors[i]}

    @property
    def message_count(self):
        """Messages received, good and bad."""
        return self.c.messages

    @property
    def signal_count(self):
        """Signals written."""
        return self.c.crosses.signal_next

    @property
    def open_count(self):
        """Opportunities opened since the start."""
        return self.c.crosses.opp_next

    @property
    def signals_refused(self):
        """Signals for which the ring had no room; always 0, because feeding stops before."""
        return self.c.ring.refused

    def rx_to_signal_ns(self):
        """Return ``{"count", "p50", "p99", "p99_9", "max"}`` of ns from read to signal."""
        return _quantiles(&self.c.rx_to_signal)

    def stages_ns(self):
        """Return the same per stage of the sampled reads: frame, decode, book, detect."""
        names = ("frame", "decode", "book", "detect")
        return {names[i]: _quantiles(&self.c.stages[i]) for i in range(CW_STAGES)}

    def open_opportunities(self):
        """Return what is open now: dicts of opp_id, rule_id, buy, sell, ts_open, net_bps, qty."""
        cdef cw_route *r
        found = []
        for i in range(2 * self.c.crosses.pair_count):
            r = &self.c.crosses.routes[i]
            if r.is_open:
                found.append({"opp_id": r.opp_id, "rule_id": r.rule_id, "buy": r.buy,
                              "sell": r.sell, "ts_open": r.ts_open, "net_bps": r.last_net_bps,
                              "qty": r.last_qty})
        return found


cdef dict _quantiles(const cw_histogram *h):
    return {"count": h.count, "p50": cw_histogram_quantile(h, 0.5),
            "p99": cw_histogram_quantile(h, 0.99), "p99_9": cw_histogram_quantile(h, 0.999),
            "max": h.max}


cdef cw_layout *_build_layout(object compiled) except NULL:
    """Copy the compiled tables into a C table; raises UsageError when they do not fit."""
    if len(compiled.nodes) > 96 or len(compiled.messages) > 16 or len(compiled.kinds) > CW_KINDS:
        raise UsageError("layout too large: at most 96 nodes, 16 messages, 8 kinds")
    names = [node.key for node in compiled.nodes] + [m.tag for m in compiled.messages]
    longest = max(map(len, names), default=0)
    if longest > 24 or len(compiled.word) > 16:
        raise UsageError("layout: a key or tag is longer than 24 bytes, or the word than 16")
    cdef cw_layout *table = <cw_layout *>calloc(1, sizeof(cw_layout))
    if table is NULL:
        raise MemoryError()
    cdef Py_ssize_t i, k
    table.node_count = len(compiled.nodes)
    table.message_count = len(compiled.messages)
    table.each_node = compiled.each_node
    table.word_len = len(compiled.word)
    for k in range(len(compiled.word)):
        table.word[k] = compiled.word[k]
    for i in range(len(compiled.nodes)):
        node = compiled.nodes[i]
        for k in range(len(node.key)):
            table.nodes[i].key[k] = node.key[k]
        table.nodes[i].key_len = len(node.key)
        table.nodes[i].index = node.index
        table.nodes[i].child_first = node.child_first
        table.nodes[i].child_count = node.child_count
        table.nodes[i].slot = node.slot
    for i in range(len(compiled.messages)):
        message = compiled.messages[i]
        for k in range(len(message.tag)):
            table.messages[i].tag[k] = message.tag[k]
        table.messages[i].tag_len = len(message.tag)
        table.messages[i].record = message.record
        table.messages[i].kind = message.kind
        table.messages[i].required = message.required
        table.messages[i].any_of = message.any_of
        table.messages[i].used = message.used
        for k in range(18):
            table.messages[i].text[k] = message.text[k]
    if not cw_layout_is_valid(table):
        free(table)
        raise UsageError("layout: every message requires a symbol, and only known slots")
    return table


# ------------------------------------------------------------------ Line


@cython.final
cdef class Line:
    """One connection's receive buffer, frame state and layout prediction.

    Made by :meth:`Engine.line`. The receive engine writes into :meth:`window` and then calls
    :meth:`received`; :meth:`feed` does both for bytes that one has.

    Attributes:
        on_control: called with (opcode, bytes) for every control frame and every message that is
            no data, in the order of arrival.
        recorder: called with (bytes, ts_rx, mono_rx) for every read, before it is parsed.
    """

    cdef cw_line *c
    cdef readonly Engine engine
    cdef void *rx_memory
    cdef uint8_t *inbox
    cdef uint8_t *assembly
    cdef uint32_t read_size
    cdef Py_ssize_t window_size
    cdef uint8_t *window_at
    cdef object front_window
    cdef public object on_control
    cdef public object recorder
    cdef uint64_t errors_read

    def __cinit__(self):
        self.c = NULL
        self.rx_memory = NULL
        self.inbox = NULL
        self.assembly = NULL

    def __init__(self):
        raise UsageError("a line is made by Engine.line()")

    cdef int _build(self, Engine engine, uint16_t venue, bint is_server, uint32_t read_size,
                    uint32_t message_max, uint32_t fragments_max) except -1:
        cdef cw_line_memory memory
        cdef uint32_t capacity = 4 * read_size if read_size >= 1024 else 4096
        cdef void *block
        self.engine = engine
        self.read_size = read_size
        self.rx_memory = calloc(1, cw_buffer_size(capacity))
        self.inbox = <uint8_t *>calloc(1, 1 << 16)
        self.assembly = <uint8_t *>calloc(1, <size_t>CW_GUARD_BEFORE + message_max + CW_GUARD_AFTER)
        if posix_memalign(&block, 64, sizeof(cw_line)) == 0:
            self.c = <cw_line *>block
        if self.rx_memory is NULL or self.inbox is NULL or self.assembly is NULL or self.c is NULL:
            raise MemoryError()
        memory.rx = self.rx_memory
        memory.rx_capacity = capacity
        memory.inbox = self.inbox
        memory.inbox_capacity = 1 << 16
        memory.assembly = self.assembly
        memory.message_max = message_max
        memory.fragments_max = fragments_max
        if cw_line_init(self.c, engine.c, venue, CW_SERVER if is_server else CW_CLIENT,
                        &memory) != CW_OK:
            raise UsageError("no room for another line; see Engine(lines_max=)")
        return 0

    def __dealloc__(self):
        free(self.c)
        free(self.rx_memory)
        free(self.inbox)
        free(self.assembly)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.window_at, self.window_size, 0, flags)

    # ---- life

    def open(self, int64_t ts_now, int64_t mono_now):
        """Say that the connection is open: stream state starts afresh, counters go on."""
        self.engine._begin()
        try:
            cw_line_open(self.c, ts_now, mono_now)
            self.engine._give_signals()
        finally:
            self.engine.is_feeding = False

    def lose(self, int64_t ts_now, int64_t mono_now):
        """Say that the connection ended: its tops are no longer readable, what was open on it is
        closed, and the signals are handed over."""
        self.engine._begin()
        try:
            cw_line_lose(self.c, ts_now, mono_now)
            self.engine._give_signals()
        finally:
            self.engine.is_feeding = False

    # ---- bytes

    cpdef object window(self):
        """Return a writable memoryview of where the next bytes go, valid until the next call."""
        cdef uint32_t size
        self.window_at = cw_line_tail(self.c, &size)
        self.window_size = size if size < self.read_size else self.read_size
        if self.c.rx.received == 0:  # nothing is waiting: the view is always the same
            if self.front_window is None:
                self.front_window = PyMemoryView_FromObject(self)
            return self.front_window
        return PyMemoryView_FromObject(self)

    cpdef int received(self, uint32_t n, int64_t ts_rx, int64_t mono_rx) except -1:
        """Parse the ``n`` bytes that were written into the window, all with one stamp.

        Returns:
            0, or 1 when the connection is to be closed: see :attr:`error` and :attr:`is_closed`.

        Raises:
            UsageError: more bytes than the window has, or called from inside a callback.
        """
        cdef uint32_t fed
        if n > self.window_size:
            raise UsageError(f"{n} bytes received into a window of {self.window_size}")
        self.window_size = 0
        if self.recorder is not None:
            self.recorder(PyBytes_FromStringAndSize(<char *>self.window_at, n), ts_rx, mono_rx)
        self.engine._begin()
        try:
            fed = cw_line_feed(self.c, n, ts_rx, mono_rx)
            while True:
                if fed & CW_FED_SIGNALS:
                    self.engine._give_signals()
                if fed & CW_FED_RECORDS or not fed & CW_FED_MORE:
                    self.engine._give_rows()
                if fed & CW_FED_CONTROL:
                    self._give_control()
                if not fed & CW_FED_MORE:
                    break
                fed = cw_line_feed(self.c, 0, ts_rx, mono_rx)
        finally:
            self.engine.is_feeding = False
        return self.c.is_done

    def feed(self, data, int64_t ts_rx, int64_t mono_rx):
        """Copy bytes in and parse them, all with one stamp.

        Args:
            data: bytes-like, any length.

        Returns:
            0, or 1 when the connection is to be closed.
        """
        cdef Py_buffer view
        cdef Py_ssize_t at = 0, n
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            while at < view.len and not self.c.is_done:
                self.window()
                n = min(self.window_size, view.len - at)
                memcpy(self.window_at, <char *>view.buf + at, n)
                self.received(<uint32_t>n, ts_rx, mono_rx)
                at += n
        finally:
            PyBuffer_Release(&view)
        return self.c.is_done

    cdef int _give_control(self) except -1:
        cdef uint32_t at = 0
        cdef cw_inbox_entry entry
        while at < self.c.inbox_len:
            memcpy(&entry, self.inbox + at, sizeof(entry))
            at += sizeof(entry)
            payload = PyBytes_FromStringAndSize(<char *>self.inbox + at, entry.len)
            at += (entry.len + 3) & ~<uint32_t>3
            if self.on_control is not None:
                try:
                    self.on_control(entry.opcode, payload)
                except Exception:
                    self.engine.callback_errors += 1
                    _log.exception("on_control raised")
        self.c.inbox_len = 0
        return 0

    def reject(self):
        """Count a control message that nobody understands as the error ``message-unknown``."""
        self.engine.c.errors[CW_E_MESSAGE_UNKNOWN - CW_E_FIRST] += 1

    # ---- what there is

    @property
    def id(self):
        return self.c.id

    @property
    def is_done(self):
        """Nothing more is read: a close frame came, the protocol was broken, or it was lost."""
        return bool(self.c.is_done)

    @property
    def is_closed(self):
        """A close frame was received."""
        return bool(self.c.has_close)

    @property
    def is_live(self):
        """The connection is open and not silent, as of the engine's time."""
        return bool(self.engine.c.pulses[self.c.id].is_live)

    @property
    def error(self):
        """The protocol error that broke the connection, as a VenueError, or None."""
        if self.c.error.code == 0:
            return None
        return VenueError(_name_of(self.c.error.code), self.c.error.at,
                          cw_code_text(self.c.error.code).decode())

    @property
    def close_code(self):
        """The close code that answers :attr:`error`."""
        return cw_close_code_for(self.c.error.code) if self.c.error.code else 1000

    @property
    def byte_count(self):
        return self.c.bytes

    @property
    def frame_count(self):
        return self.c.frames

    @property
    def message_count(self):
        return self.c.messages

    @property
    def error_count(self):
        """Messages lost to an error."""
        return self.c.error_count

    @property
    def predictions(self):
        """(messages read by a template, messages that took the order-free scan)."""
        return self.c.scanner.hits, self.c.scanner.misses

    def message_errors(self):
        """Return the message errors since the last call as :class:`MessageError`, oldest first;
        at most the last 16 are kept."""
        cdef uint64_t i = self.errors_read
        cdef cw_line_error *e
        found = []
        if self.c.error_count > CW_LINE_ERRORS and i < self.c.error_count - CW_LINE_ERRORS:
            i = self.c.error_count - CW_LINE_ERRORS
        while i < self.c.error_count:
            e = &self.c.errors[i % CW_LINE_ERRORS]
            instrument = None if e.instrument == 0xFFFFFFFF else e.instrument
            found.append(MessageError(_name_of(e.error.code), e.error.at, e.message, instrument,
                                      cw_code_text(e.error.code).decode()))
            i += 1
        self.errors_read = i
        return found
