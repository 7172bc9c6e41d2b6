"""Run a bot offline: against simulated venues on this machine, with opportunities planted in them.

python examples/offline.py [SECONDS]
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager

from crosswire import Config, Runtime, SignalEvent, parse_config

VENUES = ("binance", "okx")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
OPEN_NET_BPS, LIVENESS_LIMIT_S = 0.5, 0.5  # as the simulator plants them
CLOSE_NET_BPS = 0.2  # some sink to 0.35 for a while, and some below this: those open again


@asynccontextmanager
async def simulator(*options: str):
    """Start it and give (process, what its first line says); closing its input ends it."""
    command = (sys.executable, "-m", "crosswire.sim", *options)
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        limit=1 << 24,  # its last line tells everything that was planted
        start_new_session=True,  # Ctrl-C is for this program; the other ends with its input
    )
    try:
        line = await process.stdout.readline()
        if not line:  # it has said why
            raise SystemExit(3)
        yield process, json.loads(line)
    finally:
        process.stdin.close()
        await process.wait()


def config_of(ready: dict) -> Config:
    terms = {"ca_file": ready["ca"], "liveness_limit_s": LIVENESS_LIMIT_S}
    a, b = VENUES
    return parse_config(
        {
            "detect": {"open_net_bps": OPEN_NET_BPS, "close_net_bps": CLOSE_NET_BPS},
            "venues": {name: {"url": ready["venues"][name]["url"], **terms} for name in VENUES},
            "pair": [{"a": f"{a}:{symbol}", "b": f"{b}:{symbol}"} for symbol in SYMBOLS],
        }
    )


async def run(seconds: float) -> None:
    options = ("--venues", ",".join(VENUES), "--symbols", ",".join(SYMBOLS))
    async with simulator("--seconds", str(seconds), *options) as (process, ready):
        runtime = Runtime(config_of(ready))

        def on_signals(signals):  # an array of SIGNAL_DTYPE, valid during the call
            for s in signals[signals["event"] == SignalEvent.OPEN]:
                buy, sell = (runtime.instruments[i] for i in s["legs"]["instrument"][:2])
                print(f"buy {buy} sell {sell} {s['net_bps']:+.2f} bps")

        runtime.engine.on_signals = on_signals
        async with runtime:
            await runtime.wait_live(10.0)
            process.stdin.write(b"go\n")  # from here on prices move
            done = json.loads(await process.stdout.readline())
            await asyncio.sleep(0.5)  # what was sent last is still on its way
    print(f"planted {len(done['plants'])}, opened {runtime.engine.open_count}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a bot against simulated venues.")
    parser.add_argument("seconds", nargs="?", type=float, default=5.0, help="(default 5)")
    seconds = parser.parse_args().seconds
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(run(seconds))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
