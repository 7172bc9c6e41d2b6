"""How many connections a process may begin: sliding windows, in all and for each place.

A cut that takes two hundred streams at once must not become two hundred connects in one second:
venues count them by address and shut out whoever exceeds their limits, for minutes.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .seam import Seam

__all__ = ["CONNECTS_MAX", "ConnectBudget"]

CONNECTS_MAX = 20
"""Connects that a process begins in any second, to all places together."""


class _Window:
    """Moments of which at most ``count`` lie within any half-open span of ``span_ns``."""

    def __init__(self, count: int, span_ns: int) -> None:
        self.count = count
        self.span_ns = span_ns
        self.moments: list[int] = []

    def fits(self, at: int) -> bool:
        """Whether one more moment leaves every span within the limit."""
        i = bisect_right(self.moments, at)
        near = [*self.moments[max(0, i - self.count) : i], at, *self.moments[i : i + self.count]]
        last = zip(near, near[self.count :], strict=False)
        return all(end - start >= self.span_ns for start, end in last)

    def add(self, at: int) -> None:
        insort(self.moments, at)

    def remove(self, at: int) -> None:
        """Take a moment back, unless it is so long ago that it was forgotten."""
        i = bisect_left(self.moments, at)
        if self.moments[i : i + 1] == [at]:
            del self.moments[i]

    def forget_before(self, now: int) -> None:
        """Drop the moments that no span which reaches ``now`` holds."""
        del self.moments[: bisect_right(self.moments, now - self.span_ns)]


class ConnectBudget:
    """Admits connects: at most ``count`` begin in any window of ``seconds``, first come first
    served; to one place also at most what that place takes. Threads may share it.

    Args:
        count, seconds: of all connects together.
    """

    def __init__(self, count: int = CONNECTS_MAX, seconds: float = 1.0) -> None:
        self._lock = threading.Lock()
        self._all = _Window(count, round(seconds * 1e9))
        self._places: dict[tuple[str, tuple[int, float]], _Window] = {}

    async def admit(self, seam: Seam, place: str, limit: tuple[int, float] | None = None) -> None:
        """Wait until a connect may begin, and count it. Cancelling gives its turn back.

        Args:
            seam: whose time it is; one budget has one clock.
            place: where it goes, such as a host name.
            limit: ``(count, seconds)``: what the place takes; ``None``: no limit of its own.
        """
        windows = self._windows(place, limit)
        at = self._reserve(windows, seam.monotonic_ns())
        try:
            while True:
                now = seam.monotonic_ns()
                if now >= at:
                    at = self._move(windows, at, now)
                    if at == now:
                        return
                await seam.sleep((at - now) / 1e9)
        except BaseException:
            with self._lock:
                _give_back(windows, at)
            raise

    def _windows(self, place: str, limit: tuple[int, float] | None) -> list[_Window]:
        if limit is None:
            return [self._all]
        with self._lock:
            own = self._places.setdefault((place, limit), _Window(limit[0], round(limit[1] * 1e9)))
        return [self._all, own]

    def _reserve(self, windows: list[_Window], now: int) -> int:
        """Take the earliest moment that every window has room for."""
        with self._lock:
            for window in windows:
                window.forget_before(now)
            return _take(windows, now)

    def _move(self, windows: list[_Window], at: int, now: int) -> int:
        """Exchange a moment that has come for ``now``, or for the next one that has room: a loop
        that was held up must not catch up at once."""
        with self._lock:
            _give_back(windows, at)
            return _take(windows, now)


def _take(windows: list[_Window], now: int) -> int:
    ends = {moment + w.span_ns for w in windows for moment in w.moments}
    at = now
    for at in sorted({now, *(end for end in ends if end > now)}):
        if all(window.fits(at) for window in windows):
            break
    for window in windows:
        window.add(at)
    return at


def _give_back(windows: list[_Window], at: int) -> None:
    for window in windows:
        window.remove(at)
