"""A limit at work: a window for what the limit counts apart, and what of it may be let through."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..limits import Count, Limit, Scope
from .window import CalendarWindow, DecayingWindow, RollingWindow, Window

__all__ = ["Clock", "Halt", "Meter", "Scopes"]

Scopes = tuple[tuple[Scope, ...], tuple[str, ...]]
"""What is counted apart, and its values."""
PARTS = 20
"""What others want is given back once one of so many parts of the limit is free, or all they
want."""
LOOK_AGAIN_NS = 50_000_000
"""For answers, on which it hangs when there is something to give back."""


@dataclass
class Clock:
    """What windows know of clocks, in ns.

    Attributes:
        utc_ahead_ns: the venue's UTC, of the monotonic clock.
        error_ns: how far that may be wrong, either way.
        transit_ns: how long what has no answer may take to arrive.
    """

    utc_ahead_ns: int
    error_ns: int
    transit_ns: int


class Halt:
    """What a venue's refusals stop: all of the address, or a key, an endpoint, an instrument.

    Attributes:
        until: monotonic ns; behind it nothing is stopped, and before it cancels alone go.
        banned_until: nobody goes before.
        cause: in words.
    """

    __slots__ = ("banned_until", "cause", "until")

    def __init__(self) -> None:
        self.until = self.banned_until = 0
        self.cause = ""


class Meter:
    """One window of a limit.

    Args:
        limit: of the venue.
        values: of what it counts apart.
        clock: of the venue.
        is_shared: other processes let through of it, too, and nothing is held at first.

    Attributes:
        window: the count. Its limit is what may be let through here.
        held: of a shared one: units that no other process holds; never below the window's limit.
        wanted, others, holders: of a shared one: units that other processes want and hold, and how
            many of them all hold some or want some.
    """

    __slots__ = (
        "_peak", "_peak_before", "_peak_since", "held", "hold_ns", "holders", "id", "is_known",
        "limit", "others", "values", "wanted", "window",
    )  # fmt: skip

    def __init__(
        self, limit: Limit, values: tuple[str, ...], clock: Clock, is_shared: bool
    ) -> None:
        self.limit, self.values = limit, values
        self.id = json.dumps([limit.name, *values])
        self.window, self.hold_ns = _make_window(limit, clock)
        self.held = limit.amount
        self.wanted = self.others = 0
        self.holders = 1
        self.is_known = False
        self._peak = self._peak_before = self._peak_since = 0
        if is_shared:
            self.held = 0
            self.window.set_limit(0, 0)

    @property
    def name(self) -> str:
        """For people."""
        return " ".join((self.limit.name, *self.values))

    def used(self, now: int) -> int:
        """Return the units that count."""
        return self.window.limit - self.window.room(now)

    def grant(self, now: int, units: int) -> None:
        """Hold more."""
        self.held += units
        self.window.set_limit(now, self.window.limit + units)

    def give(self, now: int, has_waiters: bool) -> int | None:
        """Give back what others want and nothing here uses; returns what is held then, ``None``:
        as before.

        Who has waiters keeps an even share, and lets no more through than that; who has none keeps
        of it twice as much as was used not long ago.
        """
        used = self.used(now)
        self._note_peak(now, used)
        share = self._share(has_waiters)
        allowed = min(self.window.limit, share if has_waiters else max(share, used))
        held = min(self.held, max(allowed, used))  # used may be more: what others spent is in it
        spare = self.held - held
        if allowed < self.window.limit:
            self.window.set_limit(now, allowed)
        if spare == 0 or (used > share and spare < self._worth()):
            return None
        self.held = held
        return held

    def free_at(self, now: int, has_waiters: bool) -> int | None:
        """Return when there is something to give back, monotonic ns; ``None``: there will not."""
        used = self.used(now)
        share = self._share(has_waiters)
        if self.held <= share:
            return None
        if used <= share:  # not all of what is kept will be used again
            return self._peak_since + self.hold_ns + 1 if not has_waiters else None
        units = min(used, used - self.held + self._worth())
        at = self.window.next_room(now, self.window.room(now) + max(1, units))
        return now + LOOK_AGAIN_NS if at is None else at

    def take_back_all(self, now: int) -> None:
        """Let through all that is held: nobody else wants it."""
        self.window.set_limit(now, self.held)

    def _note_peak(self, now: int, used: int) -> None:
        if now - self._peak_since > self.hold_ns:
            self._peak_before, self._peak, self._peak_since = self._peak, 0, now
        self._peak = max(self._peak, used)

    def _share(self, has_waiters: bool) -> int:
        """Return what is kept while others want."""
        amount = self.limit.amount
        even = min(amount // self.holders, max(0, amount - self.wanted))
        if has_waiters:
            return even
        peak = max(self._peak, self._peak_before)
        return min(even, max(2 * peak, amount // PARTS)) if peak else 0

    def _worth(self) -> int:
        return max(1, min(self.wanted, self.limit.amount // PARTS))


def _make_window(limit: Limit, clock: Clock) -> tuple[Window, int]:
    """Return it, and how long it counts a unit at most behind its end, in ns."""
    if limit.count is Count.DECAYING:
        fall_ns = round(limit.amount / limit.per_s * 10**9)
        return DecayingWindow(limit.amount, limit.per_s, clock.transit_ns), (
            fall_ns + clock.transit_ns
        )
    length_ns = round(limit.length_s * 1e9)
    hold_ns = length_ns + clock.transit_ns
    if limit.count is Count.ROLLING:
        window = RollingWindow(limit.amount, length_ns, clock.transit_ns)
        return window, hold_ns + window.slot_ns
    return CalendarWindow(
        limit.amount, length_ns, clock.transit_ns, clock.utc_ahead_ns, clock.error_ns
    ), hold_ns + 2 * clock.error_ns
