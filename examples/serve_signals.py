"""Serve signals as JSON to many readers, over WebSocket on this machine; see read_signals.py.

export CROSSWIRE_TOKEN=$(python -c 'import secrets; print(secrets.token_urlsafe())')
python examples/serve_signals.py [CONFIG] [--port P] [--seconds S]

Without a configuration it runs offline, against the simulated venues of offline.py.
"""

import argparse
import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

from offline import SYMBOLS, VENUES, config_of, simulator

from crosswire import CrosswireError, Runtime, SignalEvent, SubscriptionError, load_config
from crosswire.connection import Opcode
from crosswire.sinks import Server


def text_of(signal, instruments) -> bytes:
    """Return a signal as one line of JSON; NaN, as of a CLOSE without prices, is null."""
    buy, sell = (instruments[i] for i in signal["legs"]["instrument"][:2])
    net_bps = float(signal["net_bps"])
    return json.dumps(
        {
            "seq": int(signal["seq"]),
            "event": SignalEvent(signal["event"]).name,
            "opp_id": int(signal["opp_id"]),
            "buy": f"{buy.venue}:{buy.symbol}",
            "sell": f"{sell.venue}:{sell.symbol}",
            "net_bps": net_bps if net_bps == net_bps else None,
            "qty": float(signal["qty"]),
            "ts_rx": int(signal["ts_rx"]),
        }
    ).encode()


@asynccontextmanager
async def offline(seconds: float):
    """Run the simulated venues; give their configuration, and what waits until they are done."""
    options = ("--venues", ",".join(VENUES), "--symbols", ",".join(SYMBOLS))
    async with simulator("--seconds", str(seconds), *options) as (process, ready):

        async def play() -> None:
            process.stdin.write(b"go\n")  # from here on prices move
            await process.stdout.readline()

        yield config_of(ready), play


async def serve(server: Server, runtime: Runtime, play) -> None:
    open_now: dict[int, bytes] = {}  # by opp_id, oldest first, for a reader that comes later

    def on_signals(signals):  # an array of SIGNAL_DTYPE, valid during the call
        for signal in signals:
            text = text_of(signal, runtime.instruments)
            server.publish(text, Opcode.TEXT)
            open_now.pop(int(signal["opp_id"]), None)
            if signal["event"] != SignalEvent.CLOSE:
                open_now[int(signal["opp_id"])] = text

    def on_opened(reader):
        for text in open_now.values():
            reader.send(Opcode.TEXT, text)

    runtime.engine.on_signals = on_signals
    server.on_opened = on_opened
    async with runtime, server:  # the server goes first
        print(f"listening on {server.url}", flush=True)
        try:
            await runtime.wait_live(10.0)
        except (TimeoutError, SubscriptionError) as error:  # names what is not there
            print(f"{error}; going on with the rest", file=sys.stderr)
        await play()


async def run(options: argparse.Namespace, token: str) -> None:
    server = Server(
        port=options.port,
        token=token,
        gap_text=lambda lost: json.dumps({"lost": lost}).encode(),
    )
    if options.config:
        runtime = Runtime(load_config(options.config))
        await serve(server, runtime, lambda: asyncio.sleep(options.seconds))
    else:
        async with offline(options.seconds) as (config, play):
            await serve(server, Runtime(config), play)
    print(f"{server.published_count} signals to {sum(server.ended.values())} readers")


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve signals as JSON to many readers.")
    parser.add_argument("config", nargs="?", help="a TOML file; without one: simulated venues")
    parser.add_argument("--port", type=int, default=0, help="(default: any that is free)")
    parser.add_argument("--seconds", type=float, default=300.0, help="(default 300)")
    options = parser.parse_args()
    token = os.environ.get("CROSSWIRE_TOKEN")
    if not token:
        parser.error("put a token that the readers know, too, into CROSSWIRE_TOKEN")
    try:
        asyncio.run(run(options, token))
    except (CrosswireError, TimeoutError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
