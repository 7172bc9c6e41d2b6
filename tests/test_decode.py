"""``crosswire decode``: frames to records as JSON lines, and its exit codes."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_oracle import NO_SAMPLES, SHARED

from crosswire.capture.decode import Decoder, shortest
from crosswire.venues import venue

SPOT = '{"u":7,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64","A":"1.5"}'
SPOT_TRADE = (
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT",'
    '"t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
)
USDM = (
    '{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507",'
    '"a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}'
)
USDM_LIQUIDATION = (
    '{"e":"trade","E":1,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30",'
    '"q":"0.006","X":"INSURANCE_FUND","m":false}'
)
OKX_TRADES = (
    '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"9",'
    '"px":"64040.2","sz":"0.00240857","side":"buy","ts":"1786538760218","count":"2","seqId":5},'
    '{"instId":"BTC-USDT","tradeId":"123456789012345678901","px":"64040","sz":"1","side":"sell",'
    '"ts":"1786538760219"}]}'
)
DEPTH = '{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}'

needs_samples = pytest.mark.skipif(not (SHARED / "samples").exists(), reason=NO_SAMPLES)


DECODER = Decoder(venue("binance"))


def run(*args: str, data: bytes = b"") -> tuple[int, list[dict[str, Any]], str]:
    """Run the command; return (exit code, objects printed, what it said on stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "crosswire", "decode", *args],
        input=data,
        capture_output=True,
        timeout=60,
    )
    lines = done.stdout.decode().splitlines()
    return done.returncode, [json.loads(line) for line in lines], done.stderr.decode()


def decode(name: str, *lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Decoder(venue(name)).decode(lines)]


class TestRecords:
    def test_a_quote_is_one_object_with_every_field(self) -> None:
        assert decode("binance", SPOT) == [
            {
                "record": "quote",
                "venue": "binance",
                "symbol": "BTCUSDT",
                "ts_exch": 0,
                "seq": 7,
                "bid": 61837.63,
                "bid_qty": 3.78826,
                "ask": 61837.64,
                "ask_qty": 1.5,
                "flags": [],
            }
        ]

    def test_a_trade_is_one_object_with_every_field(self) -> None:
        assert decode("binance", SPOT_TRADE) == [
            {
                "record": "trade",
                "venue": "binance",
                "symbol": "BTCUSDT",
                "ts_exch": 1723161255342000000,
                "seq": 0,
                "trade_id": 3735683259,
                "price": 61837.63,
                "qty": 0.02,
                "count": 1,
                "side": -1,
                "kind": 0,
                "flags": [],
            }
        ]

    def test_times_of_the_exchange_are_nanoseconds(self) -> None:
        (record,) = decode("binance.usdm", USDM)
        assert (record["ts_exch"], record["venue"]) == (1723161256313000000, "binance.usdm")

    def test_a_trade_that_did_not_meet_the_book_is_of_kind_1(self) -> None:
        (record,) = decode("binance.usdm", USDM_LIQUIDATION)
        assert (record["kind"], record["side"]) == (1, 1)

    def test_a_message_of_two_trades_is_two_objects(self) -> None:
        first, second = decode("okx", OKX_TRADES)
        assert (first["trade_id"], first["count"], first["side"], first["seq"]) == (9, 2, 1, 5)
        assert (second["count"], second["side"], second["seq"]) == (1, -1, 0)
        assert (first["flags"], second["flags"]) == ([], ["id-hashed"])

    def test_flags_are_words(self) -> None:
        long = SPOT.replace("61837.63000000", "61837.1234567890123")
        (record,) = decode("binance", long)
        assert (record["flags"], record["bid"]) == (["inexact"], 61837.1234567890123)
        one_sided = (
            '{"arg":{"channel":"bbo-tbt","instId":"A-B"},"data":[{"asks":[],"bids":[["1","2"]],'
            '"ts":"1"}]}'
        )
        (record,) = decode("okx", one_sided)
        assert (record["flags"], record["ask"], record["ask_qty"]) == (["one-sided"], 0, 0)

    def test_the_directory_is_copied_only_when_a_symbol_is_new(self) -> None:
        decoder = Decoder(venue("binance"))

        def symbols(*names: str) -> list[str]:
            texts = [SPOT.replace("BTCUSDT", name) for name in names]
            return [json.loads(line)["symbol"] for line in decoder.decode(texts)]

        assert symbols("A", "B") == ["A", "B"]
        copied = decoder._instruments
        assert symbols("B", "A", "B") == ["B", "A", "B"]
        assert decoder._instruments is copied
        assert symbols("C", "A") == ["C", "A"]
        assert decoder._instruments is not copied

    def test_what_is_counted_only_prints_nothing(self) -> None:
        decoder = Decoder(venue("binance"))
        assert list(decoder.decode([DEPTH, '{"result":null,"id":1}'])) == []
        assert decoder.errors == 0

    def test_quotes_are_told_whatever_their_order(self) -> None:
        """Frames are decoded one by one: an id that falls is no reason to keep quiet."""
        falling = [SPOT.replace('"u":7', f'"u":{seq}') for seq in (9, 8, 8)]
        assert [record["seq"] for record in decode("binance", *falling)] == [9, 8, 8]


class TestForms:
    @pytest.mark.parametrize("form", ["bare", "raw", "raw with more"])
    def test_a_line_is_the_text_or_an_object_that_holds_it(self, form: str) -> None:
        line = {
            "bare": SPOT,
            "raw": json.dumps({"raw": SPOT}),
            "raw with more": json.dumps({"kind": "bbo", "ts_ns": "5", "raw": SPOT}),
        }[form]
        assert decode("binance", line) == decode("binance", SPOT)

    @pytest.mark.parametrize("form", ["b64", "hex"])
    def test_a_binary_frame_is_an_error_where_the_venue_sends_text(self, form: str) -> None:
        data = SPOT.encode()
        text = base64.b64encode(data).decode() if form == "b64" else data.hex()
        (error,) = decode("binance", json.dumps({form: text}))
        assert (error["error"], error["line"]) == ("message-binary", 1)

    @pytest.mark.parametrize(
        "line", ['{"b64":"*"}', '{"b64":"e30"}', '{"hex":"abc"}', '{"hex":"zz"}', '{"b64":"é"}']
    )
    def test_encoded_bytes_that_cannot_be_read_are_an_error_of_the_line(self, line: str) -> None:
        found = decode("binance", SPOT, line, SPOT)
        assert [item.get("error") for item in found] == [None, "frame-text", None]
        assert (found[1]["line"], found[1]["at"]) == (2, 0)

    @pytest.mark.parametrize("line", ['{"raw":5}', '{"b64":null}', '{"dir":"recv","hex":[]}'])
    def test_a_frame_that_is_no_text_is_an_error_of_the_line(self, line: str) -> None:
        (error,) = decode("binance", line)
        assert error["error"] == "frame-text"
        assert error["text"].endswith(": must be text")

    def test_a_key_without_a_value_leaves_it_to_another(self) -> None:
        line = json.dumps({"b64": None, "raw": SPOT})
        assert decode("binance", line) == decode("binance", SPOT)

    @pytest.mark.parametrize("direction", ["send", "", None, 1])
    @pytest.mark.parametrize("more", [{}, {"raw": '{"method":"SUBSCRIBE"}'}, {"raw": SPOT}])
    def test_a_line_of_a_capture_that_was_not_received_is_skipped_and_counted(
        self, direction: Any, more: dict[str, str]
    ) -> None:
        sent = json.dumps({"dir": direction, **more})
        received = json.dumps({"dir": "recv", "raw": SPOT})
        found = decode("binance", sent, received, sent, "{")
        assert [item.get("line") for item in found] == [None, 4]

    def test_empty_lines_are_skipped_and_counted(self) -> None:
        found = decode("binance", "", SPOT, "  ", "\r\n", "{", SPOT + "\r\n")
        assert [item.get("line") for item in found] == [None, 5, None]


class TestErrors:
    @pytest.mark.parametrize(
        "line", ["{", "pong", '{"x":1}', '{"b64":"*"}', '{"hex":"00"}', SPOT + "x", "\udcff"]
    )
    def test_every_error_is_told_in_words_too(self, line: str) -> None:
        (error,) = decode("binance", line)
        assert list(error) == ["error", "at", "line", "text"]
        assert len(error["text"]) > 5

    def test_the_words_are_those_of_the_kernels(self) -> None:
        source = (Path(__file__).resolve().parents[1] / "csrc" / "base.c").read_text()
        for line in ('{"x":1}', '{"b64":"AA=="}', "{", '{"raw":"\udcff"}'):
            (error,) = decode("binance", line)
            assert f'"{error["error"]}", "{error["text"]}"' in source

    @pytest.mark.parametrize(
        ("line", "code", "at"),
        [
            ("{", "json-cut", 1),
            (SPOT[:30], "json-cut", 30),
            (SPOT + "x", "json-trailing", len(SPOT)),
            (SPOT.replace('"61837.64"', "61837.64"), "type", SPOT.index('"61837.64"')),
            (SPOT.replace("61837.64", "NaN"), "number-form", SPOT.index("61837.64")),
            (SPOT.replace("61837.64", "1" * 400), "number-length", None),
            (SPOT.replace('"B":"3.78826000",', ""), "key-missing", None),
            (SPOT.replace('"u":7', '"u":7,"u":7'), "key-doubled", None),
            ("[" * 100, "json-depth", 64),
            ("pong", "json-syntax", 0),
            ('{"x":1}', "message-unknown", None),
            ("null", "message-unknown", None),
        ],
    )
    def test_a_bad_frame_is_named_with_its_offset_and_line(
        self, line: str, code: str, at: int | None
    ) -> None:
        found = decode("binance", SPOT, line, SPOT)
        assert [item.get("record") for item in found] == ["quote", None, "quote"]
        error = found[1]
        assert (error["error"], error["line"]) == (code, 2)
        assert error["at"] == at or (at is None and 0 <= error["at"] <= len(line))

    def test_the_offset_of_bad_utf8_is_in_its_own_frame(self) -> None:
        decoder = Decoder(venue("binance"))
        bad = b'{"x":"\xff"}'.decode("utf-8", "surrogateescape")
        lines = [SPOT, bad, SPOT, SPOT, bad]
        found = [json.loads(line) for line in decoder.decode(lines)]
        assert [item.get("error") for item in found] == [None, "utf8", None, None, "utf8"]
        assert [item["at"] for item in found if "error" in item] == [6, 6]
        assert decoder.errors == 2

    def test_a_message_may_hold_good_records_before_its_bad_one(self) -> None:
        found = decode("okx", OKX_TRADES.replace('"sell"', '"none"'))
        assert [item.get("record", item.get("error")) for item in found] == ["trade", "type"]

    def test_a_frame_larger_than_any_message_is_an_error_and_the_next_is_read(self) -> None:
        found = decode("binance", SPOT, "x" * (9 << 20), SPOT)
        assert [item.get("error") for item in found] == [None, "frame-too-big", None]
        assert found[1]["line"] == 2


class TestShortestNumbers:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.0, "0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (61837.63, "61837.63"),
            (100000.0, "100000"),
            (0.30000000000000004, "0.30000000000000004"),
            (123456789012345.0, "123456789012345"),
        ],
    )
    def test_is_the_text_that_one_would_write(self, value: float, text: str) -> None:
        assert shortest(value) == text

    @given(st.floats(0, 1e99, allow_nan=False, allow_infinity=False))
    @settings(max_examples=300, deadline=None)
    def test_gives_the_same_double_and_no_shorter_one_does(self, value: float) -> None:
        text = shortest(value)
        assert float(text) == value == float(json.loads(text))
        digits = len(Decimal(text).normalize().as_tuple().digits)
        if digits > 1:
            assert float(f"{value:.{digits - 2}e}") != value

    @given(st.decimals(min_value=0, max_value=10**9, places=8))
    @settings(max_examples=200, deadline=None)
    def test_a_price_that_went_in_comes_out(self, value: Decimal) -> None:
        text = f"{value:f}"
        (line,) = DECODER.decode([SPOT.replace("3.78826000", text)])
        assert json.loads(line)["bid_qty"] == float(text)
        written = line.partition('"bid_qty":')[2].partition(",")[0]
        if len(value.normalize().as_tuple().digits) <= 15:
            assert Decimal(written) == value


class TestTheCommand:
    def test_reads_a_file_and_exits_0_when_all_is_right(self, tmp_path: Path) -> None:
        path = tmp_path / "frames.txt"
        path.write_text(SPOT + "\n" + SPOT_TRADE + "\n")
        code, found, _ = run("binance", str(path))
        assert (code, [item["record"] for item in found]) == (0, ["quote", "trade"])
        assert found == decode("binance", SPOT, SPOT_TRADE)

    @pytest.mark.parametrize("file", [(), ("-",)])
    def test_reads_standard_input_and_exits_1_when_a_frame_is_bad(
        self, file: tuple[str, ...]
    ) -> None:
        data = SPOT.encode() + b'\n{"x":"\xff"}\n' + SPOT.encode()
        code, found, _ = run("binance", *file, data=data)
        assert code == 1
        assert [item.get("error") for item in found] == [None, "utf8", None]
        assert found[1]["line"] == 2

    @pytest.mark.parametrize("form", ["bare", "raw", "key"])
    @pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
    def test_a_byte_that_is_no_utf8_is_an_error_of_its_line_and_the_next_is_read(
        self, form: str, locale: str
    ) -> None:
        bad = {"bare": b'{"x":"\xff"}', "raw": b'{"raw":"\xff"}', "key": b'{"\xff":1}'}[form]
        done = subprocess.run(
            [sys.executable, "-m", "crosswire", "decode", "binance"],
            input=b"\n".join((SPOT.encode(), bad, SPOT.encode())),
            env={**os.environ, "LC_ALL": locale, "PYTHONIOENCODING": "utf-8:strict"},
            capture_output=True, timeout=60,
        )  # fmt: skip
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert (done.returncode, done.stderr) == (1, b"")
        assert [item.get("error") for item in found] == [None, "utf8", None]
        assert (found[1]["line"], found[1]["at"]) == (2, bad.index(b"\xff") - 8 * (form == "raw"))

    def test_a_packed_input_is_unpacked(self, tmp_path: Path) -> None:
        data = gzip.compress(f"{SPOT}\n{{\n{SPOT}\n".encode())
        path = tmp_path / "frames.gz"
        path.write_bytes(data)
        for file in (str(path), "-"):
            code, found, _ = run("binance", file, data=data)
            assert code == 1
            assert [item.get("error") for item in found] == [None, "json-cut", None]

    def test_a_packed_input_that_was_cut_is_told_and_what_came_before_is_read(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "frames.gz"
        path.write_bytes(gzip.compress(f"{SPOT}\n".encode())[:-4])
        code, found, said = run("binance", str(path))
        assert (code, [item["seq"] for item in found]) == (1, [7])
        assert said.startswith(f"crosswire: {path}: after line 1: ")
        assert len(said.splitlines()) == 1

    def test_an_empty_input_is_right(self) -> None:
        assert run("okx")[:2] == (0, [])

    def test_json_ends_with_one_object(self) -> None:
        code, found, _ = run("binance", "--json", data=f"{SPOT}\n{{\n".encode())
        assert code == 1
        assert found[0]["record"] == "quote"
        assert found[-1]["errors"] == 1
        assert "record" not in found[-1]

    def test_the_encoding_of_the_venue_may_be_named(self) -> None:
        code, found, _ = run("binance", "--encoding", "json", data=SPOT.encode())
        assert (code, len(found)) == (0, 1)

    @pytest.mark.parametrize(
        "args",
        [
            ("nowhere",),
            (),
            ("binance", "absent.jsonl"),
            ("binance", "--encoding", "xml"),
            ("binance", "--encoding", "sbe"),
        ],
        ids=["venue", "nothing", "file", "encoding", "encoding not served"],
    )
    def test_wrong_words_exit_2_and_print_no_record(self, args: tuple[str, ...]) -> None:
        code, found, said = run(*args)
        assert (code, found) == (2, [])
        assert said.strip()
        assert "Traceback" not in said


@needs_samples
class TestTheSamples:
    """Messages captured in the wild, and what they hold by hand."""

    @staticmethod
    def samples(name: str, *kinds: str) -> list[dict[str, Any]]:
        with (SHARED / "samples" / f"{name}.jsonl").open(encoding="utf-8") as file:
            return [row for row in map(json.loads, file) if row["kind"] in kinds]

    @staticmethod
    def expected_okx(raw: str) -> list[dict[str, Any]]:
        message = json.loads(raw)
        head = {"venue": "okx", "symbol": message["arg"]["instId"], "flags": []}
        found: list[dict[str, Any]] = []
        for item in message["data"]:
            times = {"ts_exch": int(item["ts"]) * 10**6, "seq": item.get("seqId", 0)}
            if message["arg"]["channel"] == "bbo-tbt":
                (bid, bid_qty, *_), (ask, ask_qty, *_) = item["bids"][0], item["asks"][0]
                sides = {"bid": bid, "bid_qty": bid_qty, "ask": ask, "ask_qty": ask_qty}
                numbers = {key: float(Decimal(text)) for key, text in sides.items()}
                found.append({"record": "quote", **head, **times, **numbers})
                continue
            numbers = {"price": float(Decimal(item["px"])), "qty": float(Decimal(item["sz"]))}
            rest = {
                "trade_id": int(item["tradeId"]),
                "count": int(item.get("count", 1)),
                "side": {"buy": 1, "sell": -1}[item["side"]],
                "kind": 0,
            }
            found.append({"record": "trade", **head, **times, **numbers, **rest})
        return found

    def test_quotes_and_trades_of_okx(self) -> None:
        samples = self.samples("okx", "bbo", "trade")
        assert len(samples) == 6
        data = "".join(json.dumps(row) + "\n" for row in samples).encode()
        code, found, _ = run("okx", "-", data=data)
        assert code == 0
        assert found == [record for row in samples for record in self.expected_okx(row["raw"])]

    def test_quotes_of_binance_with_unknown_keys(self) -> None:
        samples = self.samples("binance", "bbo")
        found = decode("binance.usdm", *(json.dumps(row) for row in samples))
        names = {"bid": "b", "bid_qty": "B", "ask": "a", "ask_qty": "A"}
        for row, record in zip(samples, found, strict=True):
            data = json.loads(row["raw"])["data"]
            assert {key: record[key] for key in names} == {
                key: float(data[name]) for key, name in names.items()
            }
            assert (record["symbol"], record["seq"]) == (data["s"], data["u"])
            assert record["ts_exch"] == data["T"] * 10**6

    def test_aggregated_trades_of_binance_are_counted_only(self) -> None:
        samples = self.samples("binance", "trade")
        assert all('"aggTrade"' in row["raw"] for row in samples)
        for name in ("binance", "binance.usdm"):
            assert decode(name, *(json.dumps(row) for row in samples)) == []

    @pytest.mark.parametrize(("name", "file"), [("binance", "binance"), ("okx", "okx")])
    def test_every_sample_is_a_record_counted_or_named(self, name: str, file: str) -> None:
        with (SHARED / "samples" / f"{file}.jsonl").open(encoding="utf-8") as rows:
            lines = list(rows)
        decoder = Decoder(venue(name))
        for line in lines:
            for item in map(json.loads, decoder.decode([line])):
                is_record = "record" in item and item["symbol"] in line
                assert is_record or item["error"] == "message-unknown", (line, item)
