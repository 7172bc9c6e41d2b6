"""A small generic venue over REST: what a request and an answer are, its quotes and its orders.

Quotes are a function of the seed, the symbol and the time: no task makes them. Each has a number
and the time at which it was made, so that a client can tell how old its data are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import index
from typing import Any
from urllib.parse import parse_qsl
from zlib import crc32

from ..errors import UsageError

__all__ = [
    "Answer",
    "Route",
    "Routes",
    "SimOrder",
    "SimQuotes",
    "SimRequest",
    "SimVenue",
    "json_answer",
]

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
DUPLICATES = ("refuse", "return", "accept")
BATCH_MAX = 100
DEPTH_WEIGHTS = ((100, 5), (500, 25), (1000, 50))
"""Up to how many levels a snapshot costs how much."""


@dataclass(frozen=True)
class SimRequest:
    """A request as a handler sees it: whole.

    Attributes:
        id: its number at its server, from 0.
        version: ``"1.1"`` or ``"2"``.
        method, target: as sent.
        headers: (name in lower case, value), in order.
        body: without its transfer coding.
        address: of the client.
        now_ns: when the venue counted it, UTC by the venue's clock.
    """

    id: int
    version: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    address: str
    now_ns: int

    def header(self, name: str) -> str | None:
        """Return the first header of that name, in lower case; ``None``: there is none."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @cached_property
    def params(self) -> Mapping[str, str]:
        """What the query and the body say, a JSON object or a form; of one name the last counts.

        Raises:
            UsageError: the body is neither.
        """
        params = dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))
        if not self.body:
            return params
        try:
            if self.body[:1] == b"{":
                return params | {str(k): str(v) for k, v in json.loads(self.body).items()}
            return params | dict(parse_qsl(self.body.decode(), keep_blank_values=True))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the body cannot be read: {error}") from None

    def param(self, name: str) -> str:
        """Return a parameter.

        Raises:
            UsageError: it is missing.
        """
        if not (value := self.params.get(name)):
            raise UsageError(f"{name} is missing")
        return value


@dataclass(frozen=True)
class Answer:
    """What a handler answers.

    Attributes:
        status: 200 to 599.
        body: at most what fits in memory; HEAD leaves it out.
        headers: (name, value); length, type and date are the server's own.
        content_type: of the body.
        is_chunked: in two chunks, where HTTP/1.1 is spoken.
    """

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"
    is_chunked: bool = False


def json_answer(value: Any, status: int = 200) -> Answer:
    """Return an answer whose body is JSON."""
    return Answer(status, json.dumps(value, separators=(",", ":")).encode())


@dataclass(frozen=True)
class Route:
    """One endpoint.

    Attributes:
        handler: makes the answer, at once. A UsageError of its is answered with 400 and its text;
            where it fails otherwise, or returns anything else, that is logged and answered with
            500.
        weight: of a request; a function of it where requests differ. Where that raises UsageError,
            the weight is 1; where it fails otherwise, that is logged and answered with 500, and
            nothing counts.
        orders: how many orders a request places.
        endpoint: its name for limits; empty: method and path.
    """

    handler: Callable[[SimRequest], Answer]
    weight: int | Callable[[SimRequest], int] = 1
    orders: int = 0
    endpoint: str = ""

    def weight_of(self, request: SimRequest) -> int:
        """Return what a request costs."""
        if isinstance(self.weight, int):
            return self.weight
        try:
            return index(self.weight(request))
        except UsageError:
            return 1


Routes = Mapping[tuple[str, str], Route]
"""Endpoints by (method, path)."""


class SimQuotes:
    """Quotes by seed: number ``n`` is made ``n * every_s`` after the epoch, by the venue's clock.

    Raises:
        UsageError: not ``0.000001 <= every_s <= 3600``.
    """

    def __init__(self, seed: int = 0, every_s: float = 0.01) -> None:
        if not 1e-6 <= every_s <= 3600:
            raise UsageError(f"every_s is 0.000001 to 3600, not {every_s!r}")
        self._seed = seed
        self._every_ns = round(every_s * 1e9)

    def at(self, symbol: str, now_ns: int) -> dict[str, Any]:
        """Return the best bid and offer of a symbol at a time, UTC ns."""
        number = now_ns // self._every_ns
        luck = crc32(f"{self._seed} {symbol} {number}".encode())
        ticks = 10_000 + crc32(symbol.encode()) % 90_000 + luck % 101
        return {
            "symbol": symbol,
            "bid": _price(ticks),
            "bid_qty": str(1 + luck // 101 % 9),
            "ask": _price(ticks + 1 + luck // 1009 % 3),
            "ask_qty": str(1 + luck // 909 % 9),
            "number": number,
            "ts_ns": number * self._every_ns,
        }


def _price(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02}"


@dataclass
class SimOrder:
    """An order that a venue holds.

    Attributes:
        client_id: the client's name of it.
        order_id: the venue's.
        symbol, side, price, qty: as placed first.
        state: ``open`` or ``cancelled``.
        placed_by: ids of the requests that placed it. More than one: it stands in the book so
            often.
        cancelled_by: ids of the requests that were told that it is cancelled.
    """

    client_id: str
    order_id: int
    symbol: str
    side: str
    price: str
    qty: str
    state: str = "open"
    placed_by: list[int] = field(default_factory=list)
    cancelled_by: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return what the venue tells of it."""
        names = ("client_id", "order_id", "symbol", "side", "price", "qty", "state")
        return {name: getattr(self, name) for name in names}


class SimVenue:
    """A venue's endpoints: time, quotes, depth and orders.

    Args:
        seed: of its quotes.
        symbols: that it knows.
        every_s: from one quote to the next.
        duplicates: what becomes of a client id that is known: ``refuse`` (400), ``return`` (what
            stands already) or ``accept`` (another order is placed).

    Attributes:
        orders: all that were placed, by client id.

    Raises:
        UsageError: an unknown word, or a number out of range.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        symbols: tuple[str, ...] = SYMBOLS,
        every_s: float = 0.01,
        duplicates: str = "refuse",
    ) -> None:
        if duplicates not in DUPLICATES:
            raise UsageError(f"duplicates is one of {', '.join(DUPLICATES)}, not {duplicates!r}")
        self.symbols = symbols
        self.orders: dict[str, SimOrder] = {}
        self._quotes = SimQuotes(seed, every_s)
        self._duplicates = duplicates

    def routes(self) -> Routes:
        """Return the endpoints, with their weights."""
        return {
            ("GET", "/time"): Route(self._time),
            ("GET", "/quote"): Route(self._quote),
            ("GET", "/quotes"): Route(self._batch, lambda r: 2 if len(_names(r)) <= 20 else 10),
            ("GET", "/depth"): Route(self._depth, _depth_weight),
            ("POST", "/order"): Route(self._place, orders=1),
            ("DELETE", "/order"): Route(self._cancel),
            ("GET", "/order"): Route(self._query, 2),
        }

    def _time(self, request: SimRequest) -> Answer:
        return json_answer({"time_ns": request.now_ns})

    def _known(self, symbol: str) -> str:
        if symbol not in self.symbols:
            raise UsageError(f"unknown symbol {symbol[:40]!r}")
        return symbol

    def _quote(self, request: SimRequest) -> Answer:
        return json_answer(self._quotes.at(self._known(request.param("symbol")), request.now_ns))

    def _batch(self, request: SimRequest) -> Answer:
        names = _names(request)
        if len(names) > BATCH_MAX:
            raise UsageError(f"symbols are at most {BATCH_MAX}, not {len(names)}")
        return json_answer([self._quotes.at(self._known(n), request.now_ns) for n in names])

    def _depth(self, request: SimRequest) -> Answer:
        symbol, count = self._known(request.param("symbol")), _depth_limit(request)
        top = self._quotes.at(symbol, request.now_ns)
        bid, ask = (int(top[side].replace(".", "")) for side in ("bid", "ask"))
        return json_answer(
            {
                "symbol": symbol,
                "number": top["number"],
                "ts_ns": top["ts_ns"],
                "bids": [[top["bid"], top["bid_qty"]]]
                + [[_price(bid - i), str(i)] for i in range(1, count)],
                "asks": [[top["ask"], top["ask_qty"]]]
                + [[_price(ask + i), str(i)] for i in range(1, count)],
            }
        )

    def _place(self, request: SimRequest) -> Answer:
        client_id, side, price, qty = map(request.param, ("client_id", "side", "price", "qty"))
        symbol = self._known(request.param("symbol"))
        order = self.orders.get(client_id)
        if order is None:
            order = SimOrder(client_id, len(self.orders) + 1, symbol, side, price, qty)
            self.orders[client_id] = order
        elif self._duplicates == "refuse":
            return json_answer({"code": "duplicate-client-id"}, 400)
        elif self._duplicates == "return":
            return json_answer(order.as_dict())
        order.placed_by.append(request.id)
        return json_answer(order.as_dict())

    def _cancel(self, request: SimRequest) -> Answer:
        if (order := self.orders.get(request.param("client_id"))) is None:
            return json_answer({"code": "unknown-order"}, 404)
        order.state = "cancelled"
        order.cancelled_by.append(request.id)
        return json_answer(order.as_dict())

    def _query(self, request: SimRequest) -> Answer:
        if (order := self.orders.get(request.param("client_id"))) is None:
            return json_answer({"code": "unknown-order"}, 404)
        return json_answer(order.as_dict())


def _names(request: SimRequest) -> list[str]:
    return request.param("symbols").split(",")


def _depth_limit(request: SimRequest) -> int:
    text = request.params.get("limit", "100")
    is_number = len(text) <= 4 and text.isascii() and text.isdigit()
    if not is_number or not 1 <= int(text) <= 1000:
        raise UsageError(f"limit is 1 to 1000, not {text[:40]!r}")
    return int(text)


def _depth_weight(request: SimRequest) -> int:
    limit = _depth_limit(request)
    return next(weight for most, weight in DEPTH_WEIGHTS if limit <= most)
