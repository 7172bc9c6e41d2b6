"""The venue's counting of requests: each kind of limit against a slow model, refusals, bans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswire.errors import UsageError
from crosswire.sim import Hit, Ledger, Overshoot, VenueLimit
from crosswire.sim.quota import SCOPES, UNITS

S = 10**9
MINUTE = 60 * S
START = 1_700_000_000 * S // MINUTE * MINUTE
"""UTC ns at the beginning of a minute."""

# ------------------------------------------------------------------ a slow model


@dataclass
class Model:
    """One limit: every request that was counted, recounted for each question."""

    limit: VenueLimit
    events: list[tuple[int, tuple[str, ...], int]] = field(default_factory=list)

    def count(self, subject: tuple[str, ...], now: int) -> Fraction:
        mine = [(t, cost) for t, of, cost in self.events if of == subject]
        if self.limit.decay_per_s is not None:
            # A queue that is served steadily: its backlog is the largest, over every arrival, of
            # what came since less what was served since.
            rate = Fraction(str(self.limit.decay_per_s)) / S
            backlogs = [
                sum(cost for _, cost in mine[k:]) - (now - t) * rate
                for k, (t, _) in enumerate(mine)
            ]
            return max(Fraction(0), *backlogs) if backlogs else Fraction(0)
        window = Fraction(str(self.limit.window_s)) * S
        if self.limit.is_rolling:
            return Fraction(sum(cost for t, cost in mine if now - t < window))
        return Fraction(sum(cost for t, cost in mine if t // window == now // window))


def cost_of(hit: Hit, unit: str) -> int:
    return {"weight": hit.weight, "orders": hit.orders, "requests": 1}[unit]


def would_pass(models: Sequence[Model], hit: Hit, now: int) -> bool:
    for model in models:
        subject = tuple(getattr(hit, scope) for scope in model.limit.per)
        cost = cost_of(hit, model.limit.unit)
        if (
            None not in subject
            and cost
            and model.count(subject, now) + cost > model.limit.count_max
        ):
            return False
    return True


@st.composite
def limits(draw: st.DrawFn, number: int) -> VenueLimit:
    kind = draw(st.sampled_from(["window", "rolling", "decay"]))
    per = tuple(draw(st.lists(st.sampled_from(SCOPES), max_size=3, unique=True)))
    terms = {
        "count_max": draw(st.integers(1, 12)),
        "per": per,
        "unit": draw(st.sampled_from(UNITS)),
        "counts_refused": draw(st.booleans()),
    }
    if kind == "decay":
        terms["decay_per_s"] = draw(st.sampled_from([0.33, 0.5, 1, 2.34, 3.75]))
    else:
        terms["window_s"] = draw(st.sampled_from([0.1, 1, 2.5, 10, 60]))
        terms["is_rolling"] = kind == "rolling"
    return VenueLimit(f"l{number}", **terms)


HITS = st.builds(
    Hit,
    address=st.sampled_from(["a", "b"]),
    key=st.sampled_from([None, "k", "l"]),
    endpoint=st.sampled_from(["x", "y"]),
    instrument=st.sampled_from([None, "i"]),
    weight=st.integers(0, 5),
    orders=st.integers(0, 2),
)
GAPS = st.one_of(
    st.sampled_from([0, 1, S // 10, S // 10 - 1, S, S - 1, 10 * S, 10 * S - 1]),
    st.integers(0, 20 * S),
)


class TestAgainstTheModel:
    @given(st.data())
    def test_every_ruling_count_and_wait_is_the_models(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, 3))
        all_limits = [data.draw(limits(i)) for i in range(number)]
        ledger = Ledger(all_limits)
        models = [Model(limit) for limit in all_limits]
        now = START + data.draw(st.integers(0, MINUTE))
        highest = dict.fromkeys((limit.name for limit in all_limits), Fraction(0))
        for hit, gap in data.draw(st.lists(st.tuples(HITS, GAPS), max_size=25)):
            now += gap
            passes = would_pass(models, hit, now)
            over = []
            for model in models:
                limit = model.limit
                subject = tuple(getattr(hit, scope) for scope in limit.per)
                cost = cost_of(hit, limit.unit)
                if None in subject or not cost:
                    continue
                behind = model.count(subject, now) + cost
                highest[limit.name] = max(highest[limit.name], behind)
                if behind > limit.count_max:
                    over.append(limit.name)
                if passes or limit.counts_refused:
                    model.events.append((now, subject, cost))
            ruling = ledger.take(hit, now)
            assert (ruling.status is None) == passes
            assert list(ruling.over) == over
            for model in models:
                subject = tuple(getattr(hit, scope) for scope in model.limit.per)
                if None not in subject:
                    told = ledger.count(model.limit.name, subject, now)
                    assert told == model.count(subject, now)
            if ruling.retry_after_s is not None and all(
                cost_of(hit, limit.unit) <= limit.count_max for limit in all_limits
            ):
                assert ruling.retry_after_s >= 1
                assert would_pass(models, hit, now + ruling.retry_after_s * S)
                if ruling.retry_after_s > 1:
                    assert not would_pass(models, hit, now + (ruling.retry_after_s - 1) * S)
        assert {name: tally.highest for name, tally in ledger.tallies.items()} == highest
        for limit in all_limits:
            is_over = bool(ledger.tallies[limit.name].overshoots)
            assert is_over == (highest[limit.name] > limit.count_max)


# ------------------------------------------------------------------ each kind, by hand


class TestAWindow:
    LIMIT = VenueLimit("m", 10, window_s=60, used_header="x-used", left_header="x-left")

    def test_it_begins_anew_at_multiples_of_utc(self) -> None:
        ledger = Ledger([self.LIMIT])
        assert ledger.take(Hit(weight=10), START + MINUTE - 1).status is None
        assert ledger.take(Hit(), START + MINUTE - 1).status == 429
        assert ledger.take(Hit(weight=10), START + MINUTE).status is None

    def test_retry_after_is_rounded_up_to_the_boundary(self) -> None:
        ledger = Ledger([self.LIMIT])
        ledger.take(Hit(weight=10), START)
        assert ledger.take(Hit(), START).retry_after_s == 60
        assert ledger.take(Hit(), START + 1).retry_after_s == 60
        assert ledger.take(Hit(), START + S).retry_after_s == 59
        assert ledger.take(Hit(), START + MINUTE - 1).retry_after_s == 1

    def test_headers_tell_the_count_at_arrival(self) -> None:
        ledger = Ledger([self.LIMIT])
        ruling = ledger.take(Hit(weight=7), START)
        assert ruling.headers == (("x-used", "7"), ("x-left", "3"))
        ruling = ledger.take(Hit(weight=4), START)
        assert (ruling.status, ruling.headers) == (429, (("x-used", "7"), ("x-left", "3")))

    def test_refused_requests_count_where_the_limit_says_so(self) -> None:
        limit = VenueLimit("m", 10, window_s=60, counts_refused=True, used_header="x-used")
        ledger = Ledger([limit])
        ledger.take(Hit(weight=9), START)
        assert ledger.take(Hit(weight=5), START).headers == (("x-used", "14"),)
        assert ledger.take(Hit(weight=1), START).status == 429


class TestARollingWindow:
    LIMIT = VenueLimit("r", 3, window_s=2, is_rolling=True, unit="requests")

    def test_a_request_leaves_it_exactly_a_window_later(self) -> None:
        ledger = Ledger([self.LIMIT])
        for t in (0, S // 2, S):
            assert ledger.take(Hit(), START + t).status is None
        assert ledger.take(Hit(), START + 2 * S - 1).status == 429
        assert ledger.take(Hit(), START + 2 * S).status is None
        assert ledger.take(Hit(), START + 2 * S).retry_after_s == 1


class TestADecayingCounter:
    LIMIT = VenueLimit("d", 15, decay_per_s=0.33, per=("key",), used_header="x-used")

    def test_it_falls_by_its_rate_exactly(self) -> None:
        ledger = Ledger([self.LIMIT])
        hit = Hit(key="k", weight=2)
        ledger.take(hit, START)
        assert ledger.count("d", ("k",), START + 3 * S) == Fraction(101, 100)
        assert ledger.count("d", ("k",), START + 100 * S) == 0

    def test_it_passes_at_the_very_ns_and_not_before(self) -> None:
        ledger = Ledger([VenueLimit("d", 3, decay_per_s=3)])
        ledger.take(Hit(weight=3), START)
        third = -(-S // 3)
        assert ledger.take(Hit(), START + third - 1).status == 429
        assert ledger.take(Hit(), START + third).status is None

    def test_its_header_is_rounded_up(self) -> None:
        ledger = Ledger([self.LIMIT])
        ledger.take(Hit(key="k", weight=1), START)
        assert ledger.take(Hit(key="k", weight=1), START + S).headers == (("x-used", "2"),)


class TestScopes:
    def test_each_combination_has_a_count_of_its_own(self) -> None:
        limit = VenueLimit("o", 1, window_s=2, per=("endpoint", "instrument"), unit="requests")
        ledger = Ledger([limit])
        assert ledger.take(Hit(endpoint="p", instrument="i"), START).status is None
        assert ledger.take(Hit(endpoint="p", instrument="j"), START).status is None
        assert ledger.take(Hit(endpoint="c", instrument="i"), START).status is None
        assert ledger.take(Hit(endpoint="p", instrument="i"), START).status == 429

    def test_what_a_request_does_not_name_is_not_counted(self) -> None:
        ledger = Ledger([VenueLimit("k", 1, window_s=2, per=("key",))])
        assert [ledger.take(Hit(), START).status for _ in range(3)] == [None] * 3

    @pytest.mark.parametrize("names", ["p", [5], ("p", 5)])
    def test_the_endpoints_of_a_limit_are_names(self, names: Any) -> None:
        with pytest.raises(UsageError, match="limit k: endpoints is a tuple of names"):
            VenueLimit("k", 1, window_s=2, endpoints=names)

    def test_a_limit_may_be_of_some_endpoints_only(self) -> None:
        ledger = Ledger([VenueLimit("k", 1, window_s=2, endpoints=("p",))])
        assert [ledger.take(Hit(endpoint="q"), START).status for _ in range(3)] == [None] * 3
        assert [ledger.take(Hit(endpoint="p"), START).status for _ in range(2)] == [None, 429]

    def test_a_limit_of_orders_counts_orders(self) -> None:
        ledger = Ledger([VenueLimit("o", 2, window_s=10, unit="orders")])
        assert [ledger.take(Hit(), START).status for _ in range(3)] == [None] * 3
        assert [ledger.take(Hit(orders=1), START).status for _ in range(3)] == [None, None, 429]

    def test_the_longest_of_the_waits_is_told(self) -> None:
        ledger = Ledger([VenueLimit("s", 1, window_s=1), VenueLimit("m", 1, window_s=60)])
        ledger.take(Hit(), START)
        ruling = ledger.take(Hit(), START)
        assert (ruling.over, ruling.retry_after_s) == (("s", "m"), 60)

    def test_a_refusal_may_be_another_status_with_a_body_and_without_a_word_of_when(self) -> None:
        limit = VenueLimit("d", 1, decay_per_s=1, status=200, text="over", tells_when=False)
        ledger = Ledger([limit])
        ledger.take(Hit(), START)
        ruling = ledger.take(Hit(), START)
        assert (ruling.status, ruling.text, ruling.retry_after_s) == (200, "over", None)


class TestTheTally:
    def test_it_tells_the_highest_count_and_each_overshoot(self) -> None:
        ledger = Ledger([VenueLimit("m", 10, window_s=60)])
        ledger.take(Hit("a", weight=8), START)
        ledger.take(Hit("a", weight=5), START + 1)
        tally = ledger.tallies["m"]
        assert (tally.highest, tally.overshoots) == (13, [Overshoot(START + 1, ("a",), 3)])

    def test_time_never_goes_back(self) -> None:
        ledger = Ledger([VenueLimit("m", 1, window_s=60)])
        ledger.take(Hit(), START)
        assert ledger.take(Hit(), START - MINUTE).status == 429


class TestABan:
    LIMIT = VenueLimit("m", 1, window_s=60)

    def banned(self, **terms: bool) -> Ledger:
        ledger = Ledger([self.LIMIT], ban_after=2, ban_s=120, **terms)
        statuses = [ledger.take(Hit("a"), START).status for _ in range(4)]
        assert statuses == [None, 429, 429, 418]
        return ledger

    def test_whoever_asks_on_while_limited_is_banned(self) -> None:
        ledger = self.banned()
        assert ledger.bans == [(START, "a")]
        assert ledger.banned_until_ns("a") == START + 120 * S

    def test_it_holds_for_all_that_the_address_asks_and_for_no_other(self) -> None:
        ledger = self.banned()
        assert ledger.take(Hit("a", endpoint="other"), START + 119 * S).retry_after_s == 1
        assert ledger.take(Hit("b"), START).status is None
        assert ledger.take(Hit("a"), START + 120 * S - 1).status == 418
        assert ledger.take(Hit("a"), START + 120 * S).status is None

    def test_asking_on_extends_it_where_the_venue_does_so(self) -> None:
        ledger = self.banned(extends_ban=True)
        ruling = ledger.take(Hit("a"), START + 100 * S)
        assert (ruling.status, ruling.retry_after_s) == (418, 120)
        assert ledger.take(Hit("a"), START + 219 * S).status == 418

    def test_it_counts_nothing(self) -> None:
        ledger = self.banned()
        ledger.take(Hit("a"), START + MINUTE)
        assert ledger.count("m", ("a",), START + MINUTE) == 0

    def test_whoever_waits_as_told_never_is(self) -> None:
        ledger = Ledger([self.LIMIT], ban_after=1)
        now = START
        for _ in range(20):
            ruling = ledger.take(Hit("a"), now)
            assert ruling.status in (None, 429)
            now += (ruling.retry_after_s or 0) * S


@pytest.mark.parametrize(
    "terms",
    [
        {"window_s": 1, "decay_per_s": 1},
        {},
        {"window_s": 0},
        {"window_s": float("nan")},
        {"window_s": float("inf")},
        {"window_s": 1e-10},
        {"decay_per_s": -1},
        {"decay_per_s": 1, "is_rolling": True},
        {"window_s": 1, "per": ("planet",)},
        {"window_s": 1, "unit": "kg"},
        {"window_s": 1, "count_max": 0},
        {"window_s": 1, "status": 100},
        {"window_s": 1, "name": ""},
    ],
)
def test_an_impossible_limit_is_refused(terms: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        VenueLimit(**{"name": "x", "count_max": 1, **terms})  # type: ignore[arg-type]


def test_an_impossible_ledger_is_refused() -> None:
    limit = VenueLimit("x", 1, window_s=1)
    with pytest.raises(UsageError, match="one name"):
        Ledger([limit, limit])
    with pytest.raises(UsageError, match="ban_after"):
        Ledger([limit], ban_after=0)
    with pytest.raises(UsageError, match="ban_s"):
        Ledger([limit], ban_s=0)
    with pytest.raises(UsageError, match="no limit is named"):
        Ledger([limit]).count("y", (), START)
