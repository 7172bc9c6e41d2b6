"""A circuit breaker: who keeps failing is left alone, and asked again with care.

One breaker stands before one class of requests to one venue. It is a table:

=============  =======================  =========================================================
state          what happens             what follows
=============  =======================  =========================================================
closed         asked                    let through
closed         success                  the row of failures ends
closed         failure                  open, at ``failures_max`` in a row
open           asked before its time    refused
open           asked after it           half-open, let through as a probe
half-open      asked                    a probe, as long as fewer than ``probes_max`` are out;
                                        else refused
half-open      success                  closed, at ``probes_needed`` of them
half-open      failure                  open, for twice as long as before, up to ``open_max_s``
any            neutral                  nothing; a probe gives its place back
=============  =======================  =========================================================

What was let through before the state changed last says nothing of the state that is now: its
outcome is counted as late and changes nothing. Time is a clock that is passed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

from ..checks import check_callable, check_callables, check_type, check_whole, limit_ns
from ..errors import BreakerOpenError, UsageError

__all__ = ["Breaker", "BreakerState", "Change", "Outcome", "Permit", "outcome_of"]

_log = logging.getLogger(__name__)


class BreakerState(StrEnum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Outcome(StrEnum):
    """What a request says of whoever was asked."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


def outcome_of(status: int) -> Outcome:
    """Return what the status of an answer says of the venue.

    5xx is its failure. 418 and 429 say that it was asked too often, which is the limiter's matter.
    Any other 4xx is the caller's fault, and comes from a venue that works.

    Raises:
        UsageError: ``status`` is no number.
    """
    check_type(status, int, "status")
    if status >= 500:
        return Outcome.FAILURE
    if status in (418, 429):
        return Outcome.NEUTRAL
    return Outcome.SUCCESS


@dataclass(frozen=True)
class Change:
    """A breaker's state changed.

    Attributes:
        name: the breaker's.
        before, after: states.
        mono: when, in monotonic ns.
        cause: in words, as the failure that opened it.
    """

    name: str
    before: BreakerState
    after: BreakerState
    mono: int
    cause: str


class Permit:
    """Leave to ask once.

    Whoever has it says how it ended with :meth:`done`. At the end of a ``with`` block what was not
    said is neutral: a caller who was cancelled knows nothing.
    """

    __slots__ = ("_breaker", "_generation", "_is_done")

    def __init__(self, breaker: Breaker, generation: int) -> None:
        self._breaker = breaker
        self._generation = generation
        self._is_done = False

    def done(self, outcome: Outcome, cause: str = "") -> None:
        """Say how it ended; once more changes nothing.

        Args:
            outcome: time-outs, resets and refused connects are failures; for answers there is
                :func:`outcome_of`.
            cause: of a failure, in words.
        """
        if not self._is_done:
            self._is_done = True
            self._breaker._take(self._generation, outcome, cause)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.done(Outcome.NEUTRAL)


class Breaker:
    """Stands before one class of requests to one venue; see :mod:`crosswire.http.breaker`.

    Args:
        clock: monotonic ns, as :meth:`crosswire.seam.Seam.monotonic_ns`.
        name: for errors and events, as ``"binance query"``.
        failures_max: in a row, until it opens.
        open_s, open_max_s: how long it stays open the first time, and at most.
        probes_max: that may be out at once while it is half-open.
        probes_needed: successes until it closes.
        on_change: called with each :class:`Change`, inside of the call that made it; what it
            raises is logged.

    Attributes:
        state: as of the last call; an open one whose time is over is half-open once it is asked.
        failures: in a row, while closed.
        probes_out: while half-open.
        let_through, refused, late: counts, since it was made.
        opens: how often it opened.

    Raises:
        UsageError: a number below 1, or not ``0 < open_s <= open_max_s < 1e9``.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        name: str,
        *,
        failures_max: int = 5,
        open_s: float = 1.0,
        open_max_s: float = 60.0,
        probes_max: int = 1,
        probes_needed: int = 2,
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        check_callable(clock, "clock")
        check_type(name, str, "name")
        check_whole(
            1, failures_max=failures_max, probes_max=probes_max, probes_needed=probes_needed
        )
        check_callables(on_change=on_change)
        self._first_ns = limit_ns(open_s, "open_s")
        self._longest_ns = limit_ns(open_max_s, "open_max_s")
        if self._first_ns > self._longest_ns:
            raise UsageError(f"open_s is {open_s!r}, and open_max_s only {open_max_s!r}")
        self.name = name
        self.state = BreakerState.CLOSED
        self.failures = self.probes_out = 0
        self.let_through = self.refused = self.late = self.opens = 0
        self._clock = clock
        self._failures_max = failures_max
        self._probes_max, self._probes_needed = probes_max, probes_needed
        self._open_ns = self._first_ns
        self._until = 0
        self._successes = 0
        self._generation = 0
        self._on_change = on_change

    @property
    def open_left_s(self) -> float:
        """How long it will still refuse everything, in s; 0 where it would let somebody through, or
        waits for its probes."""
        if self.state is not BreakerState.OPEN:
            return 0.0
        return max(0, self._until - self._clock()) / 1e9

    def ask(self) -> Permit:
        """Return leave to ask once.

        Raises:
            BreakerOpenError: it is open, or half-open and all its probes are out.
        """
        if self.state is not BreakerState.CLOSED:
            self._ask_for_probe()
        self.let_through += 1
        return Permit(self, self._generation)

    def _ask_for_probe(self) -> None:
        while self.state is BreakerState.OPEN:  # again where on_change asked, and failed
            now = self._clock()
            if now < self._until:
                self.refused += 1
                raise BreakerOpenError(self.name, (self._until - now) / 1e9)
            self._become(BreakerState.HALF_OPEN, "its time is over")
        if self.state is BreakerState.CLOSED:
            return
        if self.probes_out == self._probes_max:
            self.refused += 1
            raise BreakerOpenError(self.name, 0.0)
        self.probes_out += 1

    def _take(self, generation: int, outcome: Outcome, cause: str) -> None:
        if generation != self._generation:
            self.late += 1
        elif self.state is BreakerState.CLOSED:
            self._take_closed(outcome, cause)
        else:
            self._take_probe(outcome, cause)

    def _take_closed(self, outcome: Outcome, cause: str) -> None:
        if outcome is Outcome.SUCCESS:
            self.failures = 0
        elif outcome is Outcome.FAILURE:
            self.failures += 1
            if self.failures == self._failures_max:
                self._open_ns = self._first_ns
                self._open(f"{self.failures} failures in a row, the last: {cause or 'unsaid'}")

    def _take_probe(self, outcome: Outcome, cause: str) -> None:
        self.probes_out -= 1
        if outcome is Outcome.SUCCESS:
            self._successes += 1
            if self._successes == self._probes_needed:
                self._become(BreakerState.CLOSED, f"{self._successes} probes succeeded")
        elif outcome is Outcome.FAILURE:
            self._open_ns = min(2 * self._open_ns, self._longest_ns)
            self._open(f"a probe failed: {cause or 'unsaid'}")

    def _open(self, cause: str) -> None:
        self.opens += 1
        self._until = self._clock() + self._open_ns
        self._become(BreakerState.OPEN, cause)

    def _become(self, state: BreakerState, cause: str) -> None:
        before, self.state = self.state, state
        self._generation += 1
        self.failures = self.probes_out = self._successes = 0
        if self._on_change:
            try:
                self._on_change(Change(self.name, before, state, self._clock(), cause))
            except Exception:  # or it would take the place of the answer that made the change
                _log.exception("on_change of %s raised", self.name)
