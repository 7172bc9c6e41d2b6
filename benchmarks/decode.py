"""Messages to records: 10,000 messages as frames into batches of rows, 16 KiB a read.

Moved by scan_match.h, the decimals in ops_scan.h, symbol.h, and by whatever makes a venue's
messages miss their template.
"""

from __future__ import annotations

from collections.abc import Callable

from crosswire.engine import isa_levels

from . import common

INPUTS: dict[str, tuple[str, Callable[[], tuple[bytes, ...]], tuple[str, ...]]] = {
    "bookTicker": ("binance", common.book_tickers, common.SYMBOLS),
    "combined": ("binance", common.combined, common.SYMBOLS),
    "trade": ("binance", common.trades, common.SYMBOLS),
    "okx-bbo": ("okx", common.okx_bbo, common.OKX_SYMBOLS),
}


class Decode:
    """Each kind of message alone, at each level."""

    params = (list(INPUTS), list(isa_levels()))
    param_names = ("kind", "isa")

    def setup(self, kind: str, isa: str) -> None:
        venue, messages, symbols = INPUTS[kind]
        self.engine, self.line = common.quotes_line(venue, symbols, isa)
        self.engine.on_quotes = self.engine.on_trades = len
        self.chunks = common.chunks(messages())
        self.time_messages(kind, isa)

    def time_messages(self, kind: str, isa: str) -> None:
        """10,000 messages."""
        for chunk in self.chunks:
            self.line.feed(chunk, 1, 1)

    def track_misses(self, kind: str, isa: str) -> float:
        """Share of messages that no template predicted."""
        self.time_messages(kind, isa)
        hits, misses = self.line.predictions
        return 100.0 * misses / (hits + misses)

    track_misses.unit = "%"  # type: ignore[attr-defined]


class OneMessage:
    """A read that brings a single bookTicker: what a quiet market is made of."""

    def setup(self) -> None:
        self.engine, self.line = common.quotes_line("binance", common.SYMBOLS)
        self.engine.on_quotes = len
        self.frame = common.frames(common.book_tickers()[:1])
        self.line.feed(self.frame, 1, 1)

    def time_read(self) -> None:
        """One read, one row, one callback."""
        self.line.feed(self.frame, 1, 1)
