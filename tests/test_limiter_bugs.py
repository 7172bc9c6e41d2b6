"""Limiters in simulated time: what reviews found, and what must not come back."""

from __future__ import annotations

from crosswire.http.meter import Clock, Meter
from crosswire.limits import Count, Limit

S = 10**9
ROLLING = Limit("all", "requests", 100, Count.ROLLING, 1.0)


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
