"""From bytes to signal: 8 venues, tops, crosses net of fees, signals handed to Python.

Moved by everything in csrc, and by the feeding loop and the callbacks of engine.pyx. Latency is
the engine's own: from the stamp of a read to the signal's place in the ring, ns, on the fixed
market of ``common``; the machine is named by asv.
"""

from __future__ import annotations

import time

from crosswire.engine import isa_levels

from . import common


class Pipeline:
    """20,000 quotes as reads of 64 messages or of one."""

    params = ([64, 1], list(isa_levels()))
    param_names = ("messages_per_read", "isa")

    def setup(self, read_messages: int, isa: str) -> None:
        self.market = common.MarketEngine(read_messages, isa)
        self.market.engine.on_signals = len

    def time_quotes(self, read_messages: int, isa: str) -> None:
        """20,000 quotes, all connections opened anew before."""
        self.market.begin()
        self.market.run()


class Latency:
    """Read to signal, with the clock of the machine."""

    params = ([64, 1],)
    param_names = ("messages_per_read",)

    def setup(self, read_messages: int) -> None:
        market = common.MarketEngine(read_messages, is_timed=True)
        market.engine.on_signals = len
        for _ in range(20):
            market.begin()
            for line, data in market.reads:
                line.feed(data, time.time_ns(), time.monotonic_ns())
        self.market = market
        self.latency = market.engine.rx_to_signal_ns()

    def track_p50(self, read_messages: int) -> float:
        """Half of all signals stand sooner."""
        return float(self.latency["p50"])

    def track_p99(self, read_messages: int) -> float:
        """99 of 100 signals stand sooner."""
        return float(self.latency["p99"])

    def track_p99_9(self, read_messages: int) -> float:
        """999 of 1,000 signals stand sooner."""
        return float(self.latency["p99_9"])

    track_p50.unit = "ns"  # type: ignore[attr-defined]
    track_p99.unit = "ns"  # type: ignore[attr-defined]
    track_p99_9.unit = "ns"  # type: ignore[attr-defined]


class Memory:
    """What an engine of default limits takes, all of it at the start."""

    def peakmem_engine(self) -> None:
        """An engine that has taken the whole market once."""
        market = common.MarketEngine(64)
        market.begin()
        market.run()
