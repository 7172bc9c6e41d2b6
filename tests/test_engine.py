"""The engine: tops, routes, liveness, lost lines, callbacks; and random walks against a model."""

from __future__ import annotations

import gc
import logging
import random
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slow_oracle import exact

from crosswire import Engine, Line, Pair, UsageError, isa_levels
from crosswire.codec import encode_frame
from crosswire.venue import Field, Layout, Message, Record, Slot, Text
from crosswire.venues import venue

SECOND = 1_000_000_000
OPEN, UPDATE, CLOSE = 1, 2, 3
BUY_MOVED, SELL_MOVED, GATE, SILENT, LOST = 1, 2, 4, 5, 6
NAMES = {
    "binance": ("AAAUSDT", "BBBUSDT", "CCCUSDT"),
    "binance.usdm": ("AAAUSDT", "BBBUSDT", "CCCUSDT"),
    "okx": ("AAA-USDT", "BBB-USDT", "CCC-USDT"),
}
RISING = ("binance", "binance.usdm")


def quote_text(
    name: str, symbol: str, seq: int, bid: str, bid_qty: str, ask: str, ask_qty: str
) -> str:
    if name == "okx":
        asks = f'[["{ask}","{ask_qty}","0","1"]]' if ask else "[]"
        bids = f'[["{bid}","{bid_qty}","0","1"]]' if bid else "[]"
        return (
            f'{{"arg":{{"channel":"bbo-tbt","instId":"{symbol}"}},"data":[{{"asks":{asks},'
            f'"bids":{bids},"ts":"{1000 + seq}","seqId":{seq}}}]}}'
        )
    sides = f'"b":"{bid or 0}","B":"{bid_qty or 0}","a":"{ask or 0}","A":"{ask_qty or 0}"'
    if name == "binance":
        return f'{{"u":{seq},"s":"{symbol}",{sides}}}'
    return f'{{"e":"bookTicker","u":{seq},"s":"{symbol}",{sides},"T":{1000 + seq},"E":1}}'


def trade_text(symbol: str, trade_id: int) -> str:
    return f'{{"e":"trade","s":"{symbol}","t":{trade_id},"p":"1","q":"1","T":1,"m":true}}'


def frame(text: str) -> bytes:
    return encode_frame(1, text.encode())


def plain(row: Any) -> dict[str, Any]:
    """A signal's head and two legs as Python numbers."""
    found = {name: row[name].item() for name in row.dtype.names if name != "legs"}
    found["buy"], found["sell"] = (
        {name: leg[name].item() for name in leg.dtype.names} for leg in row["legs"][:2]
    )
    return found


class World:
    """Two venues of one instrument each, one pair, and all signals."""

    def __init__(
        self,
        fees: tuple[float, float] = (0.0, 0.0),
        multipliers: tuple[float, float] = (1.0, 1.0),
        limits: tuple[float, float] = (1.0, 1.0),
        names: tuple[str, str] = ("binance", "okx"),
        **terms: Any,
    ) -> None:
        self.engine = Engine(instruments_max=4, pairs_max=2, signals_max=64, lines_max=4)
        self.names = names
        self.symbols = [NAMES[name][0] for name in names]
        for n, name in enumerate(names):
            self.engine.add_venue(name, venue(name).layout, liveness_limit_s=limits[n])
            self.engine.add_instrument(
                name, self.symbols[n], fee_bps=fees[n], multiplier=multipliers[n]
            )
        self.engine.set_pairs([Pair(7, 0, 1, **terms)])
        self.signals: list[dict[str, Any]] = []
        self.engine.on_signals = lambda rows: self.signals.extend(map(plain, rows))
        self.lines = [Line(self.engine, name) for name in names]
        self.seq = 100
        for line in self.lines:
            line.open(0, 0)

    def quote(
        self, leg: int, bid: str, ask: str, at: int, qty: tuple[str, str] = ("1", "1"), seq: int = 0
    ) -> list[dict[str, Any]]:
        """Quote one leg; return the signals that it gave."""
        self.seq += 1
        sides = (bid, qty[0], ask, qty[1])
        text = quote_text(self.names[leg], self.symbols[leg], seq or self.seq, *sides)
        before = len(self.signals)
        self.lines[leg].feed(frame(text), at, at)
        return self.signals[before:]

    def events(self) -> list[tuple[int, int, int]]:
        return [(s["event"], s["ts_rx"], s["close_reason"]) for s in self.signals]

    def opened(self, at: int = 10) -> World:
        """Buy the first leg at 100, sell the second at 101."""
        self.quote(0, "99", "100", at - 1)
        (signal,) = self.quote(1, "101", "102", at)
        assert signal["event"] == OPEN
        return self


# ------------------------------------------------------------------ tops


class TestTops:
    def test_a_top_is_the_last_quote(self) -> None:
        world = World()
        assert not world.engine.top(0).is_valid
        assert world.engine.top(0).quotes == 0
        world.quote(0, "99", "100", 5, ("2", "3"), seq=9)
        top = world.engine.top(0)
        assert (top.bid, top.bid_qty, top.ask, top.ask_qty) == (99, 2, 100, 3)
        assert (top.seq, top.ts_rx, top.ts_exch, top.quotes, top.stale) == (9, 5, 0, 1, 0)
        assert (top.is_valid, top.is_live) == (True, True)
        world.quote(1, "99", "100", 6, seq=9)
        assert world.engine.top(1).ts_exch == 1009 * 1_000_000

    @pytest.mark.parametrize(
        ("bid", "ask", "qty"),
        [
            ("100", "100", ("1", "1")),
            ("101", "100", ("1", "1")),
            ("", "100", ("", "1")),
            ("100", "", ("1", "")),
            ("", "", ("", "")),
            ("99", "100", ("0", "1")),
            ("99", "100", ("1", "0")),
            ("0", "100", ("1", "1")),
        ],
        ids=["locked", "crossed", "no bid", "no ask", "empty", "bid of 0", "ask of 0", "price 0"],
    )
    @pytest.mark.parametrize("leg", [0, 1])
    def test_a_top_that_is_no_market_is_not_valid_and_opens_nothing(
        self, leg: int, bid: str, ask: str, qty: tuple[str, str]
    ) -> None:
        world = World(open_net_bps=-4000)
        world.quote(1 - leg, "99", "100", 1)
        assert world.quote(leg, bid, ask, 2, qty) == []
        assert not world.engine.top(leg).is_valid
        assert [s["event"] for s in world.quote(leg, "99", "100", 3)] == [OPEN, OPEN]
        assert world.engine.top(leg).is_valid
        closed = world.quote(leg, bid, ask, 4, qty)
        assert [(s["event"], s["close_reason"]) for s in closed] == [(CLOSE, GATE)] * 2
        assert all(s["gates"] != 0 for s in closed)
        assert world.engine.open_opportunities() == []

    def test_where_ids_rise_one_that_does_not_is_counted_and_not_applied(self) -> None:
        world = World()
        world.quote(0, "99", "100", 1, seq=50)
        for seq in (50, 49, 1):
            world.quote(0, "98", "101", 2, seq=seq)
        top = world.engine.top(0)
        assert (top.bid, top.seq, top.quotes, top.stale) == (99, 50, 1, 3)
        assert world.engine.counts(0) == {"bookTicker": 4}
        world.quote(0, "98", "101", 2, seq=51)
        assert world.engine.top(0).bid == 98

    def test_a_stale_quote_changes_no_opportunity(self) -> None:
        world = World().opened()
        assert world.quote(0, "101", "102", 20, seq=1) == []
        assert len(world.engine.open_opportunities()) == 1

    def test_where_ids_may_fall_every_quote_is_applied(self) -> None:
        world = World()
        for seq, bid in ((50, "99"), (50, "98"), (7, "97")):
            world.quote(1, bid, "100", 1, seq=seq)
        top = world.engine.top(1)
        assert (top.bid, top.seq, top.quotes, top.stale) == (97, 7, 3, 0)

    def test_after_a_reconnect_ids_may_begin_again(self) -> None:
        world = World()
        world.quote(0, "99", "100", 1, seq=50)
        world.lines[0].lose(2, 2)
        assert not world.engine.top(0).is_valid
        world.lines[0].open(3, 3)
        assert not world.engine.top(0).is_valid
        world.quote(0, "98", "100", 4, seq=3)
        top = world.engine.top(0)
        assert (top.bid, top.seq, top.is_valid, top.stale) == (98, 3, True, 0)

    def test_a_line_opened_again_without_a_loss_has_no_readable_top(self) -> None:
        """A top is valid when it was quoted since its connection was opened."""
        world = World().opened()
        world.lines[0].open(20, 20)
        assert not world.engine.top(0).is_valid
        assert [event for event, _, _ in world.events()] == [OPEN, CLOSE]

    def test_a_line_opened_again_without_a_loss_gives_no_signal_of_its_old_top(self) -> None:
        world = World()
        world.quote(0, "99", "100", 1)
        world.lines[0].open(2, 2)
        assert world.quote(1, "101", "102", 3) == []

    def test_a_quote_of_one_instrument_leaves_the_others(self) -> None:
        world = World()
        world.quote(0, "99", "100", 1)
        world.quote(1, "101", "102", 2)
        assert [world.engine.top(n).bid for n in (0, 1)] == [99, 101]

    @pytest.mark.parametrize("number", [2, 3, 4, 2**31])
    def test_an_instrument_that_is_not_there_is_a_usage_error(self, number: int) -> None:
        engine = World().engine
        for ask in (engine.top, engine.counts):
            with pytest.raises(UsageError):
                ask(number)


# ------------------------------------------------------------------ routes


class TestEdges:
    def test_an_edge_is_net_of_the_taker_fees_of_both_sides(self) -> None:
        world = World(fees=(10.0, 20.0))
        world.quote(0, "99", "100", 1)
        ((signal),) = world.quote(1, "101", "102", 2)
        net = exact("101") * (1 - exact("0.002")) / (100 * (1 + exact("0.001"))) - 1
        assert signal["net_bps"] == pytest.approx(float(net * 10_000), rel=1e-6)
        assert signal["gross_bps"] == pytest.approx(100, rel=1e-6)
        assert signal["notional_ref"] == pytest.approx(100.1, rel=1e-12)
        assert signal["profit_ref"] == pytest.approx(101 * 0.998 - 100.1, rel=1e-9)

    def test_each_side_pays_its_own_fee(self) -> None:
        """Bought at 100 with 1 %, sold at 102.02 with 1 %, nothing is left; the sides differ."""
        for fees, is_open in (((100, 0), True), ((0, 100), True), ((99, 100), True)):
            world = World(fees=fees)
            world.quote(0, "99", "100", 1)
            world.quote(1, "102.02", "103", 2)
            assert bool(world.signals) == is_open, fees
        world = World(fees=(101, 101))
        world.quote(0, "99", "100", 1)
        assert world.quote(1, "102.02", "103", 2) == []

    def test_a_rebate_is_a_negative_fee(self) -> None:
        world = World(fees=(-5.0, -5.0))
        world.quote(0, "99.99", "100", 1)
        world.quote(1, "99.95", "100.05", 2)
        nets = [signal["net_bps"] for signal in world.signals]
        factor = exact("1.0005") / exact("0.9995")
        buy_a = exact("99.95") / 100 * factor - 1
        buy_b = exact("99.99") / exact("100.05") * factor - 1
        assert nets == pytest.approx([float(edge * 10_000) for edge in (buy_a, buy_b)], rel=1e-5)

    def test_both_directions_are_watched(self) -> None:
        world = World()
        world.quote(1, "99", "100", 1)
        ((signal),) = world.quote(0, "101", "102", 2)
        assert (signal["buy"]["instrument"], signal["sell"]["instrument"]) == (1, 0)
        assert (signal["buy"]["side"], signal["sell"]["side"]) == (1, -1)
        assert (signal["buy"]["vwap"], signal["sell"]["vwap"]) == (100, 101)
        assert (signal["buy"]["limit"], signal["sell"]["limit"]) == (100, 101)

    @pytest.mark.parametrize("bid", ["64", "65", "63.5", "64.0000001"])
    def test_opens_at_the_threshold_or_above(self, bid: str) -> None:
        """65/64 is 156.25 bps exactly, 64/64 nothing."""
        for threshold in (0.0, 156.25, -78.125):
            world = World(open_net_bps=threshold)
            world.quote(0, "60", "64", 1)
            signals = world.quote(1, bid, "70", 2)
            edge = (exact(bid) / 64 - 1) * 10_000
            assert bool(signals) == (edge >= exact(threshold)), (bid, threshold)

    def test_a_moved_ask_or_bid_of_the_other_side_opens_nothing(self) -> None:
        world = World(open_net_bps=50)
        world.quote(0, "99", "100", 1)
        world.quote(1, "100.4", "102", 2)
        for n in range(5):
            world.quote(0, f"9{n}", "100", 3)
            world.quote(1, "100.4", f"10{n + 3}", 3)
        assert world.signals == []


class TestHysteresis:
    def test_it_stays_open_above_the_closing_threshold_and_closes_at_it(self) -> None:
        world = World(open_net_bps=156.25, close_net_bps=78.125)
        world.quote(0, "60", "64", 1)
        bids = ["64.9", "65", "64.9", "64.51", "64.5", "64.51", "64.99", "65"]
        for at, bid in enumerate(bids, 2):
            world.quote(1, bid, "70", at)
        assert world.events() == [
            (OPEN, 3, 0),
            (UPDATE, 4, 0),
            (UPDATE, 5, 0),
            (CLOSE, 6, SELL_MOVED),
            (OPEN, 9, 0),
        ]
        assert [s["opp_id"] for s in world.signals] == [1, 1, 1, 1, 2]
        assert [s["ts_open"] for s in world.signals] == [3, 3, 3, 3, 9]

    def test_with_equal_thresholds_it_is_open_at_the_threshold_and_closed_below(self) -> None:
        world = World(open_net_bps=156.25, close_net_bps=156.25)
        world.quote(0, "60", "64", 1)
        for at, bid in enumerate(["65", "65.1", "65", "64.9999"], 2):
            world.quote(1, bid, "70", at)
        assert [event for event, _, _ in world.events()] == [OPEN, UPDATE, UPDATE, CLOSE]

    def test_a_closing_threshold_above_the_opening_one_is_refused(self) -> None:
        engine = World().engine
        with pytest.raises(UsageError):
            engine.set_pairs([Pair(1, 0, 1, open_net_bps=1.0, close_net_bps=1.5)])

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_thresholds_that_are_no_numbers_are_refused(self, value: float) -> None:
        engine = World().engine
        for terms in ({"open_net_bps": value}, {"open_net_bps": 1, "close_net_bps": value}):
            if terms.get("close_net_bps") == float("-inf"):
                continue
            with pytest.raises(UsageError):
                engine.set_pairs([Pair(1, 0, 1, **terms)])


class TestUpdates:
    def test_an_update_comes_when_edge_or_size_changes_and_not_otherwise(self) -> None:
        world = World().opened()
        cases = [
            (0, "98", "100", ("1", "1"), 0),
            (0, "99", "100", ("5", "1"), 0),
            (1, "101", "103", ("1", "9"), 0),
            (1, "101", "102", ("2", "1"), 0),
            (0, "99", "100", ("1", "1.5"), 1),
            (0, "99", "100.5", ("1", "1.5"), 1),
            (1, "101", "102", ("0.5", "1"), 1),
            (1, "101", "102", ("0.5", "1"), 0),
        ]
        for at, (leg, bid, ask, qty, count) in enumerate(cases, 20):
            signals = world.quote(leg, bid, ask, at, qty)
            assert [s["event"] for s in signals] == [UPDATE] * count, (at, signals)
            assert all(s["opp_id"] == 1 and s["ts_open"] == 10 for s in signals)

    def test_a_close_names_the_leg_that_moved(self) -> None:
        for leg, bid, ask, reason in ((0, "101", "102", BUY_MOVED), (1, "99", "102", SELL_MOVED)):
            world = World().opened()
            (signal,) = world.quote(leg, bid, ask, 20)
            assert (signal["event"], signal["close_reason"]) == (CLOSE, reason)
            assert (signal["opp_id"], signal["ts_open"], signal["ts_rx"]) == (1, 10, 20)

    def test_a_close_of_one_direction_and_an_open_of_the_other_come_in_this_order(self) -> None:
        world = World().opened()
        signals = world.quote(1, "98", "98.5", 20)
        assert [(s["event"], s["opp_id"], s["buy"]["instrument"]) for s in signals] == [
            (CLOSE, 1, 0),
            (OPEN, 2, 1),
        ]

    def test_signals_are_numbered_and_carry_rule_times_and_versions(self) -> None:
        world = World()
        world.quote(0, "99", "100", 1_000_000, seq=5)
        world.quote(1, "101", "102", 3_500_000, seq=6)
        world.quote(1, "101.5", "102", 4_000_000, seq=7)
        first, second = world.signals
        assert (first["seq"], second["seq"]) == (0, 1)
        assert (first["rule_id"], first["kind"], first["n_legs"], first["gates"]) == (7, 1, 2, 0)
        assert (first["ts_rx"], first["mono_rx"], first["ts_exch"]) == (
            3_500_000,
            3_500_000,
            1_006_000_000,
        )
        assert (second["buy"]["book_seq"], second["sell"]["book_seq"]) == (5, 7)
        assert (first["buy"]["age_us"], first["sell"]["age_us"]) == (2_500, 0)
        assert (first["buy"]["ts_exch"], first["sell"]["ts_exch"]) == (0, 1_006_000_000)
        assert (first["buy"]["venue"], first["sell"]["venue"]) == (0, 1)

    def test_what_is_open_can_be_asked_for(self) -> None:
        world = World().opened()
        (found,) = world.engine.open_opportunities()
        assert (found["opp_id"], found["rule_id"], found["ts_open"]) == (1, 7, 10)
        assert (found["buy"], found["sell"], found["qty"]) == (0, 1, 1.0)
        assert found["net_bps"] == pytest.approx(100)
        world.quote(1, "99", "102", 20)
        assert world.engine.open_opportunities() == []
        assert (world.engine.signal_count, world.engine.open_count) == (2, 1)


class TestSizes:
    @pytest.mark.parametrize(
        ("multipliers", "qty_max", "ask_qty", "bid_qty", "qty"),
        [
            ((1.0, 1.0), None, "2", "3", 2.0),
            ((1.0, 1.0), None, "3", "2", 2.0),
            ((0.01, 1.0), None, "50", "3", 0.5),
            ((1.0, 0.001), None, "2", "1500", 1.5),
            ((1000.0, 1.0), None, "0.5", "1000", 500.0),
            ((1.0, 1.0), 1.25, "2", "3", 1.25),
            ((1.0, 1.0), 2.0, "2", "3", 2.0),
            ((0.01, 1.0), 0.125, "50", "3", 0.125),
        ],
    )
    def test_a_size_is_the_smaller_one_in_base_units_and_capped(
        self,
        multipliers: tuple[float, float],
        qty_max: float | None,
        ask_qty: str,
        bid_qty: str,
        qty: float,
    ) -> None:
        terms: dict[str, Any] = {} if qty_max is None else {"qty_max": qty_max}
        world = World(multipliers=multipliers, **terms)
        world.quote(0, "99", "100", 1, ("9", ask_qty))
        (signal,) = world.quote(1, "101", "102", 2, (bid_qty, "9"))
        assert signal["qty"] == signal["buy"]["qty"] == signal["sell"]["qty"] == qty
        assert signal["notional_ref"] == pytest.approx(100 * qty)
        assert signal["profit_ref"] == pytest.approx(qty)

    def test_a_change_of_size_above_the_cap_is_no_update(self) -> None:
        world = World(qty_max=0.5).opened()
        assert world.quote(0, "99", "100", 20, ("1", "7")) == []
        (signal,) = world.quote(0, "99", "100", 21, ("1", "0.25"))
        assert (signal["event"], signal["qty"]) == (UPDATE, 0.25)

    @pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
    def test_impossible_sizes_and_multipliers_are_refused(self, value: float) -> None:
        engine = World().engine
        with pytest.raises(UsageError):
            engine.set_pairs([Pair(1, 0, 1, qty_max=value)])
        with pytest.raises(UsageError):
            engine.add_instrument("okx", "Z-Z", fee_bps=0.0, multiplier=value)

    @pytest.mark.parametrize("fee", [-1000.0, 1000.0, float("nan"), float("inf")])
    def test_impossible_fees_are_refused(self, fee: float) -> None:
        engine = World().engine
        with pytest.raises(UsageError):
            engine.add_instrument("okx", "Z-Z", fee_bps=fee)


# ------------------------------------------------------------------ liveness


class TestLiveness:
    def test_a_line_silent_for_its_limit_is_alive_and_a_nanosecond_later_it_is_not(self) -> None:
        world = World()
        world.lines[0].feed(b"", 0, 0)
        world.quote(0, "99", "100", 7)
        world.engine.advance(SECOND + 7, SECOND + 7)
        assert (world.lines[0].is_live, world.engine.top(0).is_live) == (True, True)
        world.engine.advance(SECOND + 8, SECOND + 8)
        assert (world.lines[0].is_live, world.engine.top(0).is_live) == (False, False)
        assert world.engine.top(0).is_valid

    @pytest.mark.parametrize("quiet", [0, 1])
    def test_what_is_open_closes_when_either_leg_falls_silent(self, quiet: int) -> None:
        for at, count in ((SECOND + 10, 1), (SECOND + 11, 2)):
            world = World().opened(10)
            world.quote(quiet, "99" if quiet == 0 else "101", "100" if quiet == 0 else "102", 10)
            world.quote(1 - quiet, *(("101", "102") if quiet == 0 else ("99", "100")), 500)
            world.engine.advance(at, at)
            assert len(world.signals) == count
        closed = world.signals[-1]
        assert (closed["event"], closed["close_reason"]) == (CLOSE, SILENT)
        assert (closed["ts_rx"], closed["opp_id"]) == (SECOND + 11, 1)
        assert closed["gates"] != 0

    def test_a_read_of_the_other_line_finds_the_silence_first(self) -> None:
        world = World().opened(10)
        signals = world.quote(1, "105", "106", SECOND + 10)
        assert [(s["event"], s["close_reason"]) for s in signals] == [(CLOSE, SILENT)]
        assert world.quote(1, "106", "107", SECOND + 11) == []

    def test_a_read_that_comes_too_late_first_ends_what_was_open_on_its_own_line(self) -> None:
        world = World(limits=(100.0, 1.0)).opened(10)
        signals = world.quote(1, "101", "102", SECOND + 11)
        assert [(s["event"], s["close_reason"]) for s in signals] == [(CLOSE, SILENT), (OPEN, 0)]
        assert [s["opp_id"] for s in signals] == [1, 2]

    @pytest.mark.parametrize(
        "life", [b"\x89\x00", b"\x8a\x00", encode_frame(1, b'{"result":null,"id":1}')]
    )
    def test_any_byte_is_life(self, life: bytes) -> None:
        world = World().opened(10)
        for at in range(SECOND, 6 * SECOND, SECOND):
            world.quote(1, "101", "102", at)
            world.lines[0].feed(life, at, at)
        assert world.events() == [(OPEN, 10, 0)]

    def test_bytes_of_a_frame_that_is_not_whole_are_life(self) -> None:
        world = World().opened(10)
        for number, byte in enumerate(frame("{" + " " * 20 + "}"), 1):
            world.quote(1, "101", "102", number * SECOND)
            world.lines[0].feed(bytes((byte,)), number * SECOND, number * SECOND)
        assert world.events() == [(OPEN, 10, 0)]

    def test_no_byte_is_no_life(self) -> None:
        world = World().opened(10)
        world.lines[0].feed(b"", SECOND, SECOND)
        world.lines[1].feed(b"\x89\x00", SECOND, SECOND)
        world.engine.advance(SECOND + 10, SECOND + 10)
        assert world.events()[-1] in [(OPEN, 10, 0), (CLOSE, SECOND + 10, SILENT)]
        assert not world.lines[0].is_live or world.engine.open_opportunities()

    def test_a_line_that_speaks_again_is_alive_and_opens_at_the_next_quote(self) -> None:
        world = World().opened(10)
        world.engine.advance(5 * SECOND, 5 * SECOND)
        for n, line in enumerate(world.lines):
            line.feed(b"\x89\x00", 5 * SECOND + n, 5 * SECOND + n)
            assert line.is_live
        assert len(world.signals) == 2
        (signal,) = world.quote(1, "101", "102", 5 * SECOND + 9)
        assert (signal["event"], signal["opp_id"]) == (OPEN, 2)

    def test_limits_are_the_venues_own(self) -> None:
        world = World(limits=(1.0, 3.0))
        world.quote(0, "99", "100", 0)
        world.quote(1, "99", "100", 0)
        seen = []
        for at in (SECOND, SECOND + 1, 3 * SECOND, 3 * SECOND + 1):
            world.engine.advance(at, at)
            seen.append([line.is_live for line in world.lines])
        assert seen == [[True, True], [False, True], [False, True], [False, False]]

    def test_time_that_runs_backwards_stands_still(self) -> None:
        world = World().opened(10 * SECOND)
        world.engine.advance(0, 0)
        world.engine.advance(-SECOND, -SECOND)
        assert world.lines[0].is_live
        assert world.events() == [(OPEN, 10 * SECOND, 0)]
        signals = world.quote(1, "102", "103", SECOND)
        assert [s["event"] for s in signals] == [UPDATE]

    def test_only_the_monotonic_clock_decides(self) -> None:
        world = World().opened(10)
        world.engine.advance(10**18, 20)
        assert world.lines[0].is_live
        world.engine.advance(30, SECOND + 11)
        assert not world.lines[0].is_live

    def test_an_open_line_that_never_spoke_falls_silent_after_its_limit(self) -> None:
        world = World()
        world.engine.advance(SECOND, SECOND)
        assert [line.is_live for line in world.lines] == [True, True]
        world.engine.advance(SECOND + 1, SECOND + 1)
        assert [line.is_live for line in world.lines] == [False, False]


class TestLostLines:
    @pytest.mark.parametrize("leg", [0, 1])
    def test_a_lost_line_closes_what_was_open_on_it(self, leg: int) -> None:
        world = World().opened()
        world.lines[leg].lose(20, 20)
        assert world.events() == [(OPEN, 10, 0), (CLOSE, 20, LOST)]
        assert (world.lines[leg].is_done, world.lines[leg].is_live) == (True, False)
        assert not world.engine.top(leg).is_valid
        assert world.engine.top(1 - leg).is_valid

    def test_losing_twice_says_nothing_twice(self) -> None:
        world = World().opened()
        for at in (20, 21):
            world.lines[0].lose(at, at)
        assert len(world.signals) == 2

    def test_a_lost_line_reads_nothing_until_it_is_opened(self) -> None:
        world = World().opened()
        world.lines[0].lose(20, 20)
        assert world.quote(0, "99", "100", 21) == []
        assert world.quote(1, "105", "106", 22) == []
        world.lines[0].open(23, 23)
        assert world.quote(1, "106", "107", 24) == []
        assert [s["event"] for s in world.quote(0, "99", "100", 25)] == [OPEN]

    def test_a_broken_line_gives_no_signal_after_it_was_lost(self) -> None:
        world = World().opened()
        assert world.lines[0].feed(b"\xff\xff", 20, 20) == 1
        world.lines[0].lose(21, 21)
        assert world.events()[-1] == (CLOSE, 21, LOST)
        assert world.quote(1, "105", "106", 22) == []

    def test_another_line_of_the_same_venue_goes_on(self) -> None:
        world = World()
        world.engine.add_instrument("binance", "BBBUSDT", fee_bps=0.0)
        second = Line(world.engine, "binance")
        second.open(0, 0)
        world.quote(0, "99", "100", 1)
        second.feed(frame(quote_text("binance", "BBBUSDT", 1, "1", "1", "2", "1")), 2, 2)
        world.lines[0].lose(3, 3)
        assert [world.engine.top(n).is_valid for n in (0, 2)] == [False, True]
        assert second.is_live


# ------------------------------------------------------------------ callbacks and batches


class TestCallbacks:
    def test_one_that_raises_is_counted_and_logged_and_nothing_is_lost(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = World()
        seen: list[int] = []

        def on_signals(rows: Any) -> None:
            seen.extend(rows["seq"].tolist())
            raise RuntimeError("mine")

        def on_quotes(rows: Any) -> None:
            raise ValueError("mine too")

        world.engine.on_signals = on_signals
        world.engine.on_quotes = on_quotes
        with caplog.at_level(logging.ERROR, "crosswire"):
            world.quote(0, "99", "100", 1)
            for at in range(2, 12):
                world.quote(1, f"{100 + at}", "200", at)
        assert seen == list(range(10))
        assert world.engine.callback_errors == 21
        assert "mine" in caplog.text
        assert world.engine.signals_refused == 0

    @pytest.mark.parametrize(
        "call",
        [
            lambda world: world.lines[0].feed(b"\x89\x00", 9, 9),
            lambda world: world.lines[1].feed(b"\x89\x00", 9, 9),
            lambda world: world.lines[0].received(0, 9, 9),
            lambda world: world.lines[0].open(9, 9),
            lambda world: world.lines[1].lose(9, 9),
            lambda world: world.engine.advance(9, 9),
            lambda world: world.engine.set_pairs([]),
        ],
        ids=["feed", "feed other", "received", "open", "lose", "advance", "set_pairs"],
    )
    def test_calling_back_into_the_engine_is_a_usage_error(
        self, call: Callable[[World], Any]
    ) -> None:
        world = World()
        raised: list[Exception] = []

        def on_signals(rows: Any) -> None:
            try:
                call(world)
            except UsageError as error:
                raised.append(error)

        world.engine.on_signals = on_signals
        world.quote(0, "99", "100", 1)
        world.quote(1, "101", "102", 2)
        assert len(raised) == 1
        assert world.engine.callback_errors == 0
        world.quote(1, "102", "103", 3)
        assert len(raised) == 2
        assert [world.engine.top(n).bid for n in (0, 1)] == [99, 102]

    def test_reading_the_state_from_a_callback_is_allowed(self) -> None:
        world = World()
        seen: list[Any] = []
        world.engine.on_signals = lambda rows: seen.append(
            (world.engine.top(1).bid, len(world.engine.open_opportunities()), world.engine.errors)
        )
        world.quote(0, "99", "100", 1)
        world.quote(1, "101", "102", 2)
        assert seen == [(101.0, 1, {})]

    def test_signals_come_before_later_messages_of_the_same_read_are_parsed(self) -> None:
        world = World()
        seen: list[tuple[int, float]] = []
        world.engine.on_signals = lambda rows: seen.append((len(rows), world.engine.top(1).bid))
        world.quote(0, "99", "100", 1)
        read = b"".join(
            frame(quote_text("okx", "AAA-USDT", n, f"{101 + n}", "1", "200", "1")) for n in range(5)
        )
        world.lines[1].feed(read, 2, 2)
        assert seen == [(1, 101.0 + n) for n in range(5)]

    def test_latest_only_hands_over_once_per_read(self) -> None:
        engine = Engine(instruments_max=4, pairs_max=2, signals_max=16, latest_only=True)
        lines = []
        for name in ("binance", "okx"):
            engine.add_venue(name, venue(name).layout)
            engine.add_instrument(name, NAMES[name][0], fee_bps=0.0)
            lines.append(Line(engine, name))
            lines[-1].open(0, 0)
        engine.set_pairs([Pair(1, 0, 1)])
        seen: list[list[int]] = []
        engine.on_signals = lambda rows: seen.append(rows["seq"].tolist())
        lines[0].feed(frame(quote_text("binance", "AAAUSDT", 1, "99", "1", "100", "1")), 1, 1)
        quotes = [quote_text("okx", "AAA-USDT", n, f"{101 + n}", "1", "999", "1") for n in range(9)]
        lines[1].feed(b"".join(map(frame, quotes)), 2, 2)
        assert seen == [list(range(9))]
        # More signals in one read than the ring holds come in several batches, none lost.
        seen.clear()
        quotes = [
            quote_text("okx", "AAA-USDT", n, f"{201 + n}", "1", "999", "1") for n in range(100)
        ]
        lines[1].feed(b"".join(map(frame, quotes)), 3, 3)
        assert [seq for batch in seen for seq in batch] == list(range(9, 109))
        assert (engine.signals_refused, engine.top(1).bid) == (0, 300)


class TestBatches:
    @pytest.mark.parametrize("rows_max", [1, 2, 3, 10, 64])
    @pytest.mark.parametrize("cut", [1, 100, 16384, 10**6])
    def test_more_records_than_a_batch_holds_come_in_several_and_none_is_lost(
        self, rows_max: int, cut: int
    ) -> None:
        engine = Engine(
            instruments_max=4, pairs_max=1, signals_max=4, rows_max=rows_max, takes_unknown=True
        )
        engine.add_venue("binance", venue("binance").layout)
        line = Line(engine, "binance")
        line.open(0, 0)
        batches: list[tuple[str, list[int]]] = []
        engine.on_quotes = lambda rows: batches.append(("q", rows["seq"].tolist()))
        engine.on_trades = lambda rows: batches.append(("t", rows["trade_id"].tolist()))
        rng = random.Random(rows_max)
        wanted: dict[str, list[int]] = {"q": [], "t": []}
        stream = bytearray()
        for number in range(1, 400):
            kind = rng.choice("qt")
            wanted[kind].append(number)
            stream += frame(
                quote_text("binance", "AAAUSDT", number, "1", "1", "2", "1")
                if kind == "q"
                else trade_text("AAAUSDT", number)
            )
        for at in range(0, len(stream), cut):
            line.feed(stream[at : at + cut], 1, 1)
        for kind, numbers in wanted.items():
            assert [n for k, batch in batches if k == kind for n in batch] == numbers
        assert max(len(batch) for _, batch in batches) <= rows_max
        assert engine.counts(0) == {"bookTicker": len(wanted["q"]), "trade": len(wanted["t"])}

    def test_every_record_of_a_read_has_been_handed_over_when_feed_returns(self) -> None:
        world = World()
        seen: list[int] = []
        world.engine.on_quotes = lambda rows: seen.extend(rows["seq"].tolist())
        for n in range(1, 20):
            world.quote(0, "1", "2", n, seq=n)
            assert seen == list(range(1, n + 1))

    def test_many_records_of_one_message_come_whole(self) -> None:
        engine = Engine(
            instruments_max=4, pairs_max=1, signals_max=4, rows_max=3, takes_unknown=True
        )
        engine.add_venue("okx", venue("okx").layout)
        line = Line(engine, "okx")
        line.open(0, 0)
        seen: list[int] = []
        engine.on_trades = lambda rows: seen.extend(rows["trade_id"].tolist())
        item = '{"tradeId":"%d","px":"1","sz":"2","side":"buy","ts":"3"}'
        items = ",".join(item % n for n in range(500))
        text = f'{{"arg":{{"channel":"trades","instId":"A-B"}},"data":[{items}]}}'
        line.feed(frame(text), 1, 1)
        assert seen == list(range(500))
        assert engine.message_count == 1

    def test_callbacks_may_be_set_and_taken_away_at_any_time(self) -> None:
        world = World()
        seen: list[int] = []
        world.quote(0, "1", "2", 1, seq=1)
        world.engine.on_quotes = lambda rows: seen.extend(rows["seq"].tolist())
        world.quote(0, "1", "2", 2, seq=2)
        world.engine.on_quotes = None
        world.quote(0, "1", "2", 3, seq=3)
        assert seen == [2]


class TestBounds:
    def test_what_does_not_fit_is_a_usage_error(self) -> None:
        engine = Engine(instruments_max=1, pairs_max=1, lines_max=1, venues_max=1, signals_max=2)
        engine.add_venue("binance", venue("binance").layout)
        engine.add_instrument("binance", "AAAUSDT", fee_bps=0.0)
        Line(engine, "binance")
        for call in (
            lambda: engine.add_venue("okx", venue("okx").layout),
            lambda: engine.add_venue("binance", venue("binance").layout),
            lambda: engine.add_instrument("binance", "AAAUSDT", fee_bps=0.0),
            lambda: engine.add_instrument("binance", "BBBUSDT", fee_bps=0.0),
            lambda: engine.add_instrument("nowhere", "BBBUSDT", fee_bps=0.0),
            lambda: Line(engine, "binance"),
            lambda: Line(engine, "nowhere"),
            lambda: engine.set_pairs([Pair(1, 0, 1)]),
            lambda: engine.set_pairs([Pair(1, 0, 0)]),
        ):
            with pytest.raises(UsageError):
                call()

    @pytest.mark.parametrize("symbol", ["", "X" * 33])
    def test_an_impossible_symbol_is_a_usage_error(self, symbol: str) -> None:
        with pytest.raises(UsageError):
            World().engine.add_instrument("okx", symbol, fee_bps=0.0)

    @pytest.mark.parametrize(
        "limits",
        [
            {"instruments_max": 0},
            {"lines_max": 0},
            {"venues_max": 0},
            {"signals_max": 3},
            {"signals_max": 0},
            {"instruments_max": 2**31},
            {"lines_max": 65535},
            {"rows_max": 0},
            {"rows_max": -1},
            {"pairs_max": -1},
            {"pairs_max": "many"},
        ],
    )
    def test_limits_out_of_range_are_a_usage_error(self, limits: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            Engine(**limits)

    def test_a_symbol_added_twice_is_refused_and_the_first_stays(self) -> None:
        world = World()
        with pytest.raises(UsageError, match="added before"):
            world.engine.add_instrument("binance", NAMES["binance"][0], fee_bps=9.0)
        world.opened()
        assert world.engine.instruments == [("binance", "AAAUSDT"), ("okx", "AAA-USDT")]

    @pytest.mark.parametrize(
        "terms",
        [
            {"a": 1, "b": 1},
            {"a": -1},
            {"b": 2**32},
            {"a": "BTC"},
            {"rule_id": -1},
            {"rule_id": 1.5},
            {"open_net_bps": float("nan")},
            {"open_net_bps": 1e6},
            {"close_net_bps": 1.0},
            {"close_net_bps": -5000.0},
            {"qty_max": 0.0},
            {"qty_max": float("nan")},
        ],
    )
    def test_an_impossible_pair_is_a_usage_error(self, terms: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            Pair(**{"rule_id": 1, "a": 0, "b": 1, **terms})

    def test_ids_of_arrays_are_ids(self) -> None:
        world = World()
        first, second = np.arange(2, dtype="<u4")
        world.engine.set_pairs([Pair(np.uint32(7), first, second)])
        assert world.engine.top(first).quotes == 0

    def test_pairs_that_are_refused_leave_those_before(self) -> None:
        world = World()
        for pairs in ([Pair(1, 0, 2)], [(1, 0, 1)], [Pair(n, 0, 1) for n in range(3)]):
            with pytest.raises(UsageError):
                world.engine.set_pairs(pairs)  # type: ignore[arg-type]
        world.opened()

    @pytest.mark.parametrize("number", [-1, 2, 2**40])
    def test_an_instrument_that_is_not_there_is_a_usage_error(self, number: int) -> None:
        world = World()
        for ask in (world.engine.top, world.engine.counts):
            with pytest.raises(UsageError, match="no instrument"):
                ask(number)

    @pytest.mark.parametrize("fee_bps", [float("nan"), 1000.0, -1000.0])
    def test_an_impossible_fee_of_a_venue_is_a_usage_error(self, fee_bps: float) -> None:
        with pytest.raises(UsageError):
            Engine().add_venue("okx", venue("okx").layout, fee_bps=fee_bps)

    @pytest.mark.parametrize(
        ("record", "path", "slot", "text"),
        [
            (Record.QUOTE, "s", Slot.SYMBOL, Text.NUMBER),
            (Record.TRADE, "s", Slot.SYMBOL, Text.NUMBER),
            (Record.COUNTED, "s", Slot.SYMBOL, Text.NUMBER),
            (Record.TRADE, "m", Slot.BUYER_IS_MAKER, Text.STRING),
            (Record.TRADE, "m", Slot.BUYER_IS_MAKER, Text.NUMBER),
            (Record.TRADE, "m", Slot.SIDE, Text.NUMBER),
            (Record.TRADE, "m", Slot.TRADE_KIND, Text.NUMBER),
            (Record.QUOTE, "p", Slot.PRICE, Text.STRING),
            (Record.QUOTE, "p", Slot.TRADE_ID, Text.NUMBER),
            (Record.TRADE, "b", Slot.BID, Text.STRING),
        ],
    )
    def test_a_field_that_its_record_cannot_hold_is_a_usage_error(
        self, record: Record, path: str, slot: Slot, text: Text
    ) -> None:
        fields = {"s": Field(Slot.SYMBOL, Text.STRING), path: Field(slot, text)}
        with pytest.raises(UsageError, match="layout"):
            Engine().add_venue("toy", Layout(messages=(Message("m", record, None, fields),)))

    @pytest.mark.parametrize(
        ("path", "slot"), [("d[].s", Slot.SYMBOL), ("d[].e", Slot.TAG), ("T", Slot.TS_MS)]
    )
    def test_a_field_on_the_wrong_side_of_an_array_of_records_is_a_usage_error(
        self, path: str, slot: Slot
    ) -> None:
        fields = {
            "s": Field(Slot.SYMBOL, Text.STRING),
            "e": Field(Slot.TAG, Text.STRING),
            "d[].p": Field(Slot.PRICE, Text.STRING),
            "d[].T": Field(Slot.TS_MS, Text.STRING),
        }
        Engine().add_venue("toy", Layout(messages=(Message("m", Record.TRADE, "e", fields),)))
        wrong = {p: f for p, f in fields.items() if f.slot is not slot}
        wrong[path] = Field(slot, Text.STRING)
        layout = Layout(messages=(Message("m", Record.TRADE, "e", wrong),))
        with pytest.raises(UsageError, match="outside"):
            Engine().add_venue("toy", layout)
        counted = Layout(messages=(Message("m", Record.COUNTED, "e", wrong),))
        Engine().add_venue("toy", counted)

    @pytest.mark.parametrize("name", ["on_signals", "on_quotes", "on_trades"])
    def test_a_consumer_that_cannot_be_called_is_refused(self, name: str) -> None:
        engine = World().engine
        before = getattr(engine, name)
        with pytest.raises(UsageError):
            setattr(engine, name, 7)
        assert getattr(engine, name) is before

    @pytest.mark.parametrize("name", ["on_signals", "on_quotes", "on_trades"])
    def test_a_consumer_set_inside_a_callback_is_refused_and_changes_nothing(
        self, name: str
    ) -> None:
        world = World()
        refused: list[str] = []
        seen: list[int] = []

        def consume(rows: Any) -> None:
            seen.extend(rows["seq"].tolist())
            before = getattr(world.engine, name)
            with pytest.raises(UsageError):
                setattr(world.engine, name, print)
            assert getattr(world.engine, name) is before
            refused.append(name)

        world.engine.on_quotes = consume
        world.quote(0, "1", "2", 1, seq=1)
        world.quote(0, "1", "2", 2, seq=2)
        assert (seen, refused, world.engine.callback_errors) == ([1, 2], [name, name], 0)

    def test_more_symbols_than_fit_are_counted_and_harm_no_other(self) -> None:
        engine = Engine(instruments_max=2, pairs_max=1, signals_max=4, takes_unknown=True)
        engine.add_venue("binance", venue("binance").layout)
        line = Line(engine, "binance")
        line.open(0, 0)
        seen: list[str] = []
        engine.on_quotes = lambda rows: seen.extend(
            engine.instruments[n][1] for n in rows["instrument"]
        )
        for n, symbol in enumerate(("A", "B", "C", "A", "D", "B"), 1):
            line.feed(frame(quote_text("binance", symbol, n, "1", "1", "2", "1")), n, n)
        assert seen == ["A", "B", "A", "B"]
        assert engine.errors == {"symbols-full": 2}

    def test_an_instruction_set_that_is_not_there_is_a_usage_error(self) -> None:
        with pytest.raises(UsageError):
            Engine(isa="sse9")

    def test_many_peers_of_one_instrument_all_signal_at_once(self) -> None:
        count = 60
        engine = Engine(instruments_max=64, pairs_max=64, signals_max=256)
        lines = {}
        for name in ("binance", "okx"):
            engine.add_venue(name, venue(name).layout)
            lines[name] = Line(engine, name)
            lines[name].open(0, 0)
        engine.add_instrument("binance", "HUB", fee_bps=0.0)
        for n in range(count):
            engine.add_instrument("okx", f"S-{n}", fee_bps=0.0)
        engine.set_pairs([Pair(n + 1, 0, n + 1) for n in range(count)])
        seen: list[tuple[int, int]] = []
        engine.on_signals = lambda rows: seen.extend(
            zip(rows["rule_id"].tolist(), rows["event"].tolist(), strict=True)
        )
        for n in range(count):
            text = quote_text("okx", f"S-{n}", 1, "101", "1", "102", "1")
            lines["okx"].feed(frame(text), 1, 1)
        rules = range(1, count + 1)
        for seq, (bid, ask, events) in enumerate(
            [("99", "100", (OPEN,)), ("103", "104", (CLOSE, OPEN)), ("101", "102", (CLOSE,))], 1
        ):
            seen.clear()
            text = quote_text("binance", "HUB", seq, bid, "1", ask, "1")
            lines["binance"].feed(frame(text), 2, 2)
            assert seen == [(rule, event) for rule in rules for event in events]
        assert engine.signals_refused == 0


class TestOwnership:
    def test_an_engine_goes_with_its_last_user(self) -> None:
        world = World().opened()
        world.engine.on_signals = world.engine.on_quotes = world.engine.on_trades = print
        engine = weakref.ref(world.engine)
        line = world.lines[0]
        del world
        assert engine() is not None  # the line still needs it
        del line
        assert engine() is None

    def test_an_engine_in_a_cycle_with_its_consumer_is_collected(self) -> None:
        world = World()
        world.engine.on_quotes = world.events  # it holds the world, and that the engine
        engine = weakref.ref(world.engine)
        del world
        gc.collect()
        assert engine() is None

    @pytest.mark.parametrize("name", ["on_signals", "on_quotes", "on_trades"])
    def test_rows_that_are_kept_stay_memory_and_cannot_be_written(self, name: str) -> None:
        world = World()
        kept: list[Any] = []
        setattr(world.engine, name, kept.append)
        world.quote(0, "99", "100", 9)
        world.quote(1, "101", "102", 10)
        world.lines[0].feed(frame(trade_text("AAAUSDT", 1)), 20, 20)
        del world
        gc.collect()
        (rows, *_) = kept
        assert rows["ts_rx"][0] in (9, 10, 20)
        with pytest.raises(ValueError, match="read-only"):
            rows["ts_rx"] = 1


# ------------------------------------------------------------------ against a model


@dataclass
class ModelTop:
    """Prices and sizes as exact fractions."""

    bid: Fraction
    bid_qty: Fraction
    ask: Fraction
    ask_qty: Fraction
    seq: int

    @property
    def is_valid(self) -> bool:
        return min(self.bid, self.bid_qty, self.ask, self.ask_qty) > 0 and self.bid < self.ask


@dataclass
class ModelRoute:
    pair: int
    buy: int
    sell: int
    opp_id: int = 0
    ts_open: int = 0
    last: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))


@dataclass
class Model:
    """Brute force: every route of the moved instrument, in exact fractions.

    Silence is looked for by reads and by the timer, before what they bring.
    """

    lines: list[int]
    fees: list[Fraction]
    multipliers: list[Fraction]
    pairs: list[tuple[int, int, Fraction, Fraction, Fraction]]
    limits: list[int]
    rising: list[bool]
    tops: dict[int, ModelTop] = field(default_factory=dict)
    seqs: dict[int, int] = field(default_factory=dict)
    alive: dict[int, int] = field(default_factory=dict)
    open_lines: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    opps: int = 0
    stale: int = 0

    def __post_init__(self) -> None:
        self.routes = [
            ModelRoute(n, *legs)
            for n, (a, b, *_) in enumerate(self.pairs)
            for legs in ((a, b), (b, a))
        ]

    def advance(self, now: int) -> None:
        for line in sorted(self.open_lines - self.dead):
            if now - self.alive[line] > self.limits[line]:
                self.dead.add(line)
                self._end(line, now, SILENT)

    def open(self, line: int, now: int) -> None:
        self.open_lines.add(line)
        self.dead.discard(line)
        self.alive[line] = now
        self.seqs = {k: v for k, v in self.seqs.items() if self.lines[k] != line}

    def lose(self, line: int, now: int) -> None:
        self._end(line, now, LOST)
        self.open_lines.discard(line)
        for instrument in [n for n in self.tops if self.lines[n] == line]:
            del self.tops[instrument]

    def speak(self, line: int, now: int) -> None:
        if line in self.open_lines:
            self.advance(now)
            self.alive[line] = now
            self.dead.discard(line)

    def distrust(self, instruments: list[int], now: int) -> None:
        for instrument in instruments:
            self.tops.pop(instrument, None)
            self._look(instrument, now)

    def quote(self, instrument: int, top: ModelTop, now: int) -> None:
        line = self.lines[instrument]
        if line not in self.open_lines:
            return
        if self.rising[line] and top.seq <= self.seqs.get(instrument, -1):
            self.stale += 1
            return
        self.seqs[instrument] = top.seq
        self.tops[instrument] = top
        self._look(instrument, now)

    def _end(self, line: int, now: int, reason: int) -> None:
        for route in self.routes:
            if route.opp_id and line in (self.lines[route.buy], self.lines[route.sell]):
                self._close(route, now, reason)

    def _readable(self, instrument: int) -> ModelTop | None:
        top = self.tops.get(instrument)
        line = self.lines[instrument]
        is_live = line in self.open_lines and line not in self.dead
        return top if top and top.is_valid and is_live else None

    def _look(self, instrument: int, now: int) -> None:
        for route in self.routes:
            if instrument in (route.buy, route.sell):
                self._evaluate(route, instrument, now)

    def _evaluate(self, route: ModelRoute, moved: int, now: int) -> None:
        _, _, opens, closes, qty_max = self.pairs[route.pair]
        buy, sell = self._readable(route.buy), self._readable(route.sell)
        if buy is None or sell is None:
            if route.opp_id:
                self._close(route, now, GATE)
            return
        gain, cost = sell.bid * (1 - self.fees[route.sell]), buy.ask * (1 + self.fees[route.buy])
        net = (gain / cost - 1) * 10_000
        qty = min(
            buy.ask_qty * self.multipliers[route.buy],
            sell.bid_qty * self.multipliers[route.sell],
            qty_max,
        )
        if route.opp_id and net < opens and net <= closes:
            self._close(route, now, BUY_MOVED if moved == route.buy else SELL_MOVED)
        elif not route.opp_id and net >= opens:
            self.opps += 1
            route.opp_id, route.ts_open = self.opps, now
            self._emit(OPEN, route, now, net, qty, (buy.seq, sell.seq))
        elif route.opp_id and (net, qty) != route.last:
            self._emit(UPDATE, route, now, net, qty, (buy.seq, sell.seq))

    def _emit(
        self,
        event: int,
        route: ModelRoute,
        now: int,
        net: Fraction,
        qty: Fraction,
        seqs: tuple[int, int],
    ) -> None:
        route.last = (net, qty)
        head = (event, now, route.pair + 1, route.buy, route.sell, route.opp_id, route.ts_open)
        self.events.append((*head, 0, seqs, float(net), float(qty)))

    def _close(self, route: ModelRoute, now: int, reason: int) -> None:
        head = (CLOSE, now, route.pair + 1, route.buy, route.sell, route.opp_id, route.ts_open)
        self.events.append((*head, reason, None, None, None))
        route.opp_id = 0


class Walk:
    """A random walk over an engine and its model, side by side."""

    def __init__(self, seed: int, isa: str | None = None, latest_only: bool = False) -> None:
        self.rng = rng = random.Random(seed)
        names = list(NAMES)[: rng.choice((2, 3, 3))]
        self.names, per_venue = names, rng.randint(1, 3)
        self.engine = Engine(
            instruments_max=16,
            pairs_max=64,
            signals_max=128,
            lines_max=4,
            isa=isa,
            latest_only=latest_only,
        )
        limits = [rng.choice((10, 1000, 5000)) for _ in names]
        self.instruments: list[tuple[str, str]] = []
        lines, fees, multipliers = [], [], []
        self.lines: list[Line] = []
        for number, name in enumerate(names):
            self.engine.add_venue(name, venue(name).layout, liveness_limit_s=limits[number] / 1e9)
            self.lines.append(Line(self.engine, name))
            for symbol in NAMES[name][:per_venue]:
                fees.append(rng.choice(("0", "1.75", "10", "-0.5", "0.1")))
                multipliers.append(rng.choice(("1", "1", "0.01", "1000")))
                self.instruments.append((name, symbol))
                lines.append(number)
                self.engine.add_instrument(
                    name, symbol, fee_bps=float(fees[-1]), multiplier=float(multipliers[-1])
                )
        pairs, terms = [], []
        legs = [(a, b) for a in range(len(lines)) for b in range(len(lines)) if a != b]
        for number, (a, b) in enumerate(rng.sample(legs, min(len(legs), rng.randint(1, 12))), 1):
            opens = rng.choice(("0", "0.7", "3", "-2", "-4000"))
            closes = str(exact(opens).__float__() - rng.choice((0, 0, 0.25, 4)))
            qty_max = rng.choice((None, None, "0.75", "12"))
            pairs.append(Pair(number, a, b, float(opens), float(closes), float(qty_max or "inf")))
            cap = exact(qty_max) if qty_max else Fraction(10**30)
            terms.append((a, b, exact(opens), exact(closes), cap))
        self.engine.set_pairs(pairs)
        self.model = Model(
            lines,
            [exact(fee) / 10_000 for fee in fees],
            [exact(multiplier) for multiplier in multipliers],
            terms,
            limits,
            [name in RISING for name in names],
        )
        self.signals: list[dict[str, Any]] = []
        self.engine.on_signals = lambda rows: self.signals.extend(map(plain, rows))
        self.now, self.seq, self.errors = 0, 1000, 0
        for line in range(len(self.lines)):
            self.open(line)

    def open(self, line: int) -> None:
        self.lines[line].open(self.now, self.now)
        self.model.open(line, self.now)

    def text_of(self, instrument: int) -> tuple[str, ModelTop]:
        rng = self.rng
        mid = 100_000_000 + rng.randint(-60_000, 60_000)
        spread = rng.choice((-3, 0)) if rng.random() < 0.04 else rng.randint(1, 9_000)
        bid, ask = f"{mid / 1e6:.6f}", f"{(mid + spread) / 1e6:.6f}"
        bid_qty, ask_qty = (rng.choice(("1", "0.5", "2.25", "40")) for _ in "ba")
        match rng.randrange(60):
            case 0:
                bid = bid_qty = ""
            case 1:
                ask = ask_qty = ""
            case 2:
                ask_qty = "0"
        self.seq += rng.choice((1, 1, 1, 1, 5, 0, -3))
        sides = (bid, bid_qty, ask, ask_qty)
        numbers = [exact(text or "0") for text in sides]
        top = ModelTop(numbers[0], numbers[1], numbers[2], numbers[3], self.seq)
        return quote_text(*self.instruments[instrument], self.seq, *sides), top

    def step(self) -> None:
        rng, line = self.rng, self.rng.randrange(len(self.lines))
        self.now += rng.choice((0, 1, 3, 7, 10, 11, 40))
        action = rng.random()
        mine = [n for n, each in enumerate(self.model.lines) if each == line]
        if action < 0.80:
            self.feed_quotes(line, mine)
        elif action < 0.84:
            self.now += rng.choice((100, 999, 1000, 1001, 5001))
            self.engine.advance(self.now, self.now)
            self.model.advance(self.now)
        elif action < 0.88:
            self.lines[line].feed(b"\x89\x00", self.now, self.now)
            self.model.speak(line, self.now)
        elif action < 0.92:
            self.feed_error(line, mine)
        elif action < 0.96:
            self.lines[line].lose(self.now, self.now)
            self.model.lose(line, self.now)
        elif line not in self.model.open_lines:
            self.open(line)

    def feed_quotes(self, line: int, mine: list[int]) -> None:
        chosen = [self.rng.choice(mine) for _ in range(self.rng.choice((1, 1, 1, 2, 6)))]
        quotes = [(n, *self.text_of(n)) for n in chosen]
        data = b"".join(frame(text) for _, text, _ in quotes)
        self.lines[line].feed(data, self.now, self.now)
        self.model.speak(line, self.now)
        for instrument, _, top in quotes:
            self.model.quote(instrument, top, self.now)

    def feed_error(self, line: int, mine: list[int]) -> None:
        instrument = self.rng.choice(mine)
        text, _ = self.text_of(instrument)
        is_named = self.rng.random() < 0.5
        self.lines[line].feed(frame(text[:-1] if is_named else "{"), self.now, self.now)
        self.model.speak(line, self.now)
        if line in self.model.open_lines:
            self.model.distrust([instrument] if is_named else mine, self.now)

    def found(self) -> list[tuple[Any, ...]]:
        rows = []
        for s in self.signals:
            head: tuple[Any, ...] = (s["event"], s["ts_rx"], s["rule_id"], s["buy"]["instrument"])
            head += (s["sell"]["instrument"], s["opp_id"], s["ts_open"], s["close_reason"])
            seqs = (s["buy"]["book_seq"], s["sell"]["book_seq"])
            is_close = s["event"] == CLOSE
            rows.append((*head, *((None,) * 3 if is_close else (seqs, s["net_bps"], s["qty"]))))
        return rows

    def check(self) -> None:
        """Compare what is new; what ends at one stamp for one line may come in any order."""
        found, wanted = self.found(), list(self.model.events)
        self.signals.clear()
        self.model.events.clear()
        ends = (GATE, SILENT, LOST)

        def settled(events: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
            closes = sorted(e[:8] for e in events if e[7] in ends)
            return closes + [e for e in events if e[7] not in ends]

        found, wanted = settled(found), settled(wanted)
        assert [event[:9] for event in found] == [event[:9] for event in wanted]
        for mine, theirs in zip(found, wanted, strict=True):
            if len(mine) > 9 and mine[0] != CLOSE:
                assert mine[9] == pytest.approx(theirs[9], rel=1e-6, abs=1e-6)
                assert mine[10] == pytest.approx(theirs[10], rel=1e-15)

    def check_state(self) -> None:
        tops = self.model.tops
        for instrument in range(len(self.instruments)):
            top, wanted = self.engine.top(instrument), tops.get(instrument)
            assert top.is_valid == (wanted is not None and wanted.is_valid)
            if wanted is not None:
                sides = (top.bid, top.bid_qty, top.ask, top.ask_qty, top.seq)
                assert sides == (
                    *(float(x) for x in (wanted.bid, wanted.bid_qty, wanted.ask, wanted.ask_qty)),
                    wanted.seq,
                )
        found = {(o["opp_id"], o["buy"], o["sell"]) for o in self.engine.open_opportunities()}
        routes = self.model.routes
        assert found == {(r.opp_id, r.buy, r.sell) for r in routes if r.opp_id}
        assert (self.engine.signals_refused, self.engine.callback_errors) == (0, 0)
        assert self.engine.open_count == self.model.opps
        stale = sum(self.engine.top(n).stale for n in range(len(self.instruments)))
        assert stale == self.model.stale


class TestAgainstAModel:
    @pytest.mark.parametrize("seed", range(60))
    def test_a_random_walk_signals_what_brute_force_says(self, seed: int) -> None:
        levels = isa_levels()
        walk = Walk(seed, isa=levels[seed % len(levels)], latest_only=seed % 4 == 3)
        for _ in range(250):
            walk.step()
            walk.check()
        walk.check_state()

    def test_the_walks_hold_every_event_and_every_reason(self) -> None:
        seen = set()
        for seed in range(12):
            walk = Walk(seed)
            for _ in range(200):
                walk.step()
            seen |= {(s["event"], s["close_reason"]) for s in walk.signals}
        reasons = (BUY_MOVED, SELL_MOVED, GATE, SILENT, LOST)
        assert seen == {(OPEN, 0), (UPDATE, 0), *((CLOSE, reason) for reason in reasons)}

    @given(st.integers(1000, 2**32), st.integers(1, 120))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def test_any_walk_signals_what_brute_force_says(self, seed: int, steps: int) -> None:
        walk = Walk(seed)
        for _ in range(steps):
            walk.step()
            walk.check()
        walk.check_state()
