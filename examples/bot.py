"""Run a configuration and print signals: where a bot would act.

python examples/bot.py examples/config.toml [SECONDS]
"""

import asyncio
import sys

from crosswire import Runtime, load_config

EVENTS = {1: "OPEN", 2: "UPDATE", 3: "CLOSE"}


async def main(path: str, seconds: float) -> None:
    runtime = Runtime(load_config(path))

    def on_signals(signals):  # an array of SIGNAL_DTYPE, valid during the call
        for s in signals:
            buy, sell = (runtime.instruments[i] for i in s["legs"]["instrument"][:2])
            print(f"{EVENTS[int(s['event'])]:6} buy {buy} sell {sell} {s['net_bps']:+.2f} bps")

    runtime.engine.on_signals = on_signals
    async with runtime:
        await asyncio.sleep(seconds)
    for name, session in runtime.sessions.items():
        print(f"{name}: {session.line.message_count} messages, {session.losses} losses")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 3600.0))
