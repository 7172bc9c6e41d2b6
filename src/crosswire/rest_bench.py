"""REST against streams, on a local venue: ``crosswire bench rest``.

The same quotes are fetched in three ways, one after the other, each for as long: by one request for
each symbol, by one request for all, and by a stream. REST asks as often as the venue's weights let
it. In between, the age of what is known is looked at again and again: of each symbol, the time
since its newest known quote was sent.

The venue is a process of its own; client and server share a clock.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .demo import DemoOptions, demo_config
from .errors import HostError, UsageError
from .http import Client, Endpoints, Kind, Limiter, Pool, Response
from .limits import Count, Limit, Refusal, VenueLimits
from .runtime import Runtime
from .seam import Seam, System
from .sim import Scenario
from .sim.process import Simulator
from .sim.rest_side import ALL_WEIGHT, ONE_WEIGHT, WEIGHT_PER_S
from .venues import venue_names

__all__ = ["RestBench", "Way"]

LOOK_S = 0.001
"""Between two looks at the ages."""
MARGIN_S = 1.0
PACE = 0.98
"""Of the venue's rate, at even distances: a burst would be as old as the wait behind it."""
LIVE_LIMIT_S = 15.0
RATE = 400.0
"""Quotes a second, over two venues."""
LIMITS = VenueLimits(
    "local", "2026-11", "crosswire.sim.rest_side",
    (Limit("weight-1s", "weight", WEIGHT_PER_S, Count.ROLLING, 1.0),),
    (Refusal(429, wait_s=1.0),),
    {"GET /quote": {"weight": ONE_WEIGHT}, "GET /quotes": {"weight": ALL_WEIGHT}},
)  # fmt: skip


@dataclass
class Way:
    """One way to know quotes, and what it took.

    Attributes:
        name: ``single``, ``batched`` or ``streamed``.
        seconds: that it lasted.
        requests: that were made; of a stream, its connect.
        weight: that they cost.
        payload: bytes that were received, above TLS: bodies, or frames.
        updates: quotes that were new.
        ages_ms, latencies_ms: of what was known at each look, over all symbols; of each request
            from its permit to its answer, or of each quote from its being sent to its being known.
    """

    name: str
    seconds: float = 0.0
    requests: int = 0
    weight: int = 0
    payload: int = 0
    updates: int = 0
    ages_ms: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``; quantiles in ms."""
        found: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("name", "requests", "weight", "payload", "updates")
        }
        found["seconds"] = round(self.seconds, 3)
        for name, values in (("age_ms", self.ages_ms), ("latency_ms", self.latencies_ms)):
            p50, p99 = np.quantile(values, (0.5, 0.99)) if values else (np.nan, np.nan)
            found[name] = {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}
        return found


class RestBench:
    """One run.

    Args:
        seconds: of all three ways together.
        symbols: how many, of the simulator's.
        seed: of the prices.
        say: takes progress in words.
        seam: clock, randomness, network.

    Raises:
        UsageError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        seconds: float,
        symbols: int,
        seed: int,
        say: Callable[[str], None],
        seam: Seam | None = None,
    ) -> None:
        self._seam = seam or System()
        self._say = say
        self._seconds = seconds / 3
        every = Scenario().symbols
        if not 1 <= symbols <= len(every):
            raise UsageError(f"--symbols is 1 to {len(every)}, not {symbols}")
        self._venue, other = venue_names()[:2]
        self._scenario = Scenario(
            seed=seed, seconds=seconds + 3 * MARGIN_S + 1.0, venues=(self._venue, other),
            symbols=every[:symbols], rate=RATE,
        )  # fmt: skip
        self._known: dict[str, int] = {}  # native symbol → when its newest known quote was sent
        self.ways: list[Way] = []

    async def run(self) -> dict[str, Any]:
        """Run it all; returns what ``crosswire bench rest --json`` prints.

        Raises:
            HostError: the local venue did not come up.
        """
        self._say("starting a local venue")
        async with Simulator(self._scenario, self._say, has_rest=True) as simulator:
            ready = simulator.ready
            natives: Sequence[str] = ready["symbols"][self._venue]
            url = ready["venues"][self._venue]["rest"]
            tls = ssl.create_default_context(cafile=ready["ca"])
            simulator.go()
            await self._seam.sleep(MARGIN_S)
            async with Pool(url, self._seam, tls, connections_max=max(2, len(natives))) as pool:
                await self._ask("single", pool, [f"/quote?symbol={name}" for name in natives])
                await self._ask("batched", pool, ["/quotes"])
            await self._stream(ready, natives)
            done = await simulator.done()
        refused = done["rest"][self._venue]["refused"]
        return {
            "venue": self._venue,
            "symbols": len(natives),
            "weight_per_s": WEIGHT_PER_S,
            "refused": refused,
            "ways": [way.as_dict() for way in self.ways],
        }

    async def _ask(self, name: str, pool: Pool, targets: Sequence[str]) -> None:
        """Ask for each target again and again, as often as the venue lets it."""
        seam, way = self._seam, Way(name)
        limiter = Limiter(LIMITS, seam)
        endpoints = Endpoints(seam.monotonic_ns, seam.uniform, {self._venue: pool})
        client = Client(endpoints, limiter, seam)
        self._known.clear()

        async def poll(number: int, target: str) -> None:
            call = limiter.call(f"GET {target.partition('?')[0]}", kind=Kind.PUBLIC)
            due = begun + number * every_ns // len(targets)
            while True:
                await seam.sleep(max(0, due - seam.monotonic_ns()) / 1e9)
                due += every_ns
                response = await client.request(call, "GET", target)
                way.latencies_ms.append(response.phases.total / 1e6)
                self._take(way, response)

        weight = ONE_WEIGHT if name == "single" else ALL_WEIGHT
        every_ns = round(1e9 * len(targets) * weight / (PACE * WEIGHT_PER_S))
        begun = seam.monotonic_ns()
        polling = [asyncio.create_task(poll(n, target)) for n, target in enumerate(targets)]
        await self._last(way, polling)
        way.requests = limiter.usage.passed
        way.weight = way.requests * weight
        await seam.sleep(MARGIN_S)  # the next one has the whole budget again

    def _take(self, way: Way, response: Response) -> None:
        way.payload += len(response.body)
        found = json.loads(response.body)
        for quote in found if isinstance(found, list) else [found]:
            self._note(way, quote["symbol"], quote["sent_ns"])

    def _note(self, way: Way, native: str, sent_ns: int) -> None:
        if sent_ns > self._known.get(native, 0):
            self._known[native] = sent_ns
            way.updates += 1

    async def _stream(self, ready: dict[str, Any], natives: Sequence[str]) -> None:
        seam, way = self._seam, Way("streamed", requests=1)
        options = DemoOptions(venues=self._scenario.venues, has_view=False)
        runtime = Runtime(demo_config(options, ready), seam=seam)
        of_venue = {
            number: instrument.native
            for number, instrument in enumerate(runtime.instruments)
            if instrument.venue == self._venue
        }
        self._known.clear()

        def take(rows: np.ndarray[Any, np.dtype[np.void]]) -> None:
            now = seam.time_ns()
            for number, sent_ns in zip(
                rows["instrument"].tolist(), rows["seq"].tolist(), strict=True
            ):
                if number in of_venue:
                    self._note(way, of_venue[number], sent_ns)
                    way.latencies_ms.append((now - sent_ns) / 1e6)

        def count(data: bytes, ts: int, mono: int) -> None:
            way.payload += len(data)

        runtime.engine.on_quotes = take
        for line in runtime.sessions[self._venue].lines:
            line.recorder = count
        async with runtime:
            try:
                await runtime.wait_live(LIVE_LIMIT_S)
            except TimeoutError as error:
                raise HostError(f"the local venue: {error}") from None
            way.updates = way.payload = 0
            way.latencies_ms.clear()
            await self._last(way, [])

    async def _last(self, way: Way, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Look at the ages for as long as a way lasts; what fails meanwhile is raised."""
        seam = self._seam
        self._say(f"{way.name}: {self._seconds:.3g} s")
        begun = seam.monotonic_ns()
        try:
            while (now := seam.monotonic_ns()) < begun + self._seconds * 1e9:
                for task in tasks:
                    if task.done():
                        task.result()
                utc = seam.time_ns()
                way.ages_ms += [(utc - sent_ns) / 1e6 for sent_ns in self._known.values()]
                await seam.sleep(LOOK_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        way.seconds = (now - begun) / 1e9
        self.ways.append(way)

    def summary(self) -> str:
        """Return the three ways side by side, for people."""
        lines = [
            f"{'':9} {'requests/s':>10} {'weight/s':>9} {'kB/s':>7} {'updates/s':>10} "
            f"{'age ms p50':>11} {'p99':>8} {'latency ms p50':>15} {'p99':>8}"
        ]
        for way in self.ways:
            told, s = way.as_dict(), way.seconds or 1.0
            age, latency = told["age_ms"], told["latency_ms"]
            lines.append(
                f"{way.name:9} {way.requests / s:10.1f} {way.weight / s:9.1f} "
                f"{way.payload / s / 1e3:7.1f} {way.updates / s:10.1f} {age['p50']:11.2f} "
                f"{age['p99']:8.2f} {latency['p50']:15.3f} {latency['p99']:8.3f}"
            )
        return "\n".join(lines)
