"""The records: sizes, offsets, formats and alignment, as the design and the signal record say."""

from __future__ import annotations

import ctypes
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosswire import (
    QUOTE_DTYPE,
    SIGNAL_DTYPE,
    TRADE_DTYPE,
    CloseReason,
    Engine,
    Line,
    Pair,
    SignalEvent,
    get_include,
)
from crosswire.codec import encode_frame
from crosswire.venues import venue

QUOTE = """
    ts_exch i8, ts_rx i8, seq u8, bid f8, bid_qty f8, ask f8, ask_qty f8,
    instrument u4, venue u2, flags u2
"""
TRADE = """
    ts_exch i8, ts_rx i8, seq u8, trade_id u8, price f8, qty f8, count u4, side i1, kind u1,
    reserved u2, instrument u4, venue u2, flags u2
"""
LEG = """
    venue u2, side i1, fee_mode u1, instrument u4, vwap f8, limit f8, qty f8, book_seq u8,
    ts_exch i8, age_us u4, lag_us u4, skew_us i4, skew_err_us u4
"""
SIGNAL_HEAD = """
    seq u8, opp_id u8, rule_id u4, kind u1, event u1, n_legs u1, close_reason u1, gates u4,
    flags u4, ts_exch i8, ts_rx i8, mono_rx i8, d_decode u4, d_book u4, d_detect u4, d_publish u4,
    ts_open i8, qty f8, notional_ref f8, profit_ref f8, ev_ref f8, gross_bps f4, net_bps f4,
    worst_bps f4, risk_bps f4
"""
C_TYPES: dict[str, Any] = {
    "i8": ctypes.c_int64,
    "u8": ctypes.c_uint64,
    "f8": ctypes.c_double,
    "u4": ctypes.c_uint32,
    "i4": ctypes.c_int32,
    "f4": ctypes.c_float,
    "u2": ctypes.c_uint16,
    "i1": ctypes.c_int8,
    "u1": ctypes.c_uint8,
}


def fields_of(text: str) -> list[tuple[str, str]]:
    return [(name, kind) for name, kind in (item.split() for item in text.split(","))]


def c_struct(text: str) -> type[ctypes.Structure]:
    """The same fields as a C compiler lays them out."""
    fields = [(name, C_TYPES[kind]) for name, kind in fields_of(text)]
    return type("Record", (ctypes.LittleEndianStructure,), {"_fields_": fields})


def spot_quote(seq: int, bid: str, bid_qty: str, ask: str, ask_qty: str) -> bytes:
    text = f'{{"u":{seq},"s":"X","b":"{bid}","B":"{bid_qty}","a":"{ask}","A":"{ask_qty}"}}'
    return encode_frame(1, text.encode())


def okx_quote(seq: int, bid: str, bid_qty: str, ask: str, ask_qty: str) -> bytes:
    text = (
        f'{{"arg":{{"channel":"bbo-tbt","instId":"Y"}},"data":[{{"asks":[["{ask}","{ask_qty}"]],'
        f'"bids":[["{bid}","{bid_qty}"]],"ts":"7","seqId":{seq}}}]}}'
    )
    return encode_frame(1, text.encode())


class TestLayouts:
    @pytest.mark.parametrize(
        ("dtype", "text", "size"),
        [
            (QUOTE_DTYPE, QUOTE, 64),
            (TRADE_DTYPE, TRADE, 64),
            (SIGNAL_DTYPE["legs"].base, LEG, 64),
            (SIGNAL_DTYPE, SIGNAL_HEAD + ", legs 4", 384),
        ],
        ids=["quote", "trade", "leg", "signal"],
    )
    def test_names_formats_and_offsets_are_those_of_the_design(
        self, dtype: np.dtype[Any], text: str, size: int
    ) -> None:
        plain = [(name, kind) for name, kind in fields_of(text) if name != "legs"]
        struct_type = c_struct(text.replace(", legs 4", ""))
        assert dtype.itemsize == size
        assert list(dtype.names or ()) == [name for name, _ in fields_of(text)]
        for name, kind in plain:
            assert dtype.fields
            field, offset = dtype.fields[name][:2]
            assert field == np.dtype(f"<{kind}"), name
            assert field.isnative
            assert offset == getattr(struct_type, name).offset, name
        assert ctypes.sizeof(struct_type) == (128 if size == 384 else 64)

    def test_a_signal_has_a_head_of_128_bytes_and_four_legs(self) -> None:
        assert SIGNAL_DTYPE.fields
        field, offset = SIGNAL_DTYPE.fields["legs"][:2]
        assert (offset, field.shape, field.itemsize) == (128, (4,), 256)

    @pytest.mark.parametrize("dtype", [QUOTE_DTYPE, TRADE_DTYPE, SIGNAL_DTYPE])
    def test_no_byte_of_a_record_is_outside_a_field(self, dtype: np.dtype[Any]) -> None:
        covered = bytearray(dtype.itemsize)
        for field, offset, *_ in (dtype.fields or {}).values():
            for at in range(offset, offset + field.itemsize):
                covered[at] += 1
        assert covered == b"\1" * dtype.itemsize


class TestDeliveredRows:
    @pytest.fixture
    def engine(self) -> Engine:
        engine = Engine(instruments_max=4, pairs_max=2, signals_max=8)
        for name, symbol in (("binance", "X"), ("okx", "Y")):
            engine.add_venue(name, venue(name).layout)
            engine.add_instrument(name, symbol, fee_bps=0.0)
        engine.set_pairs([Pair(77, 0, 1)])
        return engine

    @pytest.mark.parametrize("rows_max", [1, 2, 3, 7, 4096])
    def test_every_batch_begins_on_a_cache_line_and_is_a_view(self, rows_max: int) -> None:
        engine = Engine(rows_max=rows_max, signals_max=4, pairs_max=1, takes_unknown=True)
        engine.add_venue("binance", venue("binance").layout)
        seen: list[tuple[str, int, bool, Any]] = []

        def keep(kind: str) -> Any:
            return lambda rows: seen.append(
                (kind, rows.ctypes.data % 64, rows.flags.owndata, rows.dtype)
            )

        engine.on_quotes, engine.on_trades = keep("quotes"), keep("trades")
        line = Line(engine, "binance")
        line.open(1, 1)
        trade = b'{"e":"trade","s":"X","t":1,"p":"1","q":"1","T":1,"m":true}'
        line.feed(spot_quote(1, "1", "1", "2", "1") * 3 + encode_frame(1, trade) * 5, 1, 1)
        assert {kind for kind, *_ in seen} == {"quotes", "trades"}
        dtypes = {"quotes": QUOTE_DTYPE, "trades": TRADE_DTYPE}
        for kind, remainder, owns, dtype in seen:
            assert (remainder, owns) == (0, False)
            assert dtype == dtypes[kind]

    def test_the_bytes_of_a_quote_are_little_endian_at_their_offsets(self, engine: Engine) -> None:
        rows: list[bytes] = []
        engine.on_quotes = lambda batch: rows.append(batch.tobytes())
        line = Line(engine, "okx")
        line.open(5, 6)
        line.feed(okx_quote(258, "1.5", "2.5", "3.5", "4.5"), 1_000_000_007, 9)
        assert rows == [
            struct.pack("<qqQddddIHH", 7_000_000, 1_000_000_007, 258, 1.5, 2.5, 3.5, 4.5, 1, 1, 0)
        ]

    def test_the_bytes_of_a_trade_are_little_endian_at_their_offsets(self, engine: Engine) -> None:
        rows: list[bytes] = []
        engine.on_trades = lambda batch: rows.append(batch.tobytes())
        line = Line(engine, "okx")
        line.open(5, 6)
        text = (
            b'{"arg":{"channel":"trades","instId":"Y"},"data":[{"instId":"Y",'
            b'"tradeId":"18446744073709551615","px":"1.5","sz":"2.5","side":"sell","ts":"3",'
            b'"count":"4294967295","seqId":18446744073709551614}]}'
        )
        line.feed(encode_frame(1, text), 8, 9)
        assert rows == [
            struct.pack(
                "<qqQQddIbBHIHH",
                *(3_000_000, 8, 2**64 - 2, 2**64 - 1, 1.5, 2.5, 2**32 - 1, -1, 0, 0, 1, 1, 0),
            )
        ]

    def test_the_bytes_of_a_signal_are_little_endian_at_their_offsets(self, engine: Engine) -> None:
        rows: list[tuple[int, int, bytes]] = []
        engine.on_signals = lambda batch: rows.append(
            (batch.ctypes.data % 64, len(batch), batch.tobytes())
        )
        spot, okx = Line(engine, "binance"), Line(engine, "okx")
        spot.open(10**18, 1)
        okx.open(10**18, 1)
        spot.feed(spot_quote(11, "99", "1", "100", "3"), 10**18 + 1_000, 2_000)
        okx.feed(okx_quote(22, "101", "2", "102", "1"), 10**18 + 2_000, 5_000)
        ((remainder, count, data),) = rows
        head = struct.unpack("<QQIBBBBIIqqqIIIIqddddffff", data[:128])
        no, nan = 0xFFFFFFFF, "nan"
        seq_opp_rule = (0, 1, 77)
        kinds = (1, 1, 2, 0)
        stamps = (7_000_000, 10**18 + 2_000, 5_000)
        shown = tuple(nan if item != item else item for item in head)
        assert shown[:7] == seq_opp_rule + kinds
        assert shown[7:9] == (0, 0)
        assert shown[9:12] == stamps
        assert shown[12:16] == (no, no, no, no)
        assert shown[16:21] == (10**18 + 2_000, 2.0, 200.0, 2.0, nan)
        assert shown[21:23] == (100.0, 100.0)
        assert shown[24] == nan
        legs = [struct.unpack("<HbBIdddQqIIiI", data[at : at + 64]) for at in (128, 192)]
        assert legs[0] == (0, 1, 0, 0, 100.0, 100.0, 2.0, 11, 0, 3, no, 0, no)
        assert legs[1] == (1, -1, 0, 1, 101.0, 101.0, 2.0, 22, 7_000_000, 0, no, 0, no)
        assert data[256:] == bytes(128)
        assert (remainder, count, len(data)) == (0, 1, 384)

    def test_a_kept_batch_must_be_copied_and_a_copy_stays(self, engine: Engine) -> None:
        kept: list[Any] = []
        engine.on_quotes = lambda batch: kept.append(batch.copy())
        line = Line(engine, "binance")
        line.open(1, 1)
        line.feed(spot_quote(1, "1", "1", "2", "1"), 1, 1)
        line.feed(spot_quote(2, "3", "1", "4", "1"), 2, 2)
        assert [float(batch["bid"][0]) for batch in kept] == [1.0, 3.0]


class TestFlags:
    @pytest.fixture
    def quotes(self) -> Any:
        engine = Engine(signals_max=4, pairs_max=1, takes_unknown=True)
        engine.add_venue("okx", venue("okx").layout)
        line = Line(engine, "okx")
        line.open(1, 1)
        rows: list[Any] = []
        engine.on_quotes = lambda batch: rows.extend(batch.copy())

        def feed(*terms: str) -> Any:
            line.feed(okx_quote(1, *terms), 1, 1)
            assert line.message_errors() == []
            return rows[-1]

        return feed

    @pytest.mark.parametrize(
        ("text", "flags"),
        [
            ("123456789012345", 0),
            ("1234567890.12345", 0),
            ("0.000000000123456789012345", 0),
            ("123456789012345000000", 0),
            ("0.1234567890123450000000", 0),
            ("1234567890123456", 1),
            ("0.1234567890123456", 1),
            ("1.000000000000001", 1),
            ("1.000000000000001e3", 1),
            ("100000000000000.0", 0),
        ],
    )
    def test_more_than_fifteen_significant_digits_are_inexact(
        self, quotes: Any, text: str, flags: int
    ) -> None:
        row = quotes("0.5", text, "1e30", "1")
        assert (row["flags"], row["bid_qty"]) == (flags, float(text))

    def test_an_empty_side_is_zero_and_flagged(self) -> None:
        engine = Engine(signals_max=4, pairs_max=1, takes_unknown=True)
        engine.add_venue("okx", venue("okx").layout)
        line = Line(engine, "okx")
        line.open(1, 1)
        rows: list[Any] = []
        engine.on_quotes = lambda batch: rows.extend(batch.copy())
        text = '{"arg":{"channel":"bbo-tbt","instId":"Y"},"data":[{"asks":%s,"bids":%s,"ts":"7"}]}'
        for asks, bids in (("[]", '[["1","2"]]'), ('[["1","2"]]', "[]"), ("[]", "[]")):
            line.feed(encode_frame(1, (text % (asks, bids)).encode()), 1, 1)
        names = ("bid", "bid_qty", "ask", "ask_qty", "flags")
        assert [tuple(row[name] for name in names) for row in rows] == [
            (1, 2, 0, 0, 2),
            (0, 0, 1, 2, 2),
            (0, 0, 0, 0, 2),
        ]
        assert line.message_errors() == []


def test_the_numbers_in_a_signal_have_the_names_of_the_header() -> None:
    header = (Path(get_include()) / "crosswire" / "signal.h").read_text()
    for prefix, names in (("CW_SIGNAL_", SignalEvent), ("CW_CLOSE_", CloseReason)):
        wanted = dict(re.findall(rf"\b{prefix}([A-Z_]+) = (\d+)", header))
        wanted.pop("CROSS", None)  # a kind of signal, not an event
        assert {name: int(number) for name, number in wanted.items()} == {
            item.name: item.value for item in names
        }
