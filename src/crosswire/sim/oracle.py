"""The truth about a recording: which opportunities stood, from when to when, at what edge.

Strategy: one entry after the other, one message after the other, exact fractions wherever a
float could err. It shares no code with the engine; it is slow and meant to be read.

Rule 1: a READ or TICK first ends what relies on a line that has been silent for longer than its
venue's limit; a READ then makes its own line alive, and its complete messages follow in order.
Rule 2: a top is valid when it was quoted since its line was opened, both prices and sizes are
above 0 and the bid is below the ask. It is readable when its line is alive as well.
Rule 3: after every accepted quote, every pair that holds the instrument is evaluated, first buying
the first instrument, then buying the second. It opens at ``open_net_bps``, it closes below that
once it is at or below ``close_net_bps``, and closes at once when a top is not readable.
Rule 4: the terms are the caller's where he gives them, and not what the recording says of itself.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple
from zlib import crc32

from ..capture import Entry, Kind
from ..errors import RecordingError, VenueError
from ..venue import Dialect, SimQuote
from ..venues import dialect, venue

__all__ = ["Close", "Instrument", "Interval", "Leg", "Point", "Span", "Truth", "find_truth"]

DOUBT_BPS = 1e-6
"""Nearer to a threshold than this, a float does not decide."""
PROGRESS_ENTRIES = 10_000
PAUSE_MIN_NS = 100_000_000
GAP_MIN_NS = 5_000_000
"""Between two entries so far apart the process may not have run; its timer is not blamed for it."""
LATE_MIN_NS = 50_000_000
"""Who reads so late, or nothing for so long, may see a bait that is real."""


class Leg(NamedTuple):
    """One side of a state: the number of its venue, and what its newest quote holds.

    Attributes:
        limit: the quoted price.
        ts_exch: the venue's time of the quote in UTC ns, 0 where it sends none.
        mono_rx: when the quote was received.
    """

    venue: int
    limit: float
    ts_exch: int
    mono_rx: int


class Point(NamedTuple):
    """One state of an open opportunity, or the one that it ended in.

    Attributes:
        ts_rx: UTC ns of the entry.
        trigger_instrument, trigger_seq: the quote that brought it about; -1 and 0 where it was
            a silence or a loss.
        buy_seq, sell_seq: the two quotes it is made of.
        net_bps, gross_bps: edge after and before fees; not a number where a top is not readable.
        qty: smaller of both sizes; 0 where a top is not readable, and so are the next two.
        notional, profit: what the buy costs with its fee, and what is left after the sale.
        mono_rx: monotonic ns of the entry.
        ts_exch: the venue's time of the quote that brought it about, else 0.
        gates: what is not readable: 1 the buy top, 2 the sell top, 8 a silent line.
        buy, sell: the two legs.
    """

    ts_rx: int
    trigger_instrument: int
    trigger_seq: int
    buy_seq: int
    sell_seq: int
    net_bps: float
    gross_bps: float
    qty: float
    notional: float
    profit: float
    mono_rx: int
    ts_exch: int
    gates: int
    buy: Leg
    sell: Leg


class Close(NamedTuple):
    """How an opportunity ended: ``moved``, ``gate``, ``liveness`` or ``lost``."""

    ts_rx: int
    reason: str


@dataclass
class Interval:
    """One opportunity.

    Attributes:
        rule: number of its pair.
        buy, sell: instrument ids.
        points: its states, from the opening on.
        close: how it ended; ``None`` when it stood to the end.
        end: the state that it ended in; ``None`` as well when a top was gone without a loss.
    """

    rule: int
    buy: int
    sell: int
    points: list[Point]
    close: Close | None = None
    end: Point | None = None


@dataclass
class Span:
    """One connection, from its OPENED entry to the LOST one.

    Attributes:
        venue: its name.
        opened_ns: UTC ns of its OPENED entry.
        stamps: of each record in the order received: a quote's ``seq``, 0 for others.
        sums: the CRC-32 of the text that each came in.
    """

    venue: str
    opened_ns: int = 0
    stamps: array[int] = field(default_factory=lambda: array("q"))
    sums: array[int] = field(default_factory=lambda: array("I"))


class Instrument(NamedTuple):
    """An instrument of the CONFIG entry."""

    id: int
    venue: str
    symbol: str
    multiplier: Fraction


@dataclass
class Truth:
    """What a recording holds.

    Attributes:
        intervals: in order of opening.
        counts: data messages by (venue, native symbol, kind), stale ones included.
        stale: quotes that were dropped because their ``seq`` did not rise, by instrument id.
        instruments: by id.
        seqs: every accepted quote's ``seq``, by instrument id.
        spans: every connection, in order of opening.
        quoted: (from, to) in UTC ns by instrument id: from the first quote of a connection to the
            last that was received on it.
        config: the CONFIG entry as the recording has it.
        timer_gap_ns: the longest time without a TICK in which entries came densely: every gap of
            ``GAP_MIN_NS`` or more between two of them is left out.
        pauses: (from, to) in UTC ns, wherever nothing at all was recorded for ``PAUSE_MIN_NS``.
            The engine's timer fires far more often: its process did not run.
        late: (from, to) in UTC ns, wherever a quote was read ``LATE_MIN_NS`` after its stamp, its
            ``seq``, or nothing was read for so long; one that goes on is told once.
        lag_min_ns, lag_max_ns: how long after its stamp a quote was read; gaps are left out of the
            longest.
        unreadable: messages that are none of their venue's, in words.
        clocks: of each entry, the UTC stamp less the monotonic one, and the monotonic one.
    """

    intervals: list[Interval] = field(default_factory=list)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    stale: Counter[int] = field(default_factory=Counter)
    instruments: dict[int, Instrument] = field(default_factory=dict)
    seqs: dict[int, set[int]] = field(default_factory=dict)
    pauses: list[tuple[int, int]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    quoted: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    timer_gap_ns: int = 0
    late: list[tuple[int, int]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    lag_min_ns: int = 0
    lag_max_ns: int = 0
    clocks: tuple[array[int], array[int]] = field(default_factory=lambda: (array("q"), array("q")))


def find_truth(
    entries: Iterable[Entry],
    progress: Callable[[int], None] | None = None,
    terms: Mapping[str, Any] | None = None,
) -> Truth:
    """Return the truth about a recording.

    Args:
        entries: in their total order.
        progress: called with the number of entries done, now and then and at the end.
        terms: what is to hold in place of the same keys of the CONFIG entry: ``fees_bps``,
            ``open_net_bps``, ``close_net_bps``, ``liveness_limit_s``.

    Raises:
        RecordingError: data came before the CONFIG or OPENED entry that it needs, or a CONFIG entry
            is none.
        VenueError: the bytes of a line are no WebSocket frames of a server.
    """
    oracle = _Oracle(terms or {})
    done = 0
    for done, entry in enumerate(entries, start=1):
        oracle.take(entry)
        if progress is not None and done % PROGRESS_ENTRIES == 0:
            progress(done)
    oracle.end()
    if progress is not None:
        progress(done)
    return oracle.truth


# ------------------------------------------------------------------ bytes to texts


class _Frames:
    """A server's WebSocket frames, put together to texts."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._fragments: list[bytes] = []
        self._is_text = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the texts that these bytes complete, in UTF-8."""
        self._data += data
        while (frame := self._next_frame()) is not None:
            opcode, is_final, payload = frame
            if opcode >= 8:
                continue
            if opcode:
                self._is_text = opcode == 1
            self._fragments.append(payload)
            if is_final:
                message = b"".join(self._fragments)
                self._fragments.clear()
                if self._is_text:
                    yield message

    def _next_frame(self) -> tuple[int, bool, bytes] | None:
        """Return (opcode, is final, payload) and drop the frame, or ``None``: not yet."""
        data = self._data
        if len(data) < 2:
            return None
        if data[0] & 0x70 or data[1] & 0x80:
            raise VenueError("frame-bits", 0, "a reserved bit or a mask in a server's frame")
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start or len(data) < start + size:
            return None
        frame = data[0] & 0x0F, bool(data[0] & 0x80), bytes(data[start : start + size])
        del data[: start + size]
        return frame


# ------------------------------------------------------------------ state


class _Line:
    """One connection, as it is now."""

    def __init__(self, name: str, mono_rx: int) -> None:
        self.venue = name
        self.span = Span(name)
        self.quoted_from: dict[int, int] = {}
        self.last_ts = 0
        self.dialect: Dialect = dialect(name)
        self.is_rising = venue(name).layout.seq_is_rising
        self.frames = _Frames()
        self.last_seq: dict[int, int] = {}
        self.last_rx = mono_rx
        self.is_alive = True


class _Top:
    """The best bid and ask of an instrument, as texts, floats and, when needed, fractions."""

    def __init__(self, instrument: Instrument, line: _Line, quote: SimQuote, mono_rx: int) -> None:
        self.line = line
        self.mono_rx = mono_rx
        self.quote = quote
        self.seq = quote.seq
        self.bid, self.ask = float(quote.bid), float(quote.ask)
        self._multiplier = instrument.multiplier
        is_positive = min(self.bid, self.ask, float(quote.bid_qty), float(quote.ask_qty)) > 0
        is_apart = self.bid < self.ask or Fraction(quote.bid) < Fraction(quote.ask)
        self.is_valid = is_positive and is_apart

    def ask_qty(self) -> Fraction:
        """Return what can be bought."""
        return Fraction(self.quote.ask_qty) * self._multiplier

    def bid_qty(self) -> Fraction:
        """Return what can be sold."""
        return Fraction(self.quote.bid_qty) * self._multiplier


class _Route:
    """One direction of one pair: buy at one instrument, sell at another."""

    def __init__(self, rule: int, buy: Instrument, sell: Instrument, config: _Config) -> None:
        self.rule = rule
        self.buy, self.sell = buy.id, sell.id
        paid = 1 + _fee(config.fees_bps, buy.venue)
        got = 1 - _fee(config.fees_bps, sell.venue)
        self.got, self.paid = got, paid
        self.keep = got / paid
        """What the fees leave of the ratio of the prices."""
        self.keep_float = float(self.keep)

    def net_bps(self, buy: _Top, sell: _Top) -> Fraction:
        """Return the exact edge after fees."""
        return 10_000 * (self.keep * Fraction(sell.quote.bid) / Fraction(buy.quote.ask) - 1)

    def compare(self, buy: _Top, sell: _Top, threshold_bps: Fraction) -> int:
        """Return 1, 0 or -1: the edge is above, at or below a threshold."""
        near = 1e4 * (self.keep_float * sell.bid / buy.ask - 1) - float(threshold_bps)
        if abs(near) > DOUBT_BPS:
            return 1 if near > 0 else -1
        net = self.net_bps(buy, sell)
        return (net > threshold_bps) - (net < threshold_bps)


class _Config:
    """A CONFIG entry, understood."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.fees_bps: dict[str, Any] = value["fees_bps"]
        self.open_net_bps = _exact(value["open_net_bps"])
        self.close_net_bps = _exact(value["close_net_bps"])
        self.limit_ns = {
            name: round(_exact(limit_s) * 10**9)
            for name, limit_s in value["liveness_limit_s"].items()
        }
        self.instruments = {
            item["id"]: Instrument(
                item["id"], item["venue"], item["symbol"], _exact(item.get("multiplier", 1))
            )
            for item in value["instruments"]
        }
        self.venues = {name: number for number, name in enumerate(value["venues"])}
        self.by_name = {(item.venue, item.symbol): item for item in self.instruments.values()}
        self.routes: dict[int, list[_Route]] = {number: [] for number in self.instruments}
        for pair in value["pairs"]:
            a, b = self.instruments[pair["a"]], self.instruments[pair["b"]]
            both = [_Route(pair["rule"], a, b, self), _Route(pair["rule"], b, a, self)]
            self.routes[a.id] += both
            self.routes[b.id] += both

    def route(self, rule: int, buy: int, sell: int) -> _Route:
        """Return the route of an interval."""
        return next(r for r in self.routes[buy] if (r.rule, r.buy, r.sell) == (rule, buy, sell))

    def leg(self, number: int, top: _Top, price: float) -> Leg:
        """Return what a state says of one of its sides."""
        venue_number = self.venues[self.instruments[number].venue]
        return Leg(venue_number, price, top.quote.ts_ms * 1_000_000, top.mono_rx)


def _exact(value: float | str) -> Fraction:
    """Return a decimal number as it was written."""
    return Fraction(str(value))


def _fee(fees_bps: dict[str, Any], name: str) -> Fraction:
    return _exact(fees_bps[name]) / 10_000


# ------------------------------------------------------------------ the rules


class _Oracle:
    """Takes entries in order and writes the truth."""

    def __init__(self, terms: Mapping[str, Any]) -> None:
        self.truth = Truth()
        self._terms = terms
        self._config: _Config | None = None
        self._last: Entry | None = None
        self._tick_mono = 0
        self._read_ts = 0
        self._gaps = array("q"), array("q")  # where each ends, and their sum up to there
        self._lines: dict[int, _Line] = {}
        self._tops: dict[int, _Top] = {}
        self._open: dict[tuple[int, int, int], tuple[Interval, tuple[Fraction, Fraction]]] = {}

    def take(self, entry: Entry) -> None:
        """Take one entry."""
        self._note_time(entry)
        match entry.kind:
            case Kind.CONFIG:
                self.truth.config = entry.json()
                try:
                    self._config = _Config({**self.truth.config, **self._terms})
                except (LookupError, TypeError, ValueError) as error:
                    raise RecordingError(f"CONFIG at {entry.ts_rx}: {error!r}") from None
                self.truth.instruments.update(self._config.instruments)
            case Kind.OPENED:
                self._forget_tops(entry.line)
                line = self._lines[entry.line] = _Line(entry.json()["venue"], entry.mono_rx)
                line.span.opened_ns = entry.ts_rx
                self.truth.spans.append(line.span)
            case Kind.LOST:
                self._lose(entry)
            case Kind.TICK:
                self._note_timer(entry)
                self._advance(entry)
            case Kind.READ:
                self._advance(entry)
                self._read(entry)

    def end(self) -> None:
        """Take note that there are no more entries."""
        if self._last:
            self._note_timer(self._last)
        for line in self._lines.values():
            self._note_quoted(line)

    def _note_time(self, entry: Entry) -> None:
        if self._last is None:
            self._tick_mono = entry.mono_rx
        elif (passed := entry.mono_rx - self._last.mono_rx) >= GAP_MIN_NS:
            self._tick_mono += passed
            ends, sums = self._gaps
            ends.append(entry.ts_rx)
            sums.append(passed + (sums[-1] if sums else 0))
            if passed >= PAUSE_MIN_NS:
                self.truth.pauses.append((self._last.ts_rx, entry.ts_rx))
        self._last = entry
        apart, mono = self.truth.clocks
        apart.append(entry.ts_rx - entry.mono_rx)
        mono.append(entry.mono_rx)

    def _note_late(self, low: int, high: int) -> None:
        late = self.truth.late
        if high - low >= LATE_MIN_NS:
            if late and low <= late[-1][1]:
                low, high = min(low, late[-1][0]), max(high, late[-1][1])
                late.pop()
            late.append((low, high))

    def _note_lag(self, entry: Entry, seq: int) -> None:
        """Note how long after its stamp a quote was read; gaps of the process are left out."""
        self._note_late(seq, entry.ts_rx)
        truth, lag_ns = self.truth, entry.ts_rx - seq
        truth.lag_min_ns = min(truth.lag_min_ns, lag_ns)
        if lag_ns > truth.lag_max_ns:
            ends, sums = self._gaps
            first = bisect_right(ends, seq)
            gone_ns = sums[-1] - (sums[first - 1] if first else 0) if sums else 0
            truth.lag_max_ns = max(truth.lag_max_ns, lag_ns - gone_ns)

    def _note_timer(self, entry: Entry) -> None:
        self.truth.timer_gap_ns = max(self.truth.timer_gap_ns, entry.mono_rx - self._tick_mono)
        self._tick_mono = entry.mono_rx

    def _note_quoted(self, line: _Line) -> None:
        for number, start in line.quoted_from.items():
            self.truth.quoted.setdefault(number, []).append((start, line.last_ts))

    def _advance(self, entry: Entry) -> None:
        """Rule 1: declare lines dead, and end what relies on them."""
        config = self._known_config(entry)
        for line in self._lines.values():
            silent_ns = entry.mono_rx - line.last_rx
            if line.is_alive and silent_ns > config.limit_ns[line.venue]:
                line.is_alive = False
                self._close_with(line, entry, "liveness")

    def _lose(self, entry: Entry) -> None:
        line = self._lines.pop(entry.line, None)
        if line is not None:
            self._close_with(line, entry, "lost")
            self._forget_tops_of(line)

    def _forget_tops(self, number: int) -> None:
        line = self._lines.get(number)
        if line is not None:
            self._forget_tops_of(line)

    def _forget_tops_of(self, line: _Line) -> None:
        self._note_quoted(line)
        self._tops = {number: top for number, top in self._tops.items() if top.line is not line}

    def _close_with(self, line: _Line, entry: Entry, reason: str) -> None:
        """End every open interval that has a leg on a line."""
        for key, (interval, _) in list(self._open.items()):
            sides = [self._tops.get(number) for number in (interval.buy, interval.sell)]
            gone = [top is not None and top.line is line for top in sides]
            if any(gone):
                gates = 8 if reason == "liveness" else gone[0] + 2 * gone[1]
                self._close(key, entry, reason, gates)

    def _known_config(self, entry: Entry) -> _Config:
        if self._config is None:
            raise RecordingError(f"{entry.kind.name} at {entry.ts_rx} before any CONFIG")
        return self._config

    def _read(self, entry: Entry) -> None:
        line = self._lines.get(entry.line)
        if line is None:
            raise RecordingError(f"READ at {entry.ts_rx} on line {entry.line}, which is not open")
        line.last_rx = entry.mono_rx
        line.last_ts = entry.ts_rx
        if self._read_ts:
            self._note_late(self._read_ts, entry.ts_rx)
        self._read_ts = entry.ts_rx
        line.is_alive = True
        for payload in line.frames.feed(entry.payload):
            try:
                self._message(entry, line, payload)
            except (LookupError, TypeError, ValueError, ArithmeticError) as error:
                self.truth.unreadable.append(f"{line.venue} at {entry.ts_rx}: {error!r}")

    def _message(self, entry: Entry, line: _Line, payload: bytes) -> None:
        for kind, native, quote in line.dialect.decode(payload.decode(errors="replace")):
            self.truth.counts[line.venue, native, kind] += 1
            line.span.stamps.append(0 if quote is None else quote.seq)
            line.span.sums.append(crc32(payload))
            if quote is not None:
                self._note_lag(entry, quote.seq)
                self._quote(entry, line, native, quote)

    def _quote(self, entry: Entry, line: _Line, native: str, quote: SimQuote) -> None:
        """Rule 2: take a quote over, unless it is stale."""
        config = self._known_config(entry)
        instrument = config.by_name.get((line.venue, native))
        if instrument is None:
            return
        last_seq = line.last_seq.get(instrument.id)
        if line.is_rising and last_seq is not None and quote.seq <= last_seq:
            self.truth.stale[instrument.id] += 1
            return
        line.last_seq[instrument.id] = quote.seq
        line.quoted_from.setdefault(instrument.id, entry.ts_rx)
        self._tops[instrument.id] = _Top(instrument, line, quote, entry.mono_rx)
        self.truth.seqs.setdefault(instrument.id, set()).add(quote.seq)
        for route in config.routes[instrument.id]:
            self._evaluate(entry, config, route, instrument.id, quote.seq)

    def _evaluate(
        self, entry: Entry, config: _Config, route: _Route, trigger: int, seq: int
    ) -> None:
        """Rule 3: open, close or continue one route."""
        key = (route.rule, route.buy, route.sell)
        standing = self._open.get(key)
        buy, sell = self._readable_top(route.buy), self._readable_top(route.sell)
        if buy is None or sell is None:
            if standing is not None:
                self._close(key, entry, "gate", self._invalid(route), (trigger, seq))
            return
        is_at_open = route.compare(buy, sell, config.open_net_bps) >= 0
        if standing is None and not is_at_open:
            return
        if not is_at_open and route.compare(buy, sell, config.close_net_bps) <= 0:
            self._close(key, entry, "moved", 0, (trigger, seq))
            return
        state = route.net_bps(buy, sell), min(buy.ask_qty(), sell.bid_qty())
        if standing is None:
            point = self._point(entry, config, route, buy, sell, 0, (trigger, seq))
            interval = Interval(*key, [point])
            self.truth.intervals.append(interval)
            self._open[key] = interval, state
        elif standing[1] != state:
            point = self._point(entry, config, route, buy, sell, 0, (trigger, seq))
            standing[0].points.append(point)
            self._open[key] = standing[0], state

    def _readable_top(self, number: int) -> _Top | None:
        top = self._tops.get(number)
        return top if top is not None and top.is_valid and top.line.is_alive else None

    def _invalid(self, route: _Route) -> int:
        """Return the gates of tops that are not valid."""
        tops = [self._tops.get(number) for number in (route.buy, route.sell)]
        buy, sell = (top is not None and top.is_valid for top in tops)
        return (not buy) + 2 * (not sell)

    @staticmethod
    def _point(
        entry: Entry,
        config: _Config,
        route: _Route,
        buy: _Top,
        sell: _Top,
        gates: int,
        trigger: tuple[int, int],
    ) -> Point:
        """Return the state of a route; an edge is told where both tops are readable."""
        net = gross = math.nan
        qty = cost = profit = Fraction(0)
        if not gates:
            bid, ask = Fraction(sell.quote.bid), Fraction(buy.quote.ask)
            net, gross = float(route.net_bps(buy, sell)), float(10_000 * (bid / ask - 1))
            qty = min(buy.ask_qty(), sell.bid_qty())
            cost = qty * ask * route.paid
            profit = qty * bid * route.got - cost
        number, seq = trigger
        ts_exch = {route.buy: buy.quote.ts_ms, route.sell: sell.quote.ts_ms}.get(number, 0)
        return Point(
            entry.ts_rx, number, seq, buy.seq, sell.seq, net, gross,
            float(qty), float(cost), float(profit), entry.mono_rx, ts_exch * 1_000_000, gates,
            config.leg(route.buy, buy, buy.ask), config.leg(route.sell, sell, sell.bid),
        )  # fmt: skip

    def _close(
        self,
        key: tuple[int, int, int],
        entry: Entry,
        reason: str,
        gates: int,
        trigger: tuple[int, int] = (-1, 0),
    ) -> None:
        interval, _ = self._open.pop(key)
        interval.close = Close(entry.ts_rx, reason)
        buy, sell = self._tops.get(interval.buy), self._tops.get(interval.sell)
        if buy is not None and sell is not None:
            config = self._known_config(entry)
            route = config.route(*key)
            interval.end = self._point(entry, config, route, buy, sell, gates, trigger)
