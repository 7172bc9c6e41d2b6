from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from typing_extensions import Buffer

from .errors import VenueError
from .venue import Layout

__all__ = [
    "Engine",
    "Line",
    "MessageError",
    "Pair",
    "QUOTE_DTYPE",
    "SIGNAL_DTYPE",
    "TRADE_DTYPE",
    "Top",
    "isa_levels",
]

QUOTE_DTYPE: np.dtype[np.void]
TRADE_DTYPE: np.dtype[np.void]
SIGNAL_DTYPE: np.dtype[np.void]

_Rows = np.ndarray[Any, np.dtype[np.void]]
_Consumer = Callable[[_Rows], object]

def isa_levels() -> tuple[str, ...]: ...

class Pair:
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
        qty_max: float = ...,
    ) -> None: ...

class Top:
    bid: float
    bid_qty: float
    ask: float
    ask_qty: float
    seq: int
    ts_exch: int
    ts_rx: int
    is_valid: bool
    is_live: bool
    quotes: int
    stale: int
    def __init__(self, **fields: object) -> None: ...

class MessageError(VenueError):
    message: int
    instrument: int | None
    def __init__(
        self, code: str, at: int, message: int, instrument: int | None, text: str
    ) -> None: ...

@final
class Engine:
    on_signals: _Consumer | None
    on_quotes: _Consumer | None
    on_trades: _Consumer | None
    def __init__(
        self,
        *,
        instruments_max: int = 4096,
        pairs_max: int = 16384,
        lines_max: int = 64,
        venues_max: int = 32,
        signals_max: int = 65536,
        rows_max: int = 4096,
        isa: str | None = None,
        takes_unknown: bool = False,
        latest_only: bool = False,
        is_timed: bool = False,
    ) -> None: ...
    def add_venue(
        self, name: str, layout: Layout, *, fee_bps: float = 0.0, liveness_limit_s: float = 5.0
    ) -> int: ...
    def add_instrument(
        self, venue: str, symbol: str, *, fee_bps: float, multiplier: float = 1.0
    ) -> int: ...
    def set_pairs(self, pairs: Sequence[Pair]) -> None: ...
    def line(
        self,
        venue: str,
        *,
        is_server: bool = False,
        read_size: int = 16384,
        message_max: int = ...,
        fragments_max: int = 65536,
    ) -> Line: ...
    def advance(self, ts_now: int, mono_now: int) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def instrument_count(self) -> int: ...
    @property
    def instruments(self) -> list[tuple[str, str]]: ...
    def top(self, instrument: int) -> Top: ...
    def counts(self, instrument: int) -> dict[str, int]: ...
    @property
    def errors(self) -> dict[str, int]: ...
    @property
    def message_count(self) -> int: ...
    @property
    def signal_count(self) -> int: ...
    @property
    def open_count(self) -> int: ...
    @property
    def signals_refused(self) -> int: ...
    @property
    def callback_errors(self) -> int: ...
    def rx_to_signal_ns(self) -> dict[str, int]: ...
    def stages_ns(self) -> dict[str, dict[str, int]]: ...
    def open_opportunities(self) -> list[dict[str, Any]]: ...

@final
class Line:
    on_control: Callable[[int, bytes], object] | None
    recorder: Callable[[bytes, int, int], object] | None
    @property
    def engine(self) -> Engine: ...
    def open(self, ts_now: int, mono_now: int) -> None: ...
    def lose(self, ts_now: int, mono_now: int) -> None: ...
    def window(self) -> memoryview: ...
    def received(self, n: int, ts_rx: int, mono_rx: int) -> int: ...
    def feed(self, data: Buffer, ts_rx: int, mono_rx: int) -> int: ...
    def reject(self) -> None: ...
    @property
    def id(self) -> int: ...
    @property
    def is_done(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def is_live(self) -> bool: ...
    @property
    def error(self) -> VenueError | None: ...
    @property
    def close_code(self) -> int: ...
    @property
    def byte_count(self) -> int: ...
    @property
    def frame_count(self) -> int: ...
    @property
    def message_count(self) -> int: ...
    @property
    def error_count(self) -> int: ...
    @property
    def predictions(self) -> tuple[int, int]: ...
    def message_errors(self) -> list[MessageError]: ...
