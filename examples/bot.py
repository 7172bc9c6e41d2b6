"""Run a configuration and print signals: where a bot would act.

python examples/bot.py examples/config.toml [SECONDS]

Exit: 0 something was received, 1 nothing was, 2 wrong use, 130 Ctrl-C.
"""

import argparse
import asyncio
import logging
import math
import sys

from crosswire import Runtime, SignalEvent, SubscriptionError, UsageError, load_config

LIVE_LIMIT_S = 10.0


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


async def run(runtime: Runtime, seconds: float) -> None:
    def on_signals(signals):  # an array of SIGNAL_DTYPE, valid during the call
        for s in signals:
            buy, sell = (runtime.instruments[i] for i in s["legs"]["instrument"][:2])
            event = SignalEvent(s["event"]).name
            print(f"{event:6} buy {buy} sell {sell} {s['net_bps']:+.2f} bps")

    runtime.engine.on_signals = on_signals
    end = asyncio.get_running_loop().time() + seconds
    async with runtime:
        try:
            await runtime.wait_live(min(seconds, LIVE_LIMIT_S))
        except TimeoutError as error:  # names each venue and its session's last_error
            print(f"{error}; going on with the others", file=sys.stderr)
        except SubscriptionError as error:  # names what was refused; its pairs give no signals
            print(f"{error}; going on with the rest", file=sys.stderr)
        await asyncio.sleep(end - asyncio.get_running_loop().time())
    for name, session in runtime.sessions.items():
        print(f"{name}: {session.line.message_count} messages, {session.losses} losses")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a configuration and print signals.")
    parser.add_argument("config", help="a TOML file, as examples/config.toml")
    parser.add_argument("seconds", nargs="?", type=positive, default=3600.0, help="(default 3600)")
    options = parser.parse_args()
    # The library configures no logging; without it, a callback that raises is only counted.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        runtime = Runtime(load_config(options.config))
    except (UsageError, OSError) as error:  # OSError: authorities that are none
        parser.error(str(error))
    if not runtime.sessions:
        parser.error(f"{options.config}: names no venue and no pair; there is nothing to watch")
    try:
        asyncio.run(run(runtime, options.seconds))
    except KeyboardInterrupt:
        sys.exit(130)
    if not runtime.engine.message_count:
        sys.exit("nothing was received")


if __name__ == "__main__":
    main()
