"""Compressed messages by RFC 7692, RFC 1952 and RFC 1950, with Python's own zlib as the judge."""

from __future__ import annotations

import gzip
import io
import itertools
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswire import UsageError, VenueError
from crosswire.codec import Deflate, Inflate

TAIL = b"\x00\x00\xff\xff"
HELLO = bytes.fromhex("f248cdc9c90700")
HELLO_AGAIN = bytes.fromhex("f200110000")  # refers back to the first
TICKER = (
    b'{"stream":"btcusdt@bookTicker","data":{"u":400900217,"s":"BTCUSDT","b":"67000.10000000",'
    b'"B":"1.50000000","a":"67000.20000000","A":"0.75000000"}}'
)
MIB = 1 << 20


def packed(*messages: bytes, window_bits: int = 15, level: int = 6) -> list[bytes]:
    """Return the messages as a sender with context writes them, by zlib."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    return [(packer.compress(m) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4] for m in messages]


def refused(inflate: Inflate, data: bytes) -> VenueError:
    with pytest.raises(VenueError) as caught:
        inflate.message(data)
    with pytest.raises(UsageError, match="closed"):
        inflate.message(data)
    return caught.value


def read_or_none(read: Callable[[bytes], bytes], data: bytes) -> bytes | None:
    try:
        return read(data)
    except (VenueError, zlib.error):
        return None


class TestTheExamplesOfRfc7692:
    def test_7_2_3_1_a_message_of_one_block(self) -> None:
        assert Inflate().message(HELLO) == b"Hello"
        assert Deflate().message(b"Hello") == HELLO

    def test_7_2_3_1_a_message_of_two_fragments(self) -> None:
        assert Inflate().message(bytes.fromhex("f248cd") + bytes.fromhex("c9c90700")) == b"Hello"

    def test_7_2_3_2_a_shared_window(self) -> None:
        inflate, deflate = Inflate(), Deflate()
        assert [inflate.message(m) for m in (HELLO, HELLO_AGAIN)] == [b"Hello", b"Hello"]
        assert [deflate.message(b"Hello") for _ in range(2)] == [HELLO, HELLO_AGAIN]

    def test_7_2_3_2_no_shared_window(self) -> None:
        inflate, deflate = Inflate(keeps_context=False), Deflate(keeps_context=False)
        assert [inflate.message(HELLO) for _ in range(2)] == [b"Hello", b"Hello"]
        assert [deflate.message(b"Hello") for _ in range(2)] == [HELLO, HELLO]
        assert refused(inflate, HELLO_AGAIN).code == "inflate"

    def test_7_2_3_3_a_block_without_compression(self) -> None:
        stored = bytes.fromhex("000500faff48656c6c6f00")
        assert Inflate().message(stored) == b"Hello"
        assert Deflate(level=0).message(b"Hello") == stored

    @pytest.mark.parametrize("keeps_context", [True, False])
    def test_7_2_3_4_a_final_block(self, keeps_context: bool) -> None:
        inflate = Inflate(keeps_context=keeps_context)
        assert inflate.message(bytes.fromhex("f348cdc9c9070000")) == b"Hello"
        assert inflate.message(HELLO) == b"Hello"

    def test_7_2_3_5_two_blocks(self) -> None:
        blocks = bytes.fromhex("f24805000000ffffcac9c90700")
        assert Inflate().message(blocks) == b"Hello"

    def test_7_2_3_6_an_empty_message(self) -> None:
        inflate, deflate = Inflate(), Deflate()
        assert inflate.message(b"\x00") == b""
        assert [deflate.message(m) for m in (b"", b"Hello", b"")] == [b"\x00", HELLO, b"\x00"]
        assert [inflate.message(m) for m in (HELLO, b"\x00", HELLO_AGAIN)] == [
            b"Hello", b"", b"Hello",
        ]  # fmt: skip


class TestFinalBlocks:
    def test_what_zlib_finishes_is_followed_by_a_stream_that_refers_back(self) -> None:
        """The window outlives the end of a stream; what zlib knows of it is a dictionary there."""
        inflate = Inflate()
        first = zlib.compressobj(wbits=-15)
        assert inflate.message(first.compress(TICKER) + first.flush() + b"\0") == TICKER
        later = zlib.compressobj(wbits=-15, zdict=TICKER)
        data = later.compress(TICKER) + later.flush(zlib.Z_SYNC_FLUSH)
        assert len(data) < 20
        assert inflate.message(data[:-4]) == TICKER

    def test_streams_follow_each_other_inside_a_message(self) -> None:
        message = b""
        for part in (b"one, ", b"two, ", b"three"):
            packer = zlib.compressobj(wbits=-15)
            message += packer.compress(part) + packer.flush()
        for end in (b"", b"\0"):
            assert Inflate().message(message + end) == b"one, two, three"

    def test_what_a_second_flush_of_zlib_leaves_is_an_empty_message(self) -> None:
        packer = zlib.compressobj(wbits=-15)
        assert packer.flush(zlib.Z_SYNC_FLUSH) == b"\0" + TAIL
        assert packer.flush(zlib.Z_SYNC_FLUSH) == b""
        assert Inflate().message(b"") == b""


# ------------------------------------------------------------------ zlib as the judge

texts = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet='{"abst:0123456789.}', max_size=600).map(str.encode),
    st.integers(0, 3000).map(lambda n: (TICKER * (n // len(TICKER) + 1))[:n]),
)


class TestAgainstPythonsZlib:
    @given(
        st.lists(texts, min_size=1, max_size=6),
        st.integers(9, 15),
        st.integers(0, 9),
        st.integers(1, 9),
        st.booleans(),
    )
    def test_what_zlib_packs_is_read(
        self, messages: list[bytes], bits: int, level: int, memory: int, keeps: bool
    ) -> None:
        inflate = Inflate(window_bits=bits, keeps_context=keeps)
        packer = None
        for message in messages:
            if packer is None or not keeps:
                packer = zlib.compressobj(level, zlib.DEFLATED, -bits, memory)
            data = packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH)
            assert inflate.message(data[:-4]) == message

    @given(
        st.lists(texts, min_size=1, max_size=6),
        st.integers(9, 15),
        st.integers(-1, 9),
        st.booleans(),
    )
    def test_what_is_packed_zlib_reads(
        self, messages: list[bytes], bits: int, level: int, keeps: bool
    ) -> None:
        deflate = Deflate(window_bits=bits, keeps_context=keeps, level=level)
        unpacker = zlib.decompressobj(-bits)
        for message in messages:
            if not keeps:
                unpacker = zlib.decompressobj(-bits)
            assert unpacker.decompress(deflate.message(message) + TAIL) == message
            assert not unpacker.eof

    @given(texts, st.binary(max_size=40), st.sampled_from(["gzip", "zlib"]))
    def test_a_member_is_read_and_nothing_behind_it(
        self, text: bytes, rest: bytes, form: str
    ) -> None:
        member = gzip.compress(text) if form == "gzip" else zlib.compress(text)
        inflate = Inflate(form)  # type: ignore[arg-type]
        assert [inflate.message(member) for _ in range(2)] == [text, text]
        if rest:
            error = refused(inflate, member + rest)
            assert (error.code, error.at) == ("inflate", len(member))

    @given(texts, st.data())
    @settings(max_examples=300)
    def test_on_changed_bytes_it_says_what_zlib_says(
        self, text: bytes, data: st.DataObject
    ) -> None:
        (message,) = packed(text)
        changed = bytearray(message)
        for at in data.draw(st.lists(st.integers(0, len(message) - 1), max_size=4)):
            changed[at] = data.draw(st.integers(0, 255))
        judge = zlib.decompressobj(-15)
        wanted = read_or_none(judge.decompress, bytes(changed) + TAIL)
        got = read_or_none(Inflate().message, bytes(changed))
        if judge.eof:
            return  # Python's stops at a final block, ours reads on
        if got is not None:
            assert got == wanted
        if wanted is None:
            assert got is None  # the other way round, ours refuses what the tail does not complete


# ------------------------------------------------------------------ gzip and zlib


class TestMembers:
    @pytest.mark.parametrize("name", ["", "ticker.json"])
    def test_gzip_as_python_writes_it(self, name: str) -> None:
        file = io.BytesIO()
        with gzip.GzipFile(name, "wb", fileobj=file) as writer:
            writer.write(TICKER)
        assert Inflate("gzip").message(file.getvalue()) == TICKER

    @pytest.mark.parametrize("form", ["gzip", "zlib"])
    def test_a_second_member_is_refused_where_it_begins(self, form: str) -> None:
        pack = gzip.compress if form == "gzip" else zlib.compress
        member = pack(TICKER)
        error = refused(Inflate(form), member * 2)  # type: ignore[arg-type]
        assert (error.code, error.at) == ("inflate", len(member))

    @pytest.mark.parametrize("form", ["gzip", "zlib"])
    def test_every_truncation_is_refused_at_its_end(self, form: str) -> None:
        member = gzip.compress(TICKER) if form == "gzip" else zlib.compress(TICKER)
        for n in range(len(member)):
            error = refused(Inflate(form), member[:n])  # type: ignore[arg-type]
            assert (error.code, error.at) == ("inflate", n)

    def test_every_truncation_of_a_message_is_refused_at_its_end(self) -> None:
        (message,) = packed(TICKER)
        for n in range(1, len(message)):
            assert refused(Inflate(), message[:n]).at == n

    def test_a_preset_dictionary_is_refused(self) -> None:
        packer = zlib.compressobj(zdict=TICKER)
        error = refused(Inflate("zlib"), packer.compress(TICKER) + packer.flush())
        assert (error.code, error.at) == ("inflate", 6)


# ------------------------------------------------------------------ bombs


def zeros(size: int, wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    piece = bytes(MIB)
    return b"".join(packer.compress(piece) for _ in range(size // MIB)) + packer.flush()


@pytest.fixture(scope="module")
def gigabytes() -> bytes:
    """A gzip member of 4 GiB: a packed MiB of zeros again and again.

    A full flush forgets the window, so what stands between two may be repeated. Checksum and size
    are wrong, had anyone read so far.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece, head = bytes(MIB), packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * 4096 + packer.flush()


class TestBombs:
    CAP = 256 << 10

    def check(self, inflate: Inflate, data: bytes) -> None:
        """It is stopped at the cap: the heap grows by no more than that and 64 KiB."""
        began = time.thread_time()
        tracemalloc.start()
        try:
            with pytest.raises(VenueError) as caught:
                inflate.message(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert caught.value.code == "frame-too-big"
        assert caught.value.at <= len(data)
        assert peak <= self.CAP + (64 << 10)
        assert time.thread_time() - began < 0.1

    @pytest.mark.parametrize("form", ["raw", "gzip", "zlib"])
    def test_a_thousand_to_one_is_stopped_at_the_cap(self, form: str) -> None:
        wbits = {"raw": -15, "gzip": 31, "zlib": 15}[form]
        data = zeros(64 * MIB, wbits)
        assert len(data) < 64 * MIB / 1000
        self.check(Inflate(form, output_max=self.CAP), data)  # type: ignore[arg-type]

    def test_4_gib_in_a_member_are_stopped_at_the_cap(self, gigabytes: bytes) -> None:
        self.check(Inflate("gzip", output_max=self.CAP), gigabytes)

    def test_a_bomb_inside_a_bomb_is_stopped_at_each(self) -> None:
        inner = zeros(64 * MIB, 31)
        outer = gzip.compress(inner)
        assert Inflate("gzip", output_max=self.CAP).message(outer) == inner
        self.check(Inflate("gzip", output_max=self.CAP), inner)

    def test_a_member_without_end_is_refused_when_the_message_ends(self) -> None:
        packer = zlib.compressobj(wbits=31)
        begun = packer.compress(TICKER) + packer.flush(zlib.Z_SYNC_FLUSH)
        endless = begun + (b"\x00" + TAIL) * 200_000
        error = refused(Inflate("gzip"), endless)
        assert (error.code, error.at) == ("inflate", len(endless))

    def test_a_header_without_end_is_refused_when_the_message_ends(self) -> None:
        error = refused(Inflate("gzip"), b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * MIB)
        assert (error.code, error.at) == ("inflate", 10 + MIB)

    def test_each_message_has_the_cap_to_itself_with_context(self) -> None:
        """Context takeover makes later messages small; the cap counts what comes out of each."""
        inflate = Inflate(output_max=self.CAP)
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        for _ in range(20):
            data = packer.compress(bytes(self.CAP)) + packer.flush(zlib.Z_SYNC_FLUSH)
            assert len(inflate.message(data[:-4])) == self.CAP
        data = packer.compress(bytes(self.CAP + 1)) + packer.flush(zlib.Z_SYNC_FLUSH)
        self.check(inflate, data[:-4])

    def test_blocks_that_say_nothing_cost_only_their_bytes(self) -> None:
        for block in (b"\x03\x00", b"\x00\x00\x00\xff\xff"):
            data = block * (MIB // len(block)) + b"\0"
            began = time.thread_time()
            assert Inflate().message(data) == b""
            assert time.thread_time() - began < 0.5

    @pytest.mark.parametrize("cap", [1, 2, 100, 16383, 16384, 16385, 65536, 100_000])
    def test_the_cap_is_exact(self, cap: int) -> None:
        noise = bytes(i * i % 251 for i in range(cap + 1))
        for text, is_read in ((noise[:cap], True), (noise, False)):
            for form, data in (
                ("raw", packed(text)[0]), ("gzip", gzip.compress(text)),
                ("zlib", zlib.compress(text)),
            ):  # fmt: skip
                inflate = Inflate(form, output_max=cap)  # type: ignore[arg-type]
                if is_read:
                    assert inflate.message(data) == text
                else:
                    assert refused(inflate, data).code == "frame-too-big"

    def test_what_is_held_after_a_message_is_small(self) -> None:
        (data,) = packed(bytes(MIB))
        tracemalloc.start()
        try:
            inflate = Inflate()
            for _ in range(3):
                inflate.message(data)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 64 << 10


# ------------------------------------------------------------------ use


class TestUse:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_every_kind_of_bytes_is_taken(self, kind: type) -> None:
        assert Inflate().message(kind(HELLO)) == b"Hello"
        assert Deflate().message(kind(b"Hello")) == HELLO

    def test_text_is_not_bytes(self) -> None:
        with pytest.raises(TypeError):
            Inflate().message("f248")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Deflate().message("Hello")  # type: ignore[arg-type]

    def test_a_wrong_argument_is_told(self) -> None:
        for arguments in (
            {"form": "brotli"}, {"window_bits": 7}, {"window_bits": 16}, {"output_max": 0},
            {"output_max": -1}, {"output_max": sys.maxsize}, {"output_max": 1 << 70},
        ):  # fmt: skip
            with pytest.raises(UsageError, match=next(iter(arguments))):
                Inflate(**arguments)  # type: ignore[arg-type]
        for wrong in ({"window_bits": 8}, {"window_bits": 16}, {"level": 10}, {"level": -2}):
            with pytest.raises(UsageError, match=next(iter(wrong))):
                Deflate(**wrong)

    def test_a_closed_object_is_closed_whatever_it_keeps(self) -> None:
        for keeps_context in (True, False):
            inflate = Inflate(keeps_context=keeps_context)
            refused(inflate, b"\x06")
            with pytest.raises(UsageError):
                inflate.message(HELLO)

    def test_messages_of_every_length_go_there_and_back(self) -> None:
        inflate, deflate = Inflate(output_max=1 << 18), Deflate()
        for n in itertools.chain(range(400), (16384, 16385, 65535, 65536, 65537, 1 << 18)):
            text = bytes(i * 7 % 253 for i in range(n))
            assert inflate.message(deflate.message(text)) == text
