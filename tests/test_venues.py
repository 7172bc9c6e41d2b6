"""The venues: what they send is what their documentation says, what they hear is understood."""

from __future__ import annotations

import gzip
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slow_oracle import SHARED

import crosswire.venues
from crosswire.engine import Engine
from crosswire.errors import UsageError
from crosswire.venue import Control, Record
from crosswire.venues import dialect, venue, venue_names

FOLDER = Path(crosswire.venues.__file__).parent
RECORDINGS = SHARED / "ws"
EXCHANGES = sorted(path.parent.name for path in FOLDER.glob("*/market.py"))

TOY = """
from ...venue import Answer, Control, Heartbeat, Layout, Venue
VENUES = (Venue(name="toy", url="wss://toy.example/", layout=Layout(messages=()),
    heartbeat=Heartbeat(1.0, None, 2.0), stream=str, subscribe=list,
    understand=lambda text: Answer(Control.UNKNOWN), native=str, unified=str, fee_bps=1.0),)
"""


class TestTheFolder:
    def test_every_exchange_has_a_market_and_a_dialect_of_each_of_its_markets(self) -> None:
        assert len(EXCHANGES) >= 2
        for exchange in EXCHANGES:
            market = importlib.import_module(f"crosswire.venues.{exchange}.market")
            sim = importlib.import_module(f"crosswire.venues.{exchange}.sim")
            names = [item.name for item in market.VENUES]
            assert names == [item.venue for item in sim.DIALECTS]
            assert all(name.partition(".")[0] == exchange for name in names)

    def test_the_names_are_those_of_the_folders(self) -> None:
        assert sorted({name.partition(".")[0] for name in venue_names()}) == EXCHANGES
        assert list(venue_names()) == sorted(venue_names())
        assert [venue(name).name for name in venue_names()] == list(venue_names())

    def test_the_three_of_the_contract_are_there(self) -> None:
        assert {"binance", "binance.usdm", "okx"} <= set(venue_names())

    @pytest.mark.parametrize("name", ["", "nowhere", "BINANCE", "okx ", "okx.swap", "__init__"])
    def test_an_unknown_name_is_refused_with_those_that_exist(self, name: str) -> None:
        for find in (venue, dialect):
            with pytest.raises(UsageError) as caught:
                find(name)
            assert repr(name) in str(caught.value)
            assert all(known in str(caught.value) for known in venue_names())

    def test_adding_a_folder_adds_a_venue(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "toy"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "market.py").write_text(TOY)
        before = venue_names()
        monkeypatch.setattr(crosswire.venues, "__path__", [str(FOLDER), str(tmp_path)])
        crosswire.venues._all.cache_clear()
        try:
            assert venue_names() == tuple(sorted({*before, "toy"}))
            assert venue("toy").url == "wss://toy.example/"
        finally:
            monkeypatch.undo()
            crosswire.venues._all.cache_clear()
            for name in [name for name in sys.modules if name.startswith("crosswire.venues.toy")]:
                del sys.modules[name]
        assert venue_names() == before


class TestEveryVenue:
    @pytest.fixture(params=venue_names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_spellings_go_there_and_back(self, name: str) -> None:
        known = venue(name)
        for base in ("BTC", "ETH", "SOL", "XRP", "1000SATS", "A"):
            for quote in ("USDT", "USDC", "BTC"):
                if base == quote:
                    continue
                native = known.native(f"{base}/{quote}")
                unified = known.unified(native)
                assert unified is not None
                assert unified.partition(":")[0] == f"{base}/{quote}"
                assert known.native(unified) == native

    def test_what_is_no_symbol_has_no_unified_one(self, name: str) -> None:
        for native in ("", "X", "BTCUSDT_260925", "BTC-USD-260925-60000-C"):
            assert venue(name).unified(native) is None

    def test_its_own_server_acknowledges_what_it_subscribes(self, name: str) -> None:
        known, spoken = venue(name), dialect(name)
        wanted = [
            (known.native(symbol), record)
            for symbol in ("BTC/USDT", "ETH/USDT")
            for record in (Record.QUOTE, Record.TRADE)
        ]
        requests = known.subscribe([known.stream(*item) for item in wanted], 7)
        answers: list[str] = []
        streams: list[tuple[str, Record]] = []
        for _, text in requests:
            if text:
                texts, opened, _ = spoken.answer(text)
                answers += texts
                streams += opened
        assert sorted(streams) == sorted(wanted)
        understood = [known.understand(text) for text in answers]
        assert {answer.control for answer in understood} == {Control.ACK}
        assert sorted(a.request for a in understood) == sorted(r for r, _ in requests)

    def test_its_layout_fits_an_engine(self, name: str) -> None:
        engine = Engine(venues_max=1, lines_max=1, instruments_max=1, pairs_max=1, signals_max=2)
        assert engine.add_venue(name, venue(name).layout) == 0

    def test_it_is_reached_over_tls_and_its_terms_are_possible(self, name: str) -> None:
        known = venue(name)
        assert known.url.startswith("wss://")
        assert 0.0 < known.fee_bps < 100.0
        assert 0.0 < known.heartbeat.idle_s < known.heartbeat.limit_s
        assert known.subscribe_max >= 1
        assert known.message_gap_s > 0.0

    @pytest.mark.parametrize(
        "text",
        [
            "", "x", "[]", "[1,2]", "null", "1", '"text"', "{}", '{"a":1}', "{", "\x00",
            '{"event":5}', '{"id":{}}', '{"error":[]}', '{"data":7}', '{"arg":"x"}', "[" * 64,
            "[" * 60_000,
        ],
    )  # fmt: skip
    def test_nonsense_is_unknown_and_never_raises(self, name: str, text: str) -> None:
        assert venue(name).understand(text).control is Control.UNKNOWN


@pytest.mark.parametrize("name", ["binance", "binance.usdm"])
class TestBinance:
    def test_the_request_is_that_of_the_documentation(self, name: str) -> None:
        known = venue(name)
        streams = [known.stream("BTCUSDT", Record.QUOTE), known.stream("BTCUSDT", Record.TRADE)]
        assert streams == ["btcusdt@bookTicker", "btcusdt@trade"]
        assert known.subscribe(streams, 1) == [
            ("1", '{"method":"SUBSCRIBE","params":["btcusdt@bookTicker","btcusdt@trade"],"id":1}')
        ]

    @pytest.mark.parametrize(
        ("text", "control", "request_id"),
        [
            ('{"result":null,"id":1}', Control.ACK, "1"),
            ('{"id":7,"result":null}', Control.ACK, "7"),
            ('{"error":{"code":2,"msg":"Invalid request: x"},"id":3}', Control.REFUSED, "3"),
            ('{"code":2,"msg":"Invalid request: x","id":3}', Control.REFUSED, "3"),
            ('{"error":{"code":3,"msg":"Invalid JSON: x"},"id":null}', Control.REFUSED, ""),
            ('{"code":3,"msg":"Invalid JSON: x"}', Control.REFUSED, ""),
            ('{"e":"serverShutdown","E":1770123456789}', Control.GOING_AWAY, ""),
            ('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
             Control.GOING_AWAY, ""),
            ('{"result":["btcusdt@trade"],"id":3}', Control.UNKNOWN, ""),
        ],
    )  # fmt: skip
    def test_real_answers_are_understood(
        self, name: str, text: str, control: Control, request_id: str
    ) -> None:
        answer = venue(name).understand(text)
        assert (answer.control, answer.request) == (control, request_id)

    def test_a_refusal_tells_why(self, name: str) -> None:
        text = '{"error":{"code":2,"msg":"Invalid request: bad stream"},"id":3}'
        assert venue(name).understand(text).text == "Invalid request: bad stream"

    def test_it_keeps_within_five_messages_a_second(self, name: str) -> None:
        assert venue(name).message_gap_s >= 0.2
        assert venue(name).subscribe_max <= 200

    def test_symbols(self, name: str) -> None:
        settle = ":USDT" if name.endswith("usdm") else ""
        known = venue(name)
        assert known.native(f"BTC/USDT{settle}") == "BTCUSDT"
        assert known.unified("BTCUSDT") == f"BTC/USDT{settle}"
        assert known.unified("1000SATSUSDT") == f"1000SATS/USDT{settle}"
        assert known.unified("USDT") is None


class TestOkx:
    def test_the_request_is_that_of_the_documentation(self) -> None:
        known = venue("okx")
        streams = [known.stream("BTC-USDT", Record.QUOTE)]
        assert known.subscribe(streams, 9) == [
            (
                "bbo-tbt:BTC-USDT",
                '{"op":"subscribe","args":[{"channel":"bbo-tbt","instId":"BTC-USDT"}]}',
            )
        ]

    def test_several_streams_are_one_message_and_are_awaited_each(self) -> None:
        known = venue("okx")
        streams = [known.stream("BTC-USDT", record) for record in (Record.QUOTE, Record.TRADE)]
        first, second = known.subscribe(streams, 1)
        assert (first[0], second) == ("bbo-tbt:BTC-USDT", ("trades:BTC-USDT", ""))
        assert json.loads(first[1]) == {
            "op": "subscribe",
            "args": [
                {"channel": "bbo-tbt", "instId": "BTC-USDT"},
                {"channel": "trades", "instId": "BTC-USDT"},
            ],
        }

    @pytest.mark.parametrize(
        ("text", "control", "request_id"),
        [
            ("pong", Control.PONG, ""),
            ('{"event":"subscribe","arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},'
             '"connId":"d604ccd0"}', Control.ACK, "bbo-tbt:BTC-USDT"),
            ('{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}',
             Control.ACK, "trades:BTC-USDT"),
            ('{"event":"unsubscribe","arg":{"channel":"trades","instId":"BTC-USDT"},'
             '"connId":"d604ccd0"}', Control.NOTICE, "trades:BTC-USDT"),
            ('{"event":"error","code":"60012","msg":"Invalid request: x","connId":"a4d3ae55"}',
             Control.REFUSED, ""),
            ('{"event":"notice","code":"64008","msg":"The connection will soon be closed for a '
             'service upgrade. Please reconnect.","connId":"a4d3ae55"}', Control.GOING_AWAY, ""),
            ('{"event":"channel-conn-count","channel":"orders","connCount":"2",'
             '"connId":"a4d3ae55"}', Control.NOTICE, ""),
        ],
    )  # fmt: skip
    def test_real_answers_are_understood(
        self, text: str, control: Control, request_id: str
    ) -> None:
        answer = venue("okx").understand(text)
        assert (answer.control, answer.request) == (control, request_id)

    def test_a_refusal_tells_why(self) -> None:
        text = '{"event":"error","code":"60012","msg":"Invalid request: x","connId":"a4d3ae55"}'
        assert venue("okx").understand(text).text == "Invalid request: x"

    def test_it_pings_in_words_before_30_seconds_have_passed(self) -> None:
        beat = venue("okx").heartbeat
        assert beat.text == "ping"
        # It looks four times in that time; the last look must come before the server's limit.
        assert beat.idle_s * 1.25 < 30.0

    @pytest.mark.parametrize(
        ("native", "unified"),
        [
            ("BTC-USDT", "BTC/USDT"),
            ("BTC-USDT-SWAP", "BTC/USDT:USDT"),
            ("BTC-USD-SWAP", "BTC/USD:BTC"),
            ("BTC-USD-220527", None),
        ],
    )
    def test_symbols(self, native: str, unified: str | None) -> None:
        assert venue("okx").unified(native) == unified
        if unified:
            assert venue("okx").native(unified) == native

    def test_every_recorded_acknowledgement_names_its_stream(self) -> None:
        path = RECORDINGS / "okx-books-tickers-trades-2022-05.jsonl.gz"
        if not path.exists():
            pytest.skip(
                "RECORDED ACKNOWLEDGEMENTS NOT TESTED: the recording is not part of the project; "
                "those of the documentation are tested"
            )
        seen = 0
        for row in rows(path):
            if row["dir"] == "recv" and '"event"' in row["raw"]:
                message = json.loads(row["raw"])
                answer = venue("okx").understand(row["raw"])
                assert answer.control is Control.ACK
                assert answer.request == f"{message['arg']['channel']}:{message['arg']['instId']}"
                seen += 1
        assert seen == 18


def rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt") as file:
        for line in file:
            yield json.loads(line)
