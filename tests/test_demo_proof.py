"""What fails a run of the demo, and what must not: in simulated time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from test_demo import Mutation, play, run_and_doubt

from crosswire.capture import Entry, Kind
from crosswire.sim import find_truth
from crosswire.venues import venue_names


class TestAShortRun:
    @pytest.mark.parametrize("seconds", [2.0, 3.0, 4.0, 5.0, 6.0])
    @pytest.mark.parametrize("venues", [venue_names(), venue_names()[:2]])
    @pytest.mark.parametrize("faults", [("cut",), ("cut", "refuse")])
    def test_an_ideal_one_proves_enough(
        self, seconds: float, venues: tuple[str, ...], faults: tuple[str, ...]
    ) -> None:
        for seed in range(310, 313):
            verdict, doubts = run_and_doubt(play(seed, faults, seconds, venues))
            assert verdict.ok, verdict.details
            assert doubts == []


class TestTheTimer:
    def test_a_busy_machine_that_lets_the_process_run_in_slices_is_no_fault(self) -> None:
        def slices(entries: list[Entry]) -> Iterator[Entry]:
            """For 3 s there are 10 ms of a backlog every 90 ms, and no timer."""
            first = entries[0].mono_rx + 1_000_000_000
            for entry in entries:
                after = entry.mono_rx - first
                if not 0 <= after < 3_000_000_000:
                    yield entry
                elif entry.kind is not Kind.TICK:
                    late = 80_000_000 - after % 90_000_000 * 8 // 9
                    yield entry._replace(ts_rx=entry.ts_rx + late, mono_rx=entry.mono_rx + late)

        played = play(100)
        entries = list(slices(played.entries))
        entries.sort(key=lambda entry: entry.mono_rx)
        truth = find_truth(entries)
        assert truth.pauses == []
        assert truth.timer_gap_ns < 500_000_000
        _, doubts = run_and_doubt(replace(played, entries=entries, truth=truth))
        assert not any("timer" in doubt for doubt in doubts)

    def test_one_that_does_not_fire_while_entries_come_densely_is_a_fault(self) -> None:
        def without_ticks(entries: list[Entry]) -> list[Entry]:
            return [entry for entry in entries if entry.kind is not Kind.TICK]

        _, doubts = run_and_doubt(play(100), Mutation(received=without_ticks))
        assert any("the timer did not fire for" in doubt for doubt in doubts)
