"""The limiter against the slow model, and each of its rules by itself, in simulated time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from fractions import Fraction

import pytest
from fake_world import simulate
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from limiter_help import ROLLING, made, turns
from limiter_model import LANES, Player, S

from crosswire.http import Call, Kind, Limiter
from crosswire.limits import Count, Limit, Scope

# ------------------------------------------------------------------ the model


class Machine(RuleBasedStateMachine):
    """What can happen, in any order; the world compares after each."""

    player: Player | None = None

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.player = Player(random.Random(seed))
        self.world = self.player.world

    @rule(which=st.integers(0, 4), is_trial=st.booleans())
    def submit(self, which: int, is_trial: bool) -> None:
        assert self.player
        call, weight = self.player.calls[which % len(self.player.calls)]
        self.world.submit(call, weight, is_trial=is_trial)

    @precondition(lambda self: self.world.out)
    @rule(
        which=st.integers(0, 99),
        fate=st.sampled_from(["answered", "answered", "lost", "unsent"]),
        told=st.none() | st.integers(0, 35),
    )
    def end(self, which: int, fate: str, told: int | None) -> None:
        request = self.world.out[which % len(self.world.out)]
        has_header = any(meter.limit.header for meter, _ in request.costs)
        header = ("x-used", str(told)) if told is not None and has_header else None
        self.world.end(request, fate, header)

    @precondition(lambda self: self.world.waiting)
    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        self.world.cancel(self.world.waiting[which % len(self.world.waiting)])

    @precondition(lambda self: self.world.waiting and self.world.out)
    @rule(which=st.integers(0, 99), waiter=st.integers(0, 99))
    def end_and_cancel(self, which: int, waiter: int) -> None:
        world = self.world
        world.end_and_cancel(
            world.out[which % len(world.out)], world.waiting[waiter % len(world.waiting)]
        )

    @rule(ns=st.integers(0, 70 * S) | st.integers(0, S // 100))
    def wait(self, ns: int) -> None:
        self.world.advance(ns)

    @rule()
    def wait_for_an_edge(self) -> None:
        assert self.player
        self.world.advance(self.player.wait())

    @rule(by=st.integers(-20 * S, 20 * S))
    def set_clock(self, by: int) -> None:
        self.world.set_clock(self.world.ahead + by)

    @rule(hours=st.sampled_from([-1, 1]))
    def step_utc(self, hours: int) -> None:
        self.world.seam.utc_step_ns += hours * 3600 * S

    @invariant()
    def counts_agree(self) -> None:
        if self.player:
            usage = self.world.limiter.usage
            assert usage.passed >= self.world.passed
            assert usage.is_limited == bool(self.world.waiting)

    def teardown(self) -> None:
        if self.player:
            self.player.close()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=200,
    stateful_step_count=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_games_of_many_seeds_agree_with_the_model() -> None:
    for seed in range(50):
        player = Player(random.Random(seed))
        for _ in range(200):
            player.step()
        player.close()


# ------------------------------------------------------------------ under load


@pytest.mark.parametrize("length_s", [1.0, 60.0])
@pytest.mark.parametrize("count", list(Count))
def test_98_percent_of_the_rate_is_used(count: Count, length_s: float) -> None:
    amount = 200
    limit = Limit("one", "requests", amount, count, length_s, Fraction(amount) / int(length_s))
    windows = 20

    async def main() -> tuple[int, float]:
        limiter, seam = made(limit)
        call, draw, sent = limiter.call("GET /x"), random.Random(1), 0
        begin = seam.seconds()

        async def client() -> None:
            nonlocal sent
            while True:
                ticket = await limiter.acquire(call)
                sent += 1
                await asyncio.sleep(draw.uniform(0.001, 0.005))
                ticket.answered()

        tasks = [asyncio.create_task(client()) for _ in range(2 * amount)]
        await asyncio.sleep(windows * length_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return sent, seam.seconds() - begin

    sent, took_s = simulate(main())
    burst = 0 if count is Count.ROLLING else amount  # a part of a window, or the empty counter
    assert sent >= 0.98 * amount * took_s / length_s
    assert sent <= amount * took_s / length_s + amount + burst


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", list(Count))
def test_no_order_of_callers_passes_what_the_venue_counts(count: Count, seed: int) -> None:
    """A thousand callers of any order, fate and patience; the venue counts what arrives."""
    limit = Limit("one", "requests", 50, count, 1.0, Fraction(50))
    draw = random.Random(seed)
    arrivals: list[float] = []

    async def caller(limiter: Limiter, call: Call) -> None:
        with await limiter.acquire(call) as ticket:
            sent = asyncio.get_running_loop().time()
            fate = draw.choice(["answered", "answered", "answered", "lost", "unsent"])
            took = draw.choice([0.0, draw.uniform(0, 0.2), draw.uniform(0, 2)])
            if fate == "answered":
                arrivals.append(draw.choice([sent, sent + took, draw.uniform(sent, sent + took)]))
            elif fate == "lost" and draw.random() < 0.8:
                arrivals.append(draw.uniform(sent, sent + took + 5))
            await asyncio.sleep(took)  # whoever is cancelled here has sent it
            {"answered": ticket.answered, "lost": ticket.lost, "unsent": ticket.unsent}[fate]()

    async def main() -> int:
        limiter, seam = made(limit)
        calls = [limiter.call("GET /x", kind=kind, key=key) for kind in Kind for key in "ab"]
        tasks = [asyncio.create_task(caller(limiter, draw.choice(calls))) for _ in range(1000)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(draw.choice([0, 0, 0.001, 0.3]))
            for task in draw.sample(tasks, draw.randint(0, 3)):
                task.cancel()
        assert limiter.waiting == 0
        await asyncio.sleep(8)
        assert [row.used for row in limiter.rows()] == [0]  # nothing leaked
        tickets = [limiter.try_acquire(calls[0]) for _ in range(51)]
        assert sum(ticket is not None for ticket in tickets) == 50
        return seam.time_ns() - round(seam.seconds() * S)

    utc_ns = simulate(main())
    arrivals.sort()
    error_s = draw.uniform(-0.1, 0.1)
    if count is Count.ROLLING:
        for n, at in enumerate(arrivals[50:]):
            assert at - arrivals[n] > 1.0 - 1e-6, "51 arrived within a second"
    elif count is Count.CALENDAR:
        seconds = [(utc_ns + round((at + error_s) * S)) // S for at in arrivals]
        assert max(Counter(seconds).values()) <= 50
    else:
        level = last = 0.0
        for at in arrivals:
            level, last = max(0.0, level - 50 * (at - last)) + 1, at
            assert level <= 50 + 1e-6


# ------------------------------------------------------------------ who goes first


@pytest.mark.parametrize("costs", [(1,), (1, 2, 7, 10)], ids=["equal", "mixed"])
def test_ten_thousand_go_in_the_order_they_came(costs: tuple[int, ...]) -> None:
    async def main() -> None:
        limiter, seam = made(Limit("one", "weight", 100, Count.ROLLING, 1.0))
        draw, order = random.Random(1), []
        calls = {n: limiter.call("GET /x", costs={"weight": n}) for n in costs}

        async def caller(number: int) -> None:
            ticket = await limiter.acquire(calls[draw.choice(costs)])
            order.append(number)
            ticket.answered()

        tasks = [asyncio.create_task(caller(number)) for number in range(10_000)]
        await asyncio.gather(*tasks)
        assert order == list(range(10_000))
        assert seam.timers <= 10_000

    simulate(main())


def test_there_is_one_timer_for_each_refill_and_none_while_an_answer_is_needed() -> None:
    async def main() -> None:
        limiter, seam = made(ROLLING)
        call = limiter.call("GET /x")
        tickets = [await limiter.acquire(call) for _ in range(10)]
        tasks = [asyncio.create_task(limiter.acquire(call)) for _ in range(1000)]
        await asyncio.sleep(3600)
        assert seam.timers == 0
        for ticket in tickets:
            ticket.answered()
        await asyncio.sleep(2)
        assert sum(task.done() for task in tasks) == 10
        assert seam.timers <= 11
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    simulate(main())


def test_a_large_one_is_not_held_up_by_a_stream_of_small_ones() -> None:
    async def main() -> None:
        limiter, seam = made(Limit("one", "weight", 100, Count.ROLLING, 1.0))
        small, large = (limiter.call("GET /x", costs={"weight": n}) for n in (1, 100))

        async def stream() -> None:
            while True:
                (await limiter.acquire(small)).answered()
                await asyncio.sleep(0.005)

        streams = [asyncio.create_task(stream()) for _ in range(20)]
        await asyncio.sleep(5)
        begin = seam.seconds()
        (await limiter.acquire(large)).answered()
        assert seam.seconds() - begin < 1.2
        for task in streams:
            task.cancel()

    simulate(main())


def test_one_that_needs_two_busy_windows_gets_both() -> None:
    async def main() -> None:
        one = Limit("one", "a", 10, Count.ROLLING, 1.0)
        two = Limit("two", "b", 10, Count.DECAYING, per_s=Fraction(10))
        limiter, seam = made(one, two)
        first, second, both = (
            limiter.call("GET /x", costs={"a": a, "b": b}) for a, b in ((1, 0), (0, 1), (10, 10))
        )

        async def stream(call: Call) -> None:
            while True:
                (await limiter.acquire(call)).answered()

        streams = [asyncio.create_task(stream(call)) for call in (first, second) for _ in range(5)]
        await asyncio.sleep(7.3)
        begin = seam.seconds()
        (await limiter.acquire(both)).answered()
        assert seam.seconds() - begin < 1.1 + 1.0  # both refill within a second
        for task in streams:
            task.cancel()

    simulate(main())


def test_who_waits_for_another_window_is_not_held_up() -> None:
    async def main() -> None:
        per_key = Limit("per-key", "requests", 1, Count.ROLLING, 1.0, per=(Scope.KEY,))
        limiter, seam = made(ROLLING, per_key)
        a, b = (limiter.call("GET /x", key=key) for key in "ab")
        (await limiter.acquire(a)).answered()
        waits = asyncio.create_task(limiter.acquire(a))
        await turns()
        ticket = limiter.try_acquire(b)
        assert ticket is not None
        assert limiter.usage.waited == 1
        await waits
        assert seam.seconds() == pytest.approx(1.0, abs=0.002)

    simulate(main())


def test_an_answer_lets_go_before_a_lost_one_would() -> None:
    async def main() -> None:
        limiter, seam = made(Limit("one", "requests", 2, Count.ROLLING, 1.0))
        call = limiter.call("GET /x")
        lost, answered = await limiter.acquire(call), await limiter.acquire(call)
        lost.lost()
        waits = asyncio.create_task(limiter.acquire(call))
        await turns()
        answered.answered()
        await waits
        assert seam.seconds() < 1.01

    simulate(main())


def test_who_waits_for_a_lost_one_alone_goes_at_last() -> None:
    for count in Count:
        limit = Limit("one", "requests", 1, count, 1.0, Fraction(1))

        async def main(limit: Limit = limit) -> None:
            limiter, seam = made(limit)
            call = limiter.call("GET /x")
            (await limiter.acquire(call)).lost()
            await asyncio.wait_for(limiter.acquire(call), 60)
            assert 6.0 <= seam.seconds() <= 7.2

        simulate(main())


# ------------------------------------------------------------------ cancels


def test_a_cancel_passes_ten_thousand_within_one_refill() -> None:
    async def main() -> None:
        limiter, seam = made(ROLLING)
        calls = [limiter.call("GET /x", kind=kind) for kind in LANES[1:]]
        cancel = limiter.call("DELETE /x", kind=Kind.CANCEL)

        async def caller(call: Call) -> None:
            (await limiter.acquire(call)).answered()

        tasks = [asyncio.create_task(caller(calls[n % 3])) for n in range(10_000)]
        await asyncio.sleep(1.5)
        begin = seam.seconds()
        (await limiter.acquire(cancel)).answered()
        assert seam.seconds() - begin < 1.01
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limiter.waiting == 0

    simulate(main())


def test_lanes_go_by_urgency() -> None:
    async def main() -> None:
        limiter, _ = made(Limit("one", "requests", 1, Count.ROLLING, 1.0))
        order: list[Kind] = []
        (await limiter.acquire(limiter.call("GET /x"))).answered()

        async def caller(kind: Kind) -> None:
            (await limiter.acquire(limiter.call("GET /x", kind=kind))).answered()
            order.append(kind)

        await asyncio.gather(*(caller(kind) for kind in reversed(LANES) for _ in range(2)))
        assert order == [kind for kind in LANES for _ in range(2)]

    simulate(main())


@pytest.mark.parametrize("count", list(Count))
def test_the_reserve_is_for_cancels_alone(count: Count) -> None:
    async def main() -> None:
        limiter, _ = made(Limit("one", "requests", 10, count, 60.0, Fraction(1, 10), reserve=3))
        for kind in LANES[1:]:
            call = limiter.call("GET /x", kind=kind)
            while limiter.try_acquire(call):
                pass
        assert limiter.usage.passed == 7
        cancel = limiter.call("DELETE /x", kind=Kind.CANCEL)
        assert [limiter.try_acquire(cancel) is not None for _ in range(4)] == [True] * 3 + [False]

    simulate(main())
