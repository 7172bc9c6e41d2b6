"""Coinbase Advanced: limits of requests.

Source: third-party summaries of the Advanced Trade API documentation as of 2026-07, not the
venue's own page: 30 private requests a second for each user, 10 public ones for each address. 429
refuses.
"""

from __future__ import annotations

from ...limits import Count, Limit, Refusal, Scope, VenueLimits

__all__ = ["LIMITS"]

_PRIVATE = {"private": 1, "public": 0}

LIMITS = (
    VenueLimits(
        venue="coinbase",
        as_of="2026-07",
        source="third-party summaries of the Advanced Trade API documentation (unverified)",
        limits=(
            Limit("private-1s", "private", 30, Count.ROLLING, 1.0, per=(Scope.KEY,), reserve=1),
            Limit("public-1s", "public", 10, Count.ROLLING, 1.0),
        ),
        refusals=(Refusal(429, wait_s=1.0),),
        costs={
            "GET /api/v3/brokerage/time": {"private": 0, "public": 1},
            "POST /api/v3/brokerage/orders": _PRIVATE,
            "POST /api/v3/brokerage/orders/batch_cancel": _PRIVATE,
        },
    ),
)
