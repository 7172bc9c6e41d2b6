"""Lines of one group: first arrival wins, each record once, and what a twin carries stays readable.

``Feed`` is a venue that publishes quotes and trades; each of its connections carries what was
published since it was opened, in order, and is read as far as the test says. ``Model`` says what
must come out of lines that are read so, by the rules alone; it shares no code with crosswire.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crosswire import CloseReason, Engine, Line, Pair, SignalEvent, UsageError
from crosswire.codec import encode_frame
from crosswire.venue import Layout, Message, Record, Slot
from crosswire.venues import venue

LIMIT_NS = 1_000
SYMBOLS = ("AAAUSDT", "BBBUSDT")
OKX_SYMBOLS = ("AAA-USDT", "BBB-USDT")


class Item(NamedTuple):
    """What a venue published: a quote or a trade of an instrument, and its number there."""

    is_quote: bool
    instrument: int
    number: int

    @property
    def text(self) -> str:
        symbol, n = SYMBOLS[self.instrument], self.number
        if self.is_quote:
            return f'{{"u":{n},"s":"{symbol}","b":"{n}","B":"1","a":"{n + 1}","A":"1"}}'
        return f'{{"e":"trade","s":"{symbol}","t":{n},"p":"1","q":"1","T":1723161255342,"m":true}}'


@dataclass
class Connection:
    """One line's connection as the model sees it."""

    is_open: bool = False
    is_alive: bool = False
    is_covering: bool = False
    covers_from: int = 0
    last: int = 0
    start: int = 0
    at: int = 0
    epoch: int = 0
    missed: set[int] = field(default_factory=set)
    """Instruments that a lost message may have been of, and no quote came since."""


@dataclass
class Model:
    """What the rules say of lines of one group.

    Attributes:
        owners: which connection carries each instrument's top: (line, epoch), or ``None``.
        distrusted: instruments whose tops are unreadable until a newer quote.
        keys: number of the quote in each top.
        quotes, trades: what must be handed over, in order.
    """

    lines: list[Connection]
    owners: list[tuple[int, int] | None] = field(default_factory=lambda: [None, None])
    keys: list[int] = field(default_factory=lambda: [0, 0])
    quotes: list[Item] = field(default_factory=list)
    trades: list[Item] = field(default_factory=list)
    distrusted: set[int] = field(default_factory=set)

    def twin(self, line: int, now: int, instrument: int) -> int | None:
        """Return another line that has missed nothing since the last byte of this one."""
        for number, other in enumerate(self.lines):
            is_well = other.is_open and other.is_alive and now - other.last <= LIMIT_NS
            is_in_time = other.is_covering and other.covers_from < self.lines[line].last
            is_whole = instrument not in other.missed
            if number != line and is_well and is_in_time and is_whole:
                return number
        return None

    def leave(self, line: int, now: int) -> None:
        for instrument, owner in enumerate(self.owners):
            twin = self.twin(line, now, instrument)
            if twin is not None and owner == (line, self.lines[line].epoch):
                self.owners[instrument] = (twin, self.lines[twin].epoch)

    def lose(self, line: int, now: int) -> None:
        connection = self.lines[line]
        self.leave(line, now)
        connection.is_open = connection.is_alive = connection.is_covering = False
        for instrument, owner in enumerate(self.owners):
            if owner and owner[0] == line:
                self.owners[instrument] = None

    def pass_time(self, now: int) -> None:
        for number, connection in enumerate(self.lines):
            if connection.is_open and connection.is_alive and now - connection.last > LIMIT_NS:
                connection.is_alive = False
                self.leave(number, now)

    def take(self, line: int, item: Item) -> None:
        if not item.is_quote:
            if item not in self.trades:
                self.trades.append(item)
            return
        self.lines[line].missed.discard(item.instrument)
        if self.owners[item.instrument] and item.number <= self.keys[item.instrument]:
            return
        self.owners[item.instrument] = (line, self.lines[line].epoch)
        self.keys[item.instrument] = item.number
        self.distrusted.discard(item.instrument)
        self.quotes.append(item)

    def garbled(self, line: int, instrument: int | None) -> None:
        missed = {0, 1} if instrument is None else {instrument}
        self.lines[line].missed |= missed
        for number in missed:
            owner = self.owners[number]
            if instrument is not None or (owner and owner[0] == line):
                self.distrusted.add(number)

    def is_readable(self, instrument: int) -> bool:
        owner = self.owners[instrument]
        is_trusted = instrument not in self.distrusted
        return bool(owner and self.lines[owner[0]].is_alive and is_trusted)


class Feed:
    """A venue, its connections, the lines that read them, and what came out of the engine."""

    def __init__(self, count: int) -> None:
        self.now = 1
        self.published: list[Item] = []
        self.engine = Engine(instruments_max=2, pairs_max=1, signals_max=64, lines_max=count)
        self.engine.add_venue("binance", venue("binance").layout, liveness_limit_s=LIMIT_NS / 1e9)
        for symbol in SYMBOLS:
            self.engine.add_instrument("binance", symbol, fee_bps=0.0)
        self.lines = [Line(self.engine, "binance", group=9) for _ in range(count)]
        self.model = Model([Connection() for _ in range(count)])
        self.quotes: list[Item] = []
        self.trades: list[Item] = []
        self.engine.on_quotes = lambda rows: self.quotes.extend(
            Item(True, int(row["instrument"]), int(row["seq"])) for row in rows
        )
        self.engine.on_trades = lambda rows: self.trades.extend(
            Item(False, int(row["instrument"]), int(row["trade_id"])) for row in rows
        )

    def publish(self, is_quote: bool, instrument: int) -> None:
        self.published.append(Item(is_quote, instrument, len(self.published) + 1))

    def open(self, line: int) -> None:
        connection = self.model.lines[line]
        if connection.is_open:
            self.model.lose(line, self.now)
        self.lines[line].open(self.now, self.now)
        connection.is_open = connection.is_alive = True
        connection.is_covering = False
        connection.last = self.now
        connection.start = connection.at = len(self.published)
        connection.epoch += 1
        connection.missed = set()

    def lose(self, line: int) -> None:
        if self.model.lines[line].is_open:
            self.model.lose(line, self.now)
            self.lines[line].lose(self.now, self.now)

    def cover(self, line: int) -> None:
        """Cover once nothing is on its way on others that was published before this was opened."""
        connection = self.model.lines[line]
        others = (c for c in self.model.lines if c is not connection and c.is_open)
        if connection.is_open and all(c.at >= connection.start for c in others):
            if not connection.is_covering:
                connection.is_covering, connection.covers_from = True, self.now
            self.lines[line].cover(self.now, self.now)

    def read(self, line: int, count: int) -> None:
        connection = self.model.lines[line]
        items = self.published[connection.at : connection.at + count]
        if not (connection.is_open and items):
            return
        self.model.pass_time(self.now)
        connection.at += len(items)
        connection.last, connection.is_alive = self.now, True
        for item in items:
            self.model.take(line, item)
        data = b"".join(encode_frame(1, item.text.encode()) for item in items)
        assert not self.lines[line].feed(data, self.now, self.now)

    def garble(self, line: int, is_known: bool) -> None:
        """Bring one message that cannot be read, with or without its instrument."""
        connection = self.model.lines[line]
        items = self.published[connection.at : connection.at + 1]
        if not (connection.is_open and items):
            return
        self.model.pass_time(self.now)
        connection.at += 1
        connection.last, connection.is_alive = self.now, True
        self.model.garbled(line, items[0].instrument if is_known else None)
        text = items[0].text[:-1] if is_known else "[" + items[0].text
        assert not self.lines[line].feed(encode_frame(1, text.encode()), self.now, self.now)

    def wait(self, ns: int) -> None:
        self.now += ns
        self.model.pass_time(self.now)
        self.engine.advance(self.now, self.now)

    def check(self) -> None:
        assert self.quotes == self.model.quotes
        assert self.trades == self.model.trades
        for instrument, owner in enumerate(self.model.owners):
            top = self.engine.top(instrument)
            is_readable = top.is_valid and top.is_live
            assert is_readable == self.model.is_readable(instrument)
            if is_readable:
                assert owner
                assert top.seq == self.model.keys[instrument] == top.bid
                self._check_truth(instrument, top.seq, self.model.lines[owner[0]])

    def _check_truth(self, instrument: int, key: int, owner: Connection) -> None:
        """What is readable is no older than what its line has brought, or will bring."""
        came = [i.number for i in self.published[: owner.at] if i[:2] == (True, instrument)]
        assert not came or key >= came[-1]


STEPS = st.one_of(
    st.tuples(st.just("publish"), st.booleans(), st.integers(0, 1)),
    st.tuples(st.just("publish"), st.just(True), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 6)),
    st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 6)),
    st.tuples(st.just("wait"), st.sampled_from([600, 950, 1_500])),
    st.tuples(st.just("garble"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("cover"), st.integers(0, 2)),
    st.tuples(st.just("open"), st.integers(0, 2)),
    st.tuples(st.just("lose"), st.integers(0, 2)),
)
JOINS_MAX = 8
"""So many openings and lost messages leave no more holes in the trades than are remembered."""


class TestAgainstTheModel:
    @settings(max_examples=300, deadline=None)
    @given(st.integers(2, 3), st.lists(STEPS, min_size=20, max_size=100))
    @example(
        2,
        [
            ("cover", 1),
            ("wait", 1),
            ("publish", True, 0),
            ("read", 0, 1),
            ("lose", 0),
            ("publish", True, 0),
            ("read", 1, 2),
        ],
    )
    def test_lines_that_are_cut_and_late(self, count: int, steps: list[Any]) -> None:
        feed = Feed(count)
        for line in range(count):
            feed.open(line)
        joins = count
        for name, *terms in steps:
            if name in ("read", "garble", "cover", "open", "lose"):
                terms[0] %= count
            feed.wait(1)
            joins += name in ("open", "garble")
            if name not in ("open", "garble") or joins <= JOINS_MAX:
                getattr(feed, name)(*terms)
            feed.check()
        for line in range(count):
            feed.read(line, len(feed.published))
        feed.check()
        assert len(set(feed.trades)) == len(feed.trades)
        assert sum(line.wins for line in feed.lines) == len(feed.quotes) + len(feed.trades)


# ------------------------------------------------------------------ by hand


class TestGroups:
    def test_a_line_is_alone_unless_told(self) -> None:
        feed = Feed(1)
        assert feed.lines[0].group == 9
        engine = Engine(lines_max=1)
        engine.add_venue("binance", venue("binance").layout)
        line = Line(engine, "binance")
        assert (line.group, line.wins, line.duplicates, line.gaps_filled) == (0, 0, 0, 0)
        assert line.margin_ns() == {"count": 0, "p50": 0, "p99": 0, "p99_9": 0, "max": 0}

    def test_four_lines_at_most(self) -> None:
        engine = Engine()
        engine.add_venue("binance", venue("binance").layout)
        for _ in range(4):
            Line(engine, "binance", group=1)
        with pytest.raises(UsageError, match="group 1 has 4 lines"):
            Line(engine, "binance", group=1)
        Line(engine, "binance", group=2)

    def test_all_of_one_venue(self) -> None:
        engine = Engine()
        engine.add_venue("binance", venue("binance").layout)
        engine.add_venue("okx", venue("okx").layout)
        Line(engine, "binance", group=1)
        with pytest.raises(UsageError, match="group 1 is of another venue than 'okx'"):
            Line(engine, "okx", group=1)

    @pytest.mark.parametrize("group", [-1, 65536, 1.5, "a"])
    def test_its_number_has_16_bits(self, group: Any) -> None:
        engine = Engine()
        engine.add_venue("binance", venue("binance").layout)
        with pytest.raises(UsageError, match=f"group must be .*, not {group!r}"):
            Line(engine, "binance", group=group)

    def test_a_venue_without_a_key_has_none(self) -> None:
        engine = Engine()
        engine.add_venue("nameless", Layout(()))
        with pytest.raises(UsageError, match="'nameless' can have no group"):
            Line(engine, "nameless", group=1)

    def test_an_impossible_key_is_refused(self) -> None:
        message = Message("x", Record.COUNTED, None, {})
        with pytest.raises(UsageError, match="merge_by is"):
            Engine().add_venue("x", Layout((message,), merge_by=(Slot.PRICE,)))

    def test_a_refused_line_takes_no_place(self) -> None:
        engine = Engine(lines_max=1)
        engine.add_venue("nameless", Layout(()))
        for _ in range(3):
            with pytest.raises(UsageError, match="no key"):
                Line(engine, "nameless", group=1)
        Line(engine, "nameless")

    def test_a_line_covers_while_it_is_open(self) -> None:
        feed = Feed(1)
        (line,) = feed.lines
        with pytest.raises(UsageError, match="covers between"):
            line.cover(1, 1)
        line.open(1, 1)
        assert not line.is_covering
        line.cover(1, 1)
        assert line.is_covering
        line.lose(2, 2)
        assert not line.is_covering
        with pytest.raises(UsageError, match="covers between"):
            line.cover(1, 1)

    def test_the_statistics_outlive_the_line(self) -> None:
        """The engine records the margin of a winner that may be gone by then."""
        feed = Feed(2)
        feed.open(0)
        feed.open(1)
        feed.publish(True, 0)
        feed.read(0, 1)
        del feed.lines[0]
        feed.lines[0].feed(encode_frame(1, feed.published[0].text.encode()), 2, 2)
        assert feed.lines[0].duplicates == 1


class TestMerging:
    def test_wins_duplicates_and_the_margin(self) -> None:
        feed = Feed(2)
        feed.open(0)
        feed.open(1)
        feed.publish(True, 0)
        feed.publish(False, 0)
        feed.read(0, 1)
        feed.wait(40)
        feed.read(1, 2)
        feed.read(0, 1)
        first, second = feed.lines
        assert (first.wins, first.duplicates) == (1, 1)
        assert (second.wins, second.duplicates) == (1, 1)
        assert first.margin_ns() == {"count": 1, "p50": 40, "p99": 40, "p99_9": 40, "max": 40}
        assert second.margin_ns()["count"] == 0
        assert first.gaps_filled == 1
        assert feed.engine.counts(0) == {"bookTicker": 2, "trade": 2}

    def test_okx_by_time_and_number(self) -> None:
        engine = Engine(instruments_max=1, pairs_max=0, signals_max=4, lines_max=2)
        engine.add_venue("okx", venue("okx").layout)
        engine.add_instrument("okx", OKX_SYMBOLS[0], fee_bps=0.0)
        lines = [Line(engine, "okx", group=1) for _ in range(2)]
        for line in lines:
            line.open(0, 0)

        def quote(line: int, ts: int, seq: int | None, bid: int) -> float:
            number = "" if seq is None else f',"seqId":{seq}'
            text = (
                f'{{"arg":{{"channel":"bbo-tbt","instId":"{OKX_SYMBOLS[0]}"}},"data":[{{'
                f'"asks":[["{bid + 1}","1"]],"bids":[["{bid}","1"]],"ts":"{ts}"{number}}}]}}'
            )
            lines[line].feed(encode_frame(1, text.encode()), 1, 1)
            return engine.top(0).bid

        assert quote(0, 1000, 50, 1) == 1
        assert quote(1, 1000, 50, 2) == 1
        assert quote(1, 1000, 51, 3) == 3
        assert quote(0, 1001, 2, 4) == 4  # set back by maintenance
        assert quote(1, 1000, 52, 5) == 4
        assert engine.top(0).is_valid
        quote(1, 1002, None, 6)
        assert not engine.top(0).is_valid
        assert [e.code for e in lines[1].message_errors()] == ["key-missing"]
        assert quote(0, 1003, 3, 7) == 7
        assert engine.top(0).is_valid

    def test_nothing_closes_while_a_twin_carries_it(self) -> None:
        feed = Feed(2)
        feed.engine.set_pairs([Pair(1, 0, 1)])
        events: list[tuple[int, int]] = []
        feed.engine.on_signals = lambda rows: events.extend(
            (int(row["event"]), int(row["close_reason"])) for row in rows
        )
        for line in range(2):
            feed.open(line)
            feed.cover(line)
        feed.wait(1)
        feed.publish(True, 0)
        feed.published.append(Item(True, 1, 9))
        feed.read(0, 2)
        assert events == [(SignalEvent.OPEN, 0)]
        feed.lose(0)
        feed.check()
        assert events == [(SignalEvent.OPEN, 0)]
        feed.lose(1)
        feed.check()
        assert events[1:] == [(SignalEvent.CLOSE, CloseReason.LOST)]

    @pytest.mark.parametrize("end", [b"\x81\x02\xff\xff", encode_frame(8, b"")])
    def test_a_connection_that_is_done_gives_away_what_it_carries(self, end: bytes) -> None:
        feed = Feed(2)
        for line in range(2):
            feed.open(line)
            feed.cover(line)
        feed.wait(1)
        feed.publish(True, 0)
        feed.read(0, 1)
        assert feed.lines[0].feed(end, feed.now, feed.now)
        assert not feed.lines[0].is_covering
        feed.lines[0].cover(feed.now, feed.now)
        assert not feed.lines[0].is_covering
        feed.lines[0].lose(feed.now, feed.now)
        assert feed.engine.top(0).is_valid
        feed.lines[1].lose(feed.now, feed.now)
        assert not feed.engine.top(0).is_valid
