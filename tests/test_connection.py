"""``crosswire.connection``: one WebSocket connection without I/O, held to its contract."""

from __future__ import annotations

import array
import copy
import gc
import os
import pickle
import random
import sys
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slow_connection import TAIL, Frame, encode, frames_of

from crosswire import UsageError, VenueError
from crosswire.connection import Connection, ConnectionState, Opcode
from crosswire.handshake import Deflation
from crosswire.seam import System

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"
OPEN, CLOSING, CLOSED = ConnectionState.OPEN, ConnectionState.CLOSING, ConnectionState.CLOSED
STATM = Path("/proc/self/statm")
ROLES = pytest.mark.parametrize("is_server", [False, True], ids=["client", "server"])


def client(**terms: Any) -> Connection:
    terms.setdefault("random_bytes", random.Random(1).randbytes)
    return Connection(is_server=False, **terms)


def either(is_server: bool, **terms: Any) -> Connection:
    return Connection(is_server=True, **terms) if is_server else client(**terms)


def to(is_server: bool, opcode: int, payload: bytes = b"", head: int = 0x80) -> bytes:
    """Return one frame as the peer of a connection of this role writes it."""
    return encode(opcode, payload, MASK if is_server else None, head=head)


def taken(connection: Connection, data: bytes) -> list[tuple[int, bytes]]:
    return [(opcode, bytes(payload)) for opcode, payload in connection.receive(data)]


def sent(connection: Connection) -> list[Frame]:
    return [*frames_of(connection.data_to_send())]


def codes_sent(connection: Connection) -> list[bytes]:
    return [frame.payload for frame in sent(connection) if frame.opcode == CLOSE]


def story(
    is_server: bool, pieces: Iterator[bytes] | list[bytes], **terms: Any
) -> tuple[object, ...]:
    """Return everything that a connection says of a stream: it must not depend on the pieces."""
    connection = either(is_server, **terms)
    messages: list[tuple[int, bytes]] = []
    answers = b""
    for piece in pieces:
        messages += taken(connection, piece)
        answers += b"".join(bytes([frame.opcode]) + frame.payload for frame in sent(connection))
    error = connection.error
    told = None if error is None else (error.code, error.at)
    return (
        messages, answers, connection.state, connection.close_code, connection.close_reason, told,
        connection.frame_count,
    )  # fmt: skip


class TestMessages:
    @ROLES
    def test_text_and_binary_of_every_form_of_length(self, is_server: bool) -> None:
        for size in (0, 1, 125, 126, 65535, 65536, 200000):
            for opcode in (TEXT, BINARY):
                connection = either(is_server)
                data = to(is_server, opcode, b"a" * size)
                assert taken(connection, data) == [(opcode, b"a" * size)]
                assert connection.frame_count == 1
                assert connection.data_to_send() == b""

    @ROLES
    def test_what_is_sent_is_read_by_the_other_role(self, is_server: bool) -> None:
        sender, reader = either(is_server), either(not is_server)
        for size in (0, 1, 125, 126, 65535, 65536):
            sender.send(Opcode.BINARY, b"b" * size)
            assert taken(reader, sender.data_to_send()) == [(BINARY, b"b" * size)]
        sender.send(Opcode.TEXT, b"He", is_final=False)
        sender.ping(b"between")
        sender.send(Opcode.TEXT, b"ll", is_final=False)
        sender.send(Opcode.TEXT, b"o")
        sender.send(Opcode.TEXT, "κόσμε".encode())
        wanted = [(PING, b"between"), (TEXT, b"Hello"), (TEXT, "κόσμε".encode())]
        assert taken(reader, sender.data_to_send()) == wanted
        assert [(frame.opcode, frame.payload) for frame in sent(reader)] == [(PONG, b"between")]

    @ROLES
    def test_control_frames_come_between_fragments(self, is_server: bool) -> None:
        stream = (
            to(is_server, TEXT, "€".encode()[:1], head=0)
            + to(is_server, PING, b"1")
            + to(is_server, 0, "€".encode()[1:2], head=0)
            + to(is_server, PONG, b"2")
            + to(is_server, 0, b"", head=0)
            + to(is_server, 0, "€".encode()[2:])
        )
        connection = either(is_server)
        assert taken(connection, stream) == [(PING, b"1"), (PONG, b"2"), (TEXT, "€".encode())]
        assert [(frame.opcode, frame.payload) for frame in sent(connection)] == [(PONG, b"1")]

    @ROLES
    def test_the_same_bytes_cut_at_every_place_come_to_the_same(self, is_server: bool) -> None:
        stream = (
            to(is_server, TEXT, "κόσμε".encode())
            + to(is_server, BINARY, bytes(range(256)), head=0)
            + to(is_server, PING, b"ping")
            + to(is_server, 0, b"end")
            + to(is_server, TEXT, b"")
            + to(is_server, CLOSE, b"\x03\xe8bye")
            + b"behind the close"
        )
        whole = story(is_server, [stream])
        assert whole[2:5] == (CLOSED, 1000, "bye")
        for cut in range(len(stream) + 1):
            assert story(is_server, [stream[:cut], stream[cut:]]) == whole, cut
        assert story(is_server, [stream[n : n + 1] for n in range(len(stream))]) == whole

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: array.array("B", b)])
    def test_every_kind_of_bytes_is_received_and_sent(self, kind: Callable[[bytes], Any]) -> None:
        connection = Connection(is_server=False, random_bytes=bytes)
        assert taken(connection, kind(to(False, TEXT, b"Hello"))) == [(TEXT, b"Hello")]
        connection.send(TEXT, kind(b"Hello"))
        connection.ping(kind(b"Hello"))
        assert [frame.payload for frame in sent(connection)] == [b"Hello", b"Hello"]

    def test_bytes_written_into_the_window_are_read(self) -> None:
        connection = client()
        data = to(False, TEXT, b"a") + to(False, PING, b"b")
        window = connection.window()
        assert not window.readonly
        window[: len(data)] = data
        connection.received(len(data), 5)
        assert connection.next_message() == (TEXT, b"a")
        assert connection.next_message() == (PING, b"b")
        assert connection.next_message() is None

    @pytest.mark.parametrize("read_size", [256, 4096, 65536])
    def test_a_window_has_the_size_of_a_read_and_is_never_empty(self, read_size: int) -> None:
        connection = client(read_size=read_size)
        data = to(False, BINARY, bytes(1000)) * 100 + to(False, TEXT, b"a" * 3000)
        at, count = 0, 0
        while at < len(data):
            window = connection.window()
            assert 0 < len(window) <= read_size
            n = min(len(window), len(data) - at)
            window[:n] = data[at : at + n]
            connection.received(n, 0)
            at += n
            while connection.next_message() is not None:
                count += 1
        assert count == 101
        assert connection.error is None

    def test_more_received_than_the_window_has_is_refused(self) -> None:
        connection = client(read_size=256)
        with pytest.raises(UsageError, match="into a window of 0"):
            connection.received(1, 0)
        connection.window()
        with pytest.raises(UsageError, match="257 bytes"):
            connection.received(257, 0)
        connection.window()
        connection.received(256, 0)
        with pytest.raises(UsageError, match="into a window of 0"):
            connection.received(1, 0)

    def test_a_window_behind_the_end_is_not_empty_and_what_it_takes_is_not_read(self) -> None:
        for last in (to(False, CLOSE), to(False, 3)):
            connection = client(read_size=256)
            taken(connection, last)
            for _ in range(10):
                window = connection.window()
                assert len(window) == 256
                window[:] = to(False, TEXT, b"a" * 126).ljust(256, b"\0")
                connection.received(256, 0)
                assert connection.next_message() is None
            assert connection.frame_count <= 1


class TestViews:
    def test_a_payload_is_read_only(self) -> None:
        for _, payload in client().receive(to(False, BINARY, b"abc")):
            assert payload.readonly
            with pytest.raises(TypeError):
                payload[0] = 1

    def test_a_small_message_is_a_view_of_the_receive_buffer(self) -> None:
        connection = client()
        window = connection.window()
        window[:4] = b"\x82\x02ab"
        connection.received(4, 0)
        message = connection.next_message()
        assert message == (BINARY, b"ab")
        window[2:4] = b"cd"
        assert message == (BINARY, b"cd")

    def test_what_a_large_view_was_made_of_gives_nothing_when_the_message_is_over(self) -> None:
        connection = client(message_max=1 << 20, read_size=4096)
        data = to(False, BINARY, bytes(100_000)) + to(False, TEXT, b"next")
        for _, payload in connection.receive(data):
            if len(payload) > 4:
                span = payload.obj
        with pytest.raises(BufferError, match="is over"):
            memoryview(span)

    def test_the_view_of_a_large_message_is_released_with_the_next_call(self) -> None:
        connection = client()
        messages = connection.receive(to(False, BINARY, bytes(200000)) * 2)
        first = next(messages)[1]
        assert len(first) == 200000
        second = next(messages)[1]
        with pytest.raises(ValueError, match="released"):
            len(first)
        assert connection.next_message() is None
        with pytest.raises(ValueError, match="released"):
            bytes(second)

    def test_what_is_kept_too_long_is_old_and_not_dangling(self) -> None:
        """Blocks above the threshold of mmap are unmapped when freed; reading one would kill us."""
        big = bytes(range(256)) * 2000
        connection = client()
        stream = to(False, BINARY, big, head=0) + to(False, 0, b"end") + to(False, BINARY, big)
        stream += to(False, BINARY, b"small") * 3
        slices, arrays = [], []
        for _, payload in connection.receive(stream):
            slices.append(payload[:])
            arrays.append(np.frombuffer(payload, "u1"))
        taken(connection, to(False, BINARY, b"x" * 60000, head=0) + to(False, 0, b"y"))
        del connection, payload
        gc.collect()
        for kept in (slices, arrays):
            assert bytes(kept[0]) == big + b"end"
            assert bytes(kept[1]) == big
            assert [len(bytes(view)) for view in kept[2:]] == [5, 5, 5]

    def test_a_view_that_outlives_its_connection_keeps_its_bytes(self) -> None:
        for payload in (b"small", b"x" * 300000):
            connection: Connection | None = client()
            assert connection
            view = next(connection.receive(to(False, BINARY, payload)))[1]
            connection = None
            gc.collect()
            assert bytes(view) == payload

    def test_a_large_view_that_somebody_reads_is_left_to_them(self) -> None:
        connection = client()
        big = random.Random(1).randbytes(200_000)
        messages = connection.receive(to(False, BINARY, big) + to(False, BINARY, bytes(200_000)))
        payload = next(messages)[1]
        reader = pickle.PickleBuffer(payload)  # the view cannot be released while it has one
        assert bytes(next(messages)[1]) == bytes(200_000)
        del connection, messages
        assert bytes(reader) == bytes(payload) == big

    @pytest.mark.skipif(not STATM.exists(), reason="MEMORY NOT MEASURED: there is no /proc")
    def test_blocks_of_large_messages_are_given_back(self) -> None:
        connection = client(message_max=1 << 24)
        message = to(False, BINARY, bytes(70000))

        def feed() -> None:
            for _ in range(40):
                for _, payload in connection.receive(message):
                    assert len(payload) == 70000

        feed()
        before = resident()
        for _ in range(5):
            feed()  # 200 blocks of 16 MiB, were they kept and written
        assert resident() - before < 16 << 20

    def test_a_connection_is_gone_with_its_last_name_though_views_are_left(self) -> None:
        class Source:
            def __call__(self, n: int) -> bytes:
                return bytes(n)

        source = Source()
        gone = weakref.ref(source)
        connection: Connection | None = Connection(is_server=False, random_bytes=source)
        assert connection
        views = [view[:] for _, view in connection.receive(to(False, BINARY, bytes(100000)))]
        window = connection.window()
        del source
        connection = None
        assert gone() is None
        assert len(views[0]) == 100000
        window[0] = 1


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class TestPings:
    @ROLES
    def test_a_ping_is_answered_with_its_payload(self, is_server: bool) -> None:
        for payload in (b"", b"a", bytes(125)):
            connection = either(is_server)
            assert taken(connection, to(is_server, PING, payload)) == [(PING, payload)]
            (pong,) = sent(connection)
            assert (pong.opcode, pong.payload, pong.is_masked) == (PONG, payload, not is_server)

    @pytest.mark.parametrize("count", [1, 15, 16, 17, 18, 500])
    def test_of_more_than_16_pings_the_newest_is_answered_last(self, count: int) -> None:
        connection = client()
        pings = [str(n).encode() for n in range(count)]
        for ping in pings:
            taken(connection, to(False, PING, ping))
        wanted = pings if count <= 16 else [*pings[:16], pings[-1]]
        assert [frame.payload for frame in sent(connection)] == wanted
        assert connection.data_to_send() == b""

    def test_every_round_of_sending_counts_anew(self) -> None:
        connection = client()
        for _ in range(3):
            taken(connection, to(False, PING, b"a") * 20)
            assert len(sent(connection)) == 17

    def test_pongs_stand_in_front_of_a_close(self) -> None:
        connection = client()
        taken(connection, b"".join(to(False, PING, bytes([n])) for n in range(20)))
        connection.close()
        opcodes = [(frame.opcode, frame.payload) for frame in sent(connection)]
        assert opcodes[15:] == [(PONG, b"\x0f"), (PONG, b"\x13"), (CLOSE, b"\x03\xe8")]

    def test_a_ping_behind_our_close_is_not_answered(self) -> None:
        connection = client()
        connection.close()
        connection.data_to_send()
        assert taken(connection, to(False, PING, b"a")) == [(PING, b"a")]
        assert connection.data_to_send() == b""

    def test_a_pong_is_not_answered(self) -> None:
        connection = client()
        assert taken(connection, to(False, PONG, b"a")) == [(PONG, b"a")]
        assert connection.data_to_send() == b""

    @ROLES
    def test_a_flood_closes_with_1008(self, is_server: bool) -> None:
        connection = either(is_server, controls_max=3)
        second = 10**9
        ping = to(is_server, PING)
        assert len(list(connection.receive(ping * 3, 0))) == 3
        assert len(list(connection.receive(ping * 3, second))) == 3
        assert list(connection.receive(ping, second + 1)) == []
        assert connection.error is not None
        assert connection.error.code == "frame-flood"
        assert codes_sent(connection) == [(1008).to_bytes(2, "big")]

    def test_without_a_limit_there_is_no_flood(self) -> None:
        connection = client(controls_max=0)
        assert len(taken(connection, to(False, PING) * 5000)) == 5000


class TestTheEnd:
    @ROLES
    def test_our_close_waits_for_the_peers(self, is_server: bool) -> None:
        connection = either(is_server)
        assert connection.state is OPEN
        connection.close(1001, "bye")
        assert connection.state is CLOSING
        (frame,) = sent(connection)
        assert (frame.opcode, frame.payload) == (CLOSE, b"\x03\xe9bye")
        assert taken(connection, to(is_server, TEXT, b"late")) == [(TEXT, b"late")]
        assert taken(connection, to(is_server, CLOSE, b"\x03\xe9")) == [(CLOSE, b"\x03\xe9")]
        assert connection.state is CLOSED
        assert (connection.close_code, connection.close_reason) == (1001, "")
        assert connection.data_to_send() == b""
        assert taken(connection, to(is_server, TEXT, b"later")) == []
        connection.receive_eof()
        assert connection.close_code == 1001

    @ROLES
    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4999])
    def test_the_peers_close_is_answered_with_its_code_alone(
        self, is_server: bool, code: int
    ) -> None:
        connection = either(is_server)
        payload = code.to_bytes(2, "big") + "weil κ".encode()
        assert taken(connection, to(is_server, CLOSE, payload)) == [(CLOSE, payload)]
        assert connection.state is CLOSED
        assert (connection.close_code, connection.close_reason) == (code, "weil κ")
        assert codes_sent(connection) == [payload[:2]]
        assert connection.error is None

    @ROLES
    def test_a_close_without_a_code_is_answered_without_one(self, is_server: bool) -> None:
        connection = either(is_server)
        assert taken(connection, to(is_server, CLOSE)) == [(CLOSE, b"")]
        assert (connection.close_code, connection.close_reason) == (1005, "")
        assert codes_sent(connection) == [b""]

    def test_the_end_of_the_stream_is_1006_in_every_state_but_behind_a_close(self) -> None:
        for before in (lambda c: None, lambda c: c.close(), lambda c: taken(c, b"\x83\x00")):
            connection = client()
            before(connection)
            connection.receive_eof()
            connection.receive_eof()
            assert connection.state is CLOSED
            assert (connection.close_code, connection.close_reason) == (1006, "")
            assert taken(connection, to(False, TEXT)) == []

    def test_a_close_is_sent_once(self) -> None:
        connection = client()
        connection.close(1000)
        connection.close(1001)
        taken(connection, to(False, CLOSE, b"\x03\xea"))
        connection.close(1003)
        assert codes_sent(connection) == [b"\x03\xe8"]
        assert connection.close_code == 1002

    def test_a_close_behind_the_end_of_the_stream_is_put_in_line_and_changes_nothing(self) -> None:
        connection = client()
        connection.receive_eof()
        connection.close(1001)
        connection.close(1000)
        assert codes_sent(connection) == [b"\x03\xe9"]
        assert connection.state is CLOSED
        assert (connection.close_code, connection.close_reason) == (1006, "")

    @pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536])
    def test_a_code_that_may_not_be_sent_is_refused_and_closes_nothing(self, code: int) -> None:
        connection = client()
        with pytest.raises(UsageError, match="may not be sent"):
            connection.close(code)
        assert connection.state is OPEN
        assert connection.data_to_send() == b""

    def test_a_reason_has_123_bytes_at_most(self) -> None:
        connection = client()
        with pytest.raises(UsageError, match="124 bytes"):
            connection.close(1000, "é" * 62)
        connection.close(1000, "é" * 61 + "e")
        assert [len(payload) for payload in codes_sent(connection)] == [125]

    @pytest.mark.parametrize("end", ["our close", "the peer's", "an error", "the stream's end"])
    def test_nothing_is_sent_behind_the_end(self, end: str) -> None:
        connection = Connection(is_server=True)
        match end:
            case "our close":
                connection.close()
            case "the peer's":
                taken(connection, to(True, CLOSE))
            case "an error":
                taken(connection, to(False, TEXT))
            case _:
                connection.receive_eof()
        connection.data_to_send()
        for send in (
            lambda: connection.send(TEXT, b"a"),
            connection.ping,
            connection.pong,
            lambda: connection.put_frames(b"\x81\x00"),
        ):
            with pytest.raises(UsageError, match="nothing more can be sent"):
                send()
        assert connection.data_to_send() == b""


class TestErrors:
    @ROLES
    def test_the_first_is_the_last_and_is_told_with_its_place(self, is_server: bool) -> None:
        connection = either(is_server)
        good, bad = to(is_server, TEXT, b"good"), to(is_server, 3)
        assert connection.error is None
        assert taken(connection, good + bad + good) == [(TEXT, b"good")]
        assert connection.state is CLOSED
        error = connection.error
        assert isinstance(error, VenueError)
        assert (error.code, error.at) == ("frame-opcode", len(good))
        assert codes_sent(connection) == [b"\x03\xea"]
        assert connection.close_code is None
        assert taken(connection, good) == []
        assert connection.error == error or connection.error.args == error.args  # type: ignore[union-attr]
        connection.close()
        assert connection.data_to_send() == b""

    def test_behind_our_close_an_error_sends_nothing_more(self) -> None:
        connection = client()
        connection.close(1000)
        taken(connection, to(False, 3))
        assert connection.state is CLOSED
        assert codes_sent(connection) == [b"\x03\xe8"]

    @ROLES
    def test_messages_are_bounded(self, is_server: bool) -> None:
        for limit in (0, 1, 125, 126, 65535, 65536, 100000):
            connection = either(is_server, message_max=limit)
            assert taken(connection, to(is_server, BINARY, bytes(limit))) == [
                (BINARY, bytes(limit))
            ]
            half = limit // 2
            stream = to(is_server, BINARY, bytes(half), head=0)
            stream += to(is_server, 0, bytes(limit - half + 1))
            assert taken(connection, stream) == []
            assert connection.error is not None
            assert connection.error.code == "frame-too-big"
            assert codes_sent(connection) == [(1009).to_bytes(2, "big")]

    @ROLES
    def test_fragments_are_bounded(self, is_server: bool) -> None:
        first, more = to(is_server, TEXT, b"a", head=0), to(is_server, 0, b"", head=0)
        connection = either(is_server, fragments_max=3)
        assert taken(connection, first + more + to(is_server, 0)) == [(TEXT, b"a")]
        assert taken(connection, first + more * 2 + to(is_server, 0)) == []
        assert connection.error is not None
        assert connection.error.code == "frame-fragments"
        assert codes_sent(connection) == [(1009).to_bytes(2, "big")]

    def test_what_comes_in_front_of_an_error_in_one_read_is_handed_out(self) -> None:
        connection = client()
        stream = to(False, TEXT, b"a") + to(False, PING, b"b") + b"\xff"
        assert taken(connection, stream) == [(TEXT, b"a"), (PING, b"b")]
        assert [frame.opcode for frame in sent(connection)] == [PONG, CLOSE]


class TestMasks:
    def test_a_client_masks_every_frame_with_bytes_of_its_source_once(self) -> None:
        drawn = b""

        def draw(n: int) -> bytes:
            nonlocal drawn
            drawn += (new := os.urandom(n))
            return new

        connection = Connection(is_server=False, random_bytes=draw)
        for n in range(600):
            connection.send(BINARY, bytes(n % 7))
        connection.ping(b"a")
        connection.close()
        at = count = 0
        data = connection.data_to_send()
        for frame in frames_of(data):
            assert frame.is_masked
            assert data[frame.end - len(frame.payload) - 4 :][:4] == drawn[at : at + 4]
            at, count = at + 4, count + 1
        assert count == 602

    def test_a_server_masks_nothing_and_needs_no_source(self) -> None:
        connection = Connection(is_server=True)
        connection.send(TEXT, b"a")
        connection.close()
        assert connection.data_to_send() == b"\x81\x01a\x88\x02\x03\xe8"

    def test_the_source_of_a_system_is_cryptographic(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("secrets.token_bytes", lambda n: b"\x5a" * n)
        assert System().random_bytes(4) == b"\x5a" * 4

    def test_a_client_without_a_source_is_refused(self) -> None:
        with pytest.raises(UsageError, match="random_bytes"):
            Connection(is_server=False)

    @pytest.mark.parametrize("given", [b"", b"abc", None, "abcd" * 256, 5])
    def test_a_source_that_gives_too_little_or_no_bytes_is_told_and_may_recover(
        self, given: object
    ) -> None:
        answers: list[object] = [given, bytes(1024)]
        connection = Connection(is_server=False, random_bytes=lambda n: answers.pop(0))  # type: ignore[arg-type,return-value]
        with pytest.raises((UsageError, TypeError)):
            connection.send(TEXT, b"a")
        assert connection.data_to_send() == b""
        connection.send(TEXT, b"a")
        assert [frame.payload for frame in sent(connection)] == [b"a"]


class TestUse:
    def test_only_messages_are_sent(self) -> None:
        for opcode in (0, 3, 8, 9, 10, -1, 257):
            with pytest.raises(UsageError, match="is no message"):
                client().send(opcode, b"")

    def test_fragments_of_one_message_have_one_opcode(self) -> None:
        connection = client()
        connection.send(TEXT, b"a", is_final=False)
        with pytest.raises(UsageError, match="have opcode 1"):
            connection.send(BINARY, b"b")
        connection.send(TEXT, b"c")
        connection.send(BINARY, b"d")
        heads = [(frame.first, frame.payload) for frame in sent(connection)]
        assert heads == [(0x01, b"a"), (0x80, b"c"), (0x82, b"d")]

    def test_a_control_frame_has_125_bytes_at_most_whatever_its_items_are(self) -> None:
        connection = client()
        for send in (connection.ping, connection.pong):
            for payload in (bytes(126), array.array("I", [0] * 32), memoryview(bytes(126))):
                with pytest.raises(UsageError, match="125 bytes, not"):
                    send(payload)
            send(array.array("I", [0] * 31))
        assert [len(frame.payload) for frame in sent(connection)] == [124, 124]

    @pytest.mark.parametrize("payload", ["text", 5, None, [1, 2], memoryview(b"abcd")[::2]])
    def test_what_is_no_plain_row_of_bytes_is_refused_and_nothing_is_sent(
        self, payload: Any
    ) -> None:
        for terms in ({}, {"deflation": Deflation()}):
            connection = client(**terms)
            for send in (lambda p, c=connection: c.send(TEXT, p), connection.ping, connection.pong):
                with pytest.raises((TypeError, BufferError)):
                    send(payload)
            assert connection.data_to_send() == b""
            connection.send(TEXT, b"a")
            assert len(sent(connection)) == 1

    def test_wrong_types_are_refused_and_change_nothing(self) -> None:
        connection = Connection(is_server=True)
        calls: list[Callable[[], object]] = [
            lambda: connection.put_frames(None),  # type: ignore[arg-type]
            lambda: connection.put_frames(bytearray(b"\x81\x00")),  # type: ignore[arg-type]
            lambda: connection.close(1000, None),  # type: ignore[arg-type]
            lambda: connection.close(1000, b"bye"),  # type: ignore[arg-type]
            lambda: connection.close("1000"),  # type: ignore[arg-type]
            lambda: connection.send("1", b""),  # type: ignore[arg-type]
            lambda: connection.received("1", 0),  # type: ignore[arg-type]
            lambda: list(connection.receive("text")),  # type: ignore[arg-type]
            lambda: list(connection.receive(None)),  # type: ignore[arg-type]
        ]
        for call in calls:
            with pytest.raises(TypeError):
                call()
        with pytest.raises(UsageError, match="no text that can be sent"):
            connection.close(1000, "\ud800")
        assert connection.state is OPEN
        assert connection.data_to_send() == b""
        assert taken(connection, to(True, TEXT, b"a")) == [(TEXT, b"a")]

    @pytest.mark.parametrize(
        "terms",
        [
            {"read_size": 255}, {"read_size": (1 << 24) + 1}, {"read_size": -1},
            {"message_max": (1 << 30) + 1}, {"message_max": -1}, {"message_max": 1 << 32},
            {"fragments_max": -1}, {"fragments_max": 1 << 32}, {"controls_max": -1},
            {"controls_max": 1 << 70}, {"deflation": "permessage-deflate"},
            {"deflation": Deflation(read_bits=7)}, {"deflation": Deflation(read_bits=16)},
            {"deflation": Deflation(write_bits=7)}, {"deflation": Deflation(level=10)},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_size_out_of_range_is_refused(self, terms: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            Connection(is_server=True, **terms)

    @pytest.mark.parametrize("name", ["read_size", "message_max", "fragments_max", "controls_max"])
    def test_a_size_is_a_number(self, name: str) -> None:
        for value in ("1000", None):
            with pytest.raises(TypeError):
                Connection(is_server=True, **{name: value})

    def test_terms_are_told_by_name_and_the_role_must_be(self) -> None:
        with pytest.raises(TypeError):
            Connection()  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            Connection(True)  # type: ignore[misc]

    def test_it_is_neither_copied_nor_pickled(self) -> None:
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                make(Connection(is_server=True))

    def test_state_and_code_are_read_only(self) -> None:
        for name in ("state", "close_code", "close_reason", "error", "frame_count", "ratio_alarms"):
            with pytest.raises(AttributeError):
                setattr(Connection(is_server=True), name, None)

    def test_ready_made_frames_are_sent_as_they_are_and_not_inside_a_message(self) -> None:
        connection = Connection(is_server=True)
        connection.put_frames(b"\x81\x01a\x81\x01b")
        assert connection.data_to_send() == b"\x81\x01a\x81\x01b"
        connection.send(TEXT, b"c", is_final=False)
        with pytest.raises(UsageError, match="under way"):
            connection.put_frames(b"\x81\x01d")
        connection.send(TEXT, b"e")
        connection.put_frames(b"\x81\x01f")
        assert connection.data_to_send() == b"\x01\x01c\x80\x01e\x81\x01f"


class TestReentrancy:
    def test_the_taker_of_a_message_may_send_and_close(self) -> None:
        connection = client()
        seen = []
        for opcode, payload in connection.receive(to(False, TEXT, b"a") * 4):
            seen.append((opcode, bytes(payload)))
            if len(seen) == 1:
                connection.send(TEXT, payload)
            if len(seen) == 2:
                connection.close(1000)
            assert connection.data_to_send() if len(seen) < 3 else True
        assert seen == [(TEXT, b"a")] * 4
        assert connection.state is CLOSING

    def test_the_taker_may_not_receive_what_is_behind_the_message_it_has(self) -> None:
        connection = client()
        receiving = connection.receive(to(False, TEXT, b"a") * 2)
        assert next(receiving)[0] == TEXT
        with pytest.raises(UsageError, match="not all taken"):
            next(connection.receive(to(False, TEXT, b"b")))
        assert next(receiving)[0] == TEXT
        assert list(receiving) == []
        assert taken(connection, to(False, TEXT, b"c")) == [(TEXT, b"c")]

    def test_bytes_that_were_left_lying_are_told_of(self) -> None:
        connection = client()
        next(connection.receive(to(False, TEXT, b"a") * 2))
        with pytest.raises(UsageError, match="not all taken"):
            list(connection.receive(b""))
        connection.close()
        assert codes_sent(connection) == [b"\x03\xe8"]

    @pytest.mark.parametrize(
        "use",
        [
            lambda c: c.send(TEXT, b"b"), lambda c: c.ping(), lambda c: c.close(),
            lambda c: c.next_message(), lambda c: list(c.receive(to(False, TEXT, b"b"))),
        ],
        ids=["send", "ping", "close", "next_message", "receive"],
    )  # fmt: skip
    def test_a_source_of_masks_that_uses_the_connection_is_refused(
        self, use: Callable[[Connection], object]
    ) -> None:
        caught: list[UsageError] = []

        def draw(n: int) -> bytes:
            with pytest.raises(UsageError, match="must not use") as info:
                use(connection)
            caught.append(info.value)
            return bytes(n)

        connection = Connection(is_server=False, random_bytes=draw)
        connection.send(TEXT, b"a")
        assert len(caught) == 1
        assert [frame.payload for frame in sent(connection)] == [b"a"]
        connection.send(TEXT, b"c")
        assert [frame.payload for frame in sent(connection)] == [b"c"]

    def test_a_source_of_masks_that_raises_sends_nothing_and_breaks_nothing(self) -> None:
        answers: list[Callable[[int], bytes]] = []

        def draw(n: int) -> bytes:
            return answers.pop(0)(n) if answers else bytes(n)

        connection = Connection(is_server=False, random_bytes=draw)
        for use in (lambda: connection.send(TEXT, b"a"), connection.ping, connection.close):
            answers.append(lambda n: 1 // 0 * b"")
            with pytest.raises(ZeroDivisionError):
                use()
            assert connection.state is OPEN
            assert connection.data_to_send() == b""
        answers.append(lambda n: 1 // 0 * b"")
        with pytest.raises(ZeroDivisionError):
            list(connection.receive(to(False, 3)))
        assert connection.error is not None
        assert connection.next_message() is None
        assert connection.state is CLOSED
        assert codes_sent(connection) == [b"\x03\xea"]

    def test_a_connection_may_be_dropped_by_the_taker_of_its_message(self) -> None:
        holder = [client()]
        views = []
        for _, payload in holder[0].receive(to(False, BINARY, bytes(100000)) * 3):
            holder.clear()
            views.append(payload[:])
        assert [len(view) for view in views] == [100000] * 3


def packer_of(bits: int) -> Any:
    return zlib.compressobj(6, zlib.DEFLATED, -bits)


def packed(packer: Any, message: bytes) -> bytes:
    data: bytes = packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(TAIL)


WORDS = [b'{"s":"BTCUSDT","b":"67000.%d","a":"67001.1"}' % n for n in range(40)]


class TestDeflate:
    @ROLES
    @pytest.mark.parametrize("keeps", [False, True], ids=["no takeover", "takeover"])
    @pytest.mark.parametrize("bits", range(9, 16))
    def test_every_window_of_the_peers(self, is_server: bool, keeps: bool, bits: int) -> None:
        connection = either(is_server, deflation=Deflation(read_bits=bits, reads_context=keeps))
        packer = packer_of(bits)
        for message in [*WORDS, random.Random(bits).randbytes(3 << bits), *WORDS]:
            data = to(is_server, BINARY, packed(packer, message), head=0xC0)
            assert taken(connection, data) == [(BINARY, message)]
            if not keeps:
                packer = packer_of(bits)

    @ROLES
    @pytest.mark.parametrize("keeps", [False, True], ids=["no takeover", "takeover"])
    @pytest.mark.parametrize("bits", range(9, 16))
    def test_every_window_of_ours_is_read_by_zlib_and_by_us(
        self, is_server: bool, keeps: bool, bits: int
    ) -> None:
        terms = Deflation(write_bits=bits, writes_context=keeps)
        mirror = Deflation(read_bits=bits, reads_context=keeps)
        sender, reader = either(is_server, deflation=terms), either(not is_server, deflation=mirror)
        unpacker = zlib.decompressobj(-bits)
        for message in [*WORDS, random.Random(bits).randbytes(3 << bits), b"", *WORDS]:
            sender.send(BINARY, message)
            data = sender.data_to_send()
            (frame,) = frames_of(data)
            assert (frame.first, frame.is_masked) == (0xC2, not is_server)
            if not keeps:
                unpacker = zlib.decompressobj(-bits)
            assert unpacker.decompress(frame.payload + TAIL) == message
            assert taken(reader, data) == [(BINARY, message)]

    def test_takeover_makes_what_repeats_small(self) -> None:
        sizes = {}
        for keeps in (False, True):
            connection = Connection(is_server=True, deflation=Deflation(writes_context=keeps))
            for message in WORDS:
                connection.send(TEXT, message)
            sizes[keeps] = len(connection.data_to_send())
        assert 2 * sizes[True] < sizes[False]

    @ROLES
    def test_what_expands_a_hundred_times_is_counted(self, is_server: bool) -> None:
        connection = either(is_server, deflation=Deflation(reads_context=False))

        def alarms(data: bytes) -> int:
            before = connection.ratio_alarms
            assert len(taken(connection, to(is_server, BINARY, data, head=0xC0))) == 1
            return connection.ratio_alarms - before

        assert alarms(packed(packer_of(15), bytes(65535))) == 0  # a thousand times, but small
        assert alarms(packed(packer_of(15), bytes(65536))) == 1
        size = 700 + len(packed(packer_of(15), bytes(70000))) % 5
        for missing in (1, 0):
            data = packed(packer_of(15), bytes(100 * size - missing))
            data += (TAIL + b"\0") * ((size - len(data)) // 5)  # blocks of nothing
            assert len(data) == size
            assert alarms(data) == 1 - missing

    def test_a_window_of_8_bits_is_read_and_ours_stays_plain(self) -> None:
        connection = Connection(is_server=True, deflation=Deflation(8, 8))
        connection.send(TEXT, b"a" * 100)
        assert connection.data_to_send() == b"\x81\x64" + b"a" * 100
        data = to(True, TEXT, packed(packer_of(9), b"a" * 200), head=0xC0)
        assert taken(connection, data) == [(TEXT, b"a" * 200)]

    def test_control_frames_and_fragments_of_ours_are_never_compressed(self) -> None:
        connection = Connection(is_server=True, deflation=Deflation())
        connection.ping(b"a")
        connection.send(TEXT, b"b", is_final=False)
        connection.send(TEXT, b"c")
        connection.send(TEXT, b"d")
        connection.close()
        heads = [frame.first for frame in sent(connection)]
        assert heads == [0x89, 0x01, 0x80, 0xC1, 0x88]

    def test_plain_and_compressed_messages_are_mixed(self) -> None:
        connection, packer = client(deflation=Deflation()), packer_of(15)
        for n, message in enumerate(WORDS):
            data = to(False, TEXT, message) if n % 3 else b""
            data = data or to(False, TEXT, packed(packer, message), head=0xC0)
            assert taken(connection, data) == [(TEXT, message)]

    @ROLES
    def test_the_same_bytes_cut_at_every_place_come_to_the_same(self, is_server: bool) -> None:
        packer = packer_of(15)
        data = packed(packer, "κόσμε".encode() * 20)
        stream = (
            to(is_server, TEXT, data[:5], head=0x40)
            + to(is_server, PING, b"p")
            + to(is_server, 0, data[5:-2], head=0)
            + to(is_server, 0, data[-2:])
            + to(is_server, BINARY, packed(packer, bytes(3000)), head=0xC0)
            + to(is_server, TEXT, packed(packer, b"ok\xff" + bytes(300)), head=0xC0)
        )
        terms = {"deflation": Deflation(), "message_max": 4096}
        whole = story(is_server, [stream], **terms)
        assert whole[5] is not None
        assert [opcode for opcode, _ in whole[0]] == [PING, TEXT, BINARY]  # type: ignore[attr-defined]
        for cut in range(len(stream) + 1):
            assert story(is_server, [stream[:cut], stream[cut:]], **terms) == whole, cut
        assert story(is_server, [stream[n : n + 1] for n in range(len(stream))], **terms) == whole

    def test_the_limit_holds_for_what_comes_out(self) -> None:
        for size, fits in ((70000, True), (70001, False)):
            connection = client(deflation=Deflation(), message_max=70000)
            data = to(False, BINARY, packed(packer_of(15), bytes(size)), head=0xC0)
            assert taken(connection, data) == ([(BINARY, bytes(size))] if fits else [])
            assert (connection.error is None) is fits

    @ROLES
    @pytest.mark.parametrize("is_first", [True, False])
    def test_no_compressed_frame_is_waited_for_that_no_message_can_need(
        self, is_server: bool, is_first: bool
    ) -> None:
        terms = {"deflation": Deflation(), "message_max": 70_000}
        before = b"" if is_first else to(is_server, BINARY, b"\x00\x00\x00\xff\xff", head=0x40)
        at = len(before)
        for size in (141_024, 141_025, 1 << 40, (1 << 63) - 1):
            declared = bytes([0xC2 if is_first else 0x80, 0x80 * is_server | 127])
            head = declared + size.to_bytes(8, "big") + MASK * is_server
            whole = story(is_server, [before + head], **terms)
            fits = size == 141_024
            assert whole[5] == (None if fits else ("frame-too-big", at + 2))
            assert whole[2] is (OPEN if fits else CLOSED)
            for cut in range(at + len(head) + 1):
                pieces = [(before + head)[:cut], (before + head)[cut:]]
                assert story(is_server, pieces, **terms) == whole, cut

    def test_a_message_that_could_not_be_put_in_line_does_not_spoil_those_behind_it(self) -> None:
        given = [True, False, True]

        def draw(n: int) -> bytes:
            if given and not given.pop(0):
                raise MemoryError
            return os.urandom(4)  # one mask a call

        connection = Connection(is_server=False, random_bytes=draw, deflation=Deflation())
        reader = Connection(is_server=True, deflation=Deflation())
        connection.send(TEXT, b"first " * 20)
        with pytest.raises(MemoryError):
            connection.send(TEXT, b"second " * 20)
        connection.send(TEXT, b"second " * 20)
        connection.send(TEXT, b"third " * 20)
        assert taken(reader, connection.data_to_send()) == [
            (TEXT, b"first " * 20), (TEXT, b"second " * 20), (TEXT, b"third " * 20),
        ]  # fmt: skip
        assert reader.error is None


def test_the_state_of_a_connection_is_small() -> None:
    assert sys.getsizeof(Connection(is_server=True)) < 1024
