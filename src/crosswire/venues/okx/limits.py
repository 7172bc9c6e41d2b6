"""OKX v5: limits of requests.

Source: OKX API v5 documentation, "Rate limits" and beside each endpoint, as of 2026-07. Orders are
counted for each user and instrument, and a sub-account's new and amended ones together as well. No
header tells; what was too much is answered with 429 or, in a body with HTTP 200, code 50011, and
50061 for the sub-account's limit. How long to wait is not told.

The orders of a batch are counted one by one, both for the endpoint and for the sub-account: how
many are in it is for the caller to say, as ``costs={"placed": 5}``.

Public endpoints have limits of their own, mostly 20 or 40 in 2 s; here are the lower.
"""

from __future__ import annotations

from ...limits import Count, Limit, Refusal, Scope, VenueLimits

__all__ = ["LIMITS"]

_TRADE = (Scope.KEY, Scope.ENDPOINT, Scope.INSTRUMENT)
_PLACE, _BATCH, _CANCEL = (
    "POST /api/v5/trade/order", "POST /api/v5/trade/batch-orders",
    "POST /api/v5/trade/cancel-order",
)  # fmt: skip

LIMITS = (
    VenueLimits(
        venue="okx",
        as_of="2026-07",
        source="OKX API v5 documentation, Rate limits",
        limits=(
            Limit("trade-2s", "trades", 60, Count.ROLLING, 2.0, per=_TRADE),
            Limit("batch-2s", "placed", 300, Count.ROLLING, 2.0, per=_TRADE),
            Limit("orders-2s", "placed", 1000, Count.ROLLING, 2.0, per=(Scope.KEY,)),
            Limit("public-2s", "reads", 20, Count.ROLLING, 2.0, per=(Scope.ENDPOINT,)),
        ),
        refusals=(
            Refusal(429, per=_TRADE, wait_s=2.0),
            Refusal(None, "50011", per=_TRADE, wait_s=2.0),
            Refusal(None, "50061", per=(Scope.KEY,), wait_s=2.0),
        ),
        costs={
            _PLACE: {"trades": 1, "placed": 1, "reads": 0},
            _BATCH: {"trades": 0, "reads": 0},
            _CANCEL: {"trades": 1, "placed": 0, "reads": 0},
            "GET /api/v5/trade/order": {"trades": 1, "placed": 0, "reads": 0},
            "GET /api/v5/public/time": {"trades": 0, "placed": 0, "reads": 1},
            "GET /api/v5/market/books": {"trades": 0, "placed": 0, "reads": 1},
        },
    ),
)
