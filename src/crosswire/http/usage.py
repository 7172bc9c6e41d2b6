"""What a limiter tells of itself: events, how full its windows are, how long requests waited."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LimitEvent", "LimitEventKind", "LimitRow", "Usage"]

BUCKETS = 64
"""Waits are counted by the number of bits of their ns."""


class LimitEventKind(StrEnum):
    """Of a limiter."""

    LIMITED = "limited"
    """Somebody has to wait, where nobody had to; or the venue refused."""
    REFILL = "refill"
    """Nobody has to wait any more."""
    BANNED = "banned"


@dataclass(frozen=True)
class LimitEvent:
    """Something changed at a limiter.

    Attributes:
        kind: what.
        name: the windows that are full, or what was refused; of a refill empty.
        mono: when, in monotonic ns.
        left_s: until somebody goes, or the refusal ends, in s; ``None``: that waits for an answer.
        waiting: requests.
        cause: in words.
    """

    kind: LimitEventKind
    name: str
    mono: int
    left_s: float | None
    waiting: int
    cause: str


@dataclass(frozen=True)
class LimitRow:
    """One window of a limiter.

    Attributes:
        limit: its name.
        values: key, endpoint, instrument, where those are counted apart.
        used: units that count now; those ``out``, without an answer yet, among them.
        amount: units that it lets through.
        unit: what they are.
    """

    limit: str
    values: tuple[str, ...]
    used: int
    out: int
    amount: int
    unit: str


class Usage:
    """A limiter's counts; memory is bounded.

    Attributes:
        passed, waited: requests that got a ticket, and that did not get it at once.
        lost, unsent: tickets whose request got no answer, or was not sent.
        refusals, bans: that the venue answered with.
        foreign: units that others spent, as the venue's headers told.
        unread: headers that should have told of a limit and held no number.
        is_limited: somebody waits.
    """

    def __init__(self) -> None:
        self.passed = self.waited = self.lost = self.unsent = 0
        self.refusals = self.bans = self.foreign = self.unread = 0
        self.is_limited = False
        self._waits = [0] * BUCKETS

    def note_wait(self, wait_ns: int) -> None:
        """Count how long one request waited."""
        self._waits[min(wait_ns.bit_length(), BUCKETS - 1)] += 1

    def wait_quantile_s(self, q: float) -> float | None:
        """Return what share ``q`` of those that waited did not wait longer than, in s, rounded up
        to a power of two of ns; ``None``: none did."""
        total = sum(self._waits)
        if total == 0:
            return None
        below = bits = 0
        while below < q * total or below == 0:
            below += self._waits[bits]
            bits += 1
        return (1 << (bits - 1)) / 1e9
