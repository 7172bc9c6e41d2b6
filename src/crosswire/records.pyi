import enum

import numpy as np

__all__ = ["QUOTE_DTYPE", "SIGNAL_DTYPE", "TRADE_DTYPE", "CloseReason", "SignalEvent"]

QUOTE_DTYPE: np.dtype[np.void]
TRADE_DTYPE: np.dtype[np.void]
SIGNAL_DTYPE: np.dtype[np.void]

class SignalEvent(enum.IntEnum):
    OPEN = 1
    UPDATE = 2
    CLOSE = 3

class CloseReason(enum.IntEnum):
    NONE = 0
    BUY_MOVED = 1
    SELL_MOVED = 2
    GATE = 4
    LIVENESS = 5
    LOST = 6
    STALE = 7
