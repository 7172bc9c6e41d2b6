"""Endpoints: all ways through the tables, and the comparison, against slow models of both."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watched_endpoints import GOOD, S, Watched

from crosswire import RequestError
from crosswire.http import EndpointRules, EndpointState, Outcome, Use

# ------------------------------------------------------------------ all ways through the tables


@dataclass
class One:
    state: str = "unknown"
    row: int = 0
    due: int = 0
    length: int = 0
    good: int = 0
    up_since: int = 0
    era: int = 0


@dataclass
class Model:
    """Both tables, written as they are read: no counters but lists of what is out."""

    now: int = 0
    current: str | None = "a"
    ones: dict[str, One] = field(default_factory=lambda: {"a": One(), "b": One()})
    out: list[tuple[str, bool, int]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    switched: list[tuple[str | None, str | None]] = field(default_factory=list)
    drained: list[str] = field(default_factory=list)

    def trusted(self) -> list[str]:
        return [name for name, one in self.ones.items() if one.state in ("unknown", "up")]

    def calls(self, name: str) -> int:
        return sum(who == name and not is_probe for who, is_probe, _ in self.out)

    def probed(self) -> list[str]:
        return [who for who, is_probe, _ in self.out if is_probe]

    def pick(self) -> bool:
        if self.current is None:
            return False
        self.out.append((self.current, False, self.ones[self.current].era))
        return True

    def send_probes(self) -> list[str]:
        waiting = [n for n in self.ones if n not in self.probed() and self.ones[n].due <= self.now]
        names = sorted(waiting, key=lambda n: self.ones[n].due)[: 2 - len(self.probed())]
        for name in names:
            one = self.ones[name]
            if one.state == "down":
                one.state, one.good = "probing", 0
            one.due = self.now + 1
            self.out.append((name, True, one.era))
        return names

    def become(self, name: str | None) -> None:
        self.switched.append((self.current, name))
        if self.current:
            self.left.append(self.current)
        self.current = name
        self.left = [n for n in self.left if n != name]

    def end(self, place: int, outcome: Outcome) -> None:
        name, _, era = self.out.pop(place)
        one = self.ones[name]
        if outcome is not Outcome.NEUTRAL and era == one.era:
            if outcome is Outcome.FAILURE:
                one.row += 1
                if one.state == "probing" or one.row == 2:
                    self.down(name)
            else:
                self.succeed(name, one)
        for who in list(self.left):
            if not self.calls(who):
                self.left.remove(who)
                self.drained.append(who)

    def succeed(self, name: str, one: One) -> None:
        one.row = 0
        if one.state == "unknown":
            one.state = "up"
        elif one.state == "probing":
            one.good += 1
            if one.good == 2:
                one.state, one.up_since = "up", self.now
                if self.current is None:
                    self.become(name)

    def down(self, name: str) -> None:
        one = self.ones[name]
        is_forgiven = one.state == "up" and self.now - one.up_since >= 4
        one.length = 1 if is_forgiven or not one.length else min(4, 2 * one.length)
        one.state, one.row, one.era = "down", 0, one.era + 1
        one.due = self.now + one.length
        if not self.trusted():
            for other in self.ones.values():
                other.due = min(other.due, self.now + 1)
        if self.current == name:
            self.become(next(iter(self.trusted()), None))

    def key(self) -> tuple[object, ...]:
        """What decides all that can still happen."""
        ones = tuple(
            (
                one.state,
                one.row,
                max(-1, one.due - self.now),
                one.length,
                one.good if one.state == "probing" else 0,
                min(4, self.now - one.up_since) if one.state == "up" and one.length else 0,
            )
            for one in self.ones.values()
        )
        a, b = self.ones.values()
        out = tuple((who, is_probe, era == self.ones[who].era) for who, is_probe, era in self.out)
        return self.current, ones, a.due <= b.due, out, tuple(self.left)


OUT_MAX = 2
DEPTH = 12
INPUTS: list[tuple[object, ...]] = [
    ("pick",), ("probe",), ("tick",),
    *((place, outcome) for place in (0, -1) for outcome in Outcome),
]  # fmt: skip


def play(steps: tuple[tuple[object, ...], ...]) -> Model | None:
    """Play steps on both; returns the model, ``None`` where a step cannot be taken."""
    world, model = Watched(), Model()
    calls: list[Use[str]] = []
    for step in steps:
        if step == ("pick",):
            if len(calls) == OUT_MAX:
                return None
            if model.pick():
                calls.append(world.endpoints.pick())
            else:
                with pytest.raises(RequestError, match="endpoints-down"):
                    world.endpoints.pick()
        elif step == ("probe",):
            if len(calls) == OUT_MAX:
                return None
            probes = world.endpoints.begin_probes()
            assert [probe.name for probe in probes] == model.send_probes()
            calls += probes
        elif step == ("tick",):
            model.now += 1
            world.pass_time(1.0)
        else:
            place, outcome = step
            if not calls or (place == 0 and len(calls) == 1):
                return None
            assert isinstance(place, int)
            assert isinstance(outcome, Outcome)
            calls.pop(place).done(outcome, 0.01)
            model.end(place, outcome)
    compare(world, model)
    return model


def compare(world: Watched, model: Model) -> None:
    assert world.endpoints.current == model.current
    assert world.endpoints.probes_out == len(model.probed())
    waiting = [one.due for name, one in model.ones.items() if name not in model.probed()]
    next_s = max(0, min(waiting) - model.now) if waiting else None
    assert world.endpoints.next_probe_s == next_s
    assert [(s.before, s.after) for s in world.switches] == model.switched
    assert world.endpoints.switches == len(model.switched)
    assert world.drained == model.drained
    for row in world.endpoints.snapshot():
        one = model.ones[row.name]
        assert (row.state.value, row.calls_out) == (one.state, model.calls(row.name))
        assert (row.is_current, row.downs) == (row.name == model.current, one.era)
        assert row.is_draining == (row.name in model.left)
        assert row.quarantine_left_s == (one.state == "down") * max(0, one.due - model.now)


def test_all_ways_of_twelve_steps() -> None:
    seen = {Model().key()}
    edge: list[tuple[tuple[object, ...], ...]] = [()]
    states: set[tuple[object, ...]] = set()
    steps = 0
    for _ in range(DEPTH):
        following = []
        for way in edge:
            for step in INPUTS:
                model = play((*way, step))
                if model is None:
                    continue
                steps += 1
                if model.key() not in seen:
                    seen.add(model.key())
                    following.append((*way, step))
                    states.add((model.current, *(one.state for one in model.ones.values())))
        edge = following
    assert {state for _, *both in states for state in both} == {str(s) for s in EndpointState}
    assert {current for current, *_ in states} == {"a", "b", None}
    assert (len(states), len(seen), steps) == (18, 8969, 41606)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(INPUTS), max_size=120))
def test_longer_ways_too(steps: list[tuple[object, ...]]) -> None:
    taken: tuple[tuple[object, ...], ...] = ()
    out = 0
    for step in steps:  # those that cannot be taken are left out
        if step[0] in ("pick", "probe"):
            if out == OUT_MAX:
                continue
            model = play((*taken, step))
            assert model is not None
            out = len(model.out)
        elif step != ("tick",):
            if out < (2 if step[0] == 0 else 1):
                continue
            out -= 1
        taken = (*taken, step)
    assert play(taken) is not None


# ------------------------------------------------------------------ which one is better


@dataclass
class SlowChoice:
    """The rule of the comparison, from all probes there ever were; none fails, all are trusted."""

    rules: EndpointRules
    current: str = "a"
    changed: float = -inf
    seen: list[tuple[float, str, float]] = field(default_factory=list)
    since: dict[str, float] = field(default_factory=dict)
    counted: dict[tuple[str, str], int] = field(default_factory=dict)

    def estimate(self, name: str) -> tuple[float, float]:
        own = [(at, math.log(x)) for at, who, x in self.seen if who == name]
        if len(own) < 2:
            return 0.0, inf
        last = own[-1][0]
        weights = [math.exp((at - last) / self.rules.tau_s) for at, _ in own]
        total, squares = sum(weights), sum(w * w for w in weights)
        mean = sum(w * x for w, (_, x) in zip(weights, own, strict=True)) / total
        spread = sum(w * (x - mean) ** 2 for w, (_, x) in zip(weights, own, strict=True))
        return mean, math.sqrt(spread / (total - squares / total) * squares) / total

    def is_better(self, name: str) -> bool:
        (there, there_error), (here, here_error) = self.estimate(name), self.estimate(self.current)
        if inf in (there_error, here_error):
            return False
        likely = math.exp(here - there - 2 * math.sqrt(there_error**2 + here_error**2))
        gain_s = math.exp(here) - math.exp(there)
        return likely >= 1 / self.rules.ratio and gain_s >= self.rules.gain_min_s

    def probed(self, now: float, reported: str, latency_s: float, names: str) -> None:
        self.seen.append((now, reported, latency_s))
        ready = []
        for name in names:
            if name == self.current:
                continue
            if not self.is_better(name):
                self.since.pop(name, None)
                continue
            if name not in self.since:
                self.since[name] = now
                self.counted[name, name] = self.counted[name, self.current] = 0
            elif reported in (name, self.current):
                self.counted[name, reported] += 1
            enough = min(self.counted[name, name], self.counted[name, self.current])
            if (
                now - self.since[name] >= self.rules.better_for_s
                and enough >= self.rules.probes_min
                and now - self.changed >= self.rules.hold_s
            ):
                ready.append(name)
        if ready:
            self.current = min(ready, key=lambda name: self.estimate(name)[0])
            self.changed = now
            self.since.clear()


@pytest.mark.parametrize("seed", range(60))
def test_the_comparison_is_that_of_all_probes(seed: int) -> None:
    draw = random.Random(seed)
    names = "abc"
    rules = {"tau_s": 8.0, "better_for_s": 3.0, "probes_min": 3, "hold_s": 6.0 * (seed % 2),
             "probes_max": 3}  # fmt: skip
    world = Watched(names, **rules)
    for probe in world.endpoints.begin_probes():
        probe.done(GOOD, 0.1)  # all are up
    model = SlowChoice(world.endpoints.rules)
    model.seen = [(0.0, name, 0.1) for name in names]
    level = dict.fromkeys(names, 0.1)
    for _ in range(120):
        if draw.random() < 0.05:
            level[draw.choice(names)] = draw.choice([0.002, 0.02, 0.1, 0.5])
        world.pass_time(0.5)
        probes = world.endpoints.begin_probes()
        draw.shuffle(probes)
        for probe in probes:
            latency_s = level[probe.name] * draw.lognormvariate(0.0, 0.3)
            probe.done(GOOD, latency_s)
            model.probed(world.clock.now / S, probe.name, latency_s, names)
            assert world.endpoints.current == model.current
    if seed == 0:
        assert world.switches
