"""The other libraries at the same work, each in the fastest form that we know.

A peer is imported only when it is used, so that the asv suites run without any of them. Every
function takes ready-made ``bytes`` of messages, one object each: cutting them out of frames, as
ours does, is not charged to a peer. ``Any`` is the type of everything they give.
"""

import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import common

ROW_DTYPE = np.dtype(
    [
        ("seq", "<u8"),
        ("bid", "<f8"),
        ("bid_qty", "<f8"),
        ("ask", "<f8"),
        ("ask_qty", "<f8"),
        ("instrument", "<u4"),
    ],
    align=True,
)
"""The row that a peer fills: fewer fields than ours, so as not to charge it more than it needs."""

ROWS = 1000

Job = Callable[[], object]


# ------------------------------------------------------------------ bookTicker to five variables


def _floats(loads: Callable[[bytes], Any], messages: Sequence[bytes]) -> Job:
    def run() -> None:
        for message in messages:
            quote = loads(message)
            _ = quote["s"]
            _ = float(quote["b"])
            _ = float(quote["B"])
            _ = float(quote["a"])
            _ = float(quote["A"])

    return run


def json_floats(messages: Sequence[bytes]) -> Job:
    """json.loads, then float() of the strings."""
    return _floats(json.loads, messages)


def orjson_floats(messages: Sequence[bytes]) -> Job:
    """orjson.loads, then float() of the strings."""
    import orjson

    return _floats(orjson.loads, messages)


def msgspec_typed(messages: Sequence[bytes]) -> Job:
    """A msgspec Struct whose strings are decoded as floats at once, then five attributes."""
    decode = _book_ticker_decoder()

    def run() -> None:
        for message in messages:
            quote = decode(message)
            _ = quote.s
            _ = quote.b
            _ = quote.B
            _ = quote.a
            _ = quote.A

    return run


def _book_ticker_decoder() -> Callable[[bytes], Any]:
    import msgspec

    class BookTicker(msgspec.Struct, gc=False):
        u: int
        s: str
        b: float
        B: float
        a: float
        A: float

    return msgspec.json.Decoder(BookTicker, strict=False).decode


# ------------------------------------------------------------------ bookTicker to numpy rows


def _ids() -> dict[str, int]:
    return {symbol: k for k, symbol in enumerate(common.SYMBOLS)}


def _float_rows(loads: Callable[[bytes], Any], messages: Sequence[bytes]) -> Job:
    rows, ids = np.zeros(ROWS, ROW_DTYPE), _ids()

    def run() -> None:
        i = 0
        for message in messages:
            q = loads(message)
            rows[i] = (
                q["u"],
                float(q["b"]),
                float(q["B"]),
                float(q["a"]),
                float(q["A"]),
                ids[q["s"]],
            )
            i += 1
            if i == ROWS:
                i = 0

    return run


def json_rows(messages: Sequence[bytes]) -> Job:
    """As json_floats, into a row."""
    return _float_rows(json.loads, messages)


def orjson_rows(messages: Sequence[bytes]) -> Job:
    """As orjson_floats, into a row."""
    import orjson

    return _float_rows(orjson.loads, messages)


def msgspec_rows(messages: Sequence[bytes]) -> Job:
    """As msgspec_typed, into a row."""
    decode, rows, ids = _book_ticker_decoder(), np.zeros(ROWS, ROW_DTYPE), _ids()

    def run() -> None:
        i = 0
        for message in messages:
            q = decode(message)
            rows[i] = (q.u, q.b, q.B, q.a, q.A, ids[q.s])
            i += 1
            if i == ROWS:
                i = 0

    return run


# ------------------------------------------------------------------ other messages, msgspec


def msgspec_combined(messages: Sequence[bytes]) -> Job:
    """The combined envelope as nested Structs, then the five attributes."""
    import msgspec

    class BookTicker(msgspec.Struct, gc=False):
        u: int
        s: str
        b: float
        B: float
        a: float
        A: float

    class Combined(msgspec.Struct, gc=False):
        data: BookTicker

    decode = msgspec.json.Decoder(Combined, strict=False).decode

    def run() -> None:
        for message in messages:
            quote = decode(message).data
            _ = quote.s
            _ = quote.b
            _ = quote.B
            _ = quote.a
            _ = quote.A

    return run


def msgspec_trade(messages: Sequence[bytes]) -> Job:
    """A trade as a Struct, then its symbol, id, price, size, time and side."""
    import msgspec

    class Trade(msgspec.Struct, gc=False):
        e: str
        s: str
        t: int
        p: float
        q: float
        T: int
        m: bool

    decode = msgspec.json.Decoder(Trade, strict=False).decode

    def run() -> None:
        for message in messages:
            trade = decode(message)
            _ = trade.s
            _ = trade.t
            _ = trade.p
            _ = trade.q
            _ = trade.T
            _ = trade.m

    return run


def msgspec_okx(messages: Sequence[bytes]) -> Job:
    """A bbo-tbt push as nested Structs, then symbol, prices, sizes, time and number."""
    import msgspec

    class Arg(msgspec.Struct, gc=False):
        channel: str
        instId: str  # noqa: N815 - the venue's key

    class Push(msgspec.Struct, gc=False):
        asks: list[tuple[float, float, str, str]]
        bids: list[tuple[float, float, str, str]]
        ts: int
        seqId: int  # noqa: N815 - the venue's key

    class Message(msgspec.Struct, gc=False):
        arg: Arg
        data: list[Push]

    decode = msgspec.json.Decoder(Message, strict=False).decode

    def run() -> None:
        for message in messages:
            got = decode(message)
            push = got.data[0]
            ask, bid = push.asks[0], push.bids[0]
            _ = got.arg.instId
            _ = bid[0]
            _ = bid[1]
            _ = ask[0]
            _ = ask[1]
            _ = push.ts
            _ = push.seqId

    return run


# ------------------------------------------------------------------ pipeline to signals


class _Symbol:
    """One symbol at all venues: net prices, sizes, and the best net prices."""

    __slots__ = (
        "ask_qtys",
        "asks",
        "best_ask",
        "best_ask_venue",
        "best_bid",
        "best_bid_venue",
        "bid_qtys",
        "bids",
        "open_routes",
    )

    def __init__(self, venues: int) -> None:
        self.bids = [float("-inf")] * venues
        self.asks = [float("inf")] * venues
        self.bid_qtys = [0.0] * venues
        self.ask_qtys = [0.0] * venues
        self.best_bid, self.best_bid_venue = float("-inf"), -1
        self.best_ask, self.best_ask_venue = float("inf"), -1
        self.open_routes: dict[tuple[int, int], tuple[float, float]] = {}


class MsgspecPipeline:
    """msgspec, tops net of fees in lists, and the same rules as ours for the same signals.

    Per symbol it keeps the best net bid and the best net ask, and looks for a new best only when
    the best one has become worse. Routes are looked at one by one only when the two cross or one
    of the symbol's routes is open: Python's form of the filter that ours has.

    Attributes:
        opens, updates, closes: signals since :meth:`begin`.
        signals: the signals as tuples.
    """

    def __init__(self, read_messages: int) -> None:
        self.reads = [(read.venue, read.messages) for read in common.market(read_messages)]
        self.decode = _book_ticker_decoder()
        self.factors = [(1.0 + fee * 1e-4, 1.0 - fee * 1e-4) for fee in common.FEE_BPS]
        self.begin()

    def begin(self) -> None:
        """Forget all quotes."""
        self.symbols = {symbol: _Symbol(len(common.VENUES)) for symbol in common.SYMBOLS}
        self.signals: list[tuple[Any, ...]] = []
        self.opens = self.updates = self.closes = 0

    def run(self) -> None:
        """Take every message of every read."""
        decode, symbols = self.decode, self.symbols
        filter_ = (1.0 + common.OPEN_NET_BPS * 1e-4) * (1.0 - 1e-9)
        for venue, messages in self.reads:
            cost_factor, yield_factor = self.factors[venue]
            for message in messages:
                quote = decode(message)
                state = symbols[quote.s]
                bid, ask = quote.b, quote.a
                if 0.0 < bid < ask:
                    bid *= yield_factor
                    ask *= cost_factor
                else:
                    bid, ask = float("-inf"), float("inf")
                state.bids[venue] = bid
                state.asks[venue] = ask
                state.bid_qtys[venue] = quote.B
                state.ask_qtys[venue] = quote.A
                if bid >= state.best_bid:
                    state.best_bid = bid
                    state.best_bid_venue = venue
                elif venue == state.best_bid_venue:
                    state.best_bid = max(state.bids)
                    state.best_bid_venue = state.bids.index(state.best_bid)
                if ask <= state.best_ask:
                    state.best_ask = ask
                    state.best_ask_venue = venue
                elif venue == state.best_ask_venue:
                    state.best_ask = min(state.asks)
                    state.best_ask_venue = state.asks.index(state.best_ask)
                if state.best_bid >= state.best_ask * filter_ or state.open_routes:
                    self._look(quote.s, state, venue)

    def _look(self, symbol: str, state: _Symbol, moved: int) -> None:
        open_routes = state.open_routes
        for other in range(len(state.bids)):
            if other == moved:
                continue
            for route in ((moved, other), (other, moved)):
                buy, sell = route
                net_bps = (state.bids[sell] / state.asks[buy] - 1.0) * 1e4
                qty = min(state.ask_qtys[buy], state.bid_qtys[sell])
                was = open_routes.get(route)
                if net_bps >= common.OPEN_NET_BPS:
                    if was is None:
                        self.opens += 1
                    elif was != (net_bps, qty):
                        self.updates += 1
                    else:
                        continue
                    open_routes[route] = (net_bps, qty)
                elif was is not None:
                    self.closes += 1
                    del open_routes[route]
                else:
                    continue
                self.signals.append((symbol, buy, sell, net_bps, qty))


# ------------------------------------------------------------------ permessage-deflate

TAIL = b"\x00\x00\xff\xff"
INFLATED_MAX = 1 << 20


def each(work: Callable[[bytes], object], messages: Sequence[bytes]) -> Job:
    """Call ``work`` with each message."""

    def run() -> None:
        for message in messages:
            work(message)

    return run


def zlib_kept(messages: Sequence[bytes]) -> Job:
    """One decompressobj for all messages, as websockets and wsproto use it."""
    unpack = zlib.decompressobj(-15).decompress

    def run() -> None:
        for message in messages:
            unpack(message + TAIL, INFLATED_MAX)

    return run


def zlib_anew(messages: Sequence[bytes]) -> Job:
    """A decompressobj for each message, as websockets and wsproto use it."""
    decompressobj = zlib.decompressobj

    def run() -> None:
        for message in messages:
            decompressobj(-15).decompress(message + TAIL, INFLATED_MAX)

    return run
