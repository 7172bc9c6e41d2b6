"""Gate v4: limits of requests.

Source: third-party summaries of the Gate API v4 documentation as of 2026-07, not the venue's own
page: public endpoints 200 in 10 s for each endpoint and address, private ones 200 in 10 s, spot
orders 10 a second for each market and user. ``X-Gate-RateLimit-Requests-Remain`` tells what is
left of an endpoint's; 429 refuses. Spot orders have their own limit in place of that of the private
endpoints: their header tells of it, and would be misread as of 200.
"""

from __future__ import annotations

from ...limits import Count, Limit, Refusal, Scope, Signal, VenueLimits

__all__ = ["LIMITS"]

LIMITS = (
    VenueLimits(
        venue="gate",
        as_of="2026-07",
        source="third-party summaries of the Gate API v4 documentation (unverified)",
        limits=(
            Limit("requests-10s", "requests", 200, Count.ROLLING, 10.0, reserve=2,
                  per=(Scope.KEY, Scope.ENDPOINT), header="x-gate-ratelimit-requests-remain",
                  signal=Signal.REMAINING),
            Limit("orders-1s", "orders", 10, Count.ROLLING, 1.0,
                  per=(Scope.KEY, Scope.INSTRUMENT)),
        ),
        refusals=(Refusal(429, per=(Scope.KEY, Scope.ENDPOINT), wait_s=10.0),),
        costs={"POST /api/v4/spot/orders": {"requests": 0}},
    ),
)  # fmt: skip
