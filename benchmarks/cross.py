"""Crosses: the same quotes with 0 to 28 pairs per symbol, and quotes that always cross.

Moved by cross.c, ring.c, book.c, and by how signals are handed to Python.
"""

from __future__ import annotations

import itertools

from crosswire.engine import Engine
from crosswire.instruments import Pair
from crosswire.line import Line
from crosswire.venues import venue

from . import common


class Watching:
    """20,000 quotes of 8 venues, of which ``venues`` are paired with each other."""

    params = ([0, 2, 4, 8],)
    param_names = ("venues",)

    def setup(self, venues: int) -> None:
        self.market = common.MarketEngine(64)
        self.market.engine.on_signals = len
        legs = [
            legs
            for instruments in self.market.by_symbol
            for legs in itertools.combinations(instruments[:venues], 2)
        ]
        self.market.begin()
        self.market.engine.set_pairs(
            [Pair(i, a, b, open_net_bps=common.OPEN_NET_BPS) for i, (a, b) in enumerate(legs)]
        )

    def time_quotes(self, venues: int) -> None:
        """20,000 quotes, all connections opened anew before."""
        self.market.begin()
        self.market.run()


class Signalling:
    """Two venues of which one quotes above the other: every quote opens or closes a route."""

    def setup(self) -> None:
        self.engine = Engine()
        ids, self.lines = [], []
        for name in ("low", "high"):
            self.engine.add_venue(name, venue("binance").layout)
            ids.append(self.engine.add_instrument(name, "BTCUSDT", fee_bps=1.0))
            self.lines.append(Line(self.engine, name))
        self.engine.set_pairs([Pair(1, *ids, open_net_bps=1.0)])
        self.engine.on_signals = len
        quote = '{{"u":{},"s":"BTCUSDT","b":"{}.00","B":"1.00","a":"{}.50","A":"1.00"}}'
        self.lines[0].open(1, 1)
        self.lines[0].feed(common.frames([quote.format(1, 60000, 60000).encode()]), 1, 1)
        self.high = common.frames(
            [quote.format(i, p, p).encode() for i, p in enumerate([60100, 60000] * 500, 1)]
        )

    def time_signals(self) -> None:
        """1,000 quotes, 1,000 signals, each handed over as soon as it stands."""
        self.lines[1].open(1, 1)
        self.lines[1].feed(self.high, 1, 1)

    def track_signals(self) -> int:
        """Signals of 1,000 quotes: says that the work above is done."""
        before = self.engine.signal_count
        self.time_signals()
        return self.engine.signal_count - before

    track_signals.unit = "signals"  # type: ignore[attr-defined]
