"""Binance: limits of requests, spot and USD-M futures.

Source: Binance API documentation, "Limits" and "LIMITS" of the spot and USD-M REST APIs, the
weights beside each endpoint, as of 2026-11. ``exchangeInfo`` tells the numbers in force
(``rateLimits``): orders are given higher limits than these by account.

A window begins at each multiple of its length; ``X-MBX-USED-WEIGHT-1M`` and
``X-MBX-ORDER-COUNT-10S`` tell what was used in it. 429 says to back off, with ``Retry-After``; who
does not is banned: 418, 2 minutes to 3 days. 403 is the web application firewall's.
"""

from __future__ import annotations

from ...limits import Count, Limit, Refusal, Scope, VenueLimits

__all__ = ["LIMITS"]

_REFUSALS = (
    Refusal(418, is_ban=True, wait_s=120.0),
    Refusal(429, wait_s=60.0),
    Refusal(403, wait_s=60.0),
)

LIMITS = (
    VenueLimits(
        venue="binance",
        as_of="2026-11",
        source="Binance spot API documentation, Limits",
        limits=(
            Limit("weight-1m", "weight", 6000, Count.CALENDAR, 60.0, reserve=60,
                  header="x-mbx-used-weight-1m"),
            Limit("requests-5m", "requests", 61_000, Count.CALENDAR, 300.0, reserve=600),
            Limit("orders-10s", "orders", 50, Count.CALENDAR, 10.0, per=(Scope.KEY,),
                  header="x-mbx-order-count-10s"),
            Limit("orders-1d", "orders", 160_000, Count.CALENDAR, 86_400.0, per=(Scope.KEY,),
                  header="x-mbx-order-count-1d"),
        ),
        refusals=_REFUSALS,
        costs={
            "GET /api/v3/ping": {"weight": 1},
            "GET /api/v3/time": {"weight": 1},
            "GET /api/v3/exchangeInfo": {"weight": 20},
            "POST /api/v3/order": {"weight": 1},
            "DELETE /api/v3/order": {"weight": 1},
        },
    ),
    VenueLimits(
        venue="binance.usdm",
        as_of="2026-11",
        source="Binance USD-M futures API documentation, Limits",
        limits=(
            Limit("weight-1m", "weight", 2400, Count.CALENDAR, 60.0, reserve=24,
                  header="x-mbx-used-weight-1m"),
            Limit("orders-10s", "orders", 300, Count.CALENDAR, 10.0, per=(Scope.KEY,),
                  header="x-mbx-order-count-10s"),
            Limit("orders-1m", "orders", 1200, Count.CALENDAR, 60.0, per=(Scope.KEY,),
                  header="x-mbx-order-count-1m"),
        ),
        refusals=_REFUSALS,
        costs={
            "GET /fapi/v1/ping": {"weight": 1},
            "GET /fapi/v1/time": {"weight": 1},
            "GET /fapi/v1/exchangeInfo": {"weight": 1},
            "POST /fapi/v1/order": {"weight": 1},
            "DELETE /fapi/v1/order": {"weight": 1},
        },
    ),
)  # fmt: skip
