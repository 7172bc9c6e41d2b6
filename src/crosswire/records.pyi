import numpy as np

__all__ = ["QUOTE_DTYPE", "SIGNAL_DTYPE", "TRADE_DTYPE"]

QUOTE_DTYPE: np.dtype[np.void]
TRADE_DTYPE: np.dtype[np.void]
SIGNAL_DTYPE: np.dtype[np.void]
