"""The live view of a run: reads status objects, one JSON object a line, and draws them.

It runs in a process of its own (``python -m crosswire.watch.view``), so that drawing never delays
the engine; :class:`ViewPipe` is the engine's end, which drops a status rather than wait.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

__all__ = ["ViewPipe", "main", "render"]

Status = dict[str, Any]


def _micros(ns: float) -> str:
    return f"{ns / 1000:,.1f} µs"


def render(status: Status) -> Any:
    """Return a status as something ``rich`` can draw."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    venues = Table(expand=True, box=None)
    for name in ("venue", "state", "messages", "msg/s", "reconnects", "errors"):
        venues.add_column(name, justify="left" if name in ("venue", "state") else "right")
    for name, v in status["venues"].items():
        style = "green" if v["state"] == "live" and v["alive"] else "red"
        state = v["state"] if v["alive"] or v["state"] != "live" else "silent"
        cells = (f"{v['messages']:,}", f"{v['rate']:,.0f}", str(v["reconnects"]), str(v["errors"]))
        venues.add_row(name, Text(state, style=style), *cells)

    prices = Table(expand=True, box=None)
    for name in ("instrument", "bid", "ask"):
        prices.add_column(name, justify="left" if name == "instrument" else "right")
    for name, bid, ask, is_readable in status["prices"]:
        prices.add_row(name, f"{bid:,.8g}", f"{ask:,.8g}", style="" if is_readable else "dim")

    signals = Table(expand=True, box=None)
    for name in ("signal", "buy", "sell", "net bps", "qty"):
        signals.add_column(name, justify="right" if name in ("net bps", "qty") else "left")
    for event, buy, sell, net_bps, qty in status["signals"]:
        style = {"OPEN": "bold green", "CLOSE": "dim"}.get(event, "")
        signals.add_row(event, buy, sell, f"{net_bps:+.2f}", f"{qty:.6g}", style=style)

    latency = status["wire_to_signal_ns"]
    foot = Text(
        f"{status['opens']} opportunities, {status['signals_written']} signals   "
        f"wire to signal p50 {_micros(latency['p50'])}, p99 {_micros(latency['p99'])}, "
        f"max {_micros(latency['max'])}   {status['elapsed_s']:.0f}/{status['seconds']:.0f} s"
    )
    title = f"crosswire — {status['title']}"
    return Group(
        Panel(venues, title=title), Panel(prices, title="top of book"),
        Panel(signals, title="latest signals"), foot,
    )  # fmt: skip


class ViewPipe:
    """Starts a view and gives it statuses without ever waiting for it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crosswire.watch.view"],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the engine, which then ends this pipe
        )
        assert self._process.stdin
        self._fd = self._process.stdin.fileno()
        os.set_blocking(self._fd, False)
        self._is_torn = False
        self.dropped = 0

    def show(self, status: Status) -> None:
        """Send one status; it is dropped and counted when the view is behind or gone."""
        line = json.dumps(status).encode() + b"\n"
        if self._is_torn:
            line = b"\n" + line  # ends the torn line; the view skips it
        try:
            written = os.write(self._fd, line)
        except (BlockingIOError, BrokenPipeError):
            self.dropped += 1
            return
        self._is_torn = written < len(line)
        self.dropped += written < len(line) - 1  # without its line feed it is whole

    async def close(self) -> None:
        """End the view and wait for it."""
        assert self._process.stdin
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            self.dropped += 1
        await asyncio.to_thread(self._process.wait)


def main() -> int:
    """Draw what comes on standard input until it ends."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        sys.stderr.write("the live view needs rich: pip install 'crosswire[tui]'\n")
        return 3
    try:
        with Live(console=Console(stderr=True), refresh_per_second=5, transient=True) as live:
            for line in sys.stdin:
                try:
                    live.update(render(json.loads(line)))
                except ValueError:
                    continue  # a torn status; the next one is whole
    except KeyboardInterrupt:
        pass  # whoever sent it wants it gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
