"""The limiter: refusals, headers, deadlines, clocks, and what it tells of itself."""

from __future__ import annotations

import asyncio
import random
from fractions import Fraction
from typing import Any

import pytest
from fake_world import simulate
from limiter_help import BANNED, REFUSED, ROLLING, made, refusal_of, told, turns
from limiter_model import LimiterSeam, S

from crosswire import RequestError, UsageError
from crosswire.errors import LimitError
from crosswire.http import Kind, Limiter, LimitEvent, LimitEventKind, Phases, Response
from crosswire.limits import Count, Limit, Refusal, Scope, Signal
from crosswire.venues import venue_limits

# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        (None, 60.0),
        ("7", 7.0),
        ("0", 0.0),
        ("2.5", 2.5),
        ("-5", 60.0),
        ("soon", 60.0),
        ("", 60.0),
        ("1e3", 60.0),
        ("٣", 60.0),
        ("Thu, 06 Aug 2026 07:07:10 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_a_refusal_stops_all_but_cancels_for_as_long_as_it_says(
    retry_after: str | None, wait_s: float | None
) -> None:
    async def main() -> None:
        limiter, seam = made(ROLLING)
        call, cancel = limiter.call("GET /x"), limiter.call("DELETE /x", kind=Kind.CANCEL)
        headers = [] if retry_after is None else [("retry-after", retry_after)]
        stopped_s = wait_s
        if stopped_s is None:
            stopped_s = 1_786_000_030 - seam.time_ns() / S
            assert stopped_s == 30
        (await limiter.acquire(call)).answered(REFUSED, headers)
        assert limiter.stopped_s(call) == pytest.approx(stopped_s)
        assert (limiter.try_acquire(call) is None) == (stopped_s > 0)
        assert limiter.try_acquire(cancel) is not None
        await limiter.acquire(call)
        assert seam.seconds() == pytest.approx(stopped_s, abs=1e-5)
        assert (limiter.usage.refusals, limiter.usage.bans) == (1, 0)

    simulate(main())


@pytest.mark.parametrize("status", [REFUSED, BANNED])
@pytest.mark.parametrize("digits", [9, 12, 30, 400, 5000])
def test_a_huge_retry_after_neither_fails_nor_lets_anybody_go(status: int, digits: int) -> None:
    async def main() -> None:
        limiter, _ = made(ROLLING)
        call = limiter.call("GET /x")
        (await limiter.acquire(call)).answered(status, [("retry-after", "9" * digits)])
        code = "rate-limited" if status == REFUSED else "rate-banned"
        assert (await refusal_of(limiter.acquire(call, limit_s=59.0))).code == code

    simulate(main())


def test_a_ban_sends_all_away_until_it_ends() -> None:
    async def main() -> None:
        events: list[LimitEvent] = []
        limiter, _ = made(ROLLING, on_event=events.append)
        calls = [limiter.call("GET /x", kind=kind) for kind in Kind]
        tickets = [await limiter.acquire(calls[3]) for _ in range(10)]
        waiting = [asyncio.create_task(limiter.acquire(call)) for call in calls for _ in range(9)]
        await turns()
        tickets[0].answered(BANNED, [("retry-after", "10")])
        await turns()
        for task in waiting:
            error = task.exception()
            assert isinstance(error, LimitError)
            assert (error.code, error.left_s, error.may_have_run) == ("rate-banned", 10.0, False)
        await asyncio.sleep(4)
        tickets[1].answered(BANNED, [("retry-after", "20")])  # it is longer now
        for ticket in tickets[2:]:
            ticket.answered(BANNED, [("retry-after", "1")])  # that makes it no shorter
        await asyncio.sleep(19.9)
        for call in calls:
            with pytest.raises(LimitError) as caught:
                limiter.try_acquire(call)
            assert caught.value.left_s == pytest.approx(0.1)
            assert (await refusal_of(limiter.acquire(call))).code == "rate-banned"
        assert limiter.usage.passed == 10
        await asyncio.sleep(0.1)
        for call in calls:
            assert limiter.try_acquire(call) is not None
        assert limiter.usage.bans == 10
        assert [event.left_s for event in events if event.kind is LimitEventKind.BANNED][:2] == [
            10.0,
            20.0,
        ]

    simulate(main())


def test_a_refusal_amid_a_ban_keeps_no_cancel_beyond_its_end() -> None:
    async def main() -> None:
        limiter, _ = made(ROLLING)
        call, cancel = limiter.call("GET /x"), limiter.call("DELETE /x", kind=Kind.CANCEL)
        first, second = await limiter.acquire(call), await limiter.acquire(call)
        first.answered(BANNED, [("retry-after", "10")])
        second.answered(REFUSED, [("retry-after", "100")])
        assert limiter.stopped_s(cancel) == 10
        await asyncio.sleep(10.1)
        assert limiter.stopped_s(cancel) == 0
        assert limiter.try_acquire(cancel) is not None
        assert limiter.try_acquire(call) is None
        await asyncio.sleep(90)
        assert limiter.try_acquire(call) is not None

    simulate(main())


@pytest.mark.parametrize("scope", list(Scope))
def test_a_refusal_stops_only_what_it_is_for(scope: Scope) -> None:
    async def main() -> None:
        refusals = (Refusal(None, "10006", per=(scope,), wait_s=3.0),)
        limiter, _ = made(ROLLING, refusals=refusals)
        mine: dict[str, str] = {"endpoint": "GET /x", "key": "a", "instrument": "p"}
        other = mine | {scope.value: "GET /other"}
        call, free = limiter.call(**mine), limiter.call(**other)  # type: ignore[arg-type]
        (await limiter.acquire(call)).answered(200, code="10006")
        assert limiter.try_acquire(call) is None
        assert limiter.try_acquire(free) is not None
        waits = asyncio.create_task(limiter.acquire(call))
        await turns()
        assert limiter.try_acquire(free) is not None
        (await limiter.acquire(free)).answered(200, code="0")  # no refusal
        await waits
        assert limiter.usage.refusals == 1

    simulate(main())


# ------------------------------------------------------------------ what headers tell


@pytest.mark.parametrize("signal", list(Signal))
@pytest.mark.parametrize("count", list(Count))
def test_a_second_client_is_counted_once_it_was_told_of(count: Count, signal: Signal) -> None:
    async def main() -> None:
        limiter, _ = made(told(count, signal))
        call, draw = limiter.call("GET /x"), random.Random(2)
        at_venue = foreign = 0
        while (ticket := limiter.try_acquire(call)) is not None:
            at_venue += 1
            assert at_venue <= 100
            shown = at_venue if signal is Signal.USED else 100 - at_venue
            ticket.answered(200, [("x", str(shown))])
            assert limiter.usage.foreign == foreign
            if draw.random() < 0.3 and at_venue < 97:
                at_venue, foreign = at_venue + 3, foreign + 3
                # the other's are told of by the next answer
                ticket = limiter.try_acquire(call)
                assert ticket is not None
                at_venue += 1
                shown = at_venue if signal is Signal.USED else 100 - at_venue
                ticket.answered(200, [("x", str(shown))])
        assert at_venue == 100
        assert limiter.rows()[0].used == 100

    simulate(main())


@pytest.mark.parametrize("count", list(Count))
def test_what_no_number_is_or_less_than_known_changes_nothing(count: Count) -> None:
    async def main() -> None:
        limiter, _ = made(told(count))
        call = limiter.call("GET /x")
        garbage = ["", "-1", "1.5", "many", "0x10", "1e9", "٣", " 7", "9" * 5000, "nan"]
        for text in garbage:
            (await limiter.acquire(call)).answered(200, [("x", text)])
        assert limiter.usage.unread == len(garbage)
        for text in ("0", "3", "11"):
            (await limiter.acquire(call)).answered(200, [("x", text)])
        assert (limiter.usage.foreign, limiter.rows()[0].used) == (0, 13)
        (await limiter.acquire(call)).answered(200, [("y", "90")])
        assert limiter.usage.foreign == 0
        (await limiter.acquire(call)).answered(200, [("x", "90"), ("x", "95")])
        assert limiter.usage.foreign == 75  # the first one counts

    simulate(main())


def test_an_answer_of_the_window_before_does_not_fill_this_one() -> None:
    async def main() -> None:
        limiter, seam = made(told(Count.CALENDAR))
        left_s = 60 - seam.time_ns() / S % 60
        await asyncio.sleep(left_s - 1)
        ticket = await limiter.acquire(limiter.call("GET /x"))
        await asyncio.sleep(2)
        ticket.answered(200, [("x", "100")])
        assert (limiter.usage.foreign, limiter.rows()[0].used) == (0, 1)

    simulate(main())


# ------------------------------------------------------------------ deadlines and cancelled callers


def test_a_deadline_gives_the_place_back() -> None:
    async def main() -> None:
        limiter, seam = made(Limit("one", "weight", 10, Count.ROLLING, 1.0))
        large, small = (limiter.call("GET /x", costs={"weight": n}) for n in (10, 1))
        held = [await limiter.acquire(small) for _ in range(2)]
        gives_up = asyncio.create_task(limiter.acquire(large, limit_s=0.5))
        await turns()
        waits = asyncio.create_task(limiter.acquire(small))
        await turns()
        assert not waits.done()
        await waits
        assert seam.seconds() == pytest.approx(0.5, abs=1e-6)
        error = gives_up.exception()
        assert isinstance(error, LimitError)
        assert (error.code, error.left_s, error.may_have_run) == ("rate-limited", 0.0, False)
        assert len(held) == 2
        assert limiter.waiting == 0

    simulate(main())


def test_a_deadline_of_nothing_still_takes_what_is_there() -> None:
    async def main() -> None:
        limiter, _ = made(ROLLING)
        call = limiter.call("GET /x")
        for _ in range(10):
            await limiter.acquire(call, limit_s=0.0)
        assert (await refusal_of(limiter.acquire(call, limit_s=0.0))).code == "rate-limited"

    simulate(main())


def test_so_many_may_wait_and_no_more() -> None:
    async def main() -> None:
        limiter, _ = made(ROLLING, waiting_max=3)
        call = limiter.call("GET /x")
        tickets = [await limiter.acquire(call) for _ in range(10)]
        tasks = [asyncio.create_task(limiter.acquire(call)) for _ in range(3)]
        await turns()
        assert (await refusal_of(limiter.acquire(call))).code == "rate-waiting"
        tasks[1].cancel()
        await turns()
        tasks[1] = asyncio.create_task(limiter.acquire(call))
        for ticket in tickets:
            ticket.unsent()
        await asyncio.gather(*tasks)
        assert limiter.waiting == 0

    simulate(main())


def test_a_caller_cancelled_as_it_is_let_go_leaves_nobody_behind() -> None:
    async def main() -> None:
        limiter, seam = made(Limit("one", "requests", 1, Count.ROLLING, 1.0))
        call = limiter.call("GET /x")
        ticket = await limiter.acquire(call)
        tasks = [asyncio.create_task(limiter.acquire(call)) for _ in range(100)]
        await turns()
        ticket.unsent()
        for task in tasks[:-1]:
            task.cancel()
        await tasks[-1]
        assert seam.seconds() == 0
        assert (limiter.waiting, limiter.rows()[0].used) == (0, 1)

    simulate(main())


# ------------------------------------------------------------------ clocks


@pytest.mark.parametrize("step_s", [-3600, 3600])
@pytest.mark.parametrize("count", list(Count))
def test_a_step_of_this_machines_utc_changes_no_wait(count: Count, step_s: int) -> None:
    async def main(step_s: int) -> float:
        limiter, seam = made(Limit("one", "requests", 1, count, 7.0, Fraction(1, 7)))
        call = limiter.call("GET /x")
        (await limiter.acquire(call)).answered()
        waits = asyncio.create_task(limiter.acquire(call))
        await asyncio.sleep(0.5)
        seam.utc_step_ns += step_s * S
        (await waits).answered()
        await limiter.acquire(call)
        return seam.seconds()

    assert simulate(main(step_s)) == simulate(main(0))


def test_set_clock_moves_the_ends_of_calendar_windows() -> None:
    async def main() -> None:
        limiter, seam = made(Limit("one", "requests", 1, Count.CALENDAR, 60.0))
        call = limiter.call("GET /x")
        utc = seam.time_ns() // S // 60 * 60 * S
        limiter.set_clock(utc + 10 * S - seam.monotonic_ns())
        (await limiter.acquire(call)).answered()
        waits = asyncio.create_task(limiter.acquire(call))
        await turns()
        limiter.set_clock(utc + 40 * S - seam.monotonic_ns())  # who waits goes 30 s sooner
        (await waits).answered()
        assert seam.seconds() == pytest.approx(20.1, abs=1e-5)
        waits = asyncio.create_task(limiter.acquire(call))
        await turns()
        limiter.set_clock(utc + 50 * S - seam.monotonic_ns())  # it is the minute before, after all
        await waits
        assert seam.seconds() == pytest.approx(30.2, abs=1e-5)

    simulate(main())


# ------------------------------------------------------------------ what it tells


def test_events_tell_when_somebody_waits_and_when_nobody_does() -> None:
    async def main() -> None:
        events: list[LimitEvent] = []
        limiter, seam = made(ROLLING, on_event=events.append)
        call = limiter.call("GET /x")
        for _ in range(10):
            (await limiter.acquire(call)).answered()
        assert events == []
        await asyncio.gather(*(limiter.acquire(call) for _ in range(3)))
        full, empty = events
        assert (full.kind, full.name, full.left_s) == (LimitEventKind.LIMITED, "rolling", 1.0)
        assert full.waiting == 1
        assert full.mono == empty.mono - S - 1000  # a timer's lateness
        assert (empty.kind, empty.name) == (LimitEventKind.REFILL, "")
        assert seam.monotonic_ns() == empty.mono
        usage = limiter.usage
        assert (usage.passed, usage.waited, usage.is_limited) == (13, 3, False)
        assert usage.wait_quantile_s(0.5) == 2**30 / 1e9

    simulate(main())


def test_each_ticket_ends_once() -> None:
    async def main() -> None:
        limiter, _ = made(ROLLING)
        call = limiter.call("GET /x")
        ticket = await limiter.acquire(call)
        ticket.unsent()
        ticket.answered(BANNED)
        ticket.lost()
        ticket.unsent()
        with ticket:
            pass
        assert limiter.rows()[0].used == 0
        assert (limiter.usage.unsent, limiter.usage.lost, limiter.usage.bans) == (1, 0, 0)
        with await limiter.acquire(call):
            pass  # it is not known what became of it
        assert (limiter.rows()[0].used, limiter.usage.lost) == (1, 1)

    simulate(main())


def test_memory_is_bounded_over_1e5_requests() -> None:
    async def main() -> None:
        limiter, _ = made(Limit("one", "requests", 10**6, Count.ROLLING, 60.0))
        call = limiter.call("GET /x")
        for _ in range(100_000):
            ticket = limiter.try_acquire(call)
            assert ticket
            ticket.answered()
            await asyncio.sleep(0.001)
        windows = [meter.window for meter in limiter._tariff.meters.values()]
        assert [len(window._log) <= 1026 for window in windows] == [True]  # type: ignore[attr-defined]
        assert 60_000 <= limiter.rows()[0].used <= 60_100

    simulate(main())


# ------------------------------------------------------------------ throttled


def test_throttled_waits_and_tells_how_it_ended() -> None:
    async def main() -> None:
        limiter, seam = made(told(Count.ROLLING))
        answers: list[Any] = [
            Response(200, [("x", "50")], b"", Phases(0, 0, 0, 0, 0), "1.1"),
            7,
            RequestError("connect", "no", may_have_run=False),
            RequestError("reset", "gone", may_have_run=True),
            KeyError("a bug"),
            Response(REFUSED, [("retry-after", "9")], b"", Phases(0, 0, 0, 0, 0), "2"),
        ]

        @limiter.throttled("GET /x")
        async def ask(name: str, *, n: int) -> Any:
            """Ask."""
            assert (name, n) == ("a", 1)
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        def used() -> int:
            return limiter.rows()[0].used

        assert (ask.__name__, ask.__doc__) == ("ask", "Ask.")
        assert (await ask("a", n=1)).status == 200
        assert (limiter.usage.foreign, used()) == (49, 50)
        assert await ask("a", n=1) == 7
        assert used() == 51
        with pytest.raises(RequestError, match="no"):
            await ask("a", n=1)
        assert (used(), limiter.usage.unsent) == (51, 1)
        with pytest.raises(RequestError, match="gone"):
            await ask("a", n=1)
        with pytest.raises(KeyError):
            await ask("a", n=1)
        assert (used(), limiter.usage.lost, limiter.rows()[0].out) == (53, 2, 2)
        assert (await ask("a", n=1)).status == REFUSED
        answers.append(8)
        begin = seam.seconds()
        assert await ask("a", n=1) == 8
        assert seam.seconds() - begin == pytest.approx(9, abs=1e-5)

    simulate(main())


def test_throttled_heeds_an_error_that_says_how_long() -> None:
    async def main() -> None:
        limiter, _ = made(ROLLING)

        @limiter.throttled("GET /x")
        async def ask() -> None:
            raise RequestError(
                "http-status", "429", may_have_run=False, status=REFUSED, retry_after_s=300.0
            )

        with pytest.raises(RequestError):
            await ask()
        assert limiter.stopped_s(limiter.call("GET /x")) == 300

    simulate(main())


# ------------------------------------------------------------------ what is given


@pytest.mark.parametrize(
    "venue",
    ["binance", "binance.usdm", "bybit", "coinbase", "gate", "htx", "kraken", "okx"],
)
def test_every_endpoint_of_a_preset_makes_a_call_and_passes(venue: str) -> None:
    async def main() -> None:
        limits = venue_limits(venue)
        assert limits.as_of
        assert limits.source
        limiter = Limiter(limits, LimiterSeam(asyncio.get_running_loop()))  # type: ignore[arg-type]
        for endpoint in limits.costs or ["GET /x"]:
            words = endpoint.lower()
            kind = Kind.PUBLIC
            if "cancel" in words or words.startswith("delete"):
                kind = Kind.CANCEL
            elif "order" in words:
                kind = Kind.QUERY if words.startswith("get") or "query" in words else Kind.ORDER
            costs = {"placed": 20} if "batch-orders" in words else {}
            call = limiter.call(endpoint, kind=kind, key="a", instrument="p", costs=costs)
            assert limiter.try_acquire(call) is not None, endpoint
        if limits.costs and not {limit.unit for limit in limits.limits} <= {"requests", "orders"}:
            with pytest.raises(UsageError, match="not known"):
                limiter.call("GET /no/such/endpoint")

    simulate(main())


def test_a_venue_whose_limits_are_not_known_is_an_error() -> None:
    with pytest.raises(UsageError, match="binance, "):
        venue_limits("nowhere")


@pytest.mark.parametrize(
    "costs", [{"weight": -1}, {"weight": 11}, {"weight": 8}, {"odd": 1}, {}], ids=str
)
def test_a_cost_that_never_passes_is_an_error(costs: dict[str, int]) -> None:
    async def main() -> None:
        limiter, _ = made(Limit("one", "weight", 10, Count.ROLLING, 1.0, reserve=3))
        with pytest.raises(UsageError):
            limiter.call("GET /x", costs=costs)

    simulate(main())
