"""Instruments: unified symbols, which of them may be crossed, and what is known of their books.

Unified symbols are ccxt's: ``BTC/USDT`` is spot, ``BTC/USDT:USDT`` a linear perpetual settled in
USDT, ``BTC/USD:BTC`` an inverse one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from math import inf
from numbers import Integral

from .errors import UsageError
from .venue import Record

__all__ = ["Instrument", "Loss", "Pair", "Top", "cross_pairs", "parse_leg"]

ID_MAX = 2**32 - 1


@dataclass(frozen=True)
class Instrument:
    """One tradable thing at one venue.

    Attributes:
        venue: the venue's name.
        native: the venue's own spelling.
        symbol: unified symbol, or ``None`` where it cannot be told from the spelling.
    """

    venue: str
    native: str
    symbol: str | None

    @property
    def asset_pair(self) -> str | None:
        """Base and quote without the settlement: what makes two instruments comparable."""
        return self.symbol and self.symbol.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.venue}:{self.symbol or self.native}"


@dataclass(frozen=True, slots=True, init=False)
class Pair:
    """Two instruments to be watched for crosses in both directions.

    Args:
        rule_id: number that signals carry, unique among the pairs.
        a: instrument id.
        b: instrument id.
        open_net_bps: a route opens at this net edge or above, within (-5000, 1e6).
        close_net_bps: an open route closes at this net edge or below, but never while it is at
            ``open_net_bps`` or above; ``None``: ``open_net_bps``.
        qty_max: largest size of a signal, in base units, above 0.

    Raises:
        UsageError: a number is out of range, or both instruments are one.
    """

    rule_id: int
    a: int
    b: int
    open_net_bps: float
    close_net_bps: float
    qty_max: float

    def __init__(
        self,
        rule_id: int,
        a: int,
        b: int,
        open_net_bps: float = 0.0,
        close_net_bps: float | None = None,
        qty_max: float = inf,
    ) -> None:
        close = open_net_bps if close_net_bps is None else close_net_bps
        values = (rule_id, a, b, open_net_bps, close, qty_max)
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)
        if not all(isinstance(n, Integral) and 0 <= n <= ID_MAX for n in (rule_id, a, b)):
            raise UsageError(f"rule_id, a and b must be whole numbers of 32 bits: {self!r}")
        if a == b:
            raise UsageError(f"a pair needs two instruments: {self!r}")
        if not (-5000.0 < close <= open_net_bps < 1e6 and qty_max > 0):
            raise UsageError(f"impossible thresholds: {self!r}")


@dataclass(frozen=True, slots=True)
class Top:
    """A copy of one instrument's top of book, with what makes it readable.

    Attributes:
        bid, bid_qty, ask, ask_qty: prices and sizes, 0.0 for an empty side.
        seq: the venue's number of the quote.
        ts_exch, ts_rx: UTC ns, 0 = unknown.
        is_valid: quoted since its connection was opened, two-sided, neither crossed nor locked.
        is_live: its connection is not silent.
        is_stale: it was not quoted within its deadline; readable is what is valid, live and not
            stale.
        quotes, stale: quotes applied, and quotes refused because ``seq`` did not rise.
    """

    bid: float
    bid_qty: float
    ask: float
    ask_qty: float
    seq: int
    ts_exch: int
    ts_rx: int
    is_valid: bool
    is_live: bool
    is_stale: bool
    quotes: int
    stale: int


@dataclass(frozen=True, slots=True)
class Loss:
    """An interval in which nobody brought a stream that had been brought before.

    Attributes:
        instrument: instrument id.
        record: QUOTE or TRADE.
        line: id of the line that brought it before.
        cause: ``lost``, the connection ended; ``silent``, it brought no byte; ``message``, one
            could not be read; ``stale``, it brought no quote of the instrument. The first of them
            where several came.
        last_good_ts, first_good_ts: when the last record before it and the first one behind it were
            read, UTC ns; ``first_good_ts`` is 0 while it lasts. One that is ``silent`` or ``stale``
            and ends on the connection that was so is not told then: nothing is missing.
        last_seq, first_seq: ``seq`` of those quotes, or ``trade_id`` of those trades.
    """

    instrument: int
    record: Record
    line: int
    cause: str
    last_good_ts: int
    first_good_ts: int
    last_seq: int
    first_seq: int


def parse_leg(text: str) -> tuple[str, str]:
    """Split ``VENUE:SYMBOL`` into its two parts; the symbol may hold a colon of its own.

    Raises:
        UsageError: it has not that form.
    """
    venue, colon, symbol = text.partition(":")
    if not (venue and colon and "/" in symbol):
        raise UsageError(f"{text!r} is no leg; write VENUE:BASE/QUOTE or VENUE:BASE/QUOTE:SETTLE")
    if symbol != "".join(symbol.split()).upper():
        raise UsageError(f"{text!r} is no leg; write the symbol in capitals and without spaces")
    return venue, symbol


def cross_pairs(instruments: Iterable[Instrument]) -> list[tuple[Instrument, Instrument]]:
    """Return every two instruments of one base and quote at different venues, in a fixed order."""
    ordered = sorted(instruments, key=lambda i: (i.asset_pair or "", i.venue, i.native))
    return [
        (a, b)
        for a, b in combinations(ordered, 2)
        if a.asset_pair and a.asset_pair == b.asset_pair and a.venue != b.venue
    ]
