"""One address of a venue: how it does, and whether it is trusted.

Its state is a table; ``up`` and ``unknown`` are trusted:

=========  ==============================  ==================================================
state      what happens                    what follows
=========  ==============================  ==================================================
unknown    success                         up
unknown,   failure                         down, at ``failures_max`` in a row, or where the
up                                         failure rate is above ``failure_rate_max``
up         success                         the row of failures ends
down       its quarantine is over          a probe is due; with the probe it is probing
probing    a probe succeeds                up, at ``probes_needed`` of them
probing    a probe fails                   down
any        neutral                         nothing; a probe gives its place back
=========  ==============================  ==================================================

What began before an endpoint went down last says nothing of it now: it is counted as late. Each
time an endpoint goes down its quarantine is twice as long as the time before, up to
``quarantine_max_s``; it is ``quarantine_s`` again after it was up for ``quarantine_max_s``. While
all are down none waits longer than ``quarantine_s``: being kept from a bad endpoint serves nobody
who has no better one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from math import inf
from typing import Generic, TypeVar

from ..checks import check_numbers, check_whole
from ..errors import UsageError
from .decay import DecayedLatency, DecayedRate

__all__ = ["Endpoint", "EndpointRow", "EndpointRules", "EndpointState", "Switch"]

T = TypeVar("T")


class EndpointState(StrEnum):
    """Of one endpoint."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    PROBING = "probing"


@dataclass(frozen=True)
class EndpointRules:
    """When an endpoint is left, and when it is trusted again; see
    :mod:`crosswire.http.endpoints`.

    Attributes:
        failures_max: in a row, until an endpoint is down.
        failure_rate_max: above it an endpoint is down, if its reports weigh ``reports_min``
            together; 1.0: never.
        reports_min: see ``failure_rate_max``.
        tau_s: age at which a report weighs 1/e, for the failure rate and the latency.
        ratio: of the current one's latency, which another has at most, to be better.
        gain_min_s: by which it is faster at least.
        better_for_s: how long it has been better, before it becomes current.
        probes_min: of each of both, in that time.
        hold_s: after a change, until the next one that is not forced.
        quarantine_s, quarantine_max_s: how long one that went down is left alone, at first and at
            most.
        probes_needed: successes in a row, before it is trusted again.
        probe_s: from the start of a probe to the next one of the same endpoint.
        probes_max: that are out at once, of all endpoints; of one there is one at most.

    Raises:
        UsageError: a number is not in its range.
    """

    failures_max: int = 3
    failure_rate_max: float = 0.5
    reports_min: int = 10
    tau_s: float = 30.0
    ratio: float = 0.7
    gain_min_s: float = 0.005
    better_for_s: float = 10.0
    probes_min: int = 5
    hold_s: float = 60.0
    quarantine_s: float = 1.0
    quarantine_max_s: float = 60.0
    probes_needed: int = 3
    probe_s: float = 1.0
    probes_max: int = 4

    def __post_init__(self) -> None:
        counts = ("failures_max", "reports_min", "probes_min", "probes_needed", "probes_max")
        check_whole(1, **{name: getattr(self, name) for name in counts})
        others = [item.name for item in fields(self) if item.name not in counts]
        check_numbers(**{name: getattr(self, name) for name in others})
        for name in ("tau_s", "quarantine_s", "probe_s"):
            if not 0.0 < getattr(self, name) < inf:
                raise UsageError(f"{name} is above 0 and finite, not {getattr(self, name)!r}")
        for name in ("gain_min_s", "better_for_s", "hold_s"):
            if not 0.0 <= getattr(self, name) < inf:
                raise UsageError(f"{name} is 0 or more and finite, not {getattr(self, name)!r}")
        for name in ("failure_rate_max", "ratio"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise UsageError(f"{name} is above 0 and at most 1, not {getattr(self, name)!r}")
        if not self.quarantine_s <= self.quarantine_max_s < inf:
            raise UsageError(
                "endpoints need quarantine_s <= quarantine_max_s < inf, not "
                f"{self.quarantine_s!r} and {self.quarantine_max_s!r}"
            )


@dataclass(frozen=True)
class Switch:
    """Another endpoint became current.

    Attributes:
        before, after: names; ``None``: all were down, or are.
        mono: when, in monotonic ns.
        cause: in words.
    """

    before: str | None
    after: str | None
    mono: int
    cause: str


@dataclass(frozen=True)
class EndpointRow:
    """What is known of an endpoint, for people.

    Attributes:
        name: its name.
        state: its state.
        is_current: it gets the calls.
        is_draining: it was left, and has calls under way.
        calls_out: under way.
        calls, probes: that ended and said something, since the start.
        failures: of both, since the start.
        late: reports that came too late to say anything of it.
        downs: how often it went down.
        failure_rate: the older a report, the less it weighs.
        call_s, probe_s: about the median of its latencies, in s; ``None``: unknown.
        quarantine_left_s: until its next probe, while it is down.
        cause: the last failure, in words, or why it is down; empty: there was none.
    """

    name: str
    state: EndpointState
    is_current: bool
    is_draining: bool
    calls_out: int
    calls: int
    probes: int
    failures: int
    late: int
    downs: int
    failure_rate: float
    call_s: float | None
    probe_s: float | None
    quarantine_left_s: float
    cause: str


class Endpoint(Generic[T]):
    """All that is known of one endpoint; the rules are those of :class:`Endpoints`."""

    def __init__(self, name: str, place: T, now: int, tau_s: float) -> None:
        self.name, self.place = name, place
        self.state = EndpointState.UNKNOWN
        self.tau_s = tau_s
        self.generation = 0  # how often it went down
        self.calls_out = 0
        self.is_probed = False  # a probe is out
        self.is_left = False  # it was current, and nobody was told yet that it is drained
        self.calls = self.probes = self.failures = self.late = 0
        self.probe_at = now  # when a probe is due, unless one is out
        self.quarantine_ns = 0  # its last one
        self.trusted_at = now
        self.passed = 0  # probes, while probing
        self.cause = ""
        self.forget()

    def forget(self) -> None:
        """Know nothing of how it does."""
        self.row = 0  # of failures
        self.rate = DecayedRate(self.tau_s)
        self.call_latency = DecayedLatency(self.tau_s)
        self.probe_latency = DecayedLatency(self.tau_s)
        self.not_better()

    def not_better(self) -> None:
        """It is not better than the current one, or not any more."""
        self.better_since: int | None = None
        self.seen = self.seen_current = 0  # probes since then, of it and of the current one

    @property
    def is_trusted(self) -> bool:
        return self.state in (EndpointState.UP, EndpointState.UNKNOWN)

    @property
    def rank(self) -> tuple[bool, float]:
        """The smaller, the sooner it takes the place of one that went down."""
        latency = self.probe_latency.seconds
        return self.state is not EndpointState.UP, inf if latency is None else latency

    def too_many(self, rules: EndpointRules) -> str:
        """Return why one that just failed is down, in words; empty: it is not."""
        if self.state is EndpointState.PROBING:
            return "a probe failed"
        if self.row >= rules.failures_max:
            return f"{self.row} failures in a row, the last"
        if self.rate.weight >= rules.reports_min and self.rate.rate > rules.failure_rate_max:
            return f"a failure rate of {self.rate.rate:.2f}, the last"
        return ""

    def go_down(self, rules: EndpointRules, cause: str, now: int) -> None:
        """Be left alone, for twice as long as the time before."""
        longest = round(rules.quarantine_max_s * 1e9)
        was_good = self.state is EndpointState.UP and now - self.trusted_at >= longest
        if self.quarantine_ns == 0 or was_good:
            self.quarantine_ns = round(rules.quarantine_s * 1e9)
        else:
            self.quarantine_ns = min(2 * self.quarantine_ns, longest)
        self.state = EndpointState.DOWN
        self.generation += 1
        self.cause = cause
        self.forget()
