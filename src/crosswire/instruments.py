"""Instruments: unified symbols, and which of them may be crossed.

Unified symbols are ccxt's: ``BTC/USDT`` is spot, ``BTC/USDT:USDT`` a linear perpetual settled in
USDT, ``BTC/USD:BTC`` an inverse one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from .errors import UsageError

__all__ = ["Instrument", "cross_pairs", "parse_leg"]


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


def parse_leg(text: str) -> tuple[str, str]:
    """Split ``VENUE:SYMBOL`` into its two parts; the symbol may hold a colon of its own.

    Raises:
        UsageError: it has not that form.
    """
    venue, colon, symbol = text.partition(":")
    if not (venue and colon and "/" in symbol):
        raise UsageError(f"{text!r} is no leg; write VENUE:BASE/QUOTE or VENUE:BASE/QUOTE:SETTLE")
    return venue, symbol


def cross_pairs(instruments: Iterable[Instrument]) -> list[tuple[Instrument, Instrument]]:
    """Return every two instruments of one base and quote at different venues, in a fixed order."""
    ordered = sorted(instruments, key=lambda i: (i.asset_pair or "", i.venue, i.native))
    return [
        (a, b)
        for a, b in combinations(ordered, 2)
        if a.asset_pair and a.asset_pair == b.asset_pair and a.venue != b.venue
    ]
