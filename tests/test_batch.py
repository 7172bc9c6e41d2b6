"""Several items in one request: who goes with whom, and whose result is whose."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Hashable, Iterator, Sequence
from math import inf, nan
from typing import Any

import pytest
from fake_world import FakeSeam, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswire import RequestError, UsageError, VenueError
from crosswire.http import Batcher, Failed, Ok

Answer = Callable[[list[int]], Sequence[Any]]


class World:
    """A venue with a batch endpoint, and what it saw.

    Attributes:
        sent: (time in s, items) of each request.
        answer: makes the results of a request; what it raises is raised.
    """

    def __init__(self, takes_s: float = 0.0, **terms: Any) -> None:
        self.seam = FakeSeam()
        self.takes_s = takes_s
        self.sent: list[tuple[float, list[int]]] = []
        self.out = self.out_max = self.broken_off = 0
        self.answer: Answer = lambda items: [str(item) for item in items]
        self.batcher: Batcher[int, Any] = Batcher(self.seam, self.send, **{"size_max": 3} | terms)

    async def send(self, items: list[int]) -> Sequence[Any]:
        self.sent.append((self.seam.seconds(), items))
        self.out += 1
        self.out_max = max(self.out, self.out_max)
        try:
            await asyncio.sleep(self.takes_s)
            return self.answer(items)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        finally:
            self.out -= 1

    def ask(self, *items: int) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self.batcher.call(item)) for item in items]


def by_id(**terms: Any) -> World:
    """A world whose results are (id, text)."""
    world = World(id_of_item=lambda item: item, id_of_result=lambda result: result[0], **terms)
    world.answer = lambda items: [(item, str(item)) for item in reversed(items)]
    return world


def alone(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run in simulated time, and see that no task is left."""

    async def main() -> None:
        await work()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(main())


def codes(results: Sequence[object]) -> list[object]:
    """Return the values of what was answered, and the codes of what was not."""
    found: list[object] = []
    for result in results:
        if isinstance(result, Failed):
            assert isinstance(result.error, RequestError)
            found.append((result.error.code, result.error.may_have_run))
        else:
            assert isinstance(result, Ok)
            found.append(result.value)
    return found


class TestCompany:
    def test_those_who_ask_in_one_turn_go_together(self) -> None:
        async def work() -> None:
            world = World()
            assert await asyncio.gather(*world.ask(1, 2)) == ["1", "2"]
            assert world.sent == [(0.0, [1, 2])]
            assert world.batcher.sent == 1

        alone(work)

    def test_the_first_waits_for_company_for_so_long(self) -> None:
        async def work() -> None:
            world = World(linger_s=1.0)
            (first,) = world.ask(1)
            await asyncio.sleep(0.75)
            (second,) = world.ask(2)
            await asyncio.sleep(0.5)
            (third,) = world.ask(3)
            await asyncio.gather(first, second, third)
            assert world.sent == [(1.0, [1, 2]), (2.25, [3])]

        alone(work)

    def test_a_full_request_waits_for_nobody(self) -> None:
        async def work() -> None:
            world = World(linger_s=1.0)
            tasks = world.ask(*range(7))
            await asyncio.gather(*tasks)
            assert world.sent == [(0.0, [0, 1, 2]), (0.0, [3, 4, 5]), (1.0, [6])]

        alone(work)

    def test_items_of_different_keys_are_never_together(self) -> None:
        async def work() -> None:
            world = World(key_of=lambda item: item % 2)
            found = await world.batcher.call_all(range(8))
            assert codes(found) == [str(n) for n in range(8)]
            assert sorted(items for _, items in world.sent) == [[0, 2, 4], [1, 3, 5], [6], [7]]

        alone(work)

    def test_no_more_requests_are_out_than_may_be(self) -> None:
        async def work() -> None:
            world = World(takes_s=1.0, concurrency=2)
            await world.batcher.call_all(range(15))
            assert (world.out_max, world.batcher.sent) == (2, 5)
            assert world.seam.seconds() == 3.0

        alone(work)

    def test_items_at_once_do_not_linger_and_leave_those_of_other_keys(self) -> None:
        async def work() -> None:
            world = World(linger_s=5.0, key_of=lambda item: item % 2)
            (other,) = world.ask(1)
            await asyncio.sleep(0)
            assert codes(await world.batcher.call_all([0, 2])) == ["0", "2"]
            assert world.sent == [(0.0, [0, 2])]
            assert await other == "1"
            assert world.sent[1:] == [(5.0, [1])]

        alone(work)

    def test_no_items_are_no_request(self) -> None:
        async def work() -> None:
            world = World()
            assert await world.batcher.call_all([]) == []
            assert world.sent == []

        alone(work)


class TestWhoseResult:
    def test_a_request_that_fails_has_failed_for_each_of_its_items(self) -> None:
        async def work() -> None:
            world = World(size_max=2)

            def answer(items: list[int]) -> list[str]:
                if 2 in items:
                    raise RequestError("timeout", "no answer", may_have_run=True)
                return [str(item) for item in items]

            world.answer = answer
            found = await world.batcher.call_all(range(5))
            assert codes(found) == ["0", "1", ("timeout", True), ("timeout", True), "4"]

        alone(work)

    @pytest.mark.parametrize("size", [0, 1, 3, 4])
    def test_by_place_another_number_of_results_is_nobodys(self, size: int) -> None:
        async def work() -> None:
            world = World(size_max=2)
            world.answer = lambda items: ["x"] * (size if 0 in items else len(items))
            found = await world.batcher.call_all(range(4))
            assert codes(found) == [("batch-count", True)] * 2 + ["x", "x"]
            (error,) = {result.error for result in found if isinstance(result, Failed)}
            assert isinstance(error, VenueError)
            assert f"{size} results for 2 items" in str(error)

        alone(work)

    def test_by_id_the_order_of_the_results_does_not_matter(self) -> None:
        async def work() -> None:
            found = await by_id().batcher.call_all([5, 6, 7, 8])
            assert codes(found) == [(n, str(n)) for n in (5, 6, 7, 8)]

        alone(work)

    @pytest.mark.parametrize(
        ("results", "expected", "strays"),
        [
            ([], ["batch-missing"] * 3, 0),
            ([(1, "a"), (3, "c")], [(1, "a"), "batch-missing", (3, "c")], 0),
            ([(1, "a"), (2, "b"), (2, "b"), (3, "c")], [(1, "a"), "batch-doubled", (3, "c")], 0),
            ([(9, "x"), (2, "b"), (1, "a"), (3, "c")], [(1, "a"), (2, "b"), (3, "c")], 1),
            ([(9, "x"), (2, "b"), (3, "c")], ["batch-missing", (2, "b"), (3, "c")], 1),
            ([None, 7, (), ([], "y"), (1, "a")], [(1, "a"), *["batch-missing"] * 2], 4),
        ],
    )
    def test_by_id_only_those_concerned_have_failed(
        self,
        results: list[Any],
        expected: list[object],
        strays: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async def work() -> None:
            world = by_id()
            world.answer = lambda items: results
            found = await world.batcher.call_all([1, 2, 3])
            assert codes(found) == [(e, True) if isinstance(e, str) else e for e in expected]
            assert world.batcher.strays == strays

        alone(work)
        told = [f"{strays} of {len(results)} results belong to no item"] if strays else []
        assert [record.getMessage() for record in caplog.records] == told

    def test_items_of_one_id_are_never_together(self) -> None:
        async def work() -> None:
            world = by_id()
            found = await world.batcher.call_all([1, 2, 1, 1])
            assert [items for _, items in world.sent] == [[1, 2], [1], [1]]
            assert codes(found) == [(1, "1"), (2, "2"), (1, "1"), (1, "1")]

        alone(work)

    def test_what_was_sent_is_never_said_to_be_not_started(self) -> None:
        class Results(list[str]):
            def __iter__(self) -> Iterator[str]:
                return next(iter([]))

        async def work() -> None:
            world = World()
            world.answer = lambda items: Results(map(str, items))
            found = await world.batcher.call_all([1, 2])
            errors = [result.error for result in found if isinstance(result, Failed)]
            assert [type(error) for error in errors] == [RuntimeError] * 2
            assert isinstance(errors[0].__cause__, StopIteration)
            assert len(world.sent) == 1

        alone(work)

    def test_results_that_are_none_have_failed_for_each(self) -> None:
        async def work() -> None:
            world = World()
            world.answer = lambda items: None  # type: ignore[arg-type, return-value]
            found = await world.batcher.call_all([1, 2])
            errors = [r.error for r in found if isinstance(r, Failed)]
            assert [(e.code, e.may_have_run) for e in errors if isinstance(e, RequestError)] == [
                ("batch-count", True), ("batch-count", True),
            ]  # fmt: skip

        alone(work)

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 3), st.booleans())
    def test_in_any_interleaving_each_has_its_own(
        self, seed: int, size_max: int, concurrency: int, has_ids: bool
    ) -> None:
        draw = random.Random(seed)
        terms: dict[str, Any] = {"size_max": size_max, "concurrency": concurrency,
                                 "linger_s": draw.choice([0.0, 0.5]),
                                 "key_of": lambda item: item % 3}  # fmt: skip

        async def work() -> None:
            world = by_id(**terms) if has_ids else World(**terms)
            plain = world.send

            async def send(items: list[int]) -> Sequence[Any]:
                await asyncio.sleep(draw.choice([0.0, 0.1, 0.6]))
                if draw.random() < 0.2:
                    raise RequestError("cut", f"{sorted(items)}", may_have_run=True)
                return await plain(items)

            world.batcher._send_batch = send
            cancelled: set[int] = set()
            answers: dict[int, Any] = {}

            async def caller(item: int) -> None:
                await asyncio.sleep(draw.choice([0.0, 0.1, 0.4, 1.0]))
                answers[item] = None
                try:
                    answers[item] = await world.batcher.call(item)
                except RequestError as error:
                    answers[item] = error

            async with world.batcher:
                tasks = [asyncio.create_task(caller(item)) for item in range(20)]
                for item in draw.sample(range(20), 4):
                    await asyncio.sleep(draw.choice([0.0, 0.2]))
                    if tasks[item].cancel():
                        cancelled.add(item)
                await asyncio.wait(tasks)
            for item, task in enumerate(tasks):
                if task.cancelled():
                    assert item in cancelled
                elif isinstance(answers[item], RequestError):
                    assert str(item) in answers[item].text.strip("[]").split(", ")
                else:
                    assert answers[item] == ((item, str(item)) if has_ids else str(item))
            seen = [item for _, items in world.sent for item in items]
            assert len(seen) == len(set(seen))
            assert all(len(items) <= size_max for _, items in world.sent)
            assert all(len({item % 3 for item in items}) == 1 for _, items in world.sent)

        alone(work)


class TestCancelled:
    def test_an_item_whose_caller_left_is_not_sent(self) -> None:
        async def work() -> None:
            world = World(linger_s=1.0)
            first, second = world.ask(1, 2)
            await asyncio.sleep(0.5)
            first.cancel()
            assert await second == "2"
            assert world.sent == [(1.0, [2])]

        alone(work)

    def test_where_all_left_nothing_is_sent(self) -> None:
        async def work() -> None:
            world = World(linger_s=1.0)
            tasks = world.ask(1, 2)
            await asyncio.sleep(0.5)
            for task in tasks:
                task.cancel()
            await asyncio.sleep(1.0)
            assert (world.sent, world.batcher.sent) == ([], 0)

        alone(work)

    def test_what_was_sent_goes_on_for_the_others(self) -> None:
        async def work() -> None:
            world = World(takes_s=1.0)
            first, second = world.ask(1, 2)
            await asyncio.sleep(0.5)
            first.cancel()
            assert await second == "2"
            assert (world.sent, world.broken_off) == ([(0.0, [1, 2])], 0)

        alone(work)

    def test_one_who_asked_for_many_takes_all_of_them_out(self) -> None:
        async def work() -> None:
            world = World(takes_s=1.0, concurrency=1)
            task = asyncio.create_task(world.batcher.call_all(range(9)))
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.wait([task])
            await world.batcher.close()
            assert task.cancelled()
            assert world.sent == [(0.0, [0, 1, 2])]

        alone(work)


class TestClose:
    def test_what_waits_is_sent_at_the_end_of_the_block(self) -> None:
        async def work() -> None:
            world = World(linger_s=60.0, takes_s=1.0)
            async with world.batcher:
                tasks = world.ask(1, 2)
                await asyncio.sleep(0)
            assert [task.result() for task in tasks] == ["1", "2"]
            assert world.sent == [(0.0, [1, 2])]

        alone(work)

    def test_where_the_block_raised_it_has_failed(self) -> None:
        async def work() -> None:
            world = World(linger_s=60.0, takes_s=1.0, size_max=2)
            tasks = world.ask(1, 2, 3)

            async def block() -> None:
                async with world.batcher:
                    await asyncio.sleep(0.5)
                    raise LookupError

            with pytest.raises(LookupError):
                await block()
            await asyncio.sleep(100.0)  # its timer does not come either
            assert [task.result() for task in tasks[:2]] == ["1", "2"]  # they were under way
            error = tasks[2].exception()
            assert isinstance(error, RequestError)
            assert (error.code, error.may_have_run) == ("not-started", False)
            assert world.sent == [(0.0, [1, 2])]

        alone(work)

    def test_nothing_is_taken_behind_it(self) -> None:
        async def work() -> None:
            world = World()
            await world.batcher.close()
            await world.batcher.close()
            with pytest.raises(UsageError):
                await world.batcher.call(1)
            with pytest.raises(UsageError):
                await world.batcher.call_all([1])

        alone(work)

    def test_cancelled_while_it_waits_it_breaks_off_what_is_under_way(self) -> None:
        async def work() -> None:
            world = World(takes_s=100.0, size_max=1, concurrency=1)
            tasks = world.ask(1, 2)
            await asyncio.sleep(0)
            close = asyncio.create_task(world.batcher.close())
            await asyncio.sleep(1.0)
            close.cancel()
            await asyncio.wait([close, *tasks])
            assert close.cancelled()
            assert world.broken_off == 1
            first, second = (task.exception() for task in tasks)
            assert isinstance(first, RequestError)
            assert (first.code, first.may_have_run) == ("batch-cancelled", True)
            assert isinstance(second, RequestError)  # it waited for room
            assert (second.code, second.may_have_run) == ("not-started", False)

        alone(work)


class TestTerms:
    @pytest.mark.parametrize(
        "terms",
        [{"size_max": 0}, {"concurrency": 0}, {"linger_s": -1.0}, {"linger_s": nan},
         {"linger_s": inf}, {"id_of_item": str}, {"id_of_result": str}],
    )  # fmt: skip
    def test_those_that_make_no_sense_are_refused(self, terms: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            World(**terms)

    def test_an_item_without_a_key_or_id_is_the_callers_mistake_alone(self) -> None:
        async def work() -> None:
            def no_list(item: object) -> Hashable:
                return [] if item == 1 else item  # type: ignore[return-value]

            world = World(linger_s=1.0, id_of_item=no_list, id_of_result=int)
            bad, good = world.ask(1, 2)
            await asyncio.wait([bad, good])
            assert isinstance(bad.exception(), TypeError)
            assert good.result() == "2"

        alone(work)
