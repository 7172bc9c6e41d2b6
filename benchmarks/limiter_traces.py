"""The same requests through ours and other limiters, and what the venue would have counted.

    python -m benchmarks.limiter_traces [--seed S] [--minutes M]

Time is simulated: the loop's clock jumps to the next timer. Callers come by a trace that is the
same for all; each asks its limiter, is sent, and arrives at a venue that counts arrivals, refused
ones too, and answers 429 to whatever is above its limit. A round trip takes 20 to 200 ms, of which
any part goes before the arrival. Nobody asks again.

==============  ====================================================================================
overshoot       the most that the venue counted at an arrival of the client's / its limit; above 1
                the client sent too much
429             requests that it refused, of the client's
share           requests that it served, of the client's / those that the limit allows in that time
==============  ====================================================================================

Traces: ``bursts``, 1.5 times the limit at once, 0.5 to 1.5 windows apart; ``steady``, 1.3 times the
limit, evenly; ``two clients``, the same, while another spends a third of the limit from the same
address, of which the venue's header tells. Windows: ``calendar`` (60 s) and ``rolling`` (10 s).
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import importlib.metadata
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from crosswire.http import Limiter, Ticket
from crosswire.limits import Count, Limit, Refusal, VenueLimits
from crosswire.seam import System

LIMIT = 300
UTC_START_NS = 1_790_000_013_500_000_000
RTT_S = (0.02, 0.2)
TRACES = ("bursts", "steady", "two clients")
OTHERS_PART = 1 / 3


class _Selector(selectors.DefaultSelector):
    """Never waits: it moves the loop's clock instead."""

    loop: _Loop

    def select(self, timeout: float | None = None) -> list[Any]:
        # a turn takes a moment: a peer may set a timer for less than a float of seconds can tell
        self.loop.now += max(timeout or 0.0, 1e-7)
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class _Seam(System):
    """The simulated clocks."""

    def __init__(self, loop: _Loop) -> None:
        super().__init__()
        self._loop = loop

    def monotonic_ns(self) -> int:
        return round(self._loop.now * 1e9)

    def time_ns(self) -> int:
        return UTC_START_NS + self.monotonic_ns()


class Venue:
    """Counts what arrives, and refuses what is too much."""

    def __init__(self, count: Count, length_s: float) -> None:
        self.count, self.length_s = count, length_s
        self.arrivals: list[float] = []

    def begin(self, now: float) -> float:
        """Return when the window began that ends, or counts, now."""
        if self.count is Count.ROLLING:
            return now - self.length_s
        utc = UTC_START_NS / 1e9 + now
        return now - utc % self.length_s

    def take(self, now: float) -> int:
        """Count one that arrives; returns how many that makes."""
        self.arrivals.append(now)
        first = bisect.bisect_right(self.arrivals, self.begin(now))
        return len(self.arrivals) - first

    def left_s(self, now: float) -> float:
        """Return how long until it serves again, in s, if nothing else arrives."""
        if self.count is Count.ROLLING:
            return self.arrivals[-LIMIT] + self.length_s - now
        return self.begin(now) + self.length_s - now


Asking = Callable[[], Awaitable[Callable[[int, int, float], object]]]
"""Waits for leave; gives what is told the answer: status, units used, seconds to wait."""


def _nothing(status: int, used: int, wait_s: float) -> None:
    pass


def _ours(loop: _Loop, count: Count, length_s: float) -> Asking:
    limit = Limit("one", "requests", LIMIT, count, length_s, header="x-used")
    limits = VenueLimits("traces", "2026-11", "made up", (limit,), (Refusal(429),))
    limiter = Limiter(limits, _Seam(loop))
    call = limiter.call("GET /")

    def answer_of(ticket: Ticket) -> Callable[[int, int, float], object]:
        def answered(status: int, used: int, wait_s: float) -> None:
            headers = [("x-used", str(used))]
            if status == 429:
                headers.append(("retry-after", f"{wait_s:.3f}"))
            ticket.answered(status, headers)

        return answered

    async def ask() -> Callable[[int, int, float], object]:
        return answer_of(await limiter.acquire(call))

    return ask


def _aiolimiter(loop: _Loop, count: Count, length_s: float) -> Asking:
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(LIMIT, length_s)

    async def ask() -> Callable[[int, int, float], object]:
        await limiter.acquire()
        return _nothing

    return ask


def _pyrate(loop: _Loop, count: Count, length_s: float) -> Asking:
    from pyrate_limiter import AbstractClock, InMemoryBucket, Rate
    from pyrate_limiter import Limiter as Peer

    class Clock(AbstractClock):
        def now(self) -> int:
            return int(loop.now * 1000)

    bucket = InMemoryBucket([Rate(LIMIT, round(length_s * 1000))])
    bucket._clock = Clock()
    limiter = Peer(bucket)

    async def ask() -> Callable[[int, int, float], object]:
        assert await limiter.try_acquire_async("one")
        return _nothing

    return ask


def _ccxt(algorithm: str) -> Callable[[_Loop, Count, float], Asking]:
    def make(loop: _Loop, count: Count, length_s: float) -> Asking:
        from ccxt.async_support.base import throttler

        throttler.time = lambda: loop.now
        rate_limit_ms = length_s * 1000 / LIMIT
        limiter = throttler.Throttler(
            {
                "refillRate": 1 / rate_limit_ms,
                "rateLimit": rate_limit_ms,
                "windowSize": length_s * 1000,
                "algorithm": algorithm,
            },
            loop,
        )

        async def ask() -> Callable[[int, int, float], object]:
            await limiter()
            return _nothing

        return ask

    return make


PEERS: tuple[tuple[str, str, Callable[[_Loop, Count, float], Asking]], ...] = (
    ("crosswire", "crosswire", _ours),
    ("aiolimiter", "aiolimiter", _aiolimiter),
    ("pyrate-limiter", "pyrate-limiter", _pyrate),
    ("ccxt leakyBucket", "ccxt", _ccxt("leakyBucket")),
    ("ccxt rollingWindow", "ccxt", _ccxt("rollingWindow")),
)


@dataclass(frozen=True)
class Played:
    """What came of a trace."""

    overshoot: float
    refused: int
    share: float


def come(trace: str, draw: random.Random, length_s: float, seconds: float) -> list[float]:
    """Return when callers come, in s."""
    moments: list[float] = []
    at = 0.0
    while at < seconds:
        if trace == "bursts":
            moments.extend([at] * (LIMIT * 3 // 2))
            at += draw.uniform(0.5, 1.5) * length_s
        else:
            moments.append(at)
            at += length_s / LIMIT / 1.3
    return moments


async def _play(
    ask: Asking, venue: Venue, trace: str, seconds: float, draw: random.Random
) -> Played:
    loop = asyncio.get_running_loop()
    served = refused = most = 0

    async def request() -> None:
        nonlocal served, refused, most
        answered = await ask()
        rtt_s = draw.uniform(*RTT_S)
        out_s = draw.uniform(0, rtt_s)
        await asyncio.sleep(out_s)
        now = loop.time()
        used = venue.take(now)
        status = 200 if used <= LIMIT else 429
        served, refused = served + (status == 200), refused + (status == 429)
        most = max(most, used)
        wait_s = venue.left_s(now) if status == 429 else 0.0
        await asyncio.sleep(rtt_s - out_s)
        answered(status, used, wait_s)

    async def other() -> None:
        while True:
            await asyncio.sleep(venue.length_s / LIMIT / OTHERS_PART)
            venue.take(loop.time())

    moments = come(trace, draw, venue.length_s, seconds)
    others = [asyncio.create_task(other())] if trace == "two clients" else []
    tasks = []
    for at in moments:
        await asyncio.sleep(at - loop.time())
        tasks.append(asyncio.create_task(request()))
    await asyncio.sleep(seconds - loop.time())
    windows = seconds / venue.length_s
    if venue.count is Count.CALENDAR:  # those that it touches
        windows = -(-(UTC_START_NS / 1e9 % venue.length_s + seconds) // venue.length_s)
    allowed = LIMIT * (windows - OTHERS_PART * len(others) * seconds / venue.length_s)
    played = Played(most / LIMIT, refused, served / allowed)
    for task in (*tasks, *others):
        task.cancel()
    await asyncio.gather(*tasks, *others, return_exceptions=True)
    return played


def play(peer: Callable[[_Loop, Count, float], Asking], count: Count, trace: str,
         seconds: float, seed: int) -> Played:  # fmt: skip
    """Play a trace through a limiter."""
    loops: list[_Loop] = []

    def factory() -> _Loop:
        loops.append(_Loop())
        return loops[-1]

    length_s = 60.0 if count is Count.CALENDAR else 10.0
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        assert loop is loops[0]

        async def main() -> Played:
            ask = peer(loops[0], count, length_s)
            return await _play(ask, Venue(count, length_s), trace, seconds, random.Random(seed))

        todo: Coroutine[Any, Any, Played] = main()
        return runner.run(todo)


def main() -> None:
    parser = argparse.ArgumentParser(description="Play request traces through limiters.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5.0, help="of simulated time")
    options = parser.parse_args()
    print(f"{'window':9} {'trace':12} {'limiter':28} {'overshoot':>9} {'429':>6} {'share':>7}")
    for count in (Count.CALENDAR, Count.ROLLING):
        for trace in TRACES:
            for name, package, peer in PEERS:
                label = f"{name} {importlib.metadata.version(package)}"
                got = play(peer, count, trace, options.minutes * 60, options.seed)
                print(f"{count:9} {trace:12} {label:28} {got.overshoot:9.3f} {got.refused:6} "
                      f"{got.share:7.1%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
