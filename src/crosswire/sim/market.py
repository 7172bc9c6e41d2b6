"""The simulated markets: correlated walks with the plan's dislocations put in, sans I/O.

Strategy: every (venue, symbol) is a stream with its own quoting times. All streams of a symbol
follow one common mid with a small offset of their own, so that no pair of venues comes near the
threshold by itself. A plant moves one stream's whole quote, perhaps down and up again while it
stands; meanwhile the symbol's other prices are held and only its sizes vary. Prices are whole ticks
of 0.01 bps or less.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from ..venue import Dialect, SimQuote, SimTrade
from ..venues import dialect, venue
from .plan import (
    FROZEN_LEG,
    LEAD_S,
    NET_NEGATIVE,
    TAIL_S,
    Freeze,
    Plan,
    Plant,
    Scenario,
    make_plan,
    random_source,
)

__all__ = ["Event", "frame_of", "generate", "net_bps", "text_frame", "text_of"]

VOLATILITY = 1.5e-4
"""Standard deviation of a mid's relative move over a second."""
OFFSET_SPREAD = 0.4e-4
OFFSET_MAX = 0.8e-4
OFFSET_PULL = 0.01
HALF_SPREAD = (0.05e-4, 0.3e-4)
NOTIONAL = 50_000.0
TRADE_SHARE = 0.1
EDGE_MIN_BPS = 0.05
RAMP_S = 0.06
RAMP_STEP_BPS = 1.5
MIDS = {"BTC": 61_800.0, "ETH": 2_640.0, "SOL": 148.0, "XRP": 0.61}
MID_DEFAULT = 25.0


def text_frame(text: str) -> bytes:
    """Return an unmasked, final WebSocket text frame; ``text`` is ASCII below 64 KiB."""
    payload = text.encode("ascii")
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    return bytes((0x81, 126, size >> 8, size & 255)) + payload


def text_of(frame: bytes) -> memoryview:
    """Return the text in a frame of :func:`text_frame`."""
    return memoryview(frame)[2 if frame[1] < 126 else 4 :]


def frame_of(spoken: Dialect, native: str, message: SimQuote | SimTrade, stamp: int) -> bytes:
    """Return the frame of one message that is sent at ``stamp``, UTC ns.

    The stamp becomes a quote's ``seq``, and in ms the time of either.
    """
    ts_ms = stamp // 1_000_000
    if isinstance(message, SimQuote):
        bid, bid_qty, ask, ask_qty, _, _ = message
        quote = SimQuote(bid, bid_qty, ask, ask_qty, stamp, ts_ms)
        return text_frame(spoken.quote(native, quote))
    return text_frame(spoken.trade(native, message._replace(ts_ms=ts_ms)))


class Event(NamedTuple):
    """Something that a venue does, ``t_ns`` after the start.

    Attributes:
        kind: ``send``, ``freeze``, ``thaw``, ``cut`` or ``refuse``.
        symbol: the venue's spelling, for ``send``.
        message: for ``send``; its ``seq``, or ``ts_ms``, is 0 and set by the sender.
        plant: id of the plant or bait whose leg this quote moves (its first) or takes back (its
            second).
        times: how many connects to refuse.
    """

    kind: str
    t_ns: int
    venue: str
    symbol: str = ""
    message: SimQuote | SimTrade | None = None
    plant: int | None = None
    times: int = 0


def net_bps(ask_buy: float, bid_sell: float, fee_buy_bps: float, fee_sell_bps: float) -> float:
    """Return the net edge of buying at ``ask_buy`` and selling at ``bid_sell``, in bps."""
    paid = ask_buy * (1 + fee_buy_bps / 1e4)
    return 1e4 * (bid_sell * (1 - fee_sell_bps / 1e4) / paid - 1)


class _Stream:
    """One venue's quotes of one symbol; prices in ticks."""

    def __init__(self, scenario: Scenario, name: str, symbol: str, rng: random.Random) -> None:
        self.venue = name
        self.symbol = symbol
        self.native = venue(name).native(symbol)
        self.fee_bps = scenario.fees_bps[name]
        self.offset = rng.gauss(0, OFFSET_SPREAD / 2)
        self.trade_id = rng.randrange(10**8, 10**9)
        spoken = dialect(name)
        self._decimal = spoken.decimal
        mid = MIDS.get(symbol.partition("/")[0], MID_DEFAULT)
        self._digits = max(0, 6 - math.floor(math.log10(mid)))
        self._scale = 10.0**self._digits
        self._qty_digits = spoken.qty_digits
        self._qty_scale = NOTIONAL / mid * 10**spoken.qty_digits
        self._spread = max(1, round(2 * rng.uniform(*HALF_SPREAD) * mid * self._scale))
        self._bid_qty = 0
        self.bid = self.ask = 0
        self.bid_text = self.ask_text = ""

    def put(self, bid: int, ask: int) -> None:
        """Set the prices in force."""
        if bid != self.bid or ask != self.ask:
            self.bid, self.ask = bid, ask
            self.bid_text = self._decimal(bid, self._digits)
            self.ask_text = self._decimal(ask, self._digits)

    def follow(self, mid: float, rng: random.Random) -> None:
        """Quote around the common mid, at a venue offset that reverts to nothing."""
        step = rng.gauss(0, OFFSET_SPREAD * math.sqrt(2 * OFFSET_PULL))
        self.offset += step - OFFSET_PULL * self.offset
        self.offset = min(OFFSET_MAX, max(-OFFSET_MAX, self.offset))
        bid = round(mid * (1 + self.offset) * self._scale - self._spread / 2)
        self.put(bid, bid + self._spread)

    def qty(self, rng: random.Random) -> str:
        """Return a random size."""
        units = int((0.1 + rng.random()) * self._qty_scale) + 1
        return self._decimal(units, self._qty_digits)

    def quote(self, rng: random.Random) -> SimQuote:
        """Return the prices in force with new sizes; the bid's differs from the last one."""
        units = int((0.1 + rng.random()) * self._qty_scale) + 1
        units += units == self._bid_qty
        self._bid_qty = units
        bid_qty = self._decimal(units, self._qty_digits)
        return SimQuote(self.bid_text, bid_qty, self.ask_text, self.qty(rng), 0, 0)


class _Market:
    """The state of all streams, and what the plan does to it."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = random_source(scenario.seed, "market")
        self.mids = {
            symbol: MIDS.get(symbol.partition("/")[0], MID_DEFAULT) * self.rng.uniform(0.97, 1.03)
            for symbol in scenario.symbols
        }
        self.streams = {
            (name, symbol): _Stream(scenario, name, symbol, self.rng)
            for symbol in scenario.symbols
            for name in scenario.venues
        }
        self.held = dict.fromkeys(scenario.symbols, 0)
        self.frozen: set[str] = set()
        self.homes: dict[int, dict[str, tuple[int, int]]] = {}
        self.edges: dict[int, float] = {}
        self.leans: dict[int, float] = {}
        self._step = VOLATILITY / math.sqrt(scenario.rate / len(scenario.symbols))
        for stream in self.streams.values():
            stream.follow(self.mids[stream.symbol], self.rng)

    def quote(self, stream: _Stream, t: int) -> Iterator[Event]:
        """Quote a stream at its regular time, perhaps with a trade."""
        if stream.venue in self.frozen:
            return
        if not self.held[stream.symbol]:
            self.mids[stream.symbol] *= 1 + self.rng.gauss(0, self._step)
            stream.follow(self.mids[stream.symbol], self.rng)
        yield self._send(stream, t)
        if self.rng.random() < TRADE_SHARE:
            side = 1 if self.rng.random() < 0.5 else -1
            price = stream.ask_text if side > 0 else stream.bid_text
            stream.trade_id += 1
            trade = SimTrade(price, stream.qty(self.rng), side, stream.trade_id, 0)
            yield Event("send", t, stream.venue, stream.native, trade)

    def _send(self, stream: _Stream, t: int, plant: int | None = None) -> Event:
        return Event("send", t, stream.venue, stream.native, stream.quote(self.rng), plant)

    # -------------------------------------------------------------- what the plan does

    def hold(self, symbols: tuple[str, ...], t: int) -> Iterator[Event]:
        """Let the prices of these symbols stand still."""
        del t
        for symbol in symbols:
            self.held[symbol] += 1
        return iter(())

    def release(self, symbols: tuple[str, ...], t: int) -> Iterator[Event]:
        """Let them walk again."""
        del t
        for symbol in symbols:
            self.held[symbol] -= 1
        return iter(())

    def open(self, plant: Plant, t: int) -> Iterator[Event]:
        """Send a plant's moved quote."""
        leg = self.streams[plant.leg, plant.symbol]
        self.homes[plant.id] = {plant.leg: (leg.bid, leg.ask)}
        self.edges[plant.id] = (
            -self._bait_edge(plant) if plant.kind == NET_NEGATIVE else _plant_edge(plant)
        )
        self._put_at(leg, plant, self.edges[plant.id])
        plant.net_bps = self._net(plant.buy, plant.sell, plant.symbol)
        yield self._send(leg, t, plant.id)

    def dip(self, plant: Plant, t: int) -> Iterator[Event]:
        """Let a plant's edge sink below the threshold."""
        leg = self.streams[plant.leg, plant.symbol]
        self._put_at(leg, plant, -plant.dip_bps)
        yield self._send(leg, t)

    def rise(self, plant: Plant, t: int) -> Iterator[Event]:
        """Let it be again what it was at the opening."""
        leg = self.streams[plant.leg, plant.symbol]
        self._put_at(leg, plant, self.edges[plant.id])
        yield self._send(leg, t)

    def close(self, plant: Plant, t: int) -> Iterator[Event]:
        """Take the moved quote back."""
        leg = self.streams[plant.leg, plant.symbol]
        leg.put(*self.homes.pop(plant.id)[plant.leg])
        del self.edges[plant.id]
        yield self._send(leg, t, plant.id)

    def lean(self, freeze: Freeze, share: float, is_mark: bool, t: int) -> Iterator[Event]:
        """Move every live venue's quote of the bait's symbol by ``share`` of its dislocation.

        They move together, so that they cross the frozen venue's price and not each other.
        """
        bait = freeze.bait
        live = [name for name in self.scenario.venues if name not in self.frozen]
        live.sort(key=lambda name: name == bait.leg)
        if bait.id not in self.homes:
            streams = [self.streams[name, bait.symbol] for name in live]
            self.homes[bait.id] = {s.venue: (s.bid, s.ask) for s in streams}
            self.leans[bait.id] = self._full_lean(bait)
        home = self.homes[bait.id]
        factor = 1 + self.leans[bait.id] * share
        for name in live:
            stream = self.streams[name, bait.symbol]
            bid, ask = home[name]
            moved = round(bid * factor)
            stream.put(moved, moved + ask - bid)
            is_marked = is_mark and name == bait.leg
            yield self._send(stream, t, bait.id if is_marked else None)

    def freeze(self, freeze: Freeze, t: int) -> Iterator[Event]:
        """Let a venue fall silent."""
        self.frozen.add(freeze.venue)
        yield Event("freeze", t, freeze.venue)

    def thaw(self, freeze: Freeze, t: int) -> Iterator[Event]:
        """Let it speak again."""
        self.frozen.discard(freeze.venue)
        yield Event("thaw", t, freeze.venue)

    # -------------------------------------------------------------- prices of a dislocation

    def _net(self, buy: str, sell: str, symbol: str) -> float:
        a, b = self.streams[buy, symbol], self.streams[sell, symbol]
        return net_bps(a.ask, b.bid, a.fee_bps, b.fee_bps)

    def _put_at(self, leg: _Stream, plant: Plant, edge_bps: float) -> None:
        """Move a plant's leg to where its net edge is so far above the threshold, or below it."""
        target = self.scenario.min_net_bps + edge_bps
        leg.put(*self._moved(plant, target, is_above=plant.kind != NET_NEGATIVE))

    def _moved(self, plant: Plant, target_bps: float, is_above: bool) -> tuple[int, int]:
        """Return the leg's bid and ask at which the route's net edge is the target, rounded to
        the side that is asked for."""
        a = self.streams[plant.buy, plant.symbol]
        b = self.streams[plant.sell, plant.symbol]
        factor = (1 + target_bps / 1e4) * (1 + a.fee_bps / 1e4) / (1 - b.fee_bps / 1e4)
        if plant.leg == plant.sell:
            spread = b.ask - b.bid
            bid = math.ceil(a.ask * factor) if is_above else math.floor(a.ask * factor)
            return bid, bid + spread
        spread = a.ask - a.bid
        ask = math.floor(b.bid / factor) if is_above else math.ceil(b.bid / factor)
        return ask - spread, ask

    def _bait_edge(self, bait: Plant) -> float:
        """Return by how much the bait's net edge stays below the threshold, in bps.

        It keeps the gross edge above 0, and every other route over the moved leg below the
        threshold as well.
        """
        route = self._net(bait.buy, bait.sell, bait.symbol)
        others = [
            self._net(name, bait.sell, bait.symbol)
            if bait.leg == bait.sell
            else self._net(bait.buy, name, bait.symbol)
            for name in self.scenario.venues
            if name not in (bait.buy, bait.sell)
        ]
        # Moving the leg scales all routes over it alike: the best of them says how far it may go.
        best = max([route, *others])
        top = self.scenario.min_net_bps - EDGE_MIN_BPS
        lead = top - ((1e4 + top) * (1e4 + route) / (1e4 + best) - 1e4)
        fee_buy, fee_sell = (self.scenario.fees_bps[name] for name in (bait.buy, bait.sell))
        flat = net_bps(1.0, 1.0, fee_buy, fee_sell)
        low = EDGE_MIN_BPS + lead
        high = min(self.scenario.min_net_bps - flat, fee_buy + fee_sell) - EDGE_MIN_BPS
        high = min(high, low + 2.0) if bait.is_near else high
        return low + bait.depth * (high - low)

    def _full_lean(self, bait: Plant) -> float:
        """Return the relative move of live prices at which the frozen leg is strongly crossed."""
        bait.net_bps = self.scenario.min_net_bps + 3 + 7 * bait.depth
        bid, _ = self._moved(bait, bait.net_bps, is_above=True)
        return bid / self.streams[bait.leg, bait.symbol].bid - 1


def _plant_edge(plant: Plant) -> float:
    return 0.05 + 1.92 * plant.depth if plant.is_near else 2.01 + 22.9 * plant.depth


def _script(market: _Market, plan: Plan) -> list[tuple[int, Callable[[int], Iterator[Event]]]]:
    """Return the plan as (time, what to do), in order of time."""
    script: list[tuple[int, Callable[[int], Iterator[Event]]]] = []
    lead, tail = round(LEAD_S * 1e9), round(TAIL_S * 1e9)
    for plant in plan.plants + plan.baits:
        if plant.kind == FROZEN_LEG:
            continue
        symbols = (plant.symbol,)
        script.append((plant.t_open - lead, partial(market.hold, symbols)))
        script.append((plant.t_open, partial(market.open, plant)))
        if plant.dip_bps:
            third = (plant.t_close - plant.t_open) // 3
            script.append((plant.t_open + third, partial(market.dip, plant)))
            script.append((plant.t_open + 2 * third, partial(market.rise, plant)))
        script.append((plant.t_close, partial(market.close, plant)))
        script.append((plant.t_close + tail, partial(market.release, symbols)))
    for freeze in plan.freezes:
        everything = market.scenario.symbols
        script.append((freeze.t_freeze - 1, partial(market.hold, everything)))
        script.append((freeze.t_freeze, partial(market.freeze, freeze)))
        script.extend(_ramps(market, freeze))
        script.append((freeze.t_thaw, partial(market.thaw, freeze)))
        script.append((freeze.t_thaw + tail, partial(market.release, everything)))
    for cut in plan.cuts:
        script.append((cut.t, partial(_cut, cut.venue, cut.refusals)))
    return sorted(script, key=lambda item: item[0])


def _ramps(
    market: _Market, freeze: Freeze
) -> Iterator[tuple[int, Callable[[int], Iterator[Event]]]]:
    """Yield the small steps by which the live venues lean away from the frozen one, and back."""
    bait = freeze.bait
    fees = market.scenario.fees_bps
    steps = math.ceil((fees[bait.buy] + fees[bait.sell] + 15) / RAMP_STEP_BPS)
    ramp = min(round(RAMP_S * 1e9), (bait.t_close - bait.t_open) // 3)
    for n in range(1, steps + 1):
        share = n / steps
        is_first = n == 1
        out = bait.t_open + ramp * (n - 1) // steps
        back = bait.t_close - ramp * (n - 1) // steps
        yield out, partial(market.lean, freeze, share, is_first)
        yield back, partial(market.lean, freeze, (n - 1) / steps, is_first)


def _cut(name: str, refusals: int, t: int) -> Iterator[Event]:
    if refusals:
        yield Event("refuse", t, name, times=refusals)
    yield Event("cut", t, name)


def generate(scenario: Scenario, plan: Plan | None = None) -> Iterator[Event]:
    """Yield what the venues do, in order of time.

    Args:
        plan: the scenario's plan from ``make_plan``, if the caller wants to keep it; the net
            edges of its plants are filled in on the way.
    """
    market = _Market(scenario)
    script = _script(market, plan or make_plan(scenario))
    mean_gap = 1e9 * len(market.streams) / scenario.rate
    rng = random_source(scenario.seed, "times")
    due = [(int(rng.random() * mean_gap), n) for n in range(len(market.streams))]
    heapq.heapify(due)
    streams = list(market.streams.values())
    end = round(scenario.seconds * 1e9)
    at = 0
    while due[0][0] < end:
        t, n = due[0]
        while at < len(script) and script[at][0] <= t:
            yield from script[at][1](script[at][0])
            at += 1
        yield from market.quote(streams[n], t)
        heapq.heapreplace(due, (t + int((0.5 + rng.random()) * mean_gap), n))
