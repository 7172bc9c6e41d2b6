"""The simulator's process, as whoever started it sees it: told to go, and listened to."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, Self

from ..errors import HostError, UsageError
from .plan import Scenario

__all__ = ["Simulator"]

READY_LIMIT_S = 20.0
END_LIMIT_S = 10.0


class Simulator:
    """The simulator's process: started, told to go, listened to.

    It ends when its standard input does, so it does not outlive the demo, however that ends. It
    runs in a session of its own: what a terminal sends on Ctrl-C is for the demo alone.

    Args:
        scenario: what to simulate.
        say: takes what the process says on standard error, line by line.
        has_rest: every venue has a REST side, too.
    """

    def __init__(
        self, scenario: Scenario, say: Callable[[str], None], *, has_rest: bool = False
    ) -> None:
        self._scenario = scenario
        self._say = say
        self._options = ["--rest"] if has_rest else []
        self._running: asyncio.subprocess.Process | None = None
        self._relaying: asyncio.Task[None] | None = None
        self._last_words = ""
        self.ready: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        s = self._scenario
        self._running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "crosswire.sim",
            "--seed", str(s.seed), "--seconds", str(s.seconds), "--venues", ",".join(s.venues),
            "--symbols", ",".join(s.symbols), "--rate", str(s.rate),
            "--fees-bps", *(f"{name}={bps}" for name, bps in s.fees_bps.items()),
            f"--min-net-bps={s.min_net_bps}",
            "--liveness-limit-s", str(s.liveness_limit_s), "--faults", ",".join(s.faults),
            *self._options,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=1 << 24, start_new_session=True,
        )  # fmt: skip
        self._relaying = asyncio.create_task(self._relay())
        try:
            self.ready = await self._listen(READY_LIMIT_S)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end()

    @property
    def _process(self) -> asyncio.subprocess.Process:
        if self._running is None:
            raise UsageError("the simulator runs inside its async with block only")
        return self._running

    async def _relay(self) -> None:
        assert self._process.stderr
        async for line in self._process.stderr:
            self._last_words = line.decode(errors="replace").rstrip()
            self._say(self._last_words)

    async def _end(self) -> None:
        """Close its standard input and wait for its end; calling twice is allowed."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(END_LIMIT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._relaying:
            await self._relaying

    async def _listen(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout
        try:
            async with asyncio.timeout(limit_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise HostError(f"the simulator said nothing for {limit_s:g} s") from None
        if not line:
            await self._end()
            raise HostError(self._obituary())
        return dict(json.loads(line))

    def _obituary(self) -> str:
        code = self._process.returncode or 0
        what = "ended before its time" if self.ready else "did not start"
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the simulator {what} ({how}): {self._last_words or 'it said nothing'}"

    def go(self) -> None:
        """Let the session begin."""
        assert self._process.stdin
        self._process.stdin.write(b"go\n")

    async def done(self) -> dict[str, Any]:
        """Wait for its end; returns what was planted and sent."""
        return await self._listen(self._scenario.seconds * 2 + 30)
