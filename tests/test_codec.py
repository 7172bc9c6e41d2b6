"""``crosswire.codec``: one kernel a call, and what each call refuses.

Compression has ``tests/test_inflate.py``; the kernels themselves have ``tests/c``.
"""

from __future__ import annotations

import itertools
import math
import random
from array import array

import pytest

from crosswire import UsageError, VenueError, isa_levels
from crosswire.codec import Histogram, decimal, encode_frame, mask, read_header, utf8_error

KEY = b"\x37\xfa\x21\x3d"
MASKED_HELLO = b"\x7f\x9f\x4d\x51\x58"
"""Section 5.7 of RFC 6455: Hello under KEY."""


def code_and_place(error: pytest.ExceptionInfo[VenueError]) -> tuple[str, int]:
    return error.value.code, error.value.at


class TestFrames:
    def test_the_examples_of_section_5_7(self) -> None:
        assert encode_frame(1, b"Hello") == b"\x81\x05Hello"
        assert encode_frame(1, b"Hello", KEY) == b"\x81\x85" + KEY + MASKED_HELLO
        assert encode_frame(1, b"Hel", is_final=False) == b"\x01\x03Hel"
        assert encode_frame(0, b"lo") == b"\x80\x02lo"
        assert encode_frame(9, b"Hello") == b"\x89\x05Hello"
        assert encode_frame(2, bytes(256)) == b"\x82\x7e\x01\x00" + bytes(256)
        assert encode_frame(2, bytes(65536)) == b"\x82\x7f" + (65536).to_bytes(8, "big") + bytes(
            65536
        )

    @pytest.mark.parametrize("opcode", [0, 1, 2, 8, 9, 10])
    @pytest.mark.parametrize("key", [None, KEY], ids=["plain", "masked"])
    def test_a_header_that_was_written_is_read(self, opcode: int, key: bytes | None) -> None:
        for size, head_len in ((0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)):
            if opcode >= 8 and size > 125:
                continue
            frame = encode_frame(opcode, bytes(size), key)
            header = (opcode, True, head_len + 4 * (key is not None), size, key)
            assert read_header(frame, is_server=key is not None) == header
            for cut in range(header[2]):
                assert read_header(frame[:cut], is_server=key is not None) is None

    @pytest.mark.parametrize("opcode", [-1, 3, 7, 11, 16])
    def test_an_opcode_that_is_none_is_refused(self, opcode: int) -> None:
        with pytest.raises(UsageError, match=f"opcode {opcode}"):
            encode_frame(opcode)

    @pytest.mark.parametrize("opcode", [8, 9, 10])
    def test_a_control_frame_has_one_piece_of_125_bytes_at_most(self, opcode: int) -> None:
        assert len(encode_frame(opcode, bytes(125))) == 127
        for terms in ({"payload": bytes(126)}, {"is_final": False}):
            with pytest.raises(UsageError, match="125 bytes and one piece"):
                encode_frame(opcode, **terms)

    def test_a_header_that_breaks_the_standard_is_told_with_its_place(self) -> None:
        for data, is_server, wanted in (
            (b"\x83\x05", False, ("frame-opcode", 0)),
            (b"\x81\x80", False, ("frame-masked", 1)),
            (b"\x81\x05", True, ("frame-unmasked", 1)),
        ):
            with pytest.raises(VenueError) as error:
                read_header(data, is_server=is_server)
            assert code_and_place(error) == wanted


class TestMasks:
    @pytest.mark.parametrize("isa", isa_levels())
    def test_every_byte_is_masked_by_its_place_in_the_payload(self, isa: str) -> None:
        plain = random.Random(1).randbytes(300)
        for phase, size in itertools.product(range(5), (0, 1, 31, 32, 65, 300)):
            data = bytearray(plain[:size])
            mask(data, KEY, phase, isa)
            assert data == bytes(b ^ KEY[(n + phase) % 4] for n, b in enumerate(plain[:size]))

    def test_a_key_has_4_bytes(self) -> None:
        for key in (b"", b"abc", b"abcde"):
            with pytest.raises(UsageError, match="4 bytes"):
                mask(bytearray(4), key)
            with pytest.raises(UsageError, match="4 bytes"):
                encode_frame(1, b"a", key)

    def test_what_is_read_only_is_not_masked(self) -> None:
        data = bytes(4)
        with pytest.raises(BufferError):
            mask(data, KEY)
        assert data == bytes(4)

    def test_a_level_that_there_is_not_is_refused_by_all(self) -> None:
        for call in (
            lambda: mask(bytearray(4), KEY, isa="sse"),
            lambda: utf8_error(b"a", isa="sse"),
            lambda: decimal(b"1", isa="sse"),
        ):
            with pytest.raises(UsageError, match="'sse'; it may be base, avx2, avx512"):
                call()


class TestUtf8:
    TEXT = "aé€🂡".encode() * 12 + b"a" * 40

    @pytest.mark.parametrize("isa", isa_levels())
    def test_text_in_two_pieces_is_text_wherever_it_is_cut(self, isa: str) -> None:
        for cut in range(len(self.TEXT) + 1):
            assert utf8_error(self.TEXT[:cut], self.TEXT[cut:], isa=isa) == -1
        assert utf8_error(isa=isa) == -1

    @pytest.mark.parametrize("isa", isa_levels())
    def test_the_place_of_the_first_wrong_byte_counts_the_pieces_before_it(self, isa: str) -> None:
        data = self.TEXT + b"\xed\xa0\x80" + self.TEXT  # a surrogate: its second byte is wrong
        at = len(self.TEXT) + 1
        for cut in range(len(data) + 1):
            assert utf8_error(data[:cut], data[cut:], isa=isa) == at

    def test_text_that_ends_inside_a_character_is_wrong_at_its_end(self) -> None:
        for missing in (1, 2, 3):
            text = self.TEXT + "🂡".encode()[:-missing]
            assert utf8_error(text) == utf8_error(text[:-1], text[-1:]) == len(text)

    def test_places_are_counted_in_bytes_whatever_the_items(self) -> None:
        assert utf8_error(array("I", [0x41414141]), b"\xff") == 4


class TestDecimals:
    @pytest.mark.parametrize("isa", isa_levels())
    def test_it_is_the_nearest_double_and_knows_when_another_text_may_give_it(
        self, isa: str
    ) -> None:
        for text, is_inexact in (
            (b"1.5", False),
            (b"-0", False),
            (b"67000.10000000", False),
            (b"1e99", False),
            (b"123456789.12345678", True),
            (b"1" * 64, True),
        ):
            assert decimal(text, isa) == (float(text), is_inexact)

    @pytest.mark.parametrize("isa", isa_levels())
    def test_what_is_no_number_is_told_with_its_place(self, isa: str) -> None:
        for text, wanted in (
            (b"", ("number-form", 0)),
            (b"-", ("number-form", 1)),
            (b"1.x", ("number-form", 2)),
            (b"1" * 65, ("number-length", 64)),
            (b"1" * 1000, ("number-length", 64)),
            (b"1e100", ("number-range", 2)),
        ):
            with pytest.raises(VenueError) as error:
                decimal(text, isa)
            assert code_and_place(error) == wanted


class TestHistograms:
    def test_without_values_all_is_0(self) -> None:
        histogram = Histogram()
        assert (histogram.count, histogram.max, histogram.quantile(0.5)) == (0, 0, 0)
        assert histogram.summary() == {"p50": 0, "p99": 0, "p99_9": 0, "max": 0}

    def test_a_quantile_is_at_most_a_32nd_above_the_value(self) -> None:
        histogram = Histogram()
        values = sorted(random.Random(1).randrange(1 << 40) for _ in range(2000))
        for value in values:
            histogram.record(value)
        assert (histogram.count, histogram.max) == (2000, values[-1])
        for p in (0.001, 0.5, 0.99, 0.999, 1.0):
            exact = values[math.ceil(p * 2000) - 1]
            assert exact <= histogram.quantile(p) <= exact * 33 / 32
        assert histogram.summary() == {
            "p50": histogram.quantile(0.5),
            "p99": histogram.quantile(0.99),
            "p99_9": histogram.quantile(0.999),
            "max": values[-1],
        }
