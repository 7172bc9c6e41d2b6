"""The circuit breaker: every row of its table, and all ways through it against a slow model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from math import inf, nan

import pytest

from crosswire import BreakerOpenError, UsageError
from crosswire.http import Breaker, BreakerState, Change, Outcome, Permit, outcome_of

S = 10**9


@dataclass
class Clock:
    now: int = 0

    def __call__(self) -> int:
        return self.now


def made(clock: Clock, changes: list[Change] | None = None, **terms: float) -> Breaker:
    known = {"failures_max": 2, "open_s": 1.0, "open_max_s": 4.0, "probes_max": 2,
             "probes_needed": 2} | terms  # fmt: skip
    return Breaker(clock, "here query", on_change=None if changes is None else changes.append,
                   **known)  # type: ignore[arg-type]  # fmt: skip


def fail(breaker: Breaker, cause: str = "reset") -> None:
    breaker.ask().done(Outcome.FAILURE, cause)


def opened(clock: Clock, **terms: float) -> Breaker:
    breaker = made(clock, **terms)
    fail(breaker)
    fail(breaker)
    assert breaker.state is BreakerState.OPEN
    return breaker


class TestClosed:
    def test_failures_in_a_row_open_it_and_a_success_ends_the_row(self) -> None:
        breaker = made(Clock())
        fail(breaker)
        breaker.ask().done(Outcome.SUCCESS)
        fail(breaker)
        assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 1)
        fail(breaker)
        assert breaker.state is BreakerState.OPEN
        assert (breaker.let_through, breaker.opens, breaker.refused) == (4, 1, 0)

    def test_what_says_nothing_changes_nothing(self) -> None:
        breaker = made(Clock())
        fail(breaker)
        breaker.ask().done(Outcome.NEUTRAL)
        assert breaker.failures == 1
        fail(breaker)
        assert breaker.state is BreakerState.OPEN

    def test_a_permit_counts_once(self) -> None:
        breaker = made(Clock())
        permit = breaker.ask()
        for _ in range(5):
            permit.done(Outcome.FAILURE)
        assert breaker.failures == 1


class TestOpen:
    def test_it_refuses_until_its_time_is_over(self) -> None:
        clock = Clock()
        breaker = opened(clock)
        clock.now = S // 4
        with pytest.raises(BreakerOpenError, match=r"breaker-open: here query: for 0\.75 s") as e:
            breaker.ask()
        assert (e.value.left_s, e.value.name) == (0.75, "here query")
        assert (breaker.open_left_s, breaker.refused) == (0.75, 1)
        clock.now = S - 1
        with pytest.raises(BreakerOpenError):
            breaker.ask()
        clock.now = S
        assert breaker.open_left_s == 0.0
        breaker.ask()
        assert breaker.state is BreakerState.HALF_OPEN

    def test_what_was_let_through_before_says_nothing_now(self) -> None:
        clock = Clock()
        breaker = made(clock)
        before = [breaker.ask() for _ in range(5)]
        before.pop().done(Outcome.FAILURE)
        before.pop().done(Outcome.FAILURE)
        before.pop().done(Outcome.SUCCESS)
        assert breaker.state is BreakerState.OPEN
        clock.now = S
        probe = breaker.ask()
        before.pop().done(Outcome.FAILURE)
        before.pop().done(Outcome.SUCCESS)
        assert (breaker.state, breaker.probes_out, breaker.late) == (BreakerState.HALF_OPEN, 1, 3)
        probe.done(Outcome.SUCCESS)
        breaker.ask().done(Outcome.SUCCESS)
        assert breaker.state is BreakerState.CLOSED


class TestHalfOpen:
    def test_no_more_probes_are_out_than_it_takes(self) -> None:
        clock = Clock()
        breaker = opened(clock)
        clock.now = S
        first, _ = breaker.ask(), breaker.ask()
        with pytest.raises(BreakerOpenError, match="its probes are out") as caught:
            breaker.ask()
        assert caught.value.left_s == breaker.open_left_s == 0.0
        first.done(Outcome.NEUTRAL)
        breaker.ask()
        assert breaker.probes_out == 2

    def test_enough_successes_close_it_and_it_begins_anew(self) -> None:
        clock = Clock()
        breaker = opened(clock)
        clock.now = S
        a, b = breaker.ask(), breaker.ask()
        a.done(Outcome.SUCCESS)
        assert breaker.state is BreakerState.HALF_OPEN
        b.done(Outcome.SUCCESS)
        assert breaker.state is BreakerState.CLOSED
        fail(breaker)
        assert breaker.state is BreakerState.CLOSED
        fail(breaker)
        assert breaker.open_left_s == 1.0

    def test_each_probe_that_fails_doubles_the_time_up_to_the_longest(self) -> None:
        clock = Clock()
        breaker = opened(clock)
        lasted = []
        for _ in range(5):
            lasted.append(breaker.open_left_s)
            clock.now += round(breaker.open_left_s * S)
            fail(breaker)
        assert lasted == [1.0, 2.0, 4.0, 4.0, 4.0]

    def test_a_failure_behind_a_success_opens_it_and_the_other_probe_is_late(self) -> None:
        clock = Clock()
        breaker = opened(clock, probes_max=3)
        clock.now = S
        a, b, c = breaker.ask(), breaker.ask(), breaker.ask()
        a.done(Outcome.SUCCESS)
        b.done(Outcome.FAILURE)
        c.done(Outcome.SUCCESS)
        assert (breaker.state, breaker.late, breaker.opens) == (BreakerState.OPEN, 1, 2)

    async def test_a_caller_who_is_cancelled_gives_its_place_back(self) -> None:
        clock = Clock()
        breaker = opened(clock, probes_max=1)
        clock.now = S

        async def call() -> None:
            with breaker.ask():
                await asyncio.Event().wait()

        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        assert breaker.probes_out == 1
        task.cancel()
        await asyncio.wait([task])
        assert (breaker.probes_out, breaker.state) == (0, BreakerState.HALF_OPEN)

    def test_a_block_keeps_what_was_said_inside(self) -> None:
        breaker = made(Clock())
        with breaker.ask() as permit:
            permit.done(Outcome.FAILURE)
        assert breaker.failures == 1


class TestEvents:
    def test_each_change_is_told_with_its_cause(self) -> None:
        clock = Clock(5)
        changes: list[Change] = []
        breaker = made(clock, changes)
        fail(breaker, "timeout")
        fail(breaker, "http-503")
        clock.now += S
        fail(breaker)
        clock.now += 2 * S
        a, b = breaker.ask(), breaker.ask()
        a.done(Outcome.SUCCESS)
        b.done(Outcome.SUCCESS)
        closed, is_open, half = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
        name = "here query"
        assert changes == [
            Change(name, closed, is_open, 5, "2 failures in a row, the last: http-503"),
            Change(name, is_open, half, 5 + S, "its time is over"),
            Change(name, half, is_open, 5 + S, "a probe failed: reset"),
            Change(name, is_open, half, 5 + 3 * S, "its time is over"),
            Change(name, half, closed, 5 + 3 * S, "2 probes succeeded"),
        ]


class TestOutcomes:
    @pytest.mark.parametrize(
        ("statuses", "outcome"),
        [
            (range(500, 600), Outcome.FAILURE),
            ([418, 429], Outcome.NEUTRAL),
            ([200, 204, 301, 400, 401, 403, 404, 409, 499], Outcome.SUCCESS),
        ],
    )
    def test_only_the_venues_own_faults_count(
        self, statuses: range | list[int], outcome: Outcome
    ) -> None:
        assert {outcome_of(status) for status in statuses} == {outcome}

    @pytest.mark.parametrize(
        "terms",
        [{"failures_max": 0}, {"probes_max": 0}, {"probes_needed": 0}, {"open_s": 0},
         {"open_s": nan}, {"open_s": 5}, {"open_max_s": inf}],
    )  # fmt: skip
    def test_terms_that_make_no_sense_are_refused(self, terms: dict[str, float]) -> None:
        with pytest.raises(UsageError):
            made(Clock(), **terms)


# ------------------------------------------------------------------ all ways through the table


@dataclass
class Model:
    """The table, written as it is read: no counters but lists of what is out."""

    now: int = 0
    state: str = "closed"
    row: int = 0
    until: int = 0
    length: int = 1
    era: int = 0
    good: int = 0
    out: list[int] = field(default_factory=list)

    def change(self, state: str) -> None:
        self.state, self.era, self.row, self.good = state, self.era + 1, 0, 0

    def ask(self) -> bool:
        if self.state == "open":
            if self.now < self.until:
                return False
            self.change("half-open")
        if self.state == "half-open" and sum(era == self.era for era in self.out) == 2:
            return False
        self.out.append(self.era)
        return True

    def end(self, place: int, outcome: Outcome) -> None:
        if self.out.pop(place) != self.era or outcome is Outcome.NEUTRAL:
            return
        failed = outcome is Outcome.FAILURE
        if self.state == "closed":
            self.row = self.row + 1 if failed else 0
            if self.row == 2:
                self.length = 1
                self.until = self.now + self.length
                self.change("open")
        elif failed:
            self.length = min(4, 2 * self.length)
            self.until = self.now + self.length
            self.change("open")
        else:
            self.good += 1
            if self.good == 2:
                self.change("closed")

    def key(self) -> tuple[object, ...]:
        """What decides all that can still happen."""
        left = max(0, self.until - self.now) if self.state == "open" else 0
        eras = tuple(era == self.era for era in self.out)
        return self.state, self.row, left, self.length, self.good, eras


INPUTS = [
    ("ask",), ("tick",),
    *((place, outcome) for place in (0, -1) for outcome in Outcome),
]  # fmt: skip


def play(steps: tuple[tuple[object, ...], ...]) -> Model | None:
    """Play steps on both; returns the model, ``None`` where a step cannot be taken."""
    clock, model = Clock(), Model()
    breaker = made(clock)
    permits: list[Permit] = []
    for step in steps:
        if step == ("ask",):
            if len(permits) == 4:
                return None
            is_let = model.ask()
            if is_let:
                permits.append(breaker.ask())
            else:
                with pytest.raises(BreakerOpenError) as caught:
                    breaker.ask()
                left = model.until - model.now if model.state == "open" else 0
                assert caught.value.left_s == left
        elif step == ("tick",):
            model.now += 1
            clock.now += S
        else:
            place, outcome = step
            if not permits:
                return None
            assert isinstance(place, int)
            assert isinstance(outcome, Outcome)
            permits.pop(place).done(outcome)
            model.end(place, outcome)
        assert breaker.state.value == model.state
        assert breaker.failures == (model.row if model.state == "closed" else 0)
        is_half = model.state == "half-open"
        assert breaker.probes_out == is_half * sum(era == model.era for era in model.out)
        assert breaker.open_left_s == (model.state == "open") * max(0, model.until - model.now)
    return model


def test_every_state_that_can_be_reached_is_walked_in_every_way() -> None:
    seen: dict[tuple[object, ...], tuple[tuple[object, ...], ...]] = {Model().key(): ()}
    edge: list[tuple[tuple[object, ...], ...]] = [()]
    steps = 0
    while edge:
        way = edge.pop(0)
        for step in INPUTS:
            model = play((*way, step))
            if model is None:
                continue
            steps += 1
            if model.key() not in seen:
                seen[model.key()] = (*way, step)
                edge.append((*way, step))
    states = {key[0] for key in seen}
    assert states == {"closed", "open", "half-open"}
    assert len(seen) >= 190
    assert steps >= 1000


def test_a_callback_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(change: Change) -> None:
        raise ValueError("a bug of the caller's")

    clock = Clock()
    breaker = Breaker(clock, "here query", failures_max=1, probes_needed=1, on_change=broken)
    fail(breaker)
    assert breaker.state is BreakerState.OPEN
    clock.now += 2 * S
    with breaker.ask() as permit:
        permit.done(Outcome.SUCCESS)
    assert breaker.state is BreakerState.CLOSED
    told = [record.getMessage() for record in caplog.records]
    assert told == ["on_change of here query raised"] * 3


@pytest.mark.parametrize("outcome", [Outcome.FAILURE, Outcome.SUCCESS])
def test_a_callback_may_ask_by_itself(outcome: Outcome) -> None:
    """What follows is refused where it failed, and no probe where it succeeded."""

    def probe(change: Change) -> None:
        if change.after is BreakerState.HALF_OPEN:
            breaker.ask().done(outcome)

    clock = Clock()
    breaker = Breaker(clock, "here query", failures_max=1, probes_needed=1, on_change=probe)
    fail(breaker)
    clock.now += 2 * S
    if outcome is Outcome.FAILURE:
        with pytest.raises(BreakerOpenError):
            breaker.ask()
        assert breaker.state is BreakerState.OPEN
    else:
        breaker.ask()
        assert breaker.state is BreakerState.CLOSED
    assert breaker.probes_out == 0
