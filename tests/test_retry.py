"""Asking again: what, when and how long, in simulated time."""

from __future__ import annotations

import asyncio
import calendar
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from math import inf, nan

import pytest
from fake_world import FakeSeam, simulate
from hypothesis import given
from hypothesis import strategies as st

from crosswire import RequestError, UsageError
from crosswire.backoff import Jitter
from crosswire.http import Effect, Repeat, Retry, parse_retry_after, passes
from crosswire.http.retry import DATE

NOW_S = calendar.timegm((1994, 11, 6, 8, 49, 30))
NOW_NS = NOW_S * 10**9


def error(status: int | None = None, retry_after_s: float | None = None) -> RequestError:
    return RequestError(
        "asked-in-vain", f"{status}", may_have_run=True, status=status, retry_after_s=retry_after_s
    )


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("0", 0.0), ("120", 120.0), (" 7\t", 7.0), ("999999999", 999_999_999.0), ("1.5", 1.5)],
    )
    def test_seconds(self, text: str, seconds: float) -> None:
        assert parse_retry_after(text, NOW_NS) == seconds

    @pytest.mark.parametrize(
        "text",
        [
            "Sun, 06 Nov 1994 08:49:37 GMT",  # the three of RFC 9110, 5.6.7
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ],
    )
    def test_a_date_in_each_form(self, text: str) -> None:
        assert parse_retry_after(text, NOW_NS) == 7.0
        assert parse_retry_after(text, NOW_NS + 10**9 // 2) == 6.5
        assert parse_retry_after(text, NOW_NS + 60 * 10**9) == 0.0

    @given(st.integers(0, 4_102_444_799), st.integers(0, 10**6))
    def test_any_date_is_read_as_it_was_written(self, now_s: int, later_s: int) -> None:
        text = formatdate(now_s + later_s, usegmt=True)
        assert parse_retry_after(text, now_s * 10**9) == later_s

    @pytest.mark.parametrize(
        "text",
        ["", "-1", "+1", "1e3", "0x10", "1,5", "nan", "inf", "soon", "1 2", "١٢", "9" * 40, "1.",
         ".5", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET",
         "06 Nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
         "Sun, 32 Nov 1994 08:49:37 GMT",
         "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT",
         "Sun, 06 Nov 1994 08:49:37 GMT, 5"],
    )  # fmt: skip
    def test_what_is_neither_is_none(self, text: str) -> None:
        assert parse_retry_after(text, NOW_NS) is None

    @given(st.text(max_size=40) | st.from_regex(DATE, fullmatch=True))
    def test_no_text_raises(self, text: str) -> None:
        found = parse_retry_after(text, NOW_NS)
        assert found is None or 0.0 <= found < inf


class TestWhatPasses:
    def test_no_answer_and_those_that_may_change(self) -> None:
        assert passes(error())
        changing = {status for status in range(100, 600) if passes(error(status))}
        assert changing == {408, 429, *range(500, 600)}


class World:
    """A venue that fails as it is told, and what it saw."""

    def __init__(self, *answers: RequestError | str, takes_s: float = 0.0) -> None:
        self.seam = FakeSeam()
        self.answers = list(answers)
        self.takes_s = takes_s
        self.begun: list[float] = []
        self.given: list[float] = []
        self.repeats: list[Repeat] = []

    async def call(self, left_s: float) -> str:
        self.begun.append(self.seam.seconds())
        self.given.append(left_s)
        await asyncio.sleep(self.takes_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, RequestError):
            raise answer
        return answer

    async def run(
        self, effect: Effect = Effect.READ, limit_s: float = 10.0, base_s: float = 1.0
    ) -> str:
        retry = Retry(
            self.seam, base_s=base_s, cap_s=max(base_s, 4.0), on_repeat=self.repeats.append
        )
        return await retry.run(self.call, effect=effect, limit_s=limit_s)


def ended(world: World, work: Callable[[], Awaitable[str]]) -> tuple[str | RequestError, float]:
    """Run in simulated time; returns what came of it, and when."""

    async def main() -> tuple[str | RequestError, float]:
        try:
            found: str | RequestError = await work()
        except RequestError as failure:
            found = failure
        return found, world.seam.seconds()

    return simulate(main())


class TestRetry:
    @pytest.mark.parametrize("effect", [Effect.READ, Effect.IDEMPOTENT])
    def test_what_may_be_asked_twice_is_until_it_succeeds(self, effect: Effect) -> None:
        world = World(error(), error(503), error(408), "answer")
        assert ended(world, lambda: world.run(effect))[0] == "answer"
        assert [(low, high) for low, high, _ in world.seam.drawn] == [(0, 1), (0, 2), (0, 4)]
        waits = [value for _, _, value in world.seam.drawn]
        assert world.begun == pytest.approx([0, *(sum(waits[: n + 1]) for n in range(3))])
        assert [r.attempt for r in world.repeats] == [1, 2, 3]
        assert [r.delay_s for r in world.repeats] == waits
        assert [r.error.status for r in world.repeats] == [None, 503, 408]

    @pytest.mark.parametrize("status", [None, 408, 429, 500, 503])
    def test_an_order_is_asked_once_whatever_comes(self, status: int | None) -> None:
        failure = error(status)
        world = World(failure)
        assert ended(world, lambda: world.run(Effect.ONCE)) == (failure, 0.0)
        assert (len(world.begun), world.repeats) == (1, [])

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 418, 451])
    def test_what_does_not_pass_is_not_asked_again(self, status: int) -> None:
        failure = error(status, 1.0)
        world = World(failure)
        assert ended(world, lambda: world.run()) == (failure, 0.0)
        assert len(world.begun) == 1

    def test_a_venue_that_says_when_is_left_alone_until_then(self) -> None:
        world = World(error(429, 3.0), "answer")
        assert ended(world, lambda: world.run())[0] == "answer"
        drawn = world.seam.drawn[0][2]
        assert world.begun[1] == pytest.approx(3.0 + drawn)
        assert world.repeats[0].delay_s == 3.0 + drawn

    def test_what_would_begin_behind_the_deadline_is_not_waited_for(self) -> None:
        failure = error(429, 10.0)
        world = World(failure)
        assert ended(world, lambda: world.run()) == (failure, 0.0)

    def test_no_attempt_begins_behind_the_deadline_and_each_is_told_what_is_left(self) -> None:
        world = World(error(), takes_s=0.25)
        found, at = ended(world, lambda: world.run(base_s=0.1))
        assert isinstance(found, RequestError)
        assert at <= 10.25
        assert len(world.begun) > 3
        assert all(begun < 10.0 for begun in world.begun)
        assert world.given == pytest.approx([10.0 - begun for begun in world.begun])

    def test_how_long_an_answer_took_is_no_part_of_the_next_delay(self) -> None:
        async def main(takes_s: float) -> list[float]:
            world = World(*[error()] * 5, "answer", takes_s=takes_s)
            retry = Retry(
                world.seam, base_s=0.1, cap_s=9.0, jitter=Jitter.DECORRELATED,
                on_repeat=world.repeats.append,
            )  # fmt: skip
            await retry.run(world.call, effect=Effect.READ, limit_s=1000.0)
            return [repeat.delay_s for repeat in world.repeats]

        assert simulate(main(0.0)) == simulate(main(20.0))

    def test_other_errors_are_the_callers(self) -> None:
        async def main() -> None:
            async def call(left_s: float) -> str:
                raise KeyError(left_s)

            with pytest.raises(KeyError):
                await Retry(FakeSeam()).run(call, effect=Effect.READ, limit_s=1.0)

        simulate(main())

    def test_cancelling_ends_the_wait(self) -> None:
        async def main() -> None:
            world = World(error())
            task = asyncio.create_task(world.run(base_s=4.0, limit_s=1e6))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert len(world.begun) == 1

        simulate(main())

    @pytest.mark.parametrize("limit_s", [0.0, -1.0, nan, inf])
    def test_a_limit_that_makes_no_sense_is_refused(self, limit_s: float) -> None:
        world = World("answer")
        with pytest.raises(UsageError, match="limit_s must be in seconds, above 0 and below 1e9"):
            simulate(world.run(limit_s=limit_s))
        assert world.begun == []

    def test_delays_that_make_no_sense_are_refused(self) -> None:
        with pytest.raises(UsageError, match="0 < base_s <= cap_s"):
            Retry(FakeSeam(), base_s=2.0, cap_s=1.0)


def test_who_slept_past_the_deadline_does_not_ask_again() -> None:
    class Drowsy(FakeSeam):
        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds + 10.0)

    async def main() -> list[float]:
        given_s: list[float] = []

        async def ask(left_s: float) -> None:
            given_s.append(left_s)
            raise error(503)

        with pytest.raises(RequestError, match="503"):
            await Retry(Drowsy()).run(ask, effect=Effect.READ, limit_s=2.0)
        return given_s

    assert simulate(main()) == [2.0]
