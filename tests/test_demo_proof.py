"""What fails a run of the demo, and what must not: in simulated time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_demo import CLOSE_NET_BPS, Mutation, play, run, run_and_doubt

from crosswire.capture import Entry, Kind
from crosswire.demo import (
    CLOSE_BELOW_OPEN_BPS,
    Demo,
    DemoOptions,
    demo_config,
    find_errors,
)
from crosswire.errors import RecordingError
from crosswire.records import SIGNAL_DTYPE
from crosswire.runtime import Runtime
from crosswire.sim import Scenario, Verdict, config_of, find_doubts, find_truth, judge
from crosswire.sim.market import text_frame
from crosswire.sim.plan import DIPS_BPS
from crosswire.sim.proof import _check_terms
from crosswire.sim.recorded import TICK_NS
from crosswire.venues import venue, venue_names


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


def with_clocks(
    utc: Callable[[int], int], mono: Callable[[int], int]
) -> Callable[[list[Entry]], list[Entry]]:
    """Return what stamps entries by other clocks; each is told the ns since the start."""

    def stamp(entries: list[Entry]) -> list[Entry]:
        ts, at = entries[0].ts_rx, entries[0].mono_rx
        return [
            entry._replace(ts_rx=ts + utc(entry.ts_rx - ts), mono_rx=at + mono(entry.mono_rx - at))
            for entry in entries
        ]

    return stamp


def doubts_of(
    utc: Callable[[int], int] = int, mono: Callable[[int], int] = int, seed: int = 100
) -> list[str]:
    """Return why a run that was stamped by these clocks proves nothing."""
    return run_and_doubt(play(seed), Mutation(received=with_clocks(utc, mono)))[1]


class TestTheClocks:
    @pytest.mark.parametrize(
        ("utc", "mono"),
        [
            (int, lambda ns: ns // 2),
            (int, lambda ns: 0),
            (lambda ns: ns // 10**9 * 10**9, int),
            (lambda ns: ns + 10_000_000 * (ns > 10**9), int),
        ],
        ids=["monotonic-at-half-speed", "monotonic-stands-still", "utc-by-seconds", "utc-was-set"],
    )
    def test_they_go_together(self, utc: Callable[[int], int], mono: Callable[[int], int]) -> None:
        assert any("clock came" in doubt for doubt in doubts_of(utc, mono))

    def test_one_that_is_being_corrected_is_right(self) -> None:
        assert doubts_of(lambda ns: ns + ns * 400 // 1_000_000) == []

    def test_a_look_at_both_that_was_interrupted_is_no_fault(self) -> None:
        assert doubts_of(mono=lambda ns: ns + 3_000_000 * (10**9 < ns < 10**9 + 10_000_000)) == []

    def test_nothing_is_read_before_it_was_sent(self) -> None:
        doubts = doubts_of(lambda ns: ns - 5_000_000)
        assert any("ms before it was sent" in doubt for doubt in doubts)

    def test_nothing_is_read_long_after_it_was_sent(self) -> None:
        doubts = doubts_of(lambda ns: ns + 20_000_000_000)
        assert any("ms after it was sent" in doubt for doubt in doubts)


class TestConnections:
    def test_each_that_lives_is_subscribed(self) -> None:
        played = play(200, ("cut",), 10.0)
        assert run_and_doubt(played)[1] == []
        name = max(played.sent, key=lambda name: played.sent[name][0].cut_ns)
        first, *others = played.sent[name]
        assert first.cut_ns - played.entries[0].ts_rx > 2_000_000_000
        gone = f"trades {venue(name).native('BTC/USDT')}"
        streams = {stream: count for stream, count in first.streams.items() if stream != gone}
        sent = {**played.sent, name: [replace(first, streams=streams), *others]}
        [doubt] = run_and_doubt(replace(played, sent=sent))[1]
        assert f"{name}: connection 1: {gone} were not subscribed for" in doubt

    def test_what_is_received_has_the_bytes_that_were_sent(self) -> None:
        def change_a_size(entries: list[Entry]) -> list[Entry]:
            at = next(n for n, e in enumerate(entries) if b'"q":"' in e.payload)
            payload = entries[at].payload
            first = payload.index(b'"q":"') + 5
            digit = b"1" if payload[first] != ord("1") else b"2"
            payload = payload[:first] + digit + payload[first + 1 :]
            return [*entries[:at], entries[at]._replace(payload=payload), *entries[at + 1 :]]

        verdict, [doubt] = run_and_doubt(play(100), Mutation(received=change_a_size))
        assert verdict.ok  # it is the size of a trade
        assert "has not the bytes that were sent" in doubt

    def test_no_plant_is_offline_where_nothing_is_broken(self) -> None:
        played = play(100)
        verdict, _ = run_and_doubt(played)
        verdict.offline[77] = "a leg was lost"
        doubts = find_doubts(
            played.truth, verdict, played.sent, played.scenario,
            plants=len(played.plan.plants), close_net_bps=CLOSE_NET_BPS, advance_ns=TICK_NS,
        )  # fmt: skip
        assert doubts == ["plant 77 left no trace: a leg was lost"]


class TestWhatIsNoMessage:
    @pytest.mark.parametrize(
        "text",
        [
            '{"stream":"btcusdt@bookTicker","data":{"u":1',
            '{"stream":"btcusdt@bookTicker","data":{"s":"BTCUSDT"}}',
            '{"stream":"btcusdt@bookTicker","data":'
            '{"u":1,"s":"BTCUSDT","b":"x","B":"1","a":"2","A":"1"}}',
        ],
        ids=["cut-short", "without-prices", "with-words-for-prices"],
    )
    def test_it_is_told(self, text: str) -> None:
        played = play(100)
        entries = list(played.entries)
        at = next(n for n, e in enumerate(entries) if e.kind is Kind.READ and e.line == 1)
        entries[at] = entries[at]._replace(payload=text_frame(text))
        _, doubts = run_and_doubt(played, Mutation(received=lambda _: entries))
        assert any("is not the one that was sent" in doubt for doubt in doubts)
        told = [doubt for doubt in doubts if "1 messages could not be read" in doubt]
        assert len(told) == ('"x"' in text)

    def test_pairs_with_and_without_a_limit_can_be_compared(self) -> None:
        def limit_one(entries: list[Entry]) -> list[Entry]:
            config = entries[0].json()
            config["pairs"] = [*config["pairs"], {**config["pairs"][0], "qty_max": 1.0}]
            return [entries[0]._replace(payload=json.dumps(config).encode()), *entries[1:]]

        truth = find_truth(limit_one(play(100).entries)[:1])
        doubts = _check_terms(truth.config, play(100).config)
        assert any("pairs are not the scenario's" in doubt for doubt in doubts)

    def test_a_config_that_is_none_is_an_error_in_words(self) -> None:
        first = play(100).entries[0]
        with pytest.raises(RecordingError, match="CONFIG at"):
            find_truth([first._replace(payload=b"{}")])


class TestBaits:
    def test_one_that_was_real_has_a_reason(self) -> None:
        played = play(100)
        [bait, *_] = [bait for bait in played.plan.baits if bait.kind == "net_negative"]
        plant = played.plan.plants[0]
        real = replace(plant, id=bait.id, kind=bait.kind)
        truth = played.truth
        counts: dict[str, dict[str, dict[str, int]]] = {}
        verdict = judge(truth, np.zeros(0, SIGNAL_DTYPE), baits=[real], counts=counts)
        assert verdict.baits_real == verdict.baits_odd == [bait.id]
        late = replace(truth, late=[(plant.seq_open - 10**9, plant.seq_open - 10**8)])
        verdict = judge(late, np.zeros(0, SIGNAL_DTYPE), baits=[real], counts=counts)
        assert (verdict.baits_real, verdict.baits_odd) == ([bait.id], [])

    def test_of_a_kind_that_was_planned_three_times_one_is_judged(self) -> None:
        played = play(100)
        verdict, _ = run_and_doubt(played)
        verdict.kinds["frozen_leg"] = 3, 0
        doubts = find_doubts(
            played.truth, verdict, played.sent, played.scenario,
            plants=len(played.plan.plants), close_net_bps=CLOSE_NET_BPS, advance_ns=TICK_NS,
        )  # fmt: skip
        assert doubts == ["none of 3 baits of kind frozen_leg could be judged"]


def with_field(name: str, value: int) -> Callable[[Any], Any]:
    """Return what sets a field of every signal; that of a leg is called ``legs.0.name``."""

    def set_field(signals: Any) -> Any:
        *path, field = name.split(".")
        target = signals["legs"][:, int(path[1])] if path else signals
        target[field] = value
        return signals

    return set_field


def with_more(name: str, more: int) -> Callable[[Any], Any]:
    """Return what adds to a field of every signal."""

    def add(signals: Any) -> Any:
        signals[name] += np.uint64(more)
        return signals

    return add


class TestFields:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("flags", 7),
            ("d_publish", 0),
            *((f"legs.{leg}.fee_mode", 1) for leg in (0, 1)),
            *((f"legs.{leg}.lag_us", 5) for leg in (0, 1)),
            *((f"legs.{leg}.skew_us", 9) for leg in (0, 1)),
            *((f"legs.{leg}.skew_err_us", 9) for leg in (0, 1)),
            *((f"legs.{leg}.limit", 123) for leg in (2, 3)),
        ],
    )
    def test_one_that_is_not_used_is_what_it_is_defined_to_be(self, name: str, value: int) -> None:
        verdict = run(play(100), Mutation(signals=with_field(name, value)))
        assert verdict.missed == verdict.intervals > 0

    @pytest.mark.parametrize(("name", "first"), [("seq", 0), ("opp_id", 1)])
    def test_numbers_begin_where_they_are_defined_to(self, name: str, first: int) -> None:
        verdict = run(play(100), Mutation(signals=with_more(name, 1000)))
        assert verdict.holes == 1
        assert f"the first {name} is {first + 1000}, not {first}" in verdict.details

    @pytest.mark.parametrize("venues", [venue_names(), venue_names()[::-1]])
    def test_pairs_have_the_rules_of_a_demo(self, venues: tuple[str, ...]) -> None:
        scenario = Scenario(venues=venues)
        ready = {
            "venues": {name: {"url": "wss://localhost"} for name in venues},
            "symbols": {n: [venue(n).native(s) for s in scenario.symbols] for n in venues},
            "ca": "",
        }
        terms = config_of(scenario)
        names = {i["id"]: (i["venue"], i["symbol"]) for i in terms["instruments"]}
        wanted = [(names[pair["a"]], names[pair["b"]]) for pair in terms["pairs"]]
        pairs = demo_config(DemoOptions(venues=venues), ready).pairs
        natives = [
            tuple((name, venue(name).native(symbol)) for name, symbol in (pair.a, pair.b))
            for pair in pairs
        ]
        assert natives == wanted

    def test_the_rule_of_a_pair_is_one_of_the_terms(self) -> None:
        def exchange_rules(entries: list[Entry]) -> list[Entry]:
            config = entries[0].json()
            one, other, *_ = config["pairs"]
            one["rule"], other["rule"] = other["rule"], one["rule"]
            return [entries[0]._replace(payload=json.dumps(config).encode()), *entries[1:]]

        _, doubts = run_and_doubt(play(100), Mutation(received=exchange_rules))
        assert any("pairs are not the scenario's" in doubt for doubt in doubts)


def test_the_demos_engine_keeps_one_kind_of_dip_and_closes_the_other() -> None:
    kept_bps, closed_bps = DIPS_BPS
    assert kept_bps < CLOSE_BELOW_OPEN_BPS < closed_bps


def test_the_report_tells_the_verdict_in_the_fields_of_its_page() -> None:
    demo = Demo(DemoOptions())
    demo.verdict = Verdict(
        planted=[0] * 2, found=[0] * 3, missed=4, false=5, baits=6, baits_taken=[0] * 7,
        baits_real=[0] * 8, baits_judged=[0] * 9, lost=10, holes=11, opportunities=12,
        unseen=dict.fromkeys(range(13), ""), vanished=dict.fromkeys(range(14), ""),
        offline=dict.fromkeys(range(15), ""),
    )  # fmt: skip
    report = demo._report(TestTheEnginesOwnCounters().runtime())
    names = [
        "planted",
        "found",
        "missed",
        "false",
        "baits",
        "baits_taken",
        "baits_real",
        "baits_judged",
        "lost",
        "holes",
        "opportunities",
        "unseen",
        "vanished",
        "offline",
    ]
    assert [report[name] for name in names] == list(range(2, 16))
    page = (Path(__file__).parent.parent / "docs" / "demo.md").read_text()
    table = page.partition("| field | meaning |")[2].partition("\n\n")[0]
    fields = [row.partition("|")[2].partition("|")[0] for row in table.splitlines()]
    assert {name for field in fields for name in re.findall(r"`(\w+)`", field)} == set(report)


class TestTheEnginesOwnCounters:
    def runtime(self) -> Runtime:
        ready = {
            "venues": {name: {"url": "ws://127.0.0.1:9/"} for name in venue_names()},
            "symbols": {name: [venue(name).native("BTC/USDT")] for name in venue_names()},
            "ca": None,
        }
        return Runtime(demo_config(DemoOptions(), ready))

    def test_one_that_stayed_at_0_is_no_problem(self) -> None:
        assert find_errors(self.runtime()) == []

    def test_a_message_that_was_lost_is_told(self) -> None:
        runtime = self.runtime()
        line = runtime.sessions["binance"].line
        line.open(1, 1)
        line.feed(text_frame('{"stream":"btcusdt@bookTicker","data":{"u":1'), 2, 2)
        [problem] = find_errors(runtime)
        assert problem.startswith("the engine counted 1 errors: ")

    @pytest.mark.parametrize(
        ("counter", "words"),
        [
            ("engine.callback_errors", "on_signals raised 3 times"),
            ("callback_errors", "a callback of the runtime raised 3 times"),
            ("engine.signals_refused", "the engine refused 3 signals"),
        ],
    )
    def test_each_is_told_in_words(self, counter: str, words: str) -> None:
        engine = SimpleNamespace(callback_errors=0, signals_refused=0, errors={"x": 0})
        runtime: Any = SimpleNamespace(engine=engine, callback_errors=0)
        *path, name = counter.split(".")
        setattr(engine if path else runtime, name, 3)
        assert find_errors(runtime) == [words]
