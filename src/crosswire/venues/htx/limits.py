"""HTX: limits of requests.

Source: third-party summaries of the HTX API documentation as of 2026-07, not the venue's own page:
market data 800 a second for each address, 100 orders in 2 s for each user. 429 refuses, and
``too-many-request`` as ``err-code`` in a body.
"""

from __future__ import annotations

from ...limits import Count, Limit, Refusal, Scope, VenueLimits

__all__ = ["LIMITS"]

LIMITS = (
    VenueLimits(
        venue="htx",
        as_of="2026-07",
        source="third-party summaries of the HTX API documentation (unverified)",
        limits=(
            Limit("requests-1s", "requests", 800, Count.ROLLING, 1.0, reserve=8),
            Limit("orders-2s", "orders", 100, Count.ROLLING, 2.0, per=(Scope.KEY,)),
        ),
        refusals=(
            Refusal(429, wait_s=2.0),
            Refusal(None, "too-many-request", per=(Scope.KEY,), wait_s=2.0),
        ),
    ),
)
