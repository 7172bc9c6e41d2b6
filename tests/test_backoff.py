"""Delays between attempts: each way of spreading them against its formula."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf, nan, sqrt

import pytest

from crosswire import UsageError
from crosswire.backoff import Backoff, Jitter

DRAWS = 100_000
WORST = 1.95 / sqrt(DRAWS)
"""Kolmogorov's distance that true draws exceed once in a thousand times; the seed is fixed."""


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


def distance(draws: list[float], cdf: Callable[[float], float]) -> float:
    """Return Kolmogorov's distance of draws from a distribution."""
    n = len(draws)
    found = 0.0
    for i, value in enumerate(sorted(draws)):
        share = cdf(value)
        found = max(found, share - i / n, (i + 1) / n - share)
    return found


def uniform(low: float, high: float) -> Callable[[float], float]:
    return lambda x: min(1.0, max(0.0, (x - low) / (high - low)))


class TestDistributions:
    @pytest.mark.parametrize(
        ("attempts", "ceiling"), [(0, 0.1), (1, 0.2), (5, 3.2), (8, 25.6), (9, 30.0), (63, 30.0)]
    )
    def test_full_and_equal_are_uniform_below_and_in_the_upper_half_of_the_ceiling(
        self, attempts: int, ceiling: float
    ) -> None:
        rng = random.Random(attempts)
        for jitter, low in ((Jitter.FULL, 0.0), (Jitter.EQUAL, ceiling / 2)):
            draws = [
                Backoff(0.1, 30.0, jitter, attempts).next_delay(rng.uniform) for _ in range(DRAWS)
            ]
            assert distance(draws, uniform(low, ceiling)) < WORST
            assert low <= min(draws)
            assert max(draws) <= ceiling

    def test_decorrelated_begins_uniform_between_the_base_and_three_of_it(self) -> None:
        rng = random.Random(3)
        draws = [
            Backoff(0.1, 30.0, Jitter.DECORRELATED).next_delay(rng.uniform) for _ in range(DRAWS)
        ]
        assert distance(draws, uniform(0.1, 0.3)) < WORST

    def test_decorrelated_goes_on_from_the_delay_before(self) -> None:
        rng = random.Random(4)
        shares = []
        backoff = Backoff(0.1, 30.0, Jitter.DECORRELATED)
        for _ in range(DRAWS):
            ceiling = min(30.0, 3 * backoff.last_s)
            if backoff.attempts % 7 == 0:
                backoff.reset()
                ceiling = 3 * 0.1
            delay = backoff.next_delay(rng.uniform)
            assert 0.1 <= delay <= ceiling
            assert delay == backoff.last_s
            shares.append((delay - 0.1) / (ceiling - 0.1))
        assert distance(shares, uniform(0.0, 1.0)) < WORST

    def test_the_cap_gathers_none_of_them(self) -> None:
        rng = random.Random(5)
        for jitter in Jitter:
            backoff = Backoff(0.1, 1.0, jitter)
            delays = [backoff.next_delay(rng.uniform) for _ in range(10_000)]
            assert sum(delay == 1.0 for delay in delays) <= 1

    def test_a_wrong_distribution_is_found(self) -> None:
        rng = random.Random(6)
        draws = [min(1.0, rng.uniform(0.0, 1.02)) for _ in range(DRAWS)]
        assert distance(draws, uniform(0.0, 1.0)) > WORST


class TestCeilings:
    def test_they_double_up_to_the_cap(self) -> None:
        expected = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]
        for jitter in (Jitter.FULL, Jitter.EQUAL):
            backoff = Backoff(0.1, 30.0, jitter)
            assert [backoff.next_delay(highest) for _ in range(12)] == expected
        backoff = Backoff(0.1, 30.0)
        assert [backoff.next_delay(lowest) for _ in range(12)] == [0.0] * 12
        backoff = Backoff(0.1, 30.0, Jitter.EQUAL)
        assert [backoff.next_delay(lowest) for _ in range(12)] == [x / 2 for x in expected]

    def test_decorrelated_triples_at_most_and_never_falls_below_the_base(self) -> None:
        backoff = Backoff(0.5, 10.0, "decorrelated")  # type: ignore[arg-type]
        assert [backoff.next_delay(highest) for _ in range(4)] == [1.5, 4.5, 10.0, 10.0]
        assert [backoff.next_delay(lowest) for _ in range(2)] == [0.5, 0.5]

    @pytest.mark.parametrize("jitter", Jitter)
    def test_any_number_of_failures_is_survived(self, jitter: Jitter) -> None:
        backoff = Backoff(0.1, 30.0, jitter, attempts=10**9)
        backoff.last_s = 30.0
        assert backoff.next_delay(highest) == 30.0

    @pytest.mark.parametrize("jitter", Jitter)
    def test_reset_begins_at_the_shortest_delay(self, jitter: Jitter) -> None:
        backoff, fresh = Backoff(0.1, 30.0, jitter), Backoff(0.1, 30.0, jitter)
        for _ in range(20):
            backoff.next_delay(highest)
        backoff.reset()
        assert backoff == fresh
        assert backoff.next_delay(highest) == fresh.next_delay(highest)

    @pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (2, 1), (nan, 1), (1, nan), (1, inf)])
    def test_bounds_that_make_no_sense_are_refused(self, bounds: tuple[float, float]) -> None:
        with pytest.raises(UsageError, match="0 < base_s <= cap_s"):
            Backoff(*bounds)

    def test_a_jitter_that_is_not_known_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'none' is not a valid Jitter"):
            Backoff(jitter="none")  # type: ignore[arg-type]
