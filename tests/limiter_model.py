"""The limiter beside a slow model of it: every request is kept, and recounted for every question.

    python tests/limiter_model.py --steps 1000000 --seed 1

A request may arrive at the venue at any time from its being sent to its answer; without an answer,
until ``transit_s`` after its end. Whatever those times are, the venue must not count above a limit.
The worst case is found as follows; every count is one of a request that was just sent, at ``now``:

* rolling: all who may arrive within the window that ends ``now``;
* calendar: all who may arrive in the first window that it may still be at the venue, for whoever
  may arrive in a later one may arrive in that one, too;
* decaying: all arrive as late as they may, for the counter has fallen least then.

So each request counts from its being sent, and as arrived at the last moment. ``used`` is that
count. ``slack`` asks how much counts at most where the limiter may be late: it frees what was
answered within a slot of a rolling window (length / 1024) with the last of it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from fake_world import MONO_START, TS_START, FakeSeam, SimulatedLoop

from crosswire.http import Call, Kind, Limiter, Ticket
from crosswire.limits import Count, Limit, Refusal, Scope, VenueLimits

S = 10**9
LATE_NS = 3000
"""How late a timer may be here: its time is a float, and the limiter's own rounding."""
CLOCK_ERROR_NS, TRANSIT_NS = S // 10, 5 * S
LANES = list(Kind)


class LimiterSeam(FakeSeam):
    """Simulated time that counts its timers; its UTC can be stepped.

    Args:
        loop: whose time it is; it need not run.
    """

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self.loop = loop
        self.timers = 0
        self.utc_step_ns = 0

    def seconds(self) -> float:
        return self.loop.now

    def time_ns(self) -> int:
        return super().time_ns() + self.utc_step_ns

    def later(self, seconds: float, do: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return self.loop.call_later(seconds, do)


@dataclass(eq=False)
class Spent:
    """Units of one request, or of others.

    Attributes:
        until: the last moment at which they may arrive, in ns; ``None``: not known yet.
        moved: when the clock was set last while they counted for the limiter.
        is_over: they did not count any more when it was set.
    """

    units: int
    sent: int
    until: int | None = None
    moved: int = 0
    is_over: bool = False


@dataclass
class Meter:
    """What the venue may count against one limit, apart for ``values``."""

    limit: Limit
    values: tuple[str, ...]
    ahead: int
    all: list[Spent] = field(default_factory=list)

    def first(self, now: int) -> int:
        return (now + self.ahead - CLOCK_ERROR_NS) // self.length

    def last(self, now: int) -> int:
        return (now + self.ahead + CLOCK_ERROR_NS) // self.length

    @property
    def length(self) -> int:
        return round(self.limit.length_s * S)

    def counts(self, spent: Spent, now: int, slack: bool) -> bool:
        """Return whether the venue may still count it against what arrives now."""
        if spent.until is None:
            return True
        if self.limit.count is Count.ROLLING:
            late = -(-self.length // 1024) + LATE_NS if slack else 0
            return spent.until + self.length + late > now
        if self.limit.count is Count.CALENDAR:
            if spent.is_over and not slack:
                return False
            until = max(spent.until, spent.moved) if slack else spent.until
            return self.last(until) >= self.first(now - LATE_NS * slack)
        return True

    def used(self, now: int, *, slack: bool = False) -> Fraction:
        """Return the most units that the venue may count now."""
        counted = [spent for spent in self.all if self.counts(spent, now, slack)]
        if self.limit.count is not Count.DECAYING:
            return Fraction(sum(spent.units for spent in counted))
        now -= LATE_NS * slack
        arrivals = [(now if s.until is None else min(s.until, now), s.units) for s in counted]
        most = Fraction(0)
        for begin, _ in arrivals:
            units = sum(units for arrival, units in arrivals if arrival >= begin)
            most = max(most, units - self.limit.per_s * Fraction(now - begin, S))
        return most

    def set_clock(self, now: int, ahead: int) -> None:
        """Take another offset: what counts goes on to count; what does not is over."""
        if self.limit.count is Count.CALENDAR:
            first = self.first(now)
            for spent in self.all:
                spent.is_over |= not self.counts(spent, now, False)
                if spent.until is None or self.last(max(spent.until, spent.moved)) >= first:
                    spent.moved = now
        self.ahead = ahead


@dataclass(eq=False)
class Request:
    """One request of the model's."""

    number: int
    call: Call
    costs: list[tuple[Meter, int]]
    task: asyncio.Task[Ticket] | None = None
    ticket: Ticket | None = None
    spent: list[tuple[Meter, Spent]] = field(default_factory=list)

    @property
    def order(self) -> tuple[int, int]:
        return LANES.index(self.call.kind), self.number

    @property
    def lane(self) -> object:
        return self.call.kind, frozenset(id(meter) for meter, _ in self.costs)


class World:
    """A limiter and its model, side by side; every operation is checked.

    Args:
        limits: of the venue; what a call costs is in ``costs``.
    """

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self.loop = SimulatedLoop()
        self.raised: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda loop, context: self.raised.append(context))
        self.seam = LimiterSeam(self.loop)
        self.limits = limits
        refusals = (Refusal(429), Refusal(418, is_ban=True))
        venue = VenueLimits("here", "2026-11", "a test", limits, refusals)
        self.limiter = Limiter(
            venue,
            self.seam,
            clock_error_s=CLOCK_ERROR_NS / S,
            transit_s=TRANSIT_NS / S,
        )
        self.ahead = TS_START - MONO_START
        self.meters: dict[tuple[str, tuple[str, ...]], Meter] = {}
        self.waiting: list[Request] = []
        self.out: list[Request] = []
        self.leaving: list[Request] = []
        self.passed = 0
        self._number = 0
        self._granted: list[Request] = []

    @property
    def now(self) -> int:
        return MONO_START + round(self.loop.now * 1e9)

    def close(self) -> None:
        """End it; nobody is left behind who should have gone."""
        while self.waiting:
            self.cancel(self.waiting[0])
        for request in list(self.out):
            self.end(request, "unsent")
        assert self.limiter.waiting == 0
        self.loop.close()
        assert not self.raised, self.raised

    # ---- what a call costs

    def call(self, endpoint: str, kind: Kind, key: str, instrument: str, weight: int) -> Call:
        costs = {limit.unit: weight for limit in self.limits}
        costs = {unit: n for unit, n in costs.items() if unit not in ("requests", "orders")}
        return self.limiter.call(endpoint, kind=kind, key=key, instrument=instrument, costs=costs)

    def costs(self, call: Call, weight: int) -> list[tuple[Meter, int]]:
        found = []
        by_scope = {Scope.KEY: call.key, Scope.ENDPOINT: call.endpoint,
                    Scope.INSTRUMENT: call.instrument}  # fmt: skip
        for limit in self.limits:
            units = {"requests": 1, "orders": int(call.kind is Kind.ORDER)}.get(limit.unit, weight)
            if units:
                values = tuple(by_scope[scope] for scope in limit.per)
                key = limit.name, values
                if key not in self.meters:
                    self.meters[key] = Meter(limit, values, self.ahead)
                found.append((self.meters[key], units))
        return found

    # ---- the model

    def _most(self, meter: Meter, call: Call) -> int:
        reserve = 0 if call.kind is Kind.CANCEL else meter.limit.reserve
        return meter.limit.amount - reserve

    def may_go(self, request: Request, *, slack: bool, leaving: Sequence[Request] = ()) -> bool:
        """Whether there is room for it, and for those who keep a place before it: of each lane
        (kind and windows) who has waited longest."""
        heads: dict[object, Request] = {}
        for other in sorted([*self.waiting, *leaving], key=lambda other: other.order):
            if other.order < request.order:
                heads.setdefault(other.lane, other)
        if request.lane in heads:
            return False
        for meter, units in request.costs:
            for other in heads.values():
                units += sum(n for place, n in other.costs if place is meter)
            if meter.used(self.now, slack=slack) + units > self._most(meter, request.call):
                return False
        return True

    def _take(self, request: Request, ticket: Ticket) -> None:
        """Count one that is let through now, if that is right."""
        may_go = self.may_go(request, slack=False)
        # one that was cancelled just now may have kept its place when this one was let through
        assert may_go or self.may_go(request, slack=False, leaving=self.leaving), (
            f"{request} went at {self.now}, and there was no room"
        )
        request.ticket = ticket
        for meter, units in request.costs:
            spent = Spent(units, self.now)
            meter.all.append(spent)
            request.spent.append((meter, spent))
        self.out.append(request)
        self.passed += 1

    async def _acquire(self, request: Request) -> Ticket:
        ticket = await self.limiter.acquire(request.call)
        self._granted.append(request)
        return self._note(request, ticket)

    def _note(self, request: Request, ticket: Ticket) -> Ticket:
        self.waiting.remove(request)
        self._take(request, ticket)
        return ticket

    async def _turns(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    def _settle(self) -> None:
        """Run what is ready, then compare."""
        self.loop.run_until_complete(self._turns())
        for request in self._granted:
            assert request.task is not None
            request.task.result()
        self._granted.clear()
        self.leaving.clear()
        assert self.limiter.waiting == len(self.waiting)
        for request in self.waiting:
            assert not self.may_go(request, slack=True), (
                f"{request} waits at {self.now}, and need not"
            )
        self._compare_rows()

    def _compare_rows(self) -> None:
        for row in self.limiter.rows():
            meter = self.meters.get((row.limit, row.values))
            if meter is None:
                assert row.used == 0, row
                continue
            low, high = meter.used(self.now), meter.used(self.now, slack=True)
            assert low <= row.used < high + 1, (row, float(low), float(high))
            out = sum(spent.units for spent in meter.all if spent.until is None)
            late = sum(s.units for s in meter.all if s.until and s.until >= self.now - LATE_NS
                       and s.until != s.sent)  # fmt: skip
            assert out <= row.out <= out + late, (row, out, late)

    # ---- what can happen

    def submit(self, call: Call, weight: int, *, is_trial: bool = False) -> Request:
        """Let one ask for a ticket; ``is_trial``: it will not wait."""
        self._number += 1
        request = Request(self._number, call, self.costs(call, weight))
        if is_trial:
            need_not = self.may_go(request, slack=True)
            ticket = self.limiter.try_acquire(call)
            if ticket is None:
                assert not need_not, f"{request} was refused, and there was room"
            else:
                self._take(request, ticket)
        else:
            self.waiting.append(request)
            request.task = self.loop.create_task(self._acquire(request))
        self._settle()
        return request

    def end(self, request: Request, fate: str, header: tuple[str, str] | None = None) -> None:
        """End one that was let through: ``answered``, ``lost`` or ``unsent``."""
        assert request.ticket is not None
        self.out.remove(request)
        if any(spent.moved for _, spent in request.spent):
            header = None  # of which window it tells is open where the clock was set since
        before = self.limiter.usage.foreign
        until = self.now + (TRANSIT_NS if fate == "lost" else 0)
        for meter, spent in request.spent:
            spent.until = until
            if fate == "unsent":
                meter.all.remove(spent)
        if fate == "answered":
            request.ticket.answered(200, [header] if header else [])
            more = self.limiter.usage.foreign - before
            if header and more:
                self._take_foreign(request, header, more)
        elif fate == "lost":
            request.ticket.lost()
        else:
            request.ticket.unsent()
        self._settle()

    def _take_foreign(self, request: Request, header: tuple[str, str], more: int) -> None:
        """Count what the limiter took for others' spending, if it is not too much."""
        (meter,) = (m for m, _ in request.costs if m.limit.header == header[0])
        told = int(header[1])
        if meter.first(self.now) == meter.last(self.now) if meter.length else True:
            assert more <= max(0, told - meter.used(self.now)) + 1, (more, told)
        meter.all.append(Spent(more, self.now, self.now))

    def cancel(self, request: Request) -> None:
        """Cancel one that waits."""
        self._cancel(request)
        self._settle()
        assert request.task is not None
        assert request.task.cancelled()

    def _cancel(self, request: Request) -> None:
        """Cancel it; it has no place any more from now on."""
        assert request.task is not None
        self.waiting.remove(request)
        self.leaving.append(request)
        request.task.cancel()

    def end_and_cancel(self, request: Request, waiter: Request) -> None:
        """Make room, and cancel one that it may let go before that one runs."""
        assert request.ticket is not None
        assert waiter.task is not None
        self.out.remove(request)
        for meter, spent in request.spent:
            meter.all.remove(spent)
        request.ticket.unsent()
        self._cancel(waiter)
        self._settle()
        assert waiter.task.cancelled()

    def advance(self, ns: int) -> None:
        """Let time pass."""

        async def wait() -> None:
            await asyncio.sleep(ns / S)

        self.loop.run_until_complete(wait())
        self._settle()

    def set_clock(self, ahead: int) -> None:
        """Say another offset of the venue's UTC."""
        self.ahead = ahead
        for meter in self.meters.values():
            meter.set_clock(self.now, ahead)
        self.limiter.set_clock(ahead)
        self._settle()


def draw_limits(draw: random.Random) -> tuple[Limit, ...]:
    """Return one to three limits, small enough to be met all the time."""
    limits = []
    for number in range(draw.randint(1, 3)):
        count = draw.choice(list(Count))
        amount = draw.randint(2, 30)
        limits.append(
            Limit(
                f"limit-{number}",
                draw.choice(["requests", "orders", "weight"]),
                amount,
                count,
                length_s=draw.choice([0.001, 0.5, 1.0, 10.0, 60.0]),
                per_s=draw.choice([Fraction(33, 100), Fraction(1), Fraction(50, 7)]),
                per=tuple(scope for scope in Scope if draw.random() < 0.3),
                reserve=draw.choice([0, 0, draw.randint(0, amount - 1)]),
                header="x-used" if number == 0 else "",
            )
        )
    return tuple(limits)


class Player:
    """Plays at random, one step at a time.

    Args:
        draw: a source of randomness; Hypothesis has one.
    """

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.world = World(draw_limits(draw))
        self.calls: list[tuple[Call, int]] = []
        weight_max = min(limit.amount - limit.reserve for limit in self.world.limits)
        for _ in range(draw.randint(1, 5)):
            weight = draw.randint(0, weight_max)
            kind, key = draw.choice(LANES), draw.choice("ab")
            endpoint, instrument = draw.choice(["GET /x", "GET /y"]), draw.choice("pq")
            call = self.world.call(endpoint, kind, key, instrument, weight)
            self.calls.append((call, weight))

    def step(self) -> None:
        """Do one thing."""
        draw, world = self.draw, self.world
        do = draw.random()
        if do < 0.4 and len(world.waiting) < 30:
            call, weight = draw.choice(self.calls)
            world.submit(call, weight, is_trial=draw.random() < 0.3)
        elif do < 0.65 and world.out:
            request = draw.choice(world.out)
            fate = draw.choice(["answered", "answered", "answered", "lost", "unsent"])
            header = None
            if draw.random() < 0.2 and any(m.limit.header for m, _ in request.costs):
                header = "x-used", str(draw.randint(0, 35))
            world.end(request, fate, header)
        elif do < 0.72 and world.waiting:
            world.cancel(draw.choice(world.waiting))
        elif do < 0.76 and world.waiting and world.out:
            world.end_and_cancel(draw.choice(world.out), draw.choice(world.waiting))
        elif do < 0.77:
            world.seam.utc_step_ns += draw.choice([-3600, 3600]) * S
        elif do < 0.78:
            world.set_clock(world.ahead + draw.randint(-20 * S, 20 * S))
        else:
            world.advance(self.wait())

    def wait(self) -> int:
        """Return a time to wait, in ns: often to a moment at which something ends, or beside it."""
        draw, world = self.draw, self.world
        meters = list(world.meters.values())
        if meters and draw.random() < 0.5:
            meter = draw.choice(meters)
            ends = [spent.until + meter.length for spent in meter.all if spent.until is not None]
            if meter.limit.count is Count.CALENDAR:
                end = (world.now + meter.ahead) // meter.length * meter.length + meter.length
                end -= meter.ahead
                ends = [end, end - CLOCK_ERROR_NS, end + CLOCK_ERROR_NS]
            ends = [end for end in ends if end > world.now]
            if ends:
                near = draw.choice([-1000, 0, 1000, 10_000])
                return max(0, draw.choice(ends) - world.now + near)
        return int(10 ** draw.uniform(3, 10))

    def close(self) -> None:
        self.world.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Play the limiter against its model.")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    done = game = passed = 0
    while done < options.steps:
        game += 1
        player = Player(random.Random(options.seed * 1_000_003 + game))
        try:
            for _ in range(min(200, options.steps - done)):
                done += 1
                player.step()
            player.close()
        except BaseException:
            print(f"seed {options.seed}, game {game}, step {done}")
            raise
        passed += player.world.passed
    print(f"{done} steps, {game} games, {passed} requests let through: none against the model")


if __name__ == "__main__":
    main()
