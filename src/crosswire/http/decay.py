"""What is remembered of a row of reports: the older a report, the less it weighs.

A report of the age ``a`` weighs ``exp(-a / tau)``. Nothing of it is kept but its part in a few
sums, so the memory is the same for any number of reports.
"""

from __future__ import annotations

from math import exp, inf, log, sqrt

__all__ = ["DecayedLatency", "DecayedRate"]

LATENCY_MIN_S = 1e-6
"""Below it a latency is taken as this; its logarithm is needed."""


class DecayedLatency:
    """The geometric mean of latencies, weighted by age: ``exp(sum(w * ln x) / sum(w))``.

    Latencies are skewed to the right, and spread by factors: of such a row the geometric mean is
    about the median, and one that took a hundred times as long moves it little.

    Args:
        tau_s: age at which a report weighs 1/e.

    Attributes:
        mean_log: of the latencies in s; 0.0 while there is none.
    """

    __slots__ = ("_at", "_spread", "_squares", "_tau_ns", "_weight", "mean_log")

    def __init__(self, tau_s: float) -> None:
        self.mean_log = 0.0
        self._tau_ns = tau_s * 1e9
        self._at = 0
        self._weight = 0.0  # sum(w)
        self._squares = 0.0  # sum(w * w)
        self._spread = 0.0  # sum(w * (ln x - mean)^2)

    def add(self, now: int, latency_s: float) -> None:
        """Take a latency that was measured at ``now``, in monotonic ns, not before the last one."""
        kept = exp((self._at - now) / self._tau_ns) if self._weight else 0.0
        x = log(max(latency_s, LATENCY_MIN_S))
        self._at = now
        self._weight = self._weight * kept + 1.0
        self._squares = self._squares * kept * kept + 1.0
        off = x - self.mean_log
        self.mean_log += off / self._weight
        self._spread = self._spread * kept + off * (x - self.mean_log)

    @property
    def seconds(self) -> float | None:
        """The mean, in s; ``None``: nothing was measured."""
        return exp(self.mean_log) if self._weight else None

    @property
    def error_log(self) -> float:
        """The standard error of ``mean_log``; infinite where not even two reports weigh."""
        freedom = self._weight - self._squares / self._weight if self._weight else 0.0
        if freedom < 1e-9:
            return inf
        return sqrt(self._spread / freedom * self._squares) / self._weight


class DecayedRate:
    """The part of reports that say yes, weighted by age: ``sum(w * yes) / sum(w)``.

    Args:
        tau_s: age at which a report weighs 1/e.
    """

    __slots__ = ("_at", "_tau_ns", "_weight", "_yes")

    def __init__(self, tau_s: float) -> None:
        self._tau_ns = tau_s * 1e9
        self._at = 0
        self._weight = self._yes = 0.0

    def add(self, now: int, is_yes: bool) -> None:
        """Take a report of ``now``, in monotonic ns, not before the last one."""
        kept = exp((self._at - now) / self._tau_ns) if self._weight else 0.0
        self._at = now
        self._weight = self._weight * kept + 1.0
        self._yes = self._yes * kept + is_yes

    @property
    def rate(self) -> float:
        """From 0 to 1; 0 while there is no report."""
        return self._yes / self._weight if self._weight else 0.0

    @property
    def weight(self) -> float:
        """What all reports together weighed at the last one."""
        return self._weight
