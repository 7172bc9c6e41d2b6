"""How long to wait before the next attempt: exponential, capped, with jitter.

Clients that failed together must not come back together. The three ways to spread them are those of
Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), where ``base`` is the
shortest ceiling, ``cap`` the highest, ``n`` the number of failures before this one, from 0, and
``last`` the delay before, ``base`` at first::

    full            uniform(0, min(cap, base * 2**n))
    equal           min(cap, base * 2**n) / 2 + uniform(0, min(cap, base * 2**n) / 2)
    decorrelated    uniform(base, min(cap, last * 3))

The cap comes before the jitter in all three. As published, ``decorrelated`` is capped behind it,
``min(cap, uniform(base, last * 3))``, and two thirds of its long delays are the cap exactly: those
who wait so long would come back together again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from .errors import UsageError

__all__ = ["Backoff", "Jitter"]

DOUBLINGS_MAX = 60
"""More would only make infinities of small bases."""


class Jitter(StrEnum):
    """How delays are spread; the formulas are those of :mod:`crosswire.backoff`."""

    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"


@dataclass
class Backoff:
    """The delays of one row of failures.

    Attributes:
        base_s, cap_s: bounds of the first and of the longest delay, in s.
        jitter: how they are spread.
        attempts: failures in a row.
        last_s: the delay before, which ``decorrelated`` begins from; what a caller waited for other
            reasons, or how long an answer took, is no part of it.

    Raises:
        UsageError: not ``0 < base_s <= cap_s``.
    """

    base_s: float = 0.1
    cap_s: float = 30.0
    jitter: Jitter = Jitter.FULL
    attempts: int = 0
    last_s: float = field(init=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.base_s <= self.cap_s < float("inf"):
            raise UsageError(
                f"a back-off needs 0 < base_s <= cap_s, not {self.base_s!r} and {self.cap_s!r}"
            )
        self.jitter = Jitter(self.jitter)
        self.last_s = self.base_s

    def next_delay(self, uniform: Callable[[float, float], float]) -> float:
        """Return the next delay in s, and count a failure.

        Args:
            uniform: draws from [low, high], as :meth:`crosswire.seam.Seam.uniform`.
        """
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(self.attempts, DOUBLINGS_MAX))
        self.attempts += 1
        match self.jitter:
            case Jitter.FULL:
                delay = uniform(0.0, ceiling)
            case Jitter.EQUAL:
                delay = ceiling / 2 + uniform(0.0, ceiling / 2)
            case Jitter.DECORRELATED:
                delay = uniform(self.base_s, min(self.cap_s, self.last_s * 3))
        self.last_s = delay
        return delay

    def reset(self) -> None:
        """Begin again at the shortest delay."""
        self.attempts = 0
        self.last_s = self.base_s
