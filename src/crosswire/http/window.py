"""How much a venue still lets through: three kinds of window, exact in integers, without a clock.

A venue counts a request when it arrives, which is some time between its being sent and its answer.
So that its count is never above ours, a request counts

* from when it is let through, and in full, until its answer is there;
* from its answer on as if it had arrived just then.

A request without an answer is taken for arrived ``transit_ns`` after its end.

===========  ==============================================  ====================================
window       what the venue counts                           free again
===========  ==============================================  ====================================
rolling      units of the last ``length_ns``                 that long after the answer
calendar     units since the last multiple of ``length_ns``  at the next multiple in UTC, as far
             of its UTC                                      as both clocks may be apart
decaying     a counter, each unit one more, which falls      at once, little by little; the
             steadily to 0                                   counter falls from the answer on
===========  ==============================================  ====================================

Times are monotonic ns. Units are whole. Memory is bounded: a rolling window keeps at most about
``SLOTS`` entries; what was answered within a slot is free again with the last of it.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Protocol

__all__ = ["CalendarWindow", "DecayingWindow", "RollingWindow", "Window"]

SLOTS = 1024


class Window(Protocol):
    """One count of a venue's."""

    limit: int
    out: int
    """Units that are on their way: sent and not answered."""

    def room(self, now: int) -> int:
        """Return how many units may be spent now; below 0 where the venue counts more."""

    def spend(self, now: int, units: int) -> int:
        """Count units that are sent now; returns what their end is told with."""

    def answer(self, now: int, units: int, token: int) -> None:
        """Their answer is there."""

    def lose(self, now: int, units: int, token: int) -> None:
        """There will be no answer."""

    def refund(self, units: int) -> None:
        """They were not sent after all."""

    def correct(self, now: int, used: int, token: int) -> int:
        """The venue counted ``used`` units when it answered what ``token`` is of: where that is
        more than is known, somebody else spends. Returns how many more."""

    def next_room(self, now: int, units: int) -> int | None:
        """Return when at the earliest so many units may be spent, if nothing else is; ``None``:
        not before another answer."""

    def set_limit(self, now: int, limit: int) -> None:
        """Let through more or less from now on. A decaying one falls in proportion."""


class _Late:
    """Requests without an answer, in the order in which they will be taken for arrived."""

    __slots__ = ("queue", "transit_ns")

    def __init__(self, transit_ns: int) -> None:
        self.transit_ns = transit_ns
        self.queue: deque[tuple[int, int, int]] = deque()

    def add(self, now: int, units: int, token: int) -> None:
        self.queue.append((now + self.transit_ns, units, token))


class RollingWindow:
    """At most ``limit`` units in any ``length_ns``."""

    __slots__ = ("_late", "_log", "_sum", "length_ns", "limit", "out", "slot_ns")

    def __init__(self, limit: int, length_ns: int, transit_ns: int) -> None:
        self.limit, self.length_ns = limit, length_ns
        self.slot_ns = length_ns // SLOTS
        self.out = 0
        self._sum = 0
        self._log: deque[list[int]] = deque()  # [first, last, units] of each slot, by answer
        self._late = _Late(transit_ns)

    def room(self, now: int) -> int:
        if self._late.queue:
            self._arrive(now)
        log = self._log
        if log:
            end = now - self.length_ns
            while log and log[0][1] <= end:
                self._sum -= log.popleft()[2]
        return self.limit - self.out - self._sum

    def spend(self, now: int, units: int) -> int:
        self.out += units
        return 0

    def answer(self, now: int, units: int, token: int) -> None:
        self.out -= units
        self._add(now, units)

    def lose(self, now: int, units: int, token: int) -> None:
        self._late.add(now, units, token)

    def refund(self, units: int) -> None:
        self.out -= units

    def correct(self, now: int, used: int, token: int) -> int:
        more = used - (self.limit - self.room(now))
        if more <= 0:
            return 0
        self._add(now, more)
        return more

    def next_room(self, now: int, units: int) -> int | None:
        missing = units - self.room(now)
        if missing <= 0:
            return now
        for _, last, size in self._log:
            missing -= size
            if missing <= 0:
                return last + self.length_ns
        for due, size, _ in self._late.queue:
            missing -= size
            if missing <= 0:
                return due + self.length_ns
        return None

    def set_limit(self, now: int, limit: int) -> None:
        self.limit = limit

    def _add(self, now: int, units: int) -> None:
        self._sum += units
        log = self._log
        if log:
            slot = log[-1]
            if now - slot[0] <= self.slot_ns:
                slot[1] = max(now, slot[1])
                slot[2] += units
                return
        log.append([now, now, units])

    def _arrive(self, now: int) -> None:
        queue = self._late.queue
        while queue and queue[0][0] <= now:
            due, units, token = queue.popleft()
            last = self._log[-1][1] if self._log else due
            self.answer(max(due, last), units, token)


class CalendarWindow:
    """At most ``limit`` units from each multiple of ``length_ns`` of the venue's UTC to the next.

    Args:
        utc_ahead_ns: of the monotonic clock.
        error_ns: how far that may be from the venue's clock, either way.
    """

    __slots__ = ("_ahead", "_counts", "_error_ns", "_late", "length_ns", "limit", "out")

    def __init__(
        self, limit: int, length_ns: int, transit_ns: int, utc_ahead_ns: int, error_ns: int
    ) -> None:
        self.limit, self.length_ns = limit, length_ns
        self.out = 0
        self._ahead, self._error_ns = utc_ahead_ns, error_ns
        self._counts: dict[int, int] = {}  # ordinal of a window → units answered in it
        self._late = _Late(transit_ns)

    def _first(self, now: int) -> int:
        """Return the ordinal of the window that it may still be at the venue."""
        return (now + self._ahead - self._error_ns) // self.length_ns

    def _last(self, now: int) -> int:
        """Return the ordinal of the window that it may be there already."""
        return (now + self._ahead + self._error_ns) // self.length_ns

    def room(self, now: int) -> int:
        if self._late.queue:
            self._arrive(now)
        first, last = self._first(now), self._last(now)
        counts = self._counts
        if counts and min(counts) < first:
            for old in [ordinal for ordinal in counts if ordinal < first]:
                del counts[old]
        used = counts.get(first, 0)
        if last != first:
            used = max(used, max(counts.get(n, 0) for n in range(first + 1, last + 1)))
        return self.limit - self.out - used

    def spend(self, now: int, units: int) -> int:
        self.out += units
        return self._first(now)

    def answer(self, now: int, units: int, token: int) -> None:
        self.out -= units
        for ordinal in range(self._first(now), self._last(now) + 1):  # what is older is over
            self._counts[ordinal] = self._counts.get(ordinal, 0) + units

    def lose(self, now: int, units: int, token: int) -> None:
        self._late.add(now, units, token)

    def refund(self, units: int) -> None:
        self.out -= units

    def correct(self, now: int, used: int, token: int) -> int:
        ordinal = self._last(now)
        if token != ordinal:  # it may be the count of a window that is over
            return 0
        more = used - self._counts.get(ordinal, 0) - self.out
        if more <= 0:
            return 0
        self._counts[ordinal] = self._counts.get(ordinal, 0) + more
        return more

    def next_room(self, now: int, units: int) -> int | None:
        if self.room(now) >= units:
            return now
        ordinal = self._first(now) + 1
        free = self.limit - self.out - units
        late = iter(self._late.queue)
        while free < self._counts.get(ordinal, 0):
            if free >= 0:
                ordinal += 1
                continue
            due, size, _ = next(late, (None, 0, 0))
            if due is None:
                return None
            free += size
            ordinal = max(ordinal, self._last(due) + 1)
        return ordinal * self.length_ns - self._ahead + self._error_ns

    def set_limit(self, now: int, limit: int) -> None:
        self.limit = limit

    def set_clock(self, now: int, utc_ahead_ns: int) -> None:
        """Take another offset to the venue's UTC; what counted goes on to count where it now is."""
        room = self.room(now)
        used = self.limit - self.out - room
        self._ahead = utc_ahead_ns
        self._counts = {n: used for n in range(self._first(now), self._last(now) + 1) if used > 0}

    def _arrive(self, now: int) -> None:
        queue = self._late.queue
        while queue and queue[0][0] <= now:
            due, units, token = queue.popleft()
            self.answer(due, units, token)


class DecayingWindow:
    """A counter that may not pass ``limit``, and falls by ``per_s`` units in each second."""

    __slots__ = ("_at", "_full_per_ns", "_late", "_level", "_per_ns", "_scale", "limit", "out")

    def __init__(self, limit: int, per_s: Fraction, transit_ns: int) -> None:
        self.limit = limit
        self.out = 0
        # the level is kept in parts so small that it falls by a whole number of them each ns,
        # whatever share of the limit it has
        self._scale = per_s.denominator * 10**9 * limit
        self._full_per_ns = per_s.numerator
        self._per_ns = per_s.numerator * limit
        self._level = self._at = 0
        self._late = _Late(transit_ns)

    def room(self, now: int) -> int:
        if self._late.queue:
            self._arrive(now)
        self._fall(now)
        return self.limit - self.out - -(-self._level // self._scale)

    def spend(self, now: int, units: int) -> int:
        self.out += units
        return 0

    def answer(self, now: int, units: int, token: int) -> None:
        self._fall(now)
        self.out -= units
        self._level += units * self._scale

    def lose(self, now: int, units: int, token: int) -> None:
        self._late.add(now, units, token)

    def refund(self, units: int) -> None:
        self.out -= units

    def correct(self, now: int, used: int, token: int) -> int:
        more = used - (self.limit - self.room(now))
        if more <= 0:
            return 0
        self._level += more * self._scale
        return more

    def next_room(self, now: int, units: int) -> int | None:
        if self.room(now) >= units:
            return now
        allowed = self.limit - self.out - units
        if allowed >= 0 and self._per_ns:
            return now + -(-(self._level - allowed * self._scale) // self._per_ns)
        for due, size, _ in self._late.queue:  # it is on its way, then in the counter
            allowed += size
            if allowed >= 0 and self._per_ns:
                return due + -(-self._scale // self._per_ns)
        return None

    def set_limit(self, now: int, limit: int) -> None:
        self._fall(now)
        self.limit = limit
        self._per_ns = self._full_per_ns * limit

    def _fall(self, now: int) -> None:
        if now > self._at:
            self._level = max(0, self._level - (now - self._at) * self._per_ns)
            self._at = now

    def _arrive(self, now: int) -> None:
        queue = self._late.queue
        while queue and queue[0][0] <= now:
            due, units, token = queue.popleft()
            self.answer(max(due, self._at), units, token)
