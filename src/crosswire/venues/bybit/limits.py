"""Bybit v5: limits of requests.

Source: Bybit v5 documentation, "Rate Limit", as of 2026-07. An address may send 600 requests in
5 s; who sends more is answered with 403 and is to wait 10 minutes. A user's orders are counted for
each endpoint, 10 a second for derivatives, which is what stands here, 20 for spot; its state of
orders 50. ``X-Bapi-Limit-Status`` tells how many are left; 10006 in a body with HTTP 200 refuses,
and ``X-Bapi-Limit-Reset-Timestamp`` says until when.
"""

from __future__ import annotations

from ...limits import Count, Limit, Refusal, Scope, Signal, VenueLimits

__all__ = ["LIMITS"]

_USER = (Scope.KEY, Scope.ENDPOINT)

LIMITS = (
    VenueLimits(
        venue="bybit",
        as_of="2026-07",
        source="Bybit v5 documentation, Rate Limit",
        limits=(
            Limit("requests-5s", "requests", 600, Count.ROLLING, 5.0, reserve=6),
            Limit("trade-1s", "trades", 10, Count.ROLLING, 1.0, per=_USER,
                  header="x-bapi-limit-status", signal=Signal.REMAINING),
            Limit("reads-1s", "reads", 50, Count.ROLLING, 1.0, per=_USER),
        ),
        refusals=(
            Refusal(403, is_ban=True, wait_s=600.0),
            Refusal(429, wait_s=1.0),
            Refusal(None, "10006", per=_USER, wait_s=1.0),
        ),
        costs={
            "GET /v5/market/time": {"trades": 0, "reads": 0},
            "GET /v5/market/orderbook": {"trades": 0, "reads": 0},
            "GET /v5/market/tickers": {"trades": 0, "reads": 0},
            "POST /v5/order/create": {"trades": 1, "reads": 0},
            "POST /v5/order/amend": {"trades": 1, "reads": 0},
            "POST /v5/order/cancel": {"trades": 1, "reads": 0},
            "GET /v5/order/realtime": {"trades": 0, "reads": 1},
        },
    ),
)  # fmt: skip
