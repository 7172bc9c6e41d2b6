"""Endpoints by a clock of their own, and what they told."""

from __future__ import annotations

from dataclasses import dataclass

from crosswire.http import EndpointRow, EndpointRules, Endpoints, Outcome, Switch

S = 10**9
GOOD, BAD, NOTHING = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL


@dataclass
class Clock:
    now: int = 0

    def __call__(self) -> int:
        return self.now


def low(at_least: float, at_most: float) -> float:
    return at_least


class Watched:
    """Endpoints whose waits are not stretched, and what they told."""

    def __init__(self, names: str = "ab", **rules: float) -> None:
        known = {"failures_max": 2, "failure_rate_max": 1.0, "quarantine_s": 1.0,
                 "quarantine_max_s": 4.0, "probes_needed": 2, "probe_s": 1.0,
                 "probes_max": 2} | rules  # fmt: skip
        self.clock = Clock()
        self.switches: list[Switch] = []
        self.drained: list[str] = []
        self.endpoints = Endpoints(
            self.clock,
            low,
            {name: name.upper() for name in names},
            EndpointRules(**known),  # type: ignore[arg-type]
            on_switch=self.switches.append,
            on_drained=self.drained.append,
        )

    def row(self, name: str) -> EndpointRow:
        (found,) = [row for row in self.endpoints.snapshot() if row.name == name]
        return found

    def fail(self, times: int = 2, cause: str = "reset") -> None:
        for _ in range(times):
            self.endpoints.pick().done(BAD, cause=cause)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += round(seconds * S)

    def probe(self, outcomes: dict[str, Outcome], latency_s: float = 0.01) -> list[str]:
        """Send what is due; returns the names."""
        probes = self.endpoints.begin_probes()
        for probe in probes:
            probe.done(outcomes.get(probe.name, GOOD), latency_s, "no answer")
        return [probe.name for probe in probes]
