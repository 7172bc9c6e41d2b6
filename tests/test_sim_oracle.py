"""The truth oracle, rule by rule, on recordings written by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crosswire.capture import Entry, Kind
from crosswire.errors import RecordingError, VenueError
from crosswire.sim import Close, Truth, find_truth
from crosswire.sim.market import frame_of, text_frame
from crosswire.venue import SimQuote, SimTrade
from crosswire.venues import dialect

A, B = "binance", "okx"
LIMIT_NS = 500_000_000
CONFIG: dict[str, Any] = {
    "venues": [A, B],
    "instruments": [
        {"id": 1, "venue": A, "symbol": "BTCUSDT", "multiplier": 1.0},
        {"id": 2, "venue": B, "symbol": "BTC-USDT", "multiplier": 1.0},
    ],
    "pairs": [{"rule": 9, "a": 1, "b": 2}],
    "fees_bps": {A: 10, B: 10},
    "open_net_bps": 1.0,
    "close_net_bps": 0.0,
    "liveness_limit_s": {A: 0.5, B: 0.5},
}
LINES = {A: 1, B: 2}
NATIVE = {A: "BTCUSDT", B: "BTC-USDT"}
# Two fees of 10 bps cost 20.02 bps: sold at this bid, 100 bought nets 0.98, 1.08 and -0.02 bps.
BELOW, ABOVE, UNDER_CLOSE = "100.2100", "100.2110", "100.2000"


class Log:
    """A recording that is written entry by entry; time is given in ns after the start."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.entries: list[Entry] = []
        self.t = 0
        self.seq = 100
        self.add(Kind.CONFIG, 0, json.dumps(config or CONFIG).encode())
        for name in LINES:
            self.opened(name)

    def add(self, kind: Kind, line: int, payload: bytes = b"", at: int | None = None) -> None:
        self.t = self.t + 1_000 if at is None else at
        self.entries.append(Entry(kind, line, 10**18 + self.t, self.t, payload))

    def opened(self, name: str) -> None:
        self.add(Kind.OPENED, LINES[name], json.dumps({"venue": name, "url": ""}).encode())

    def quote(
        self,
        name: str,
        bid: str,
        ask: str,
        qty: tuple[str, str] = ("1", "1"),
        seq: int | None = None,
        at: int | None = None,
    ) -> int:
        """Add a READ with one quote; return its ts_rx."""
        self.seq = self.seq + 1 if seq is None else seq
        quote = SimQuote(bid, qty[0], ask, qty[1], 0, 0)
        self.add(Kind.READ, LINES[name], frame_of(dialect(name), NATIVE[name], quote, self.seq), at)
        return self.entries[-1].ts_rx

    def crossed(self) -> Log:
        """Let instrument 1 be bought at 100 and instrument 2 be sold above the threshold."""
        self.quote(A, "99.9", "100")
        self.quote(B, ABOVE, "101")
        return self

    def truth(self) -> Truth:
        return find_truth(self.entries)


class TestOpening:
    def test_a_cross_opens_when_the_second_leg_is_quoted(self) -> None:
        log = Log()
        log.quote(A, "99.9", "100", ("3", "2"), seq=41)
        ts_rx = log.quote(B, ABOVE, "101", ("5", "7"), seq=42)
        [interval] = log.truth().intervals
        assert (interval.rule, interval.buy, interval.sell) == (9, 1, 2)
        [point] = interval.points
        assert point[:5] == (ts_rx, 2, 42, 41, 42)
        assert point.net_bps == pytest.approx(1e4 * (100.2110 * 0.999 / (100 * 1.001) - 1))
        assert point.gross_bps == pytest.approx(21.1)
        assert point.qty == 2.0
        assert interval.close is None

    def test_the_other_direction_opens_as_well(self) -> None:
        log = Log()
        log.quote(A, ABOVE, "101")
        log.quote(B, "99.9", "100")
        [interval] = log.truth().intervals
        assert (interval.buy, interval.sell) == (2, 1)

    def test_an_edge_below_the_threshold_is_nothing(self) -> None:
        log = Log()
        log.quote(A, "99.9", "100")
        log.quote(B, BELOW, "101")
        assert log.truth().intervals == []

    def test_an_edge_exactly_at_the_threshold_opens(self) -> None:
        config = {**CONFIG, "fees_bps": {A: 0, B: 0}, "open_net_bps": 21.1}
        log = Log(config)
        log.quote(A, "99.9", "100")
        log.quote(B, "100.211", "101")
        assert len(log.truth().intervals) == 1
        log = Log(config)
        log.quote(A, "99.9", "100")
        log.quote(B, "100.2109999999999999", "101")
        assert log.truth().intervals == []

    def test_the_smaller_size_counts_with_its_multiplier(self) -> None:
        instruments = [dict(item) for item in CONFIG["instruments"]]
        instruments[0]["multiplier"] = 0.5
        log = Log({**CONFIG, "instruments": instruments})
        log.quote(A, "99.9", "100", ("1", "3"))
        log.quote(B, ABOVE, "101", ("2", "1"))
        assert log.truth().intervals[0].points[0].qty == 1.5


class TestStates:
    def test_a_change_of_size_is_a_state(self) -> None:
        log = Log().crossed()
        log.quote(B, ABOVE, "101", ("0.5", "1"))
        [interval] = log.truth().intervals
        assert [point.qty for point in interval.points] == [1.0, 0.5]

    def test_equal_edge_and_size_are_no_new_state(self) -> None:
        log = Log().crossed()
        log.quote(B, ABOVE, "101.5", ("4", "4"))
        log.quote(A, "99.8", "100.0", ("4", "1"))
        [interval] = log.truth().intervals
        assert len(interval.points) == 1

    def test_a_size_that_changes_by_the_last_digit_is_a_state(self) -> None:
        log = Log()
        log.quote(A, "99.9", "100", ("1", "0.30000000000000001"))
        log.quote(B, ABOVE, "101")
        log.quote(A, "99.9", "100", ("1", "0.30000000000000002"))
        assert len(log.truth().intervals[0].points) == 2


class TestHysteresis:
    def test_between_both_thresholds_it_stays_open(self) -> None:
        log = Log().crossed()
        log.quote(B, BELOW, "101")
        [interval] = log.truth().intervals
        assert len(interval.points) == 2
        assert interval.close is None

    def test_at_or_below_the_lower_threshold_it_closes(self) -> None:
        log = Log().crossed()
        log.quote(B, BELOW, "101")
        ts_rx = log.quote(B, UNDER_CLOSE, "101")
        [interval] = log.truth().intervals
        assert interval.close == Close(ts_rx, "moved")
        assert len(interval.points) == 2

    def test_exactly_at_the_lower_threshold_it_closes(self) -> None:
        config = {**CONFIG, "fees_bps": {A: 0, B: 0}, "open_net_bps": 5, "close_net_bps": 2.5}
        log = Log(config)
        log.quote(A, "99.9", "100")
        log.quote(B, "100.05", "101")
        log.quote(B, "100.0250000000000001", "101")
        ts_rx = log.quote(B, "100.025", "101")
        [interval] = log.truth().intervals
        assert len(interval.points) == 2
        assert interval.close == Close(ts_rx, "moved")

    def test_a_close_threshold_above_the_open_one_does_not_close_early(self) -> None:
        log = Log({**CONFIG, "close_net_bps": 5.0}).crossed()
        log.quote(B, ABOVE, "102", ("0.5", "1"))
        [interval] = log.truth().intervals
        assert interval.close is None
        ts_rx = log.quote(B, BELOW, "102")
        assert log.truth().intervals[0].close == Close(ts_rx, "moved")

    def test_it_opens_again_as_another_interval(self) -> None:
        log = Log().crossed()
        log.quote(B, UNDER_CLOSE, "101")
        log.quote(B, BELOW, "101")
        log.quote(B, ABOVE, "101")
        assert [len(interval.points) for interval in log.truth().intervals] == [1, 1]


class TestValidity:
    @pytest.mark.parametrize(
        ("bid", "ask", "qty"),
        [
            ("101", "101", ("1", "1")),
            ("102", "101", ("1", "1")),
            ("0", "101", ("1", "1")),
            (ABOVE, "0", ("1", "1")),
            (ABOVE, "101", ("0", "1")),
            (ABOVE, "101", ("1", "0")),
        ],
    )
    def test_an_invalid_top_closes_and_opens_nothing(
        self, bid: str, ask: str, qty: tuple[str, str]
    ) -> None:
        log = Log().crossed()
        ts_rx = log.quote(B, bid, ask, qty)
        log.quote(A, "99.9", "100")
        [interval] = log.truth().intervals
        assert interval.close == Close(ts_rx, "gate")

    def test_an_empty_side_is_invalid(self) -> None:
        log = Log().crossed()
        text = dialect(B).quote(NATIVE[B], SimQuote(ABOVE, "1", "101", "1", 7, 0))
        text = text.replace('"asks":[["101","1","0","3"]]', '"asks":[]')
        log.add(Kind.READ, LINES[B], text_frame(text))
        assert log.truth().intervals[0].close == Close(log.entries[-1].ts_rx, "gate")

    def test_prices_that_differ_beyond_a_float_are_apart(self) -> None:
        log = Log()
        log.quote(A, "99.99999999999999999", "100")
        log.quote(B, ABOVE, "101")
        assert len(log.truth().intervals) == 1


class TestStaleQuotes:
    @pytest.mark.parametrize("seq", [41, 40])
    def test_a_seq_that_does_not_rise_is_dropped_but_counted(self, seq: int) -> None:
        log = Log()
        log.quote(A, "99.9", "100", seq=41)
        log.quote(A, "90", "91", seq=seq)
        log.quote(B, ABOVE, "101")
        truth = log.truth()
        [interval] = truth.intervals
        assert interval.points[0].buy_seq == 41
        assert truth.stale == {1: 1}
        assert truth.counts[A, "BTCUSDT", "bookTicker"] == 2

    def test_a_venue_without_the_rule_takes_them_in_the_order_of_arrival(self) -> None:
        log = Log().crossed()
        ts_rx = log.quote(B, UNDER_CLOSE, "101", seq=1)
        assert log.truth().intervals[0].close == Close(ts_rx, "moved")

    def test_a_new_connection_begins_anew(self) -> None:
        log = Log()
        log.quote(A, "90", "91", seq=1000)
        log.opened(A)
        log.quote(A, "99.9", "100", seq=5)
        log.quote(B, ABOVE, "101")
        assert log.truth().intervals[0].points[0].buy_seq == 5


class TestLiveness:
    def test_silence_of_exactly_the_limit_is_alive(self) -> None:
        log = Log().crossed()
        at = log.entries[-1].mono_rx
        log.quote(A, "99.9", "100", at=at)
        log.add(Kind.TICK, 0, at=at + LIMIT_NS)
        assert log.truth().intervals[0].close is None

    def test_one_ns_beyond_the_limit_is_dead(self) -> None:
        log = Log().crossed()
        at = log.entries[-1].mono_rx
        log.quote(A, "99.9", "100", at=at)
        log.add(Kind.TICK, 0, at=at + LIMIT_NS + 1)
        [interval] = log.truth().intervals
        assert interval.close == Close(10**18 + at + LIMIT_NS + 1, "liveness")

    def test_a_read_of_the_other_line_declares_it_and_does_not_use_it(self) -> None:
        log = Log().crossed()
        late = log.entries[-1].mono_rx + LIMIT_NS + 1
        log.quote(A, "99.9", "100", at=late - 2000)
        log.quote(A, "99.9", "100", ("1", "9"), at=late)
        [interval] = log.truth().intervals
        assert interval.close == Close(10**18 + late, "liveness")

    def test_a_pause_is_noted_where_nothing_is_recorded_for_a_tenth_of_a_second(self) -> None:
        log = Log().crossed()
        at = log.entries[-1].mono_rx
        for later in (99_999_999, 199_999_999, 199_999_999 + 712_000_000):
            log.add(Kind.TICK, 0, at=at + later)
        start = 10**18 + at + 99_999_999
        assert log.truth().pauses == [
            (start, start + 100_000_000),
            (start + 100_000_000, start + 812_000_000),
        ]

    def test_a_line_may_die_and_come_alive_by_the_same_read(self) -> None:
        log = Log().crossed()
        late = log.entries[-1].mono_rx + LIMIT_NS + 1
        log.quote(A, "99.9", "100", at=late - 2000)
        log.quote(B, ABOVE, "101", at=late)
        first, second = log.truth().intervals
        assert first.close == Close(10**18 + late, "liveness")
        assert second.points[0].ts_rx == 10**18 + late

    def test_any_byte_is_life_and_the_held_top_is_readable_again(self) -> None:
        log = Log().crossed()
        late = log.entries[-1].mono_rx + LIMIT_NS + 1
        log.add(Kind.TICK, 0, at=late)
        log.add(Kind.READ, LINES[B], b"\x8a\x00")
        log.quote(A, "99.9", "100")
        first, second = log.truth().intervals
        assert first.close is not None
        assert (second.points[0].trigger_instrument, second.close) == (1, None)

    def test_a_heartbeat_keeps_it_alive(self) -> None:
        log = Log().crossed()
        at = log.entries[-1].mono_rx
        for n in range(1, 5):
            for line in LINES.values():
                log.add(Kind.READ, line, b"\x89\x00", at=at + n * (LIMIT_NS - 2000))
        assert log.truth().intervals[0].close is None

    def test_opening_counts_as_activity(self) -> None:
        log = Log()
        opened = log.entries[-1].mono_rx
        log.quote(A, "99.9", "100", at=opened + LIMIT_NS)
        log.quote(B, ABOVE, "101", at=opened + LIMIT_NS)
        [interval] = log.truth().intervals
        assert interval.close is None


class TestConnections:
    def test_a_lost_line_ends_its_opportunities(self) -> None:
        log = Log().crossed()
        log.add(Kind.LOST, LINES[A], b'{"reason":"cut"}')
        [interval] = log.truth().intervals
        assert interval.close == Close(log.entries[-1].ts_rx, "lost")

    def test_after_a_reconnect_a_top_needs_a_new_quote(self) -> None:
        log = Log().crossed()
        log.add(Kind.LOST, LINES[A], b'{"reason":"cut"}')
        log.opened(A)
        log.quote(B, ABOVE, "102")
        assert len(log.truth().intervals) == 1
        log.quote(A, "99.9", "100")
        assert len(log.truth().intervals) == 2

    def test_a_line_that_opens_without_having_been_lost_is_a_gate(self) -> None:
        log = Log().crossed()
        log.opened(A)
        ts_rx = log.quote(B, ABOVE, "102")
        [interval] = log.truth().intervals
        assert interval.close == Close(ts_rx, "gate")

    def test_half_a_frame_of_a_lost_connection_is_forgotten(self) -> None:
        log = Log().crossed()
        log.add(Kind.READ, LINES[A], text_frame("x" * 300)[:100])
        log.add(Kind.LOST, LINES[A], b"{}")
        log.opened(A)
        log.quote(A, "99.9", "100")
        assert len(log.truth().intervals) == 2

    def test_data_without_a_config_or_a_connection_is_refused(self) -> None:
        log = Log()
        with pytest.raises(RecordingError):
            find_truth([Entry(Kind.READ, 1, 1, 1, b"")])
        log.add(Kind.READ, 77, b"\x89\x00")
        with pytest.raises(RecordingError):
            log.truth()


class TestFrames:
    def test_the_same_bytes_cut_anywhere_give_the_same_counts(self) -> None:
        log = Log()
        quote = SimQuote("99.9", "1", "100", "1", 0, 0)
        both: tuple[SimQuote | SimTrade, ...] = (quote, SimTrade("100", "1", 1, 5, 0))
        frames = [frame_of(dialect(A), NATIVE[A], item, n) for n, item in enumerate(both)]
        stream = b"\x89\x02hi".join(frames) + text_frame('{"result":null,"id":1}')
        for cut in range(len(stream) + 1):
            log.opened(A)
            log.add(Kind.READ, LINES[A], stream[:cut])
            log.add(Kind.READ, LINES[A], stream[cut:])
        expected = {(A, "BTCUSDT", "bookTicker"): cut + 1, (A, "BTCUSDT", "trade"): cut + 1}
        assert log.truth().counts == expected

    def test_a_fragmented_message_counts_where_it_ends(self) -> None:
        log = Log()
        log.quote(A, "99.9", "100")
        text = dialect(B).quote(NATIVE[B], SimQuote(ABOVE, "1", "101", "1", 7, 0)).encode()
        log.add(Kind.READ, LINES[B], b"\x01\x05" + text[:5])
        log.add(Kind.READ, LINES[B], b"\x89\x00" + b"\x00\x14" + text[5:25])
        log.add(Kind.READ, LINES[B], b"\x80\x7e" + (len(text) - 25).to_bytes(2, "big") + text[25:])
        [interval] = log.truth().intervals
        assert interval.points[0].ts_rx == log.entries[-1].ts_rx

    def test_a_long_frame_is_understood(self) -> None:
        log = Log()
        log.add(Kind.READ, LINES[B], b"\x81\x7f" + (70_000).to_bytes(8, "big") + b" " * 70_000)
        log.crossed()
        assert len(log.truth().intervals) == 1

    def test_several_messages_of_one_read_have_its_time(self) -> None:
        log = Log()
        log.quote(A, "99.9", "100")
        quotes = [SimQuote(bid, "1", "101", "1", 0, 0) for bid in (ABOVE, UNDER_CLOSE, ABOVE)]
        frames = [frame_of(dialect(B), NATIVE[B], quote, n) for n, quote in enumerate(quotes)]
        log.add(Kind.READ, LINES[B], b"".join(frames))
        first, second = log.truth().intervals
        assert first.close == Close(second.points[0].ts_rx, "moved")

    @pytest.mark.parametrize("head", [b"\xc1\x00", b"\x81\x80"])
    def test_compressed_or_masked_frames_are_an_error(self, head: bytes) -> None:
        log = Log()
        log.add(Kind.READ, LINES[A], head)
        with pytest.raises(VenueError):
            log.truth()

    def test_an_instrument_outside_the_config_only_counts(self) -> None:
        log = Log().crossed()
        quote = SimQuote("1", "1", "2", "1", 0, 0)
        log.add(Kind.READ, LINES[A], frame_of(dialect(A), "DOGEUSDT", quote, 5))
        truth = log.truth()
        assert truth.counts[A, "DOGEUSDT", "bookTicker"] == 1
        assert len(truth.intervals) == 1


def test_progress_is_told() -> None:
    told: list[int] = []
    log = Log().crossed()
    find_truth(log.entries, told.append)
    assert told == [len(log.entries)]
