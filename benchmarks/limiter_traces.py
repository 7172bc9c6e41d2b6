"""Rate limiters on the same traces, by the venue's count: how far each overshoots.

    python -m benchmarks.limiter_traces [--json]

A venue lets through ``AMOUNT`` units of weight a second and counts them when they arrive, which is
up to ``JITTER_S`` after they were sent; so late is the answer, too. It counts in one of two ways:
over the last second (rolling), or since the last full second of its clock (calendar). Every limiter
is told just that, as far as it can be told, and waits as it sees fit; every request is sent as soon
as its limiter lets it, and the venue refuses what is above its limit.

=========  =====================================================================================
trace      what wants to be sent
=========  =====================================================================================
burst      ``BURST`` requests of weight 1 at once
overload   40 callers that ask again as soon as they are answered, with weights of 1 to 5
waves      60 requests each 0.7 s, with weights of 1 to 3
=========  =====================================================================================

The count is that of :class:`crosswire.sim.Ledger`. Real time passes, for the others know no other:
about half a minute for all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from crosswire.http import Limiter
from crosswire.limits import Count, Limit, Refusal, VenueLimits
from crosswire.seam import System
from crosswire.sim import Hit, Ledger, VenueLimit

AMOUNT = 50
JITTER_S = 0.1
SECONDS = 5.0
BURST = 200
COUNTS = ("rolling", "calendar")
TRACES = ("burst", "overload", "waves")

Done = Callable[[int], None]
Acquire = Callable[[int], Awaitable[Done]]


@dataclass
class Outcome:
    """What a venue saw of one limiter.

    Attributes:
        limiter, trace, count: which.
        most: the highest count, of what it was sent, over its limit.
        refused: of the requests, the share that it refused.
        used: of what it would have let through in the time, the share that was sent and passed.
    """

    limiter: str
    trace: str
    count: str
    most: float
    refused: float
    used: float


def _nothing(status: int) -> None:
    """Most limiters are not told of answers."""


def ours(count: str) -> Acquire:
    """Return ``acquire`` of a crosswire limiter."""
    limits = VenueLimits(
        "venue", "", "", (Limit("weight", "weight", AMOUNT, Count(count), 1.0),),
        (Refusal(429, wait_s=1.0),),
    )  # fmt: skip
    limiter = Limiter(limits, System(), clock_error_s=0.005, transit_s=JITTER_S)
    calls = [limiter.call("GET /", costs={"weight": weight}) for weight in range(6)]

    async def acquire(weight: int) -> Done:
        return (await limiter.acquire(calls[weight])).answered

    return acquire


def aiolimiter(count: str) -> Acquire:
    """Return that of aiolimiter, which knows leaky buckets alone."""
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(AMOUNT, 1.0)

    async def acquire(weight: int) -> Done:
        await limiter.acquire(weight)
        return _nothing

    return acquire


def pyrate(count: str) -> Acquire:
    """Return that of pyrate-limiter, with a log of the last second."""
    from pyrate_limiter import Duration, InMemoryBucket, Rate
    from pyrate_limiter import Limiter as Pyrate

    limiter = Pyrate(InMemoryBucket([Rate(AMOUNT, Duration.SECOND)]))

    async def acquire(weight: int) -> Done:
        await limiter.try_acquire_async("venue", weight)
        return _nothing

    return acquire


def ccxt(algorithm: str) -> Callable[[str], Acquire]:
    """Return that of ccxt's throttler, by one of its algorithms."""

    def make(count: str) -> Acquire:
        from ccxt.async_support.base.throttler import Throttler

        rate_limit_ms = 1000.0 / AMOUNT
        throttler = Throttler(
            {
                "refillRate": 1.0 / rate_limit_ms, "algorithm": algorithm,
                "windowSize": 1000.0, "rateLimit": rate_limit_ms,
            }
        )  # fmt: skip

        async def acquire(weight: int) -> Done:
            await throttler(weight)
            return _nothing

        return acquire

    return make


def limiters() -> dict[str, Callable[[str], Acquire]]:
    """Return what is compared, by name and version."""
    return {
        "crosswire": ours,
        f"aiolimiter {version('aiolimiter')}": aiolimiter,
        f"pyrate-limiter {version('pyrate-limiter')}": pyrate,
        f"ccxt {version('ccxt')} leaky": ccxt("leakyBucket"),
        f"ccxt {version('ccxt')} window": ccxt("rollingWindow"),
    }


async def play(name: str, make: Callable[[str], Acquire], trace: str, count: str) -> Outcome:
    """Play one trace by one limiter, and return what the venue saw."""
    rng = random.Random(f"{trace} {count}")
    limit = VenueLimit(
        "weight", AMOUNT, window_s=1, is_rolling=count == "rolling", counts_refused=True
    )
    venue = Ledger([limit])
    acquire = make(count)
    sent: list[tuple[float, int, bool]] = []

    async def ask(weight: int) -> None:
        done = await acquire(weight)
        await asyncio.sleep(rng.uniform(0.0, JITTER_S))
        ruling = venue.take(Hit(weight=weight), time.time_ns())
        sent.append((time.monotonic(), weight, ruling.status is None))
        await asyncio.sleep(rng.uniform(0.0, JITTER_S))
        done(ruling.status or 200)

    async def again(end: float) -> None:
        while time.monotonic() < end:
            await ask(rng.randint(1, 5))

    begun = time.monotonic()
    tasks: list[asyncio.Task[None]] = []
    if trace == "burst":
        tasks = [asyncio.create_task(ask(1)) for _ in range(BURST)]
    elif trace == "overload":
        tasks = [asyncio.create_task(again(begun + SECONDS)) for _ in range(40)]
    else:
        while time.monotonic() < begun + SECONDS:
            tasks += [asyncio.create_task(ask(rng.randint(1, 3))) for _ in range(60)]
            await asyncio.sleep(0.7)
    await asyncio.wait(tasks, timeout=2 * SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    lasted = max(at for at, _, _ in sent) - begun
    passed = sum(weight for _, weight, is_passed in sent if is_passed)
    most = max(float(tally.highest) for tally in venue.tallies.values())
    return Outcome(
        name, trace, count, most / AMOUNT, sum(not ok for _, _, ok in sent) / len(sent),
        passed / (AMOUNT * (lasted + 1)),
    )  # fmt: skip


async def _all() -> list[Outcome]:
    found = []
    for trace in TRACES:
        for count in COUNTS:
            found += await asyncio.gather(
                *(play(name, make, trace, count) for name, make in limiters().items())
            )
    return found


def main() -> None:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    found = asyncio.run(_all())
    if options.json:
        print(json.dumps({"rows": [vars(outcome) for outcome in found]}))
        return
    print(f"{'limiter':24} {'trace':9} {'count':9} {'most':>6} {'refused':>8} {'used':>6}")
    for one in sorted(found, key=lambda one: (TRACES.index(one.trace), one.count, one.limiter)):
        told: list[Any] = [one.limiter, one.trace, one.count]
        print("{:24} {:9} {:9}".format(*told), end=" ")
        print(f"{one.most:5.2f}x {one.refused:8.1%} {one.used:6.1%}")


if __name__ == "__main__":
    main()
