"""Simulated venues on the loopback address, with planted arbitrage as ground truth.

The process prints one JSON line with the URLs, waits for the line "go" on standard input, plays
the scenario, prints one JSON line with what was planted and sent, and goes on serving, without
sending, until standard input is closed. That ends it at any time: the process that started it holds
the other end, so it never outlives that one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..venues import venue_names
from .plan import DEFAULT_SYMBOLS, FAULTS, SECONDS_MAX, SECONDS_MIN, Scenario

if TYPE_CHECKING:
    from .server import SimServer

END_LIMIT_S = 5.0
"""How long it may take to end after standard input has."""


def _parser() -> argparse.ArgumentParser:
    defaults = Scenario()
    parser = argparse.ArgumentParser(prog="python -m crosswire.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument(
        "--seconds",
        type=float,
        default=defaults.seconds,
        help=f"{SECONDS_MIN:g} to {SECONDS_MAX:g}",
    )
    parser.add_argument("--venues", default=",".join(venue_names()), help="names, by commas")
    parser.add_argument("--symbols", default=",".join(DEFAULT_SYMBOLS), help="unified, by commas")
    parser.add_argument(
        "--fees-bps", nargs="*", default=[], metavar="VENUE=X", help="taker fees in basis points"
    )
    parser.add_argument("--min-net-bps", type=float, default=defaults.min_net_bps)
    parser.add_argument("--liveness-limit-s", type=float, default=defaults.liveness_limit_s)
    parser.add_argument("--rate", type=float, default=defaults.rate, help="quotes a second")
    parser.add_argument("--rest", action="store_true", help="every venue has a REST side, too")
    parser.add_argument("--faults", default="", help=f"any of {','.join(FAULTS)}, by commas")
    return parser


def _split(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _fees(words: list[str]) -> dict[str, float]:
    fees = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            fees[name] = float(value)
        except ValueError:
            raise UsageError(f"--fees-bps wants VENUE=X, not {word!r}") from None
    return fees


def _scenario(options: argparse.Namespace) -> Scenario:
    return Scenario(
        seed=options.seed,
        seconds=options.seconds,
        venues=_split(options.venues),
        symbols=_split(options.symbols),
        fees_bps=_fees(options.fees_bps),
        min_net_bps=options.min_net_bps,
        liveness_limit_s=options.liveness_limit_s,
        rate=options.rate,
        faults=_split(options.faults),
    )


class _Control:
    """Standard input: the word to go, and the end of it, which ends the process.

    A daemon thread reads the descriptor; it holds no lock that could block the exit.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.closed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        pending = b""
        while chunk := os.read(0, 4096):
            *lines, pending = (pending + chunk).split(b"\n")
            if b"go" in (line.strip() for line in lines):
                self._tell(self.go)
        self._tell(self.closed)
        threading.Event().wait(END_LIMIT_S)
        os._exit(1)  # whatever holds the loop up, nobody waits for it

    def _tell(self, event: asyncio.Event) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(event.set)


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


async def _or_closed(control: _Control, work: Any) -> bool:
    """Do the work, or give it up when standard input is closed; return whether it was done."""
    task = asyncio.ensure_future(work)
    closed = asyncio.ensure_future(control.closed.wait())
    await asyncio.wait({task, closed}, return_when=asyncio.FIRST_COMPLETED)
    closed.cancel()
    if task.done():
        await task
        return True
    task.cancel()
    return False


async def _main(scenario: Scenario, has_rest: bool, server_of: Callable[..., SimServer]) -> int:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    control = _Control()
    async with server_of(scenario, has_rest=has_rest) as server:
        _say(server.ready())
        if not await _or_closed(control, control.go.wait()):
            return 0
        if not await _or_closed(control, server.run()):
            return 0
        _say(server.done())
        await control.closed.wait()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    try:
        from .server import SimServer
    except ModuleNotFoundError as error:
        print(f"crosswire.sim: {error}: pip install 'crosswire[sim]'", file=sys.stderr)
        return 3
    try:
        return asyncio.run(_main(_scenario(options), options.rest, SimServer))
    except UsageError as error:
        print(f"crosswire.sim: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except asyncio.CancelledError:
        return 143


if __name__ == "__main__":
    sys.exit(main())
