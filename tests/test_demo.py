"""The main job judged: a right engine passes, a wrong one fails, and the view never delays it.

Most of it runs in simulated time: the messages of a seed go into a real engine, and the judge
compares its signals with the slow oracle's truth. A few runs are the real demo, over TLS sockets.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import signal
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fcntl import ioctl
from functools import cache
from pathlib import Path
from termios import FIONREAD
from typing import Any

import numpy as np
import pytest

from crosswire import isa_levels
from crosswire.capture import Entry, Kind
from crosswire.demo import CLOSE_BELOW_OPEN_BPS, Demo, DemoOptions, _data_count, demo_config
from crosswire.engine import Engine
from crosswire.errors import HostError, UsageError
from crosswire.instruments import Pair
from crosswire.line import Line
from crosswire.records import SIGNAL_DTYPE
from crosswire.runtime import Runtime
from crosswire.seam import System
from crosswire.sim import (
    Connection,
    Plan,
    Scenario,
    Truth,
    Verdict,
    find_doubts,
    find_truth,
    judge,
    make_plan,
    record,
)
from crosswire.sim.market import text_frame
from crosswire.sim.plan import LEAD_S
from crosswire.sim.process import Simulator
from crosswire.sim.recorded import TICK_NS
from crosswire.venue import Layout, Record, SimTrade, Slot
from crosswire.venues import dialect, venue, venue_names
from crosswire.watch import view

# ------------------------------------------------------------------ simulated time


CLOSE_NET_BPS = Scenario().min_net_bps - CLOSE_BELOW_OPEN_BPS
"""The demo's."""


@dataclass
class Played:
    """A seed's recording, with the truth about it and what was sent."""

    scenario: Scenario
    plan: Plan
    config: dict[str, Any]
    entries: list[Entry]
    truth: Truth
    sent: dict[str, list[Connection]]


@cache
def play(
    seed: int,
    faults: tuple[str, ...] = (),
    seconds: float = 5.0,
    venues: tuple[str, ...] = venue_names(),
) -> Played:
    """Make a seed's recording; instrument ids count from 0, as an engine's do."""
    scenario = Scenario(seed=seed, seconds=seconds, rate=500.0, faults=faults, venues=venues)
    plan = make_plan(scenario)
    first, *rest = record(scenario, plan, close_net_bps=CLOSE_NET_BPS)
    config = first.json()
    for instrument in config["instruments"]:
        instrument["id"] -= 1
    for pair in config["pairs"]:
        pair["a"], pair["b"] = pair["a"] - 1, pair["b"] - 1
    entries = [first._replace(payload=json.dumps(config).encode()), *rest]
    truth = find_truth(entries)
    return Played(scenario, plan, config, entries, truth, sent_of(scenario, entries, truth))


def sent_of(scenario: Scenario, entries: list[Entry], truth: Truth) -> dict[str, list[Connection]]:
    """Return what the simulator sends in a run in which nothing is on its way for long."""
    lost: dict[str, list[int]] = {name: [] for name in scenario.venues}
    for entry in entries:
        if entry.kind is Kind.LOST:
            lost[scenario.venues[entry.line - 1]].append(entry.ts_rx)
    counts = {f"{word} {venue(name).native(symbol)}": 9
              for name in scenario.venues for symbol in scenario.symbols
              for word in ("quotes", "trades")}  # fmt: skip
    sent: dict[str, list[Connection]] = {name: [] for name in scenario.venues}
    for span in truth.spans:
        cuts = lost[span.venue]
        cut_ns = cuts.pop(0) if cuts else 0
        sent[span.venue].append(Connection(span.stamps[:], span.sums[:], counts, cut_ns))
    return sent


@dataclass
class Mutation:
    """What is wrong with an engine; nothing by default.

    Attributes:
        entries: what it does to what it has received and recorded.
        received: what it does before it records.
    """

    fee: Callable[[float], float] = lambda bps: bps
    layout: Callable[[Layout], Layout] = lambda layout: layout
    liveness_limit_s: Callable[[float], float] = lambda seconds: seconds
    thresholds: Callable[[float, float], tuple[float, float]] = lambda opens, closes: (
        opens,
        closes,
    )
    symbol: Callable[[str, str], str] = lambda name, symbol: symbol
    entries: Callable[[list[Entry]], Iterable[Entry]] = lambda entries: entries
    received: Callable[[list[Entry]], Iterable[Entry]] = lambda entries: entries
    signals: Callable[[Any], Any] = lambda signals: signals


@dataclass
class _Taken:
    batches: list[Any] = field(default_factory=list)

    def take(self, signals: Any) -> None:
        self.batches.append(signals.copy())

    def all(self) -> Any:
        return np.concatenate(self.batches) if self.batches else np.zeros(0, SIGNAL_DTYPE)


def run(played: Played, wrong: Mutation | None = None, isa: str | None = None) -> Verdict:
    """Feed a recording to an engine, and judge what it made of it."""
    return run_and_doubt(played, wrong, isa)[0]


def run_and_doubt(
    played: Played, wrong: Mutation | None = None, isa: str | None = None
) -> tuple[Verdict, list[str]]:
    """Return what is judged of a run, and why it proves nothing."""
    wrong = wrong or Mutation()
    config = played.config
    received = list(wrong.received(played.entries))
    truth = find_truth(received) if received != played.entries else played.truth
    engine = Engine(
        instruments_max=64, pairs_max=64, lines_max=8, venues_max=8, signals_max=256, isa=isa
    )
    for name, limit_s in config["liveness_limit_s"].items():
        engine.add_venue(
            name,
            wrong.layout(venue(name).layout),
            liveness_limit_s=wrong.liveness_limit_s(limit_s),
        )
    for item in config["instruments"]:
        fee_bps = wrong.fee(config["fees_bps"][item["venue"]])
        symbol = wrong.symbol(item["venue"], item["symbol"])
        number = engine.add_instrument(item["venue"], symbol, fee_bps=fee_bps)
        assert number == item["id"]
    opens, closes = wrong.thresholds(config["open_net_bps"], config["close_net_bps"])
    engine.set_pairs([Pair(p["rule"], p["a"], p["b"], opens, closes) for p in config["pairs"]])
    taken = _Taken()
    engine.on_signals = taken.take
    lines: dict[int, Any] = {}
    for entry in wrong.entries(received):
        match entry.kind:
            case Kind.OPENED:
                if entry.line not in lines:
                    lines[entry.line] = Line(engine, entry.json()["venue"])
                lines[entry.line].open(entry.ts_rx, entry.mono_rx)
            case Kind.READ:
                lines[entry.line].feed(entry.payload, entry.ts_rx, entry.mono_rx)
            case Kind.LOST:
                lines[entry.line].lose(entry.ts_rx, entry.mono_rx)
            case Kind.TICK:
                engine.advance(entry.ts_rx, entry.mono_rx)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for item in config["instruments"]:
        counts.setdefault(item["venue"], {})[item["symbol"]] = engine.counts(item["id"])
    assert engine.callback_errors == 0
    verdict = judge(
        truth,
        wrong.signals(taken.all()),
        plants=played.plan.plants,
        baits=played.plan.baits,
        counts=counts,
    )
    return verdict, find_doubts(
        truth, verdict, played.sent, played.scenario,
        plants=len(played.plan.plants), close_net_bps=CLOSE_NET_BPS, advance_ns=TICK_NS,
    )  # fmt: skip


class TestARightEngine:
    @pytest.mark.parametrize("seed", range(100, 124))
    def test_it_finds_everything_and_makes_nothing_up(self, seed: int) -> None:
        played = play(seed)
        verdict, doubts = run_and_doubt(played)
        assert verdict.ok, verdict.details
        assert doubts == []
        assert verdict.found == verdict.planted == [plant.id for plant in played.plan.plants]
        assert len(verdict.planted) == 8
        assert verdict.baits == 8
        assert verdict.baits_real == []
        assert (verdict.missed, verdict.false, verdict.lost) == (0, 0, 0)
        assert (verdict.unseen, verdict.vanished) == ({}, {})
        assert played.truth.pauses == []

    @pytest.mark.kernel
    @pytest.mark.parametrize("seed", [100, 101, 102])
    def test_it_is_right_at_every_instruction_set_level(self, seed: int, isa: str) -> None:
        assert isa in isa_levels()
        assert run(play(seed), isa=isa).ok

    @pytest.mark.parametrize("seed", range(200, 206))
    @pytest.mark.parametrize("faults", [("cut",), ("cut", "refuse")])
    def test_it_is_right_when_connections_break(self, seed: int, faults: tuple[str, ...]) -> None:
        played = play(seed, faults)
        assert any(entry.kind is Kind.LOST for entry in played.entries)
        verdict, doubts = run_and_doubt(played)
        assert verdict.ok, verdict.details
        assert doubts == []
        assert verdict.found == verdict.planted
        assert len(verdict.planted) + len(verdict.offline) == len(played.plan.plants)

    @pytest.mark.parametrize("size", [1, 7, 64])
    def test_it_is_right_however_its_reads_are_cut(self, size: int) -> None:
        def cut(entries: list[Entry]) -> Iterable[Entry]:
            for entry in entries:
                pieces = range(0, len(entry.payload), size) if entry.kind is Kind.READ else ()
                yield from (entry._replace(payload=entry.payload[at : at + size]) for at in pieces)
                if not pieces:
                    yield entry

        assert run(play(100), Mutation(entries=cut)).ok

    @pytest.mark.parametrize("seed", range(100, 106))
    @pytest.mark.parametrize("stall_s", [0.1, 0.7, 1.6])
    def test_it_is_right_when_it_stalls_and_then_reads_line_by_line(
        self, seed: int, stall_s: float
    ) -> None:
        played = stalled(play(seed), round(stall_s * 1e9))
        verdict = run(played)
        assert verdict.ok, verdict.details
        assert (verdict.details, verdict.unseen) == ([], {})
        assert len(verdict.planted) + len(verdict.vanished) == len(played.plan.plants)
        assert verdict.planted
        assert not verdict.vanished or stall_s > LEAD_S


def stalled(played: Played, stall_ns: int) -> Played:
    """Return a run in which nothing is read for a while, and then each line's backlog at once;
    this goes on from the first second to the end."""
    first = played.entries[0].mono_rx + 1_000_000_000

    def read_at(entry: Entry) -> Entry:
        after = entry.mono_rx - first
        wait = -after % stall_ns if after > 0 else 0
        return entry._replace(ts_rx=entry.ts_rx + wait, mono_rx=entry.mono_rx + wait)

    entries = [read_at(entry) for entry in played.entries]
    entries.sort(key=lambda entry: (entry.mono_rx, entry.line))
    return replace(played, entries=entries, truth=find_truth(entries))


_SWAP = {
    Slot.BID: Slot.ASK, Slot.ASK: Slot.BID, Slot.BID_QTY: Slot.ASK_QTY, Slot.ASK_QTY: Slot.BID_QTY,
    Slot.BIDS: Slot.ASKS, Slot.ASKS: Slot.BIDS,
}  # fmt: skip
_SWAP_QTY = {Slot.BID_QTY: Slot.ASK_QTY, Slot.ASK_QTY: Slot.BID_QTY}


def reslot(layout: Layout, swap: dict[Slot, Slot]) -> Layout:
    """Return a layout in which some slots have changed places."""
    return replace(
        layout,
        messages=tuple(
            replace(
                message,
                fields={
                    path: item._replace(slot=swap.get(item.slot, item.slot))
                    for path, item in message.fields.items()
                },
            )
            for message in layout.messages
        ),
    )


def without_every_1000th(entries: list[Entry]) -> Iterable[Entry]:
    """Yield entries, but not every 1000th read."""
    reads = 0
    for entry in entries:
        reads += entry.kind is Kind.READ
        if entry.kind is not Kind.READ or reads % 1000:
            yield entry


def without_losses(entries: list[Entry]) -> Iterable[Entry]:
    """Yield entries, but let nobody know that a connection was lost."""
    lost: set[int] = set()
    for entry in entries:
        if entry.kind is Kind.LOST:
            lost.add(entry.line)
        elif entry.kind is not Kind.OPENED or entry.line not in lost:
            yield entry


def without_connecting_again(entries: list[Entry]) -> Iterable[Entry]:
    """Yield entries, but nothing more of a venue whose connection was lost."""
    lost: set[int] = set()
    for entry in entries:
        if entry.line not in lost:
            yield entry
        if entry.kind is Kind.LOST:
            lost.add(entry.line)


def deaf_for(seconds: float, before: Kind) -> Callable[[list[Entry]], Iterable[Entry]]:
    """Return what leaves out the reads for so long before the first LOST, or after an OPENED that
    follows it; the others go on."""

    def leave_out(entries: list[Entry]) -> Iterable[Entry]:
        end = next(entry for entry in entries if entry.kind is Kind.LOST)
        if before is Kind.OPENED:
            at = entries.index(end)
            end = next(e for e in entries[at:] if e.kind is before and e.line == end.line)
        sign = -1 if before is Kind.LOST else 1
        low, high = sorted((end.mono_rx, end.mono_rx + sign * round(seconds * 1e9)))
        for entry in entries:
            is_near = entry.line == end.line and low <= entry.mono_rx <= high
            if not (is_near and entry.kind is Kind.READ):
                yield entry

    return leave_out


def with_two_exchanged(entries: list[Entry]) -> Iterable[Entry]:
    """Yield entries, two reads of a line in each other's place."""
    line = [n for n, entry in enumerate(entries) if entry.kind is Kind.READ and entry.line == 1]
    one, other = line[100], line[101]
    changed_entries = list(entries)
    changed_entries[one] = entries[one]._replace(payload=entries[other].payload)
    changed_entries[other] = entries[other]._replace(payload=entries[one].payload)
    return changed_entries


def without_kind(kind: Kind) -> Callable[[list[Entry]], Iterable[Entry]]:
    return lambda entries: (entry for entry in entries if entry.kind is not kind)


def one_read_late(entries: list[Entry]) -> Iterable[Entry]:
    """Yield entries, each read's bytes with the stamp of the next one."""
    held: Entry | None = None
    for entry in entries:
        if entry.kind is not Kind.READ:
            yield entry
            continue
        if held is not None:
            yield held._replace(ts_rx=entry.ts_rx, mono_rx=entry.mono_rx)
        held = entry


def exchanged(name: str, symbol: str) -> str:
    """Take one symbol for another at the first venue."""
    one, other = (venue(name).native(unified) for unified in ("BTC/USDT", "ETH/USDT"))
    return {one: other, other: one}.get(symbol, symbol) if name == venue_names()[0] else symbol


def changed(field_name: str, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what changes one field of every signal."""

    def apply(signals: Any) -> Any:
        signals[field_name] = change(signals[field_name])
        return signals

    return apply


MUTANTS: dict[str, Mutation] = {
    "opens-a-hair-too-soon": Mutation(thresholds=lambda opens, closes: (opens - 0.07, closes)),
    "ignores-fees": Mutation(fee=lambda bps: 0.0),
    "takes-one-fee-of-two": Mutation(fee=lambda bps: bps / 2),
    "swaps-sides": Mutation(layout=lambda layout: reslot(layout, _SWAP)),
    "swaps-sizes": Mutation(layout=lambda layout: reslot(layout, _SWAP_QTY)),
    "keeps-a-frozen-leg": Mutation(liveness_limit_s=lambda seconds: 1e9),
    "is-quick-to-call-a-leg-frozen": Mutation(liveness_limit_s=lambda seconds: 0.02),
    "drops-one-message-in-1000": Mutation(entries=without_every_1000th),
    "stamps-late": Mutation(entries=one_read_late),
    "opens-a-little-too-late": Mutation(thresholds=lambda opens, closes: (opens + 2.0, closes)),
    "opens-a-little-too-soon": Mutation(thresholds=lambda opens, closes: (opens - 2.0, closes - 2)),
    "opens-a-hair-too-late": Mutation(thresholds=lambda opens, closes: (opens + 0.07, closes)),
    "has-no-hysteresis": Mutation(thresholds=lambda opens, closes: (opens, opens)),
    "closes-a-little-too-late": Mutation(thresholds=lambda opens, closes: (opens, closes - 0.2)),
    "never-closes": Mutation(thresholds=lambda opens, closes: (opens, -4000.0)),
    "mixes-symbols-up": Mutation(symbol=exchanged),
    "is-silent": Mutation(signals=lambda signals: signals[:0]),
    "forgets-one-signal": Mutation(signals=lambda signals: np.delete(signals, len(signals) // 2)),
    "says-one-thing-twice": Mutation(signals=lambda signals: np.append(signals, signals[-1:])),
    "tells-gross-for-net": Mutation(signals=changed("net_bps", lambda bps: bps + 0.02)),
    "tells-a-wrong-size": Mutation(signals=changed("qty", lambda qty: qty * (1 + 1e-6))),
    "turns-legs-round": Mutation(signals=changed("legs", lambda legs: legs[:, [1, 0, 2, 3]])),
}


NEVER_RECEIVED: dict[str, tuple[Mutation, tuple[str, ...], str]] = {
    "loses-one-message-in-1000": (
        Mutation(received=without_every_1000th), (), "is not the one that was sent"),
    "loses-one-message-in-1000-beside-cuts": (
        Mutation(received=without_every_1000th), ("cut",), "is not the one that was sent"),
    "takes-two-messages-in-the-wrong-order": (
        Mutation(received=with_two_exchanged), (), "is not the one that was sent"),
    "never-connects-again": (
        Mutation(received=without_connecting_again), ("cut", "refuse"), "connections were"),
    "goes-deaf-before-a-cut": (
        Mutation(received=deaf_for(0.3, Kind.LOST)), ("cut",), "ms before it was cut"),
    "is-deaf-for-a-while-after-a-cut": (
        Mutation(received=deaf_for(0.3, Kind.OPENED)), ("cut",), "is not the one that was sent"),
    "has-a-timer-that-never-fires": (
        Mutation(received=without_kind(Kind.TICK)), (), "the timer did not fire for"),
}  # fmt: skip


class TestAWrongEngine:
    @pytest.mark.parametrize("name", NEVER_RECEIVED)
    def test_it_is_doubted_where_its_recording_does_not_hold_what_was_sent(self, name: str) -> None:
        wrong, faults, why = NEVER_RECEIVED[name]
        _, doubts = run_and_doubt(play(200 if faults else 100, faults), wrong)
        assert any(why in text for text in doubts), doubts

    def test_a_little_that_was_under_way_at_a_cut_is_no_doubt(self) -> None:
        wrong = Mutation(received=deaf_for(0.02, Kind.LOST))
        verdict, doubts = run_and_doubt(play(200, ("cut",)), wrong)
        assert verdict.ok, verdict.details
        assert doubts == []

    @pytest.mark.parametrize("seed", [100, 104])
    @pytest.mark.parametrize("name", MUTANTS)
    def test_it_fails(self, name: str, seed: int) -> None:
        verdict = run(play(seed), MUTANTS[name])
        assert not verdict.ok
        assert verdict.details != []

    @pytest.mark.parametrize("seed", [200, 201, 202])
    def test_it_fails_when_it_does_not_learn_of_losses(self, seed: int) -> None:
        played = play(seed, faults=("cut", "refuse"))
        assert not run(played, Mutation(entries=without_losses)).ok

    def test_a_frozen_leg_that_is_kept_is_named_as_a_bait_that_was_taken(self) -> None:
        taken = [
            bait.kind
            for seed in (100, 101, 102, 103)
            for bait in play(seed).plan.baits
            if bait.id in run(play(seed), MUTANTS["keeps-a-frozen-leg"]).baits_taken
        ]
        assert taken
        assert set(taken) == {"frozen_leg"}

    def test_fees_that_are_ignored_take_baits(self) -> None:
        kinds = {
            bait.kind
            for bait in play(100).plan.baits
            if bait.id in run(play(100), MUTANTS["ignores-fees"]).baits_taken
        }
        assert "net_negative" in kinds


# ------------------------------------------------------------------ real sockets


async def demo_of(
    prepare: Callable[[Runtime], None] = lambda runtime: None, **options: Any
) -> tuple[Demo, dict[str, Any]]:
    """Run a demo."""
    said: list[str] = []
    demo = Demo(DemoOptions(**options), say=said.append, prepare=prepare)
    report = await demo.run()
    assert any("ready" in text for text in said)
    return demo, report


async def test_a_demo_of_6_seconds_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    drained: list[int] = []
    drain = Demo._drain

    async def noting(demo: Demo, runtime: Runtime, played: dict[str, Any]) -> None:
        await drain(demo, runtime, played)
        drained.append(_data_count(runtime))

    monkeypatch.setattr(Demo, "_drain", noting)
    frozen = gc.get_freeze_count()
    demo, report = await demo_of(seconds=6.0, seed=8_086_471)
    assert demo.is_right, demo.problems
    assert gc.get_freeze_count() == frozen
    assert len(drained) == 1
    assert report["messages"] > drained[0]  # there were acknowledgements as well
    assert report["planted"] == report["found"] >= 8
    assert (report["missed"], report["false"], report["lost"], report["unseen"]) == (0, 0, 0, 0)
    assert report["baits"] >= 8
    assert report["baits_taken"] == 0
    assert report["messages"] > 20_000
    assert report["opportunities"] >= report["planted"]
    assert all(fields["state"] == "live" for fields in report["venues"].values())
    assert all(fields["reconnects"] == 0 for fields in report["venues"].values())
    assert sum(fields["messages"] for fields in report["venues"].values()) >= report["messages"]
    assert report["problems"] == []
    assert "false 0" in demo.summary(report)


async def test_broken_connections_are_mended() -> None:
    for seed in (
        31,
        37,
        38,
    ):  # a machine too busy for a proof gets another chance, nothing else does
        demo, report = await demo_of(seconds=6.0, seed=seed, faults=("cut", "refuse"))
        if not demo.problems or "proves too little" not in demo.problems[-1]:
            break
    assert demo.is_right, demo.problems
    assert (report["missed"], report["false"], report["lost"]) == (0, 0, 0)
    assert report["found"] == report["planted"] >= 6
    assert report["planted"] + report["vanished"] + report["offline"] == 9
    for fields in report["venues"].values():
        assert 1 <= fields["gaps"] == fields["reconnects"] <= 2
        assert fields["state"] == "live"


async def test_wrong_engines_are_found() -> None:
    def without_pairs(runtime: Runtime) -> None:
        runtime.engine.set_pairs([])

    def forgetful(runtime: Runtime) -> None:
        take = runtime.engine.on_signals
        batches: list[int] = []

        def lossy(signals: Any) -> None:
            batches.append(len(signals))
            if take is not None and len(batches) % 7:
                take(signals)

        runtime.engine.on_signals = lossy

    def unsubscribed(runtime: Runtime) -> None:
        for session in runtime.sessions.values():
            session.streams.clear()

    def half_deaf(runtime: Runtime) -> None:
        session = next(iter(runtime.sessions.values()))
        session.streams[:] = [item for item in session.streams if item[1] is Record.TRADE]

    def gone(runtime: Runtime) -> None:
        for session in runtime.sessions.values():
            session._delay_after = lambda link: 1e9  # type: ignore[method-assign]

    left, silent, lossy, deaf, half = await asyncio.gather(
        demo_of(gone, seconds=2.0, seed=36, faults=("cut",)),
        demo_of(without_pairs, seconds=2.0, seed=32),
        demo_of(forgetful, seconds=2.0, seed=33),
        demo_of(unsubscribed, seconds=2.0, seed=34),
        demo_of(half_deaf, seconds=2.0, seed=35),
    )
    assert not left[0].is_right
    for name, fields in left[1]["venues"].items():
        assert (fields["gaps"], fields["reconnects"]) == (1, 0)
        assert f"{name}: it was not connected at the end" in left[1]["problems"]
        assert f"{name}: 0 reconnects after 1 cuts" in left[0].problems
        assert f"{name}: backing-off at the end, not live" in left[0].problems
    assert silent[1]["missed"] > 0
    assert lossy[1]["missed"] > 0
    assert not silent[0].is_right
    assert not lossy[0].is_right
    assert deaf[1]["found"] == 0
    assert not deaf[0].is_right, "nothing was received, nothing was found, and it counts as right"
    assert "! only 0 of 3 plants could be judged" in deaf[0].summary(deaf[1])
    assert not half[0].is_right
    name = venue_names()[0]
    native = venue(name).native("BTC/USDT")
    assert f"{name}: quotes {native} were not subscribed at the end" in half[0].problems


class TestTheSimulatorsProcess:
    def simulator(
        self, script: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[Simulator, list[str]]:
        """Return one whose process is a shell script, and what it will have said."""
        program = folder / "program"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))
        said: list[str] = []
        return Simulator(Scenario(), said.append), said

    async def test_one_that_did_not_start_is_told_with_its_exit_code_and_last_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = "echo well >&2; echo it needs more >&2; exit 7"
        simulator, said = self.simulator(script, tmp_path, monkeypatch)
        with pytest.raises(HostError) as caught:
            await simulator.__aenter__()
        text = "the simulator did not start (exit code 7): it needs more"
        assert str(caught.value) == text
        assert said == ["well", "it needs more"]

    async def test_one_that_says_nothing_is_told_as_well(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        simulator, _ = self.simulator("kill -9 $$", tmp_path, monkeypatch)
        text = r"did not start \(signal 9\): it said nothing"
        with pytest.raises(HostError, match=text):
            await simulator.__aenter__()

    async def test_one_that_started_and_died_later_is_not_told_as_one_that_did_not_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = 'echo \'{"ready": 1}\'; read word; echo "no room for $word" >&2; exit 5'
        simulator, _ = self.simulator(script, tmp_path, monkeypatch)
        async with simulator:
            assert simulator.ready == {"ready": 1}
            simulator.go()
            with pytest.raises(HostError) as caught:
                await simulator.done()
        text = "the simulator ended before its time (exit code 5): no room for go"
        assert str(caught.value) == text

    async def test_one_that_is_killed_while_it_plays_ends_the_demo(self) -> None:
        def kill(text: str) -> None:
            if text.startswith("all live"):
                children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
                for child in children.read_text().split():
                    if b"crosswire.sim" in Path(f"/proc/{child}/cmdline").read_bytes():
                        os.kill(int(child), signal.SIGKILL)

        demo = Demo(DemoOptions(seconds=60.0), say=kill)
        with pytest.raises(HostError, match=r"ended before its time \(signal 9\)"):
            await demo.run()


class TestWhatProvesNothing:
    """The judge compares an engine with what it received; this is about the rest."""

    def doubts(
        self, verdict: Verdict | None = None, faults: tuple[str, ...] = (), **changes: Any
    ) -> list[str]:
        """Return what is wrong with a run that is right but for these changes."""
        played = play(200 if faults else 100, faults)
        sent = changes.pop("sent", played.sent)
        plants = len(played.plan.plants)
        verdict = verdict or Verdict(planted=[0] * plants, baits=8, baits_judged=[0] * 8)
        return find_doubts(
            replace(played.truth, **changes), verdict, sent, played.scenario,
            plants=plants, close_net_bps=CLOSE_NET_BPS, advance_ns=TICK_NS,
        )  # fmt: skip

    @pytest.mark.parametrize("faults", [(), ("cut",)])
    def test_a_run_in_which_everything_arrived_proves_something(
        self, faults: tuple[str, ...]
    ) -> None:
        assert self.doubts(faults=faults) == []

    @pytest.mark.parametrize("faults", [(), ("cut",)])
    @pytest.mark.parametrize(("count", "is_enough"), [(0, False), (5, False), (6, True)])
    def test_two_thirds_of_the_plants_have_to_be_judged(
        self, count: int, is_enough: bool, faults: tuple[str, ...]
    ) -> None:
        found = self.doubts(Verdict(planted=[0] * count), faults)
        text = f"only {count} of 8 plants could be judged: this proves too little"
        assert found == ([] if is_enough else [text])

    @pytest.mark.parametrize(("count", "is_enough"), [(0, False), (5, False), (6, True)])
    def test_two_thirds_of_the_baits_have_to_be_judged(self, count: int, is_enough: bool) -> None:
        verdict = Verdict(planted=[0] * 8, baits=8, baits_judged=[0] * count)
        text = f"only {count} of 8 baits could be judged: this proves too little"
        assert self.doubts(verdict) == ([] if is_enough else [text])

    @pytest.mark.parametrize("faults", [(), ("cut",)])
    def test_one_in_which_a_plant_was_not_seen_does_not(self, faults: tuple[str, ...]) -> None:
        verdict = Verdict(planted=[0] * 7, unseen={2: "it was never sent"})
        assert self.doubts(verdict, faults) == ["plant 2 was not seen: it was never sent"]

    @pytest.mark.parametrize("cut_off", [0, 1])
    @pytest.mark.parametrize(("gaps", "reconnects"), [(0, 0), (1, 0), (1, 1)])
    @pytest.mark.parametrize("state", ["live", "backing-off"])
    def test_one_in_which_a_connection_was_lost_without_a_cut_does_not(
        self, state: str, gaps: int, reconnects: int, cut_off: int
    ) -> None:
        demo = Demo(DemoOptions())
        demo._venues = {"okx": {"gaps": gaps, "reconnects": reconnects, "state": state}}
        found = demo._find_restless({"cut_off": {"okx": cut_off}}, {"okx": [Connection()]})
        assert len(found) == cut_off + gaps + reconnects + (state != "live")
        if cut_off:
            assert found[0] == "okx: the simulator cut off 1 connections that were not read"

    def test_one_whose_terms_are_not_the_scenarios_does_not(self) -> None:
        config = play(100).config
        name = venue_names()[0]
        changes: list[tuple[str, dict[str, Any]]] = [
            ("fees", {"fees_bps": {**config["fees_bps"], name: 0.0}}),
            ("liveness limits", {"liveness_limit_s": dict.fromkeys(venue_names(), 5.0)}),
            ("thresholds", {"close_net_bps": -1.0}),
            ("thresholds", {"open_net_bps": 1.0}),
            ("instruments", {"instruments": config["instruments"][:-1], "pairs": []}),
            ("pairs", {"pairs": config["pairs"][1:]}),
            ("pairs", {"pairs": [{**pair, "qty_max": 1.0} for pair in config["pairs"]]}),
            ("pairs", {"pairs": [{**pair, "open_net_bps": 9.0} for pair in config["pairs"]]}),
        ]
        for key, change in changes:
            found = self.doubts(config={**config, **change})
            assert any(text.startswith(f"the recording's {key} are not the") for text in found)
        assert self.doubts(config={**config, "pairs": config["pairs"][::-1]}) == []

    def test_terms_of_the_scenario_judge_an_engine_that_runs_under_others(self) -> None:
        played = play(100)
        kept = ("fees_bps", "open_net_bps", "close_net_bps", "liveness_limit_s")
        terms = {name: played.config[name] for name in kept}
        for change in (
            {"fees_bps": dict.fromkeys(played.scenario.venues, 0.0)},
            {"liveness_limit_s": dict.fromkeys(played.scenario.venues, 5.0)},
        ):
            config = json.dumps({**played.config, **change}).encode()
            entries = [played.entries[0]._replace(payload=config), *played.entries[1:]]
            own = find_truth(entries)
            assert own.intervals != played.truth.intervals
            assert find_truth(entries, terms=terms).intervals == played.truth.intervals

    def test_one_that_did_not_ask_for_everything_does_not(self) -> None:
        sent = play(100).sent
        [whole] = sent["okx"]
        part = replace(whole, streams={**whole.streams, "trades BTC-USDT": 0})
        assert self.doubts(sent={**sent, "okx": [part]}) == ["okx: trades BTC-USDT were never sent"]
        del part.streams["trades BTC-USDT"]
        assert self.doubts(sent={**sent, "okx": [part]}) == [
            "okx: trades BTC-USDT were not subscribed at the end"
        ]

    def test_one_that_did_not_receive_the_end_of_a_connection_does_not(self) -> None:
        sent = play(100).sent
        [whole] = sent["okx"]
        longer = replace(
            whole, stamps=whole.stamps + array("q", [0, 7]), sums=whole.sums + array("I", [1, 2])
        )
        [text] = self.doubts(sent={**sent, "okx": [longer]})
        assert text.endswith("sent, and nobody had cut it")


class Still(System):
    """Sleeps that take no time."""

    async def sleep(self, seconds: float) -> None:
        del seconds


class TestTheEndOfTheRun:
    async def drained(
        self, counts: list[int], sent: int, is_cut: bool, monkeypatch: pytest.MonkeyPatch
    ) -> int:
        """Return how many looks it takes; the count stays at its last."""
        demo = Demo(DemoOptions(), seam=Still())
        left = iter(counts)
        looks: list[int] = []

        def count(runtime: Any) -> int:
            looks.append(next(left, counts[-1]))
            return looks[-1]

        monkeypatch.setattr("crosswire.demo._data_count", count)
        played = {"sent": {"okx": {"quotes": sent - 1, "trades": 1}},
                  "connections": {"okx": [{"streams": {}, "cut_ns": 5 * is_cut}]}}  # fmt: skip
        await demo._drain(None, played)  # type: ignore[arg-type]
        return len(looks)

    @pytest.mark.parametrize(
        ("is_cut", "counts", "looks"),
        [
            (False, [10], 1),
            (False, [7, 8, 9, 10], 4),
            (False, [9], 50),
            (True, [7, 8, 9, 9, 9, 9, 9], 6),
            (True, [7, 10], 2),
        ],
    )
    async def test_what_is_on_the_wire_is_waited_for(
        self, is_cut: bool, counts: list[int], looks: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert await self.drained(counts, 10, is_cut, monkeypatch) == looks

    def test_acknowledgements_are_no_data(self) -> None:
        runtime = Runtime(demo_config(DemoOptions(), self.ready()))
        line = runtime.sessions["okx"].line
        line.open(1, 1)
        line.feed(text_frame('{"event":"subscribe","arg":{"channel":"trades"}}'), 2, 2)
        assert _data_count(runtime) == 0
        line.feed(text_frame(dialect("okx").trade("BTC-USDT", SimTrade("1", "1", 1, 1, 1))), 3, 3)
        assert _data_count(runtime) == 1
        assert runtime.engine.message_count == 2

    def ready(self) -> dict[str, Any]:
        symbols = {name: [venue(name).native("BTC/USDT")] for name in venue_names()}
        urls = {name: {"url": "ws://127.0.0.1:9/"} for name in venue_names()}
        return {"ca": None, "symbols": symbols, "venues": urls}

    async def test_a_recording_that_failed_is_no_engines_fault(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(file: Any, data: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("crosswire.capture.recording._write_all", refuse)
        with pytest.raises(HostError, match=r"nothing can be judged: .*No space left"):
            await demo_of(seconds=2.0)


class TestWhatTheViewIsTold:
    def signals(self, **fields: Any) -> Any:
        signals = np.zeros(1, SIGNAL_DTYPE)
        signals["event"] = 1
        signals["legs"]["instrument"][0, 1] = 1
        for name, value in fields.items():
            signals[name] = value
        return signals

    def test_a_signal_is_noted_once(self) -> None:
        demo = Demo(DemoOptions())
        runtime = Runtime(demo_config(DemoOptions(), TestTheEndOfTheRun().ready()))
        demo._take(self.signals())
        for _ in range(4):
            demo._note_latest(runtime)
        assert len(demo._latest) == 1
        demo._take(self.signals(event=3))
        demo._note_latest(runtime)
        assert [row[0] for row in demo._latest] == ["OPEN", "CLOSE"]

    @pytest.mark.parametrize("reason", [5, 6])
    def test_a_close_that_no_message_caused_has_no_time_on_the_wire(self, reason: int) -> None:
        demo = Demo(DemoOptions())
        signals = self.signals(event=3, close_reason=reason)
        signals["legs"]["book_seq"][0, :2] = 1
        demo._take(signals)
        assert demo._wire.summary()["max"] == 0
        demo._take(self.signals(event=3, close_reason=1))
        assert demo._wire.summary()["max"] > 0


def test_a_bait_counts_against_an_engine_unless_it_was_real() -> None:
    demo = Demo(DemoOptions())
    demo.verdict = Verdict(baits=2, baits_real=[3])
    assert demo.is_right
    demo.verdict = Verdict(baits=2, baits_taken=[4], baits_real=[3])
    assert not demo.is_right


def test_a_demo_needs_two_venues_that_exist() -> None:
    with pytest.raises(UsageError, match="two or more different venues"):
        Demo(DemoOptions(venues=venue_names()[:1]))
    with pytest.raises(UsageError, match="unknown venue"):
        Demo(DemoOptions(venues=("nowhere", "elsewhere")))


@pytest.mark.parametrize(
    "options",
    [{"seconds": 1.9}, {"seconds": float("nan")}, {"seconds": float("inf")}, {"faults": ("x",)},
     {"seconds": 600.1},
     {"venues": venue_names()[:1] * 2}],
)  # fmt: skip
def test_a_demo_that_cannot_be_played_is_refused_before_anything_starts(
    options: dict[str, Any],
) -> None:
    with pytest.raises(UsageError):
        Demo(DemoOptions(**options))


# ------------------------------------------------------------------ the view


def status(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "title": "local venues, seed 7",
        "venues": {
            "one": {"state": "live", "alive": True, "messages": 1234567, "rate": 1500.4,
                    "reconnects": 2, "errors": 3},
            "other": {"state": "live", "alive": False, "messages": 0, "rate": 0.0,
                      "reconnects": 0, "errors": 0},
            "third": {"state": "backing-off", "alive": False, "messages": 0, "rate": 0.0,
                      "reconnects": 0, "errors": 0},
        },
        "prices": [["one:BTC/USDT", 61837.63, 61837.64, True], ["other:A/B", 0.0, 0.0, False]],
        "signals": [["OPEN", "one:BTC/USDT", "other:BTC/USDT", 1.2345, 0.25],
                    ["CLOSE", "one:BTC/USDT", "other:BTC/USDT", -0.5, 0.25]],
        "wire_to_signal_ns": {"p50": 41_500, "p99": 120_000, "p99_9": 200_000, "max": 1_234_567},
        "opens": 17,
        "signals_written": 99,
        "elapsed_s": 3.2,
        "seconds": 20.0,
    }  # fmt: skip
    return {**fields, **changes}


def drawn(what: dict[str, Any], width: int = 120) -> str:
    """Return a status as a terminal shows it."""
    from rich.console import Console

    console = Console(record=True, file=io.StringIO(), width=width)
    console.print(view.render(what))
    return console.export_text()


class TestRendering:
    def test_everything_of_a_status_is_drawn(self) -> None:
        text = drawn(status())
        for word in (
            "seed 7", "one", "live", "1,234,567", "1,500", "silent", "backing-off",
            "61,837.63", "61,837.64", "OPEN", "CLOSE", "+1.23", "-0.50", "0.25",
            "17 opportunities", "99 signals", "41.5 µs", "120.0 µs", "1,234.6 µs", "3/20 s",
        ):  # fmt: skip
            assert word in text

    def test_a_status_of_a_run_that_has_just_begun_is_drawn(self) -> None:
        none = dict.fromkeys(("p50", "p99", "p99_9", "max"), 0)
        text = drawn(status(prices=[], signals=[], wire_to_signal_ns=none, venues={}))
        assert "0.0 µs" in text

    def test_a_narrow_terminal_is_enough(self) -> None:
        assert "one" in drawn(status(), width=40)

    def test_it_survives_the_way_through_json(self) -> None:
        assert drawn(json.loads(json.dumps(status()))) == drawn(status())


class TestTheViewsProcess:
    def statuses(self, monkeypatch: pytest.MonkeyPatch, text: str) -> list[str]:
        """Return the titles that were drawn from a text on standard input."""
        titles: list[str] = []
        render = view.render

        def noting(what: dict[str, Any]) -> Any:
            found = render(what)
            titles.append(what["title"])
            return found

        monkeypatch.setattr(view, "render", noting)
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert view.main() == 0
        return titles

    def test_every_line_is_drawn_until_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "".join(json.dumps(status(title=name)) + "\n" for name in "abc")
        assert self.statuses(monkeypatch, text) == ["a", "b", "c"]

    def test_a_torn_line_is_skipped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = json.dumps(status(title="whole")) + "\n"
        for at in range(1, len(whole) - 1, 37):
            with monkeypatch.context() as patch:
                assert self.statuses(patch, whole[:at] + "\n" + whole) == ["whole"]

    def test_an_interrupt_ends_it_without_a_word(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "crosswire.watch.view"],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin
        process.stdin.write(json.dumps(status()).encode() + b"\n")
        process.stdin.flush()
        stat = Path(f"/proc/{process.pid}/stat")
        waiting = bytearray(4)
        while True:  # until it has read the line and waits for the next
            ioctl(process.stdin.fileno(), FIONREAD, waiting)
            if not any(waiting) and stat.read_text().rpartition(")")[2].split()[0] == "S":
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert b"Traceback" not in err


class TestThePipeToTheView:
    async def test_a_view_that_does_not_read_delays_nothing_and_drops_are_counted(self) -> None:
        pipe = view.ViewPipe()
        os.kill(pipe._process.pid, signal.SIGSTOP)
        shown = 0
        while pipe.dropped < 50:
            pipe.show(status(title=f"status {shown}"))
            shown += 1
            assert shown < 5000, "the pipe holds more than any pipe does"
        assert shown - pipe.dropped > 0
        os.kill(pipe._process.pid, signal.SIGCONT)
        await asyncio.wait_for(pipe.close(), 30)
        assert pipe._process.returncode == 0

    async def test_a_view_that_is_gone_delays_nothing(self) -> None:
        pipe = view.ViewPipe()
        pipe._process.kill()
        await asyncio.to_thread(pipe._process.wait)
        pipe.show(status())
        pipe.show(status())
        assert pipe.dropped == 2
        await asyncio.wait_for(pipe.close(), 30)

    async def test_every_status_arrives_whole_or_is_counted_as_dropped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy = tmp_path / "copy"
        popen = subprocess.Popen
        with copy.open("wb") as file:
            monkeypatch.setattr(
                subprocess, "Popen", lambda command, **how: popen(["cat"], stdout=file, **how)
            )
            pipe = view.ViewPipe()
        shown = 0
        long = "x" * 5000
        for _ in range(20):
            os.kill(pipe._process.pid, signal.SIGSTOP)
            dropped = pipe.dropped
            while pipe.dropped == dropped:
                pipe.show(status(title=long))
                shown += 1
            os.kill(pipe._process.pid, signal.SIGCONT)
            size = -1
            while size != copy.stat().st_size:  # until it has caught up
                size = copy.stat().st_size
                await asyncio.sleep(0.02)
        await asyncio.wait_for(pipe.close(), 30)
        whole = 0
        for line in copy.read_bytes().splitlines():
            try:
                whole += json.loads(line)["title"] == long
            except ValueError:
                continue
        assert whole + pipe.dropped == shown
