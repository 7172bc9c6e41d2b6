"""Replay: recorded sessions against the slow oracle, the expected ends, and one digest for all."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from slow_oracle import (
    NO_RECORDINGS,
    SHARED,
    Event,
    Oracle,
    Read,
    exact,
    merged,
    quotes_of,
    read_capture,
)

from crosswire import (
    CloseReason,
    Engine,
    Line,
    Pair,
    RecordingError,
    SignalEvent,
    isa_levels,
)
from crosswire.capture import Kind, RecordingWriter, read_recording
from crosswire.capture.replay import Replay
from crosswire.config import Config, PairConfig, VenueConfig
from crosswire.venues import venue

SPOT, USDM = "binance", "binance.usdm"
LEGS = ((SPOT, "BTCUSDT"), (USDM, "BTCUSDT"))
EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "data"
SHIPPED = {name: EXAMPLES / f"{name}-btcusdt-2024-08-08.jsonl.gz" for name in (SPOT, USDM)}
RECORDED = {
    SPOT: SHARED / "ws" / "binance_spot-btcusdt-2024-08-08.jsonl.gz",
    USDM: SHARED / "ws" / "binance_usdm-btcusdt-2024-08-08.jsonl.gz",
}
EXPECTED = SHARED / "expected_replay.json"
EVENTS = {1: "OPEN", 2: "UPDATE", 3: "CLOSE"}
REASONS = {1: "buy", 2: "sell", 3: "size", 4: "gate", 5: "liveness", 6: "lost"}
CAPTURES = {
    "binance_spot-btcusdt-2024-08-08.jsonl.gz": SPOT,
    "binance_spot-depth-bookTicker-aggTrade-2021-10.jsonl.gz": SPOT,
    "binance_usdm-btcusdt-2024-08-08.jsonl.gz": USDM,
    "binance_usdm-depth-bookTicker-2021-07.jsonl.gz": USDM,
    "okx-books-tickers-trades-2022-05.jsonl.gz": "okx",
}
Frame = tuple[int, Kind, int, str, bytes]
COUNTED = ("bookTicker", "trade", "depth", "aggTrade", "kline")

needs_recordings = pytest.mark.skipif(not EXPECTED.exists(), reason=NO_RECORDINGS)


def frame_of(text: str) -> bytes:
    """One unmasked, final text frame."""
    payload = text.encode()
    if len(payload) < 126:
        return bytes((0x81, len(payload))) + payload
    if len(payload) < 65536:
        return b"\x81\x7e" + struct.pack(">H", len(payload)) + payload
    return b"\x81\x7f" + struct.pack(">Q", len(payload)) + payload


def raw_reads(paths: dict[str, Path]) -> Iterator[Frame]:
    """What a recorder of both captures would have written, in the order of the stamps."""
    streams = []
    for line, (name, path) in enumerate(paths.items(), 1):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [row for row in map(json.loads, file) if row["dir"] == "recv"]
        steps = [(int(row["ts_ns"]), Kind.READ, frame_of(row["raw"])) for row in rows]
        opened = json.dumps({"venue": name, "url": ""}).encode()
        steps = [(steps[0][0], Kind.OPENED, opened), *steps, (steps[-1][0], Kind.LOST, b"{}")]
        streams += [(step[0], line, n, name, *step[1:]) for n, step in enumerate(steps)]
    for ts, line, _, name, kind, payload in sorted(streams, key=lambda item: item[:3]):
        yield ts, kind, line, name, payload


def record(frames: Iterable[Frame], target: Path) -> Path:
    with RecordingWriter(target) as writer:
        for ts, kind, line, _, payload in frames:
            writer.write(kind, line, ts, ts, payload)
    return target


def replay(
    paths: dict[str, Path], cut: Callable[[bytes], Iterable[bytes]] | None = None, **terms: Any
) -> tuple[Any, Replay]:
    """Replay and return (signals, the replay)."""
    run = Replay(list(paths.items()), **terms)
    batches: list[Any] = []
    run.on_signals = lambda rows: batches.append(rows.copy())
    run.run(cut=cut)
    signals = np.concatenate(batches) if batches else np.empty(0)
    assert len(signals) == run.digest.count == run.engine.signal_count
    assert run.report()["errors"] == 0
    return signals, run


def reads_of(paths: dict[str, Path]) -> list[Read]:
    return merged(*(read_capture(path, name) for name, path in paths.items()))


def assert_same(signals: Any, run: Replay, truth: list[Event], fees_bps: float) -> None:
    """Every signal is the oracle's: event, time, route, edge, size, versions, cause."""
    legs = run.engine.instruments
    fee = fees_bps / 1e4
    assert len(signals) == len(truth)
    for number, (row, event) in enumerate(zip(signals, truth, strict=True)):
        buy, sell = row["legs"][0], row["legs"][1]
        assert row["seq"] == number
        assert EVENTS[int(row["event"])] == event.event, event
        assert (row["kind"], row["n_legs"], row["rule_id"]) == (1, 2, event.rule_id)
        assert (row["ts_rx"], row["ts_open"]) == (event.ts, event.ts_open), event
        assert row["opp_id"] == event.opp_id
        assert (buy["side"], sell["side"]) == (1, -1)
        assert (legs[buy["instrument"]], legs[sell["instrument"]]) == (event.buy, event.sell)
        if event.event == "CLOSE":
            assert REASONS[int(row["close_reason"])] == event.reason, event
            continue
        assert (row["gates"], row["close_reason"]) == (0, 0)
        assert row["net_bps"] == pytest.approx(float(event.edge * 10_000), rel=1e-6, abs=1e-6)
        assert row["gross_bps"] == pytest.approx(float(event.gross * 10_000), rel=1e-6, abs=1e-6)
        assert row["qty"] == buy["qty"] == sell["qty"] == float(event.qty)
        assert (buy["book_seq"], sell["book_seq"]) == event.seqs
        cost, gain = buy["vwap"] * (1 + fee), sell["vwap"] * (1 - fee)
        assert row["notional_ref"] == pytest.approx(cost * row["qty"], rel=1e-12)
        assert row["profit_ref"] == pytest.approx((gain - cost) * row["qty"], rel=1e-6, abs=1e-7)


def random_pieces(seed: int, longest: int) -> Callable[[bytes], Iterator[bytes]]:
    rng = random.Random(seed)

    def cut(read: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(read):
            size = rng.choice((1, 3, *(rng.randint(1, longest) for _ in range(4))))
            yield read[at : at + size]
            at += size

    return cut


def server_frames(path: Path) -> int:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return sum(line.count('"dir":"recv"') for line in file)


def run_frames(
    frames: list[Frame],
    fee_bps: float,
    cut: Callable[[bytes], Iterable[bytes]] = lambda read: (read,),
    isa: str | None = None,
) -> tuple[list[tuple[int, int]], Engine]:
    """Feed frames to an engine of one pair; return (ts_rx, event) of each signal."""
    engine = Engine(instruments_max=2, pairs_max=1, lines_max=2, signals_max=1024, isa=isa)
    lines = {}
    for name in (SPOT, USDM):
        engine.add_venue(name, venue(name).layout)
        engine.add_instrument(name, "BTCUSDT", fee_bps=fee_bps)
        lines[name] = Line(engine, name)
    engine.set_pairs([Pair(1, 0, 1)])
    found: list[tuple[int, int]] = []
    engine.on_signals = lambda rows: found.extend(
        zip(rows["ts_rx"].tolist(), rows["event"].tolist(), strict=True)
    )
    for ts, kind, _, name, payload in frames:
        if kind is Kind.READ:
            for piece in cut(payload):
                lines[name].feed(piece, ts, ts)
        elif kind is Kind.OPENED:
            lines[name].open(ts, ts)
        else:
            lines[name].lose(ts, ts)
    assert (engine.errors, engine.callback_errors) == ({}, 0)
    return found, engine


def single_bytes(read: bytes) -> Iterator[bytes]:
    for at in range(len(read)):
        yield read[at : at + 1]


# ------------------------------------------------------------------ fixtures


@pytest.fixture(scope="module")
def session() -> list[Read]:
    return reads_of(RECORDED)


@pytest.fixture(scope="module")
def shipped() -> list[Read]:
    return reads_of(SHIPPED)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(raw_reads(RECORDED))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, frames: list[Frame]) -> Path:
    """The recorded session in our own form."""
    return record(frames, tmp_path_factory.mktemp("recording") / "session.rec")


@pytest.fixture(scope="module")
def recorded_run() -> tuple[Any, Replay]:
    """The recorded session at fees of 1.75 bps a side."""
    return replay(RECORDED, fee_bps=1.75)


@pytest.fixture(scope="module")
def shipped_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(raw_reads(SHIPPED), tmp_path_factory.mktemp("recording") / "shipped.rec")


@pytest.fixture(scope="module")
def digest() -> str:
    return str(replay(SHIPPED, fee_bps=1.75)[1].digest.hexdigest())


def both(path: Path) -> dict[str, Path]:
    """One recording that holds both venues."""
    return {SPOT: path, USDM: path}


# ------------------------------------------------------------------ the oracle itself


class TestTheSlowOracle:
    """By hand: 100.00 bought and 100.10 sold nets 9.99.. bps without fees."""

    PAIRS = (((SPOT, "X"), ("okx", "X")),)

    def reads(self, *quotes: tuple[int, str, str, str, str, str]) -> list[Read]:
        spot = '{"u":%d,"s":"X","b":"%s","B":"%s","a":"%s","A":"%s"}'
        okx = (
            '{"arg":{"channel":"bbo-tbt","instId":"X"},"data":[{"asks":[["%s","%s","0","1"]],'
            '"bids":[["%s","%s","0","1"]],"ts":"7","seqId":%d}]}'
        )
        found = [Read(0, SPOT, "open"), Read(0, "okx", "open")]
        for n, (ts, name, bid, bid_qty, ask, ask_qty) in enumerate(quotes, 1):
            text = (
                spot % (n, bid, bid_qty, ask, ask_qty)
                if name == SPOT
                else okx % (ask, ask_qty, bid, bid_qty, n)
            )
            found.append(Read(ts, name, "read", quotes_of(name, text)))
        return found

    def events(self, reads: list[Read], **terms: Any) -> list[tuple[str, int, str]]:
        oracle = Oracle(self.PAIRS, {SPOT: 0, "okx": 0}, **terms)
        return [(event.event, event.ts, event.reason) for event in oracle.run(reads)]

    def test_opens_updates_and_closes_by_the_rules(self) -> None:
        reads = self.reads(
            (1, SPOT, "99.9", "1", "100", "2"),
            (2, "okx", "100.1", "3", "100.2", "1"),
            (3, "okx", "100.1", "3", "100.3", "1"),
            (4, SPOT, "99.9", "1", "100", "1"),
            (5, SPOT, "99.9", "1", "100.2", "1"),
        )
        expected = [("OPEN", 2, ""), ("UPDATE", 4, ""), ("CLOSE", 5, "buy")]
        assert self.events(reads) == expected

    def test_a_fee_a_side_takes_the_edge_away(self) -> None:
        reads = self.reads(
            (1, SPOT, "99.9", "1", "100", "2"), (2, "okx", "100.1", "3", "100.2", "1")
        )
        taken = Oracle(self.PAIRS, {SPOT: 5, "okx": 5}).run(reads)
        left = Oracle(self.PAIRS, {SPOT: 4.9, "okx": 5}).run(reads)
        assert taken == []
        assert [event.event for event in left] == ["OPEN"]

    def test_silence_at_the_limit_is_life_and_beyond_it_is_death(self) -> None:
        quotes = ((1, SPOT, "99.9", "1", "100", "2"), (2, "okx", "100.1", "3", "100.2", "1"))
        at_limit = self.reads(*quotes, (11, "okx", "100.1", "4", "100.2", "1"))
        beyond = self.reads(*quotes, (12, "okx", "100.1", "4", "100.2", "1"))
        assert self.events(at_limit, limit_ns=10) == [("OPEN", 2, "")]
        assert self.events(beyond, limit_ns=10) == [("OPEN", 2, ""), ("CLOSE", 12, "liveness")]


# ------------------------------------------------------------------ against the oracle


class TestTheShippedSessionAgainstTheOracle:
    @pytest.mark.parametrize(("fee_bps", "opens"), [(1.75, 11), (2.0, 9), (7.5, 0), (0.0, None)])
    def test_every_signal_is_the_oracles(
        self, shipped: list[Read], fee_bps: float, opens: int | None
    ) -> None:
        oracle = Oracle((LEGS,), {SPOT: fee_bps, USDM: fee_bps})
        truth = oracle.run(shipped)
        assert oracle.doubts == 0
        assert opens in (None, oracle.opps)
        signals, run = replay(SHIPPED, fee_bps=fee_bps)
        assert_same(signals, run, truth, fee_bps)
        assert run.report()["opens"] == oracle.opps

    @pytest.mark.parametrize("limit_ms", [5, 20, 60])
    def test_a_short_liveness_limit_closes_and_opens_as_the_oracle_says(
        self, shipped: list[Read], limit_ms: int
    ) -> None:
        oracle = Oracle((LEGS,), {SPOT: 1.75, USDM: 1.75}, limit_ns=limit_ms * 10**6)
        truth = oracle.run(shipped)
        assert oracle.doubts == 0
        assert any(event.reason == "liveness" for event in truth)
        venues = {
            name: VenueConfig(name, 1.75, "", liveness_limit_s=limit_ms / 1e3) for name in SHIPPED
        }
        signals, run = replay(SHIPPED, config=Config(venues=venues))
        assert_same(signals, run, truth, 1.75)

    @pytest.mark.parametrize(("opens", "closes"), [(0.3, 0.1), (0.0, -0.5), (-1.0, -1.0)])
    def test_thresholds_hysteresis_and_a_largest_size_are_the_oracles(
        self, shipped: list[Read], opens: float, closes: float
    ) -> None:
        oracle = Oracle(
            (LEGS,),
            {SPOT: 1.75, USDM: 1.75},
            open_bps=opens,
            close_bps=closes,
            qty_max=exact("0.5"),
        )
        truth = oracle.run(shipped)
        assert oracle.doubts == 0
        config = Config(
            venues={name: VenueConfig(name, 1.75, "") for name in SHIPPED},
            pairs=[
                PairConfig((SPOT, "BTC/USDT"), (USDM, "BTC/USDT:USDT"), opens, closes, qty_max=0.5)
            ],
        )
        signals, run = replay(SHIPPED, config=config)
        assert_same(signals, run, truth, 1.75)

    def test_a_configuration_says_when_quotes_are_stale(self) -> None:
        def reasons(limit_s: float) -> set[CloseReason]:
            venues = {
                name: VenueConfig(name, 1.75, "", data_limit_s=limit_s, liveness_limit_s=3600)
                for name in SHIPPED
            }
            signals, _ = replay(SHIPPED, config=Config(venues=venues), open_net_bps=-5.0)
            closes = signals[signals["event"] == SignalEvent.CLOSE]
            return {CloseReason(int(reason)) for reason in closes["close_reason"]}

        assert CloseReason.STALE not in reasons(3600)
        assert CloseReason.STALE in reasons(0.005)

    def test_the_venues_own_fees_are_taken_where_none_is_given(self, shipped: list[Read]) -> None:
        fees = {name: venue(name).fee_bps for name in SHIPPED}
        truth = Oracle((LEGS,), fees).run(shipped)
        signals, _ = replay(SHIPPED)
        assert len(signals) == len(truth) == 0


@needs_recordings
class TestTheRecordedSessionAgainstTheOracle:
    @pytest.mark.parametrize(("fee_bps", "opens"), [(1.75, 56), (2.0, 26), (7.5, 0)])
    def test_the_opportunities_are_the_oracles(
        self,
        session: list[Read],
        recording: Path,
        recorded_run: tuple[Any, Replay],
        fee_bps: float,
        opens: int,
    ) -> None:
        oracle = Oracle((LEGS,), {SPOT: fee_bps, USDM: fee_bps})
        truth = oracle.run(session)
        assert (oracle.opps, oracle.doubts) == (opens, 0)
        is_first = fee_bps == 1.75
        signals, run = recorded_run if is_first else replay(both(recording), fee_bps=fee_bps)
        assert_same(signals, run, truth, fee_bps)
        assert run.report()["opens"] == opens

    @pytest.mark.parametrize("fee_bps", [-20.0, 0.0, 0.5, 3.0])
    def test_none_opens_after_the_shorter_capture_has_ended(
        self, session: list[Read], frames: list[Frame], fee_bps: float
    ) -> None:
        ends = {read.venue: read.ts for read in session if read.kind == "lost"}
        end = min(ends.values())
        assert ends[USDM] == end < ends[SPOT] - 10**9
        oracle = Oracle((LEGS,), {SPOT: fee_bps, USDM: fee_bps})
        truth = oracle.run(session)
        signals, engine = run_frames(frames, fee_bps)
        assert [EVENTS[event] for _, event in signals] == [event.event for event in truth]
        assert [ts for ts, _ in signals] == [event.ts for event in truth]
        assert all(ts <= end for ts, _ in signals)
        assert bool(signals) == (fee_bps < 3)
        assert engine.open_opportunities() == []
        assert engine.top(0).quotes + engine.top(1).quotes == 28040 + 23098


# ------------------------------------------------------------------ the expected ends


@needs_recordings
class TestTheExpectedEnds:
    @pytest.mark.parametrize("capture", [name for name, v in CAPTURES.items() if v != "okx"])
    def test_counts_and_last_best_bid_and_offer_are_the_expected(self, capture: str) -> None:
        expected = json.loads(EXPECTED.read_text())[capture]
        name = CAPTURES[capture]
        _, run = replay({name: SHARED / "ws" / capture})
        report = run.report()
        assert report["messages"] == server_frames(SHARED / "ws" / capture)
        found = report["venues"][name]
        assert set(found) == set(expected)
        for symbol, truth in expected.items():
            counts = {kind: n for kind, n in truth["counts"].items() if kind in COUNTED}
            assert found[symbol]["counts"] == counts, symbol
            last = truth["last_bookTicker_u_b_B_a_A"]
            top = found[symbol]["top"]
            if last is None:
                assert top is None
                continue
            seq, *sides = last
            assert top["seq"] == seq
            found_sides = [top[key] for key in ("bid", "bid_qty", "ask", "ask_qty")]
            assert found_sides == [float(text) for text in sides]

    def test_the_counts_of_the_okx_capture_are_the_expected(self) -> None:
        capture = "okx-books-tickers-trades-2022-05.jsonl.gz"
        expected = json.loads(EXPECTED.read_text())[capture]
        wanted: dict[str, dict[str, int]] = {}
        for stream, truth in expected.items():
            channel, symbol = stream.split(":")
            counts = truth["counts"]
            pushes = sum(counts.get(key, 0) for key in ("push", "snapshot", "update"))
            wanted.setdefault(symbol, {})[channel] = pushes
        _, run = replay({"okx": SHARED / "ws" / capture})
        assert run.report()["messages"] == server_frames(SHARED / "ws" / capture)
        found = run.report()["venues"]["okx"]
        assert {symbol: item["counts"] for symbol, item in found.items()} == wanted


class TestTheEndsOfTheShippedSession:
    def test_counts_and_last_best_bid_and_offer_are_those_of_the_text(
        self, shipped: list[Read]
    ) -> None:
        _, run = replay(SHIPPED, fee_bps=1.75)
        report = run.report()
        messages = 0
        for name, path in SHIPPED.items():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                rows = [json.loads(json.loads(line)["raw"]) for line in file]
            messages += len(rows)
            kinds = [row["stream"].partition("@")[2].partition("@")[0] for row in rows]
            found = report["venues"][name]["BTCUSDT"]
            assert found["counts"] == {kind: kinds.count(kind) for kind in set(kinds)}
            last = [read.quotes[0] for read in shipped if read.venue == name and read.quotes][-1]
            sides = [float(getattr(last, key)) for key in ("bid", "bid_qty", "ask", "ask_qty")]
            assert [found["top"][key] for key in ("bid", "bid_qty", "ask", "ask_qty")] == sides
            assert found["top"]["seq"] == last.seq
            assert found["book"] is None
        assert report["messages"] == messages


# ------------------------------------------------------------------ one digest


class TestOneDigest:
    def test_it_covers_the_records_without_what_depends_on_speed(self) -> None:
        signals, run = replay(SHIPPED, fee_bps=1.75)
        for name in ("mono_rx", "d_decode", "d_book", "d_detect", "d_publish"):
            signals[name] = 0
        assert hashlib.sha256(signals.tobytes()).hexdigest() == run.digest.hexdigest()
        assert run.report()["signals_sha256"] == run.digest.hexdigest()

    @pytest.mark.kernel
    def test_it_is_the_same_whole_or_cut_on_every_instruction_set(
        self, digest: str, isa: str
    ) -> None:
        for cut in (None, random_pieces(1, 40), random_pieces(2, 4000)):
            _, run = replay(SHIPPED, cut, fee_bps=1.75, isa=isa)
            assert run.engine.isa == isa
            assert run.digest.hexdigest() == digest
            assert run.report()["messages"] == 7812

    @pytest.mark.kernel
    def test_it_is_the_same_byte_by_byte_and_cut_in_two_everywhere(self, isa: str) -> None:
        reads = list(raw_reads(SHIPPED))
        whole = run_frames(reads, 1.75, isa=isa)[0]
        assert len(whole) == 886
        assert run_frames(reads[:2500], 1.75, single_bytes, isa)[0] == [
            signal for signal in whole if signal[0] <= reads[2499][0]
        ]
        first = [*reads[:2], *[read for read in reads[2:] if len(read[4]) < 280][:250]]
        few = run_frames(first, 1.75, isa=isa)[0]
        assert len(few) > 3
        for at in range(1, 280):

            def cut(read: bytes, at: int = at) -> Iterator[bytes]:
                yield from (read[:at], read[at:])

            assert run_frames(first, 1.75, cut, isa)[0] == few, at

    def test_it_is_the_same_when_empty_pieces_are_fed(self, digest: str) -> None:
        def cut(read: bytes) -> Iterator[bytes]:
            yield from (b"", read[:7], b"", read[7:], b"")

        assert replay(SHIPPED, cut, fee_bps=1.75)[1].digest.hexdigest() == digest

    def test_it_is_the_same_from_our_own_recording(
        self, digest: str, shipped_recording: Path
    ) -> None:
        run = replay(both(shipped_recording), fee_bps=1.75)[1]
        assert run.digest.hexdigest() == digest
        cut = replay(both(shipped_recording), random_pieces(3, 500), fee_bps=1.75)[1]
        assert cut.digest.hexdigest() == digest

    def test_it_is_the_same_when_reads_hold_many_frames_of_one_stamp(self, tmp_path: Path) -> None:
        """Frames of one stamp and line, joined to one read, are the reads that they were."""
        apart = tmp_path / "apart.rec"
        joined = tmp_path / "joined.rec"
        stamp, held = (0, 0), b""
        with RecordingWriter(apart) as one, RecordingWriter(joined) as other:
            for number, (ts, kind, line, _, payload) in enumerate(raw_reads(SHIPPED)):
                stamped = (ts // 10_000_000 * 10_000_000, line)
                one.write(kind, line, stamped[0], stamped[0], payload)
                if held and (stamped != stamp or kind is not Kind.READ):
                    other.write(Kind.READ, stamp[1], stamp[0], stamp[0], held)
                    held = b""
                if kind is Kind.READ:
                    stamp, held = stamped, held + payload
                else:
                    other.write(kind, line, stamped[0], stamped[0], payload)
                assert number < 10_000
        whole, run = replay(both(apart), fee_bps=1.75)
        parts, other_run = replay(both(joined), fee_bps=1.75)
        assert len(whole) == len(parts) > 500
        assert run.digest.hexdigest() == other_run.digest.hexdigest()

    def test_it_depends_on_the_signals(self, digest: str) -> None:
        assert replay(SHIPPED, fee_bps=1.7)[1].digest.hexdigest() != digest
        nothing = replay(SHIPPED, fee_bps=50.0)[1].digest.hexdigest()
        assert nothing == hashlib.sha256(b"").hexdigest()

    def test_ticks_of_the_timer_between_the_reads_change_no_signal(
        self, digest: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "ticks.rec"
        with RecordingWriter(path) as writer:
            for ts, kind, line, _, payload in raw_reads(SHIPPED):
                writer.write(Kind.TICK, 0, ts, ts)
                writer.write(kind, line, ts, ts, payload)
        assert replay(both(path), fee_bps=1.75)[1].digest.hexdigest() == digest

    @needs_recordings
    def test_it_is_the_same_for_the_recorded_session_whole_and_cut(
        self, recorded_run: tuple[Any, Replay], recording: Path
    ) -> None:
        pieces = random_pieces(4, 6000)
        cut = replay(both(recording), pieces, fee_bps=1.75, isa=isa_levels()[0])[1]
        assert cut.report() == recorded_run[1].report()
        assert cut.report()["opens"] == 56


class TestManyCapturesOfOneVenue:
    """The end of one capture is the end of its own connection, not of another's."""

    def write(self, path: Path, times: Iterable[int]) -> Path:
        quote = '{"u":%d,"s":"BTCUSDT","b":"100","B":"1","a":"101","A":"1"}'
        rows = [{"dir": "recv", "ts_ns": str(ts), "raw": quote % ts} for ts in times]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    @pytest.mark.parametrize(
        "times", [((1, 2, 3), (4, 5, 6)), ((4, 5, 6), (1, 2, 3)), ((1, 3, 5), (2, 4, 6, 8))]
    )
    def test_every_message_of_each_is_counted(
        self, tmp_path: Path, times: tuple[tuple[int, ...], ...]
    ) -> None:
        paths = [self.write(tmp_path / f"{n}.jsonl", part) for n, part in enumerate(times)]
        run = Replay([(SPOT, path) for path in paths])
        run.run()
        assert run.engine.message_count == sum(map(len, times))
        assert run.engine.counts(0)["bookTicker"] == sum(map(len, times))
        assert run.engine.errors == {}

    def test_there_is_room_for_more_of_them_than_an_engine_has_lines(self, tmp_path: Path) -> None:
        paths = [self.write(tmp_path / f"{n}.jsonl", (n + 1,)) for n in range(70)]
        run = Replay([(SPOT, path) for path in paths])
        run.run()
        assert run.engine.message_count == 70

    def test_a_recording_and_a_capture_keep_their_lines_apart(self, tmp_path: Path) -> None:
        path = tmp_path / "one.rec"
        quote = '{"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}'
        with RecordingWriter(path) as writer:
            writer.write(Kind.OPENED, 0, 1, 1, b'{"venue": "binance"}')
            writer.write(Kind.READ, 0, 2, 2, frame_of(quote))
            writer.write(Kind.LOST, 0, 3, 3, b"{}")
        run = Replay([(SPOT, path), (SPOT, self.write(tmp_path / "b.jsonl", (2, 5, 6)))])
        run.run()
        assert run.engine.message_count == 4


class TestFilesOfSeveralClocks:
    """Monotonic clocks of two boots, or of none, say nothing of each other; UTC does."""

    QUOTES: ClassVar = {
        SPOT: '{"u":1,"s":"%s","b":"100","B":"1","a":"100.1","A":"1"}',
        "okx": '{"arg":{"channel":"bbo-tbt","instId":"%s"},"data":[{"asks":[["103","1","0","1"]],'
        '"bids":[["102","1","0","1"]],"ts":"1654032991947","seqId":1}]}',
    }
    S = 10**9
    START = 1_700_000_000 * S

    def quote(self, name: str, native: str) -> bytes:
        return frame_of(self.QUOTES[name] % native)

    def record(self, path: Path, boot: int, quotes: Iterable[tuple[int, str, str]]) -> Path:
        """A recording of quotes (ns since the start, venue, symbol), a tick behind the last."""
        quotes = list(quotes)
        with RecordingWriter(path) as writer:
            for line, name in enumerate(self.QUOTES):
                opened = json.dumps({"venue": name}).encode()
                writer.write(Kind.OPENED, line, self.START, boot, opened)
            for after, name, native in quotes:
                line = list(self.QUOTES).index(name)
                stamps = (self.START + after, boot + after)
                writer.write(Kind.READ, line, *stamps, self.quote(name, native))
            after = quotes[-1][0] + 1
            writer.write(Kind.TICK, 0, self.START + after, boot + after)
        return path

    def capture(self, path: Path, after: int, name: str, native: str) -> Path:
        row = {"dir": "recv", "ts_ns": self.START + after, "raw": self.QUOTES[name] % native}
        path.write_text(json.dumps(row) + "\n")
        return path

    @pytest.mark.parametrize("boots", [(10**12, 10**15), (10**15, 10**12), (0, 2**62)])
    def test_what_is_stale_in_one_is_not_live_beside_another(
        self, tmp_path: Path, boots: tuple[int, int]
    ) -> None:
        stale = ((self.S, SPOT, "BTCUSDT"), (60 * self.S, "okx", "BTC-USDT"))
        one = self.record(tmp_path / "one.rec", boots[0], stale)
        other = self.record(tmp_path / "other.rec", boots[1], [(self.S // 2, SPOT, "ETHUSDT")])
        beside = self.capture(tmp_path / "beside.jsonl", self.S // 2, SPOT, "ETHUSDT")
        for captures in ([one], [one, other], [other, one], [one, beside]):
            run = Replay([(name, path) for path in captures for name in self.QUOTES], fee_bps=1.0)
            run.run()
            assert run.digest.opens == 0, captures

    @pytest.mark.parametrize("boots", [(10**12, 10**15), (10**15, 10**12), (0, 2**62)])
    def test_what_is_live_in_one_is_not_silenced_by_another(
        self, tmp_path: Path, boots: tuple[int, int]
    ) -> None:
        one = self.record(tmp_path / "one.rec", boots[0], [(self.S, SPOT, "BTCUSDT")])
        other = self.record(tmp_path / "other.rec", boots[1], [(2 * self.S, "okx", "BTC-USDT")])
        beside = self.capture(tmp_path / "beside.jsonl", 2 * self.S, "okx", "BTC-USDT")
        for path in (other, beside):
            run = Replay([(SPOT, one), ("okx", path)], fee_bps=1.0)
            run.run()
            assert run.digest.opens == 1, path


class TestTheCommand:
    def run(self, *args: str, isa: str | None = None) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if key != "CROSSWIRE_ISA"}
        if isa:
            env["CROSSWIRE_ISA"] = isa
        command = [sys.executable, "-m", "crosswire", "replay", *args]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)

    def shipped(self, *args: str, isa: str | None = None) -> dict[str, Any]:
        captures = [f"{name}={path}" for name, path in SHIPPED.items()]
        done = self.run(*captures, *args, "--json", isa=isa)
        assert done.returncode == 0, done.stderr
        value = json.loads(done.stdout.splitlines()[-1])
        assert isinstance(value, dict)
        return value

    @pytest.mark.kernel
    def test_prints_the_report_of_the_contract_on_every_instruction_set(self, isa: str) -> None:
        expected = replay(SHIPPED, fee_bps=1.75)[1].report()
        found = self.shipped("--fee-bps", "1.75", isa=isa)
        contract = {
            "messages",
            "errors",
            "signals",
            "opens",
            "signals_sha256",
            "venues",
        }
        assert contract <= set(found)
        assert found == json.loads(json.dumps(expected))
        assert (found["opens"], found["messages"], found["errors"]) == (11, 7812, 0)

    def test_takes_the_opening_threshold(self) -> None:
        found = self.shipped("--fee-bps", "1.75", "--min-net-bps", "0.3")
        signals, run = replay(SHIPPED, fee_bps=1.75, open_net_bps=0.3)
        assert found["signals_sha256"] == run.digest.hexdigest()
        assert 0 < found["signals"] == len(signals) < 886

    def test_takes_a_configuration(self, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        path.write_text(
            "[detect]\nopen_net_bps = 0.3\nclose_net_bps = 0.1\n"
            "[venues.binance]\nfee_bps = 1.5\n[venues.'binance.usdm']\nfee_bps = 2.0\n"
            "[[pair]]\na = 'binance:BTC/USDT'\nb = 'binance.usdm:BTC/USDT:USDT'\n"
        )
        found = self.shipped("-c", str(path))
        truth = Oracle((LEGS,), {SPOT: 1.5, USDM: 2.0}, open_bps=0.3, close_bps=0.1)
        assert (found["signals"], found["opens"]) == (len(truth.run(reads_of(SHIPPED))), truth.opps)
        assert truth.opps > 0

    @pytest.mark.parametrize(
        "args",
        [
            ("nowhere=x.jsonl",),
            ("binance=x.jsonl", "--fee-bps", "much"),
        ],
    )
    def test_wrong_words_are_a_usage_error(self, args: tuple[str, ...]) -> None:
        done = self.run(*args)
        assert done.returncode == 2
        assert done.stderr.strip()
        assert "Traceback" not in done.stderr

    def test_a_file_that_is_not_there_or_torn_is_named_and_not_a_success(
        self, tmp_path: Path, shipped_recording: Path
    ) -> None:
        torn = tmp_path / "torn.rec"
        torn.write_bytes(shipped_recording.read_bytes()[:-3])
        for path, codes in ((tmp_path / "absent.rec", (2, 3)), (torn, (1, 3))):
            done = self.run(f"{SPOT}={path}")
            assert done.returncode in codes
            assert path.name in done.stderr
            assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ our own recordings


class TestRecordings:
    ENTRIES = (
        (Kind.OPENED, 1, 100, 10, b'{"url": "", "venue": "binance"}'),
        (Kind.READ, 1, 101, 11, frame_of('{"u":1,"s":"A","b":"1","B":"1","a":"2","A":"1"}')),
        (Kind.READ, 1, 102, 12, b"\x81"),
        (Kind.TICK, 0, 103, 13, b""),
        (Kind.LOST, 1, 104, 14, b'{"reason": "cut"}'),
    )

    @pytest.fixture
    def small(self, tmp_path: Path) -> tuple[Path, list[int]]:
        """A small recording and the offsets at which its entries begin, and its end."""
        path = tmp_path / "small.rec"
        with RecordingWriter(path) as writer:
            for entry in self.ENTRIES:
                writer.write(*entry)
        ends = [16]
        for entry in self.ENTRIES:
            ends.append(ends[-1] + 32 + -(-len(entry[4]) // 8) * 8)
        assert path.stat().st_size == ends[-1]
        return path, ends

    def read(self, path: Path) -> tuple[list[tuple[Any, ...]], str | None]:
        found: list[tuple[Any, ...]] = []
        try:
            for entry in read_recording(path):
                found.append(tuple(entry))
        except RecordingError as error:
            return found, str(error)
        return found, None

    def test_what_is_written_is_read(self, small: tuple[Path, list[int]]) -> None:
        assert self.read(small[0]) == (list(self.ENTRIES), None)

    def test_the_file_begins_with_magic_and_version(self, small: tuple[Path, list[int]]) -> None:
        head = small[0].read_bytes()[:16]
        assert head == b"CWREC\0\0\0" + b"\x01\0\0\0" + b"\x20\0\0\0"

    def test_cut_anywhere_it_is_read_up_to_the_last_whole_entry(
        self, small: tuple[Path, list[int]], tmp_path: Path
    ) -> None:
        data, ends = small[0].read_bytes(), small[1]
        path = tmp_path / "cut.rec"
        for size in range(len(data)):
            path.write_bytes(data[:size])
            found, error = self.read(path)
            whole = [n for n, end in enumerate(ends) if end <= size]
            assert found == list(self.ENTRIES[: len(whole) - 1 if whole else 0]), size
            if size in ends:
                assert error is None, size
            elif size < 16:
                assert error is not None, size
                assert "not a crosswire recording" in error, size
            else:
                assert error is not None, size
                assert error.endswith(f"torn entry at byte {ends[whole[-1]]}"), size

    def test_with_any_byte_altered_it_says_where(
        self, small: tuple[Path, list[int]], tmp_path: Path
    ) -> None:
        data, ends = small[0].read_bytes(), small[1]
        path = tmp_path / "altered.rec"
        for at in range(len(data)):
            for bit in (0x01, 0x80):
                altered = bytearray(data)
                altered[at] ^= bit
                path.write_bytes(altered)
                found, error = self.read(path)
                assert error is not None, (at, bit)
                if at < 16:
                    assert found == []
                    continue
                number = max(n for n, end in enumerate(ends) if end <= at)
                assert found == list(self.ENTRIES[:number])
                assert error.endswith(f"entry at byte {ends[number]}"), (at, error)

    def test_an_entry_that_is_left_out_or_put_twice_shows_in_the_counts(
        self, small: tuple[Path, list[int]], tmp_path: Path
    ) -> None:
        data, ends = small[0].read_bytes(), small[1]
        path = tmp_path / "twice.rec"
        quote = data[ends[1] : ends[2]]
        for times, quotes in ((0, 0), (1, 1), (2, 1)):
            path.write_bytes(data[: ends[1]] + quote * times + data[ends[2] :])
            run = Replay([(SPOT, path)])
            run.run()
            assert run.engine.message_count == times
            if times:
                assert run.engine.top(0).quotes == quotes

    def test_a_torn_recording_is_not_replayed_as_if_it_were_whole(
        self, small: tuple[Path, list[int]], tmp_path: Path
    ) -> None:
        path = tmp_path / "torn.rec"
        path.write_bytes(small[0].read_bytes()[:-1])
        with pytest.raises(RecordingError, match=rf"torn entry at byte {small[1][-2]}$"):
            Replay([(SPOT, path)]).run()

    def test_a_line_that_comes_back_starts_its_stream_afresh(self, tmp_path: Path) -> None:
        """A frame cut by the loss is not continued, and the old top is not readable."""
        quote = '{"u":%d,"s":"A","b":"1","B":"1","a":"2","A":"1"}'
        path = tmp_path / "again.rec"
        opened = b'{"venue": "binance"}'
        with RecordingWriter(path) as writer:
            writer.write(Kind.OPENED, 1, 1, 1, opened)
            writer.write(Kind.READ, 1, 2, 2, frame_of(quote % 9) + frame_of(quote % 10)[:20])
            writer.write(Kind.LOST, 1, 3, 3, b"{}")
            writer.write(Kind.OPENED, 1, 4, 4, opened)
            writer.write(Kind.READ, 1, 5, 5, frame_of(quote % 5))
        run = Replay([(SPOT, path)])
        run.run()
        top = run.engine.top(0)
        assert (run.engine.message_count, run.engine.errors) == (2, {})
        assert (top.seq, top.quotes, top.stale, top.is_valid) == (5, 2, 0, True)

    @pytest.mark.parametrize("payload", [b"", b"{", b"{}", b"[]", b"\xff"])
    def test_an_opening_that_names_no_venue_is_an_error_of_the_recording(
        self, tmp_path: Path, payload: bytes
    ) -> None:
        path = tmp_path / "nameless.rec"
        with RecordingWriter(path) as writer:
            writer.write(Kind.OPENED, 1, 1, 1, payload)
            writer.write(Kind.READ, 1, 2, 2, frame_of("{}"))
        with pytest.raises(RecordingError):
            Replay([(SPOT, path)]).run()

    def test_reads_of_venues_that_were_not_asked_for_are_left_out(
        self, shipped_recording: Path
    ) -> None:
        _, run = replay({USDM: shipped_recording}, fee_bps=1.75)
        assert run.report()["messages"] == 5471
        assert set(run.report()["venues"]) == {USDM}

    def test_a_recording_of_another_version_is_refused(
        self, small: tuple[Path, list[int]], tmp_path: Path
    ) -> None:
        path = tmp_path / "new.rec"
        data = bytearray(small[0].read_bytes())
        data[8] = 2
        path.write_bytes(data)
        with pytest.raises(RecordingError, match="version 2"):
            list(read_recording(path))


class TestJsonLines:
    @pytest.mark.parametrize(
        "line",
        [
            "",
            "{",
            "[]",
            "7",
            '{"dir":"recv"}',
            '{"raw":"{}"}',
            '{"dir":"recv","ts_ns":"1","raw":7}',
            '{"dir":"recv","ts_ns":"x","raw":"{}"}',
            '{"dir":"recv","ts":"x","raw":"{}"}',
            '{"dir":"recv","ts":null,"raw":"{}"}',
            '{"dir":"recv","ts_ns":"1","b64":"*"}',
            '{"dir":"recv","ts":"NaN","raw":"{}"}',
            '{"dir":"recv","ts":"Infinity","raw":"{}"}',
            '{"dir":"recv","ts":"1e999999","raw":"{}"}',
            '{"dir":"recv","ts_ns":"1","raw":"\\ud800"}',
            '{"dir":"recv","ts_ns":"9223372036854775808","raw":"{}"}',
            "[" * 100_000,
            '{"dir":"recv","ts_ns":1' + "0" * 400 + ',"raw":"{}"}',
        ],
        ids=lambda line: line[:60],
    )
    def test_a_line_that_is_no_frame_is_named(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "bad.jsonl"
        good = '{"dir":"recv","ts_ns":"1","raw":"{\\"result\\":null,\\"id\\":1}"}\n'
        path.write_text(good + line + "\n" + good)
        with pytest.raises(RecordingError, match="line 2"):
            Replay([(SPOT, path)]).run()

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("{", "it is no JSON"),
            ("[" * 100_000, "it is no JSON"),
            ("[]", "it is no object"),
            ('{"raw":"{}"}', "it has no dir"),
            ('{"dir":"recv"}', "it has neither raw nor b64"),
            ('{"dir":"recv","raw":7}', "its raw cannot be read"),
            ('{"dir":"recv","raw":"\\ud800"}', "its raw cannot be read"),
            ('{"dir":"recv","b64":"*"}', "its b64 cannot be read"),
            ('{"dir":"recv","ts_ns":"x","raw":""}', "its ts_ns is no time"),
            ('{"dir":"recv","rx_ns":-1,"raw":""}', "its rx_ns is out of range"),
            ('{"dir":"recv","ts":"Infinity","raw":""}', "its ts is no time"),
            ('{"dir":"recv","ts":"1e99","raw":""}', "its ts is out of range"),
        ],
        ids=lambda text: text[:40],
    )
    def test_the_file_and_line_stand_first_then_why_and_what_is_right_last(
        self, tmp_path: Path, line: str, words: str
    ) -> None:
        path = tmp_path / "bad.jsonl"
        path.write_text('{"dir":"send"}\n' + line + "\n")
        with pytest.raises(RecordingError) as caught:
            Replay([(SPOT, path)])
        assert str(caught.value).startswith(f"{path}: line 2 is no frame: {words}; a frame is an ")
        assert "ts_ns" in str(caught.value)

    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            (b"{}", "it has no 'open_net_bps'"),
            (b"{", "it is not what a runtime writes"),
            (b"[]", "it is not what a runtime writes"),
            (b'{"open_net_bps":[]}', "it is not what a runtime writes"),
        ],
    )
    def test_a_configuration_that_cannot_be_read_is_told_in_words(
        self, tmp_path: Path, payload: bytes, words: str
    ) -> None:
        path = tmp_path / "bad.cwrec"
        with RecordingWriter(path) as writer:
            writer.write(Kind.CONFIG, 0, 1, 1, payload)
        with pytest.raises(RecordingError) as caught:
            Replay([(None, path)])
        assert str(caught.value) == f"{path}: its CONFIG entry cannot be read: {words}"

    def test_a_compressed_file_that_was_cut_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "cut.jsonl.gz"
        path.write_bytes(SHIPPED[SPOT].read_bytes()[:-40])
        with pytest.raises(RecordingError, match=r"cut\.jsonl\.gz: after line \d+"):
            Replay([(SPOT, path)]).run()

    def test_a_compressed_file_that_was_altered_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "altered.jsonl.gz"
        data = bytearray(SHIPPED[SPOT].read_bytes())
        data[len(data) // 2 : len(data) // 2 + 64] = b"\xff" * 64
        path.write_bytes(data)
        with pytest.raises(RecordingError, match=r"altered\.jsonl\.gz: "):
            Replay([(SPOT, path)]).run()
        path.write_bytes(data[:10] + b"\xff" * 64)
        with pytest.raises(RecordingError, match=r"altered\.jsonl\.gz: after line 0"):
            Replay([(SPOT, path)]).run()

    def test_plain_and_compressed_files_are_the_same(self, tmp_path: Path) -> None:
        plain = {}
        for name, path in SHIPPED.items():
            plain[name] = tmp_path / f"{name}.jsonl"
            plain[name].write_bytes(gzip.decompress(path.read_bytes()))
        one, other = (replay(paths, fee_bps=1.75)[1] for paths in (plain, SHIPPED))
        assert one.digest.hexdigest() == other.digest.hexdigest()

    def test_seconds_as_text_keep_their_nanoseconds(self, tmp_path: Path) -> None:
        path = tmp_path / "ts.jsonl"
        raw = json.dumps('{"u":1,"s":"A","b":"1","B":"1","a":"2","A":"1"}')
        path.write_text(f'{{"ts":"1633998512.063356901","dir":"recv","raw":{raw}}}\n')
        run = Replay([(SPOT, path)])
        run.run()
        assert run.engine.top(0).ts_rx == 1633998512063356901
