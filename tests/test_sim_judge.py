"""The judge: perfect signals pass, and every single alteration fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module, util
from typing import Any

import numpy as np
import pytest

from crosswire.sim import Plan, Scenario, Truth, Verdict, find_truth, judge, make_plan, record

HEAD = [
    ("seq", "<u8"), ("opp_id", "<u8"), ("rule_id", "<u4"), ("kind", "u1"), ("event", "u1"),
    ("n_legs", "u1"), ("close_reason", "u1"), ("gates", "<u4"), ("flags", "<u4"),
    ("ts_exch", "<i8"), ("ts_rx", "<i8"), ("mono_rx", "<i8"), ("d_decode", "<u4"),
    ("d_book", "<u4"), ("d_detect", "<u4"), ("d_publish", "<u4"), ("ts_open", "<i8"),
    ("qty", "<f8"), ("notional_ref", "<f8"), ("profit_ref", "<f8"), ("ev_ref", "<f8"),
    ("gross_bps", "<f4"), ("net_bps", "<f4"), ("worst_bps", "<f4"), ("risk_bps", "<f4"),
]  # fmt: skip
LEG = [
    ("venue", "<u2"), ("side", "i1"), ("fee_mode", "u1"), ("instrument", "<u4"), ("vwap", "<f8"),
    ("limit", "<f8"), ("qty", "<f8"), ("book_seq", "<u8"), ("ts_exch", "<i8"), ("age_us", "<u4"),
    ("lag_us", "<u4"), ("skew_us", "<i4"), ("skew_err_us", "<u4"),
]  # fmt: skip


def signal_dtype() -> np.dtype[Any]:
    """Return the engine's own dtype where it is built, else the one that was agreed."""
    if util.find_spec("crosswire.records") is not None:
        try:
            found: np.dtype[Any] = import_module("crosswire.records").SIGNAL_DTYPE
        except (ImportError, AttributeError):
            pass
        else:
            return found
    return np.dtype([*HEAD, ("legs", LEG, (4,))])


@cache
def run() -> tuple[Plan, Truth]:
    scenario = Scenario(seed=11, seconds=6.0, rate=900.0)
    plan = make_plan(scenario)
    return plan, find_truth(record(scenario, plan))


def perfect_signals(truth: Truth) -> np.ndarray[Any, Any]:
    """Return the signals of an engine that makes no mistake."""
    events: list[tuple[int, int, Any, Any]] = []
    for opp_id, interval in enumerate(truth.intervals, start=1):
        for n, point in enumerate(interval.points):
            events.append((point.ts_rx, opp_id, interval, (2 if n else 1, point)))
        if interval.close is not None:
            events.append((interval.close.ts_rx, opp_id, interval, (3, interval.end)))
    events.sort(key=lambda item: item[0])
    signals = np.zeros(len(events), signal_dtype())
    rows = zip(signals, events, strict=True)
    for seq, (row, (ts_rx, opp_id, interval, (event, point))) in enumerate(rows):
        row["seq"], row["opp_id"], row["rule_id"], row["event"] = seq, opp_id, interval.rule, event
        row["kind"], row["n_legs"], row["ts_rx"], row["mono_rx"] = 1, 2, ts_rx, point.mono_rx
        row["ts_open"], row["ts_exch"] = interval.points[0].ts_rx, point.ts_exch
        row["gates"], row["close_reason"] = point.gates, reason_of(interval) if event == 3 else 0
        row["net_bps"], row["gross_bps"], row["qty"] = point.net_bps, point.gross_bps, point.qty
        row["d_publish"] = 0xFFFFFFFF
        row["worst_bps"], row["risk_bps"], row["ev_ref"] = point.net_bps, np.nan, np.nan
        row["notional_ref"], row["profit_ref"] = point.notional, point.profit
        for leg, side, instrument, book_seq, state in (
            (0, 1, interval.buy, point.buy_seq, point.buy),
            (1, -1, interval.sell, point.sell_seq, point.sell),
        ):
            fill = row["legs"][leg]
            fill["side"], fill["instrument"], fill["book_seq"] = side, instrument, book_seq
            fill["venue"], fill["limit"], fill["vwap"] = state.venue, state.limit, state.limit
            fill["lag_us"] = fill["skew_err_us"] = 0xFFFFFFFF
            fill["qty"], fill["ts_exch"] = point.qty, state.ts_exch
            fill["age_us"] = (point.mono_rx - state.mono_rx) // 1000
    return signals


def reason_of(interval: Any) -> int:
    """Return why an interval was closed, as docs/signals.md numbers it."""
    if interval.close.reason != "moved":
        return {"gate": 4, "liveness": 5, "lost": 6}[interval.close.reason]
    return 1 if interval.end.trigger_instrument == interval.buy else 2


def perfect_counts(truth: Truth) -> dict[str, dict[str, dict[str, int]]]:
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (name, symbol, kind), count in truth.counts.items():
        counts.setdefault(name, {}).setdefault(symbol, {})[kind] = count
    return counts


def verdict_of(signals: np.ndarray[Any, Any], **changes: Any) -> Verdict:
    plan, truth = run()
    options = {"plants": plan.plants, "baits": plan.baits, "counts": perfect_counts(truth)}
    return judge(truth, signals, **{**options, **changes})


def test_perfect_signals_pass() -> None:
    plan, truth = run()
    verdict = verdict_of(perfect_signals(truth))
    assert verdict.ok
    assert verdict.found == verdict.planted == [plant.id for plant in plan.plants]
    assert verdict.baits == len(plan.baits)
    assert (verdict.baits_taken, verdict.unseen, verdict.details) == ([], {}, [])
    assert verdict.intervals == verdict.opportunities == len(truth.intervals)


def test_the_simulators_report_is_taken_as_well_as_its_plants() -> None:
    plan, truth = run()
    plants = [plant.as_dict() for plant in plan.plants]
    baits = [bait.as_dict() for bait in plan.baits]
    assert verdict_of(perfect_signals(truth), plants=plants, baits=baits).found


def test_a_recording_may_be_given_in_place_of_its_truth() -> None:
    scenario = Scenario(seed=11, seconds=6.0, rate=900.0)
    plan = make_plan(scenario)
    entries = list(record(scenario, plan))
    _, truth = run()
    verdict = judge(
        entries, perfect_signals(truth), plants=plan.plants, counts=perfect_counts(truth)
    )
    assert verdict.ok


def test_no_signals_miss_everything() -> None:
    _, truth = run()
    verdict = verdict_of(np.zeros(0, signal_dtype()))
    assert verdict.missed == len(truth.intervals)
    assert not verdict.ok
    assert verdict.found == []
    assert "the engine has nothing" in verdict.details[0]


def first(signals: np.ndarray[Any, Any], event: int) -> int:
    return int(np.flatnonzero(signals["event"] == event)[0])


def shift_time(event: int) -> Callable[[np.ndarray[Any, Any]], None]:
    def change(signals: np.ndarray[Any, Any]) -> None:
        signals["ts_rx"][first(signals, event)] += 1

    return change


def set_leg(name: str, leg: int, event: int) -> Callable[[np.ndarray[Any, Any]], None]:
    def change(signals: np.ndarray[Any, Any]) -> None:
        signals["legs"][name][first(signals, event), leg] += 1

    return change


def set_field(name: str, event: int, change_by: float) -> Callable[[np.ndarray[Any, Any]], None]:
    def change(signals: np.ndarray[Any, Any]) -> None:
        row = first(signals, event)
        value = signals[name][row] + np.float64(change_by)
        signals[name][row] = 0 if np.isnan(value) else value

    return change


def scale_qty(signals: np.ndarray[Any, Any]) -> None:
    signals["qty"][first(signals, 2)] *= 1 + 3e-9


def no_number(signals: np.ndarray[Any, Any]) -> None:
    signals["net_bps"][first(signals, 1)] = np.nan


def swap_sides(signals: np.ndarray[Any, Any]) -> None:
    legs = signals["legs"][first(signals, 1)]
    legs["side"][:2] = (-1, 1)


def swap_legs(signals: np.ndarray[Any, Any]) -> None:
    chosen = signals["opp_id"] == signals["opp_id"][0]
    legs = signals["legs"][chosen].copy()
    legs["instrument"][:, [0, 1]] = legs["instrument"][:, [1, 0]]
    signals["legs"][chosen] = legs


def other_version(signals: np.ndarray[Any, Any]) -> None:
    signals["legs"]["book_seq"][first(signals, 2), 1] += 1


def other_rule(signals: np.ndarray[Any, Any]) -> None:
    signals["rule_id"][first(signals, 1)] += 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(shift_time(1), id="ts-of-open"),
        pytest.param(shift_time(2), id="ts-of-update"),
        pytest.param(shift_time(3), id="ts-of-close"),
        pytest.param(set_field("net_bps", 1, 0.02), id="net-of-open"),
        pytest.param(set_field("net_bps", 2, -0.02), id="net-of-update"),
        pytest.param(set_field("gross_bps", 1, 0.02), id="gross"),
        pytest.param(set_field("event", 2, -1), id="second-open"),
        pytest.param(set_field("event", 3, -1), id="update-for-close"),
        pytest.param(scale_qty, id="qty"),
        pytest.param(no_number, id="edge-is-no-number"),
        pytest.param(swap_sides, id="sides"),
        pytest.param(swap_legs, id="legs"),
        pytest.param(other_version, id="book-version"),
        pytest.param(other_rule, id="rule"),
        *[
            pytest.param(set_field(name, event, 1), id=f"{name}-of-{event}")
            for name in (
                "ts_open",
                "mono_rx",
                "ts_exch",
                "kind",
                "n_legs",
                "gates",
                "close_reason",
                "worst_bps",
                "risk_bps",
                "ev_ref",
                "qty",
                "notional_ref",
                "profit_ref",
            )
            for event in (1, 2, 3)
        ],
        *[
            pytest.param(set_leg(name, leg, event), id=f"{name}-of-leg-{leg}-of-{event}")
            for name in (
                "venue",
                "side",
                "instrument",
                "vwap",
                "limit",
                "qty",
                "book_seq",
                "ts_exch",
                "age_us",
            )
            for leg in (0, 1)
            for event in (1, 2, 3)
        ],
    ],
)
def test_a_single_alteration_fails(change: Callable[[np.ndarray[Any, Any]], None]) -> None:
    _, truth = run()
    signals = perfect_signals(truth)
    change(signals)
    verdict = verdict_of(signals)
    assert (verdict.missed, verdict.false) == (1, 1)
    assert not verdict.ok
    assert verdict.details


@pytest.mark.parametrize("event", [1, 2, 3])
def test_a_dropped_event_fails(event: int) -> None:
    _, truth = run()
    signals = perfect_signals(truth)
    verdict = verdict_of(np.delete(signals, first(signals, event)))
    assert (verdict.missed, verdict.false) == (1, 1)


def test_a_number_that_is_left_out_is_a_hole() -> None:
    _, truth = run()
    signals = perfect_signals(truth)
    signals["seq"][len(signals) // 2 :] += 1
    verdict = verdict_of(signals)
    assert (verdict.missed, verdict.false, verdict.holes) == (0, 0, 1)
    assert not verdict.ok
    assert verdict.details[0].startswith("seq ")
    signals = perfect_signals(truth)
    signals["opp_id"][signals["opp_id"] > 3] += 1
    verdict = verdict_of(signals)
    assert (verdict.missed, verdict.false, verdict.holes) == (0, 0, 1)
    assert verdict.details == ["opp_id 5 follows 3"]


def test_an_edge_within_the_tolerance_passes() -> None:
    _, truth = run()
    signals = perfect_signals(truth)
    signals["net_bps"] += 0.009
    assert verdict_of(signals).ok


def test_an_extra_opportunity_is_false() -> None:
    _, truth = run()
    signals = perfect_signals(truth)
    extra = signals[signals["opp_id"] == 1].copy()
    extra["opp_id"] = 10_000
    verdict = verdict_of(np.concatenate([signals, extra]))
    assert (verdict.missed, verdict.false) == (0, 1)
    assert not verdict.ok
    assert verdict.details[0].startswith("false: 10000 rule")


def test_a_missing_opportunity_is_missed_and_its_plant_not_found() -> None:
    plan, truth = run()
    plant = plan.plants[0]
    number = next(
        n
        for n, interval in enumerate(truth.intervals, start=1)
        if interval.points[0].trigger_seq == plant.seq_open
        and truth.instruments[interval.buy].venue == plant.buy
        and truth.instruments[interval.sell].venue == plant.sell
    )
    signals = perfect_signals(truth)
    verdict = verdict_of(signals[signals["opp_id"] != number])
    assert (verdict.missed, verdict.false) == (1, 0)
    assert plant.id in verdict.planted
    assert plant.id not in verdict.found


def test_a_bait_that_is_taken_is_told() -> None:
    plan, truth = run()
    ids = {(item.venue, item.symbol[:3]): item.id for item in truth.instruments.values()}
    for bait in plan.baits:
        extra = np.zeros(1, signal_dtype())
        extra["opp_id"], extra["event"] = 10_000, 1
        legs = extra["legs"][0]
        legs["instrument"][:2] = [ids[name, bait.symbol[:3]] for name in (bait.buy, bait.sell)]
        legs["book_seq"][:2] = bait.seq_open
        verdict = verdict_of(np.concatenate([perfect_signals(truth), extra]))
        assert verdict.baits_taken == [bait.id]
        assert verdict.baits_real == []
        assert verdict.false == 1
        assert f"bait {bait.id} ({bait.kind}) was taken" in verdict.details


def test_a_bait_that_is_real_in_what_was_received_is_no_mistake() -> None:
    scenario = Scenario(seed=11, seconds=6.0, rate=900.0)
    plan = make_plan(scenario)
    head, *rest = record(scenario, plan)
    patient = {**head.json(), "liveness_limit_s": dict.fromkeys(scenario.venues, 60.0)}
    truth = find_truth([head._replace(payload=json.dumps(patient).encode()), *rest])
    frozen = [bait.id for bait in plan.baits if bait.kind == "frozen_leg"]
    options = {"baits": plan.baits, "counts": perfect_counts(truth)}
    verdict = judge(truth, perfect_signals(truth), **options)
    assert verdict.ok
    assert verdict.baits_real == frozen != []
    assert set(verdict.baits_judged) == {bait.id for bait in plan.baits} - set(frozen)
    assert (verdict.baits_taken, verdict.details) == ([], [])
    silent = judge(truth, np.zeros(0, signal_dtype()), **options)
    assert silent.missed == len(truth.intervals)
    assert silent.baits_taken == []


def test_a_miscount_is_lost() -> None:
    _, truth = run()
    counts = perfect_counts(truth)
    counts["okx"]["BTC-USDT"]["trades"] -= 2
    counts["okx"]["DOGE-USDT"] = {"trades": 1}
    verdict = verdict_of(perfect_signals(truth), counts=counts)
    assert verdict.lost == 3
    assert not verdict.ok
    assert len(verdict.details) == 2


def test_a_plant_that_was_not_received_is_unseen() -> None:
    plan, truth = run()
    plant = plan.plants[1].as_dict()
    never = {**plan.plants[0].as_dict(), "seq_open": 0}
    lost = {**plant, "id": 77, "seq_open": plant["seq_close"] + 1, "seq_close": 0}
    verdict = verdict_of(perfect_signals(truth), plants=[never, lost])
    assert verdict.unseen == {
        never["id"]: "it was never sent",
        77: "its opening quote was not received",
    }
    assert (verdict.planted, verdict.offline) == ([], {})


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_plant_is_offline_only_where_a_leg_was_not_quoted_while_it_stood(is_lost: bool) -> None:
    plan, truth = run()
    plant = plan.plants[1]
    ids = {item.id for item in truth.instruments.values() if item.venue == plant.leg}
    spans = {number: list(spans) for number, spans in truth.quoted.items()}
    for number in ids:
        [(start, end)] = spans[number]
        at = plant.seq_open - (0 if is_lost else 10**9)
        spans[number] = [(start, at - 1), (at + 500_000_000, end)]
    nothing = replace(truth, quoted=spans, intervals=[])
    verdict = judge(nothing, [], plants=[plant], counts=perfect_counts(truth))
    assert list(verdict.offline) == [plant.id] * is_lost
    assert list(verdict.unseen) == [plant.id] * (not is_lost)


def test_a_plant_that_stood_while_nothing_was_read_has_vanished() -> None:
    plan, truth = run()
    plant = plan.plants[2]
    elsewhere = {**plant.as_dict(), "buy": "okx", "sell": "okx"}
    legs = {item.id for item in truth.instruments.values()}
    received = replace(truth, seqs={number: {plant.seq_open} for number in legs})
    signals = perfect_signals(truth)

    def judged(*pauses: tuple[int, int]) -> Verdict:
        seen = replace(received, pauses=list(pauses))
        return judge(seen, signals, plants=[elsewhere], counts=perfect_counts(truth))

    ms = 1_000_000
    over = (plant.seq_open - 600 * ms, plant.seq_open + 112 * ms)
    assert judged(over).vanished == {plant.id: "nothing was read for 712 ms of its time"}
    assert judged(over).unseen == {}
    before = (plant.seq_open - 900 * ms, plant.seq_open - 151 * ms)
    after = (plant.seq_close, plant.seq_close + 900 * ms)
    assert list(judged(before, after).unseen) == list(judged().unseen) == [plant.id]
