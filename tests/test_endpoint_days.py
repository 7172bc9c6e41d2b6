"""Endpoints: days of simulated time, and what holds whatever happens."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from watched_endpoints import BAD, GOOD, Clock, S

from crosswire import RequestError
from crosswire.http import EndpointRules, Endpoints, EndpointState, Outcome, Switch, Use

TRUSTED = {EndpointState.UP, EndpointState.UNKNOWN}

# ------------------------------------------------------------------ scenarios


Answer = Callable[[str, float, bool], tuple[Outcome, float]]


class Day:
    """A venue in simulated time: calls at a steady rate, and probes when they are due.

    Args:
        answer: (name, time in s, whether it is a probe) to (outcome, how long it takes in s).
    """

    def __init__(self, answer: Answer, names: str = "ab", calls_per_s: float = 10.0,
                 seed: int = 1, **rules: float) -> None:  # fmt: skip
        self.answer, self.every_s = answer, 1.0 / calls_per_s
        self.clock = Clock()
        self.switches: list[Switch] = []
        self.endpoints = Endpoints(
            self.clock, random.Random(seed).uniform, dict.fromkeys(names),
            EndpointRules(**rules), on_switch=self.switches.append,  # type: ignore[arg-type]
        )  # fmt: skip
        self.called: list[tuple[float, str]] = []
        self.refused = 0
        self.waiting: list[tuple[float, int, Use[None], Outcome]] = []
        self.begun = 0

    def begin(self, call: Use[None], now_s: float) -> None:
        outcome, latency_s = self.answer(call.name, now_s, call.is_probe)
        self.begun += 1
        heapq.heappush(self.waiting, (now_s + latency_s, self.begun, call, outcome))

    def run(self, calls: int) -> None:
        for n in range(calls):
            self.until(n * self.every_s)
            try:
                call = self.endpoints.pick()
            except RequestError:
                self.refused += 1
                continue
            self.called.append((n * self.every_s, call.name))
            self.begin(call, n * self.every_s)

    def until(self, now_s: float) -> None:
        """End what has ended by then, and send the probes."""
        while self.waiting and self.waiting[0][0] <= now_s:
            at_s, _, call, outcome = heapq.heappop(self.waiting)
            self.clock.now = max(self.clock.now, round(at_s * S))
            call.done(outcome)
        self.clock.now = round(now_s * S)
        for probe in self.endpoints.begin_probes():
            self.begin(probe, now_s)

    def asked_at(self, name: str) -> list[float]:
        return [at_s for at_s, who in self.called if who == name]


def noisy(draw: random.Random, level_s: float = 0.03) -> tuple[Outcome, float]:
    return GOOD, level_s * draw.lognormvariate(0.0, 0.5)


class TestScenarios:
    def test_one_that_slows_down_is_left_once_the_other_was_better_for_long(self) -> None:
        draw = random.Random(2)

        def answer(name: str, now_s: float, is_probe: bool) -> tuple[Outcome, float]:
            return noisy(draw, 0.3 if name == "a" and now_s >= 100.0 else 0.03)

        day = Day(answer)
        day.run(2000)
        (switch,) = day.switches
        assert (switch.before, switch.after) == ("a", "b")
        assert switch.cause.startswith("b answers in 0.0")
        assert 110.0 <= switch.mono / S <= 140.0  # better_for_s behind it, and some to see it

    def test_one_that_is_slow_for_less_than_that_is_kept(self) -> None:
        draw = random.Random(3)

        def answer(name: str, now_s: float, is_probe: bool) -> tuple[Outcome, float]:
            return noisy(draw, 0.3 if name == "a" and 100.0 <= now_s < 108.0 else 0.03)

        day = Day(answer)
        day.run(2000)
        assert day.switches == []

    def test_calls_that_are_heavier_than_probes_make_nobody_look_slow(self) -> None:
        draw = random.Random(4)

        def answer(name: str, now_s: float, is_probe: bool) -> tuple[Outcome, float]:
            return noisy(draw, 0.03 if is_probe else 0.3)

        day = Day(answer)
        day.run(2000)
        assert day.switches == []

    def test_one_that_fails_is_left_at_once(self) -> None:
        draw = random.Random(5)

        def answer(name: str, now_s: float, is_probe: bool) -> tuple[Outcome, float]:
            return (BAD, 0.01) if name == "a" and now_s >= 50.0 else noisy(draw)

        day = Day(answer)
        day.run(1000)
        (switch,) = day.switches
        assert switch.before == "a"
        assert 50.0 < switch.mono / S < 50.5
        assert max(day.asked_at("a")) < 50.5

    def test_one_that_flaps_is_not_gone_back_to(self) -> None:
        draw = random.Random(6)

        def answer(name: str, now_s: float, is_probe: bool) -> tuple[Outcome, float]:
            if name == "a" and now_s % 20.0 >= 10.0:
                return BAD, 0.01
            return noisy(draw, 0.01 if name == "a" else 0.03)

        day = Day(answer)
        day.run(36_000)  # an hour
        row, _ = day.endpoints.snapshot()
        assert row.downs >= 20
        assert len(day.switches) == 1

    def test_one_that_failed_is_gone_back_to_after_its_probes_alone(self) -> None:
        draw = random.Random(7)

        def answer(name: str, now_s: float, is_probe: bool) -> tuple[Outcome, float]:
            if name == "a" and 50.0 <= now_s < 60.0:
                return BAD, 0.01
            return noisy(draw, 0.01 if name == "a" else 0.1)

        day = Day(answer)
        day.run(3000)
        away, back = day.switches
        assert (away.before, back.before, back.after) == ("a", "b", "a")
        assert back.mono - away.mono >= 60 * S  # hold_s
        row, _ = day.endpoints.snapshot()
        assert row.state is EndpointState.UP
        assert [at for at in day.asked_at("a") if away.mono < at * S < back.mono] == []

    @pytest.mark.parametrize("seed", range(100))
    def test_two_that_are_equal_stay_as_they_are(self, seed: int) -> None:
        assert quiet_day(seed, 1_000) == []

    def test_two_that_are_equal_stay_as_they_are_for_long(self) -> None:
        assert quiet_day(0, 100_000) == []

    def test_all_down_and_back(self) -> None:
        draw = random.Random(8)

        def answer(name: str, now_s: float, is_probe: bool) -> tuple[Outcome, float]:
            return (BAD, 0.01) if 50.0 <= now_s < 300.0 else noisy(draw)

        day = Day(answer)
        day.run(4000)
        assert [s.after is None for s in day.switches] == [False, True, False]
        assert day.switches[1].mono / S < 52.0
        assert day.switches[2].mono / S < 306.0  # a quarantine of 1 s, and three probes
        assert day.refused > 2000
        assert max(at for at, _ in day.called) > 399.0


def quiet_day(seed: int, calls: int) -> list[Switch]:
    draw = random.Random(seed)
    day = Day(lambda name, now_s, is_probe: noisy(draw), seed=seed)
    day.run(calls)
    return day.switches


# ------------------------------------------------------------------ invariants


class AnyLife(RuleBasedStateMachine):
    """Whatever happens, in whatever order, these hold."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.last = -inf
        self.forced = True
        self.drained: list[str] = []
        self.draw = random.Random(1)
        self.endpoints = Endpoints(
            self.clock, self.draw.uniform, {"a": 1, "b": 2, "c": 3},
            EndpointRules(failures_max=2, better_for_s=2.0, probes_min=1, hold_s=5.0, tau_s=4.0,
                          probes_needed=2, probes_max=2, quarantine_max_s=8.0, reports_min=4),
            on_switch=self.switched, on_drained=self.drained.append,
        )  # fmt: skip
        self.calls: list[Use[int]] = []

    def switched(self, switch: Switch) -> None:
        states = {row.name: row.state for row in self.endpoints.snapshot()}
        is_forced = switch.before is None or states[switch.before] is EndpointState.DOWN
        assert is_forced or switch.mono - self.last >= 5 * S
        assert switch.before != switch.after
        self.last = switch.mono

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 3.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += round(seconds * S)

    @rule()
    def pick(self) -> None:
        if self.endpoints.current is None:
            with pytest.raises(RequestError) as caught:
                self.endpoints.pick()
            assert caught.value.retry_after_s is not None
            assert caught.value.retry_after_s >= 0.0
        else:
            self.calls.append(self.endpoints.pick())

    @rule()
    def probe(self) -> None:
        self.calls += self.endpoints.begin_probes()

    @rule(seed=st.integers(0, 2**16))
    def probe_for_long(self, seed: int) -> None:
        level = random.Random(seed)
        levels = {name: level.choice([0.01, 0.1, 1.0]) for name in "abc"}
        for _ in range(6):
            self.clock.now += S
            for probe in self.endpoints.begin_probes():
                probe.done(GOOD, levels[probe.name])

    @precondition(lambda self: self.calls)
    @rule(
        place=st.integers(0, 99),
        outcome=st.sampled_from(Outcome),
        latency_s=st.none() | st.floats(0.0, 10.0),
    )
    def end(self, place: int, outcome: Outcome, latency_s: float | None) -> None:
        self.calls.pop(place % len(self.calls)).done(outcome, latency_s)

    @invariant()
    def exactly_one_is_current_unless_all_are_down(self) -> None:
        rows = self.endpoints.snapshot()
        trusted = {row.name for row in rows if row.state in TRUSTED}
        current = [row.name for row in rows if row.is_current]
        if trusted:
            assert current == [self.endpoints.current]
            assert self.endpoints.current in trusted
        else:
            assert current == []
            assert self.endpoints.current is None

    @invariant()
    def what_is_under_way_is_counted(self) -> None:
        for row in self.endpoints.snapshot():
            out = sum(call.name == row.name and not call.is_probe for call in self.calls)
            assert row.calls_out == out
            assert row.is_draining == (out > 0 and not row.is_current)
        probes = [call.name for call in self.calls if call.is_probe]
        assert self.endpoints.probes_out == len(probes) <= 2
        assert len(set(probes)) == len(probes)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
