"""A connection where the n-th allocation fails, for every n: no crash, no leak, closed or usable.

The interpreter's own switch refuses one request, of the objects and of what zlib and the receiver
ask for alike: a connection takes its memory from Python's allocator. ``tests/c/test_receiver.c``
does the same below Python, with sanitizers.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from slow_connection import TAIL, encode, frames_of

from crosswire import UsageError, VenueError
from crosswire.codec import Inflate
from crosswire.connection import Connection, ConnectionState
from crosswire.handshake import Deflation

_testcapi = pytest.importorskip(
    "_testcapi", reason="NO ALLOCATION FAILS: this interpreter was built without its test module"
)

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
STATM = Path("/proc/self/statm")
MASK = b"\x37\xfa\x21\x3d"
SITES_MAX = 400
ROLES = pytest.mark.parametrize("is_server", [False, True], ids=["client", "server"])
DEFLATIONS = pytest.mark.parametrize(
    "deflation",
    [None, Deflation(), Deflation(reads_context=False, writes_context=False)],
    ids=["plain", "takeover", "no takeover"],
)
LARGE = bytes(range(256)) * 300
"""More than the receiver's own block, so that one of the heap is asked for."""


@contextmanager
def refusing(number: int) -> Iterator[None]:
    """Refuse the allocation of this number, from 0, and no other."""
    _testcapi.set_nomemory(number, number + 1)
    try:
        yield
    finally:
        _testcapi.remove_mem_hooks()


def new(is_server: bool, deflation: Deflation | None) -> Connection:
    return Connection(is_server=is_server, random_bytes=bytes, deflation=deflation)


def every_site(attempt: Callable[[int], bool]) -> int:
    """Try with one allocation refused after the other, until none was; return how many there are.

    ``attempt`` says whether it got through unharmed.
    """
    tries = quiet = 0
    while quiet < 20:  # some are made by the interpreter now and not then
        assert tries < SITES_MAX
        quiet = quiet + 1 if attempt(tries) else 0
        tries += 1
    return tries - 20


class TestMaking:
    @ROLES
    @DEFLATIONS
    def test_it_is_made_or_it_is_not(self, is_server: bool, deflation: Deflation | None) -> None:
        def attempt(number: int) -> bool:
            try:
                with refusing(number):
                    connection = new(is_server, deflation)
            except MemoryError:
                return False
            connection.send(TEXT, b"a")
            assert connection.data_to_send()
            return True

        assert every_site(attempt) >= 3 + 2 * (deflation is not None)


class TestSending:
    @ROLES
    @DEFLATIONS
    def test_a_message_is_sent_whole_or_not_and_those_behind_it_are(
        self, is_server: bool, deflation: Deflation | None
    ) -> None:
        mirror = None
        if deflation:
            mirror = Deflation(
                reads_context=deflation.writes_context, writes_context=deflation.reads_context
            )
        messages = [b"first " * 30, b"second " * 30, b"third " * 30]

        def attempt(number: int) -> bool:
            connection, reader = new(is_server, deflation), new(not is_server, mirror)
            sent, failed, data = [], 0, b""
            connection.send(TEXT, messages[0])
            try:
                with refusing(number):
                    connection.send(TEXT, messages[1])
            except MemoryError:
                failed = 1
            try:
                with refusing(number):
                    data = connection.data_to_send()
            except MemoryError:
                failed += 2
            connection.ping(b"p")
            connection.send(TEXT, messages[2])
            connection.close(1000)
            data += connection.data_to_send()
            sent = [(opcode, bytes(payload)) for opcode, payload in reader.receive(data)]
            wanted = [(TEXT, m) for m in messages if m != messages[1] or not failed & 1]
            assert sent == [*wanted[:-1], (PING, b"p"), wanted[-1], (CLOSE, b"\x03\xe8")]
            assert reader.error is None
            return not failed

        assert every_site(attempt) >= 1

    def test_a_close_is_sent_once_or_can_be_sent_again(self) -> None:
        def attempt(number: int) -> bool:
            connection = new(False, None)
            has_failed = False
            try:
                with refusing(number):
                    connection.close(1001, "bye")
            except MemoryError:
                has_failed = True
                assert connection.state is ConnectionState.OPEN
            connection.close(1001, "bye")
            frames = [*frames_of(connection.data_to_send())]
            assert [frame.payload for frame in frames] == [b"\x03\xe9bye"]
            return not has_failed

        assert every_site(attempt) >= 2


def packed(message: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def stream_for(is_server: bool, deflation: Deflation | None) -> bytes:
    """Fragments, a ping, a message of a block, a view, and a close, compressed where it may be."""

    def frame(opcode: int, payload: bytes, head: int = 0x80) -> bytes:
        return encode(opcode, payload, MASK if is_server else None, head=head)

    flag = 0x40 if deflation else 0
    large, again = (packed(data) if deflation else data for data in (LARGE, LARGE[::-1]))
    cut = len(large) // 2
    return (
        frame(TEXT, b"one")
        + frame(BINARY, large[:cut], head=flag)
        + frame(PING, b"p")
        + frame(0, large[cut:])
        + frame(BINARY, again, head=0x80 | flag)
        + frame(TEXT, b"two")
        + frame(CLOSE, b"\x03\xe9bye")
    )


STORY = [
    (TEXT, b"one"), (PING, b"p"), (BINARY, LARGE), (BINARY, LARGE[::-1]), (TEXT, b"two"),
    (CLOSE, b"\x03\xe9bye"),
]  # fmt: skip


def read(connection: Connection, stream: bytes, number: int) -> tuple[list[tuple[int, bytes]], int]:
    """Feed a stream, refusing one allocation of all; return what came and how many calls failed."""
    taken: list[tuple[int, bytes]] = []
    failed = 0
    view = memoryview(stream)
    _testcapi.set_nomemory(number, number + 1)
    try:
        while view and connection.state is not ConnectionState.CLOSED:
            try:
                window = connection.window()
                n = min(len(window), len(view))
                window[:n] = view[:n]
            except MemoryError:
                failed += 1
                continue
            connection.received(n, 0)
            view = view[n:]
            while True:
                try:
                    if (message := connection.next_message()) is None:
                        break
                    taken.append((message[0], bytes(message[1])))
                except MemoryError:
                    failed += 1
    finally:
        _testcapi.remove_mem_hooks()
    return taken, failed


class TestReceiving:
    @ROLES
    @DEFLATIONS
    def test_a_message_is_lost_loudly_and_the_rest_is_read_or_the_connection_is_closed(
        self, is_server: bool, deflation: Deflation | None
    ) -> None:
        stream = stream_for(is_server, deflation)
        ends: set[str] = set()

        def attempt(number: int) -> bool:
            connection = new(is_server, deflation)
            try:
                taken, failed = read(connection, stream, number)
            except MemoryError:  # in the lines of this test
                return False
            error = connection.error
            frames = [*frames_of(connection.data_to_send())]
            closes = [frame.payload for frame in frames if frame.opcode == CLOSE]
            if error is not None:
                assert isinstance(error, VenueError)
                assert error.code == "memory"
                assert taken == STORY[: len(taken)]
                assert closes == [(1011).to_bytes(2, "big")]
                ends.add("error")
            else:
                lost = [message for message in STORY if message not in taken]
                assert len(lost) <= failed
                assert taken == [message for message in STORY if message not in lost]
                assert closes in ([b"\x03\xe9"], [b""] if failed else [b"\x03\xe9"])
                ends.add("lost" if lost else "whole")
            assert connection.state is ConnectionState.CLOSED
            return error is None and not failed

        assert every_site(attempt) >= 10
        assert ends == {"error", "lost", "whole"}

    @pytest.mark.skipif(not STATM.exists(), reason="MEMORY NOT MEASURED: there is no /proc")
    @DEFLATIONS
    def test_nothing_leaks(self, deflation: Deflation | None) -> None:
        stream = stream_for(False, deflation)

        def feed(rounds: int) -> None:
            for number in [*range(80)] * rounds:
                with contextlib.suppress(MemoryError):
                    read(new(False, deflation), stream, number)
            gc.collect()

        feed(2)
        before = resident()
        feed(20)  # each of its 1,600 connections holds 200 KiB and more
        assert resident() - before < 8 << 20


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


AT_THE_LIMIT = """
import resource
from crosswire import UsageError
from crosswire.codec import Deflate, Inflate

def is_refused(call, *arguments):
    try:
        call(*arguments)
    except MemoryError:
        return True
    return False

inflate, deflate = Inflate(), Deflate(keeps_context=False)
message = deflate.message(b"text")
hole, filler = bytearray(16_900), []  # room for an Inflate and not for its stream
pages = int(open("/proc/self/statm").read().split()[0])
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), hard))
for size in (1 << 16, 1 << 12):
    try:
        while True:
            filler.append(bytes(size))
    except MemoryError:
        pass
del hole
refused = [is_refused(Inflate), is_refused(Deflate), is_refused(inflate.message, message)]
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
assert refused == [True] * 3, refused
try:
    inflate.message(message)
    raise AssertionError("read on behind an error")
except UsageError:
    pass
assert Inflate().message(deflate.message(b"again")) == b"again"
"""


class TestTheCodec:
    """Its memory is the C library's, which no switch refuses: the limit of a process does."""

    @pytest.mark.skipif(not STATM.exists(), reason="NO ALLOCATION FAILS: there is no /proc")
    def test_what_finds_no_memory_says_so_and_the_next_works_when_there_is_some(self) -> None:
        command = [sys.executable, "-c", AT_THE_LIMIT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_a_message_longer_than_memory_is_not_made(self) -> None:
        inflate = Inflate(output_max=1 << 62)
        with pytest.raises(MemoryError):
            inflate.message(packed(bytes(20_000)))
        with pytest.raises(UsageError, match="closed"):
            inflate.message(packed(b""))


class TestTheWatch:
    def test_what_zlib_and_the_receiver_take_is_seen_by_tracemalloc(self) -> None:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            connection = new(False, Deflation())
            held = tracemalloc.get_traced_memory()[0] - before
            assert held > 200_000
            connection.receive_eof()
            del connection
            assert tracemalloc.get_traced_memory()[0] - before < 4096
        finally:
            tracemalloc.stop()
