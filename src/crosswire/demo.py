"""The main job, end to end, on local venues: ``crosswire demo``.

Three processes: the simulator (venues over TLS, with planted arbitrage), the engine (this one),
and, on a terminal, the view. Everything the engine receives is recorded; when the run is over the
simulator's slow oracle recomputes the truth from that recording, under the scenario's terms, and
the engine's signals are compared with it, one by one. What was received is compared with what the
simulator says that it sent.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .capture import read_recording
from .capture.replay import SignalDigest
from .codec import Histogram
from .config import Config, PairConfig, VenueConfig
from .errors import HostError
from .instruments import Instrument, cross_pairs
from .records import SIGNAL_DTYPE, CloseReason, SignalEvent
from .runtime import Runtime
from .seam import Seam, System
from .sim import (
    Connection,
    Scenario,
    Verdict,
    config_of,
    find_doubts,
    find_truth,
    judge,
    load_sent,
)
from .sim.process import Simulator
from .venues import venue, venue_names
from .watch.view import ViewPipe

__all__ = ["Demo", "DemoOptions", "demo_config", "find_errors"]

LIVE_LIMIT_S = 20.0
DRAIN_LIMIT_S = 5.0
DRAIN_STEP_S = 0.1
DRAIN_STILL_MAX = 3
"""After a cut, what does not come for so many steps is taken for lost."""
VIEW_INTERVAL_S = 0.25
ADVANCE_MS = 20.0
CLOSE_BELOW_OPEN_BPS = 0.3
UNCAUSED = (CloseReason.LIVENESS, CloseReason.LOST, CloseReason.STALE)
"""Of a CLOSE that no message caused."""

Signals = np.ndarray[Any, np.dtype[np.void]]


@dataclass
class DemoOptions:
    """What to run.

    Attributes:
        seconds: length of the simulated session, 2 to 600.
        seed: of prices, plants and faults.
        venues: names; all that there are by default.
        faults: ``cut`` and ``refuse``, for the simulator.
        open_net_bps: threshold of every pair.
        liveness_limit_s: of every venue.
        has_view: draw while it runs.
        record: keep the recording there; otherwise it is removed.
    """

    seconds: float = 20.0
    seed: int = 1
    venues: tuple[str, ...] = field(default_factory=venue_names)
    faults: tuple[str, ...] = ()
    open_net_bps: float = 0.5
    liveness_limit_s: float = 0.5
    has_view: bool = False
    record: Path | None = None


def demo_config(options: DemoOptions, ready: dict[str, Any]) -> Config:
    """Return the engine's configuration for the simulator's venues."""
    config = Config(
        open_net_bps=options.open_net_bps,
        close_net_bps=_close_net_bps(options),
        advance_ms=ADVANCE_MS,
        backoff_base_s=0.05,
        backoff_cap_s=0.5,
    )
    instruments: list[Instrument] = []
    for name in options.venues:
        market = venue(name)
        config.venues[name] = VenueConfig(
            name,
            market.fee_bps,
            ready["venues"][name]["url"],
            options.liveness_limit_s,
            ready["ca"],
            trades=True,
        )
        instruments += [
            Instrument(name, native, market.unified(native)) for native in ready["symbols"][name]
        ]
    config.pairs = [
        PairConfig(
            (a.venue, a.symbol or ""), (b.venue, b.symbol or ""),
            config.open_net_bps, config.close_net_bps,
        )
        for a, b in cross_pairs(instruments)
    ]  # fmt: skip
    return config


def _close_net_bps(options: DemoOptions) -> float:
    return options.open_net_bps - CLOSE_BELOW_OPEN_BPS


class Demo:
    """One run.

    Args:
        options: what to run.
        say: takes progress in words.
        seam: clock, randomness, network.
        prepare: called with the runtime before it starts; a test may break the engine there.

    Attributes:
        verdict: the judge's, after the run.

    Raises:
        UsageError: such a run cannot be.
    """

    def __init__(
        self,
        options: DemoOptions,
        *,
        say: Callable[[str], None] = lambda text: None,
        seam: Seam | None = None,
        prepare: Callable[[Runtime], None] = lambda runtime: None,
    ) -> None:
        self._scenario = Scenario(
            seed=options.seed,
            seconds=options.seconds,
            venues=options.venues,
            min_net_bps=options.open_net_bps,
            liveness_limit_s=options.liveness_limit_s,
            faults=options.faults,
        )  # what the simulator plays, and the judge judges by; refuses what it could not play
        self._options = options
        self._say = say
        self._seam = seam or System()
        self._prepare = prepare
        self._signals: list[Signals] = []
        self._noted = 0
        self._latest: deque[tuple[str, str, str, float, float]] = deque(maxlen=8)
        self._wire = Histogram()
        self._rates: dict[str, tuple[int, float]] = {}
        self._started = 0
        self._venues: dict[str, dict[str, Any]] = {}
        self._unproved: list[str] = []
        self._is_stopped = False
        self._digest = SignalDigest()
        self.verdict = Verdict()

    # ---- the engine's consumer

    def _take(self, signals: Signals) -> None:
        """Stamp, keep, go on: what a bot would do here is act."""
        now = self._seam.time_ns()
        caused = signals[~np.isin(signals["close_reason"], UNCAUSED)]
        if len(caused):
            wire = int(caused["legs"]["book_seq"].max())
            self._wire.record(max(0, now - wire))
        self._signals.append(signals.copy())

    # ---- the run

    async def run(self) -> dict[str, Any]:
        """Run it all; returns what ``crosswire demo --json`` prints.

        Raises:
            HostError: the simulator or a connection to it did not come up, or the recording failed.
        """
        with tempfile.TemporaryDirectory(prefix="crosswire-") as folder:
            record = self._options.record or Path(folder) / "demo.cwrec"
            self._say("starting the simulator")
            async with Simulator(self._scenario, self._say) as simulator:
                self._say(f"simulator ready: {', '.join(self._options.venues)} on loopback, TLS")
                runtime = Runtime(
                    demo_config(self._options, simulator.ready), seam=self._seam, record=record
                )
                runtime.engine.on_signals = self._take
                self._prepare(runtime)
                played = await self._session(simulator, runtime)
                sent = load_sent(played)
            if runtime.recording_error is not None:
                raise HostError(f"nothing can be judged: {runtime.recording_error}")
            self._say("judging: the oracle recomputes every quote of the recording")
            await self._in_thread(self._judge, record, runtime, played, sent)
        return self._report(runtime)

    async def _in_thread(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do the work in a thread; when this is cancelled the work is stopped as well, at its next
        progress, or the process would wait for its end."""
        try:
            await asyncio.to_thread(work, *arguments)
        except asyncio.CancelledError:
            self._is_stopped = True
            raise

    async def _session(self, simulator: Simulator, runtime: Runtime) -> dict[str, Any]:
        """Connect, let the simulator play, and stop."""
        view = ViewPipe() if self._options.has_view else None
        gc.collect()
        gc.freeze()  # what exists by now stays: no collection should walk it while ticks flow
        try:
            async with runtime:
                try:
                    await runtime.wait_live(LIVE_LIMIT_S)
                except TimeoutError as error:
                    raise HostError(f"the local venues: {error}") from None
                seconds, seed = self._options.seconds, self._options.seed
                self._say(f"all live; playing {seconds:g} s, seed {seed}")
                self._started = self._seam.monotonic_ns()
                simulator.go()
                done = asyncio.ensure_future(simulator.done())
                try:
                    while not done.done():
                        await asyncio.wait({done}, timeout=VIEW_INTERVAL_S)
                        if view:
                            view.show(self._status(runtime))
                finally:
                    done.cancel()
                    await asyncio.gather(done, return_exceptions=True)
                await self._drain(runtime, done.result())
                self._venues = self._venue_status(runtime)
                return done.result()
        finally:
            gc.unfreeze()
            if view:
                await view.close()

    async def _drain(self, runtime: Runtime, played: dict[str, Any]) -> None:
        """Wait for what is still on the wire. What a cut has destroyed does not come any more."""
        sent = sum(count for counts in played["sent"].values() for count in counts.values())
        is_cut = any(each["cut_ns"] for these in played["connections"].values() for each in these)
        received, still = -1, 0
        for _ in range(round(DRAIN_LIMIT_S / DRAIN_STEP_S)):
            await self._seam.sleep(DRAIN_STEP_S)
            before, received = received, _data_count(runtime)
            still = still + 1 if received == before else 0
            if received >= sent or (is_cut and still >= DRAIN_STILL_MAX):
                break

    def _judge(
        self,
        record: Path,
        runtime: Runtime,
        played: dict[str, Any],
        sent: dict[str, list[Connection]],
    ) -> None:
        close_net_bps = _close_net_bps(self._options)
        terms = config_of(self._scenario, close_net_bps)
        kept = ("fees_bps", "open_net_bps", "close_net_bps", "liveness_limit_s")
        truth = find_truth(
            read_recording(record), self._progress, {name: terms[name] for name in kept}
        )
        signals = np.concatenate(self._signals) if self._signals else np.zeros(0, SIGNAL_DTYPE)
        counts: dict[str, dict[str, dict[str, int]]] = {name: {} for name in self._options.venues}
        for number, instrument in enumerate(runtime.instruments):
            counts[instrument.venue][instrument.native] = runtime.engine.counts(number)
        self._digest.add(signals)
        self.verdict = judge(
            truth, signals, plants=played["plants"], baits=played["baits"], counts=counts
        )
        self._unproved = find_doubts(
            truth, self.verdict, sent, self._scenario,
            plants=len(played["plants"]), close_net_bps=close_net_bps,
            advance_ns=round(ADVANCE_MS * 1e6),
        ) + self._find_restless(played, sent) + find_errors(runtime)  # fmt: skip

    def _find_restless(
        self, played: dict[str, Any], sent: dict[str, list[Connection]]
    ) -> list[str]:
        """Return which connections were lost without a cut, or not made again after one."""
        found = [
            f"{name}: the simulator cut off {times} connections that were not read"
            for name, times in played["cut_off"].items()
            if times
        ]
        for name, fields in self._venues.items():
            cuts = sum(1 for connection in sent[name] if connection.cut_ns)
            for word in ("gaps", "reconnects"):
                if fields[word] != cuts:
                    found.append(f"{name}: {fields[word]} {word} after {cuts} cuts")
            if fields["state"] != "live":
                found.append(f"{name}: {fields['state']} at the end, not live")
        return found

    def _progress(self, entries: int) -> None:
        if self._is_stopped:
            raise asyncio.CancelledError
        self._say(f"judging: {entries:,} entries of the recording (reads, timer firings, the rest)")

    # ---- what is told

    @staticmethod
    def _venue_status(runtime: Runtime) -> dict[str, dict[str, Any]]:
        status: dict[str, dict[str, Any]] = {}
        for name, session in runtime.sessions.items():
            status[name] = {
                "messages": session.line.message_count,
                "gaps": session.losses,
                "reconnects": max(0, session.connects - 1),
                "state": session.state.value,
            }
        return status

    def _status(self, runtime: Runtime) -> dict[str, Any]:
        """What the view draws."""
        now = self._seam.monotonic_ns() / 1e9
        venues = self._venue_status(runtime)
        for name, fields in venues.items():
            line = runtime.sessions[name].line
            before, then = self._rates.get(name, (fields["messages"], now - 1.0))
            self._rates[name] = (fields["messages"], now)
            fields["rate"] = (fields["messages"] - before) / max(now - then, 1e-3)
            fields["alive"] = line.is_live
            fields["errors"] = line.error_count
        self._note_latest(runtime)
        return {
            "title": f"local venues, seed {self._options.seed}",
            "venues": venues,
            "prices": [_price_row(runtime, n) for n in range(len(runtime.instruments))],
            "signals": list(self._latest),
            "wire_to_signal_ns": self._wire.summary(),
            "opens": runtime.engine.open_count,
            "signals_written": runtime.engine.signal_count,
            "elapsed_s": (self._seam.monotonic_ns() - self._started) / 1e9,
            "seconds": self._options.seconds,
        }

    def _note_latest(self, runtime: Runtime) -> None:
        """Note what is new since the last look, as far as the view has room for it."""
        new = self._signals[self._noted :]
        self._noted += len(new)
        for batch in new[-4:]:
            for signal in batch[-2:]:
                buy, sell = (runtime.instruments[i] for i in signal["legs"]["instrument"][:2])
                net, qty = float(signal["net_bps"]), float(signal["qty"])
                event = SignalEvent(signal["event"]).name
                self._latest.append((event, str(buy), str(sell), net, qty))

    def _report(self, runtime: Runtime) -> dict[str, Any]:
        verdict = self.verdict
        return {
            "planted": len(verdict.planted),
            "found": len(verdict.found),
            "missed": verdict.missed,
            "false": verdict.false,
            "baits": verdict.baits,
            "baits_taken": len(verdict.baits_taken),
            "baits_real": len(verdict.baits_real),
            "baits_judged": len(verdict.baits_judged),
            "lost": verdict.lost,
            "holes": verdict.holes,
            "unseen": len(verdict.unseen),
            "vanished": len(verdict.vanished),
            "offline": len(verdict.offline),
            "messages": runtime.engine.message_count,
            "signals": runtime.engine.signal_count,
            "signals_sha256": self._digest.hexdigest(),
            "opportunities": verdict.opportunities,
            "wire_to_signal_ns": self._wire.summary(),
            "rx_to_signal_ns": _without_count(runtime.engine.rx_to_signal_ns()),
            "stages_ns": {k: _without_count(v) for k, v in runtime.engine.stages_ns().items()},
            "venues": self._venues,
            "problems": self.problems,
        }

    def summary(self, report: dict[str, Any]) -> str:
        """Return the report in words, for people."""
        wire, rx = report["wire_to_signal_ns"], report["rx_to_signal_ns"]
        lines = [
            f"planted {report['planted']}, found {report['found']}, missed {report['missed']}, "
            f"false {report['false']}, baits {report['baits']} (taken {report['baits_taken']})"
            + (f", {report['baits_real']} of them real" if report["baits_real"] else ""),
            f"{report['messages']:,} messages ({report['lost']} lost), "
            f"{report['opportunities']} opportunities, {report['signals']:,} signals",
            f"wire to signal  {_percentiles(wire)}",
            f"read to signal  {_percentiles(rx)}",
        ]
        for name, fields in report["venues"].items():
            lines.append(
                f"{name:14} {fields['messages']:>9,} messages, {fields['gaps']} gaps, "
                f"{fields['reconnects']} reconnects"
            )
        for reasons in (self.verdict.vanished, self.verdict.offline):
            lines += [f"plant {n} left no trace: {why}" for n, why in reasons.items()]
        lines += [f"! {text}" for text in report["problems"]]
        return "\n".join(lines)

    @property
    def is_right(self) -> bool:
        """Nothing was missed, made up, taken or lost, and the run proves it."""
        return self.verdict.ok and not self._unproved

    @property
    def problems(self) -> list[str]:
        """What is wrong with the run, in words."""
        return self._unproved + self.verdict.details


def find_errors(runtime: Runtime) -> list[str]:
    """Return what the engine's own counters say went wrong, in words."""
    engine = runtime.engine
    counts = {
        "on_signals raised {} times": engine.callback_errors,
        "a callback of the runtime raised {} times": runtime.callback_errors,
        "the engine refused {} signals": engine.signals_refused,
    }
    found = [words.format(count) for words, count in counts.items() if count]
    found += [f"the engine counted {n} errors: {name}" for name, n in engine.errors.items() if n]
    return found


def _data_count(runtime: Runtime) -> int:
    """Return how many data messages the engine has counted; acknowledgements are none."""
    engine = runtime.engine
    return sum(sum(engine.counts(number).values()) for number in range(len(runtime.instruments)))


def _price_row(runtime: Runtime, number: int) -> tuple[str, float, float, bool]:
    top = runtime.engine.top(number)
    return str(runtime.instruments[number]), top.bid, top.ask, top.is_valid and top.is_live


def _without_count(quantiles: dict[str, int]) -> dict[str, int]:
    return {key: value for key, value in quantiles.items() if key != "count"}


def _percentiles(ns: dict[str, int]) -> str:
    words = {"p50": "p50", "p99": "p99", "p99_9": "p99.9", "max": "max"}
    return ", ".join(f"{words[key]} {ns[key] / 1000:,.1f} µs" for key in words)
