"""The windows' own arithmetic, against the slow model and at every edge."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limiter_model import CLOCK_ERROR_NS, TRANSIT_NS, Meter, S, Spent

from crosswire.http.window import SLOTS, CalendarWindow, DecayingWindow, RollingWindow, Window
from crosswire.limits import Count, Limit

START = 1000 * S


def rolling(limit: int = 10, length_ns: int = S, transit_ns: int = TRANSIT_NS) -> RollingWindow:
    return RollingWindow(limit, length_ns, transit_ns)


def calendar(limit: int = 10, length_ns: int = 10 * S, ahead: int = 0) -> CalendarWindow:
    return CalendarWindow(limit, length_ns, TRANSIT_NS, ahead, CLOCK_ERROR_NS)


def decaying(limit: int = 10, per_s: Fraction = Fraction(1)) -> DecayingWindow:
    return DecayingWindow(limit, per_s, TRANSIT_NS)


def made(limit: Limit, ahead: int) -> Window:
    if limit.count is Count.ROLLING:
        return rolling(limit.amount, round(limit.length_s * S))
    if limit.count is Count.CALENDAR:
        return calendar(limit.amount, round(limit.length_s * S), ahead)
    return decaying(limit.amount, limit.per_s)


LIMITS = [
    Limit("rolling", "x", 7, Count.ROLLING, 1.0),
    Limit("rolling", "x", 40, Count.ROLLING, 60.0),
    Limit("calendar", "x", 7, Count.CALENDAR, 1.0),
    Limit("calendar", "x", 40, Count.CALENDAR, 60.0),
    Limit("decaying", "x", 15, Count.DECAYING, per_s=Fraction(33, 100)),
    Limit("decaying", "x", 60, Count.DECAYING, per_s=Fraction(50, 7)),
]


class TestModel:
    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(LIMITS), st.integers(0, 2**32), st.integers(-10 * S, 10 * S))
    def test_room_is_the_models_within_a_slot(self, limit: Limit, seed: int, ahead: int) -> None:
        draw = random.Random(seed)
        window, meter = made(limit, ahead), Meter(limit, (), ahead)
        now = START
        out: list[tuple[Spent, int]] = []
        for _ in range(60):
            do = draw.random()
            room = window.room(now)
            if do < 0.4 and room > 0:
                units = draw.randint(1, room)
                spent = Spent(units, now)
                meter.all.append(spent)
                out.append((spent, window.spend(now, units)))
            elif do < 0.6 and out:
                spent, token = out.pop(draw.randrange(len(out)))
                fate = draw.choice(["answer", "answer", "lose", "refund"])
                if fate == "answer":
                    window.answer(now, spent.units, token)
                    spent.until = now
                elif fate == "lose":
                    window.lose(now, spent.units, token)
                    spent.until = now + TRANSIT_NS
                else:
                    window.refund(spent.units)
                    meter.all.remove(spent)
            else:
                units = draw.randint(1, limit.amount)
                at = window.next_room(now, units)
                step = int(10 ** draw.uniform(0, 10.5))
                if at is not None and draw.random() < 0.6:
                    step = max(0, at - now + draw.choice([-1, 0, 1]))
                if at is None:
                    assert room < units
                    assert sum(s.units for s in meter.all if s.until is None) > (
                        limit.amount - units
                    ), "it says that an answer is needed, and it is not"
                now += step
            low = limit.amount - meter.used(now, slack=True)
            high = limit.amount - meter.used(now)
            assert low - 1 < window.room(now) <= high, (limit, now, float(low), float(high))

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(LIMITS), st.integers(0, 2**32), st.integers(-10 * S, 10 * S))
    def test_next_room_is_the_first_moment_with_room(
        self, limit: Limit, seed: int, ahead: int
    ) -> None:
        draw = random.Random(seed)
        moments = sorted(draw.randrange(3 * S) for _ in range(20))
        trace = [(at, draw.choice(["answer", "lose", "keep"])) for at in moments]
        units = draw.randint(1, limit.amount)

        def play() -> Window:
            window = made(limit, ahead)
            for at, fate in trace:
                if window.room(START + at) >= 1:
                    token = window.spend(START + at, 1)
                    if fate == "answer":
                        window.answer(START + at, 1, token)
                    elif fate == "lose":
                        window.lose(START + at, 1, token)
            return window

        now = START + moments[-1]
        window = play()
        asked = now
        for _ in range(100):  # where more than one thing has to pass, it may say an earlier one
            at = window.next_room(asked, units)
            if at is None or at == asked:
                break
            assert at > asked
            asked = at
        if at is None:
            assert play().room(now + 1000 * S) < units
        else:
            assert play().room(at) >= units
            assert at == now or play().room(at - 1) < units


class TestRolling:
    def test_it_is_free_again_a_length_after_the_answer(self) -> None:
        window = rolling()
        token = window.spend(START, 10)
        assert window.room(START + 3600 * S) == 0
        window.answer(START + 5, 10, token)
        assert window.room(START + 4 + S) == 0
        assert window.room(START + 5 + S) == 10

    def test_what_was_answered_within_a_slot_is_free_with_the_last_of_it(self) -> None:
        window = rolling()
        slot = S // SLOTS
        for at in (0, slot):
            window.answer(START + at, 1, window.spend(START + at, 1))
        assert window.room(START + S) == 8
        assert window.room(START + S + slot) == 10

    @pytest.mark.parametrize("step", [1, 1000, S // SLOTS, S // SLOTS + 1, S // 500])
    def test_its_memory_is_bounded(self, step: int) -> None:
        window = rolling(limit=10**9)
        for n in range(20_000):
            now = START + n * step
            window.room(now)
            window.answer(now, 1, window.spend(now, 1))
        assert len(window._log) <= SLOTS + 2

    def test_a_window_of_a_few_ns_works(self) -> None:
        window = rolling(limit=1, length_ns=3)
        window.answer(START, 1, window.spend(START, 1))
        assert [window.room(START + n) for n in range(4)] == [0, 0, 0, 1]


class TestCalendar:
    def test_both_windows_count_for_as_long_as_the_clocks_may_differ(self) -> None:
        window = calendar()
        window.answer(START + 9 * S, 10, window.spend(START + 9 * S, 10))
        end = START + 10 * S
        assert window.room(end + CLOCK_ERROR_NS - 1) == 0
        assert window.room(end + CLOCK_ERROR_NS) == 10

    def test_an_answer_around_the_end_counts_in_both(self) -> None:
        for before, room in ((CLOCK_ERROR_NS + 1, 10), (CLOCK_ERROR_NS, 4)):
            window = calendar()
            at = START + 10 * S - before
            window.answer(at, 6, window.spend(at, 6))
            assert window.room(START + 15 * S) == room

    def test_what_is_out_counts_whatever_window_it_is(self) -> None:
        window = calendar()
        token = window.spend(START, 7)
        assert window.room(START + 3600 * S) == 3
        window.answer(START + 3605 * S, 7, token)
        assert window.room(START + 3606 * S) == 3
        assert window.room(START + 3611 * S) == 10

    def test_a_step_back_while_one_is_out_does_not_lose_it(self) -> None:
        window = calendar()
        token = window.spend(START + S, 10)
        window.set_clock(START + S, -5 * S)  # it is the window before, after all
        window.answer(START + S, 10, token)
        assert window.room(START + S) == 0

    def test_who_waits_for_a_lost_one_knows_until_when(self) -> None:
        window = calendar(limit=1, length_ns=S)  # five times shorter than the transit
        window.lose(START, 1, window.spend(START, 1))
        assert window.next_room(START, 1) == START + TRANSIT_NS + S + CLOCK_ERROR_NS
        assert window.room(START + TRANSIT_NS + S + CLOCK_ERROR_NS - 1) == 0
        assert window.room(START + TRANSIT_NS + S + CLOCK_ERROR_NS) == 1

    def test_an_answer_of_the_window_before_tells_nothing_of_this_one(self) -> None:
        window = calendar()
        sent = START + 9 * S
        token = window.spend(sent, 1)
        late = START + 11 * S
        window.answer(late, 1, token)
        assert window.correct(late, 9, token) == 0
        assert window.room(late) == 9


class TestDecaying:
    def test_it_falls_from_the_answer_on_and_never_below_0(self) -> None:
        window = decaying(per_s=Fraction(33, 100))
        window.answer(START, 10, window.spend(START, 10))
        falls = -(-100 * S // 33)
        assert window.room(START + falls - 1) == 0
        assert window.room(START + falls) == 1
        assert window.room(START + 3600 * S) == 10

    def test_what_is_out_does_not_fall(self) -> None:
        window = decaying()
        window.spend(START, 10)
        assert window.room(START + 3600 * S) == 0


@pytest.mark.parametrize(
    "window", [rolling(), calendar(), decaying()], ids=lambda w: type(w).__name__
)
def test_a_correction_counts_only_what_is_more_than_known(window: Window) -> None:
    now = START + S
    first, second = window.spend(now, 1), window.spend(now, 1)
    window.answer(now, 1, first)
    assert window.correct(now, 1, first) == 0
    assert window.correct(now, 2, first) == 0  # the other may have arrived
    assert window.correct(now, 9, first) == 7
    assert window.correct(now, 9, first) == 0
    assert window.room(now) == 1
    window.answer(now, 1, second)
    assert window.correct(now, 50, second) == 41
    assert window.room(now) == -40
