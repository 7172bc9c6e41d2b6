"""Endpoints: every row of both tables, what is under way, and what is refused."""

from __future__ import annotations

from math import inf, nan

import pytest
from watched_endpoints import BAD, GOOD, NOTHING, Clock, S, Watched, low

from crosswire import RequestError, UsageError
from crosswire.http import EndpointRules, Endpoints, EndpointState, Switch


class TestGoingDown:
    def test_failures_in_a_row_move_new_calls_at_once(self) -> None:
        world = Watched()
        world.fail(1)
        world.endpoints.pick().done(GOOD)
        world.fail(1)
        assert world.endpoints.current == "a"
        world.fail(1, "timeout")
        cause = "a is down: 2 failures in a row, the last: timeout"
        assert world.switches == [Switch("a", "b", 0, cause)]
        assert world.endpoints.pick().place == "B"

    def test_a_failure_rate_above_its_bound_does_too(self) -> None:
        world = Watched(failure_rate_max=0.4, reports_min=8, failures_max=5)
        for n in range(1, 8):
            world.endpoints.pick().done(BAD if n % 2 else GOOD)
        assert world.endpoints.current == "a"
        world.endpoints.pick().done(BAD, cause="http-503")
        (switch,) = world.switches
        assert switch.cause == "a is down: a failure rate of 0.62, the last: http-503"

    def test_a_failure_rate_at_its_bound_does_not(self) -> None:
        world = Watched(failure_rate_max=0.5, reports_min=8, failures_max=5)
        for n in range(8):
            world.endpoints.pick().done(BAD if n % 2 else GOOD)
        assert world.row("a").failure_rate == 0.5
        assert world.endpoints.current == "a"

    def test_what_was_known_of_it_is_forgotten(self) -> None:
        world = Watched()
        world.probe({})
        world.endpoints.pick().done(GOOD, 0.01)
        world.fail()
        row = world.row("a")
        assert (row.failure_rate, row.call_s, row.probe_s) == (0.0, None, None)

    def test_failures_of_long_ago_do_not_count(self) -> None:
        world = Watched(failure_rate_max=0.4, reports_min=8, failures_max=5, tau_s=1.0)
        for n in range(1, 8):
            world.endpoints.pick().done(BAD if n % 2 else GOOD)
        world.pass_time(10.0)
        world.endpoints.pick().done(BAD)
        assert world.endpoints.current == "a"

    def test_probes_that_fail_count_as_calls_do(self) -> None:
        world = Watched()
        world.fail(1)
        world.probe({"a": BAD})
        assert world.endpoints.current == "b"
        assert world.row("a").state is EndpointState.DOWN

    def test_what_began_before_says_nothing(self) -> None:
        world = Watched()
        before = [world.endpoints.pick() for _ in range(6)]
        before.pop().done(BAD)
        before.pop().done(BAD)
        for outcome in (GOOD, BAD, NOTHING):
            before.pop().done(outcome)
        row = world.row("a")
        assert (row.state, row.late, row.calls, row.failures) == (EndpointState.DOWN, 2, 4, 3)
        assert (row.calls_out, row.is_draining) == (1, True)

    def test_of_those_trusted_the_fastest_follows(self) -> None:
        world = Watched("abcd", probes_max=4)
        for probe in world.endpoints.begin_probes():
            probe.done(GOOD if probe.name != "d" else NOTHING, {"b": 0.3, "c": 0.1}.get(probe.name))
        assert world.row("d").state is EndpointState.UNKNOWN
        world.fail()
        world.fail()
        world.fail()
        assert [s.after for s in world.switches] == ["c", "b", "d"]


class TestQuarantine:
    def test_each_time_is_twice_as_long_up_to_the_longest(self) -> None:
        world = Watched("abc", probes_max=3)
        world.fail()
        assert world.endpoints.current == "b"
        lasted = []
        for _ in range(4):
            lasted.append(world.row("a").quarantine_left_s)
            world.pass_time(lasted[-1] - 1e-9)
            assert "a" not in world.probe({})
            world.pass_time(1e-9)
            assert "a" in world.probe({"a": BAD})
        assert lasted == [1.0, 2.0, 4.0, 4.0]

    def test_it_is_trusted_after_its_probes_and_not_current_for_that(self) -> None:
        world = Watched()
        world.fail()
        world.pass_time(1.0)
        assert "a" in world.probe({})
        assert world.row("a").state is EndpointState.PROBING
        world.pass_time(1.0)
        assert "a" in world.probe({"a": NOTHING})
        assert world.row("a").state is EndpointState.PROBING
        world.pass_time(1.0)
        assert "a" in world.probe({})
        assert world.row("a").state is EndpointState.UP
        assert world.endpoints.current == "b"

    def test_its_probes_are_counted_anew_each_time(self) -> None:
        world = Watched()
        world.fail()
        for outcome in (GOOD, BAD):
            world.pass_time(1.0)
            world.probe({"a": outcome})
        for _ in range(2):  # and once more, behind a time of being up
            world.pass_time(4.0)
            world.probe({})
            assert world.row("a").state is EndpointState.PROBING
            world.pass_time(1.0)
            world.probe({})
            assert world.row("a").state is EndpointState.UP
            for _ in range(2):
                world.pass_time(1.0)
                world.probe({"a": BAD})
            assert world.row("a").state is EndpointState.DOWN

    @pytest.mark.parametrize(("up_s", "quarantine_s"), [(3.9, 2.0), (4.0, 1.0)])
    def test_who_was_up_for_long_begins_anew(self, up_s: float, quarantine_s: float) -> None:
        world = Watched()
        world.fail()
        for _ in range(2):
            world.pass_time(1.0)
            world.probe({})
        assert world.row("a").state is EndpointState.UP
        world.pass_time(up_s - 1.0)
        world.probe({"a": BAD})
        world.pass_time(1.0)
        world.probe({"a": BAD})
        assert world.row("a").quarantine_left_s == quarantine_s

    def test_while_all_are_down_none_waits_longer_than_the_first_time(self) -> None:
        world = Watched()
        world.fail()
        for seconds in (1.0, 2.0):
            world.pass_time(seconds)
            world.probe({"a": BAD})
        assert world.row("a").quarantine_left_s == 4.0
        world.fail()
        assert world.endpoints.current is None
        assert [world.row(n).quarantine_left_s for n in "ab"] == [1.0, 1.0]


class TestAllDown:
    def test_a_pick_says_so_and_when_the_next_probe_is(self) -> None:
        world = Watched()
        world.fail(cause="timeout")
        world.fail(cause="refused")
        world.pass_time(0.25)
        with pytest.raises(RequestError, match="endpoints-down: a: 2 failures") as caught:
            world.endpoints.pick()
        error = caught.value
        assert (error.code, error.may_have_run, error.status) == ("endpoints-down", False, None)
        assert error.retry_after_s == 0.75
        assert "refused" in error.text
        assert world.endpoints.next_probe_s == 0.75

    def test_the_first_that_passes_its_probes_is_current(self) -> None:
        world = Watched()
        world.fail()
        world.fail()
        for _ in range(2):
            world.pass_time(1.0)
            world.probe({"a": BAD})
        assert world.endpoints.pick().name == "b"
        assert world.switches[-1] == Switch(
            None, "b", 2 * S, "all were down, and b passed its probes"
        )

    def test_no_probe_is_due_while_all_are_out(self) -> None:
        world = Watched("abc", probes_max=2)
        first, second = world.endpoints.begin_probes()
        assert (first.name, second.name) == ("a", "b")
        assert world.endpoints.next_probe_s is None
        assert world.endpoints.begin_probes() == []
        first.done(GOOD)
        assert world.endpoints.next_probe_s == 0.0
        assert [probe.name for probe in world.endpoints.begin_probes()] == ["c"]


class TestDraining:
    def test_calls_under_way_finish_where_they_are(self) -> None:
        world = Watched()
        staying = [world.endpoints.pick() for _ in range(2)]
        world.fail()
        assert (world.endpoints.current, world.drained) == ("b", [])
        assert [call.place for call in staying] == ["A", "A"]
        staying[0].done(GOOD)
        assert world.row("a").is_draining
        staying[1].done(GOOD)
        assert world.drained == ["a"]
        assert not world.row("a").is_draining

    def test_one_without_calls_is_drained_at_once(self) -> None:
        world = Watched()
        world.fail()
        assert world.drained == ["a"]

    def test_one_that_is_current_again_is_not_drained(self) -> None:
        world = Watched()
        staying = world.endpoints.pick()
        world.fail()
        for _ in range(2):
            world.pass_time(1.0)
            world.probe({})
        world.fail()
        assert (world.endpoints.current, world.drained) == ("a", ["b"])
        staying.done(GOOD)
        assert world.drained == ["b"]

    def test_a_probe_that_is_out_does_not_keep_it_from_being_drained(self) -> None:
        world = Watched()
        world.endpoints.begin_probes()
        world.fail()
        assert world.drained == ["a"]

    def test_a_callback_that_raises_is_logged_and_changes_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def raising(switch: Switch) -> None:
            raise LookupError(switch.after)

        drained: list[str] = []
        endpoints = Endpoints(
            Clock(), low, {"a": 1, "b": 2}, EndpointRules(failures_max=1),
            on_switch=raising, on_drained=drained.append,
        )  # fmt: skip
        staying, failing = endpoints.pick(), endpoints.pick()
        failing.done(BAD)
        assert "LookupError: b" in caplog.text
        assert (endpoints.current, drained) == ("b", [])
        staying.done(GOOD)
        assert drained == ["a"]


class TestCalls:
    def test_a_call_counts_once(self) -> None:
        world = Watched()
        call = world.endpoints.pick()
        for _ in range(5):
            call.done(BAD)
        row = world.row("a")
        assert (row.calls, row.failures, row.calls_out) == (1, 1, 0)

    def test_a_block_gives_back_what_was_not_said(self) -> None:
        world = Watched()
        with pytest.raises(KeyError), world.endpoints.pick():
            raise KeyError
        row = world.row("a")
        assert (row.calls, row.calls_out, row.state) == (0, 0, EndpointState.UNKNOWN)

    def test_a_latency_that_is_not_told_is_since_the_pick(self) -> None:
        world = Watched()
        call = world.endpoints.pick()
        world.pass_time(0.25)
        call.done(GOOD)
        assert world.row("a").call_s == pytest.approx(0.25)
        assert world.row("a").probe_s is None

    @pytest.mark.parametrize("latency_s", [-0.1, nan, inf])
    def test_a_latency_that_is_none_is_refused(self, latency_s: float) -> None:
        call = Watched().endpoints.pick()
        with pytest.raises(UsageError):
            call.done(GOOD, latency_s)

    @pytest.mark.parametrize(
        "rules",
        [{"failures_max": 0}, {"reports_min": 0}, {"probes_min": 0}, {"probes_needed": 0},
         {"probes_max": 0}, {"tau_s": 0.0}, {"tau_s": inf}, {"quarantine_s": 0.0},
         {"probe_s": nan}, {"gain_min_s": -1.0}, {"better_for_s": inf}, {"hold_s": nan},
         {"failure_rate_max": 0.0}, {"ratio": 1.1}, {"ratio": nan}, {"quarantine_s": 61.0},
         {"quarantine_max_s": inf}],
    )  # fmt: skip
    def test_rules_that_make_no_sense_are_refused(self, rules: dict[str, float]) -> None:
        with pytest.raises(UsageError):
            EndpointRules(**rules)  # type: ignore[arg-type]

    def test_no_place_is_refused(self) -> None:
        with pytest.raises(UsageError):
            Endpoints(Clock(), low, {})


class TestBetter:
    def better(self, world: Watched, probes: int) -> None:
        """Probe both for so many seconds; b takes a tenth of the time."""
        for _ in range(probes):
            world.pass_time(1.0)
            for probe in world.endpoints.begin_probes():
                probe.done(GOOD, 0.1 if probe.name == "a" else 0.01)

    def world(self, **rules: float) -> Watched:
        return Watched(better_for_s=5.0, probes_min=2, hold_s=0.0, **rules)

    def test_it_has_to_last(self) -> None:
        world = self.world()
        self.better(world, 6)  # it shows by the second
        assert world.switches == []
        self.better(world, 1)
        (switch,) = world.switches
        assert switch == Switch("a", "b", 7 * S, "b answers in 0.01 s, a in 0.1 s")

    def test_behind_a_change_the_time_of_a_third_one_begins_anew(self) -> None:
        world = Watched("abc", better_for_s=5.0, probes_min=2, hold_s=0.0, probes_max=3)
        for n in range(1, 14):
            world.pass_time(1.0)
            for probe in world.endpoints.begin_probes():
                is_heard = probe.name != "c" or n > 2
                latency_s = {"a": 0.1, "b": 0.01, "c": 0.001}[probe.name]
                probe.done(GOOD if is_heard else NOTHING, latency_s)
        assert [(s.after, s.mono // S) for s in world.switches] == [("b", 7), ("c", 12)]

    def test_a_failure_begins_its_time_anew(self) -> None:
        world = self.world()
        self.better(world, 5)
        world.pass_time(1.0)
        world.probe({"b": BAD}, 0.1)
        self.better(world, 5)
        assert world.switches == []
        self.better(world, 1)
        assert [s.after for s in world.switches] == ["b"]

    def test_what_is_faster_by_next_to_nothing_is_not_better(self) -> None:
        world = self.world(gain_min_s=0.091)
        self.better(world, 60)
        assert world.switches == []

    def test_both_have_to_be_seen(self) -> None:
        world = self.world(probes_max=1)
        for _ in range(60):  # whoever is due the longest: in turn
            world.pass_time(10.0)
            for probe in world.endpoints.begin_probes():
                probe.done(GOOD if probe.name == "b" else NOTHING, 0.01)
        assert world.row("a").state is EndpointState.UNKNOWN
        assert world.switches == []

    def test_calls_do_not_stand_for_probes(self) -> None:
        world = self.world()
        self.better(world, 2)
        for _ in range(60):
            world.pass_time(1.0)
            for probe in world.endpoints.begin_probes():
                probe.done(GOOD if probe.name == "b" else NOTHING, 0.01)
            world.endpoints.pick().done(GOOD, 0.1)
        assert world.switches == []

    def test_one_that_was_never_heard_of_is_not_better(self) -> None:
        world = self.world()
        for _ in range(60):
            world.pass_time(1.0)
            for probe in world.endpoints.begin_probes():
                probe.done(GOOD if probe.name == "a" else NOTHING, 0.1)
        assert world.switches == []

    def test_nothing_is_changed_of_free_will_while_it_is_held(self) -> None:
        world = Watched(better_for_s=2.0, probes_min=1, hold_s=30.0)
        self.better(world, 6)
        assert world.endpoints.current == "b"
        changed = world.switches[-1].mono
        for _ in range(40):
            world.pass_time(1.0)
            for probe in world.endpoints.begin_probes():
                probe.done(GOOD, 0.001 if probe.name == "a" else 0.5)
        assert [s.after for s in world.switches] == ["b", "a"]
        assert world.switches[-1].mono == changed + 30 * S
