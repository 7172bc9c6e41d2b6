"""The prober: when it asks, what it makes of the answers, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf, nan

import pytest
from fake_world import FakeSeam, simulate

from crosswire import BreakerOpenError, RequestError, UsageError, VenueError
from crosswire.http import EndpointRow, EndpointRules, Endpoints, EndpointState, Outcome, Prober

Probe = Callable[[str], Awaitable[Outcome]]


class CountingSeam(FakeSeam):
    """Without jitter; keeps the timers that were set."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[asyncio.TimerHandle] = []

    def uniform(self, low: float, high: float) -> float:
        return low

    def later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers.append(super().later(seconds, do))
        return self.timers[-1]


class World:
    """Endpoints ``a`` and ``b``, and a prober of them.

    Attributes:
        asked: (time in s, place) of each probe.
        answers: by place; else a success.
    """

    def __init__(self, takes_s: float = 0.0, limit_s: float = 2.0, **rules: float) -> None:
        self.seam = CountingSeam()
        self.takes_s = takes_s
        self.asked: list[tuple[float, str]] = []
        self.answers: dict[str, Outcome | Exception] = {}
        known = {"failures_max": 2, "probes_needed": 2} | rules
        self.endpoints = Endpoints(
            lambda: self.seam.monotonic_ns(), self.seam.uniform, {"a": "A", "b": "B"},
            EndpointRules(**known),  # type: ignore[arg-type]
        )  # fmt: skip
        self.prober = Prober(self.endpoints, self.seam, self.probe, limit_s=limit_s)

    async def probe(self, place: str) -> Outcome:
        self.asked.append((self.seam.seconds(), place))
        await asyncio.sleep(self.takes_s)
        answer = self.answers.get(place, Outcome.SUCCESS)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def row(self, name: str) -> EndpointRow:
        (found,) = [row for row in self.endpoints.snapshot() if row.name == name]
        return found

    async def run(self, seconds: float) -> None:
        """Let it run, and cancel it; nothing is left."""
        before = asyncio.all_tasks()
        task = asyncio.create_task(self.prober.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert asyncio.all_tasks() == before
        assert self.endpoints.probes_out == 0
        assert all(timer.cancelled() for timer in self.seam.timers)


@pytest.mark.parametrize("is_failing", [False, True])
def test_it_may_be_cancelled_at_any_turn(is_failing: bool) -> None:
    """Nothing stays: no task, no timer, no probe that counts as out; and it can be run again."""

    async def main(turns: int) -> int:
        world = World(probe_s=0.0001, quarantine_s=0.0001, takes_s=0.0001)
        if is_failing:
            world.answers = {"A": RequestError("http-reset", "", may_have_run=True)}
        before = asyncio.all_tasks()
        task = asyncio.create_task(world.prober.run())
        for turn in range(turns):
            await asyncio.sleep(0.00002 if turn % 4 == 3 else 0)  # time passes between turns alone
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert asyncio.all_tasks() == before
        assert world.endpoints.probes_out == 0
        assert world.endpoints.on_sooner is None
        assert all(timer.cancelled() for timer in world.seam.timers)
        await world.run(0.001)
        return len(world.asked)

    assert all(simulate(main(turns)) > 2 for turns in range(60))


class TestWhen:
    def test_each_is_asked_at_once_and_then_in_its_time(self) -> None:
        async def main() -> World:
            world = World(probe_s=5.0)
            await world.run(11.0)
            assert world.row("a").state is EndpointState.UP
            return world

        asked = simulate(main()).asked
        assert asked == [(t, place) for t in (0.0, 5.0, 10.0) for place in "AB"]

    def test_it_sleeps_until_then(self) -> None:
        async def main() -> World:
            world = World(probe_s=60.0)
            await world.run(3600.5)
            return world

        world = simulate(main())
        assert len(world.asked) == 122
        assert len(world.seam.timers) <= 122 + 61  # behind each probe, and each time they are due

    def test_no_more_are_out_than_may_be(self) -> None:
        async def main() -> World:
            world = World(probe_s=1.0, probes_max=1, takes_s=0.75)
            await world.run(3.1)
            return world

        asked = simulate(main()).asked
        assert asked == [(0.0, "A"), (0.75, "B"), (1.5, "A"), (2.25, "B"), (3.0, "A")]

    def test_one_that_went_down_is_asked_when_its_quarantine_is_over(self) -> None:
        async def main() -> World:
            world = World(probe_s=100.0, quarantine_s=3.0)
            task = asyncio.create_task(world.prober.run())
            await asyncio.sleep(10.0)
            for _ in range(2):
                world.endpoints.pick().done(Outcome.FAILURE)
            await asyncio.sleep(20.0)
            task.cancel()
            await asyncio.wait([task])
            return world

        assert simulate(main()).asked == [(0.0, "A"), (0.0, "B"), (13.0, "A")]

    def test_all_down_and_back(self) -> None:
        async def main() -> World:
            world = World()
            world.answers = {"A": OSError("reset"), "B": OSError("reset")}
            task = asyncio.create_task(world.prober.run())
            await asyncio.sleep(30.0)
            assert world.endpoints.current is None
            world.answers.clear()
            await asyncio.sleep(3.0)
            assert world.endpoints.current is not None
            task.cancel()
            await asyncio.wait([task])
            return world

        simulate(main())


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "counts", "cause"),
        [
            (Outcome.SUCCESS, (1, 0), ""),
            (Outcome.NEUTRAL, (0, 0), ""),
            (Outcome.FAILURE, (1, 1), "the answer to a probe"),
            (OSError("refused"), (1, 1), "refused"),
            (VenueError("head", 3), (1, 1), "head at byte 3"),
            (RequestError("cut", "no answer", may_have_run=True), (1, 1), "cut: no answer"),
            (RequestError("http", "busy", may_have_run=False, status=503), (1, 1), "http: busy"),
            (RequestError("http", "often", may_have_run=False, status=429), (0, 0), ""),
            (RequestError("http", "where", may_have_run=False, status=404), (1, 0), ""),
            (BreakerOpenError("here", 1.0), (0, 0), ""),
        ],
    )
    def test_each_is_what_it_says(
        self, answer: Outcome | Exception, counts: tuple[int, int], cause: str
    ) -> None:
        async def main() -> EndpointRow:
            world = World(probe_s=10.0, failures_max=9)
            world.answers["A"] = answer
            await world.run(5.0)
            return world.row("a")

        row = simulate(main())
        assert ((row.probes, row.failures), row.cause) == (counts, cause)

    def test_one_that_takes_too_long_has_failed(self) -> None:
        async def main() -> EndpointRow:
            world = World(probe_s=10.0, takes_s=3.0, limit_s=2.5)
            await world.run(2.6)
            return world.row("a")

        row = simulate(main())
        assert (row.failures, row.cause) == (1, "no answer within 2.5 s")


class TestEnds:
    def test_what_is_under_way_is_cancelled_and_gives_its_place_back(self) -> None:
        async def main() -> World:
            world = World(takes_s=1.5)
            await world.run(1.0)
            assert [row.probes for row in world.endpoints.snapshot()] == [0, 0]
            world.takes_s = 0.0
            await world.run(1.0)  # another one may run behind it
            return world

        assert [place for _, place in simulate(main()).asked] == ["A", "B", "A", "B"]

    def test_a_probe_that_had_not_begun_gives_its_place_back_too(self) -> None:
        async def main() -> None:
            world = World()
            before = asyncio.all_tasks()
            task = asyncio.create_task(world.prober.run())
            await asyncio.sleep(0)  # it has made its tasks, which have not run
            for probe in asyncio.all_tasks() - before - {task}:
                probe.cancel()
            assert world.endpoints.probes_out == 2
            await asyncio.sleep(0.5)
            assert (world.endpoints.probes_out, world.asked) == (0, [])
            task.cancel()
            await asyncio.wait([task])

        simulate(main())

    def test_a_mistake_of_the_probe_is_raised(self) -> None:
        async def main() -> World:
            world = World()
            world.answers["A"] = LookupError("mistaken")
            with pytest.raises(ExceptionGroup) as caught:
                await world.prober.run()
            assert [type(error) for error in caught.value.exceptions] == [LookupError]
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return world

        assert simulate(main()).endpoints.probes_out == 0

    def test_two_at_once_are_refused(self) -> None:
        async def main() -> None:
            world = World()
            task = asyncio.create_task(world.prober.run())
            await asyncio.sleep(0)
            with pytest.raises(UsageError):
                await Prober(world.endpoints, world.seam, world.probe).run()
            task.cancel()
            await asyncio.wait([task])

        simulate(main())

    @pytest.mark.parametrize("limit_s", [0.0, -1.0, nan, inf])
    def test_a_limit_that_is_none_is_refused(self, limit_s: float) -> None:
        async def main() -> None:
            with pytest.raises(UsageError):
                World(limit_s=limit_s)

        simulate(main())
