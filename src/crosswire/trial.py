"""A configuration under faults: local venues, a chaos proxy in front of each line, one fault after
the other, and what became of each.

Rules:
1. The configuration is the user's own, but for its addresses, certificates and proxies: its limits,
   lines and thresholds are what is tried. Venues of no pair are left out.
2. A fault strikes the newest connection of every venue's first line at once, in front of what the
   venue sends, and has a time of its own in which all must be well again.
3. What a venue sent on any connection and the engine did not receive must lie in a declared loss of
   one of its instruments; a signal must not use a quote that is older than the limits of silence of
   its venue allow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .config import Config, VenueConfig
from .errors import HostError, UsageError
from .instruments import Loss
from .records import SignalEvent
from .runtime import Runtime
from .seam import Seam, System
from .session import Session, State
from .sim import FAULT_KINDS, ChaosProxy, Fault, Scenario, load_sent
from .sim.plan import SECONDS_MAX
from .sim.process import Simulator
from .venue import Record

__all__ = ["Outcome", "Trial"]

LIVE_LIMIT_S = 15.0
SLOT_S = 5.0
"""How long a fault that is felt at once has, until all must be well again."""
SETTLE_S = 2.0
RATE = 400.0
"""Quotes a second over all venues."""
HELD_S = 0.2
SPAN = 20_000
LATE_MS = 250.0
"""How much later than its limits a signal's leg may be told, for the time between two looks."""


@dataclass
class Outcome:
    """What a fault did to one venue.

    Attributes:
        fault, venue: which, and to whom.
        seen: the first state that the session came into because of it; empty: it was not felt.
        seen_after_s: how long that took.
        live_after_s: how long it took to be live again for good; ``None``: it was not in its time.
        error: why the connection ended, in words, where it did; the last time, where it did often.
        missing: quotes that the venue sent in that time and the engine did not receive.
        declared: those of them that lie in a declared loss.
    """

    fault: str
    venue: str
    seen: str = ""
    seen_after_s: float | None = None
    live_after_s: float | None = 0.0
    error: str = ""
    missing: int = 0
    declared: int = 0


@dataclass
class _Slot:
    """The time of one fault: UTC ns of its beginning and end."""

    fault: Fault
    start_ns: int = 0
    end_ns: int = 0
    start_mono: int = 0
    errors: dict[str, str] = field(default_factory=dict)


def _fault_of(kind: str, liveness_limit_s: float) -> Fault:
    """Return a fault of a kind that is worth a look."""
    match kind:
        case "stall":
            return Fault(kind, seconds=1.5 * liveness_limit_s)
        case "delay" | "jitter":
            return Fault(kind, seconds=HELD_S, span=SPAN)
        case "throttle":
            return Fault(kind, bytes_per_s=20_000, span=SPAN)
        case "split":
            return Fault(kind, size=7, span=SPAN)
        case "slow-drip":
            return Fault(kind, seconds=0.001, span=500)
        case "duplicate":
            return Fault(kind, size=100)
        case _:
            return Fault(kind)


def _length_of(kind: str, liveness_limit_s: float) -> float:
    """Return how long a fault of a kind has until all must be well again, in s."""
    match kind:
        case "stall":
            return 1.5 * liveness_limit_s + SLOT_S
        case "half-open":
            return liveness_limit_s / 2 + 12.0 + SLOT_S
        case _:
            return SLOT_S


class Trial:
    """One run.

    Args:
        config: whose venues and pairs are tried.
        seed: of the prices.
        kinds: faults, in order; all that there are by default.
        say: takes progress in words.
        seam: clock, randomness, network.

    Attributes:
        outcomes: after the run: of each fault, for each venue.
        problems: what is wrong, in words; none when all went as it must.

    Raises:
        UsageError: nothing to try, an unknown fault, a venue without a local one, or limits with
            which it would take too long.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 1,
        kinds: Sequence[str] = FAULT_KINDS,
        say: Callable[[str], None] = lambda text: None,
        seam: Seam | None = None,
    ) -> None:
        if not config.pairs:
            raise UsageError("the configuration has no pair, so nothing would be subscribed")
        if not kinds:
            raise UsageError(f"no fault is named; known are {', '.join(FAULT_KINDS)}")
        if unknown := [kind for kind in kinds if kind not in FAULT_KINDS]:
            known = ", ".join(FAULT_KINDS)
            raise UsageError(f"unknown fault {unknown[0]!r}; known are {known}")
        traded = {leg[0] for pair in config.pairs for leg in (pair.a, pair.b)}
        venues = {name: terms for name, terms in config.venues.items() if name in traded}
        self._config = config = replace(config, venues=venues)
        self._say = say
        self._seam = seam or System()
        slowest = max(venues, key=lambda name: venues[name].liveness_limit_s)
        limit_s = venues[slowest].liveness_limit_s
        length_s = sum(_length_of(kind, limit_s) for kind in kinds) + SETTLE_S + 1.0
        if length_s > SECONDS_MAX:
            raise UsageError(
                f"with venues.{slowest}.liveness_limit_s = {limit_s:g} these faults take "
                f"{length_s:.0f} s, and {SECONDS_MAX:.0f} s are the most: lower it, or pick faults "
                "that do not wait for it"
            )
        self._slots = [(_Slot(_fault_of(k, limit_s)), _length_of(k, limit_s)) for k in kinds]
        symbols = {leg[1].partition(":")[0] for pair in config.pairs for leg in (pair.a, pair.b)}
        self._scenario = Scenario(
            seed=seed,
            seconds=length_s,
            venues=tuple(venues),
            symbols=tuple(sorted(symbols)),
            rate=RATE,
        )
        self._received: dict[int, list[int]] = {}
        self._losses: list[Loss] = []
        self._states: dict[int, list[tuple[int, State]]] = {}
        self._limits_us: Any = None
        self._old = 0
        self.outcomes: list[Outcome] = []
        self.problems: list[str] = []

    # ---- the run

    async def run(self) -> dict[str, Any]:
        """Run it all; returns what ``crosswire chaos --json`` prints.

        Raises:
            HostError: the simulator or a connection to it did not come up.
        """
        self._say("starting the local venues")
        async with Simulator(self._scenario, self._say) as simulator:
            async with contextlib.AsyncExitStack() as stack:
                proxies = await self._open_proxies(stack, simulator.ready)
                config = self._config_for(proxies, simulator.ready)
                runtime = Runtime(config, seam=self._seam)
                self._limits_us = self._limits_of(runtime)
                runtime.engine.on_quotes = self._on_quotes
                runtime.engine.on_signals = self._on_signals
                runtime.on_state_changed = self._on_state
                runtime.on_loss = self._losses.append
                async with runtime:
                    try:
                        await runtime.wait_live(LIVE_LIMIT_S)
                    except TimeoutError as error:
                        raise HostError(f"the local venues: {error}") from None
                    simulator.go()
                    await self._seam.sleep(SETTLE_S)
                    await self._suffer(runtime, proxies)
                    self._losses += runtime.engine.open_losses()
            played = await simulator.done()
            sent = {
                name: np.concatenate([np.asarray(c.stamps, np.int64) for c in connections])
                for name, connections in load_sent(played).items()
                if connections
            }
        self._account(runtime, sent)
        return self.report()

    async def _open_proxies(
        self, stack: contextlib.AsyncExitStack, ready: Mapping[str, Any]
    ) -> dict[str, list[tuple[ChaosProxy, str]]]:
        """Put a proxy in front of each line; returns it and the line's new address, by venue."""
        proxies: dict[str, list[tuple[ChaosProxy, str]]] = {}
        for name, terms in self._config.venues.items():
            scheme, _, rest = ready["venues"][name]["url"].partition("://")
            place, _, path = rest.partition("/")
            host, _, port = place.rpartition(":")
            proxies[name] = []
            for _ in range(terms.lines):
                proxy = await stack.enter_async_context(ChaosProxy(host, int(port)))
                proxies[name].append((proxy, f"{scheme}://{proxy.host}:{proxy.port}/{path}"))
        return proxies

    def _config_for(
        self, proxies: Mapping[str, list[tuple[ChaosProxy, str]]], ready: Mapping[str, Any]
    ) -> Config:
        venues: dict[str, VenueConfig] = {}
        for name, terms in self._config.venues.items():
            url, *others = (url for _, url in proxies[name])
            venues[name] = replace(
                terms,
                url=url,
                other_urls=tuple(others),
                ca_file=ready["ca"],
                insecure=False,
                proxy=None,
                proxy_auth_env=None,
            )
        return replace(self._config, venues=venues)

    async def _suffer(
        self, runtime: Runtime, proxies: Mapping[str, list[tuple[ChaosProxy, str]]]
    ) -> None:
        for number, (slot, seconds) in enumerate(self._slots, 1):
            what = slot.fault.kind
            self._say(f"fault {number} of {len(self._slots)}: {what}, {seconds:.0f} s")
            slot.start_ns, slot.start_mono = self._seam.time_ns(), self._seam.monotonic_ns()
            connects = {name: runtime.sessions[name].connects for name in proxies}
            errors = {name: runtime.sessions[name].last_error for name in proxies}
            for (proxy, _), *_ in proxies.values():
                proxy.strike(slot.fault)
            await self._seam.sleep(seconds)
            slot.end_ns = self._seam.time_ns()
            for name, before in errors.items():
                session = runtime.sessions[name]
                is_same = session.last_error == before and session.connects == connects[name]
                slot.errors[name] = "" if is_same else session.last_error

    def _limits_of(self, runtime: Runtime) -> Any:
        """Return how old a quote of a signal may be, in us, by instrument."""
        late_us = 1e3 * (LATE_MS + self._config.advance_ms)
        terms = (self._config.venues[i.venue] for i in runtime.instruments)
        return np.array([late_us + 1e6 * min(t.liveness_limit_s, t.data_limit_s) for t in terms])

    # ---- what the runtime tells

    def _on_quotes(self, rows: Any) -> None:
        for row in rows:
            self._received.setdefault(int(row["instrument"]), []).append(int(row["seq"]))

    def _on_signals(self, rows: Any) -> None:
        legs = rows["legs"][rows["event"] != SignalEvent.CLOSE, :2]
        self._old += int((legs["age_us"] > self._limits_us[legs["instrument"]]).any(axis=1).sum())

    def _on_state(self, session: Session) -> None:
        now = self._seam.monotonic_ns()
        self._states.setdefault(id(session), []).append((now, session.state))

    # ---- what became of it

    def _account(self, runtime: Runtime, sent: Mapping[str, Any]) -> None:
        for name in self._config.venues:
            numbers = [n for n, i in enumerate(runtime.instruments) if i.venue == name]
            received = np.concatenate(
                [np.asarray(self._received.get(n, []), np.int64) for n in numbers]
            )
            stamps = np.unique(sent.get(name, np.zeros(0, np.int64)))
            missing = np.setdiff1d(stamps[stamps > 0], received)
            is_declared = np.zeros(len(missing), bool)
            for loss in self._losses:
                if loss.instrument in numbers and loss.record is Record.QUOTE:
                    is_declared |= (missing > loss.last_seq) & (
                        (missing < loss.first_seq) | (loss.first_seq == 0)
                    )
            for slot, seconds in self._slots:
                inside = (missing >= slot.start_ns) & (missing < slot.end_ns)
                outcome = self._outcome_of(runtime.sessions[name], name, slot, seconds)
                outcome.missing = int(inside.sum())
                outcome.declared = int((inside & is_declared).sum())
                self.outcomes.append(outcome)
        self.outcomes.sort(
            key=lambda o: [slot.fault.kind for slot, _ in self._slots].index(o.fault)
        )
        self.problems = self._find_problems()

    def _outcome_of(self, session: Session, name: str, slot: _Slot, seconds: float) -> Outcome:
        """Tell what the session of a venue's first line went through in the time of a fault."""
        outcome = Outcome(slot.fault.kind, name, error=slot.errors[name])
        end_mono = slot.start_mono + round(seconds * 1e9)
        steps = [
            (mono, state)
            for mono, state in self._states.get(id(session), [])
            if slot.start_mono <= mono < end_mono
        ]
        if not steps:
            return outcome
        outcome.seen = steps[0][1].value
        outcome.seen_after_s = (steps[0][0] - slot.start_mono) / 1e9
        is_live = steps[-1][1] is State.LIVE
        outcome.live_after_s = (steps[-1][0] - slot.start_mono) / 1e9 if is_live else None
        return outcome

    def _find_problems(self) -> list[str]:
        found = []
        for o in self.outcomes:
            if o.live_after_s is None:
                found.append(f"{o.venue}: not live again in its time after {o.fault}: {o.error}")
            if o.missing != o.declared:
                lost = o.missing - o.declared
                found.append(f"{o.venue}: {lost} quotes lost and not declared, by {o.fault}")
        if self._old:
            found.append(f"{self._old} signals used quotes that were too old")
        return found

    # ---- what is told

    def report(self) -> dict[str, Any]:
        """Return what ``crosswire chaos --json`` prints."""
        return {"outcomes": [vars(o) for o in self.outcomes], "problems": self.problems}

    def summary(self) -> str:
        """Return the table of faults and outcomes, and what is wrong, in words."""
        head = ("fault", "venue", "seen as", "after", "live again", "lost", "declared", "error")
        rows = [head]
        for o in self.outcomes:
            again = "-" if not o.seen else _seconds(o.live_after_s, "never")
            numbers = str(o.missing), str(o.declared)
            seen = o.seen or "not felt", _seconds(o.seen_after_s)
            rows.append((o.fault, o.venue, *seen, again, *numbers, o.error))
        widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines += [f"! {problem}" for problem in self.problems]
        return "\n".join(lines)


def _seconds(value: float | None, otherwise: str = "-") -> str:
    return otherwise if value is None else f"{value:.3f} s"
