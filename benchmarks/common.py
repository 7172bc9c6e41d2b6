"""What all benchmarks share: fixed inputs, engines to feed them to, the measuring, the machine.

Inputs are made from a seed with ``random.Random.random()`` alone, whose sequence Python keeps
from version to version. They are appended to, never changed: an old figure must stay comparable.

==============  ================================================================================
book_tickers    10,000 Binance bookTicker messages, about 105 bytes: 64 symbols drawn with Zipf
                weights (the k-th has 1/k), prices that walk at random by whole ticks, prices and
                sizes as strings of 8 decimals
combined        the same inside ``{"stream":..,"data":..}``, about 144 bytes
trades          10,000 Binance trade messages over the same symbols, about 134 bytes
okx_bbo         10,000 OKX bbo-tbt messages over the same symbols, about 179 bytes
market          20,000 bookTickers of 8 venues that quote the same 64 symbols around one price
                each, in reads of 64 messages or one; about one message in 100 makes a signal
==============  ================================================================================
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import itertools
import math
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from crosswire.codec import encode_frame
from crosswire.engine import Engine
from crosswire.instruments import Pair
from crosswire.line import Line
from crosswire.venue import Layout
from crosswire.venues import venue

SEED = 20261122
MESSAGES = 10_000
TEXT = 1  # opcode

_BASES_TEXT = """
    BTC ETH SOL XRP BNB DOGE ADA TRX LINK AVAX SUI LTC DOT UNI APT NEAR ICP ETC ATOM FIL
    ARB OP INJ STX IMX GRT AAVE MKR LDO RUNE FTM ALGO VET HBAR QNT EGLD SAND MANA AXS
    THETA XTZ EOS FLOW CHZ CRV SNX COMP ZEC DASH KAVA 1INCH ENJ BAT ZIL WAVES IOTA NEO
    QTUM ONT RVN ANKR CELO SKL PEPE
"""
_BASES = _BASES_TEXT.split()
SYMBOLS = tuple(f"{base}USDT" for base in _BASES)
OKX_SYMBOLS = tuple(f"{base}-USDT" for base in _BASES)


# ------------------------------------------------------------------ inputs


class _Market:
    """Prices of 64 symbols that walk by whole ticks; everything in units of 1e-8."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random
        weights = list(itertools.accumulate(1 / (k + 1) for k in range(len(SYMBOLS))))
        self.weights = [weight / weights[-1] for weight in weights]
        self.price, self.tick = [], []
        for k in range(len(SYMBOLS)):
            price = 60_000.0 / (k + 1) ** 2.6 * (0.5 + self.random())
            tick = 10 ** max(0, math.floor(math.log10(price)) - 4 + 8)
            self.tick.append(tick)
            self.price.append(round(price * 1e8) // tick * tick)

    def symbol(self) -> int:
        at = self.random()
        return next(k for k, weight in enumerate(self.weights) if at <= weight or k == 63)

    def whole(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return low + int(self.random() * (high - low + 1))

    def walk(self, k: int) -> int:
        self.price[k] = max(100 * self.tick[k], self.price[k] + self.whole(-3, 3) * self.tick[k])
        return self.price[k]

    def size(self) -> int:
        """Between 0.001 and 10,000, most of them small, in steps of 0.00001."""
        return round(10 ** (self.random() * 7 - 3) * 1e5) * 1000


def _fixed(value: int) -> str:
    """Units of 1e-8 as text with 8 decimals."""
    return f"{value // 100_000_000}.{value % 100_000_000:08d}"


def _short(value: int) -> str:
    """Units of 1e-8 as text without trailing zeros."""
    return _fixed(value).rstrip("0").rstrip(".")


@functools.cache
def book_tickers() -> tuple[bytes, ...]:
    """Return bookTicker messages of Binance's spot stream."""
    market = _Market(SEED)
    update = 50_093_239_212
    found = []
    for _ in range(MESSAGES):
        k = market.symbol()
        update += market.whole(1, 40)
        bid = market.walk(k)
        ask = bid + market.whole(1, 3) * market.tick[k]
        found.append(
            f'{{"u":{update},"s":"{SYMBOLS[k]}","b":"{_fixed(bid)}","B":"{_fixed(market.size())}",'
            f'"a":"{_fixed(ask)}","A":"{_fixed(market.size())}"}}'.encode()
        )
    return tuple(found)


@functools.cache
def combined() -> tuple[bytes, ...]:
    """Return the book_tickers in the envelope of a combined stream."""
    found = []
    for message in book_tickers():
        symbol = message.split(b'"')[5].lower()
        found.append(b'{"stream":"%s@bookTicker","data":%s}' % (symbol, message))
    return tuple(found)


@functools.cache
def trades() -> tuple[bytes, ...]:
    """Return trade messages of Binance's spot stream."""
    market = _Market(SEED + 1)
    number, now = 3_735_683_259, 1_786_538_760_000
    found = []
    for _ in range(MESSAGES):
        k = market.symbol()
        number += market.whole(1, 9)
        now += market.whole(0, 7)
        maker = "true" if market.whole(0, 1) else "false"
        found.append(
            f'{{"e":"trade","E":{now + market.whole(0, 2)},"s":"{SYMBOLS[k]}","t":{number},'
            f'"p":"{_fixed(market.walk(k))}","q":"{_fixed(market.size())}","T":{now},'
            f'"m":{maker},"M":true}}'.encode()
        )
    return tuple(found)


@functools.cache
def okx_bbo() -> tuple[bytes, ...]:
    """Return bbo-tbt pushes of OKX."""
    market = _Market(SEED + 2)
    seq, now = 79_706_765_242, 1_786_538_760_000
    found = []
    for _ in range(MESSAGES):
        k = market.symbol()
        seq += market.whole(1, 40)
        now += market.whole(0, 7)
        bid = market.walk(k)
        ask = bid + market.whole(1, 3) * market.tick[k]
        levels = [
            f'[["{_short(price)}","{_short(market.size())}","0","{market.whole(1, 30)}"]]'
            for price in (ask, bid)
        ]
        found.append(
            f'{{"arg":{{"channel":"bbo-tbt","instId":"{OKX_SYMBOLS[k]}"}},"data":[{{'
            f'"asks":{levels[0]},"bids":{levels[1]},"ts":"{now}","seqId":{seq}}}]}}'.encode()
        )
    return tuple(found)


VENUES = tuple(f"venue{i}" for i in range(8))
FEE_BPS = (1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 1.0, 2.0)  # per side, of each venue
OPEN_NET_BPS = 0.5
NOISE_BPS = {64: 0.6, 1: 0.9}  # standard deviation, by messages of a read


class Read(NamedTuple):
    """What one read of one venue's connection brings."""

    venue: int
    messages: tuple[bytes, ...]


@functools.cache
def market(read_messages: int, count: int = 20_000) -> tuple[Read, ...]:
    """Return reads of ``read_messages`` bookTickers each, the venues taking turns at random.

    Every quote of a symbol stands at the symbol's walking price times (1 + noise), 1 bp wide; the
    noise is larger where reads are single messages, because quotes are less out of date there.
    """
    noise_bps = NOISE_BPS[read_messages]
    source = _Market(SEED + 3)
    mids = [0.5 + 60_000.0 / (k + 1) ** 2 for k in range(len(SYMBOLS))]
    update = 50_093_239_212
    found = []
    for _ in range(count // read_messages):
        at = source.whole(0, len(VENUES) - 1)
        messages = []
        for _ in range(read_messages):
            k = source.symbol()
            update += 1
            mids[k] *= 1 + (source.random() - 0.5) * 0.4e-4
            noise = (sum(source.random() for _ in range(12)) - 6) * noise_bps
            bid = round(mids[k] * (1 + (noise - 0.5) * 1e-4) * 1e8)
            ask = round(mids[k] * (1 + (noise + 0.5) * 1e-4) * 1e8)
            messages.append(
                f'{{"u":{update},"s":"{SYMBOLS[k]}","b":"{_fixed(bid)}",'
                f'"B":"{_fixed(source.size())}","a":"{_fixed(ask)}",'
                f'"A":"{_fixed(source.size())}"}}'.encode()
            )
        found.append(Read(at, tuple(messages)))
    return tuple(found)


def frames(messages: Sequence[bytes]) -> bytes:
    """Return the messages as text frames of a server, end to end."""
    return b"".join(encode_frame(TEXT, message) for message in messages)


def chunks(messages: Sequence[bytes], count: int = 1000) -> list[bytes]:
    """Return the messages as frames, ``count`` to a chunk."""
    return [frames(messages[i : i + count]) for i in range(0, len(messages), count)]


# ------------------------------------------------------------------ engines to feed


def quotes_line(
    name: str,
    symbols: Sequence[str],
    isa: str | None = None,
    *,
    layout: Layout | None = None,
    read_size: int = 16384,
) -> tuple[Engine, Line]:
    """Return an engine without pairs that knows ``symbols``, and an open line of venue ``name``.

    Numbers of quotes may fall from one message to the next here, because inputs are fed again and
    again; so that every quote is applied all the same, the rising-number rule is switched off.
    """
    engine = Engine(isa=isa)
    layout = dataclasses.replace(layout or venue(name).layout, seq_is_rising=False)
    engine.add_venue(name, layout)
    for symbol in symbols:
        engine.add_instrument(name, symbol, fee_bps=1.0)
    line = Line(engine, name, read_size=read_size)
    line.open(1, 1)
    return engine, line


class MarketEngine:
    """The engine for :func:`market`: 8 venues, and every pair of venues on each symbol.

    Attributes:
        engine: counts of signals and opens are read from it.
        reads: (line, frames of one read).
        by_symbol: per symbol, its instrument at each venue.
    """

    def __init__(self, read_messages: int, isa: str | None = None, **engine: Any) -> None:
        self.engine = Engine(isa=isa, **engine)
        # a common layout for all: what is compared is the pipeline, not the dialects
        layout = venue("binance").layout
        instruments: list[list[int]] = []
        self.lines = []
        for name, fee_bps in zip(VENUES, FEE_BPS, strict=True):
            self.engine.add_venue(name, layout)
            instruments.append(
                [self.engine.add_instrument(name, s, fee_bps=fee_bps) for s in SYMBOLS]
            )
            self.lines.append(Line(self.engine, name))
        self.by_symbol = list(zip(*instruments, strict=True))
        legs = [
            legs
            for instruments in self.by_symbol
            for legs in itertools.combinations(instruments, 2)
        ]
        self.engine.set_pairs(
            [Pair(i, a, b, open_net_bps=OPEN_NET_BPS) for i, (a, b) in enumerate(legs)]
        )
        self.reads = [(self.lines[r.venue], frames(r.messages)) for r in market(read_messages)]
        self.messages = sum(len(r.messages) for r in market(read_messages))

    def begin(self) -> None:
        """Forget all quotes: every connection is lost, then opened anew."""
        for line in self.lines:
            line.lose(1, 1)
        for line in self.lines:
            line.open(1, 1)

    def run(self) -> None:
        """Feed every read."""
        for line, data in self.reads:
            line.feed(data, 1, 1)


# ------------------------------------------------------------------ measuring


class Side(NamedTuple):
    """One of two things compared: ``run`` is timed, ``prepare`` goes before it untimed."""

    run: Callable[[], object]
    prepare: Callable[[], object] | None = None


class Sample(NamedTuple):
    """Thread CPU time per message of ours and of the peer in windows that stood side by side."""

    ours_ns: list[float]
    peer_ns: list[float]


class Ratio(NamedTuple):
    """Median of peer/ours over the windows, with its bootstrap 95 % interval."""

    ratio: float
    low: float
    high: float


def _window(side: Side, repeat: int) -> int:
    if side.prepare is not None:
        side.prepare()
    run = side.run
    if repeat == 1:
        began = time.thread_time_ns()
        run()
        return time.thread_time_ns() - began
    began = time.thread_time_ns()
    for _ in range(repeat):
        run()
    return time.thread_time_ns() - began


def interleave(
    ours: Side, peer: Side, messages: int, *, windows: int, repeat: tuple[int, int] = (1, 1)
) -> Sample:
    """Time ours and the peer in turns, the one and the other first by turns.

    Args:
        messages: messages that one ``run`` of either handles.
        windows: windows of each; two more of each go before, to warm up.
        repeat: runs per window of ours and of the peer.

    The garbage collector is off meanwhile, which spares a peer that makes objects.
    """
    sample = Sample([], [])
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for i in range(-2, windows):
            times = {}
            for k in (0, 1) if i % 2 else (1, 0):
                times[k] = _window((ours, peer)[k], repeat[k]) / (messages * repeat[k])
            if i >= 0:
                sample.ours_ns.append(times[0])
                sample.peer_ns.append(times[1])
    finally:
        if was_enabled:
            gc.enable()
    return sample


def ratio_of(sample: Sample, resamples: int = 2000, *, of_medians: bool = False) -> Ratio:
    """Return the median ratio of neighbouring windows and its interval; the seed is fixed.

    Args:
        of_medians: the ratio of the two medians in its place, for samples that are differences: of
            those a single one may be next to nothing, and its ratio anything.
    """
    ours, peer = np.array(sample.ours_ns), np.array(sample.peer_ns)
    drawn = np.random.default_rng(SEED).integers(len(ours), size=(resamples, len(ours)))
    if of_medians:
        found = np.median(peer) / np.median(ours)
        medians = np.median(peer[drawn], axis=1) / np.median(ours[drawn], axis=1)
    else:
        found = np.median(peer / ours)
        medians = np.median((peer / ours)[drawn], axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return Ratio(float(found), float(low), float(high))


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


# ------------------------------------------------------------------ the machine


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, kernel, Python, load."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load_1m": round(os.getloadavg()[0], 2),
    }


def best_isa() -> str:
    """Return the level that engines take unless told: the best, or what CROSSWIRE_ISA says."""
    return str(Engine(instruments_max=1, pairs_max=1, lines_max=1, signals_max=2).isa)
