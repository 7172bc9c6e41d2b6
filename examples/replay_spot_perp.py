"""Replay a recorded session, spot against perpetual, and print what opened.

python examples/replay_spot_perp.py [FEE_BPS]
"""

import argparse
import os
import sys
from pathlib import Path

from crosswire import SignalEvent, UsageError
from crosswire.capture.replay import Replay

DATA = Path(__file__).parent / "data"
CAPTURES = [
    ("binance", DATA / "binance-btcusdt-2024-08-08.jsonl.gz"),
    ("binance.usdm", DATA / "binance.usdm-btcusdt-2024-08-08.jsonl.gz"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay spot against perpetual.")
    parser.add_argument(
        "fee_bps", nargs="?", type=float, default=1.75, help="taker fee per side (default 1.75)"
    )
    try:
        replay = Replay(CAPTURES, fee_bps=parser.parse_args().fee_bps)
    except UsageError as error:
        parser.error(str(error))

    def on_signals(signals):  # an array of SIGNAL_DTYPE, valid during the call
        for s in signals[signals["event"] == SignalEvent.OPEN]:
            buy, sell = (replay.instruments[i] for i in s["legs"]["instrument"][:2])
            print(f"{s['ts_rx']} buy {buy} sell {sell}: {s['net_bps']:.3f} bps, {s['qty']:.5f}")

    replay.on_signals = on_signals
    try:
        replay.run()
        print(f"{replay.digest.opens} opportunities, {replay.digest.count} signals", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
