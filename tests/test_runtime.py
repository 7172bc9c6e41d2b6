"""A configuration at work, in simulated time: what is received is recorded, judged and replayed.

The venues are the local simulator's, spoken over scripted connections; see ``fake_world``.
"""

from __future__ import annotations

import asyncio
import errno
import io
import json
import threading
from collections.abc import Callable
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_world import TS_START, FakeSeam, Mute, Peer, Refusing, leftovers, simulate

from crosswire.capture import Entry, Kind, RecordingWriter, read_recording, recording
from crosswire.capture.replay import Replay, SignalDigest
from crosswire.codec import encode_frame
from crosswire.config import Config, PairConfig, VenueConfig
from crosswire.errors import MessageError, RecordingError, SubscriptionError, UsageError
from crosswire.instruments import Instrument, cross_pairs
from crosswire.line import Line
from crosswire.records import SIGNAL_DTYPE
from crosswire.runtime import Runtime, build_engine
from crosswire.session import Session
from crosswire.sim import Scenario, find_truth, generate, judge, make_plan
from crosswire.sim.market import frame_of
from crosswire.venue import SimQuote
from crosswire.venues import dialect, venue, venue_names

NAMES = venue_names()
SYMBOLS = ("BTC/USDT", "ETH/USDT")
PORTS = {name: 9000 + number for number, name in enumerate(NAMES)}


def config_of(**changes: Any) -> Config:
    """Return a configuration of every venue, all instruments crossed."""
    instruments: list[Instrument] = []
    venues: dict[str, VenueConfig] = {}
    for name in NAMES:
        known = venue(name)
        path = dialect(name).path
        url = f"ws://127.0.0.1:{PORTS[name]}{path}"
        venues[name] = VenueConfig(name, known.fee_bps, url, trades=True)
        natives = [known.native(symbol) for symbol in SYMBOLS]
        instruments += [Instrument(name, native, known.unified(native)) for native in natives]
    pairs = [
        PairConfig((a.venue, str(a.symbol)), (b.venue, str(b.symbol)), 0.5, 0.2)
        for a, b in cross_pairs(instruments)
    ]
    options: dict[str, Any] = {"open_net_bps": 0.5, "close_net_bps": 0.2, "backoff_cap_s": 0.2}
    return Config(**{"venues": venues, "pairs": pairs, **options, **changes})


class VenuePeer(Peer):
    """One connection of a simulated venue."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.spoken = dialect(name)
        self.streams: set[str] = set()

    def on_text(self, text: str) -> None:
        texts, streams, _ = self.spoken.answer(text)
        for answer in texts:
            self.say(answer)
        self.streams |= {native for native, _ in streams}


class Net(FakeSeam):
    """A network on which every port is a venue."""

    def __init__(self, answer: Callable[[str, int], Peer] | None = None) -> None:
        super().__init__()
        self._answer = answer or (lambda name, number: VenuePeer(name))
        self._counts = dict.fromkeys(NAMES, 0)
        self.newest: dict[str, Peer] = {}

    async def connect(self, protocol_factory: Any, host: str, port: int, *rest: Any) -> Any:
        name = NAMES[port - 9000]
        peer = self._answer(name, self._counts[name])
        self._counts[name] += 1
        self._peers = [peer]
        self.newest[name] = peer
        return await super().connect(protocol_factory, host, port, *rest)


class Live:
    """A runtime that plays a scenario, and keeps its signals."""

    def __init__(self, record: Path | None, seed: int = 3, cuts: int = 0) -> None:
        self.scenario = Scenario(seed=seed, seconds=4.0, rate=400.0, symbols=SYMBOLS)
        self.plan = make_plan(self.scenario)
        self.cuts = cuts
        self.net = Net()
        self.config = config_of()
        self.runtime = Runtime(self.config, seam=self.net, record=record)
        self.runtime.engine.on_signals = lambda signals: self.batches.append(signals.copy())
        self.batches: list[Any] = []

    @property
    def signals(self) -> Any:
        return np.concatenate(self.batches) if self.batches else np.zeros(0, SIGNAL_DTYPE)

    async def play(self) -> None:
        plants = {item.id: item for item in self.plan.plants + self.plan.baits}
        async with self.runtime as runtime:
            await runtime.wait_live(5.0)
            start = asyncio.get_running_loop().time()
            for number, event in enumerate(generate(self.scenario, self.plan), 1):
                due = start + event.t_ns / 1e9 - asyncio.get_running_loop().time()
                if due > 0:
                    await asyncio.sleep(due)
                peer = self.net.newest[event.venue]
                if event.message is None or not isinstance(peer, VenuePeer):
                    continue
                stamp = TS_START + event.t_ns + number
                if event.plant is not None:
                    plants[event.plant].mark(stamp)
                frame = frame_of(peer.spoken, event.symbol, event.message, stamp)
                if self.cuts and number % (1600 // self.cuts) == 0:
                    peer.send(frame[: len(frame) // 2])
                    peer.cut()
                elif event.symbol in peer.streams:
                    peer.send(frame)

    def essence(self) -> list[tuple[Any, ...]]:
        """Return what does not depend on the clock."""
        names = ("event", "rule_id", "opp_id", "net_bps", "qty")
        return [
            (*(row[name].item() for name in names), row["legs"]["book_seq"].tolist())
            for row in self.signals
        ]


def digest(signals: Any) -> str:
    found = SignalDigest()
    found.add(signals)
    return found.hexdigest()


def feed_again(entries: list[Entry], config: Config) -> str:
    """Feed a recording to a fresh engine of a configuration; return its digest."""
    engine, _ = build_engine(config)
    found = SignalDigest()
    engine.on_signals = found.add
    lines: dict[int, Any] = {}
    for entry in entries:
        if entry.kind is Kind.OPENED:
            line = lines.get(entry.line) or Line(engine, entry.json()["venue"])
            lines[entry.line] = line
            line.open(entry.ts_rx, entry.mono_rx)
        elif entry.kind is Kind.READ:
            lines[entry.line].feed(entry.payload, entry.ts_rx, entry.mono_rx)
        elif entry.kind is Kind.LOST:
            lines[entry.line].lose(entry.ts_rx, entry.mono_rx)
        elif entry.kind is Kind.TICK:
            engine.advance(entry.ts_rx, entry.mono_rx)
    return found.hexdigest()


class TestARun:
    @pytest.mark.parametrize("cuts", [0, 8])
    def test_it_is_right_in_the_eyes_of_the_judge(self, tmp_path: Path, cuts: int) -> None:
        async def main() -> None:
            live = Live(tmp_path / "run.cwrec", cuts=cuts)
            await live.play()
            assert leftovers() == []
            truth = find_truth(read_recording(tmp_path / "run.cwrec"))
            counts: dict[str, Any] = {name: {} for name in NAMES}
            for number, item in enumerate(live.runtime.instruments):
                counts[item.venue][item.native] = live.runtime.engine.counts(number)
            verdict = judge(truth, live.signals, plants=live.plan.plants, counts=counts)
            assert verdict.ok, verdict.details
            assert verdict.intervals > 3
            losses = sum(session.losses for session in live.runtime.sessions.values())
            assert losses >= cuts // 2

        simulate(main())

    @pytest.mark.parametrize("cuts", [0, 8])
    def test_its_recording_fed_again_gives_the_same_signals(
        self, tmp_path: Path, cuts: int
    ) -> None:
        async def main() -> None:
            live = Live(tmp_path / "run.cwrec", cuts=cuts)
            await live.play()
            assert len(live.signals) > 20
            entries = list(read_recording(tmp_path / "run.cwrec"))
            assert feed_again(entries, live.config) == digest(live.signals)

        simulate(main())

    def test_a_replay_of_its_recording_gives_the_same_signals(self, tmp_path: Path) -> None:
        async def main() -> None:
            path = tmp_path / "run.cwrec"
            live = Live(path)
            await live.play()
            replay = Replay([(name, path) for name in NAMES], config=live.config)
            replay.run()
            assert replay.report()["messages"] == live.runtime.engine.message_count
            assert replay.digest.count == len(live.signals)
            assert replay.digest.hexdigest() == digest(live.signals)

        simulate(main())

    def test_without_a_configuration_a_replay_takes_the_recordings_own(
        self, tmp_path: Path
    ) -> None:
        async def main() -> None:
            path = tmp_path / "run.cwrec"
            live = Live(path)
            for name, fee_bps in zip(NAMES, (1.0, 2.5, 4.0), strict=True):
                live.config.venues[name].fee_bps = fee_bps
            live.config.pairs.reverse()
            live.config.pairs[0].qty_max = 0.5
            live.config.pairs[0].open_net_bps = 3.0
            live.config.venues = dict(reversed(live.config.venues.items()))
            live.runtime = Runtime(live.config, seam=live.net, record=path)
            live.runtime.engine.on_signals = lambda rows: live.batches.append(rows.copy())
            await live.play()
            assert len(live.signals) > 20
            for names in (NAMES, tuple(reversed(NAMES))):
                replay = Replay([(name, path) for name in names])
                replay.run()
                assert replay.digest.hexdigest() == digest(live.signals)
                assert replay.engine.instruments == live.runtime.engine.instruments

        simulate(main())

    @pytest.mark.parametrize("opened", list(permutations(NAMES)), ids="-".join)
    def test_venues_that_fall_silent_together_are_closed_as_they_were_live(
        self, tmp_path: Path, opened: tuple[str, ...]
    ) -> None:
        """Whichever of them was connected first: all but the last opened fall silent in one step,
        and the order of their closings is that of their lines."""
        path = tmp_path / "run.cwrec"
        runtime = Runtime(config_of(), seam=Net())
        found = SignalDigest()
        runtime.engine.on_signals = found.add
        lines = {name: session.line for name, session in runtime.sessions.items()}
        times = iter(range(TS_START, TS_START + 10**12, 4 * 10**9))
        with RecordingWriter(path) as writer:
            now = next(times)
            writer.write_json(Kind.CONFIG, 0, now, now, runtime.describe())
            for name in opened:
                what = {"venue": name, "url": "", "group": lines[name].group}
                writer.write_json(Kind.OPENED, lines[name].id, now, now, what)
                lines[name].open(now, now)

            def read(name: str, bid: str, ask: str) -> None:
                quote = SimQuote(bid, "1", ask, "1", now, now // 10**6)
                text = dialect(name).quote(venue(name).native("BTC/USDT"), quote)
                frame = encode_frame(1, text.encode())
                writer.write(Kind.READ, lines[name].id, now, now, frame)
                lines[name].feed(frame, now, now)

            for name in opened[:-1]:
                read(name, "100", "101")
            read(opened[-1], "200", "201")
            assert found.opens == len(NAMES) - 1
            now = next(times)
            read(opened[-1], "200", "201")
            now = next(times)
            writer.write(Kind.TICK, 0, now, now)
            runtime.engine.advance(now, now)
        assert found.count == 2 * found.opens
        replay = Replay([(None, path)])
        replay.run()
        assert replay.digest.hexdigest() == found.hexdigest()

    def test_other_terms_for_a_replay_leave_its_numbers(self, tmp_path: Path) -> None:
        async def main() -> None:
            path = tmp_path / "run.cwrec"
            live = Live(path)
            await live.play()
            captures = [(name, path) for name in NAMES]

            def rules(**terms: Any) -> set[tuple[int, int, int]]:
                replay = Replay(captures, **terms)
                assert replay.engine.instruments == live.runtime.engine.instruments
                found: set[tuple[int, int, int]] = set()
                replay.on_signals = lambda rows: found.update(
                    (int(row["rule_id"]), *row["legs"]["instrument"][:2].tolist()) for row in rows
                )
                replay.run()
                return found

            same = rules()
            assert same < rules(fee_bps=0.0)
            assert same <= rules(open_net_bps=0.0)
            assert rules(fee_bps=400.0) == set()

        simulate(main())

    def test_a_replay_of_some_of_its_venues_has_their_reads_only(self, tmp_path: Path) -> None:
        async def main() -> None:
            path = tmp_path / "run.cwrec"
            live = Live(path)
            await live.play()
            replay = Replay([(NAMES[-1], path)])
            replay.run()
            assert replay.engine.instruments == live.runtime.engine.instruments
            assert set(replay.report()["venues"]) == {NAMES[-1]}
            assert 0 < replay.report()["messages"] < live.runtime.engine.message_count

        simulate(main())

    @pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"fees_bps":{"nowhere":1}}'])
    def test_a_recording_whose_configuration_cannot_be_read_is_refused(
        self, tmp_path: Path, payload: bytes
    ) -> None:
        path = tmp_path / "odd.cwrec"
        with RecordingWriter(path) as writer:
            writer.write(Kind.CONFIG, 0, 1, 1, payload)
        with pytest.raises(RecordingError, match="CONFIG"):
            Replay([(NAMES[0], path)])

    def test_its_recording_holds_exactly_what_every_connection_sent(self, tmp_path: Path) -> None:
        sent: dict[str, bytes] = dict.fromkeys(NAMES, b"")

        class Copying(VenuePeer):
            def send(self, data: bytes) -> None:
                sent[self.spoken.venue] += b"" if data.startswith(b"HTTP/1.1 101") else data
                super().send(data)

        async def main() -> None:
            live = Live(tmp_path / "run.cwrec")
            live.net._answer = lambda name, number: Copying(name)
            await live.play()
            entries = list(read_recording(tmp_path / "run.cwrec"))
            names = {e.line: e.json()["venue"] for e in entries if e.kind is Kind.OPENED}
            read: dict[str, bytes] = dict.fromkeys(NAMES, b"")
            for entry in entries:
                if entry.kind is Kind.READ:
                    read[names[entry.line]] += entry.payload
            assert read == sent
            assert entries[0].kind is Kind.CONFIG
            assert entries[0].json() == json.loads(json.dumps(live.runtime.describe()))
            kinds = {entry.kind for entry in entries}
            assert kinds == set(Kind)
            assert all(a.mono_rx <= b.mono_rx for a, b in pairwise(entries))

        simulate(main())

    def test_every_stamp_of_its_recording_comes_from_the_seam(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with Runtime(config_of(), seam=Net(), record=tmp_path / "run.cwrec") as runtime:
                await runtime.wait_live(5.0)
            end = TS_START + round(asyncio.get_running_loop().time() * 1e9)
            for entry in read_recording(tmp_path / "run.cwrec"):
                assert TS_START <= entry.ts_rx <= end, entry.kind

        simulate(main())


class TestTwoInOneProcess:
    def test_they_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        async def alone(seed: int) -> list[tuple[Any, ...]]:
            live = Live(None, seed)
            await live.play()
            return live.essence()

        async def together() -> list[list[tuple[Any, ...]]]:
            both = [Live(tmp_path / f"{seed}.cwrec", seed) for seed in (3, 4)]
            await asyncio.gather(*(live.play() for live in both))
            assert leftovers() == []
            return [live.essence() for live in both]

        apart = [simulate(alone(seed)) for seed in (3, 4)]
        assert simulate(together()) == apart
        assert apart[0] != apart[1]
        assert all(len(signals) > 20 for signals in apart)


class TestBecomingLive:
    def test_a_venue_that_is_late_is_named_with_its_state(self) -> None:
        late = NAMES[1]

        async def main() -> None:
            net = Net(lambda name, number: Mute() if name == late else VenuePeer(name))
            async with Runtime(config_of(), seam=net) as runtime:
                with pytest.raises(TimeoutError) as caught:
                    await runtime.wait_live(3.0)
                text = str(caught.value)
                assert text == f"not live after 3 s: {late} (upgrading; no error)"
            assert leftovers() == []

        simulate(main())

    def test_the_reason_is_told_where_there_is_one(self) -> None:
        async def main() -> None:
            net = Net(lambda name, number: Refusing() if name == NAMES[0] else VenuePeer(name))
            async with Runtime(config_of(), seam=net) as runtime:
                with pytest.raises(TimeoutError, match=r"HandshakeError.*503"):
                    await runtime.wait_live(3.0)

        simulate(main())

    def test_it_is_not_live_before_the_last_one_is(self) -> None:
        class Slow(VenuePeer):
            def on_text(self, text: str) -> None:
                self.after(4.0, super().on_text, text)

        async def main() -> None:
            net = Net(lambda name, number: (Slow if name == NAMES[2] else VenuePeer)(name))
            async with Runtime(config_of(), seam=net) as runtime:
                await runtime.wait_live(9.0)
                assert net.seconds() > 3.99
                assert {s.state.value for s in runtime.sessions.values()} == {"live"}

        simulate(main())

    def test_a_refused_leg_is_named_and_the_rest_is_live(self) -> None:
        class Delisting(VenuePeer):
            def on_text(self, text: str) -> None:
                if "op" in text:
                    text = text.replace('"instId":"ETH-USDT"', '"instId":""')
                super().on_text(text)

            def say(self, text: str) -> None:
                super().say(text.replace('"instId":""', '"instId":"ETH-USDT"'))

        name = next(name for name in NAMES if venue(name).native("ETH/USDT") == "ETH-USDT")

        async def main() -> None:
            net = Net(lambda at, number: (Delisting if at == name else VenuePeer)(at))
            config = config_of()
            config.venues[name].trades = False
            async with Runtime(config, seam=net) as runtime:
                for _ in range(2):
                    with pytest.raises(SubscriptionError) as caught:
                        await runtime.wait_live(5.0)
                    assert caught.value.code == "subscription-refused"
                    assert f"{name} {runtime.sessions[name].refused[0]}" in str(caught.value)
                    assert "ETH-USDT" in str(caught.value)
                    assert {s.state.value for s in runtime.sessions.values()} == {"live"}
                    # It holds for the next connection as well.
                    net.newest[name].cut()
                    await asyncio.sleep(0.01)

        simulate(main())

    def test_after_a_loss_it_waits_again(self) -> None:
        def answer(name: str, number: int) -> Peer:
            return Refusing() if name == NAMES[0] and number else VenuePeer(name)

        async def main() -> None:
            net = Net(answer)
            async with Runtime(config_of(), seam=net) as runtime:
                await runtime.wait_live(5.0)
                net.newest[NAMES[0]].cut()
                await asyncio.sleep(1.0)
                with pytest.raises(TimeoutError, match=NAMES[0]):
                    await runtime.wait_live(1.0)

        simulate(main())

    def test_changes_of_state_are_told(self) -> None:
        async def main() -> None:
            seen: list[tuple[str, str]] = []
            runtime = Runtime(config_of(), seam=Net())
            runtime.on_state_changed = lambda s: seen.append((s.venue.name, s.state.value))
            async with runtime:
                await runtime.wait_live(5.0)
            for name in NAMES:
                mine = [state for venue_name, state in seen if venue_name == name]
                assert mine == [
                    "connecting",
                    "upgrading",
                    "subscribing",
                    "syncing",
                    "live",
                    "stopped",
                ]

        simulate(main())

    def test_a_callback_that_raises_at_every_change_ends_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(session: Session) -> None:
            raise ValueError("a bot's own mistake")

        async def main() -> None:
            net = Net()
            runtime = Runtime(config_of(), seam=net)
            runtime.on_state_changed = broken
            async with runtime:
                await runtime.wait_live(5.0)
                net.newest[NAMES[0]].cut()
                await asyncio.sleep(1.0)
                await runtime.wait_live(5.0)
                assert runtime.sessions[NAMES[0]].connects == 2
            assert {s.state.value for s in runtime.sessions.values()} == {"stopped"}
            # Five changes each, and five more of the one that was lost.
            assert runtime.callback_errors == 6 * len(NAMES) + 6

        simulate(main())
        assert "a bot's own mistake" in caplog.text


class TestLostMessages:
    BAD = '{"stream":"btcusdt@bookTicker","data":{"u":7,"s":"BTCUSDT","b":"x","B":"","a":0,"A":0}}'

    def live(self, seam: Net, **changes: Any) -> Runtime:
        assert NAMES[0] == "binance"
        return Runtime(config_of(advance_ms=1.0, **changes), seam=seam)

    def test_they_are_logged_with_everything_that_is_known_of_them(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            net = Net()
            async with self.live(net) as runtime:
                await runtime.wait_live(5.0)
                net.newest["binance"].say(self.BAD)
                await asyncio.sleep(0.002)
                net.newest["binance"].say("{")

        simulate(main())
        told = [r.getMessage() for r in caplog.records if r.name == "crosswire.runtime"]
        at = self.BAD.index('x"')
        assert told == [
            f"binance: message 1, of BTCUSDT, was lost: number-form at byte {at}: "
            "not a decimal number (number 1 of this name; 1 lost in all)",
            # Nobody looks after the last moment but the leaving itself.
            "binance: message 2, of no known symbol, was lost: json-cut at byte 1: "
            "the JSON text ends early (number 1 of this name; 2 lost in all)",
        ]

    def test_ten_of_a_name_are_logged_and_then_every_power_of_ten(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            net = Net()
            told: list[str] = []
            runtime = self.live(net)
            runtime.on_message_error = lambda s, e: told.append(f"{s.venue.name} {e.code}")
            async with runtime:
                await runtime.wait_live(5.0)
                for _ in range(120):
                    for _ in range(10):
                        net.newest["binance"].say(self.BAD)
                    await asyncio.sleep(0.002)
                net.newest["binance.usdm"].say("{")
                net.newest["binance"].say("{")
                await asyncio.sleep(0.002)
            assert told.count("binance number-form") == 1200
            assert sorted(set(told)) == [
                "binance json-cut", "binance number-form", "binance.usdm json-cut",
            ]  # fmt: skip

        simulate(main())
        told = [r.getMessage() for r in caplog.records if r.name == "crosswire.runtime"]
        numbers = [
            int(text.partition("(number ")[2].partition(" ")[0])
            for text in told
            if text.startswith("binance:") and "number-form" in text
        ]
        assert numbers == [*range(1, 11), 100, 1000]
        assert len(told) == len(numbers) + 2

    def test_a_callback_that_raises_is_counted_and_ends_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(session: Session, error: MessageError) -> None:
            raise ValueError("a bot's own mistake")

        async def main() -> None:
            net = Net()
            runtime = self.live(net)
            runtime.on_message_error = broken
            async with runtime:
                await runtime.wait_live(5.0)
                for _ in range(3):
                    net.newest["binance"].say(self.BAD)
                    await asyncio.sleep(0.002)
                assert runtime.callback_errors == 3
                assert {s.state.value for s in runtime.sessions.values()} == {"live"}

        simulate(main())
        assert "on_message_error raised for binance" in caplog.text


def see_the_end(runtime: Runtime, net: Net, record: Path) -> None:
    """Look that nothing of a runtime is left and that its recording is whole."""
    assert leftovers() == []
    assert {session.state.value for session in runtime.sessions.values()} == {"stopped"}
    assert all(transport.is_closing() for transport in net.transports)
    assert not any(session.line.is_live for session in runtime.sessions.values())
    kinds = [entry.kind for entry in read_recording(record)]
    assert kinds.count(Kind.OPENED) == kinds.count(Kind.LOST) == len(NAMES)


class TestEntering:
    def test_a_second_time_is_refused_while_it_runs_and_behind_it(self, tmp_path: Path) -> None:
        async def main() -> None:
            net = Net()
            runtime = Runtime(config_of(), seam=net, record=tmp_path / "run.cwrec")
            async with runtime:
                await runtime.wait_live(5.0)
                with pytest.raises(UsageError, match="entered once; make another one"):
                    await runtime.__aenter__()
                assert {s.state.value for s in runtime.sessions.values()} == {"live"}
            with pytest.raises(UsageError, match="entered once"):
                await runtime.__aenter__()
            see_the_end(runtime, net, tmp_path / "run.cwrec")

        simulate(main())

    def test_one_that_was_closed_before_is_refused(self) -> None:
        async def main() -> None:
            runtime = Runtime(config_of(), seam=Net())
            await runtime.aclose()
            with pytest.raises(UsageError, match="entered once"):
                await runtime.__aenter__()

        simulate(main())

    def test_one_whose_recording_could_not_begin_may_be_entered_again(self, tmp_path: Path) -> None:
        async def main() -> None:
            path = tmp_path / "later" / "run.cwrec"
            runtime = Runtime(config_of(), seam=Net(), record=path)
            with pytest.raises(UsageError, match="make the folder"):
                await runtime.__aenter__()
            path.parent.mkdir()
            async with runtime:
                await runtime.wait_live(5.0)

        simulate(main())


class TestLeaving:
    def test_twice_is_allowed(self) -> None:
        async def main() -> None:
            async with Runtime(config_of(), seam=Net()) as runtime:
                await runtime.wait_live(5.0)
                await runtime.aclose()
                await runtime.aclose()
            assert leftovers() == []

        simulate(main())

    @pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3, 0.5, 3.0])
    def test_at_any_moment_leaves_nothing_and_a_whole_recording(
        self, tmp_path: Path, after_s: float
    ) -> None:
        def answer(name: str, number: int) -> Peer:
            peer: Peer = [VenuePeer(name), Refusing(), Mute()][NAMES.index(name)]
            peer.connect_s = 0.1 * NAMES.index(name)
            return peer

        async def main() -> None:
            net = Net(answer)
            async with Runtime(config_of(), seam=net, record=tmp_path / "run.cwrec"):
                await asyncio.sleep(after_s)
            assert leftovers() == []
            assert all(transport._is_lost for transport in net.transports)
            kinds = [entry.kind for entry in read_recording(tmp_path / "run.cwrec")]
            assert kinds[0] is Kind.CONFIG
            assert kinds.count(Kind.OPENED) == kinds.count(Kind.LOST)

        simulate(main())

    @pytest.mark.parametrize("name", NAMES)
    def test_a_session_that_cannot_stop_is_told_and_holds_up_nothing(
        self, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail() -> None:
            raise ValueError(f"{name} does not let go")

        async def main() -> None:
            net = Net()
            runtime = Runtime(config_of(), seam=net, record=tmp_path / "run.cwrec")
            async with runtime:
                await runtime.wait_live(5.0)
                runtime.sessions[name].stop = fail  # type: ignore[method-assign]
                with pytest.raises(ValueError, match=f"{name} does not let go"):
                    await runtime.aclose()
                see_the_end(runtime, net, tmp_path / "run.cwrec")
                runtime.sessions[name].stop = Session.stop.__get__(runtime.sessions[name])  # type: ignore[method-assign]
            assert leftovers() == []

        simulate(main())
        assert caplog.text.count(f"ValueError: {name} does not let go") == 1

    @pytest.mark.parametrize("after_s", [0.0, 0.1, 0.9])
    def test_leaving_that_is_cancelled_leaves_nothing_either(
        self, tmp_path: Path, after_s: float
    ) -> None:
        class Stuck(VenuePeer):
            is_stuck = True

            def on_frame(self, opcode: int, payload: bytes) -> None:
                pass

        async def main() -> None:
            net = Net(lambda name, number: Stuck(name))
            runtime = Runtime(config_of(), seam=net, record=tmp_path / "run.cwrec")
            await runtime.__aenter__()
            await runtime.wait_live(5.0)
            leaving = asyncio.ensure_future(runtime.aclose())
            await asyncio.sleep(after_s)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            see_the_end(runtime, net, tmp_path / "run.cwrec")
            await runtime.aclose()

        simulate(main())

    def test_a_timer_that_dies_is_told_at_once_and_when_leaving(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(self: Runtime) -> None:
            raise ValueError("out of time")

        monkeypatch.setattr(Runtime, "_keep_time", fail)

        async def main() -> None:
            runtime = await Runtime(config_of(), seam=Net()).__aenter__()
            await runtime.wait_live(5.0)
            assert "out of time" in caplog.text
            with pytest.raises(ValueError, match="out of time"):
                await runtime.aclose()
            await runtime.aclose()
            assert leftovers() == []

        simulate(main())

    def test_an_error_of_the_body_goes_through_and_everything_stops(self) -> None:
        async def main() -> None:
            async def body() -> None:
                async with Runtime(config_of(), seam=Net()) as runtime:
                    await runtime.wait_live(5.0)
                    raise KeyError("mine")

            with pytest.raises(KeyError, match="mine"):
                await body()
            assert leftovers() == []

        simulate(main())

    def test_a_consumer_that_raises_stops_nothing(self) -> None:
        async def main() -> None:
            live = Live(None)

            def broken(signals: Any) -> None:
                raise ValueError("a bot's own mistake")

            live.runtime.engine.on_signals = broken
            await live.play()
            assert live.runtime.engine.callback_errors > 10
            assert all(s.losses == 0 for s in live.runtime.sessions.values())

        simulate(main())


class TestTheRecording:
    def test_it_is_begun_when_entering_and_never_over_another(self, tmp_path: Path) -> None:
        path = tmp_path / "run.cwrec"

        async def main() -> None:
            runtime = Runtime(config_of(), seam=Net(), record=path)
            assert not path.exists()
            path.write_bytes(b"dear")
            with pytest.raises(UsageError, match="holds something already"):
                await runtime.__aenter__()
            assert leftovers() == []
            assert isinstance(runtime.seam, Net)
            assert runtime.seam.connects == []
            assert path.read_bytes() == b"dear"
            await runtime.aclose()

        simulate(main())

    @pytest.mark.parametrize("room", [0, 5_000])
    def test_a_full_disk_ends_it_by_name_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
    ) -> None:
        class FullDisk(io.FileIO):
            def write(self, data: Any) -> int:
                if self.tell() + len(data) > room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return super().write(data)

        def open_file(path: Path, mode: str, **options: Any) -> Any:
            return FullDisk(path, mode) if "x" in mode else path.open(mode)

        monkeypatch.setattr(recording, "open_file", open_file)
        path = tmp_path / "run.cwrec"

        async def main() -> None:
            live = Live(path)
            await live.play()
            error = live.runtime.recording_error
            assert isinstance(error, RecordingError)
            assert str(error) == f"{path}: recording-failed: No space left on device"
            assert all(session.losses == 0 for session in live.runtime.sessions.values())
            unrecorded = Live(None)
            await unrecorded.play()
            assert live.essence() == unrecorded.essence()
            assert unrecorded.runtime.recording_error is None
            with pytest.raises(RecordingError):
                list(read_recording(path))

        simulate(main())

    def test_one_that_is_whole_has_no_error(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with Runtime(config_of(), seam=Net(), record=tmp_path / "run.cwrec") as runtime:
                await runtime.wait_live(5.0)
            assert runtime.recording_error is None

        simulate(main())

    def test_what_lines_receive_behind_its_end_is_not_told_to_it(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with Runtime(config_of(), seam=Net(), record=tmp_path / "run.cwrec") as runtime:
                await runtime.wait_live(5.0)
                assert all(s.line.recorder for s in runtime.sessions.values())
            for session in runtime.sessions.values():
                session.line.open(1, 1)
                session.line.feed(encode_frame(9, b""), 2, 2)
            assert runtime.engine.callback_errors == 0

        simulate(main())

    def test_its_thread_lives_as_long_as_the_runtime(self, tmp_path: Path) -> None:
        def is_recording() -> bool:
            return "crosswire-recorder" in {thread.name for thread in threading.enumerate()}

        async def main() -> None:
            runtime = Runtime(config_of(), seam=Net(), record=tmp_path / "run.cwrec")
            assert not is_recording()
            async with runtime:
                assert is_recording()
                await runtime.wait_live(5.0)
            assert not is_recording()

        simulate(main())


class TestSilence:
    def test_the_timer_closes_what_a_silent_venue_left_open(self, tmp_path: Path) -> None:
        one, other = NAMES[0], NAMES[1]

        async def main() -> None:
            net = Net()
            config = config_of(advance_ms=1.0)
            for terms in config.venues.values():
                terms.liveness_limit_s = 0.001
            async with Runtime(config, seam=net, record=tmp_path / "run.cwrec") as runtime:
                events: list[tuple[int, int]] = []
                runtime.engine.on_signals = lambda signals: events.extend(
                    zip(signals["event"].tolist(), signals["close_reason"].tolist(), strict=True)
                )
                await runtime.wait_live(5.0)
                for name, bid, ask in ((one, "100", "101"), (other, "200", "201")):
                    peer = net.newest[name]
                    assert isinstance(peer, VenuePeer)
                    text = peer.spoken.quote(
                        venue(name).native("BTC/USDT"), SimQuote(bid, "1", ask, "1", 1, 1)
                    )
                    peer.say(text)
                assert [event for event, _ in events] == [1]
                while len(events) < 2:  # noqa: ASYNC110 - simulated time; the test's limit ends it
                    await asyncio.sleep(0.001)
                assert [event for event, _ in events] == [1, 3]
                assert not runtime.engine.top(0).is_live

        simulate(main())

    def test_quiet_venues_stay_alive_by_the_limit_that_is_configured(self) -> None:
        async def main() -> None:
            net = Net()
            async with Runtime(config_of(), seam=net) as runtime:
                await runtime.wait_live(5.0)
                for name in NAMES:
                    assert runtime.config.venues[name].liveness_limit_s == 5.0
                    peer = net.newest[name]
                    assert isinstance(peer, VenuePeer)
                    quote = SimQuote("100", "1", "101", "1", 1, 1)
                    peer.say(peer.spoken.quote(venue(name).native("BTC/USDT"), quote))
                for _ in range(600):
                    await asyncio.sleep(0.1)
                    tops = [runtime.engine.top(n) for n in range(len(runtime.instruments))]
                    assert sum(top.is_valid and top.is_live for top in tops) == len(NAMES)

        simulate(main())


class TestTheConfiguration:
    def test_trades_are_subscribed_only_where_they_are_asked_for(self) -> None:
        config = config_of()
        config.venues[NAMES[0]].trades = False
        runtime = Runtime(config, seam=Net())
        assert len(runtime.sessions[NAMES[0]].streams) == len(SYMBOLS)
        assert len(runtime.sessions[NAMES[1]].streams) == 2 * len(SYMBOLS)

    def test_plain_text_off_loopback_is_refused_before_anything_runs(self) -> None:
        config = config_of()
        config.venues[NAMES[0]].url = "ws://192.0.2.1/stream"
        with pytest.raises(UsageError, match="insecure = true"):
            Runtime(config, seam=Net())
        config.venues[NAMES[0]].insecure = True
        assert Runtime(config, seam=Net()).sessions[NAMES[0]].insecure

    def test_the_directory_is_that_of_the_engine(self) -> None:
        runtime = Runtime(config_of(), seam=Net())
        told = runtime.describe()
        assert [(i["venue"], i["symbol"]) for i in told["instruments"]] == list(
            runtime.engine.instruments
        )
        assert [i["id"] for i in told["instruments"]] == list(range(len(runtime.instruments)))
        assert told["fees_bps"] == {name: venue(name).fee_bps for name in NAMES}
        assert len(told["pairs"]) == len(runtime.config.pairs)
