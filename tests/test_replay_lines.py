"""A recording of lines of one group, of deadlines and of coverings is replayed as it was lived."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosswire import Engine, Line, Pair, RecordingError
from crosswire.capture import Kind, RecordingWriter, read_recording
from crosswire.capture.replay import Replay, SignalDigest
from crosswire.codec import encode_frame
from crosswire.config import Config, VenueConfig
from crosswire.venues import venue

UTC = 1_700_000_000_000_000_000
SYMBOLS = {"binance": "AAAUSDT", "okx": "AAA-USDT"}
LINES = (("binance", 1), ("binance", 1), ("okx", 0))
CONFIG: dict[str, Any] = {
    "venues": ["binance", "okx"],
    "lines": [{"venue": name, "group": group} for name, group in LINES],
    "instruments": [
        {"id": n, "venue": name, "symbol": symbol, "multiplier": 1.0}
        for n, (name, symbol) in enumerate(SYMBOLS.items())
    ],
    "pairs": [{"rule": 1, "a": 0, "b": 1, "qty_max": None}],
    "fees_bps": {"binance": 0.0, "okx": 0.0},
    "open_net_bps": 0.0,
    "close_net_bps": 0.0,
    "liveness_limit_s": {"binance": 1e-6, "okx": 2e-6},
    "data_limit_s": {"binance": 3e-7, "okx": None},
}


def quote(name: str, seq: int, bid: int) -> bytes:
    if name == "binance":
        text = f'{{"u":{seq},"s":"AAAUSDT","b":"{bid}","B":"1","a":"{bid + 1}","A":"1"}}'
    else:
        text = (
            '{"arg":{"channel":"bbo-tbt","instId":"AAA-USDT"},"data":[{'
            f'"asks":[["{bid + 1}","1"]],"bids":[["{bid}","1"]],"ts":"{seq}","seqId":{seq}}}]}}'
        )
    return encode_frame(1, text.encode())


class Live:
    """An engine with the lines of CONFIG, and what a runtime writes of them."""

    def __init__(self, writer: RecordingWriter, data_limit_s: float = 3e-7) -> None:
        self.writer = writer
        self.now = 1
        self.engine = Engine(instruments_max=16, pairs_max=1, lines_max=8)
        for name, limit in (("binance", data_limit_s), ("okx", float("inf"))):
            self.engine.add_venue(
                name,
                venue(name).layout,
                liveness_limit_s=CONFIG["liveness_limit_s"][name],
                data_limit_s=limit,
            )
            self.engine.add_instrument(name, SYMBOLS[name], fee_bps=0.0)
        self.engine.set_pairs([Pair(1, 0, 1)])
        self.digest = SignalDigest()
        self.engine.on_signals = self.digest.add
        self.lines = [Line(self.engine, name, group=group) for name, group in LINES]
        self.is_open = [False] * len(LINES)
        writer.write_json(Kind.CONFIG, 0, UTC, 0, CONFIG)

    def step(self, kind: Kind, n: int, data: bytes = b"") -> None:
        line, (name, group) = self.lines[n], LINES[n]
        stamps = UTC + self.now, self.now
        if kind is Kind.TICK:
            self.writer.write(kind, 0, *stamps)
            self.engine.advance(*stamps)
        elif kind is Kind.OPENED:
            self.writer.write_json(kind, line.id, *stamps, {"venue": name, "group": group})
            line.open(*stamps)
            self.is_open[n] = True
        elif self.is_open[n]:
            self.writer.write(kind, line.id, *stamps, data or b"{}" * (kind is Kind.LOST))
            if kind is Kind.COVERED:
                line.cover(*stamps)
            elif kind is Kind.LOST:
                line.lose(*stamps)
                self.is_open[n] = False
            else:
                line.feed(data, *stamps)


def state_of(engine: Engine) -> list[Any]:
    return [
        *(engine.top(n) for n in range(2)),
        engine.losses(),
        engine.open_losses(),
        engine.stale_instruments(),
        engine.open_opportunities(),
    ]


KINDS = st.sampled_from([Kind.READ] * 6 + [Kind.TICK, Kind.OPENED, Kind.COVERED, Kind.LOST])
STEPS = st.lists(
    st.tuples(KINDS, st.integers(0, 2), st.integers(1, 9), st.sampled_from([1, 50, 400, 1100])),
    max_size=60,
)


class TestReplay:
    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(steps=STEPS)
    def test_all_is_as_it_was_lived(self, tmp_path: Path, steps: list[Any]) -> None:
        path = tmp_path / "r.cwrec"
        path.unlink(missing_ok=True)
        with RecordingWriter(path) as writer:
            live = Live(writer)
            for n in range(len(LINES)):
                live.step(Kind.OPENED, n)
                live.step(Kind.COVERED, n)
            for number, (kind, n, bid, wait) in enumerate(steps, 1):
                live.now += wait
                is_read = kind is Kind.READ
                live.step(kind, n, quote(LINES[n][0], number, bid) if is_read else b"")
        run = Replay([("binance", path), ("okx", path)])
        run.run()
        assert run.digest.hexdigest() == live.digest.hexdigest()
        assert run.digest.count == live.digest.count
        assert state_of(run.engine) == state_of(live.engine)

    def recorded(self, tmp_path: Path) -> Path:
        """Both lines cover and the first one is lost; the second is quiet for longer than a top of
        binance may be, and then speaks."""
        path = tmp_path / "r.cwrec"
        with RecordingWriter(path) as writer:
            live = Live(writer)
            for n in range(len(LINES)):
                live.step(Kind.OPENED, n)
                live.step(Kind.COVERED, n)
            live.now = 10
            live.step(Kind.READ, 0, quote("binance", 1, 5))
            live.step(Kind.LOST, 0)
            live.step(Kind.READ, 2, quote("okx", 1, 7))
            assert live.digest.count == 1  # what the second line carries is open
        return path

    def test_a_covering_makes_a_twin(self, tmp_path: Path) -> None:
        path = self.recorded(tmp_path)
        kinds = [entry.kind for entry in read_recording(path)]
        assert kinds.count(Kind.COVERED) == 3
        run = Replay([(None, path)])
        run.run()
        assert run.digest.count == 1
        assert run.engine.top(0).is_valid

    def test_the_recording_s_data_limit_holds_unless_terms_are_given(self, tmp_path: Path) -> None:
        path = self.recorded(tmp_path)
        for config, is_stale in ((None, True), (Config(), False)):
            if config:
                config.venues["binance"] = VenueConfig("binance", 0.0, "", 5.0)
            run = Replay([(None, path)], config=config)
            run.run()
            run.engine.advance(UTC + 1000, 1000)
            assert run.engine.top(0).is_stale == is_stale

    def test_groups_of_two_recordings_are_two(self, tmp_path: Path) -> None:
        first = self.recorded(tmp_path)
        second = tmp_path / "s.cwrec"
        second.write_bytes(first.read_bytes())
        run = Replay([(None, first), (None, second)])
        run.run()
        assert run.report()["errors"] == 0
        assert run.report()["venues"]["binance"]["AAAUSDT"]["counts"] == {"bookTicker": 2}

    def test_a_recording_without_lines_has_one_of_each_venue(self, tmp_path: Path) -> None:
        path = tmp_path / "old.cwrec"
        config = {k: v for k, v in CONFIG.items() if k not in ("lines", "data_limit_s")}
        with RecordingWriter(path) as writer:
            writer.write_json(Kind.CONFIG, 0, UTC, 0, config)
            writer.write_json(Kind.OPENED, 1, UTC, 1, {"venue": "okx", "url": ""})
            writer.write(Kind.READ, 1, UTC, 1, quote("okx", 1, 7))
        run = Replay([(None, path)])
        run.run()
        run.engine.advance(UTC + 1500, 1500)
        assert [len(quotes) for quotes in run.report()["venues"].values()] == [1, 1]
        assert not run.engine.top(1).is_stale

    @pytest.mark.parametrize(
        ("change", "group", "words"),
        [
            ({}, 2, "line 0 of binance is opened in group 2, which its CONFIG entry does not say"),
            ({}, 65536, "line 0 is opened in the impossible group 65536"),
            ({}, "x", "line 0 is opened in the impossible group 'x'"),
            ({"lines": [{"venue": "kraken", "group": 1}]}, 1, "it has no 'kraken'"),
            ({"lines": [{"venue": "okx"}]}, 1, "it has no 'group'"),
            ({"lines": 7}, 1, "it is not what a runtime writes"),
            ({"data_limit_s": 7}, 1, "it is not what a runtime writes"),
        ],
    )
    def test_what_does_not_fit_is_told(
        self, tmp_path: Path, change: dict[str, Any], group: Any, words: str
    ) -> None:
        path = tmp_path / "r.cwrec"
        with RecordingWriter(path) as writer:
            writer.write_json(Kind.CONFIG, 0, UTC, 0, {**CONFIG, **change})
            writer.write_json(Kind.OPENED, 0, UTC, 1, {"venue": "binance", "group": group})
        with pytest.raises(RecordingError, match=words):
            Replay([(None, path)]).run()
