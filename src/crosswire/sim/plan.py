"""What a simulated run holds: planted opportunities, baits, freezes and faults, by seed.

Rule 1: one plant or bait per symbol at a time, with ``LEAD_S`` before and ``TAIL_S`` after it in
which no price of the symbol moves, so that the order of arrival cannot change its truth.
Rule 2: while a venue is frozen, nothing on another symbol uses it as a leg.
Rule 3: as many baits as plants. A bait looks like an opportunity and is none: its net edge is
below the threshold, or one of its legs has been silent for longer than the liveness limit.
Rule 4: where there is room, none opens while a leg's venue recovers from a cut. One may stand when
the cut comes.

Times are ns from the start of the run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from ..errors import UsageError
from ..venues import venue, venue_names

__all__ = [
    "Cut",
    "Freeze",
    "Plan",
    "Plant",
    "Scenario",
    "freeze_max_ns",
    "make_plan",
    "random_source",
    "recover_ns",
]

LEAD_S = 0.15
TAIL_S = 0.10
START_S = 0.5
END_S = 0.4
SECONDS_MIN, SECONDS_MAX = 2.0, 600.0
"""Everything is planned before it begins, and the judge keeps the run in memory: ten minutes take
2 s to plan, some 0.5 GB to judge and 0.8 GB for the recording."""
PLANTS_PER_S = 1.5
PLANTS_PER_SYMBOL_S = 0.4
"""More would leave a symbol no idle time."""
DURATION_MIN_S, DURATION_MAX_S = 0.002, 2.0
SILENCE_MARGIN_S = 0.08
"""How long past the liveness limit a frozen venue's price is first crossed."""
THAW_MARGIN_S = 0.03
DIP_SHARE = 2
"""One plant in so many dips, of those that last ``DIP_MIN_S``."""
DIP_MIN_S = 0.03
DIPS_BPS = (0.15, 0.45)
"""How far below ``min_net_bps`` it then is, in turn. The demo's engine closes 0.3 bps below it: it
keeps the one, and closes the other and opens it again."""
FREEZE_SHARE = 5
"""One bait in so many is a frozen leg."""
FREEZE_GAP_S = 0.15
FREEZE_MIN_S, FREEZE_MAX_S = 0.15, 0.4
"""How much longer than the liveness limit a freeze is."""
FEES_BPS_MIN = 6.0
DEFAULT_SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT")
FAULTS = ("cut", "refuse")
RECOVER_S = 0.2
RECOVER_REFUSED_S = 0.2
"""How long a client that connects again without delay takes, and how long each refusal takes it;
``recorded`` takes exactly so long."""
QUOTED_S = 0.15
"""How long it then waits for a quote of every symbol."""
REFUSALS_MAX = 10
REFUSALS_PER_S = 0.5
CUTS = ((0.1, 0.3), (0.45, 0.6))
"""When a connection is cut, in shares of the run; what is left then is enough to recover."""
CUTS_ONCE = ((0.1, 0.2),)
"""The same of a run with one cut, which is short: plants need what is left after it."""
TWICE_SECONDS_MIN = 5.0
"""In a shorter run a second cut would leave too few plants to be judged."""

PLANT = "plant"
NET_NEGATIVE = "net_negative"
FROZEN_LEG = "frozen_leg"


def random_source(seed: int, purpose: str) -> random.Random:
    """Return the randomness of one purpose; the only place where the simulator makes any."""
    return random.Random(f"{seed}/{purpose}")


@dataclass(frozen=True)
class Scenario:
    """What to simulate.

    Attributes:
        seed: two runs with equal scenarios send equal prices and sizes at equal times.
        seconds: length of the run, ``SECONDS_MIN`` to ``SECONDS_MAX``.
        venues: names of the venues.
        symbols: unified spot symbols, quoted at every venue in its own spelling.
        fees_bps: taker fee by venue; a venue that is missing has its usual fee.
        min_net_bps: net edge from which an opportunity counts.
        liveness_limit_s: silence after which a venue's prices must not be used.
        rate: quotes a second over all venues while none is frozen; trades come on top.
        faults: ``cut`` breaks every venue's connection once inside a message, or twice in a
            run of ``TWICE_SECONDS_MIN`` or more;
            ``refuse`` answers connects with HTTP 503 after one cut, ten in a run of 20 s or
            more.
    """

    seed: int = 1
    seconds: float = 20.0
    venues: tuple[str, ...] = field(default_factory=venue_names)
    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    fees_bps: Mapping[str, float] = field(default_factory=dict)
    min_net_bps: float = 0.5
    liveness_limit_s: float = 0.5
    rate: float = 6700.0
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the usual fees, and refuse what cannot be planned."""
        fees = {name: self.fees_bps.get(name, venue(name).fee_bps) for name in self.venues}
        object.__setattr__(self, "fees_bps", fees)
        lowest = sorted(fees.values())[:2]
        if len(set(self.venues)) < 2 or len(set(self.venues)) != len(self.venues):
            known = ", ".join(venue_names())
            given = ", ".join(self.venues) or "none"
            raise UsageError(f"two or more different venues are needed of {known}; given: {given}")
        if sum(lowest) + self.min_net_bps < FEES_BPS_MIN:
            raise UsageError(
                f"the two lowest fees and min_net_bps must come to {FEES_BPS_MIN} bps or more, "
                "so that an idle market stays clear of the threshold"
            )
        if not SECONDS_MIN <= self.seconds <= SECONDS_MAX:  # so that nan is refused as well
            raise UsageError(
                f"a run lasts {SECONDS_MIN:g} to {SECONDS_MAX:g} seconds, not {self.seconds:g}"
            )
        if not self.symbols or not 0 < self.rate < math.inf:
            raise UsageError("a scenario needs one symbol and a rate above 0")
        if unknown := set(self.faults) - set(FAULTS):
            raise UsageError(f"unknown faults {sorted(unknown)}; known are {', '.join(FAULTS)}")


@dataclass
class Plant:
    """A planted opportunity, or a bait.

    Attributes:
        id: unique in the run.
        kind: ``plant``, ``net_negative`` or ``frozen_leg``.
        symbol: unified symbol.
        buy, sell: venues of the two legs.
        leg: the one of them whose quote is moved.
        t_open, t_close: ns from the start; the moved quote is sent and taken back then.
        is_near: the edge lies within 2 bps of the threshold.
        depth: 0 to 1, how far into its range the edge lies; of the first near plant and of the
            first near bait 0.
        dip_bps: how far below the threshold the edge lies in the middle third of its time; 0 where
            it stays above.
        net_bps: net edge at the opening; known once it has been generated.
        seq_open, seq_close: ``SimQuote.seq`` of the leg's first moved quote and of the quote that
            took it back; set by the server that sends them, 0 until then.
    """

    id: int
    kind: str
    symbol: str
    buy: str
    sell: str
    leg: str
    t_open: int
    t_close: int
    is_near: bool
    depth: float
    dip_bps: float = 0.0
    net_bps: float = math.nan
    seq_open: int = 0
    seq_close: int = 0

    def mark(self, seq: int) -> None:
        """Note the ``seq`` under which the moved quote was sent, or taken back."""
        if self.seq_open:
            self.seq_close = seq
        else:
            self.seq_open = seq

    def as_dict(self) -> dict[str, Any]:
        """Return what a reader of the run needs, ready for JSON."""
        names = ("id", "kind", "symbol", "buy", "sell", "leg", "net_bps")
        times = ("t_open", "t_close", "seq_open", "seq_close")
        return {name: getattr(self, name) for name in names + times}


@dataclass(frozen=True)
class Freeze:
    """A venue sends nothing at all from ``t_freeze`` to ``t_thaw``, and ``bait`` lies inside."""

    venue: str
    t_freeze: int
    t_thaw: int
    bait: Plant


@dataclass(frozen=True)
class Cut:
    """A venue's connections break inside a message; then ``refusals`` connects are refused."""

    venue: str
    t: int
    refusals: int

    def recover_ns(self) -> int:
        """Return how long a client takes to be connected again."""
        return recover_ns(self.refusals)


@dataclass(frozen=True)
class Plan:
    """Everything that happens on purpose in a run, each list in order of time."""

    plants: list[Plant]
    baits: list[Plant]
    freezes: list[Freeze]
    cuts: list[Cut]


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def freeze_max_ns(scenario: Scenario) -> int:
    """Return how long a freeze can be."""
    return _ns(scenario.liveness_limit_s + FREEZE_MAX_S)


def recover_ns(refusals: int) -> int:
    """Return how long a client takes to be connected again after so many refusals."""
    return _ns(RECOVER_S + RECOVER_REFUSED_S * refusals)


def make_plan(scenario: Scenario) -> Plan:
    """Return the plan of a scenario.

    Raises:
        UsageError: the run is too short for what it must hold.
    """
    rng = random_source(scenario.seed, "plan")
    per_s = min(PLANTS_PER_S, PLANTS_PER_SYMBOL_S * len(scenario.symbols))
    plant_count = math.ceil(per_s * scenario.seconds)
    freezes = _plan_freezes(rng, scenario, plant_count // FREEZE_SHARE)
    cuts = _plan_cuts(random_source(scenario.seed, "cuts"), scenario)
    schedule = _Schedule(scenario, freezes, cuts)
    kinds = [PLANT] * plant_count + [NET_NEGATIVE] * (plant_count - len(freezes))
    longest = min(DURATION_MAX_S, scenario.seconds / 8)
    durations = sorted((_log_uniform(rng, longest) for _ in kinds), reverse=True)
    # Halves are exact by kind: near and far alternate, then all are put in a random order.
    shapes = [(kind, n % 2 == 0) for n, kind in enumerate(kinds)]
    rng.shuffle(shapes)
    for (kind, is_near), duration in zip(shapes, durations, strict=True):
        schedule.place(rng, kind, is_near, duration)
    plants = sorted((p for p in schedule.placed if p.kind == PLANT), key=lambda p: p.t_open)
    baits = [p for p in schedule.placed if p.kind != PLANT] + [f.bait for f in freezes]
    baits.sort(key=lambda p: p.t_open)
    for number, item in enumerate(plants + baits, start=1):
        item.id = number
    lasting = [plant for plant in plants if plant.t_close - plant.t_open >= _ns(DIP_MIN_S)]
    for plant, dip_bps in zip(lasting[::DIP_SHARE], cycle(DIPS_BPS), strict=False):
        plant.dip_bps = dip_bps
    for items in (plants, baits):
        for item in [item for item in items if item.is_near][:1]:
            item.depth = 0.0
    return Plan(plants, baits, freezes, cuts)


def _log_uniform(rng: random.Random, longest: float) -> float:
    return math.exp(rng.uniform(math.log(DURATION_MIN_S), math.log(longest)))


def _plan_freezes(rng: random.Random, scenario: Scenario, wanted: int) -> list[Freeze]:
    """Spread up to ``wanted`` freezes over the run; they fill less than half of it."""
    silence_s = scenario.liveness_limit_s
    span_s = scenario.seconds - START_S - END_S
    count = min(wanted, int(0.45 * span_s / (silence_s + FREEZE_MAX_S + 2 * FREEZE_GAP_S)))
    lengths = [silence_s + rng.uniform(FREEZE_MIN_S, FREEZE_MAX_S) for _ in range(count)]
    slack_s = span_s - sum(lengths) - 2 * FREEZE_GAP_S * count
    freezes = []
    passed_s = START_S
    offsets = sorted(rng.uniform(0, slack_s) for _ in lengths)
    for offset_s, length_s in zip(offsets, lengths, strict=True):
        start_s = passed_s + offset_s + FREEZE_GAP_S
        passed_s += length_s + 2 * FREEZE_GAP_S
        frozen, leg = rng.sample(scenario.venues, 2)
        buy, sell = rng.choice(((frozen, leg), (leg, frozen)))
        bait = Plant(
            id=0,
            kind=FROZEN_LEG,
            symbol=rng.choice(scenario.symbols),
            buy=buy,
            sell=sell,
            leg=leg,
            t_open=_ns(start_s + silence_s + SILENCE_MARGIN_S),
            t_close=_ns(start_s + length_s - THAW_MARGIN_S),
            is_near=False,
            depth=rng.random(),
        )
        freezes.append(Freeze(frozen, _ns(start_s), _ns(start_s + length_s), bait))
    return freezes


def _plan_cuts(rng: random.Random, scenario: Scenario) -> list[Cut]:
    """Cut each venue once or twice, and refuse after one cut."""
    cuts: list[Cut] = []
    refusals = min(REFUSALS_MAX, max(1, round(REFUSALS_PER_S * scenario.seconds)))
    for name in scenario.venues if scenario.faults else ():
        is_twice = "cut" in scenario.faults and scenario.seconds >= TWICE_SECONDS_MIN
        count = rng.randint(1, 2) if is_twice else 1
        shares = CUTS if is_twice else CUTS_ONCE
        refused = rng.randrange(count) if "refuse" in scenario.faults else -1
        for number, (low, high) in enumerate(shares[:count]):
            t = _ns(scenario.seconds * rng.uniform(low, high))
            cuts.append(Cut(name, t, refusals if number == refused else 0))
    return sorted(cuts, key=lambda cut: cut.t)


class _Schedule:
    """Places plants and baits where the rules leave room for them."""

    def __init__(self, scenario: Scenario, freezes: list[Freeze], cuts: list[Cut]) -> None:
        self.scenario = scenario
        self.freezes = freezes
        self.cuts = cuts
        self.placed: list[Plant] = []
        self._busy: dict[str, list[tuple[int, int]]] = {name: [] for name in scenario.symbols}
        gap = _ns(FREEZE_GAP_S)
        for freeze in freezes:
            self._busy[freeze.bait.symbol].append((freeze.t_freeze - gap, freeze.t_thaw + gap))

    def place(self, rng: random.Random, kind: str, is_near: bool, duration_s: float) -> None:
        """Place one; a long one that finds no room is made shorter."""
        while True:
            for _ in range(400):
                if self._place_once(rng, kind, is_near, duration_s):
                    return
            if duration_s == DURATION_MIN_S and not self.cuts:
                break
            if duration_s == DURATION_MIN_S:
                self.cuts = []
            duration_s = max(DURATION_MIN_S, duration_s / 2)
        raise UsageError("the run is too short for its plants: more seconds or more symbols")

    def _place_once(self, rng: random.Random, kind: str, is_near: bool, duration_s: float) -> bool:
        symbol = rng.choice(self.scenario.symbols)
        t_open = _ns(rng.uniform(START_S + LEAD_S, self.scenario.seconds - END_S - duration_s))
        t_close = t_open + _ns(duration_s)
        low, high = t_open - _ns(LEAD_S), t_close + _ns(TAIL_S)
        live = self._live_venues(low, high, t_open)
        if len(live) < 2 or any(a < high and low < b for a, b in self._busy[symbol]):
            return False
        buy, sell = rng.sample(live, 2)
        leg = rng.choice((buy, sell))
        self._busy[symbol].append((low, high))
        depth = rng.random()
        self.placed.append(Plant(0, kind, symbol, buy, sell, leg, t_open, t_close, is_near, depth))
        return True

    def _live_venues(self, low: int, high: int, t_open: int) -> list[str]:
        gap = _ns(FREEZE_GAP_S)
        frozen = {
            freeze.venue
            for freeze in self.freezes
            if freeze.t_freeze - gap < high and low < freeze.t_thaw + gap
        }
        gone = frozen | {
            cut.venue
            for cut in self.cuts
            if cut.t - _ns(FREEZE_GAP_S) <= t_open < cut.t + cut.recover_ns() + _ns(QUOTED_S)
        }
        return [name for name in self.scenario.venues if name not in gone]
