"""A limiter in simulated time, for its tests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from fractions import Fraction
from typing import Any

import pytest
from limiter_model import LimiterSeam

from crosswire.errors import LimitError
from crosswire.http import Limiter, Ticket
from crosswire.limits import Count, Limit, Refusal, Signal, VenueLimits

ROLLING = Limit("rolling", "requests", 10, Count.ROLLING, 1.0)
REFUSALS = (Refusal(418, is_ban=True, wait_s=120.0), Refusal(429, wait_s=60.0))
BANNED, REFUSED = 418, 429


def made(
    *limits: Limit, refusals: tuple[Refusal, ...] = REFUSALS, **options: Any
) -> tuple[Limiter, LimiterSeam]:
    """Return a limiter in the running loop's time."""
    loop: Any = asyncio.get_running_loop()
    seam = LimiterSeam(loop)
    venue = VenueLimits("here", "2026-11", "a test", limits, refusals)
    return Limiter(venue, seam, **options), seam


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def refusal_of(asking: Coroutine[Any, Any, Ticket]) -> LimitError:
    with pytest.raises(LimitError) as caught:
        await asking
    return caught.value


def told(count: Count, signal: Signal = Signal.USED) -> Limit:
    return Limit("one", "requests", 100, count, 60.0, Fraction(1, 10), header="x", signal=signal)
