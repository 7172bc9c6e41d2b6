"""A slow oracle for best-bid/offer crosses, written from the rules; shares no code with crosswire.

Rule A1: net = bid * (1 - fee) / (ask * (1 + fee)) - 1, in exact fractions of the decimal texts.
Rule A5: a top is valid when it was quoted since its connection opened, both sides are there and it
is neither crossed nor locked. Where a venue's ids only rise, a quote whose id does not is dropped.
Rule A6: no signal uses a connection that has been silent for longer than the limit, which every
read looks for before what it brings; every byte received is life, and a connection that speaks
again is alive again.
Rule A10: open at the opening threshold or above, close below it once at the closing threshold or
below, update when edge or size changes; one opp_id per opportunity.
Rule A19: evaluate after every accepted quote, on no other occasion.
A connection ends with its capture.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "NO_RECORDINGS",
    "NO_SAMPLES",
    "SHARED",
    "Event",
    "Oracle",
    "Quote",
    "Read",
    "exact",
    "merged",
    "quote_of",
    "quotes_of",
    "read_capture",
]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Data too large to be part of the project, beside the clone; tests that need it are skipped."""
NO_RECORDINGS = (
    "LONG RECORDED SESSIONS NOT TESTED: they are not part of the project; the same claims are "
    "tested on the session in examples/data"
)
NO_SAMPLES = (
    "SAMPLE MESSAGES NOT TESTED: they are not part of the project; fields and errors are "
    "tested on messages that stand in the tests"
)
RISING = {"binance": True, "binance.usdm": True, "okx": False}
DOUBT = Fraction(1, 10**13)
"""An edge nearer to its threshold than this is not decided by doubles."""
FAR = 1e-9
"""An edge that doubles see further below its threshold than this needs no fractions."""


class Quote(NamedTuple):
    """One best bid and offer; an empty side is (0, 0)."""

    venue: str
    symbol: str
    seq: int
    ts_ms: int
    bid: Fraction
    bid_qty: Fraction
    ask: Fraction
    ask_qty: Fraction


class Read(NamedTuple):
    """One read of a connection: ``kind`` is ``open``, ``read`` or ``lost``."""

    ts: int
    venue: str
    kind: str
    quotes: tuple[Quote, ...] = ()


class Event(NamedTuple):
    """One signal as the rules want it; ``edge`` and ``qty`` are of OPEN and UPDATE only."""

    event: str
    ts: int
    ts_open: int
    opp_id: int
    rule_id: int
    buy: tuple[str, str]
    sell: tuple[str, str]
    reason: str
    edge: Fraction
    gross: Fraction
    qty: Fraction
    seqs: tuple[int, int]


def exact(text: str | int | float) -> Fraction:
    """Return the exact value of a decimal text, or of the shortest text of a float."""
    return Fraction(Decimal(str(text)))


# ------------------------------------------------------------------ messages


def _binance(venue: str, message: dict[str, Any]) -> Quote | None:
    message = message.get("data", message)
    is_quote = message.get("e") == "bookTicker" if venue.endswith("usdm") else "e" not in message
    if not is_quote or "b" not in message:
        return None
    sides = [exact(message[key]) for key in "bBaA"]
    return Quote(venue, message["s"], message["u"], message.get("T", 0), *sides)


def _okx(venue: str, message: dict[str, Any]) -> list[Quote]:
    if "event" in message or message["arg"]["channel"] != "bbo-tbt":
        return []
    symbol = message["arg"]["instId"]
    found = []
    for item in message["data"]:
        sides: list[Fraction] = []
        for levels in (item["bids"], item["asks"]):
            sides += [exact(text) for text in levels[0][:2]] if levels else [Fraction(0)] * 2
        found.append(Quote(venue, symbol, item.get("seqId", 0), int(item["ts"]), *sides))
    return found


def quotes_of(venue: str, text: str) -> tuple[Quote, ...]:
    """Return the best bids and offers in a message of the venue."""
    message = json.loads(text)
    if venue == "okx":
        return tuple(_okx(venue, message))
    quote = _binance(venue, message)
    return (quote,) if quote else ()


def quote_of(venue: str, text: str) -> Quote:
    """Return the only best bid and offer in a message."""
    (quote,) = quotes_of(venue, text)
    return quote


def read_capture(path: Path, venue: str) -> Iterator[Read]:
    """Yield opening, every server frame and end of a capture in the JSON-lines form."""
    ts = None
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["dir"] != "recv":
                continue
            if ts is None:
                yield Read(int(row["ts_ns"]), venue, "open")
            ts = int(row["ts_ns"])
            yield Read(ts, venue, "read", quotes_of(venue, row["raw"]))
    assert ts is not None, "an empty capture"
    yield Read(ts, venue, "lost")


def merged(*streams: Iterable[Read]) -> list[Read]:
    """Return all reads in the order of their stamps; equal stamps in the order of the arguments."""
    numbered = [
        (read.ts, stream, number, read)
        for stream, reads in enumerate(streams)
        for number, read in enumerate(reads)
    ]
    return [read for _, _, _, read in sorted(numbered, key=lambda item: item[:3])]


# ------------------------------------------------------------------ the rules


@dataclass
class _Connection:
    last: int = 0
    is_open: bool = False
    is_alive: bool = False


@dataclass
class _Route:
    rule_id: int
    buy: tuple[str, str]
    sell: tuple[str, str]
    factor: float
    opp_id: int = 0
    ts_open: int = 0
    edge: Fraction = Fraction(0)
    qty: Fraction = Fraction(0)


@dataclass
class Oracle:
    """All routes over reads in one total order.

    Attributes:
        pairs: two instruments, (venue, symbol) each, in the order of their rule ids from 1.
        fees_bps: taker fee per venue.
        open_bps, close_bps: thresholds in basis points.
        limit_ns: longest silence of a connection that is alive, per venue.
        doubts: decisions nearer to their threshold than doubles can tell.
    """

    pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]]
    fees_bps: Mapping[str, float]
    open_bps: float = 0.0
    close_bps: float | None = None
    limit_ns: Mapping[str, int] | int = 5_000_000_000
    qty_max: Fraction | None = None
    events: list[Event] = field(default_factory=list)
    doubts: int = 0
    opps: int = 0

    def __post_init__(self) -> None:
        close_bps = self.open_bps if self.close_bps is None else self.close_bps
        self._opens = exact(self.open_bps) / 10_000
        self._closes = exact(close_bps) / 10_000
        self._fees = {name: exact(bps) / 10_000 for name, bps in self.fees_bps.items()}
        self._lines = {name: _Connection() for name in self.fees_bps}
        self._tops: dict[tuple[str, str], Quote | None] = {}
        self._seqs: dict[tuple[str, str], int] = {}
        self._routes: list[_Route] = []
        for rule_id, (a, b) in enumerate(self.pairs, 1):
            self._routes += [self._route(rule_id, a, b), self._route(rule_id, b, a)]

    def _route(self, rule_id: int, buy: tuple[str, str], sell: tuple[str, str]) -> _Route:
        factor = (1 - self._fees[sell[0]]) / (1 + self._fees[buy[0]])
        return _Route(rule_id, buy, sell, float(factor))

    def run(self, reads: Iterable[Read]) -> list[Event]:
        """Return what the rules want to be signalled."""
        for read in reads:
            if read.kind == "lost":
                self._end(read.venue, read.ts, "lost")
                self._lines[read.venue] = _Connection()
            elif read.kind == "open":
                self._end(read.venue, read.ts, "lost")
                self._lines[read.venue] = _Connection(read.ts, True, True)
                for key in [key for key in self._tops if key[0] == read.venue]:
                    del self._tops[key]
                self._seqs = {k: v for k, v in self._seqs.items() if k[0] != read.venue}
            else:
                self._pass_time(read.ts)
                self._lines[read.venue] = _Connection(read.ts, True, True)
                for quote in read.quotes:
                    self._take(quote, read.ts)
        return self.events

    def _limit(self, venue: str) -> int:
        return self.limit_ns if isinstance(self.limit_ns, int) else self.limit_ns[venue]

    def _pass_time(self, now: int) -> None:
        for venue, line in self._lines.items():
            if line.is_alive and now - line.last > self._limit(venue):
                line.is_alive = False
                self._end(venue, now, "liveness")

    def _end(self, venue: str, now: int, reason: str) -> None:
        for route in self._routes:
            if route.opp_id and venue in (route.buy[0], route.sell[0]):
                self._close(route, now, reason)

    def _take(self, quote: Quote, now: int) -> None:
        key = (quote.venue, quote.symbol)
        if RISING[quote.venue] and key in self._seqs and quote.seq <= self._seqs[key]:
            return
        self._seqs[key] = quote.seq
        is_whole = min(quote.bid, quote.bid_qty, quote.ask, quote.ask_qty) > 0
        self._tops[key] = quote if is_whole and quote.bid < quote.ask else None
        for route in self._routes:
            if key in (route.buy, route.sell):
                self._evaluate(route, key, now)

    def _evaluate(self, route: _Route, moved: tuple[str, str], now: int) -> None:
        buy, sell = self._tops.get(route.buy), self._tops.get(route.sell)
        is_live = self._lines[route.buy[0]].is_alive and self._lines[route.sell[0]].is_alive
        if not (buy and sell and is_live):
            if route.opp_id:
                self._close(route, now, "gate")
            return
        rough = float(sell.bid) / float(buy.ask) * route.factor - 1
        if not route.opp_id and rough < float(self._opens) - FAR:
            return
        cost = buy.ask * (1 + self._fees[buy.venue])
        gain = sell.bid * (1 - self._fees[sell.venue])
        edge = gain / cost - 1
        self.doubts += self._is_doubtful(edge)
        qty = min(buy.ask_qty, sell.bid_qty)
        if self.qty_max is not None:
            qty = min(qty, self.qty_max)
        if route.opp_id and edge < self._opens and edge <= self._closes:
            self._close(route, now, "buy" if moved == route.buy else "sell")
            return
        is_new = not route.opp_id
        if is_new and edge < self._opens:
            return
        if is_new:
            self.opps += 1
            route.opp_id, route.ts_open = self.opps, now
        elif (edge, qty) == (route.edge, route.qty):
            return
        route.edge, route.qty = edge, qty
        gross = sell.bid / buy.ask - 1
        event = "OPEN" if is_new else "UPDATE"
        self._emit(event, route, now, "", (edge, gross, qty), (buy.seq, sell.seq))

    def _is_doubtful(self, edge: Fraction) -> bool:
        nearest = min(abs(edge - self._opens), abs(edge - self._closes))
        return 0 < nearest < DOUBT or (nearest == 0 and any(self._fees.values()))

    def _close(self, route: _Route, now: int, reason: str) -> None:
        self._emit("CLOSE", route, now, reason, (Fraction(0),) * 3, (0, 0))
        route.opp_id = 0

    def _emit(
        self,
        event: str,
        route: _Route,
        now: int,
        reason: str,
        terms: tuple[Fraction, Fraction, Fraction],
        seqs: tuple[int, int],
    ) -> None:
        head = (event, now, route.ts_open, route.opp_id, route.rule_id, route.buy, route.sell)
        self.events.append(Event(*head, reason, *terms, seqs))
