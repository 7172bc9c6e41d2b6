"""Several addresses of one venue: which one is asked, and when another takes its place.

All endpoints are of one venue: an order never moves to another. Nothing is repeated here either: a
call that failed has failed, and only the next one goes elsewhere. There is no input or output; the
clock and the randomness are passed in, and the probes are sent by whoever takes them, as
:class:`~crosswire.http.prober.Prober`.

One endpoint is current, and gets the calls:

=============================================  ==============================================
what happens                                   what is current
=============================================  ==============================================
at first                                       the first
the current one goes down                      of those trusted the fastest, then the unknown
                                               in their order; none, where all are down
none is, and one passed its probes             that one
another was better all the time                the other, if the last change of the current
for ``better_for_s``                           one is at least ``hold_s`` ago
=============================================  ==============================================

Better is: its probes take at most ``ratio`` of the time and ``gain_min_s`` less, where two standard
errors of the difference are not counted in its favour; of both at least ``probes_min`` probes came
back since, and nothing of it failed. Probes alone are compared, because they ask the same of every
endpoint: the calls of the one that is busy are other requests than the probes of one that is idle.

A change is for new calls. Those under way stay where they are; an endpoint that was left while it
had some is draining.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from math import exp, hypot, inf, log
from types import TracebackType
from typing import Generic, Self, TypeVar

from ..checks import check_callable, check_callables, check_type
from ..errors import RequestError, UsageError
from .breaker import Outcome
from .endpoint import Endpoint, EndpointRow, EndpointRules, EndpointState, Switch

__all__ = ["Endpoints", "Use"]

T = TypeVar("T")
E = TypeVar("E")

_log = logging.getLogger(__name__)

DOUBT = 2.0
"""Standard errors that are not counted in favour of another endpoint."""
STRETCH = 1.2
"""What is waited for is made longer by a factor up to this, so that clients do not keep step."""


class Use(Generic[T]):
    """One call of an endpoint, or one probe.

    Whoever has it says how it ended with :meth:`done`. At the end of a ``with`` block what was not
    said is neutral: a caller who was cancelled knows nothing.

    Attributes:
        is_probe: it is a probe.
    """

    __slots__ = ("_begun", "_endpoint", "_endpoints", "_generation", "_is_done", "is_probe")

    def __init__(
        self, endpoints: Endpoints[T], endpoint: Endpoint[T], begun: int, is_probe: bool
    ) -> None:
        self.is_probe = is_probe
        self._endpoints, self._endpoint = endpoints, endpoint
        self._generation = endpoint.generation
        self._begun = begun
        self._is_done = False

    @property
    def name(self) -> str:
        """Of the endpoint."""
        return self._endpoint.name

    @property
    def place(self) -> T:
        """What was given with the name, as its pool of connections."""
        return self._endpoint.place

    def done(self, outcome: Outcome, latency_s: float | None = None, cause: str = "") -> None:
        """Say how it ended; once more changes nothing.

        Args:
            outcome: time-outs, resets and refused connects are failures; for answers there is
                :func:`~crosswire.http.outcome_of`.
            latency_s: of a success; ``None``: since it was picked.
            cause: of a failure, in words.

        Raises:
            UsageError: not ``0 <= latency_s < inf``.
        """
        if latency_s is not None and not 0.0 <= latency_s < inf:
            raise UsageError(f"a call needs 0 <= latency_s < inf, not {latency_s!r}")
        if not self._is_done:
            self._is_done = True
            self._endpoints._take(self, outcome, latency_s, cause)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.done(Outcome.NEUTRAL)


class Endpoints(Generic[T]):
    """Chooses among the addresses of one venue; see :mod:`crosswire.http.endpoints`.

    Where all are down :meth:`pick` raises, and does not give the least bad one as a last resort: an
    order that goes to where nothing comes back may stand in the book without anybody knowing, and
    the probes find out sooner, and for less, that one is back.

    Args:
        clock: monotonic ns, as :meth:`crosswire.seam.Seam.monotonic_ns`.
        uniform: a random float in [low, high], as :meth:`crosswire.seam.Seam.uniform`.
        places: by name, in the order of preference.
        rules: when one is left, and trusted again.
        on_switch: called with each :class:`Switch`, inside of the call that made it.
        on_drained: called with the name of an endpoint that was left, when its last call ended; at
            once where it had none.

    Attributes:
        switches: how often another one became current, or none.
        probes_out: probes under way.
        on_sooner: called where a probe may be due before ``next_probe_s`` as it was; a prober's.

    Raises:
        UsageError: there is no place.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        uniform: Callable[[float, float], float],
        places: Mapping[str, T],
        rules: EndpointRules | None = None,
        *,
        on_switch: Callable[[Switch], None] | None = None,
        on_drained: Callable[[str], None] | None = None,
    ) -> None:
        check_callable(clock, "clock")
        check_callable(uniform, "uniform")
        check_type(places, Mapping, "places", "as {url: pool}")
        if not places:
            raise UsageError("endpoints need at least one place")
        for name in places:
            check_type(name, str, "the name of a place")
        if rules is not None:
            check_type(rules, EndpointRules, "rules")
        check_callables(on_switch=on_switch, on_drained=on_drained)
        self.rules = rules or EndpointRules()
        self.switches = self.probes_out = 0
        self.on_sooner: Callable[[], None] | None = None
        self._clock, self._uniform = clock, uniform
        self._on_switch, self._on_drained = on_switch, on_drained
        now = clock()
        tau_s = self.rules.tau_s
        self._all = [Endpoint(name, place, now, tau_s) for name, place in places.items()]
        self._current: Endpoint[T] | None = self._all[0]
        self._hold_until = now

    @property
    def current(self) -> str | None:
        """The name of the endpoint that gets the calls; ``None``: all are down."""
        return None if self._current is None else self._current.name

    def pick(self) -> Use[T]:
        """Return a call of the current endpoint.

        Raises:
            RequestError: ``endpoints-down``; ``retry_after_s`` is until the next probe.
        """
        endpoint = self._current
        if endpoint is None:
            raise RequestError(
                "endpoints-down",
                "; ".join(f"{e.name}: {e.cause}" for e in self._all),
                may_have_run=False,
                retry_after_s=self.next_probe_s or 0.0,
            )
        endpoint.calls_out += 1
        return Use(self, endpoint, self._clock(), is_probe=False)

    @property
    def next_probe_s(self) -> float | None:
        """How long until a probe is due, in s; ``None``: not before one that is out has ended."""
        times = [e.probe_at for e in self._all if not e.is_probed]
        if not times or self.probes_out >= self.rules.probes_max:
            return None
        return max(0, min(times) - self._clock()) / 1e9

    def begin_probes(self) -> list[Use[T]]:
        """Return the probes that are due, the longest due first, for the caller to send."""
        now = self._clock()
        due = [e for e in self._all if not e.is_probed and e.probe_at <= now]
        due.sort(key=lambda e: e.probe_at)
        del due[self.rules.probes_max - self.probes_out :]
        for endpoint in due:
            if endpoint.state is EndpointState.DOWN:
                endpoint.state = EndpointState.PROBING
                endpoint.passed = 0
            endpoint.is_probed = True
            endpoint.probe_at = now + self._stretched(round(self.rules.probe_s * 1e9))
        self.probes_out += len(due)
        return [Use(self, endpoint, now, is_probe=True) for endpoint in due]

    def snapshot(self) -> list[EndpointRow]:
        """Return what is known of each endpoint, in the order in which they were given."""
        now = self._clock()
        return [
            EndpointRow(
                name=e.name,
                state=e.state,
                is_current=e is self._current,
                is_draining=e.is_left,
                calls_out=e.calls_out,
                calls=e.calls,
                probes=e.probes,
                failures=e.failures,
                late=e.late,
                downs=e.generation,
                failure_rate=e.rate.rate,
                call_s=e.call_latency.seconds,
                probe_s=e.probe_latency.seconds,
                quarantine_left_s=(
                    max(0, e.probe_at - now) / 1e9 if e.state is EndpointState.DOWN else 0.0
                ),
                cause=e.cause,
            )
            for e in self._all
        ]

    # ------------------------------------------------------------------ what calls say

    def _take(self, call: Use[T], outcome: Outcome, latency_s: float | None, cause: str) -> None:
        endpoint, now = call._endpoint, self._clock()
        if call.is_probe:
            endpoint.is_probed = False
            self.probes_out -= 1
        else:
            endpoint.calls_out -= 1
        try:
            if outcome is not Outcome.NEUTRAL:
                if latency_s is None:
                    latency_s = (now - call._begun) / 1e9
                self._count(call, outcome, cause)
                if call._generation == endpoint.generation:
                    self._learn(call, outcome, latency_s, now)
                else:
                    endpoint.late += 1
        finally:  # whatever a callback raised
            self._tell_drained(endpoint)

    def _count(self, call: Use[T], outcome: Outcome, cause: str) -> None:
        endpoint = call._endpoint
        if call.is_probe:
            endpoint.probes += 1
        else:
            endpoint.calls += 1
        if outcome is Outcome.FAILURE:
            endpoint.failures += 1
            endpoint.cause = cause or "unsaid"

    def _learn(self, call: Use[T], outcome: Outcome, latency_s: float, now: int) -> None:
        endpoint = call._endpoint
        has_failed = outcome is Outcome.FAILURE
        endpoint.rate.add(now, has_failed)
        if has_failed:
            endpoint.row += 1
            endpoint.not_better()
            why = endpoint.too_many(self.rules)
            if why:
                self._go_down(endpoint, f"{why}: {endpoint.cause}", now)
            return
        endpoint.row = 0
        if not call.is_probe:
            endpoint.call_latency.add(now, latency_s)
        else:
            endpoint.probe_latency.add(now, latency_s)
        if endpoint.state is EndpointState.UNKNOWN:
            endpoint.state = EndpointState.UP
        elif endpoint.state is EndpointState.PROBING:
            endpoint.passed += 1
            if endpoint.passed == self.rules.probes_needed:
                self._trust(endpoint, now)
        if call.is_probe and endpoint.is_trusted:
            self._compare(endpoint, now)

    # ------------------------------------------------------------------ what follows

    def _go_down(self, endpoint: Endpoint[T], cause: str, now: int) -> None:
        endpoint.go_down(self.rules, cause, now)
        endpoint.probe_at = now + self._stretched(endpoint.quarantine_ns)
        trusted = [e for e in self._all if e.is_trusted]
        if not trusted:
            for e in self._all:
                e.probe_at = min(
                    e.probe_at, now + self._stretched(round(self.rules.quarantine_s * 1e9))
                )
        if self.on_sooner:
            self.on_sooner()
        if endpoint is self._current:
            after = min(trusted, key=lambda e: e.rank, default=None)
            self._switch(after, f"{endpoint.name} is down: {cause}", now)

    def _trust(self, endpoint: Endpoint[T], now: int) -> None:
        endpoint.state = EndpointState.UP
        endpoint.trusted_at = now
        if self._current is None:
            self._switch(endpoint, f"all were down, and {endpoint.name} passed its probes", now)

    def _compare(self, reported: Endpoint[T], now: int) -> None:
        """Look for one that is better than the current one, behind a probe that succeeded."""
        current, rules = self._current, self.rules
        if current is None:
            return
        ready: list[Endpoint[T]] = []
        for other in self._all:
            if other is current or other.state is not EndpointState.UP:
                continue
            if not self._is_better(other, current):
                other.not_better()
                continue
            if other.better_since is None:
                other.better_since = now
            else:
                other.seen += reported is other
                other.seen_current += reported is current
            lasted_s = (now - other.better_since) / 1e9
            is_seen = min(other.seen, other.seen_current) >= rules.probes_min
            if is_seen and lasted_s >= rules.better_for_s and now >= self._hold_until:
                ready.append(other)
        if ready:
            best = min(ready, key=lambda e: e.rank)
            found, was = (exp(e.probe_latency.mean_log) for e in (best, current))
            cause = f"{best.name} answers in {found:.3g} s, {current.name} in {was:.3g} s"
            self._switch(best, cause, now)

    def _is_better(self, other: Endpoint[T], current: Endpoint[T]) -> bool:
        there, here = other.probe_latency, current.probe_latency
        doubt = DOUBT * hypot(there.error_log, here.error_log)
        gap = here.mean_log - there.mean_log - doubt
        gain_s = exp(here.mean_log) - exp(there.mean_log)
        return gap >= -log(self.rules.ratio) and gain_s >= self.rules.gain_min_s

    def _switch(self, after: Endpoint[T] | None, cause: str, now: int) -> None:
        before, self._current = self._current, after
        was, now_is = (None if e is None else e.name for e in (before, after))
        self._hold_until = now + round(self.rules.hold_s * 1e9)
        self.switches += 1
        for endpoint in self._all:
            endpoint.not_better()
        if after is not None:
            after.is_left = False
        if before is not None:
            before.is_left = True
        _tell(self._on_switch, Switch(was, now_is, now, cause))
        if before is not None:
            self._tell_drained(before)

    def _tell_drained(self, endpoint: Endpoint[T]) -> None:
        if endpoint.is_left and endpoint.calls_out == 0:
            endpoint.is_left = False
            _tell(self._on_drained, endpoint.name)

    def _stretched(self, ns: int) -> int:
        return round(ns * self._uniform(1.0, STRETCH))


def _tell(callback: Callable[[E], None] | None, what: E) -> None:
    """Call what is told of a change; whoever made the call that brought it about is not to pay for
    what it raises."""
    if callback:
        try:
            callback(what)
        except Exception:
            _log.exception("a callback of endpoints raised")
