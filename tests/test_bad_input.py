"""Bad input: frames and messages that are wrong in every way, through the whole hot path.

Each is a counted and named error with a position; nobody else loses a record; whatever is taken
for good equals what Python's json and Decimal make of the same text.
"""

from __future__ import annotations

import itertools
import json
import random
import struct
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crosswire import Engine, Line, VenueError, isa_levels
from crosswire.codec import encode_frame
from crosswire.venue import Field, Message, Record, Slot, Text
from crosswire.venues import venue

pytestmark = pytest.mark.kernel

VENUES = ("binance", "binance.usdm", "okx")
SYMBOLS = {"binance": "BTCUSDT", "binance.usdm": "BTCUSDT", "okx": "BTC-USDT"}
OTHERS = {"binance": "ETHUSDT", "binance.usdm": "ETHUSDT", "okx": "ETH-USDT"}

SPOT_QUOTE = (
    '{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000",'
    '"B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}'
)
BARE_QUOTE = (
    '{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000",'
    '"A":"1.54698000"}'
)
SPOT_TRADE = (
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT",'
    '"t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
)
SPOT_DEPTH = (
    '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT",'
    '"U":50093239203,"u":50093239207,"b":[["55653.87000000","0.00000000"]],"a":[]}}'
)
USDM_QUOTE = (
    '{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30",'
    '"A":"2.510","T":1723161256313,"E":1723161256313}'
)
USDM_TRADE = (
    '{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,'
    '"p":"61800.30","q":"0.006","X":"MARKET","m":false}'
)
OKX_QUOTE = (
    '{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["31774.7","0.14368878",'
    '"0","3"]],"bids":[["31774.6","0.3392211","0","3"]],"ts":"1654032991947","seqId":123456}]}'
)
OKX_TRADE = (
    '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",'
    '"tradeId":"1040968613","px":"64040.2","sz":"0.00240857","side":"buy","ts":"1786538760218",'
    '"count":"2","source":"0","seqId":79706765242}]}'
)
OKX_TRADES = OKX_TRADE[:-2] + "," + OKX_TRADE[OKX_TRADE.index("{", 50) :].replace("buy", "sell")
GOOD = {
    "binance": (SPOT_QUOTE, BARE_QUOTE, SPOT_TRADE, SPOT_DEPTH),
    "binance.usdm": (USDM_QUOTE, USDM_TRADE),
    "okx": (OKX_QUOTE, OKX_TRADE, OKX_TRADES),
}
CASES = [(name, text) for name, texts in GOOD.items() for text in texts]
case_ids = [f"{name}-{n}" for name, texts in GOOD.items() for n, _ in enumerate(texts)]

QUOTE_FIELDS = {
    Slot.SEQ: "seq",
    Slot.BID: "bid",
    Slot.BID_QTY: "bid_qty",
    Slot.ASK: "ask",
    Slot.ASK_QTY: "ask_qty",
    Slot.TS_MS: "ts_exch",
}
TRADE_FIELDS = {
    Slot.SEQ: "seq",
    Slot.TRADE_ID: "trade_id",
    Slot.PRICE: "price",
    Slot.QTY: "qty",
    Slot.TS_MS: "ts_exch",
    Slot.COUNT: "count",
    Slot.SIDE: "side",
    Slot.BUYER_IS_MAKER: "side",
    Slot.TRADE_KIND: "kind",
}
ID_HASHED = 4


# ------------------------------------------------------------------ what Python makes of it


class NotGoodError(Exception):
    """Python's own reading says that the message is not in order."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = DOUBLED if key in found else value
    return found


class _Doubled:
    pass


class Number(str):
    """A JSON number, as its text."""

    __slots__ = ()


DOUBLED = _Doubled()


def constant(text: str) -> Any:
    raise NotGoodError(text)


def parse(text: str) -> Any:
    return json.loads(
        text,
        object_pairs_hook=unique,
        parse_float=Number,
        parse_int=Number,
        parse_constant=constant,
    )


def steps_of(path: str) -> list[str | int]:
    """``data[].asks[0][1]`` as ["data", -1, "asks", 0, 1]."""
    found: list[str | int] = []
    for word in path.replace("[", ".[").split("."):
        found.append(word if word[0] != "[" else int(word[1:-1] or -1))
    return found


MISSING = object()


def look(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(step, str):
            value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
        elif isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return MISSING
        if value is MISSING:
            return MISSING
    return value


PYTHON_TYPES: dict[Text, type] = {
    Text.STRING: str,
    Text.NUMBER: Number,
    Text.BOOL: bool,
    Text.ARRAY: list,
}


def value_of(slot: Slot, field: Field, given: Any) -> Any:
    """The number that a field's text stands for; None: an id that is hashed."""
    if type(given) is not PYTHON_TYPES[field.text]:
        raise NotGoodError(f"{slot.name}: {given!r}")
    value: Any = given
    if slot in (Slot.SYMBOL, Slot.TAG, Slot.BIDS, Slot.ASKS):
        return value
    if slot is Slot.SIDE:
        return {"buy": 1, "sell": -1}[value.lower()]
    if slot is Slot.BUYER_IS_MAKER:
        return -1 if value else 1
    if slot is Slot.TRADE_KIND:
        return 0 if value == "MARKET" else 1
    if slot is Slot.TRADE_ID and field.text is Text.STRING and not value.isdecimal():
        return None
    if slot is Slot.TRADE_ID and int(value) >= 2**64:
        return None
    if slot in (Slot.SEQ, Slot.COUNT, Slot.TRADE_ID):
        return int(value)
    if slot is Slot.TS_MS:
        return int(value) * 1_000_000
    return float(Decimal(value))


def bodies_of(name: str, whole: Any) -> list[Any]:
    """The objects in which the message may stand."""
    layout = venue(name).layout
    if not isinstance(whole, dict):
        raise NotGoodError("no object")
    bodies = [whole]
    if layout.envelope and isinstance(whole.get(layout.envelope), dict):
        bodies.append(whole[layout.envelope])
    return bodies


def records_of(name: str, text: str) -> list[dict[str, Any]]:
    """Return the records in a text, by the venue's declaration and Python's means.

    Raises:
        NotGoodError, ValueError, KeyError: it is not in order.
    """
    whole = parse(text)
    for message, body in itertools.product(venue(name).layout.messages, bodies_of(name, whole)):
        tags = [p for p, f in message.fields.items() if f.slot is Slot.TAG]
        tag = look(body, steps_of(tags[0])) if tags else body.get("e", MISSING)
        if tag is MISSING and message.tag is None and look(body, ["s"]) is not MISSING:
            return _records(message, body)
        if message.tag is not None and tag == message.tag:
            return _records(message, body)
    raise NotGoodError("no kind")


def _records(message: Message, body: Any) -> list[dict[str, Any]]:
    if message.record is Record.COUNTED:
        return []
    paths = {path: steps_of(path) for path in message.fields}
    each = any(-1 in steps for steps in paths.values())
    items = body.get("data", MISSING) if each else [None]
    if not isinstance(items, list):
        raise NotGoodError("data is no array")
    found = []
    for number in range(len(items)):
        record: dict[str, Any] = {"symbol": None}
        for path, steps in paths.items():
            field = message.fields[path]
            value = look(body, [number if step == -1 else step for step in steps])
            if value is MISSING and field.is_required:
                raise NotGoodError(f"{path} is missing")
            if value is not MISSING:
                record[field.slot.name] = value_of(field.slot, field, value)
        found.append(record)
    return found


def agrees(row: tuple[str, Any], record: dict[str, Any]) -> bool:
    """Every field of a row is that of the record."""
    kind, fields = row
    names = QUOTE_FIELDS if kind == "quote" else TRADE_FIELDS
    for slot, name in names.items():
        if slot.name in record:
            value = record[slot.name]
            if value is None:
                if not fields["flags"] & ID_HASHED:
                    return False
            elif fields[name] != value:
                return False
        elif slot in (Slot.BID, Slot.BID_QTY, Slot.ASK, Slot.ASK_QTY, Slot.SEQ, Slot.TS_MS):
            if fields[name] != 0:
                return False
        elif slot is Slot.COUNT and fields["count"] != 1:
            return False
    return True


def _bystanders(name: str) -> list[tuple[bytes, list[dict[str, Any]]]]:
    texts = [text.replace(SYMBOLS[name], OTHERS[name]) for text in GOOD[name]]
    return [(encode_frame(1, text.encode()), records_of(name, text)) for text in texts]


BYSTANDERS = {name: _bystanders(name) for name in VENUES}


# ------------------------------------------------------------------ the probe


class Probe:
    """A line under test, and two bystanders: another symbol on it and another venue's line."""

    def __init__(self, name: str, isa: str | None = None, rows_max: int = 64) -> None:
        self.name = name
        self.other = "okx" if name != "okx" else "binance"
        self.engine = Engine(
            instruments_max=4, pairs_max=1, signals_max=4, lines_max=2, rows_max=rows_max, isa=isa
        )
        for each in (self.name, self.other):
            self.engine.add_venue(each, venue(each).layout)
            self.engine.add_instrument(each, SYMBOLS[each], fee_bps=0.0)
            self.engine.add_instrument(each, OTHERS[each], fee_bps=0.0)
        self.rows: list[tuple[str, Any]] = []
        self.controls: list[tuple[int, bytes]] = []
        self.engine.on_quotes = lambda rows: self._keep("quote", rows)
        self.engine.on_trades = lambda rows: self._keep("trade", rows)
        self.line = self._line(self.name)
        self.bystander = self._line(self.other)
        self.errors = 0
        self.sent = 0

    def _line(self, name: str) -> Line:
        line = Line(self.engine, name, message_max=1 << 16)
        line.on_control = lambda opcode, payload: self.controls.append((opcode, payload))
        line.open(0, 0)
        return line

    def _keep(self, kind: str, rows: Any) -> None:
        names = rows.dtype.names
        self.rows += [(kind, dict(zip(names, row.item(), strict=True))) for row in rows]

    def send(self, payload: str | bytes, opcode: int = 1) -> tuple[list[tuple[str, Any]], Any]:
        """Send one message; return its records and its error, or None."""
        data = payload if isinstance(payload, bytes) else payload.encode()
        self.rows.clear()
        self.controls.clear()
        self.sent += 1
        self.line.feed(encode_frame(opcode, data), self.sent, self.sent)
        rows = list(self.rows)
        errors: list[VenueError] = list(self.line.message_errors())
        if self.line.error is not None:
            errors.append(self.line.error)
            self.line.open(self.sent, self.sent)
        else:
            self.errors += len(errors)
            assert sum(self.engine.errors.values()) >= self.errors == self.line.error_count
        assert len(errors) <= 1
        if not errors:
            return rows, None
        error = errors[0]
        if error.code != "utf8":
            assert 0 <= error.at <= len(data), (payload, error)
            assert self.engine.errors[error.code] > 0
        return rows, error

    def refuses(self, payload: str | bytes) -> Any:
        """Send a message that must be lost to an error, and see that nobody else loses any."""
        rows, error = self.send(payload)
        assert error is not None, f"accepted: {payload!r} as {rows}"
        assert rows == [], payload
        self.check_bystanders()
        return error

    def check_bystanders(self) -> None:
        """The next quotes and trades of the other symbol and of the other line come whole."""
        self._check(self.line, self.name)
        self.check_bystander_line()

    def check_bystander_line(self) -> None:
        self._check(self.bystander, self.other)

    def _check(self, line: Line, name: str) -> None:
        for frame, records in BYSTANDERS[name]:
            self.sent += 1
            self.rows.clear()
            line.feed(frame, self.sent, self.sent)
            assert len(self.rows) == len(records)
            assert all(map(agrees, self.rows, records)), (name, self.rows)
            assert line.message_errors() == []


def replaced(text: str, key: str, value: str) -> str:
    """Put another value behind a key, wherever it stands."""
    parsed_at = text.index(f'"{key}":') + len(key) + 3
    end = _value_end(text, parsed_at)
    return text[:parsed_at] + value + text[end:]


def without(text: str, key: str) -> str:
    """Take a key and its value out, and one comma."""
    at = text.index(f'"{key}":')
    end = _value_end(text, at + len(key) + 3)
    if text[end] == ",":
        return text[:at] + text[end + 1 :]
    return text[: at - 1 if text[at - 1] == "," else at] + text[end:]


def doubled(text: str, key: str, again: str | None = None) -> str:
    at = text.index(f'"{key}":')
    end = _value_end(text, at + len(key) + 3)
    return text[:end] + "," + (again or text[at:end]) + text[end:]


def _value_end(text: str, at: int) -> int:
    return json.JSONDecoder().raw_decode(text, at)[1]


def required_keys(name: str, text: str) -> list[str]:
    """The last key of the path of every required field of the message's kind."""
    found = []
    for message in venue(name).layout.messages:
        if message.record is Record.COUNTED:
            continue
        keys = [
            p.split("[0]")[0].split(".")[-1] for p, f in message.fields.items() if f.is_required
        ]
        is_kind = f'"{message.tag}"' in text if message.tag else '"e":' not in text
        if is_kind and all(f'"{key}":' in text for key in keys):
            found = keys
    return list(dict.fromkeys(found))


def field_cases() -> Iterator[tuple[str, str, str, Field]]:
    """(venue, message, key, field) of every scalar field of the message."""
    for name, text in CASES:
        if text is OKX_TRADES:
            continue
        for message in venue(name).layout.messages:
            if message.record is Record.COUNTED:
                continue
            is_kind = f'"{message.tag}"' in text if message.tag else '"e":' not in text
            if not is_kind:
                continue
            for path, field in message.fields.items():
                key = path.split("[0]")[0].split(".")[-1]
                if "[0]" not in path and f'"{key}":' in text:
                    yield name, text, key, field


FIELDS = list(field_cases())
NUMBERS = (Slot.BID, Slot.BID_QTY, Slot.ASK, Slot.ASK_QTY, Slot.PRICE, Slot.QTY)
INTEGERS = (Slot.SEQ, Slot.TS_MS, Slot.COUNT, Slot.TRADE_ID)
DECIMALS = [case for case in FIELDS if case[3].slot in NUMBERS]
INTEGRAL = [case for case in FIELDS if case[3].slot in INTEGERS]


def fields_of(name: str) -> list[tuple[str, str, str, Field]]:
    return [case for case in FIELDS if case[0] == name]


# ------------------------------------------------------------------ the good side


class TestGoodMessages:
    @pytest.mark.parametrize(("name", "text"), CASES, ids=case_ids)
    def test_what_is_good_is_what_python_reads(self, name: str, text: str, isa: str) -> None:
        probe = Probe(name, isa)
        for _ in range(3):
            rows, error = probe.send(text)
            records = records_of(name, text)
            assert error is None
            assert len(rows) == len(records)
            assert all(map(agrees, rows, records))
        probe.check_bystanders()

    def test_the_reference_reads_the_numbers_of_the_text(self) -> None:
        (record,) = records_of("binance", SPOT_QUOTE)
        assert record["BID"] == 61837.63
        assert record["SEQ"] == 50093239212
        (record,) = records_of("okx", OKX_QUOTE)
        assert (record["ASK"], record["ASK_QTY"]) == (31774.7, 0.14368878)
        assert [record["SIDE"] for record in records_of("okx", OKX_TRADES)] == [1, -1]

    @pytest.mark.parametrize(("name", "text"), CASES, ids=case_ids)
    def test_keys_in_any_order_with_spaces_and_unknown_keys_are_the_same_record(
        self, name: str, text: str, isa: str
    ) -> None:
        rng = random.Random(text)
        probe = Probe(name, isa)
        expected = list(probe.send(text)[0])
        for row in expected:
            row[1].pop("ts_rx")
        for _ in range(150):
            shuffled = shuffle(json.loads(text, parse_float=str), rng)
            rows, error = probe.send(shuffled)
            assert error is None, (shuffled, error)
            for row in rows:
                row[1].pop("ts_rx")
            assert rows == expected, shuffled

    def test_every_order_of_the_keys_of_a_quote_is_the_same_record(self, isa: str) -> None:
        probe = Probe("binance", isa)
        ((_, expected),) = probe.send(BARE_QUOTE)[0]
        pairs = [f'"{key}":{json.dumps(value)}' for key, value in json.loads(BARE_QUOTE).items()]
        for number, order in enumerate(itertools.permutations(pairs)):
            text = "{" + ",".join(order) + "}"
            rows, error = probe.send(text)
            assert (len(rows), error) == (1, None)
            assert {**rows[0][1], "ts_rx": 1} == {**expected, "ts_rx": 1}, number

    @pytest.mark.parametrize("spaces", [" ", "\t", "\n", "\r", " \t\r\n "])
    def test_white_space_may_stand_between_all_tokens(self, spaces: str, isa: str) -> None:
        for name, text in CASES:
            probe = Probe(name, isa)
            expected = probe.send(text)[0]
            for strewn in (spaced(text, spaces), spaces + text, text + spaces):
                rows, error = probe.send(strewn)
                assert error is None, strewn
                assert len(rows) == len(expected)
                assert all(map(agrees, rows, records_of(name, text)))


NOISE = (
    '"x":null',
    '"zz":{"b":"1","s":"ETHUSDT","a":[{"u":7}]}',
    '"st":1',
    '"ps":"BTCUSDT"',
    '"n":-1.5E+10',
    '"q2":[[],[1,2,[3]],{}]',
    '"esc":"\\"}],\\\\\\u00e9\\n"',
    '"é€😀":"é€😀"',
    '"":""',
    '"bb":true',
    '"long":"' + "y" * 300 + '"',
)


def shuffle(value: Any, rng: random.Random) -> str:
    """The same JSON with keys in random order, spaces and unknown keys."""
    gap = rng.choice(("", "", " ", "\n\t"))
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}{gap}:{gap}{shuffle(item, rng)}" for key, item in value.items()]
        items += rng.sample(NOISE, rng.choice((0, 0, 1, 3)))
        rng.shuffle(items)
        return "{" + gap + f"{gap},{gap}".join(items) + gap + "}"
    if isinstance(value, list):
        return "[" + gap + f",{gap}".join(shuffle(item, rng) for item in value) + gap + "]"
    return json.dumps(value)


def spaced(text: str, spaces: str) -> str:
    out, is_in_text = [], False
    for char in text:
        if char == '"':
            is_in_text = not is_in_text
        out.append(char if is_in_text or char not in "{}[],:" else spaces + char + spaces)
    return "".join(out)


# ------------------------------------------------------------------ frames


def text_frame(payload: bytes, first: int = 0x81, mask: bytes = b"") -> bytes:
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = bytes((first, bit | 126)) + struct.pack(">H", size)
    else:
        head = bytes((first, bit | 127)) + struct.pack(">Q", size)
    body = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload)) if mask else payload
    return head + mask + body


QUOTE_FRAME = text_frame(BARE_QUOTE.encode())
BAD_FRAMES = [
    ("frame-reserved-bits", 1002, 0, text_frame(b"{}", 0xC1)),
    ("frame-reserved-bits", 1002, 0, text_frame(b"{}", 0xA1)),
    ("frame-reserved-bits", 1002, 0, text_frame(b"{}", 0x91)),
    *[("frame-opcode", 1002, 0, text_frame(b"{}", 0x80 | code)) for code in (3, 7, 11, 15)],
    *[("frame-control-fragmented", 1002, 0, text_frame(b"", code)) for code in (8, 9, 10)],
    *[
        ("frame-control-too-long", 1002, 1, text_frame(b"x" * 126, 0x80 | code))
        for code in (8, 9, 10)
    ],
    ("frame-length-form", 1002, 2, b"\x81\x7e\x00\x7d" + b"x" * 125),
    ("frame-length-form", 1002, 2, b"\x81\x7f" + struct.pack(">Q", 65535)),
    ("frame-length-form", 1002, 2, b"\x81\x7f" + struct.pack(">Q", 1 << 63)),
    ("frame-masked", 1002, 1, text_frame(b"{}", mask=b"abcd")),
    ("frame-too-big", 1009, 0, text_frame(b" " * 65537)),
    ("frame-too-big", 1009, 0, b"\x81\x7f" + struct.pack(">Q", (1 << 63) - 1)),
    ("frame-continuation", 1002, 0, text_frame(b"{}", 0x80)),
    ("frame-continuation", 1002, 0, text_frame(b"{}", 0x00)),
    ("frame-continuation", 1002, 3, text_frame(b"{", 0x01) + text_frame(b"}", 0x81)),
    ("frame-close", 1002, 2, text_frame(b"\x03", 0x88)),
    *[
        ("frame-close", 1002, 2, text_frame(struct.pack(">H", code), 0x88))
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)
    ],
    ("utf8", 1007, 2, text_frame(b"\xff")),
    ("utf8", 1007, 4, text_frame(b"ab\xc0\xaf")),
    ("utf8", 1007, 3, text_frame(b"\xed\xa0\x80")),
    ("utf8", 1007, 3, text_frame(b"\xf4\x90\x80\x80")),
    ("utf8", 1007, 4, text_frame(b"\xe2\x82")),
    ("utf8", 1007, 4, text_frame(b"\x03\xe8\xff", 0x88)),
    ("utf8", 1007, 5, text_frame(b"\xe2", 0x01) + text_frame(b"\x28", 0x80)),
]


class TestFrames:
    """Positions count from the first byte that the connection received."""

    @pytest.mark.parametrize("before", [0, 3])
    def test_a_broken_frame_is_named_with_its_position_and_close_code(
        self, before: int, isa: str
    ) -> None:
        for code, close, at, data in BAD_FRAMES:
            self.breaks(Probe("binance", isa), code, close, at, data, before)

    def breaks(
        self, probe: Probe, code: str, close: int, at: int, data: bytes, before: int
    ) -> None:
        good = QUOTE_FRAME * before
        assert probe.line.feed(good + data + QUOTE_FRAME, 1, 1) == 1
        error = probe.line.error
        assert error is not None
        assert (error.code, probe.line.close_code) == (code, close), data[:20]
        if code == "frame-too-big":
            assert len(good) <= error.at <= len(good) + 10
        elif code == "utf8":
            assert abs(error.at - len(good) - at) <= 1
        else:
            assert len(good) + at <= error.at <= len(good) + at + 2
        assert probe.line.is_done
        assert not probe.line.is_closed
        assert len(probe.rows) == before
        assert probe.engine.errors == {code: 1}
        probe.check_bystander_line()

    def test_the_same_bytes_one_by_one_are_the_same_error(self, isa: str) -> None:
        for code, close, _, data in BAD_FRAMES:
            whole, parts = Probe("binance", isa), Probe("binance", isa)
            whole.line.feed(QUOTE_FRAME + data[:200], 1, 1)
            for byte in QUOTE_FRAME + data[:200]:
                parts.line.feed(bytes((byte,)), 1, 1)
            for probe in (whole, parts):
                assert probe.line.error is not None
                assert (probe.line.error.code, probe.line.close_code) == (code, close)
                assert len(probe.rows) == 1
            assert str(whole.line.error) == str(parts.line.error)

    def test_after_a_broken_frame_nothing_more_is_read_until_it_is_opened_again(self) -> None:
        probe = Probe("binance")
        probe.line.feed(text_frame(b"{}", 0x83), 1, 1)
        for _ in range(3):
            assert probe.line.feed(QUOTE_FRAME, 2, 2) == 1
        assert probe.rows == []
        probe.line.open(3, 3)
        assert probe.line.error is None
        assert probe.line.feed(QUOTE_FRAME, 4, 4) == 0
        assert len(probe.rows) == 1

    def test_a_frame_that_was_cut_waits_and_is_no_record(self) -> None:
        for size in range(len(QUOTE_FRAME)):
            probe = Probe("binance")
            assert probe.line.feed(QUOTE_FRAME + QUOTE_FRAME[:size], 1, 1) == 0
            assert (len(probe.rows), probe.line.error, probe.engine.errors) == (1, None, {})
            probe.line.feed(QUOTE_FRAME[size:], 2, 2)
            assert [fields["ts_rx"] for _, fields in probe.rows] == [1, 2]

    def test_a_frame_that_was_cut_by_the_loss_of_the_connection_is_forgotten(self) -> None:
        for size in range(1, len(QUOTE_FRAME)):
            probe = Probe("binance")
            probe.line.feed(QUOTE_FRAME[:size], 1, 1)
            probe.line.lose(2, 2)
            probe.line.open(3, 3)
            probe.line.feed(QUOTE_FRAME, 4, 4)
            assert (len(probe.rows), probe.engine.errors) == (1, {}), size

    def test_fragments_are_one_message_with_control_frames_between(self, isa: str) -> None:
        payload = BARE_QUOTE.encode()
        for at in range(len(payload) + 1):
            probe = Probe("binance", isa)
            data = (
                text_frame(payload[:at], 0x01)
                + text_frame(b"beat", 0x89)
                + text_frame(b"", 0x00)
                + text_frame(payload[at:], 0x80)
            )
            assert probe.line.feed(data, 1, 1) == 0
            assert [kind for kind, _ in probe.rows] == ["quote"]
            assert agrees(probe.rows[0], records_of("binance", BARE_QUOTE)[0])
            assert probe.controls == [(9, b"beat")]

    def test_more_fragments_than_allowed_break_the_connection(self) -> None:
        engine = Engine(instruments_max=4, pairs_max=1, signals_max=4)
        engine.add_venue("binance", venue("binance").layout)
        line = Line(engine, "binance", fragments_max=4)
        line.open(0, 0)
        assert line.feed(text_frame(b"", 0x01) + text_frame(b"", 0x00) * 3, 1, 1) == 0
        assert line.feed(text_frame(b"", 0x00), 1, 1) == 1
        assert line.error is not None
        assert line.error.code == "frame-fragments"
        assert line.close_code in (1002, 1008, 1009)

    def test_a_server_refuses_unmasked_frames_and_reads_masked_ones(self, isa: str) -> None:
        engine = Engine(instruments_max=4, pairs_max=1, signals_max=4, takes_unknown=True, isa=isa)
        engine.add_venue("binance", venue("binance").layout)
        line = Line(engine, "binance", is_server=True)
        rows: list[Any] = []
        engine.on_quotes = lambda batch: rows.extend(batch["bid"].tolist())
        line.open(0, 0)
        for mask in (b"abcd", b"\0\0\0\1", b"\xff\x00\x80\x7f"):
            assert line.feed(text_frame(BARE_QUOTE.encode(), mask=mask), 1, 1) == 0
        assert rows == [61837.63] * 3
        assert line.feed(text_frame(b"{}"), 1, 1) == 1
        assert line.error is not None
        assert (line.error.code, line.close_code) == ("frame-unmasked", 1002)

    def test_a_message_as_large_as_allowed_is_read_and_one_byte_more_is_not(self) -> None:
        for extra in (0, 1):
            probe = Probe("binance")
            padded = BARE_QUOTE[:-1] + " " * ((1 << 16) - len(BARE_QUOTE) + extra) + "}"
            half = len(padded) // 2
            for data in (
                text_frame(padded.encode()),
                text_frame(padded[:half].encode(), 0x01) + text_frame(padded[half:].encode(), 0x80),
            ):
                probe.rows.clear()
                probe.line.open(1, 1)
                probe.line.feed(data, 1, 1)
                assert len(probe.rows) == 1 - extra
                if extra:
                    assert probe.line.error is not None
                    assert probe.line.error.code == "frame-too-big"
                    assert probe.line.close_code == 1009

    def test_a_close_frame_ends_the_line_without_an_error(self) -> None:
        for payload in (b"", b"\x03\xe8", b"\x03\xe8bye", b"\x0b\xb8", b"\x13\x87\xc3\xa9"):
            probe = Probe("binance")
            assert probe.line.feed(text_frame(payload, 0x88) + QUOTE_FRAME, 1, 1) == 1
            assert (probe.line.is_closed, probe.line.is_done, probe.line.error) == (
                True,
                True,
                None,
            )
            assert (probe.rows, probe.engine.errors) == ([], {})
            assert probe.controls == [(8, payload)]

    def test_a_binary_message_where_text_is_sent_is_named(self) -> None:
        probe = Probe("binance")
        rows, error = probe.send(BARE_QUOTE, opcode=2)
        assert rows == []
        assert error.code == "message-binary"
        assert error.at <= len(BARE_QUOTE)
        probe.check_bystanders()


# ------------------------------------------------------------------ messages


class TestCutMessages:
    @pytest.mark.parametrize(("name", "text"), CASES, ids=case_ids)
    @pytest.mark.parametrize("is_known", [False, True], ids=["at first", "after a good one"])
    def test_a_message_cut_anywhere_is_cut_there(
        self, name: str, text: str, is_known: bool, isa: str
    ) -> None:
        probe = Probe(name, isa)
        for size in range(len(text)):
            if is_known:
                probe.send(text)
            rows, error = probe.send(text[:size])
            assert error is not None, text[:size]
            assert (error.code, error.at) == ("json-cut", size), text[:size]
            assert len(rows) < max(1, len(records_of(name, text)))
        probe.check_bystanders()
        assert probe.engine.errors == {"json-cut": len(text)}

    @pytest.mark.parametrize(("name", "text"), CASES, ids=case_ids)
    def test_a_message_with_any_byte_left_out_is_never_a_wrong_number(
        self, name: str, text: str, isa: str
    ) -> None:
        probe = Probe(name, isa)
        for at in range(len(text)):
            assert_true_or_refused(probe, (text[:at] + text[at + 1 :]).encode())

    @pytest.mark.parametrize(
        "tail", ["}", "]", "{", "x", ",", "0", '"', "\0", "null", BARE_QUOTE, " \x0b", "\ufeff"]
    )
    def test_bytes_behind_the_message_are_trailing(self, tail: str, isa: str) -> None:
        for name, text in CASES:
            probe = Probe(name, isa)
            for _ in range(2):
                rows, error = probe.send(text + tail)
                assert error is not None
                assert error.code == "json-trailing"
                assert len(text) <= error.at <= len(text) + len(tail.encode())
                assert rows == [] or text is OKX_TRADES
                probe.send(text)

    def test_white_space_behind_the_message_is_not_trailing(self) -> None:
        probe = Probe("binance")
        assert probe.send(BARE_QUOTE + " \r\n\t")[1] is None


WRONG_TYPES = {
    Text.STRING: ("1", "true", "null", "[]", "{}", '["1"]', '{"x":"1"}', "-1", "1e5"),
    Text.NUMBER: ('"1"', "true", "false", "null", "[]", "{}", "[1]", '""'),
    Text.BOOL: ('"true"', "1", "0", "null", "[]", "{}"),
    Text.ARRAY: ('"x"', "1", "true", "null", "{}", '{"0":[["1","1"]]}'),
}


class TestTypes:
    @pytest.mark.parametrize("venue_name", VENUES)
    def test_a_field_of_another_type_is_refused(self, venue_name: str, isa: str) -> None:
        for _, text, key, field in fields_of(venue_name):
            probe = Probe(venue_name, isa)
            for value in WRONG_TYPES[field.text]:
                probe.send(text)
                wrong = replaced(text, key, value)
                if field.slot is Slot.TAG:
                    rows, error = probe.send(wrong)
                    assert rows == []
                    assert error is not None or probe.controls == [(1, wrong.encode())]
                    continue
                error = probe.refuses(wrong)
                start = wrong.index(f'"{key}":')
                assert error.code in ("type", "symbol-unknown"), (value, error)
                assert start <= error.at <= len(wrong)

    def test_what_is_no_json_value_is_a_syntax_error(self, isa: str) -> None:
        words = ("tru", "True", "TRUE", "nul", "None", "truee", "fals", "undefined", "'x'", "")
        for name, text, key, _ in FIELDS:
            probe = Probe(name, isa)
            for value in words:
                error = probe.refuses(replaced(text, key, value))
                assert error.code == "json-syntax", (key, value, error)

    @pytest.mark.parametrize("key", ["arg", "data"])
    def test_a_message_without_its_body_is_refused(self, key: str, isa: str) -> None:
        for text in (OKX_QUOTE, OKX_TRADE):
            probe = Probe("okx", isa)
            probe.send(text)
            wrong = without(text, key)
            rows, error = probe.send(wrong)
            assert rows == []
            assert error is not None or (key == "arg" and probe.controls == [(1, wrong.encode())])

    @pytest.mark.parametrize("data", ["{}", "null", '"x"', "1", "true", '{"0":{}}'])
    def test_data_that_is_no_array_is_refused(self, data: str, isa: str) -> None:
        for text in (OKX_QUOTE, OKX_TRADE):
            probe = Probe("okx", isa)
            probe.send(text)
            error = probe.refuses(replaced(text, "data", data))
            assert error.code in ("type", "key-missing")

    @pytest.mark.parametrize("item", ["null", "1", '"x"', "[]", "[[]]", "true"])
    def test_elements_of_data_that_are_no_objects_are_refused(self, item: str, isa: str) -> None:
        for text in (OKX_QUOTE, OKX_TRADE):
            probe = Probe("okx", isa)
            probe.send(text)
            error = probe.refuses(replaced(text, "data", f"[{item}]"))
            assert error.code in ("type", "key-missing")

    @pytest.mark.parametrize(
        "level", ["[]", '["1"]', '"1"', "1", "null", "{}", '{"0":"1","1":"1"}']
    )
    @pytest.mark.parametrize("side", ["asks", "bids"])
    def test_a_level_without_price_and_size_is_no_empty_side(
        self, side: str, level: str, isa: str
    ) -> None:
        probe = Probe("okx", isa)
        probe.send(OKX_QUOTE)
        error = probe.refuses(replaced(OKX_QUOTE, side, f"[{level}]"))
        assert error.code in ("type", "key-missing", "number-form")

    @pytest.mark.parametrize("side", ["asks", "bids"])
    def test_prices_and_sizes_of_a_level_of_another_type_are_refused(
        self, side: str, isa: str
    ) -> None:
        probe = Probe("okx", isa)
        for part, value in itertools.product(range(2), WRONG_TYPES[Text.STRING]):
            probe.send(OKX_QUOTE)
            level = ['"1.5"', '"2"', '"0"', '"3"']
            level[part] = value
            error = probe.refuses(replaced(OKX_QUOTE, side, f"[[{','.join(level)}]]"))
            assert error.code == "type"

    def test_a_side_that_is_neither_buy_nor_sell_is_refused(self, isa: str) -> None:
        probe = Probe("okx", isa)
        for side in ("", "BUYER", "b", "buy ", " buy", "0", "1", "sel", "sells", "\\u0062uy"):
            probe.send(OKX_TRADE)
            error = probe.refuses(OKX_TRADE.replace('"buy"', f'"{side}"'))
            assert OKX_TRADE.index('"side"') < error.at <= len(OKX_TRADE) + 10

    @pytest.mark.parametrize("value", ["null", "[]", "7", '"x"', "true", "{}", "-0.0", "[{}]"])
    def test_json_that_is_no_object_of_ours_goes_to_the_control_plane(self, value: str) -> None:
        for name in VENUES:
            probe = Probe(name)
            assert probe.send(value) == ([], None)
            assert probe.controls == [(1, value.encode())]
            probe.line.reject()
            assert probe.engine.errors == {"message-unknown": 1}


BAD_DECIMALS = [
    *("", " ", "NaN", "nan", "Infinity", "-Infinity", "inf", "+1", "-", "+", ".", ".5", "5."),
    *("1e", "1e+", "1E-", "e5", "1.e5", "1..2", "1.2.3", "1,5", "1_000", "0x10", "0X1F", "1f"),
    *(" 1", "1 ", "1\\n", "\\u0031", "1\\u0000", "--1", "1-", "1e5.5", "1e1e1", "½", "١", "1L"),
    *("true", "null", "1e400", "1e309", "1e-400", "1e999999999999999999999", "-1", "-0.1", "-1e5"),
    *("-.5", "9" * 400, "0." + "1" * 400, "1" * 65, "0" * 65, "1" + "0" * 400, "-" + "9" * 400),
]
GOOD_DECIMALS = [
    *("0", "0.0", "00", "01.5", "007", "1e5", "1E5", "1e+5", "1e-5", "1.5e3", "0e0", "0.1", "0.3"),
    *("9007199254740993", "9007199254740992.5", "0.1000000000000000055511151231257827", "1e22"),
    *("123456789012345678", "1" * 64, "0." + "3" * 62, "1e98", "1e-98", "2.2250738585072014e-90"),
    *("5e-1", "0.000000000000000000000000000000000001", "99999999999999999999999999", "1e23"),
]


class TestNumbers:
    def test_a_price_or_size_that_is_no_number_is_refused(self, isa: str) -> None:
        for name, text, key, _ in DECIMALS:
            probe = Probe(name, isa)
            for value in BAD_DECIMALS * 2:
                wrong = replaced(text, key, f'"{value}"')
                error = probe.refuses(wrong)
                assert error.code in ("number-form", "number-length", "number-range")
                start = wrong.index(f'"{key}":')
                assert start < error.at <= start + len(key) + 5 + len(value.encode()), (key, error)
                probe.send(text)

    def test_a_price_or_size_is_the_nearest_double_of_its_text(self, isa: str) -> None:
        for name, text, key, field in DECIMALS:
            probe = Probe(name, isa)
            names = {**QUOTE_FIELDS, **TRADE_FIELDS}
            for value in GOOD_DECIMALS * 2:
                ((_, row),), error = probe.send(replaced(text, key, f'"{value}"'))
                assert error is None
                assert row[names[field.slot]] == float(Decimal(value)), key
                probe.send(text)

    def test_prices_in_a_level_that_are_no_numbers_are_refused(self, isa: str) -> None:
        for side, part in itertools.product(("asks", "bids"), (0, 1)):
            probe = Probe("okx", isa)
            for value in BAD_DECIMALS * 2:
                level = ['"1.5"', '"2"', '"0"', '"3"']
                level[part] = f'"{value}"'
                error = probe.refuses(replaced(OKX_QUOTE, side, f"[[{','.join(level)}]]"))
                assert error.code in ("number-form", "number-length", "number-range")
                probe.send(OKX_QUOTE)

    @pytest.mark.parametrize(
        "value",
        [
            *("-1", "-0", "1.0", "1.5", "1e3", "1E3", "01", "00", "+1", "0x1", "NaN", "Infinity"),
            *("18446744073709551616", "99999999999999999999", "1" * 21, "1" * 400, "1e400"),
        ],
        ids=lambda value: value[:24],
    )
    def test_an_id_or_time_that_is_no_whole_number_in_range_is_refused(
        self, value: str, isa: str
    ) -> None:
        for name, text, key, field in INTEGRAL:
            is_wide = value.isdecimal() and len(value) > 19  # an id too wide is hashed
            if field.slot is Slot.TRADE_ID and (field.text is Text.STRING or is_wide):
                continue
            if field.text is Text.STRING and value in ("01", "00"):
                continue
            probe = Probe(name, isa)
            given = f'"{value}"' if field.text is Text.STRING else value
            for _ in range(2):
                error = probe.refuses(replaced(text, key, given))
                assert error.code in ("number-form", "number-length", "number-range", "json-syntax")
                probe.send(text)

    @pytest.mark.parametrize("value", [2**63, 2**64 - 1, 10**19, 9223372036855, 10**16])
    def test_a_time_beyond_what_nanoseconds_hold_is_refused(self, value: int, isa: str) -> None:
        for name, text, key, field in INTEGRAL:
            if field.slot is Slot.TS_MS:
                given = f'"{value}"' if field.text is Text.STRING else str(value)
                error = Probe(name, isa).refuses(replaced(text, key, given))
                assert error.code == "number-range"

    def test_the_largest_ids_and_times_are_kept_whole(self, isa: str) -> None:
        names = {**QUOTE_FIELDS, **TRADE_FIELDS}
        for name, text, key, field in INTEGRAL:
            largest = {Slot.TS_MS: 9223372036854, Slot.COUNT: 2**32 - 1}.get(field.slot, 2**64 - 1)
            if name.startswith("binance") and field.slot is Slot.SEQ:
                largest = 2**64 - 1
            for value in (0, 1, largest - 1, largest):
                given = f'"{value}"' if field.text is Text.STRING else str(value)
                ((_, row),), error = Probe(name, isa).send(replaced(text, key, given))
                scale = 1_000_000 if field.slot is Slot.TS_MS else 1
                assert (row[names[field.slot]], error) == (value * scale, None), (key, value)

    def test_a_trade_id_too_wide_is_hashed_and_flagged(self, isa: str) -> None:
        ids = ["18446744073709551616", "123456789012345678901234567", "a9188a0a-5e1b", "x" * 60]
        seen = set()
        for value in ids:
            ((_, row),), error = Probe("okx", isa).send(
                replaced(OKX_TRADE, "tradeId", f'"{value}"')
            )
            assert (row["flags"], error) == (ID_HASHED, None)
            seen.add(row["trade_id"])
        assert len(seen) == len(ids)


class TestKeys:
    @pytest.mark.parametrize(("name", "text"), CASES, ids=case_ids)
    def test_each_missing_key_is_an_error(self, name: str, text: str, isa: str) -> None:
        keys = required_keys(name, text)
        probe = Probe(name, isa)
        for key in keys:
            wrong = without(text, key)
            probe.send(text)
            rows, error = probe.send(wrong)
            if error is None:
                # Without its tag or channel a message is nothing that we know.
                assert key in ("e", "channel"), (key, rows)
                assert (rows, probe.controls) == ([], [(1, wrong.encode())])
                continue
            assert error.code == "key-missing" or (key, error.code) == ("e", "type"), (key, error)
            assert len(rows) < max(1, len(records_of(name, text)))
            probe.check_bystanders()
        assert keys or text is SPOT_DEPTH

    @pytest.mark.parametrize("venue_name", VENUES)
    def test_each_doubled_key_is_an_error(self, venue_name: str, isa: str) -> None:
        for name, text, key, _ in fields_of(venue_name):
            probe = Probe(name, isa)
            for again in (None, f'"{key}":"7"', f'"{key}":7', f'"{key}":null', f'"{key}":[]'):
                probe.send(text)
                wrong = doubled(text, key, again)
                error = probe.refuses(wrong)
                assert error.code == "key-doubled"
                first = wrong.index(f'"{key}":')
                assert wrong.index(f'"{key}":', first + 1) <= error.at <= len(wrong)

    @pytest.mark.parametrize("venue_name", VENUES)
    def test_a_key_doubled_by_an_escape_is_never_a_wrong_number(
        self, venue_name: str, isa: str
    ) -> None:
        """Python reads the second one, whatever spelling it has."""
        for name, text, key, _ in fields_of(venue_name):
            probe = Probe(name, isa)
            escaped = f'"\\u{ord(key[0]):04x}{key[1:]}"'
            for value in ('"7"', "7", "true", "[]"):
                probe.send(text)
                wrong = doubled(text, key, f"{escaped}:{value}")
                rows, error = probe.send(wrong)
                assert error is not None, f"taken for good: {wrong} as {rows}"

    def test_a_doubled_envelope_is_an_error(self, isa: str) -> None:
        probe = Probe("binance", isa)
        probe.send(SPOT_QUOTE)
        for again in (None, '"data":{}', '"data":null', '"data":7'):
            assert probe.refuses(doubled(SPOT_QUOTE, "data", again)).code == "key-doubled"

    def test_a_field_both_bare_and_in_the_envelope_is_an_error(self, isa: str) -> None:
        probe = Probe("binance", isa)
        for key, value in json.loads(BARE_QUOTE).items():
            probe.send(SPOT_QUOTE)
            item = f'"{key}":{json.dumps(value)}'
            probe.refuses(SPOT_QUOTE[:-1] + "," + item + "}")
            probe.refuses("{" + item + "," + SPOT_QUOTE[1:])

    @pytest.mark.parametrize("key", ["asks", "bids", "ts", "seqId", "data", "arg"])
    def test_keys_of_nested_objects_doubled_are_an_error(self, key: str, isa: str) -> None:
        probe = Probe("okx", isa)
        for again in (None, f'"{key}":null', f'"{key}":[]', f'"{key}":{{}}', f'"{key}":7'):
            probe.send(OKX_QUOTE)
            assert probe.refuses(doubled(OKX_QUOTE, key, again)).code == "key-doubled", again

    def test_unknown_symbols_are_named_and_harm_no_other(self, isa: str) -> None:
        unknown = ["XRPUSDT", "btcusdt", "BTCUSD", "BTCUSDTT", "", " BTCUSDT", "X" * 32, "X" * 33]
        unknown += ["X" * 500, "BTCUSDT\\u0000", "\\u0042TCUSDT", "BTC/USDT", "é"]
        for name, text in CASES:
            probe = Probe(name, isa)
            for symbol in unknown:
                probe.send(text)
                wrong = text.replace(f'"{SYMBOLS[name]}"', f'"{symbol}"')
                error = probe.refuses(wrong)
                assert error.code == "symbol-unknown", (symbol, error)
                assert error.instrument is None
                assert wrong[:1] == "{"

    def test_an_unknown_symbol_leaves_the_known_tops_readable(self, isa: str) -> None:
        for name, text in CASES:
            if text not in (SPOT_QUOTE, BARE_QUOTE, USDM_QUOTE, OKX_QUOTE):
                continue
            probe = Probe(name, isa)
            probe.send(text)
            assert probe.engine.top(0).is_valid
            probe.refuses(text.replace(f'"{SYMBOLS[name]}"', '"XRPUSDT"'))
            assert probe.engine.top(0).is_valid


class TestDepth:
    def test_nesting_up_to_64_is_read_and_deeper_is_named(self, isa: str) -> None:
        for depth in (1, 10, 62, 63):
            nest = "[" * depth + "]" * depth
            assert Probe("binance", isa).send(f'{{"x":{nest},{BARE_QUOTE[1:]}')[1] is None
        for depth, pair in itertools.product((64, 100, 20_000), ("[]", "{}")):
            opening = pair[0] if pair == "[]" else '{"x":'
            nest = opening * depth + ("1" if pair == "{}" else "") + pair[1] * depth
            wrong = f'{{"x":{nest},{BARE_QUOTE[1:]}'[: 1 << 16]
            error = Probe("binance", isa).refuses(wrong)
            assert error.code == "json-depth"
            assert 60 < error.at < 64 * 6

    def test_deep_nesting_that_is_cut_is_named(self, isa: str) -> None:
        for opening in ("[", '{"x":', '[{"x":'):
            for name in VENUES:
                assert Probe(name, isa).refuses(opening * 2000).code == "json-depth"


class TestSyntax:
    @pytest.mark.parametrize(
        "wrong",
        [
            "{,}",
            '{"u" 1}',
            '{"u":}',
            '{"u":1,}',
            "{u:1}",
            "{'u':1}",
            '{"u":1 "s":"A"}',
            '{"u":1;"s":"A"}',
            '{"x":[1,]}',
            '{"x":[,1]}',
            '{"x":[1 2]}',
            '{"x":"\\x"}',
            '{"x":"\\u12g4"}',
            '{"x":"\n"}',
            '{"x":"\x1f"}',
            '{"x":1.}',
            '{"x":.5}',
            '{"x":-}',
            '{"x":+1}',
            '{"x":1e}',
            '{"x":0x1}',
            '{"x":NaN}',
            '{"x":Infinity}',
            '{"x":01}',
            '{"x":1]',
            '{"x":[1}}',
            "ping",
            "\ufeff{}",
            "<html>",
            "/**/{}",
            "}",
            "]",
        ],
    )
    def test_what_is_no_json_is_named_with_its_position(self, wrong: str, isa: str) -> None:
        for name in VENUES:
            error = Probe(name, isa).refuses(wrong)
            assert error.code in ("json-syntax", "number-form", "json-cut")
            assert error.at < len(wrong.encode()) or error.code == "json-cut"

    @pytest.mark.parametrize("value", [r'"\uD800"', r'"\uDC00\uD800"', r'"\/\b\f\n\r\t\"\\"'])
    def test_escapes_in_unknown_fields_do_no_harm(self, value: str, isa: str) -> None:
        probe = Probe("binance", isa)
        rows, error = probe.send(f'{{"x":{value},{BARE_QUOTE[1:]}')
        assert (len(rows), error) == (1, None)

    def test_an_empty_message_is_cut(self) -> None:
        for name in VENUES:
            error = Probe(name).refuses("")
            assert (error.code, error.at) == ("json-cut", 0)


# ------------------------------------------------------------------ never a wrong number


def assert_true_or_refused(probe: Probe, data: bytes) -> None:
    """Whatever is taken for good is what Python reads; whatever is not is counted."""
    rows, error = probe.send(data)
    try:
        records = records_of(probe.name, data.decode())
        symbol = symbol_of(probe.name, data.decode())
        is_good = True
    except (ValueError, KeyError, NotGoodError, ArithmeticError, RecursionError):
        records, symbol, is_good = [], "", False
    if rows:
        assert is_good or error is not None, (data, rows)
    if rows and is_good:
        assert len(rows) == len(records) or (error is not None and len(rows) < len(records)), data
        for row, record in zip(rows, records, strict=False):
            assert agrees(row, record), (data, row, record)
            instrument = probe.engine.instruments[row[1]["instrument"]]
            assert instrument == (probe.name, symbol), (data, instrument)
    if error is None and not rows:
        is_counted = is_good and not records
        assert probe.controls or is_counted, f"lost without a word: {data!r}"


def symbol_of(name: str, text: str) -> str:
    whole = parse(text)
    if name == "okx":
        return str(whole["arg"]["instId"])
    return str((whole["data"] if isinstance(whole.get("data"), dict) else whole)["s"])


ALPHABET = b'0123456789.-+eE"\\{}[],: \tabuABsTtrnfl\x00\x1f\x7f\x80\xff\xc3\xa9'


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change, add, take away, double or swap a few bytes."""
    text = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, to = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        byte = rng.choice(ALPHABET)
        match rng.randrange(7):
            case 0 if at < len(text):
                text[at] = byte
            case 1:
                text.insert(at, byte)
            case 2 if at < len(text):
                del text[at]
            case 3 if at < len(text):
                text[at] ^= 1 << rng.randrange(8)
            case 4:
                text[at:at] = text[at : min(to, at + 24)]
            case 5:
                del text[at : min(to, at + 12)]
            case _:
                text[at:at] = data[rng.randrange(len(data)) :][: rng.randrange(1, 20)]
        if not text:
            text = bytearray(b"{")
    return bytes(text)


def texts_of(name: str, rng: random.Random, count: int) -> Iterator[bytes]:
    """Messages of a stream: good ones of two symbols, in other orders, cut, and mutated."""
    known = [text.encode() for text in GOOD[name]]
    known += [text.replace(SYMBOLS[name], OTHERS[name]).encode() for text in GOOD[name]]
    last = known[0]
    for _ in range(count):
        kind = rng.random()
        if kind < 0.1:
            last = mutate(last, rng)
        elif kind < 0.2:
            last = last[: rng.randrange(len(last) + 1)] or b"{"
        elif kind < 0.3:
            last = shuffle(json.loads(rng.choice(known)), rng).encode()
        else:
            last = rng.choice(known)
        if last.decode(errors="replace").encode() == last:  # else the connection is failed
            yield last
        last = rng.choice(known) if len(last) < 8 else last


PROBES: dict[tuple[str, str], Probe] = {}


def probe_of(name: str, isa: str) -> Probe:
    """One probe for all examples, so that templates of all shapes stand when the next comes."""
    if (name, isa) not in PROBES:
        PROBES[name, isa] = Probe(name, isa)
    return PROBES[name, isa]


class TestNeverAWrongNumber:
    @given(st.sampled_from(CASES), st.randoms(use_true_random=False), st.integers(0, 3))
    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
    def test_a_mutated_message_is_what_python_reads_or_is_refused(
        self, case: tuple[str, str], rng: random.Random, good: int
    ) -> None:
        name, text = case
        data = mutate(text.encode(), rng)
        for isa in isa_levels():
            probe = probe_of(name, isa)
            for _ in range(good):
                probe.send(text)
            assert_true_or_refused(probe, data)

    @pytest.mark.parametrize("rows_max", [1, 2, 7])
    @pytest.mark.parametrize("name", VENUES)
    def test_messages_of_a_stream_cut_anywhere_are_what_they_are_alone(
        self, name: str, rows_max: int, isa: str
    ) -> None:
        rng = random.Random(f"{name} {rows_max}")
        alone, stream = Probe(name, isa), Probe(name, isa, rows_max)
        rows, controls, errors, found = [], [], [], []
        data = b""
        for number, text in enumerate(texts_of(name, rng, 600)):
            at = rng.randrange(len(text) + 1)
            is_whole = rng.random() < 0.95
            data += text_frame(text) if is_whole else text_frame(text[:at], 0x01)
            data += b"" if is_whole else text_frame(text[at:], 0x80)
            got, error = alone.send(text)
            rows += got
            controls += alone.controls
            errors += [] if error is None else [(error.code, error.at, number, error.instrument)]
        while data:
            size = rng.choice((1, 7, 60, 200, 500, 900))
            stream.line.feed(data[:size], 1, 1)
            data = data[size:]
            found += [(e.code, e.at, e.message, e.instrument) for e in stream.line.message_errors()]
        for _, row in rows:
            row["ts_rx"] = 1
        for kind in ("quote", "trade"):
            assert [r for r in stream.rows if r[0] == kind] == [r for r in rows if r[0] == kind]
        assert (stream.controls, found) == (controls, errors)
        assert stream.engine.errors == alone.engine.errors
        for instrument in range(2):
            assert stream.engine.counts(instrument) == alone.engine.counts(instrument)

    @pytest.mark.parametrize("name", VENUES)
    def test_thousands_of_mutations_between_good_messages(self, name: str, isa: str) -> None:
        rng = random.Random(name)
        probe = Probe(name, isa)
        for number in range(2500):
            text = rng.choice(GOOD[name])
            assert_true_or_refused(probe, mutate(text.encode(), rng))
            if number % 5 == 0:
                rows, error = probe.send(text)
                assert error is None
                assert all(map(agrees, rows, records_of(name, text)))
        probe.check_bystanders()

    @given(
        st.text("0123456789.eE+-", max_size=24)
        | st.decimals(allow_nan=False, allow_infinity=False, min_value=0).map(str)
        | st.floats(0, 1e99, allow_nan=False).map(repr)
    )
    @example("1e99")
    @example("1e100")
    @settings(max_examples=300, deadline=None)
    def test_a_price_is_the_nearest_double_or_refused(self, text: str) -> None:
        for isa in isa_levels():
            probe = probe_of("binance", isa)
            assert_true_or_refused(probe, replaced(BARE_QUOTE, "b", f'"{text}"').encode())

    @given(st.integers(0, 2**64 + 5) | st.integers(0, 10**6), st.sampled_from(["u", "T"]))
    @settings(max_examples=200, deadline=None)
    def test_an_id_is_the_whole_number_or_refused(self, value: int, key: str) -> None:
        for isa in isa_levels():
            probe = probe_of("binance.usdm", isa)
            assert_true_or_refused(probe, replaced(USDM_QUOTE, key, str(value)).encode())


class TestPrediction:
    """Messages are compared with templates of earlier ones; only what agrees is read by them."""

    def test_alternating_shapes_are_read_as_by_the_scan(self, isa: str) -> None:
        shapes = [SPOT_QUOTE, BARE_QUOTE, SPOT_TRADE, SPOT_DEPTH]
        shapes += [shuffle(json.loads(BARE_QUOTE), random.Random(n)) for n in range(30)]
        probe = Probe("binance", isa)
        rng = random.Random(7)
        for _ in range(3000):
            text = rng.choice(shapes)
            rows, error = probe.send(text)
            assert error is None
            records = records_of("binance", text)
            assert len(rows) == len(records)
            assert all(map(agrees, rows, records)), text

    def test_repeated_shapes_are_predicted(self, isa: str) -> None:
        for name, text in CASES:
            probe = Probe(name, isa)
            for _ in range(50):
                probe.send(text)
            hits, misses = probe.line.predictions
            assert hits + misses == 50
            if text not in (OKX_TRADES, SPOT_DEPTH):
                assert hits >= 45, (name, text)

    def test_prices_of_changing_length_are_read_whole(self, isa: str) -> None:
        rng = random.Random(3)
        probes = {name: Probe(name, isa) for name in VENUES}
        texts = ["1", "12.5", "0.1", "61837.63000000", "9" * 15, "1e5", "0." + "0" * 20 + "1"]
        texts += ["1234567.12345678", "12345678", "123456789", "1" * 31, "1" * 32, "1" * 33]
        for _ in range(1500):
            name, text, key, _ = rng.choice(DECIMALS)
            sent = replaced(text, key, f'"{rng.choice(texts)}"')
            rows, error = probes[name].send(sent)
            assert error is None
            assert agrees(rows[0], records_of(name, sent)[0]), sent

    @pytest.mark.parametrize(("name", "text"), CASES, ids=case_ids)
    def test_a_near_miss_of_every_literal_byte_is_not_taken_for_it(
        self, name: str, text: str, isa: str
    ) -> None:
        data = text.encode()
        probe = Probe(name, isa)
        for at in range(len(data)):
            probe.send(text)
            for byte in (data[at] ^ 0x01, data[at] ^ 0x20, ord('"'), ord("}"), ord(" ")):
                if byte != data[at]:
                    wrong = data[:at] + bytes((byte,)) + data[at + 1 :]
                    assert_true_or_refused(probe, wrong)

    def test_an_id_without_a_digit_where_a_template_expects_one_is_refused(self, isa: str) -> None:
        for name, text, key, field in INTEGRAL:
            probe = Probe(name, isa)
            for value in ('"x"', '""', "x", "", "-", "true", "[]") * 2:
                probe.send(text)
                given = f'"{value}"' if field.text is Text.STRING and value in ("-", "") else value
                if field.slot is Slot.TRADE_ID and field.text is Text.STRING:
                    given = '""'
                elif field.text is Text.STRING and given == '"x"':
                    given = '"."'
                probe.refuses(replaced(text, key, given))

    def test_two_faults_in_one_message_are_refused_whatever_the_template_expects(
        self, isa: str
    ) -> None:
        """A letter among the digits of every number, and a symbol that nobody knows."""
        for name, text in CASES:
            probe = Probe(name, isa)
            for symbol in (SYMBOLS[name], "XRPUSDT", "", "X" * 40):
                for at, char in enumerate(text):
                    if char.isdigit() and text not in (SPOT_DEPTH, OKX_TRADES):
                        probe.send(text)
                        wrong = text[:at] + "x" + text[at + 1 :]
                        wrong = wrong.replace(f'"{SYMBOLS[name]}"', f'"{symbol}"')
                        assert_true_or_refused(probe, wrong.encode())

    def test_a_good_message_after_bad_ones_is_read(self, isa: str) -> None:
        for name, text in CASES:
            probe = Probe(name, isa)
            for size in range(0, len(text), 7):
                probe.send(text[:size])
                rows, error = probe.send(text)
                assert error is None
                assert all(map(agrees, rows, records_of(name, text)))


class TestOtherStreams:
    def test_a_burst_of_good_and_bad_messages_in_one_read_loses_only_the_bad(
        self, isa: str
    ) -> None:
        rng = random.Random(11)
        probe = Probe("binance", isa)
        stream, wanted = bytearray(), []
        bad = 0
        for number in range(2000):
            if rng.random() < 0.3:
                stream += encode_frame(1, BARE_QUOTE[: rng.randrange(len(BARE_QUOTE))].encode())
                bad += 1
            else:
                symbol = rng.choice(("BTCUSDT", "ETHUSDT"))
                text = replaced(BARE_QUOTE, "u", str(number)).replace("BTCUSDT", symbol)
                wanted.append((number, symbol))
                stream += encode_frame(1, text.encode())
        probe.line.feed(bytes(stream), 1, 1)
        found = [
            (row["seq"], probe.engine.instruments[row["instrument"]][1]) for _, row in probe.rows
        ]
        assert found == wanted
        assert probe.line.error_count == bad
        assert probe.engine.errors == {"json-cut": bad}
        assert probe.engine.message_count == 2000

    def test_the_most_recent_errors_are_kept_until_read(self) -> None:
        probe = Probe("binance")
        for size in range(1, 41):
            probe.line.feed(encode_frame(1, BARE_QUOTE[:size].encode()), 1, 1)
        errors = probe.line.message_errors()
        assert [(error.at, error.message) for error in errors] == [
            (size, size - 1) for size in range(25, 41)
        ]
        assert probe.line.message_errors() == []
        assert probe.line.error_count == 40

    def test_an_error_names_its_instrument_where_the_symbol_came_first(self) -> None:
        probe = Probe("binance")
        late = probe.refuses(replaced(BARE_QUOTE, "a", "7"))
        early = probe.refuses('{"u":x,' + BARE_QUOTE[1:])
        assert (late.instrument, early.instrument) == (0, None)

    def test_a_lost_message_makes_unreadable_what_it_may_have_changed(self) -> None:
        probe = Probe("binance")
        other = BARE_QUOTE.replace("BTCUSDT", "ETHUSDT")
        for text in (BARE_QUOTE, other):
            probe.send(text)
        probe.send(replaced(BARE_QUOTE, "a", "7"))
        assert [probe.engine.top(n).is_valid for n in (0, 1)] == [False, True]
        probe.send(replaced(BARE_QUOTE, "u", "50093239213"))
        probe.send("{")
        assert [probe.engine.top(n).is_valid for n in (0, 1)] == [False, False]
        for text in (BARE_QUOTE, other):
            probe.send(replaced(text, "u", "50093239214"))
        assert [probe.engine.top(n).is_valid for n in (0, 1)] == [True, True]
