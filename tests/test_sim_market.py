"""The simulated market: same seed, same run; plants and baits as promised; no accidents."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from crosswire.capture import Kind
from crosswire.errors import UsageError
from crosswire.sim import Scenario, find_truth, generate, judge, make_plan, record
from crosswire.sim.market import frame_of, text_frame
from crosswire.sim.oracle import Interval, Truth
from crosswire.sim.plan import FROZEN_LEG, NET_NEGATIVE, Plan
from crosswire.venue import Control, Record, SimQuote, SimTrade
from crosswire.venues import dialect, venue, venue_names

QUOTE = SimQuote("61837.63", "3.78826", "61837.64", "1.5", 50093239212, 1723161256313)
TRADE = SimTrade("61837.63", "0.02", -1, 3735683259, 1723161255342)


def short(seed: int, **changes: object) -> Scenario:
    options: dict[str, object] = {"seed": seed, "seconds": 6.0, "rate": 900.0, **changes}
    return Scenario(**options)  # type: ignore[arg-type]


class TestDialects:
    def test_spot_quote_has_the_recorded_shape_and_no_time(self) -> None:
        assert dialect("binance").quote("BTCUSDT", QUOTE) == (
            '{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT",'
            '"b":"61837.63","B":"3.78826","a":"61837.64","A":"1.5"}}'
        )

    def test_usdm_quote_has_the_recorded_shape(self) -> None:
        assert dialect("binance.usdm").quote("BTCUSDT", QUOTE) == (
            '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":50093239212,'
            '"s":"BTCUSDT","b":"61837.63","B":"3.78826","a":"61837.64","A":"1.5",'
            '"T":1723161256313,"E":1723161256313}}'
        )

    def test_spot_trade_has_the_recorded_shape(self) -> None:
        assert dialect("binance").trade("BTCUSDT", TRADE) == (
            '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255342,"s":"BTCUSDT",'
            '"t":3735683259,"p":"61837.63","q":"0.02","T":1723161255342,"m":true,"M":true}}'
        )

    def test_bbo_and_trades_have_the_documented_shape(self) -> None:
        okx = dialect("okx")
        assert okx.quote("BTC-USDT", QUOTE) == (
            '{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["61837.64",'
            '"1.5","0","3"]],"bids":[["61837.63","3.78826","0","2"]],"ts":"1723161256313",'
            '"seqId":50093239212}]}'
        )
        assert okx.trade("BTC-USDT", TRADE).endswith(
            '"side":"sell","ts":"1723161255342","count":"1","source":"0","seqId":3735683259}]}'
        )

    @pytest.mark.parametrize("name", venue_names())
    def test_what_is_written_is_read_back(self, name: str) -> None:
        spoken, native = dialect(name), venue(name).native("BTC/USDT")
        [(kind, symbol, quote)] = spoken.decode(spoken.quote(native, QUOTE))
        assert (symbol, quote) == (native, QUOTE if name != "binance" else QUOTE._replace(ts_ms=0))
        assert kind in {message.kind for message in venue(name).layout.messages}
        [(kind, symbol, quote)] = spoken.decode(spoken.trade(native, TRADE))
        assert (symbol, quote) == (native, None)
        assert kind in {message.kind for message in venue(name).layout.messages}

    @pytest.mark.parametrize("name", venue_names())
    def test_the_venues_own_subscription_is_acknowledged(self, name: str) -> None:
        known, spoken = venue(name), dialect(name)
        wanted = [(known.native(symbol), record) for symbol in ("BTC/USDT", "ETH/USDT")
                  for record in (Record.QUOTE, Record.TRADE)]  # fmt: skip
        requests = known.subscribe([known.stream(*item) for item in wanted], 7)
        [text] = [text for _, text in requests if text]
        answers, streams, gone = spoken.answer(text)
        assert (streams, gone) == (wanted, ())
        acknowledged = {known.understand(answer).request for answer in answers}
        assert acknowledged == {request for request, _ in requests}
        assert all(known.understand(answer).control.value == "ack" for answer in answers)
        assert all(spoken.decode(answer) == [] for answer in answers)

    @pytest.mark.parametrize("name", venue_names())
    def test_a_stream_that_was_subscribed_can_be_left(self, name: str) -> None:
        known, spoken = venue(name), dialect(name)
        wanted = [
            (known.native("BTC/USDT"), Record.QUOTE),
            (known.native("ETH/USDT"), Record.TRADE),
        ]
        assert known.unsubscribe
        [text] = known.unsubscribe([known.stream(*item) for item in wanted], 8)
        answers, opened, gone = spoken.answer(text)
        assert (opened, gone) == ((), wanted)
        controls = {known.understand(answer).control for answer in answers}
        assert controls <= {Control.ACK, Control.NOTICE}
        assert all(spoken.decode(answer) == [] for answer in answers)

    @pytest.mark.parametrize("name", venue_names())
    @pytest.mark.parametrize("text", ["", "hello", "[]", '{"id":1}', '{"method":"SUBSCRIBE"}'])
    def test_a_malformed_request_is_refused_in_the_venues_words(self, name: str, text: str) -> None:
        [answer], *streams = dialect(name).answer(text)
        assert venue(name).understand(answer).control.value == "refused"
        assert streams == [(), ()]

    def test_an_unknown_stream_is_refused(self) -> None:
        text = '{"method":"SUBSCRIBE","params":["btcusdt@nothing"],"id":3}'
        answers, *streams = dialect("binance").answer(text)
        assert "invalid stream" in answers[0]
        assert streams == [(), ()]
        text = '{"op":"subscribe","args":[{"channel":"nothing","instId":"BTC-USDT"}]}'
        answers, *streams = dialect("okx").answer(text)
        assert '"60018"' in answers[0]
        assert streams == [[], ()]

    def test_a_text_ping_is_answered(self) -> None:
        assert dialect("okx").answer("ping") == (["pong"], (), ())

    @pytest.mark.parametrize(
        ("name", "text"),
        [("binance", "0.61000000"), ("binance.usdm", "0.6100000"), ("okx", "0.61")],
    )
    def test_prices_are_written_the_venues_way(self, name: str, text: str) -> None:
        assert dialect(name).decimal(6_100_000, 7) == text

    def test_an_empty_side_is_read_as_zero(self) -> None:
        text = dialect("okx").quote("X-Y", QUOTE).replace('[["61837.63","3.78826","0","2"]]', "[]")
        [(_, _, quote)] = dialect("okx").decode(text)
        assert quote is not None
        assert (quote.bid, quote.bid_qty, quote.ask) == ("0", "0", "61837.64")

    @pytest.mark.parametrize("size", [0, 125, 126, 4000])
    def test_a_frame_has_the_length_of_its_text(self, size: int) -> None:
        frame = text_frame("x" * size)
        assert len(frame) == size + (2 if size < 126 else 4)
        assert frame.endswith(b"x" * size)


class TestDeterminism:
    def test_equal_scenarios_give_equal_events(self) -> None:
        assert list(generate(short(5))) == list(generate(short(5)))

    def test_another_seed_gives_other_events(self) -> None:
        assert list(generate(short(5))) != list(generate(short(6)))

    def test_equal_scenarios_give_equal_recordings(self) -> None:
        scenario = short(5, faults=("cut", "refuse"))
        assert list(record(scenario)) == list(record(scenario))


class TestScenario:
    def test_fees_default_to_the_venues_own(self) -> None:
        fees = Scenario(fees_bps={"okx": 8.0}).fees_bps
        assert fees == {**{name: venue(name).fee_bps for name in venue_names()}, "okx": 8.0}

    @pytest.mark.parametrize(
        "changes",
        [
            {"venues": ("okx",)},
            {"venues": ("okx", "okx")},
            {"venues": ("okx", "elsewhere")},
            {"fees_bps": dict.fromkeys(venue_names(), 1.0)},
            {"faults": ("flood",)},
            {"seconds": 0.0},
            {"symbols": ()},
            {"rate": 0.0},
        ],
    )
    def test_what_cannot_be_planned_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(UsageError):
            short(1, **changes)


def check_shape(plan: Plan, scenario: Scenario) -> None:
    assert len(plan.plants) == len(plan.baits)
    end = scenario.seconds * 1e9
    for item in plan.plants + plan.baits:
        assert 0.5e9 < item.t_open < item.t_close < end - 0.3e9
        assert item.buy != item.sell
        assert item.leg in (item.buy, item.sell)
        if item.kind != FROZEN_LEG:
            assert 0.0019e9 < item.t_close - item.t_open <= 2.0e9
    for freeze in plan.freezes:
        limit = scenario.liveness_limit_s * 1e9
        assert limit + 0.149e9 < freeze.t_thaw - freeze.t_freeze < limit + 0.401e9
        assert freeze.bait.t_open >= freeze.t_freeze + limit + 0.079e9
        assert freeze.bait.t_close <= freeze.t_thaw - 0.029e9
        assert freeze.bait.leg != freeze.venue
        assert freeze.venue in (freeze.bait.buy, freeze.bait.sell)
        for item in plan.plants + plan.baits:
            if item is not freeze.bait and freeze.venue in (item.buy, item.sell):
                assert item.t_close < freeze.t_freeze or item.t_open > freeze.t_thaw


class TestPlan:
    @pytest.mark.parametrize("seed", range(50))
    def test_every_seed_keeps_the_promises(self, seed: int) -> None:
        scenario = Scenario(seed=seed)
        plan = make_plan(scenario)
        check_shape(plan, scenario)
        assert len(plan.plants) >= 20
        assert sum(plant.is_near for plant in plan.plants) * 2 in range(
            len(plan.plants) - 8, len(plan.plants) + 9
        )
        kinds = Counter(bait.kind for bait in plan.baits)
        assert set(kinds) == {NET_NEGATIVE, FROZEN_LEG}
        assert 0.15 <= kinds[FROZEN_LEG] / len(plan.baits) <= 0.25
        by_symbol: dict[str, list[tuple[int, int]]] = {}
        for item in plan.plants + plan.baits:
            by_symbol.setdefault(item.symbol, []).append((item.t_open, item.t_close))
        for spans in by_symbol.values():
            spans.sort()
            assert all(a[1] < b[0] for a, b in pairwise(spans))

    @pytest.mark.parametrize("seed", range(10))
    def test_a_short_run_has_eight_plants(self, seed: int) -> None:
        plan = make_plan(short(seed))
        check_shape(plan, short(seed))
        assert len(plan.plants) >= 8
        assert len(plan.freezes) >= 1

    @pytest.mark.parametrize("count", [1, 2])
    @pytest.mark.parametrize("seconds", [2.0, 6.0, 60.0])
    @pytest.mark.parametrize("faults", [(), ("cut", "refuse")])
    def test_few_symbols_and_two_venues_have_room(
        self, count: int, seconds: float, faults: tuple[str, ...]
    ) -> None:
        symbols = Scenario().symbols[:count]
        scenario = Scenario(
            seconds=seconds, symbols=symbols, venues=venue_names()[:2], faults=faults
        )
        check_shape(make_plan(scenario), scenario)

    @pytest.mark.parametrize(("seconds", "refusals"), [(2.0, 1), (6.0, 3), (20.0, 10), (60.0, 10)])
    def test_every_venue_is_cut_and_refuses_connects_once_and_has_time_to_recover(
        self, seconds: float, refusals: int
    ) -> None:
        plan = make_plan(short(1, faults=("cut", "refuse"), seconds=seconds))
        for name in venue_names():
            cuts = [cut for cut in plan.cuts if cut.venue == name]
            assert 1 <= len(cuts) <= 2
            assert [cut.refusals for cut in cuts if cut.refusals] == [refusals]
            assert all(cut.t <= 0.6e9 * seconds for cut in cuts)


class TestEvents:
    def test_the_default_rate_is_above_six_thousand_quotes_a_second(self) -> None:
        scenario = Scenario(seconds=20.0)
        quotes = trades = 0
        for event in generate(scenario):
            quotes += isinstance(event.message, SimQuote)
            trades += isinstance(event.message, SimTrade)
        assert quotes / scenario.seconds >= 6000
        assert 0.08 < trades / quotes < 0.12

    @pytest.mark.parametrize("seed", range(30))
    def test_edges_are_where_they_were_promised(self, seed: int) -> None:
        scenario = short(seed, rate=300.0)
        plan = make_plan(scenario)
        near = 0
        for _ in generate(scenario, plan):
            pass
        for plant in plan.plants:
            delta = plant.net_bps - scenario.min_net_bps
            assert 0.05 <= delta <= 25.0
            near += delta <= 2.0
        assert abs(near * 2 - len(plan.plants)) <= 2
        for bait in plan.baits:
            delta = scenario.min_net_bps - bait.net_bps
            fees = scenario.fees_bps[bait.buy] + scenario.fees_bps[bait.sell]
            assert 0.05 <= delta < fees if bait.kind == NET_NEGATIVE else delta < 0

    def test_plants_sink_below_the_threshold_and_rise_again(self) -> None:
        scenario = short(1, seconds=20.0)
        plan = make_plan(scenario)
        lasting = [plant for plant in plan.plants if plant.t_close - plant.t_open >= 30_000_000]
        dips = [plant.dip_bps for plant in lasting]
        assert dips[:4] == [0.15, 0.0, 0.45, 0.0]
        assert sum(map(bool, dips)) == sum(plant.dip_bps > 0 for plant in plan.plants)
        truth = find_truth(record(scenario, plan, close_net_bps=scenario.min_net_bps - 0.3))
        for plant in lasting:
            if plant.dip_bps:
                edges = [
                    [point.net_bps - scenario.min_net_bps for point in interval.points]
                    for interval in truth.intervals
                    if plant.seq_open <= interval.points[0].trigger_seq < plant.seq_close
                    and any(abs(p.net_bps - plant.net_bps) < 0.01 for p in interval.points)
                ]
                is_kept = plant.dip_bps < 0.3
                assert len(edges) == 2 - is_kept
                assert any(abs(edge + 0.15) < 0.01 for edge in edges[0]) == is_kept

    def test_events_come_in_order_and_a_frozen_venue_is_silent(self) -> None:
        frozen: set[str] = set()
        last = 0
        marks: Counter[int] = Counter()
        for event in generate(short(3)):
            assert event.t_ns >= last
            last = event.t_ns
            if event.kind == "freeze":
                frozen.add(event.venue)
            elif event.kind == "thaw":
                frozen.remove(event.venue)
            else:
                assert event.venue not in frozen
            if event.plant is not None:
                marks[event.plant] += 1
        plan = make_plan(short(3))
        assert marks == dict.fromkeys([item.id for item in plan.plants + plan.baits], 2)

    def test_a_venues_own_book_never_crosses_and_every_quote_differs(self) -> None:
        last: dict[tuple[str, str], SimQuote] = {}
        for event in generate(short(2)):
            if isinstance(event.message, SimQuote):
                quote = event.message
                assert float(quote.bid) < float(quote.ask)
                assert quote != last.get((event.venue, event.symbol))
                last[event.venue, event.symbol] = quote

    def test_a_frame_carries_its_stamp(self) -> None:
        frame = frame_of(dialect("okx"), "BTC-USDT", QUOTE, 1_786_000_000_123_456_789)
        assert b'"ts":"1786000000123","seqId":1786000000123456789' in frame


def explained(truth: Truth, interval: Interval, plan: Plan) -> bool:
    """Return whether a plant's moved leg is in the interval while the plant stood."""
    buy, sell = truth.instruments[interval.buy], truth.instruments[interval.sell]
    seq = interval.points[0].trigger_seq
    return any(
        plant.leg in (buy.venue, sell.venue)
        and venue(buy.venue).native(plant.symbol) == buy.symbol
        and plant.seq_open <= seq < plant.seq_close
        for plant in plan.plants
    )


class TestTruthOfARun:
    @pytest.mark.parametrize("seed", range(24))
    def test_every_plant_is_true_no_bait_is_and_nothing_else_is(self, seed: int) -> None:
        names = venue_names()
        venues = names if seed % 4 else (names[seed % 3], names[(seed + 1) % 3])
        scenario = short(seed, venues=venues)
        plan = make_plan(scenario)
        truth = find_truth(record(scenario, plan))
        verdict = judge(truth, [], plants=plan.plants, baits=plan.baits, counts={})
        assert verdict.planted == [plant.id for plant in plan.plants]
        assert verdict.unseen == {}
        assert verdict.baits_real == []
        assert all(explained(truth, interval, plan) for interval in truth.intervals)

    @pytest.mark.parametrize("seed", range(10))
    def test_connections_of_unequal_delay_change_nothing(self, seed: int) -> None:
        scenario = short(seed)
        plan = make_plan(scenario)
        delays = {line: delay * 1_000_000 for line, delay in enumerate((0, 0, 20, 60))}
        entries = [
            entry._replace(
                ts_rx=entry.ts_rx + delays[entry.line], mono_rx=entry.mono_rx + delays[entry.line]
            )
            for entry in record(scenario, plan)
        ]
        entries.sort(key=lambda entry: entry.mono_rx)
        verdict = judge(find_truth(entries), [], plants=plan.plants, baits=plan.baits, counts={})
        assert verdict.unseen == {}
        assert verdict.baits_real == []

    @pytest.mark.parametrize("seed", range(6))
    def test_faults_hide_plants_and_make_none(self, seed: int) -> None:
        scenario = short(seed, faults=("cut", "refuse"), seconds=12.0)
        plan = make_plan(scenario)
        entries = list(record(scenario, plan))
        assert sum(entry.kind is Kind.LOST for entry in entries) >= len(scenario.venues)
        truth = find_truth(entries)
        verdict = judge(truth, [], plants=plan.plants, baits=plan.baits, counts={})
        assert len(verdict.planted) + len(verdict.offline) == len(plan.plants)
        assert (verdict.unseen, verdict.vanished) == ({}, {})
        assert 3 * len(verdict.planted) >= 2 * len(plan.plants)
        assert 3 * len(verdict.baits_judged) >= 2 * len(plan.baits)
        assert verdict.baits_real == []
        assert all(explained(truth, interval, plan) for interval in truth.intervals)

    def test_the_edge_of_a_plant_is_the_one_that_was_planned(self) -> None:
        scenario = short(1)
        plan = make_plan(scenario)
        truth = find_truth(record(scenario, plan))
        firsts: dict[int, list[float]] = {}
        for interval in truth.intervals:
            point = interval.points[0]
            firsts.setdefault(point.trigger_seq, []).append(point.net_bps)
        for plant in plan.plants:
            assert any(abs(net - plant.net_bps) < 1e-6 for net in firsts[plant.seq_open])
