"""What type checkers must see in the public API."""

from typing import Any, assert_type

import numpy as np

import crosswire
from crosswire.codec import Histogram, decimal, encode_frame, read_header
from crosswire.engine import Engine
from crosswire.instruments import Pair
from crosswire.line import Line
from crosswire.venue import Record

engine = Engine(isa="base")
assert_type(engine, Engine)
assert_type(Line(engine, "binance"), Line)
assert_type(engine.instruments, list[tuple[str, str]])
assert_type(engine.top(0).bid, float)
assert_type(engine.losses(), list[crosswire.Loss])
assert_type(engine.losses()[0].record, Record)
assert_type(engine.errors, dict[str, int])
assert_type(Line(engine, "binance").error, crosswire.VenueError | None)
assert_type(Line(engine, "binance", group=1).margin_ns(), dict[str, int])
assert_type(Pair(1, 0, 1).open_net_bps, float)
assert_type(crosswire.SIGNAL_DTYPE, np.dtype[np.void])
assert_type(crosswire.isa_levels(), tuple[str, ...])
assert_type(encode_frame(1, b"x"), bytes)
assert_type(decimal(b"1.5"), tuple[float, bool])
assert_type(read_header(b"\x81\x00"), tuple[int, bool, int, int, bytes | None] | None)
assert_type(Histogram().summary(), dict[str, int])


def on_signals(signals: np.ndarray[Any, np.dtype[np.void]]) -> None:
    print(signals["net_bps"])


engine.on_signals = on_signals
