"""Kraken: limits of requests, by counters that fall.

Source: Kraken's API documentation, "Spot REST rate limits" and "Trading rate limits", by way of
third parties, as of 2026-07, for the lowest tier (Starter): a counter for each key of at most 15
that falls by 0.33 a second, most requests 1, history 2; and one for each key and pair of at most
60 that falls by 1 a second, an order 1, a cancel up to 8: by the order's age, 8 below 5 s, 6 below
10, 5 below 15, 4 below 45, 2 below 90, 1 below 300. What is not said costs the most. No header
tells; what was too much is refused in a body with HTTP 200.
"""

from __future__ import annotations

from fractions import Fraction

from ...limits import Count, Limit, Refusal, Scope, VenueLimits

__all__ = ["LIMITS"]

LIMITS = (
    VenueLimits(
        venue="kraken",
        as_of="2026-07",
        source="third-party summaries of Kraken's API documentation, Starter tier (unverified)",
        limits=(
            Limit("counter", "counter", 15, Count.DECAYING, per_s=Fraction(33, 100),
                  per=(Scope.KEY,)),
            Limit("trading", "trading", 60, Count.DECAYING, per_s=Fraction(1),
                  per=(Scope.KEY, Scope.INSTRUMENT), reserve=8),
        ),
        refusals=(
            Refusal(429, wait_s=5.0),
            Refusal(None, "EAPI:Rate limit exceeded", per=(Scope.KEY,), wait_s=5.0),
            Refusal(None, "EOrder:Rate limit exceeded", per=(Scope.KEY, Scope.INSTRUMENT),
                    wait_s=5.0),
        ),
        costs={
            "GET /0/public/Time": {"counter": 0, "trading": 0},
            "GET /0/public/Depth": {"counter": 0, "trading": 0},
            "POST /0/private/AddOrder": {"counter": 0, "trading": 1},
            "POST /0/private/CancelOrder": {"counter": 0, "trading": 8},
            "POST /0/private/QueryOrders": {"counter": 1, "trading": 0},
        },
    ),
)  # fmt: skip
