"""Limiters in simulated time: what reviews found, and what must not come back."""

from __future__ import annotations

import asyncio
from math import inf, isnan, nan

import pytest
from fake_world import FakeSeam, simulate

from crosswire.errors import BreakerOpenError, LimitError, RequestError, UsageError
from crosswire.http import Kind, Limiter, LimitEvent, LimitEventKind, Ticket
from crosswire.http.meter import Clock, Meter
from crosswire.http.window import CalendarWindow
from crosswire.limits import Count, Limit, Refusal, VenueLimits
from crosswire.venues import venue_limits

S = 10**9
ROLLING = Limit("all", "requests", 100, Count.ROLLING, 1.0)
REFUSALS = (Refusal(418, is_ban=True, wait_s=30.0), Refusal(429, wait_s=2.0))


def toy(*limits: Limit) -> VenueLimits:
    return VenueLimits("toy", "2026-11", "a test", limits, REFUSALS)


def test_what_somebody_else_spends_is_not_held() -> None:
    """Else it would be let through here later, while other members hold it."""
    meter = Meter(ROLLING, (), Clock(0, 0, 0), is_shared=True)
    meter.grant(0, 10)
    assert meter.window.correct(1, 40, 0) == 40
    meter.wanted, meter.others, meter.holders = 1, 90, 2
    assert meter.give(2, has_waiters=True) is None
    assert meter.held == 10
    meter.wanted = 0
    meter.take_back_all(3)
    assert meter.window.limit == 10


# ------------------------------------------------------------------ callbacks


def broken(event: LimitEvent) -> None:
    raise ValueError("a bug of the caller's")


def test_a_callback_that_raises_keeps_no_place_and_wakes_everybody() -> None:
    async def main() -> None:
        limiter = Limiter(toy(ROLLING), FakeSeam(), on_event=broken)
        whole = limiter.call("GET /", costs={"requests": 100})
        (await limiter.acquire(whole)).answered()
        waiting = [asyncio.ensure_future(limiter.acquire(whole)) for _ in range(2)]
        await asyncio.sleep(0.5)
        (await waiting[0]).answered(418)
        with pytest.raises(LimitError, match="rate-banned"):
            await waiting[1]
        assert (limiter.waiting, limiter.rows()[0].out) == (0, 0)

    simulate(main())


def test_a_callback_that_tells_of_another_answer_during_a_ban_is_let() -> None:
    async def main() -> None:
        tickets: list[Ticket] = []

        def answer(event: LimitEvent) -> None:
            if event.kind is LimitEventKind.BANNED:
                tickets[1].answered()

        limiter = Limiter(toy(ROLLING), FakeSeam(), on_event=answer)
        half = limiter.call("GET /", costs={"requests": 50})
        tickets += [await limiter.acquire(half) for _ in range(2)]
        waiting = asyncio.ensure_future(limiter.acquire(half))
        await asyncio.sleep(0.1)
        tickets[0].answered(418)
        with pytest.raises(LimitError, match="rate-banned"):
            await waiting
        assert limiter.rows()[0].out == 0

    simulate(main())


# ------------------------------------------------------------------ refusals


def test_a_429_is_said_not_to_stop_cancels() -> None:
    async def main() -> None:
        limiter = Limiter(toy(ROLLING), FakeSeam())
        call, cancel = limiter.call("GET /"), limiter.call("GET /", kind=Kind.CANCEL)
        (await limiter.acquire(call)).answered(429)
        assert (limiter.stopped_s(call), limiter.stopped_s(cancel)) == (2.0, 0.0)
        (await limiter.acquire(cancel)).answered(418)
        assert (limiter.stopped_s(call), limiter.stopped_s(cancel)) == (30.0, 30.0)

    simulate(main())


@pytest.mark.parametrize("wait_s", [-1.0, nan, inf])
def test_a_refusal_that_never_ends_or_has_no_time_is_no_refusal(wait_s: float) -> None:
    with pytest.raises(UsageError, match="wait_s"):
        Refusal(429, wait_s=wait_s)


# ------------------------------------------------------------------ clocks


@pytest.mark.parametrize("is_late", [False, True])
def test_what_is_answered_behind_a_step_back_of_the_clock_counts(is_late: bool) -> None:
    window = CalendarWindow(10, S, 0, 10 * S, 0)
    token = window.spend(0, 7)
    window.set_clock(0, 5 * S)  # the venue's window is an older one than was thought
    if is_late:
        window.lose(0, 7, token)
    else:
        window.answer(0, 7, token)
    assert window.room(1) == 3
    assert window.room(S) == 10


# ------------------------------------------------------------------ decorated functions


def test_what_a_throttled_function_raises_tells_how_long_to_wait() -> None:
    async def main() -> None:
        limiter = Limiter(toy(ROLLING), FakeSeam())

        @limiter.throttled("GET /")
        async def ask() -> None:
            raise RequestError("http-status", "429", may_have_run=False, status=429,
                               retry_after_s=60.0)  # fmt: skip

        with pytest.raises(RequestError):
            await ask()
        assert limiter.stopped_s(limiter.call("GET /")) == 60.0

    simulate(main())


@pytest.mark.parametrize(
    "error",
    [
        LimitError("rate-banned", "elsewhere", left_s=9.0, status=418),
        BreakerOpenError("elsewhere", 1.0),
    ],
    ids=lambda error: error.code,
)
def test_what_another_limiter_or_a_breaker_refused_was_not_sent(error: Exception) -> None:
    async def main() -> None:
        limiter = Limiter(toy(ROLLING), FakeSeam())

        @limiter.throttled("GET /")
        async def ask() -> None:
            raise error

        with pytest.raises(type(error)):
            await ask()
        assert (limiter.usage.bans, limiter.usage.unsent, limiter.rows()[0].used) == (0, 1, 0)

    simulate(main())


# ------------------------------------------------------------------ limit_s


@pytest.mark.parametrize("limit_s", [0.0, -1.0, inf, nan])
def test_an_odd_limit_is_no_wait_or_no_limit_or_refused(limit_s: float) -> None:
    async def main() -> None:
        limiter = Limiter(toy(ROLLING), FakeSeam())
        whole = limiter.call("GET /", costs={"requests": 100})
        if isnan(limit_s):  # a timer for it would spoil the loop's order of timers
            with pytest.raises(UsageError, match="limit_s must be a number of seconds, not nan"):
                await limiter.acquire(whole, limit_s=limit_s)
            return
        (await limiter.acquire(whole, limit_s=limit_s)).answered()
        if limit_s == inf:
            (await limiter.acquire(whole, limit_s=limit_s)).answered()
            return
        with pytest.raises(LimitError, match="rate-limited"):
            await limiter.acquire(whole, limit_s=limit_s)
        assert (limiter.waiting, limiter.rows()[0].out) == (0, 0)

    simulate(main())


# ------------------------------------------------------------------ presets


def test_each_order_of_a_batch_at_okx_counts_for_the_sub_account() -> None:
    async def main() -> None:
        limiter = Limiter(venue_limits("okx"), FakeSeam())
        batch = "POST /api/v5/trade/batch-orders"
        with pytest.raises(UsageError, match="how much placed it costs"):
            limiter.call(batch, kind=Kind.ORDER, key="main")
        for number in range(50):
            call = limiter.call(
                batch, kind=Kind.ORDER, key="main", instrument=f"{number}", costs={"placed": 20}
            )
            (await limiter.acquire(call, limit_s=0.0)).answered()
        one = limiter.call("POST /api/v5/trade/order", kind=Kind.ORDER, key="main", instrument="0")
        assert limiter.try_acquire(one) is None
        cancel = limiter.call("POST /api/v5/trade/cancel-order", kind=Kind.CANCEL, key="main")
        assert limiter.try_acquire(cancel) is not None

    simulate(main())


def test_what_gate_says_is_left_of_ten_orders_is_not_read_as_of_200_requests() -> None:
    async def main() -> None:
        limiter = Limiter(venue_limits("gate"), FakeSeam())
        for number in range(30):
            call = limiter.call(
                "POST /api/v4/spot/orders", kind=Kind.ORDER, key="main", instrument=f"{number}"
            )
            ticket = await limiter.acquire(call, limit_s=0.0)
            ticket.answered(200, [("x-gate-ratelimit-requests-remain", "9")])
        assert limiter.usage.foreign == 0

    simulate(main())


@pytest.mark.parametrize("units", [-1, 0.5, nan])
def test_a_cost_is_a_whole_number(units: float) -> None:
    async def main() -> None:
        limiter = Limiter(toy(ROLLING), FakeSeam())
        with pytest.raises(UsageError, match="whole and at least 0"):
            limiter.call("GET /", costs={"requests": units})  # type: ignore[dict-item]

    simulate(main())
