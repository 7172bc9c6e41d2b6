"""A simulated run as the entries of a recording, without sockets or clocks.

Every message is one READ at the very time at which it is sent. A cut venue loses its line inside
a frame and has it back after the time that the plan allows for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from ..capture import Entry, Kind
from ..venue import Dialect
from ..venues import dialect, venue
from .market import Event, frame_of, generate
from .plan import Plan, Scenario, make_plan, recover_ns

__all__ = ["config_of", "record"]

TS_START = 1_786_000_000_000_000_000
MONO_START = 1_000_000_000_000
TICK_NS = 50_000_000


def config_of(scenario: Scenario, close_net_bps: float = 0.0) -> dict[str, Any]:
    """Return the payload of a CONFIG entry: every symbol at every venue, every pair of venues.

    Ids count up from 1, by symbol and then by venue; so do the rules, by symbol and then by pair,
    in the order of their names, as those of ``cross_pairs``.
    """
    instruments: list[dict[str, Any]] = []
    pairs: list[dict[str, int]] = []
    for symbol in scenario.symbols:
        for name in scenario.venues:
            native = venue(name).native(symbol)
            number = len(instruments) + 1
            instruments.append({"id": number, "venue": name, "symbol": native, "multiplier": 1.0})
    ids = {(i["venue"], i["symbol"]): i["id"] for i in instruments}
    for symbol in sorted(scenario.symbols):
        here = [ids[name, venue(name).native(symbol)] for name in sorted(scenario.venues)]
        pairs += [{"a": a, "b": b} for a, b in combinations(here, 2)]
    return {
        "venues": list(scenario.venues),
        "instruments": instruments,
        "pairs": [{"rule": rule, **pair} for rule, pair in enumerate(pairs, start=1)],
        "fees_bps": dict(scenario.fees_bps),
        "open_net_bps": scenario.min_net_bps,
        "close_net_bps": close_net_bps,
        "liveness_limit_s": dict.fromkeys(scenario.venues, scenario.liveness_limit_s),
    }


def record(
    scenario: Scenario, plan: Plan | None = None, close_net_bps: float = 0.0
) -> Iterator[Entry]:
    """Yield a run as the entries of a recording.

    Args:
        plan: the scenario's plan, if the caller wants to keep it: its plants' ``net_bps``,
            ``seq_open`` and ``seq_close`` are filled in on the way.
    """
    plan = plan or make_plan(scenario)
    recorder = _Recorder(scenario, plan)
    yield recorder.entry(Kind.CONFIG, 0, 0, config_of(scenario, close_net_bps))
    for name in scenario.venues:
        yield recorder.opened(name, 0)
    t_tick = TICK_NS
    for event in generate(scenario, plan):
        while event.t_ns > t_tick:
            yield recorder.entry(Kind.TICK, 0, t_tick)
            t_tick += TICK_NS
        yield from recorder.take(event)


class _Recorder:
    """Turns events into entries."""

    def __init__(self, scenario: Scenario, plan: Plan) -> None:
        self._plants = {item.id: item for item in plan.plants + plan.baits}
        self._lines = {name: number for number, name in enumerate(scenario.venues, start=1)}
        self._dialects: dict[str, Dialect] = {name: dialect(name) for name in scenario.venues}
        self._back: dict[str, int] = {}
        self._refusals = dict.fromkeys(scenario.venues, 0)
        self._last_frame = dict.fromkeys(scenario.venues, b"")
        self._last_stamp = 0

    def entry(self, kind: Kind, line: int, t: int, value: Any = None) -> Entry:
        """Return an entry whose payload is ``value`` as JSON."""
        payload = b"" if value is None else json.dumps(value, sort_keys=True).encode()
        return Entry(kind, line, TS_START + t, MONO_START + t, payload)

    def opened(self, name: str, t: int) -> Entry:
        """Return the entry of a new connection."""
        return self.entry(Kind.OPENED, self._lines[name], t, {"venue": name, "url": "simulated"})

    def take(self, event: Event) -> Iterator[Entry]:
        """Yield the entries of one event."""
        name = event.venue
        if event.kind == "refuse":
            self._refusals[name] = event.times
        elif event.kind == "cut":
            yield from self._cut(name, event.t_ns)
        elif event.message is not None:
            stamp = max(TS_START + event.t_ns, self._last_stamp + 1)
            self._last_stamp = stamp
            if event.plant is not None:
                self._plants[event.plant].mark(stamp)
            frame = frame_of(self._dialects[name], event.symbol, event.message, stamp)
            self._last_frame[name] = frame
            if event.t_ns >= self._back.get(name, 0):
                if self._back.pop(name, 0):
                    yield self.opened(name, event.t_ns)
                yield self._read(name, event.t_ns, frame)

    def _read(self, name: str, t: int, data: bytes) -> Entry:
        return Entry(Kind.READ, self._lines[name], TS_START + t, MONO_START + t, data)

    def _cut(self, name: str, t: int) -> Iterator[Entry]:
        if name in self._back:
            return
        frame = self._last_frame[name]
        yield self._read(name, t, frame[: len(frame) // 2])
        yield self.entry(Kind.LOST, self._lines[name], t, {"reason": "cut"})
        self._back[name] = t + recover_ns(self._refusals[name])
        self._refusals[name] = 0
