"""What is remembered of reports, against the formula over all of them."""

from __future__ import annotations

import math
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswire.http.decay import DecayedLatency, DecayedRate

S = 10**9

REPORTS = st.lists(
    st.tuples(st.integers(0, 60 * S), st.floats(1e-6, 100.0, allow_subnormal=False)),
    min_size=1,
    max_size=40,
)


class TestDecay:
    @given(REPORTS, st.sampled_from([0.5, 30.0]))
    def test_a_latency_is_the_weighted_geometric_mean(
        self, reports: list[tuple[int, float]], tau_s: float
    ) -> None:
        latency, now, seen = DecayedLatency(tau_s), 0, []
        for later, seconds in reports:
            now += later
            latency.add(now, seconds)
            seen.append((now, math.log(seconds)))
        weights = [math.exp((at - now) / (tau_s * 1e9)) for at, _ in seen]
        total, squares = sum(weights), sum(w * w for w in weights)
        mean = sum(w * x for w, (_, x) in zip(weights, seen, strict=True)) / total
        assert latency.mean_log == pytest.approx(mean, abs=1e-9)
        assert latency.seconds == pytest.approx(math.exp(mean))
        freedom = total - squares / total
        if freedom > 1e-6:
            spread = sum(w * (x - mean) ** 2 for w, (_, x) in zip(weights, seen, strict=True))
            error = math.sqrt(spread / freedom * squares) / total
            assert latency.error_log == pytest.approx(error, rel=1e-6, abs=1e-6)

    def test_one_report_is_no_evidence_and_none_no_latency(self) -> None:
        latency = DecayedLatency(30.0)
        assert (latency.seconds, latency.error_log) == (None, inf)
        latency.add(5, 0.25)
        assert latency.seconds == pytest.approx(0.25)
        assert latency.error_log == inf
        latency.add(10_000 * S, 0.5)  # the first weighs nothing any more
        assert latency.seconds == pytest.approx(0.5)
        assert latency.error_log == inf

    def test_a_latency_of_nothing_is_taken_as_the_least(self) -> None:
        latency = DecayedLatency(1.0)
        latency.add(0, 0.0)
        assert latency.seconds == pytest.approx(1e-6)

    @given(st.lists(st.tuples(st.integers(0, 60 * S), st.booleans()), min_size=1, max_size=40))
    def test_a_rate_is_the_weighted_part(self, reports: list[tuple[int, bool]]) -> None:
        rate, now, seen = DecayedRate(10.0), 0, []
        for later, is_yes in reports:
            now += later
            rate.add(now, is_yes)
            seen.append((now, is_yes))
        weights = [math.exp((at - now) / 10e9) for at, _ in seen]
        assert rate.weight == pytest.approx(sum(weights))
        yes = sum(w for w, (_, is_yes) in zip(weights, seen, strict=True) if is_yes)
        assert rate.rate == pytest.approx(yes / sum(weights))

    def test_no_report_is_no_failure(self) -> None:
        assert (DecayedRate(1.0).rate, DecayedRate(1.0).weight) == (0.0, 0.0)
