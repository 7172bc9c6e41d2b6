"""crosswire: exchange market data to arbitrage signals.

Bytes from exchange sockets go in, signals come out; everything between is compiled, bounded and
measured. Importing it starts nothing, configures nothing and changes nothing.
"""

from pathlib import Path

from .config import Config, load_config, parse_config
from .engine import Engine, isa_levels
from .errors import (
    BreakerOpenError,
    CrosswireError,
    HandshakeError,
    HostError,
    LimitError,
    MessageError,
    ProxyError,
    RecordingError,
    RequestError,
    SubscriptionError,
    TlsError,
    UsageError,
    VenueError,
)
from .instruments import Instrument, Loss, Pair, Top
from .line import Line
from .records import QUOTE_DTYPE, SIGNAL_DTYPE, TRADE_DTYPE, CloseReason, SignalEvent
from .runtime import Runtime
from .wake import Spin

__version__ = "0.1.0"

__all__ = [
    "QUOTE_DTYPE",
    "SIGNAL_DTYPE",
    "TRADE_DTYPE",
    "BreakerOpenError",
    "CloseReason",
    "Config",
    "CrosswireError",
    "Engine",
    "HandshakeError",
    "HostError",
    "Instrument",
    "LimitError",
    "Line",
    "Loss",
    "MessageError",
    "Pair",
    "ProxyError",
    "RecordingError",
    "RequestError",
    "Runtime",
    "SignalEvent",
    "Spin",
    "SubscriptionError",
    "TlsError",
    "Top",
    "UsageError",
    "VenueError",
    "__version__",
    "get_include",
    "isa_levels",
    "load_config",
    "parse_config",
]


def get_include() -> str:
    """Return the folder of the C headers, for ``-I`` and ``include_dirs``."""
    return str(Path(__file__).parent / "include")
