"""The REST side of a simulated venue that also streams: the newest quote of each symbol.

What a stream has sent last is what a request is answered with, and both carry the time at which it
was sent, so that the age of what a client knows can be compared. Weights are those that a large
spot venue asks for its best bids and offers.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from ..errors import UsageError
from ..seam import Seam
from ..venue import SimQuote
from .quota import VenueLimit
from .rest import RestServer
from .rest_venue import Answer, Route, Routes, SimRequest, json_answer

__all__ = ["ALL_WEIGHT", "ONE_WEIGHT", "WEIGHT_PER_S", "Newest", "rest_side"]

ONE_WEIGHT, ALL_WEIGHT = 2, 4
WEIGHT_PER_S = 100
"""6,000 a minute."""

Newest = Mapping[str, tuple[SimQuote, int]]
"""Native symbol → the last quote that was sent, and when: UTC ns."""


def rest_side(newest: Newest, context: ssl.SSLContext, seam: Seam) -> RestServer:
    """Return a venue's REST server, to be entered.

    ``GET /quote?symbol=NATIVE`` gives the newest quote of a symbol, ``GET /quotes`` those of all.
    """

    def of(native: str) -> dict[str, object]:
        quote, sent_ns = newest[native]
        return {
            "symbol": native, "bid": quote.bid, "bid_qty": quote.bid_qty, "ask": quote.ask,
            "ask_qty": quote.ask_qty, "sent_ns": sent_ns,
        }  # fmt: skip

    def one(request: SimRequest) -> Answer:
        native = request.param("symbol")
        if native not in newest:
            raise UsageError(f"there is no quote of {native[:40]!r}")
        return json_answer(of(native))

    routes: Routes = {
        ("GET", "/quote"): Route(one, ONE_WEIGHT),
        ("GET", "/quotes"): Route(lambda _: json_answer([of(n) for n in newest]), ALL_WEIGHT),
    }
    limit = VenueLimit("weight-1s", WEIGHT_PER_S, window_s=1, is_rolling=True, per=("address",))
    return RestServer(routes, seam, context=context, limits=[limit])
