"""Streams that say nothing: data deadlines, and what is told as lost, on lone lines.

``Model`` holds the rules in plain Python, one stream after the other; it shares no code with
crosswire. What lines of a group change about them is in ``test_lines`` and in the C tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswire import CloseReason, Engine, Line, Loss, Pair, SignalEvent, UsageError
from crosswire.codec import encode_frame
from crosswire.venue import Record
from crosswire.venues import venue

SYMBOLS = ("AAAUSDT", "BBBUSDT")
UTC = 1_700_000_000_000_000_000
SILENT_NS = 1_000
FADE_NS = 600e9


def quote(instrument: int, seq: int, bid: int = 1) -> bytes:
    symbol = SYMBOLS[instrument]
    text = f'{{"u":{seq},"s":"{symbol}","b":"{bid}","B":"1","a":"{bid + 1}","A":"1"}}'
    return encode_frame(1, text.encode())


def trade(instrument: int, number: int) -> bytes:
    text = (
        f'{{"e":"trade","s":"{SYMBOLS[instrument]}","t":{number},"p":"1","q":"1",'
        '"T":1723161255342,"m":true}'
    )
    return encode_frame(1, text.encode())


class World:
    """Two instruments of one venue, a line for each of them, and a time."""

    def __init__(self, limit_ns: float, silent_ns: float = SILENT_NS) -> None:
        self.now = 10
        self.engine = Engine(instruments_max=2, pairs_max=1, signals_max=64, lines_max=2)
        self.engine.add_venue(
            "binance",
            venue("binance").layout,
            liveness_limit_s=silent_ns / 1e9,
            data_limit_s=limit_ns / 1e9,
        )
        for symbol in SYMBOLS:
            self.engine.add_instrument("binance", symbol, fee_bps=0.0)
        self.lines = [Line(self.engine, "binance") for _ in SYMBOLS]
        for line in self.lines:
            line.open(UTC, 0)

    def feed(self, line: int, data: bytes) -> None:
        self.lines[line].feed(data, UTC + self.now, self.now)

    def wait(self, ns: int) -> None:
        self.now += ns
        self.engine.advance(UTC + self.now, self.now)

    def is_readable(self, instrument: int) -> bool:
        top = self.engine.top(instrument)
        return top.is_valid and top.is_live and not top.is_stale


# ------------------------------------------------------------------ against a model


@dataclass
class Stream:
    """One kind of record of one instrument, which one line brings."""

    last_ts: int = 0
    last_seq: int = 0
    has_data: bool = False
    loss: Loss | None = None
    is_lost: bool = False


@dataclass
class Side:
    """One instrument and its line."""

    is_open: bool = True
    is_alive: bool = True
    heard: int = 0
    is_valid: bool = False
    is_stale: bool = False
    was_cut: bool = False
    spoke: int = 0
    end: float = 0
    peak: float = 0.0
    streams: dict[Record, Stream] = field(
        default_factory=lambda: {Record.QUOTE: Stream(), Record.TRADE: Stream()}
    )


class Model:
    """What must be readable, stale and lost."""

    def __init__(self, limit_ns: float) -> None:
        self.limit_ns = limit_ns
        self.sides = [Side(), Side()]
        self.losses: list[Loss] = []

    def lose(self, n: int, record: Record, cause: str) -> None:
        side, stream = self.sides[n], self.sides[n].streams[record]
        if record is Record.QUOTE and cause in ("lost", "silent"):
            side.was_cut = True
        stream.is_lost = cause in ("lost", "message") or bool(stream.loss and stream.is_lost)
        if stream.has_data and not stream.loss:
            terms = (n, record, n, cause, stream.last_ts, 0, stream.last_seq, 0)
            stream.loss = Loss(*terms)

    def accept(self, n: int, record: Record, now: int, seq: int) -> None:
        stream = self.sides[n].streams[record]
        if stream.loss:
            old = stream.loss
            head = (old.instrument, old.record, old.line, old.cause, old.last_good_ts)
            if stream.is_lost:  # silence alone, on a connection that goes on, loses nothing
                self.losses.append(Loss(*head, UTC + now, old.last_seq, seq))
            stream.loss = None
        stream.last_ts, stream.last_seq, stream.has_data = UTC + now, seq, True

    def pass_time(self, now: int) -> None:
        for n, side in enumerate(self.sides):
            if side.is_open and side.is_alive and now - side.heard > SILENT_NS:
                side.is_alive = False
                self.lose(n, Record.QUOTE, "silent")
                self.lose(n, Record.TRADE, "silent")
        for n, side in enumerate(self.sides):
            was_quoted = side.streams[Record.QUOTE].has_data and self.is_carried(n)
            if was_quoted and side.is_alive and not side.is_stale and now > side.end:
                side.is_stale = True
                self.lose(n, Record.QUOTE, "stale")

    def is_carried(self, n: int) -> bool:
        """Its line was not lost since its last quote."""
        loss = self.sides[n].streams[Record.QUOTE].loss
        return self.sides[n].is_open and not (loss and self.sides[n].end == inf)

    def byte(self, n: int, now: int) -> bool:
        """Take a byte; returns whether the line is open."""
        side = self.sides[n]
        if not side.is_open:
            return False
        self.pass_time(now)
        was_alive, side.heard, side.is_alive = side.is_alive, now, True
        if not was_alive and side.streams[Record.QUOTE].has_data and self.is_carried(n):
            side.is_stale |= now > side.end
        return True

    def speak(self, n: int, now: int) -> None:
        side = self.sides[n]
        side.spoke = now
        side.end = now + max(self.limit_ns, int(4 * side.peak))

    def quote(self, n: int, now: int, seq: int) -> None:
        side = self.sides[n]
        if side.streams[Record.QUOTE].has_data and not side.was_cut:
            gap = float(now - side.spoke)
            side.peak = max(gap, side.peak - side.peak * gap * (1.0 / FADE_NS))
        self.accept(n, Record.QUOTE, now, seq)
        side.was_cut, side.is_valid, side.is_stale = False, True, False
        self.speak(n, now)

    def lost(self, n: int) -> None:
        side = self.sides[n]
        if side.is_open:
            self.lose(n, Record.QUOTE, "lost")
            self.lose(n, Record.TRADE, "lost")
            side.is_open = side.is_alive = side.is_valid = side.is_stale = False
            side.end = inf

    def garbled(self, n: int) -> None:
        self.sides[n].is_valid = False
        self.lose(n, Record.QUOTE, "message")
        self.lose(n, Record.TRADE, "message")


STEPS = st.one_of(
    st.tuples(st.just("quote"), st.integers(0, 1)),
    st.tuples(st.just("quote"), st.integers(0, 1)),
    st.tuples(st.just("trade"), st.integers(0, 1)),
    st.tuples(st.just("repeat"), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.sampled_from([1, 20, 99, 100, 101, 300, 1_001])),
    st.tuples(st.just("wait"), st.sampled_from([1, 20, 99, 100, 101, 300])),
    st.tuples(st.just("garble"), st.integers(0, 1)),
    st.tuples(st.just("lose"), st.integers(0, 1)),
    st.tuples(st.just("open"), st.integers(0, 1)),
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([100, 250, inf]), st.lists(STEPS, min_size=5, max_size=80))
def test_deadlines_and_losses_are_the_model_s(limit_ns: float, steps: list[Any]) -> None:
    world, model = World(limit_ns), Model(limit_ns)
    told: list[Loss] = []
    for seq, (name, n) in enumerate(steps, 1):
        side = model.sides[n] if name != "wait" else None
        if side is None:
            world.wait(n)
            model.pass_time(world.now)
        elif name == "lose":
            world.lines[n].lose(UTC + world.now, world.now)
            model.lost(n)
        elif name == "open":
            world.lines[n].open(UTC + world.now, world.now)
            model.lost(n)
            side.is_open, side.is_alive, side.heard = True, True, world.now
        elif model.byte(n, world.now):
            last = side.streams[Record.QUOTE]
            if name == "repeat" and not (last.has_data and side.end < inf):
                name = "quote"  # there is nothing to be repeated on this connection
            if name == "quote":
                world.feed(n, quote(n, seq))
                model.quote(n, world.now, seq)
            elif name == "repeat":
                world.feed(n, quote(n, last.last_seq))
                model.speak(n, world.now)
            elif name == "trade":
                world.feed(n, trade(n, seq))
                model.accept(n, Record.TRADE, world.now, seq)
            else:
                world.feed(n, quote(n, seq).replace(b'"a":', b'"a"?'))
                model.garbled(n)
        told += world.engine.losses()
        lasting = [s.loss for m in model.sides for s in m.streams.values() if s.loss]
        assert told == model.losses
        assert world.engine.open_losses() == lasting
        assert world.engine.stale_instruments() == [
            i for i, m in enumerate(model.sides) if m.is_stale
        ]
        for i, m in enumerate(model.sides):
            wanted = m.is_open and m.is_alive and m.is_valid and not m.is_stale
            assert world.is_readable(i) == wanted


# ------------------------------------------------------------------ by hand


class TestDeadlines:
    def test_a_stale_top_closes_what_is_open_on_it(self) -> None:
        world = World(100)
        world.engine.set_pairs([Pair(1, 0, 1)])
        events: list[tuple[int, int, int]] = []
        world.engine.on_signals = lambda rows: events.extend(
            (int(r["event"]), int(r["close_reason"]), int(r["gates"])) for r in rows
        )
        world.feed(0, quote(0, 1, 10))
        world.wait(50)
        world.feed(1, quote(1, 1, 20))
        assert events == [(SignalEvent.OPEN, 0, 0)]
        world.wait(50)
        assert len(events) == 1
        world.feed(1, quote(1, 2, 21))
        world.wait(1)
        assert events[2:] == [(SignalEvent.CLOSE, CloseReason.STALE, 1)]
        assert world.engine.stale_instruments() == [0]
        top = world.engine.top(0)
        assert (top.is_valid, top.is_live, top.is_stale) == (True, True, True)
        world.feed(0, quote(0, 2, 10))
        assert not world.engine.top(0).is_stale
        assert events[3][0] == SignalEvent.OPEN

    def test_a_read_finds_it_before_what_it_brings(self) -> None:
        world = World(100)
        world.engine.set_pairs([Pair(1, 0, 1)])
        signals: list[Any] = []
        world.engine.on_signals = lambda rows: signals.extend(rows.copy())
        world.feed(0, quote(0, 1, 10))
        world.now += 101
        world.feed(1, quote(1, 1, 20))
        assert signals == []

    @pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
    def test_a_limit_is_above_0(self, limit: float) -> None:
        with pytest.raises(UsageError, match="data_limit_s of 'binance' must be above 0"):
            Engine().add_venue("binance", venue("binance").layout, data_limit_s=limit)

    def test_a_limit_may_be_longer_than_anything(self) -> None:
        world = World(1e30, silent_ns=1e30)
        world.feed(0, quote(0, 1))
        world.wait(2**61)
        assert world.is_readable(0)


class TestLosses:
    def test_what_was_not_read_in_time_is_counted(self) -> None:
        world = World(inf)
        for n in range(1026):
            world.feed(0, quote(0, 2 * n + 1))
            world.lines[0].lose(UTC, world.now)
            world.lines[0].open(UTC, world.now)
        world.feed(0, quote(0, 9999))
        losses = world.engine.losses()
        assert (len(losses), world.engine.losses_dropped) == (1024, 2)
        assert losses[0].last_seq == 5
        assert losses[-1].first_seq == 9999
        assert world.engine.losses() == []
