"""The engine: the thin owner of ``cw_engine``, and the calls to its consumers.

Bytes are fed to a Line; records go to the tops and the routes of its Engine; signals stand in the
ring and are handed to one callback as a numpy view. Nothing here allocates per message.

Thread rule: an Engine and its Lines belong to one thread. The GIL is held while feeding: a read is
parsed in microseconds, and releasing it would cost more than it gives.
"""

import logging
import os
from math import inf
from operator import index

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from crosswire.kernels.base cimport CW_E_COUNT, CW_E_FIRST, CW_FULL, CW_OK, CW_TAKEN, cw_code_name
from crosswire.kernels.book cimport cw_top
from crosswire.kernels.cross cimport cw_pair_terms, cw_route
from crosswire.kernels.engine cimport (
    CW_KINDS, CW_STAGES, cw_batch, cw_engine_add_instrument, cw_engine_add_venue,
    cw_engine_advance, cw_engine_init, cw_engine_set_data_limit, cw_engine_set_merge_key,
    cw_engine_set_pairs, cw_engine_size, cw_limits,
)
from crosswire.kernels.histogram cimport cw_histogram, cw_histogram_quantile
from crosswire.kernels.layout cimport (
    CW_KEY_MAX, CW_LAYOUT_MESSAGES_MAX, CW_LAYOUT_NODES_MAX, CW_SLOTS, CW_TAG_MAX, cw_layout,
    cw_layout_is_valid,
)
from crosswire.kernels.loss cimport (
    CW_LOSS_LOST, CW_LOSS_MESSAGE, CW_LOSS_SILENT, CW_LOSS_STALE, cw_loss, cw_losses_take,
)
from crosswire.kernels.merge cimport CW_MERGE_NONE, CW_MERGE_SEQ, CW_MERGE_TS_SEQ
from crosswire.kernels.ops cimport CW_LEVEL_AVX2, CW_LEVEL_AVX512, CW_LEVEL_BASE, cw_level, \
    cw_level_best, cw_ops_for
from crosswire.kernels.record cimport cw_record
from crosswire.kernels.ring cimport cw_ring_peek, cw_ring_release
from crosswire.kernels.symbol cimport cw_symbol, cw_symbols
from crosswire.kernels.watch cimport cw_watch_open_loss
from crosswire.records cimport _Block, new_block, rows_of

from .errors import UsageError
from .instruments import Loss, Pair, Top
from .layout import compile_layout
from .records import QUOTE_DTYPE, SIGNAL_DTYPE, TRADE_DTYPE
from .venue import Record, Slot

__all__ = ["Engine", "isa_levels"]

_log = logging.getLogger("crosswire")
_log.addHandler(logging.NullHandler())

FAILURES_LOGGED = 10  # of callbacks; all are counted

# ------------------------------------------------------------------ small helpers

_ISA = {"base": CW_LEVEL_BASE, "avx2": CW_LEVEL_AVX2, "avx512": CW_LEVEL_AVX512}


_MERGE_KEYS = {(): CW_MERGE_NONE, (Slot.SEQ,): CW_MERGE_SEQ,
               (Slot.TS_MS, Slot.SEQ): CW_MERGE_TS_SEQ}

_CAUSES = {CW_LOSS_LOST: "lost", CW_LOSS_SILENT: "silent", CW_LOSS_MESSAGE: "message",
           CW_LOSS_STALE: "stale"}


def isa_levels():
    """Return the instruction-set levels that this processor has, lowest first."""
    return tuple(name for name, level in _ISA.items() if level <= cw_level_best())


cdef cw_level _level_of(object isa) except *:
    if isa is None:
        isa = os.environ.get("CROSSWIRE_ISA") or "avx512"
    if isa not in _ISA:
        raise UsageError(f"CROSSWIRE_ISA is {isa!r}; it may be {', '.join(_ISA)}")
    return _ISA[isa]


cdef uint32_t within(str name, object value, uint32_t least, uint32_t most) except? 0:
    """A whole number within its bounds, or a UsageError that names both."""
    try:
        number = index(value)
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {value!r}") from None
    if not least <= number <= most:
        raise UsageError(f"{name} must be within {least}..{most}, not {number}")
    return number


cdef int64_t _monotonic(void *user) noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


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

    def __cinit__(self, *, instruments_max=4096, pairs_max=16384, lines_max=64, venues_max=32,
                  signals_max=65536, rows_max=4096, isa=None, bint takes_unknown=False,
                  bint latest_only=False, bint is_timed=False):
        cdef cw_limits limits
        limits.instruments = within("instruments_max", instruments_max, 1, 1 << 20)
        limits.pairs = within("pairs_max", pairs_max, 0, 1 << 22)
        limits.lines = within("lines_max", lines_max, 1, 65534)
        limits.venues = within("venues_max", venues_max, 1, 256)
        limits.signals = within("signals_max", signals_max, 1, 1 << 24)
        self.rows_max = within("rows_max", rows_max, 1, 1 << 24)
        cdef size_t size = cw_engine_size(&limits)
        if size == 0:
            raise UsageError(f"signals_max must be a power of two, not {signals_max}")
        cdef cw_level level = _level_of(isa)
        self.memory = new_block(size)
        memset(self.memory.data, 0, size)  # touched once, so that no page is missing later
        self.c = cw_engine_init(self.memory.data, &limits, cw_ops_for(level))
        self.c.takes_unknown = takes_unknown
        self.c.latest_only = latest_only
        if is_timed:
            self.c.clock.now_ns = _monotonic
        self.kept = []
        self.venue_names = []
        self.venue_ids = {}
        self.kinds = []
        self.ring_rows = rows_of(self.memory, self.c.ring.slots, limits.signals, SIGNAL_DTYPE)

    # ---- directory

    def add_venue(self, str name, layout, *, double fee_bps=0.0, double liveness_limit_s=5.0,
                  double data_limit_s=inf):
        """Add a venue and return its id.

        Args:
            name: the venue's name.
            layout: its :class:`~crosswire.venue.Layout`.
            fee_bps: taker fee of instruments that are found on the way, within (-1000, 1000).
            liveness_limit_s: a connection silent for longer is not alive.
            data_limit_s: a top that was not quoted for longer is stale, and unreadable until it is
                quoted; four times the longest gap that its quotes had lately, where that is longer.
                ``inf``: never.

        Raises:
            UsageError: the name is taken, the terms are impossible, there is no room, or the
                layout is too large.
        """
        cdef uint16_t venue_id
        if name in self.venue_ids:
            raise UsageError(f"venue {name!r} was added before")
        if not liveness_limit_s > 0:
            raise UsageError(f"liveness_limit_s of {name!r} must be above 0")
        if not data_limit_s > 0:
            raise UsageError(f"data_limit_s of {name!r} must be above 0")
        if not -1000.0 < fee_bps < 1000.0:
            raise UsageError(f"impossible fee_bps {fee_bps} of {name!r}")
        if layout.merge_by not in _MERGE_KEYS:
            raise UsageError(f"layout: merge_by is (), (SEQ,) or (TS_MS, SEQ), "
                             f"not {layout.merge_by!r}")
        compiled = compile_layout(layout)
        cdef _Block table = _build_layout(compiled)
        limit = min(liveness_limit_s * 1e9, 2.0 ** 62)
        if cw_engine_add_venue(self.c, <cw_layout *>table.data, <int64_t>limit, fee_bps,
                               layout.seq_is_rising, &venue_id) != CW_OK:
            raise UsageError(f"no room for venue {name!r}; see Engine(venues_max=)")
        if data_limit_s < inf:
            limit = min(max(data_limit_s * 1e9, 1.0), 2.0 ** 62)
            cw_engine_set_data_limit(self.c, venue_id, <int64_t>limit)
        cw_engine_set_merge_key(self.c, venue_id, _MERGE_KEYS[layout.merge_by])
        self.kept.append(table)
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
            UsageError: the venue is unknown, the symbol was added before, the terms are
                impossible, or there is no room.
        """
        cdef bytes text = symbol.encode()
        cdef uint32_t instrument
        cdef uint16_t venue_id = self._venue(venue)
        if not -1000.0 < fee_bps < 1000.0 or not 0.0 < multiplier < 1e12:
            raise UsageError(f"{venue} {symbol}: impossible fee_bps {fee_bps} or "
                             f"multiplier {multiplier}")
        code = cw_engine_add_instrument(self.c, venue_id, text, <uint32_t>len(text), fee_bps,
                                        multiplier, &instrument)
        if code == CW_TAKEN:
            raise UsageError(f"{venue} {symbol!r} was added before")
        if code == CW_FULL:
            raise UsageError(f"no room for {venue} {symbol!r}; see Engine(instruments_max=)")
        if code != CW_OK:
            raise UsageError(f"{venue} {symbol!r} is no symbol: 1 to 32 bytes without quotes, "
                             "backslashes and control characters")
        return instrument

    def set_pairs(self, pairs):
        """Declare all pairs at once, replacing those before. No route may be open.

        Args:
            pairs: sequence of :class:`Pair`.

        Raises:
            UsageError: an instrument is unknown, a threshold is impossible, or there are too many.
        """
        cdef Py_ssize_t i, n = len(pairs)
        for i in range(2 * self.c.crosses.pair_count):
            if self.c.crosses.routes[i].is_open:
                raise UsageError("pairs cannot be changed while a route is open")
        cdef _Block block = new_block(n * sizeof(cw_pair_terms))
        cdef cw_pair_terms *terms = <cw_pair_terms *>block.data
        for i in range(n):
            if not isinstance(pairs[i], Pair):
                raise UsageError(f"{pairs[i]!r} is no Pair")
            pair = pairs[i]
            terms[i].a = self._instrument(pair.a)
            terms[i].b = self._instrument(pair.b)
            terms[i].rule_id = pair.rule_id
            terms[i].open_net_bps = pair.open_net_bps
            terms[i].close_net_bps = pair.close_net_bps
            terms[i].qty_max = pair.qty_max
        if cw_engine_set_pairs(self.c, terms, <uint32_t>n) != CW_OK:
            raise UsageError(f"no room for {n} pairs; see Engine(pairs_max=) and signals_max, "
                             "which is at least four times the pairs")

    cdef uint16_t _venue(self, str name) except? 0xFFFF:
        if name not in self.venue_ids:
            raise UsageError(f"venue {name!r} was not added")
        return self.venue_ids[name]

    cdef uint32_t _instrument(self, object instrument) except? 0xFFFFFFFF:
        cdef int64_t number = index(instrument)
        if not 0 <= number < self.c.books.count:
            raise UsageError(f"no instrument {instrument}")
        return <uint32_t>number

    # ---- time

    def advance(self, int64_t ts_now, int64_t mono_now):
        """Let time pass to this stamp (UTC ns, monotonic ns): silent lines and stale tops are
        found, what was open on them is closed, and the signals are handed over."""
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
        self._check_consumer(callback)
        self._on_signals = callback

    @property
    def on_quotes(self):
        return self._on_quotes

    @on_quotes.setter
    def on_quotes(self, callback):
        self._check_consumer(callback)
        self.quote_rows = self._set_batch(&self.c.quotes, callback, QUOTE_DTYPE)
        self._on_quotes = callback

    @property
    def on_trades(self):
        return self._on_trades

    @on_trades.setter
    def on_trades(self, callback):
        self._check_consumer(callback)
        self.trade_rows = self._set_batch(&self.c.trades, callback, TRADE_DTYPE)
        self._on_trades = callback

    cdef int _check_consumer(self, object callback) except -1:
        if self.is_feeding:
            raise UsageError("consumers cannot be changed from inside a callback")
        if callback is not None and not callable(callback):
            raise UsageError(f"a consumer is called with rows; {callback!r} cannot be called")
        return 0

    cdef object _set_batch(self, cw_batch *batch, object callback, object dtype):
        cdef _Block block
        batch.count = batch.capacity = 0
        batch.rows = NULL
        if callback is None:
            return None
        block = new_block(self.rows_max * sizeof(cw_record))
        batch.rows = <cw_record *>block.data
        batch.capacity = self.rows_max
        return rows_of(block, block.data, self.rows_max, dtype)

    cdef int _begin(self) except -1:
        if self.is_feeding:
            raise UsageError("the engine was called from inside one of its callbacks")
        self.is_feeding = True
        return 0

    cdef int _call(self, object callback, object rows) except -1:
        try:
            callback(rows)
        except Exception:
            self._note_failure("a consumer")
        return 0

    cdef int _note_failure(self, str what) except -1:
        """Count the exception in hand, and log it unless so many came that the log would drown."""
        self.callback_errors += 1
        if self.callback_errors <= FAILURES_LOGGED:
            _log.exception("%s raised; failure %d", what, self.callback_errors)
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

    def top(self, instrument):
        """Return a copy of an instrument's :class:`Top`.

        Raises:
            UsageError: there is no such instrument.
        """
        cdef cw_top *t = &self.c.books.tops[self._instrument(instrument)]
        return Top(bid=t.bid, bid_qty=t.bid_qty, ask=t.ask, ask_qty=t.ask_qty, seq=t.seq,
                   ts_exch=t.ts_exch, ts_rx=t.ts_rx, is_valid=bool(t.is_valid),
                   is_live=bool(t.is_live), is_stale=bool(t.is_stale), quotes=t.quotes,
                   stale=t.stale)

    def stale_instruments(self):
        """Return the ids of the instruments whose tops are stale now, lowest first."""
        return [i for i in range(self.c.books.count) if self.c.books.tops[i].is_stale]

    def losses(self):
        """Return the losses that ended since the last call as :class:`Loss`, oldest first; at most
        the last 1,024 are kept, see ``losses_dropped``."""
        cdef cw_loss loss
        found = []
        while cw_losses_take(&self.c.losses, &loss):
            found.append(_loss_of(&loss))
        return found

    def open_losses(self):
        """Return the losses that last, in the order of the instruments, quotes before trades."""
        cdef cw_loss loss
        found = []
        for i in range(self.c.books.count):
            for record in (Record.QUOTE, Record.TRADE):
                if cw_watch_open_loss(self.c, i, record, &loss):
                    found.append(_loss_of(&loss))
        return found

    @property
    def losses_dropped(self):
        """Losses that ended and gave way to later ones before they were read."""
        return self.c.losses.dropped

    def counts(self, instrument):
        """Return messages received per kind for an instrument, kinds that came only. What several
        lines of a group bring counts as often as it came.

        Raises:
            UsageError: there is no such instrument.
        """
        cdef uint32_t i = self._instrument(instrument)
        cdef uint64_t *row = self.c.counts + <size_t>i * CW_KINDS
        kinds = self.kinds[self.c.books.tops[i].venue]
        return {kind: row[n] for n, kind in enumerate(kinds) if row[n]}

    @property
    def errors(self):
        """Errors by name, those that happened only."""
        return {cw_code_name(CW_E_FIRST + i).decode(): self.c.errors[i]
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
        return quantiles_of(&self.c.rx_to_signal)

    def stages_ns(self):
        """Return the same per stage of the sampled reads: frame, decode, book, detect."""
        names = ("frame", "decode", "book", "detect")
        return {names[i]: quantiles_of(&self.c.stages[i]) for i in range(CW_STAGES)}

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


cdef object _loss_of(const cw_loss *loss):
    return Loss(loss.instrument, Record(loss.record), loss.line, _CAUSES[loss.cause],
                loss.last_good_ts, loss.first_good_ts, loss.last_seq, loss.first_seq)


cdef dict quantiles_of(const cw_histogram *h):
    """The histogram in five numbers; NULL is one without values."""
    if h is NULL:
        return {"count": 0, "p50": 0, "p99": 0, "p99_9": 0, "max": 0}
    return {"count": h.count, "p50": cw_histogram_quantile(h, 0.5),
            "p99": cw_histogram_quantile(h, 0.99), "p99_9": cw_histogram_quantile(h, 0.999),
            "max": h.max}


cdef _Block _build_layout(object compiled):
    """Copy the compiled tables into a C table; raises UsageError when they do not fit."""
    if len(compiled.nodes) > CW_LAYOUT_NODES_MAX or len(compiled.kinds) > CW_KINDS or \
            len(compiled.messages) > CW_LAYOUT_MESSAGES_MAX:
        raise UsageError(f"layout too large: at most {CW_LAYOUT_NODES_MAX} nodes, "
                         f"{CW_LAYOUT_MESSAGES_MAX} messages, {CW_KINDS} kinds")
    cdef _Block block = new_block(sizeof(cw_layout))
    cdef cw_layout *table = <cw_layout *>block.data
    cdef Py_ssize_t i, k
    if any(len(node.key) > CW_KEY_MAX for node in compiled.nodes) or \
            any(len(m.tag) > CW_TAG_MAX for m in compiled.messages) or \
            len(compiled.word) > <Py_ssize_t>sizeof(table.word):
        raise UsageError(f"layout: a key is longer than {CW_KEY_MAX} bytes, a tag than "
                         f"{CW_TAG_MAX} or the word than {sizeof(table.word)}")
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
        for k in range(CW_SLOTS):
            table.messages[i].text[k] = message.text[k]
    if not cw_layout_is_valid(table):
        raise UsageError("layout: every message requires a symbol and has only fields that its "
                         "record has; symbol, side and kind of trade are STRING, "
                         "BUYER_IS_MAKER is BOOL")
    return block
