"""Many requests, so many at a time: each item has its own result, in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from fake_world import simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswire import RequestError, UsageError
from crosswire.http import Failed, Ok, ask_each


class Halt(BaseException):
    """No Exception, and none that the loop knows."""


class Asked:
    """A venue that is asked for numbers.

    Attributes:
        out, out_max: requests under way now, and at most.
        begun, ended, broken_off: items, in the order in which that happened.
    """

    def __init__(self, takes_s: float = 1.0) -> None:
        self.takes_s = takes_s
        self.out = self.out_max = 0
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.broken_off: list[int] = []
        self.errors: dict[int, BaseException] = {}

    async def call(self, item: int) -> str:
        self.begun.append(item)
        self.out += 1
        self.out_max = max(self.out_max, self.out)
        try:
            await asyncio.sleep(self.takes_s)
            if item in self.errors:
                raise self.errors[item]
            self.ended.append(item)
            return str(item)
        except asyncio.CancelledError:
            self.broken_off.append(item)
            raise
        finally:
            self.out -= 1


def alone(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run in simulated time, and see that no task is left."""

    async def main() -> None:
        await work()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(main())


class TestResults:
    def test_they_are_in_the_order_of_the_items(self) -> None:
        async def work() -> None:
            async def call(item: int) -> int:
                await asyncio.sleep(10 - item)
                return item * item

            found = await ask_each(range(10), call, concurrency=10)
            assert found == [Ok(n * n) for n in range(10)]

        alone(work)

    def test_an_error_is_the_result_of_its_item_alone(self) -> None:
        async def work() -> None:
            asked = Asked()
            error = asked.errors[2] = LookupError("two")
            found = await ask_each(range(5), asked.call, concurrency=2)
            assert found == [Ok("0"), Ok("1"), Failed(error), Ok("3"), Ok("4")]

        alone(work)

    def test_of_nothing_there_is_nothing(self) -> None:
        async def work() -> None:
            assert await ask_each([], Asked().call, concurrency=3) == []

        alone(work)

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from([0, 0.5, 1, 2, 7]), st.booleans()), max_size=30),
        st.integers(1, 8),
    )
    def test_each_has_its_own_whenever_it_ends(
        self, plan: list[tuple[float, bool]], concurrency: int
    ) -> None:
        async def work() -> None:
            out, out_max = 0, 0
            errors = [LookupError(n) for n in range(len(plan))]

            async def call(item: int) -> int:
                nonlocal out, out_max
                takes_s, has_failed = plan[item]
                out += 1
                out_max = max(out, out_max)
                await asyncio.sleep(takes_s)
                out -= 1
                if has_failed:
                    raise errors[item]
                return -item

            found = await ask_each(range(len(plan)), call, concurrency=concurrency)
            assert found == [
                Failed(errors[n]) if has_failed else Ok(-n)
                for n, (_, has_failed) in enumerate(plan)
            ]
            assert out_max == min(concurrency, len(plan))

        alone(work)


class TestBounds:
    def test_so_many_are_under_way_and_no_more(self) -> None:
        async def work() -> None:
            asked = Asked()
            await ask_each(range(10), asked.call, concurrency=3)
            assert asked.out_max == 3
            assert asyncio.get_running_loop().time() == 4.0

        alone(work)

    def test_items_are_taken_when_there_is_room(self) -> None:
        async def work() -> None:
            asked = Asked()
            taken: list[int] = []

            def items() -> Iterator[int]:
                for n in range(1000):
                    taken.append(n)
                    assert len(taken) <= len(asked.ended) + 4
                    yield n

            assert len(await ask_each(items(), asked.call, concurrency=4)) == 1000

        alone(work)

    @pytest.mark.parametrize("concurrency", [0, -1])
    def test_less_than_one_at_a_time_is_refused(self, concurrency: int) -> None:
        async def work() -> None:
            with pytest.raises(UsageError):
                await ask_each([1], Asked().call, concurrency=concurrency)

        alone(work)


class TestStop:
    def test_nothing_new_begins_behind_it_and_nothing_is_missing(self) -> None:
        async def work() -> None:
            asked = Asked()
            ban = asked.errors[3] = RequestError("banned", "418", may_have_run=False, status=418)
            asked.errors[4] = LookupError("four")
            found = await ask_each(
                iter(range(9)), asked.call, concurrency=3,
                stop_on=lambda error: isinstance(error, RequestError),
            )  # fmt: skip
            assert asked.begun == [0, 1, 2, 3, 4, 5]
            assert found[:4] == [Ok("0"), Ok("1"), Ok("2"), Failed(ban)]
            assert found[4:6] == [Failed(asked.errors[4]), Ok("5")]  # they were under way
            assert len(found) == 9
            for result in found[6:]:
                assert isinstance(result, Failed)
                assert isinstance(result.error, RequestError)
                assert (result.error.code, result.error.may_have_run) == ("not-started", False)
                assert result.error.__cause__ is ban
                assert "418" in str(result.error)

        alone(work)

    def test_an_error_that_does_not_stop_stops_nothing(self) -> None:
        async def work() -> None:
            asked = Asked()
            asked.errors[0] = LookupError()
            found = await ask_each(range(4), asked.call, concurrency=1, stop_on=lambda _: False)
            assert found[1:] == [Ok("1"), Ok("2"), Ok("3")]

        alone(work)


class TestEnds:
    def test_a_caller_who_is_cancelled_cancels_all_of_it(self) -> None:
        async def work() -> None:
            asked = Asked()
            task = asyncio.create_task(ask_each(range(9), asked.call, concurrency=3))
            await asyncio.sleep(1.5)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert (asked.ended, asked.broken_off) == ([0, 1, 2], [3, 4, 5])

        alone(work)

    def test_cancelled_again_while_it_ends_it_leaves_no_task_and_breaks_off_no_ending(self) -> None:
        async def work() -> None:
            ended = 0

            async def call(item: int) -> None:
                nonlocal ended
                try:
                    await asyncio.sleep(100)
                finally:
                    await asyncio.sleep(5 * item)
                    ended += 1

            task = asyncio.create_task(ask_each(range(3), call, concurrency=3))
            await asyncio.sleep(1)
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(1)
            assert not task.done()
            await asyncio.wait([task])
            assert (task.cancelled(), ended) == (True, 3)

        alone(work)

    @pytest.mark.parametrize("kind", [asyncio.CancelledError, Halt])
    def test_what_is_no_exception_is_raised(self, kind: type[BaseException]) -> None:
        async def work() -> None:
            asked = Asked()
            asked.errors[1] = kind("one")
            with pytest.raises(kind):
                await ask_each(range(9), asked.call, concurrency=3)
            assert asked.out == 0
            assert set(asked.begun) == {1, *asked.ended, *asked.broken_off}
            assert len(asked.begun) < 9

        alone(work)

    def test_an_interrupt_is_raised_out_of_the_loop(self) -> None:
        asked = Asked()
        asked.errors[1] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            simulate(ask_each(range(9), asked.call, concurrency=3))
        assert asked.out == 0

    @pytest.mark.parametrize("at", [1, 5])
    def test_what_the_items_raise_is_raised(self, at: int) -> None:
        async def work() -> None:
            asked = Asked()

            def items() -> Iterator[int]:
                yield from range(at)
                raise LookupError("no more")

            with pytest.raises(LookupError, match="no more"):
                await ask_each(items(), asked.call, concurrency=3)
            assert asked.out == 0

        alone(work)

    def test_what_the_predicate_raises_is_raised(self) -> None:
        async def work() -> None:
            asked = Asked()
            asked.errors[1] = LookupError()

            def stop_on(error: Exception) -> bool:
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await ask_each(range(9), asked.call, concurrency=3, stop_on=stop_on)
            assert asked.out == 0

        alone(work)
