"""What a limiter takes where nobody has to wait: ours beside aiolimiter, by turns.

Both keep one limit that is never reached. Ours is told of the answer as well, which theirs does
not take, in the rows that say ``request``.
"""

from __future__ import annotations

import asyncio
import time

from crosswire.http import Limiter
from crosswire.limits import Count, Limit, VenueLimits
from crosswire.seam import System

from . import common

AMOUNT = 10**9
CALLS = 2000
LIMITS = VenueLimits("venue", "", "", (Limit("all", "requests", AMOUNT, Count.ROLLING, 60.0),), ())


async def _turns(sample: common.Sample, is_told: bool, windows: int) -> None:
    from aiolimiter import AsyncLimiter

    limiter, other = Limiter(LIMITS, System()), AsyncLimiter(AMOUNT, 60.0)
    call = limiter.call("GET /")

    async def ours() -> None:
        if is_told:
            for _ in range(CALLS):
                (await limiter.acquire(call)).answered()
        else:
            for _ in range(CALLS):
                await limiter.acquire(call)

    async def theirs() -> None:
        for _ in range(CALLS):
            await other.acquire()

    for i in range(-2, windows):
        took = {}
        for run in (ours, theirs) if i % 2 else (theirs, ours):
            began = time.thread_time_ns()
            await run()
            took[run] = (time.thread_time_ns() - began) / CALLS
        if i >= 0:
            sample.ours_ns.append(took[ours])
            sample.peer_ns.append(took[theirs])


def take_turns(is_told: bool, windows: int) -> common.Sample:
    """Acquire by turns; the time is the thread's, for each call."""
    sample = common.Sample([], [])
    asyncio.run(_turns(sample, is_told, windows))
    return sample
