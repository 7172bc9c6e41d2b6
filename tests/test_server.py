"""The server of many readers: upgrades, one frame for all, slow readers, silence, its end.

In simulated time with a transport that takes what the test lets it take; on loopback for what only
sockets show.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
import logging
import os
import random
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from fake_world import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FakeSeam,
    accept_key,
    leftovers,
    simulate,
)
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedOK

from crosswire.codec import encode_frame, read_header
from crosswire.errors import HandshakeError, HostError, UsageError
from crosswire.handshake import HEAD_MAX, ClientHandshake
from crosswire.receive import WebSocket
from crosswire.seam import System
from crosswire.sinks import Reader, Server
from crosswire.sinks.server import REFUSALS, SEND_BUFFER_SIZE

TOKEN = "a-token-that-nobody-guesses"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
REQUEST = (
    b"GET /signals HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
)
MASK = b"\x01\x02\x03\x04"
HIGH = 1 << 16  # bytes that wait in a transport before it says so
LIMIT_S = 30.0
ROOT = Path(__file__).resolve().parent.parent


# ------------------------------------------------------------------ a server without sockets


class Listener:
    """What listens in the simulation."""

    is_closed = False

    @property
    def sockets(self) -> list[Listener]:
        return [self]

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 9001

    def close(self) -> None:
        self.is_closed = True


class ServerSeam(FakeSeam):
    """A simulated world in which one can listen."""

    factory: Callable[[], asyncio.BaseProtocol]

    def __init__(self) -> None:
        super().__init__()
        self.listener = Listener()

    async def serve(
        self, protocol_factory: Any, host: str, port: int, tls: Any, handshake_limit_s: float
    ) -> asyncio.Server:
        self.factory = protocol_factory
        return cast(asyncio.Server, self.listener)


class Wire(asyncio.Transport):
    """The server's end of one connection; its peer takes bytes when it reads, or when told to.

    Attributes:
        given: the objects that were written, as they are.
        taken: bytes that the peer has.
        most: most bytes that ever waited.
    """

    def __init__(self, protocol: Reader, port: int, is_reading: bool) -> None:
        super().__init__()
        self.protocol = protocol
        self.port = port
        self.is_reading = is_reading
        self.given: list[bytes] = []
        self.taken = bytearray()
        self.most = 0
        self.lost_at: float | None = None
        self.is_sticky = False  # as where a close waits for bytes that nobody takes
        self._waiting = bytearray()
        self._is_closing = self._is_paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", self.port) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == HIGH

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._is_closing
        self.given.append(cast(bytes, data))
        if self.is_reading and not self._waiting:
            self.taken += data
            return
        self._waiting += data
        self.most = max(self.most, len(self._waiting))
        if len(self._waiting) > HIGH and not self._is_paused:
            self._is_paused = True
            self.protocol.pause_writing()

    def take(self, count: int = 1 << 60) -> None:
        """Let the peer take bytes that wait."""
        self.taken += self._waiting[:count]
        del self._waiting[:count]
        if self._is_paused and len(self._waiting) <= HIGH // 4:
            self._is_paused = False
            self.protocol.resume_writing()

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._waiting and not self.is_sticky:
                asyncio.get_running_loop().call_soon(self._lose, None)

    def abort(self) -> None:
        self._is_closing = True
        asyncio.get_running_loop().call_soon(self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if self.lost_at is None:
            self.lost_at = asyncio.get_running_loop().time()
            self.protocol.connection_lost(error)


class Client:
    """The other end: what it says and what it has got."""

    def __init__(self, seam: ServerSeam, port: int = 1, is_reading: bool = True) -> None:
        self.reader = cast(Reader, seam.factory())
        self.wire = Wire(self.reader, port, is_reading=True)
        self.reader.connection_made(self.wire)
        self._reads = is_reading

    def say(self, data: bytes) -> None:
        """Send bytes, in as many reads as the server takes them."""
        view = memoryview(data)
        while view and not self.wire.is_closing():
            room = memoryview(self.reader.get_buffer(-1))
            n = min(len(room), len(view))
            assert n
            room[:n] = view[:n]
            self.reader.buffer_updated(n)
            view = view[n:]

    def frame(self, opcode: int, payload: bytes = b"") -> None:
        self.say(encode_frame(opcode, payload, MASK))

    def upgrade(self, request: bytes = REQUEST) -> Client:
        self.say(request)
        self.wire.is_reading = self._reads
        return self

    def hang_up(self) -> None:
        if not self.reader.eof_received():
            self.wire.close()

    @property
    def status(self) -> int:
        head = self.wire.taken.partition(b"\r\n\r\n")[0]
        return int(bytes(head).split(b" ")[1]) if head else 0

    def frames(self) -> list[tuple[int, bytes]]:
        """Return the whole frames that came behind the head."""
        return frames_of(bytes(self.wire.taken.partition(b"\r\n\r\n")[2]))

    def texts(self) -> list[bytes]:
        return [payload for opcode, payload in self.frames() if opcode in (TEXT, BINARY)]

    def has_the_same(self, other: Client) -> bool:
        """Whether both were given the same objects behind their heads."""
        pairs = zip(self.wire.given[1:], other.wire.given[1:], strict=True)
        return all(a is b for a, b in pairs)

    def close_code(self) -> int | None:
        codes = [int.from_bytes(p[:2], "big") for opcode, p in self.frames() if opcode == CLOSE]
        assert len(codes) <= 1
        return codes[0] if codes else None


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while (header := read_header(data[at : at + 14])) is not None:
        opcode, is_final, header_len, payload_len, key = header
        end = at + header_len + payload_len
        if len(data) < end:
            break
        assert is_final
        assert key is None
        found.append((opcode, data[at + header_len : end]))
        at = end
    return found


class Hall:
    """A server in the simulation, its clients, and what it told."""

    def __init__(self, **terms: Any) -> None:
        self.seam = ServerSeam()
        self.server = Server(**{"token": TOKEN, **terms}, seam=self.seam)
        self.events: list[tuple[str, Reader]] = []
        self.server.on_opened = lambda reader: self.events.append(("opened", reader))
        self.server.on_refused = lambda reader, reason: self.events.append((reason, reader))
        self.server.on_ended = lambda reader, reason: self.events.append((reason, reader))
        self._ports = 0

    def come(self, *, is_reading: bool = True) -> Client:
        """Connect, and no more."""
        self._ports += 1
        return Client(self.seam, self._ports, is_reading)

    def read(self, count: int = 1, *, is_reading: bool = True) -> list[Client]:
        """Return readers."""
        return [self.come(is_reading=is_reading).upgrade() for _ in range(count)]

    def publish(self, payload: bytes | bytearray | memoryview, opcode: int = BINARY) -> None:
        """Publish, without waiting for the end of the turn."""
        self.server.publish(payload, opcode)
        self.server.flush()

    def told(self, client: Client) -> list[str]:
        return [name for name, reader in self.events if reader is client.reader]


def in_hall(test: Callable[[Hall], Any], **terms: Any) -> None:
    """Run a test in a hall in simulated time, and close it."""

    async def main() -> None:
        hall = Hall(**terms)
        async with hall.server:
            await test(hall)
        assert hall.server.reader_count == hall.server.slow_count == 0
        assert leftovers() == []
        assert timers() == 0
        assert hall.server.callback_errors == 0

    simulate(main())


def timers() -> int:
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in scheduled)


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def asked(*lines: bytes, without: bytes = b"") -> bytes:
    """Return the right request with further lines, and without those of a name."""
    first, *old = REQUEST.rstrip().split(b"\r\n")
    kept = [line for line in old if not without or not line.startswith(without + b":")]
    return b"\r\n".join([first, *kept, *lines]) + b"\r\n\r\n"


# ------------------------------------------------------------------ terms


class TestTheTerms:
    def test_it_listens_on_loopback_unless_told_otherwise(self) -> None:
        assert Server().host == "127.0.0.1"
        for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
            assert Server(host=host).url.startswith("ws://")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com"])
    def test_plain_text_off_loopback_is_asked_for_in_words(self, host: str) -> None:
        with pytest.raises(UsageError, match="insecure=True"):
            Server(host=host)
        assert Server(host=host, insecure=True).host == host
        assert Server(host=host, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).url[:6] == "wss://"

    def test_a_token_is_made_where_none_is_given(self) -> None:
        tokens = {Server().token for _ in range(20)}
        assert len(tokens) == 20
        assert all(len(token) >= 43 and token.isascii() for token in tokens)

    def test_the_token_is_told_by_its_attribute_alone(self) -> None:
        server = Server(token=TOKEN)
        assert server.token == TOKEN
        assert TOKEN not in repr(server) + str(server) + server.url

    @pytest.mark.parametrize(
        "terms",
        [{"token": ""}, {"token": "a b"}, {"token": "é"}, {"when_slow": "wait"},
         {"readers_max": 0}, {"upgrades_max": 0}, {"backlog_count_max": 0},
         {"backlog_size_max": 0}, {"idle_s": 0}, {"pong_limit_s": -1}, {"close_limit_s": 0},
         {"handshake_limit_s": float("nan")}, {"idle_s": float("inf")}],
        ids=str,
    )  # fmt: skip
    def test_what_cannot_be_is_refused(self, terms: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            Server(**terms)

    def test_a_url_with_an_ipv6_host_has_brackets(self) -> None:
        assert Server(host="::1", port=80).url == "ws://[::1]:80"

    async def test_it_is_opened_once(self) -> None:
        server = Server(seam=ServerSeam())
        async with server:
            with pytest.raises(UsageError, match="once"):
                await server.open()
        with pytest.raises(UsageError, match="once"):
            await server.open()
        await server.close()

    async def test_closing_one_that_was_never_opened_is_nothing(self) -> None:
        await Server().close()


# ------------------------------------------------------------------ the upgrade


class TestTheUpgrade:
    def test_who_knows_the_token_becomes_a_reader(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read()[0]
            assert client.status == 101
            assert b"Sec-WebSocket-Accept: " + accept_key(KEY) in client.wire.taken
            assert hall.told(client) == ["opened"]
            assert client.reader.peer == ("127.0.0.1", 1)
            assert hall.server.reader_count == 1

        in_hall(test)

    @pytest.mark.parametrize(
        ("request_of", "status", "reason"),
        [
            (asked(without=b"Authorization"), 401, "token"),
            (REQUEST.replace(b"guesses", b"guesseS"), 401, "token"),
            (asked(b"Authorization: Bearer " + TOKEN.encode()), 401, "token"),
            (asked(b"Origin: https://evil.example"), 403, "origin"),
            (asked(b"Origin: null"), 403, "origin"),
            (REQUEST.replace(b"127.0.0.1:9001", b"evil.example"), 403, "origin"),
            (asked(b"X: " + b"x" * HEAD_MAX), 431, "head"),
            (asked(*[b"X: x"] * 200), 431, "head"),
            (REQUEST.replace(b"13", b"8"), 426, "request"),
            (REQUEST.replace(b"GET", b"POST"), 405, "request"),
            (asked(without=b"Upgrade"), 426, "request"),
            (asked(without=b"Host"), 400, "request"),
            (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, "request"),
        ],
        ids=str,
    )
    def test_a_refusal_has_its_status_its_name_and_its_event(
        self, request_of: bytes, status: int, reason: str
    ) -> None:
        async def test(hall: Hall) -> None:
            client = hall.come()
            client.say(request_of)
            await turn()
            if status != 405:  # which of the two is the library's choice
                assert client.status == status
            assert client.wire.lost_at == 0.0
            assert hall.told(client) == [reason]
            assert dict(hall.server.refused) == {reason: 1}
            assert hall.server.reader_count == 0
            with pytest.raises(HandshakeError):
                client.reader.opened.result()
            assert TOKEN not in str(client.reader.opened.exception())
            assert TOKEN.encode() not in client.wire.taken

        in_hall(test, origins=["https://good.example"], hosts=["127.0.0.1:9001"])

    def test_a_page_of_an_allowed_origin_may_come_in(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.come().upgrade(asked(b"Origin: https://good.example"))
            assert client.status == 101

        in_hall(test, origins=["https://good.example"])

    def test_an_upgrade_has_one_deadline_however_slowly_it_drips(self) -> None:
        async def test(hall: Hall) -> None:
            client, silent = hall.come(), hall.come()
            for byte in REQUEST[:-1]:
                client.say(bytes((byte,)))
                await asyncio.sleep(3.0 / len(REQUEST))
            assert client.status == 0
            await asyncio.sleep(0.1)
            for late in (client, silent):
                assert late.status == 408
                assert late.wire.lost_at == 3.0
                assert hall.told(late) == ["late"]
            assert hall.server.refused == {"late": 2}

        in_hall(test, handshake_limit_s=3.0)

    def test_a_late_one_that_takes_nothing_is_cut(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.come()
            client.wire.is_reading = False
            await asyncio.sleep(5.5)
            assert client.wire.lost_at == 3.0 + 2.0

        in_hall(test, handshake_limit_s=3.0)

    def test_who_hangs_up_before_is_counted(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.come()
            client.say(REQUEST[:50])
            client.hang_up()
            await turn()
            assert hall.told(client) == ["cut"]

        in_hall(test)

    def test_a_full_server_says_503_until_a_reader_goes(self) -> None:
        async def test(hall: Hall) -> None:
            first, *_ = hall.read(3)
            turned_away = hall.come()
            turned_away.say(REQUEST)
            await turn()
            assert turned_away.status == 503
            assert hall.told(turned_away) == ["full"]
            stranger = hall.come()
            stranger.say(REQUEST.replace(b"guesses", b"guesseS"))
            assert stranger.status == 401
            first.frame(CLOSE, b"\x03\xe8")
            assert hall.read()[0].status == 101
            assert hall.server.reader_count == 3

        in_hall(test, readers_max=3)

    def test_a_crowd_at_the_door_is_cut_and_readers_are_not(self) -> None:
        async def test(hall: Hall) -> None:
            reader = hall.read()[0]
            oldest, *at_the_door = [hall.come() for _ in range(4)]
            await turn()
            assert oldest.wire.lost_at is None
            at_the_door.append(hall.come())
            await turn()
            assert oldest.wire.lost_at is not None
            assert oldest.wire.taken == b""
            assert hall.told(oldest) == ["crowd"]
            assert all(client.wire.lost_at is None for client in at_the_door)
            hall.publish(b"x")
            assert reader.texts() == [b"x"]
            await asyncio.sleep(20)
            assert all(client.wire.lost_at == 10.0 for client in at_the_door)
            assert hall.read()[0].status == 101

        in_hall(test, readers_max=2, upgrades_max=4, idle_s=60)

    def test_compression_is_not_taken(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.come().upgrade(asked(b"Sec-WebSocket-Extensions: permessage-deflate"))
            assert client.status == 101
            assert b"xtension" not in client.wire.taken
            hall.publish(b"x" * 100)
            assert client.texts() == [b"x" * 100]

        in_hall(test)

    def test_a_thousand_malformed_upgrades_harm_nobody(self) -> None:
        drawn = random.Random(7)
        pieces = (
            b"\r\n",
            b"\0",
            b"\xff",
            b": ",
            b"Bearer ",
            b"\r\n\r\n",
            b" ",
            b"GET ",
            b"Origin: x",
        )

        def mutated() -> bytes:
            data = bytearray(REQUEST)
            for _ in range(drawn.randint(1, 4)):
                at = drawn.randrange(len(data))
                match drawn.randrange(4):
                    case 0:
                        data[at] = drawn.randrange(256)
                    case 1:
                        del data[at : at + drawn.randint(1, 30)]
                    case 2:
                        data[at:at] = drawn.choice(pieces)
                    case _:
                        data[at:at] = data[drawn.randrange(len(data)) :][:40]
            return bytes(data)

        async def test(hall: Hall) -> None:
            good = hall.read()[0]
            clients = [hall.come() for _ in range(1000)]
            for client in clients:
                client.say(mutated())
            hall.publish(b"still here")
            await asyncio.sleep(11)
            assert good.texts() == [b"still here"]
            for client in clients:
                (what, *ends) = hall.told(client)
                if client.status == 101:
                    assert what == "opened"
                    assert ends in ([], ["protocol"])
                else:
                    assert client.status in (0, *range(400, 600))
                    assert client.wire.lost_at is not None
                    assert what in {*REFUSALS.values(), "request"}
            assert sum(hall.server.refused.values()) > 500
            assert hall.server.refused["token"] > 50

        in_hall(test, readers_max=1001, upgrades_max=1000, idle_s=60)

    def test_a_callback_that_raises_changes_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            hall = Hall()

            def fail(*_: object) -> None:
                raise RuntimeError("mine")

            hall.server.on_opened = hall.server.on_refused = hall.server.on_ended = fail
            async with hall.server:
                client = hall.read()[0]
                hall.come().say(b"nonsense\r\n\r\n")
                hall.publish(b"x")
                await turn()
            assert client.texts() == [b"x"]
            assert hall.server.callback_errors == 3

        simulate(main())
        assert caplog.text.count("RuntimeError: mine") == 3


# ------------------------------------------------------------------ what is published


class TestPublishing:
    def test_a_message_is_encoded_once_and_is_the_same_object_for_all(self) -> None:
        async def test(hall: Hall) -> None:
            clients = hall.read(20)
            hall.publish(b"one", TEXT)
            hall.publish(bytearray(b"two"))
            hall.publish(memoryview(b"three"))
            for client in clients:
                assert client.frames() == [(TEXT, b"one"), (BINARY, b"two"), (BINARY, b"three")]
                assert client.has_the_same(clients[0])
            assert hall.server.published_count == 3

        in_hall(test)

    def test_what_is_published_in_one_turn_is_written_at_its_end_in_one_piece(self) -> None:
        async def test(hall: Hall) -> None:
            clients = hall.read(3)
            for n in range(20):
                hall.server.publish(numbered(n))
            assert clients[0].texts() == []
            await asyncio.sleep(0)
            hall.server.publish(numbered(20))
            await asyncio.sleep(0)
            for client in clients:
                assert [number_of(payload) for payload in client.texts()] == list(range(21))
                assert len(client.wire.given) == 3
                assert client.has_the_same(clients[0])

        in_hall(test)

    def test_more_than_64_kib_of_one_turn_do_not_wait_for_its_end(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read()[0]
            for n in range(200):
                hall.server.publish(numbered(n))
            assert [len(piece) for piece in client.wire.given[1:]] == [66 * 1004] * 3
            await asyncio.sleep(0)
            assert [number_of(payload) for payload in client.texts()] == list(range(200))

        in_hall(test)

    def test_who_comes_or_goes_within_a_turn_gets_what_was_published_while_it_was_there(
        self,
    ) -> None:
        async def test(hall: Hall) -> None:
            early = hall.read()[0]
            hall.server.publish(b"1")
            late = hall.read()[0]
            hall.server.publish(b"2")
            early.reader.close()
            hall.server.publish(b"3")
            await asyncio.sleep(0)
            assert early.texts() == [b"1", b"2"]
            assert early.frames()[-1][0] == CLOSE
            assert late.texts() == [b"2", b"3"]

        in_hall(test)

    def test_what_was_published_before_the_end_is_sent_before_the_close(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read()[0]
            hall.server.publish(b"last")
            closing = asyncio.ensure_future(hall.server.close())
            await turn()
            assert [opcode for opcode, _ in client.frames()] == [BINARY, CLOSE]
            client.frame(CLOSE, b"\x03\xe9")
            await closing

        in_hall(test)

    def test_a_reader_gets_what_is_published_from_its_upgrade_on(self) -> None:
        async def test(hall: Hall) -> None:
            hall.publish(b"0")
            early = hall.read()[0]
            coming = hall.come()
            coming.say(REQUEST[:-1])
            hall.publish(b"1")
            coming.say(REQUEST[-1:])
            hall.publish(b"2")
            assert (early.texts(), coming.texts()) == ([b"1", b"2"], [b"2"])

        in_hall(test)

    def test_a_new_reader_can_be_sent_something_first(self) -> None:
        async def test(hall: Hall) -> None:
            hall.server.on_opened = lambda reader: reader.send(TEXT, b"welcome")
            client = hall.read()[0]
            hall.publish(b"x")
            assert client.texts() == [b"welcome", b"x"]

        in_hall(test)

    def test_a_new_reader_can_be_sent_away(self) -> None:
        async def test(hall: Hall) -> None:
            hall.server.on_opened = lambda reader: reader.close(4000, "not today")
            client = hall.read()[0]
            hall.publish(b"x")
            assert client.frames() == [(CLOSE, b"\x0f\xa0not today")]
            assert hall.told(client) == ["closed"]

        in_hall(test)

    @pytest.mark.parametrize("opcode", [0, 3, CLOSE, PING, PONG, 255])
    def test_only_messages_can_be_published(self, opcode: int) -> None:
        async def test(hall: Hall) -> None:
            with pytest.raises(UsageError, match="no message"):
                hall.publish(b"", opcode)

        in_hall(test)

    def test_a_frame_that_the_backlog_could_not_hold_is_refused(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read()[0]
            hall.publish(bytes(96))
            with pytest.raises(UsageError, match="a frame of 99 bytes"):
                hall.publish(bytes(97))
            assert client.texts() == [bytes(96)]
            assert hall.server.published_count == 1

        in_hall(test, backlog_size_max=98)

    async def test_nothing_can_be_published_before_it_opens_or_behind_its_end(self) -> None:
        server = Server(seam=ServerSeam())
        with pytest.raises(UsageError, match="not open"):
            server.publish(b"x")
        async with server:
            server.publish(b"x")
        with pytest.raises(UsageError, match="not open"):
            server.publish(b"x")

    def test_who_has_gone_gets_nothing(self) -> None:
        async def test(hall: Hall) -> None:
            a, b, c = hall.read(3)
            a.frame(CLOSE, b"\x03\xe8")
            b.wire.abort()  # not told yet
            hall.publish(b"x")
            await turn()
            hall.publish(b"y")
            assert (a.texts(), b.texts(), c.texts()) == ([], [], [b"x", b"y"])
            assert hall.server.reader_count == 1
            assert dict(hall.server.ended) == {"peer": 2}

        in_hall(test)


# ------------------------------------------------------------------ slow readers


def numbered(n: int, size: int = 1000) -> bytes:
    return b"%08d" % n + b"." * (size - 8)


def number_of(payload: bytes) -> int:
    return int(payload[:8])


class TestSlowReaders:
    def test_a_stopped_one_neither_delays_the_others_nor_loses_them_anything(self) -> None:
        async def test(hall: Hall) -> None:
            fast = hall.read(3)
            stopped = hall.read(is_reading=False)[0]
            fast += hall.read(3)
            for n in range(2000):
                hall.publish(numbered(n))
                assert all(len(client.wire.given) == n + 2 for client in fast)
            for client in fast:
                assert [number_of(p) for p in client.texts()] == list(range(2000))
            assert hall.server.slow_count == 1
            assert stopped.reader.is_slow
            assert stopped.texts() == []

        in_hall(test)

    def test_its_memory_is_bounded_and_the_backlog_is_there_once_for_all(self) -> None:
        async def test(hall: Hall) -> None:
            stopped = hall.read(50, is_reading=False)
            for n in range(500):
                hall.publish(numbered(n))
                assert len(hall.server._kept) <= 64
                assert hall.server._kept_size == sum(map(len, hall.server._kept)) <= 40_000
            for client in stopped:
                assert client.wire.most <= HIGH + 1004
            assert len(hall.server._kept) == 39  # of 1,004 bytes
            assert all(client.has_the_same(stopped[0]) for client in stopped)

        in_hall(test, backlog_count_max=64, backlog_size_max=40_000, idle_s=60)

    def test_one_that_catches_up_goes_on_with_the_newest_and_is_told_of_the_gap(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read(is_reading=False)[0]
            for n in range(200):
                hall.publish(numbered(n))
            in_transport = HIGH // 1004 + 1
            lost = 200 - in_transport - 10
            assert client.reader.dropped_count == hall.server.dropped_count == lost
            client.wire.is_reading = True
            client.wire.take()
            assert not client.reader.is_slow
            assert hall.server.slow_count == len(hall.server._kept) == hall.server._kept_size == 0
            frames = client.frames()
            assert frames.pop(in_transport) == (TEXT, b"lost %d" % lost)
            expected = [*range(in_transport), *range(190, 200)]
            assert [number_of(payload) for _, payload in frames] == expected
            hall.publish(numbered(200))
            assert number_of(client.texts()[-1]) == 200
            assert client.reader.dropped_count == lost

        in_hall(test, backlog_count_max=10, gap_text=lambda lost: b"lost %d" % lost)

    def test_without_words_for_a_gap_there_is_none_in_its_stream(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read(is_reading=False)[0]
            for n in range(200):
                hall.publish(numbered(n))
            client.wire.is_reading = True
            client.wire.take()
            numbers = [number_of(payload) for payload in client.texts()]
            assert len(numbers) + client.reader.dropped_count == 200
            assert numbers[-1] == 199

        in_hall(test, backlog_count_max=1)

    def test_words_for_a_gap_that_raise_are_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            def fail(lost: int) -> bytes:
                raise RuntimeError("mine")

            hall = Hall(backlog_count_max=1, gap_text=fail)
            async with hall.server:
                client = hall.read(is_reading=False)[0]
                for n in range(200):
                    hall.publish(numbered(n))
                client.wire.is_reading = True
                client.wire.take()
                assert number_of(client.texts()[-1]) == 199
            assert hall.server.callback_errors == 1

        simulate(main())
        assert "RuntimeError: mine" in caplog.text

    def test_under_the_other_policy_it_is_closed_with_1013(self) -> None:
        async def test(hall: Hall) -> None:
            client, other = hall.read(is_reading=False)[0], hall.read()[0]
            n = 0
            while hall.server.reader_count == 2:
                hall.publish(numbered(n))
                n += 1
            assert n == HIGH // 1004 + 1 + 10 + 1
            assert hall.told(client) == ["opened", "slow"]
            assert [number_of(p) for p in other.texts()] == list(range(n))
            assert len(hall.server._kept) == 0
            began = asyncio.get_running_loop().time()
            client.wire.take()
            assert client.close_code() == 1013
            assert [number_of(p) for p in client.texts()] == list(range(HIGH // 1004 + 1))
            hall.publish(numbered(n))
            await asyncio.sleep(3)
            assert client.wire.lost_at == began + 2.0

        in_hall(test, when_slow="close", backlog_count_max=10)

    def test_a_callback_may_publish_and_all_keep_the_order(self) -> None:
        async def test(hall: Hall) -> None:
            hall.read(is_reading=False)
            fast = hall.read(2)
            hall.server.on_ended = lambda reader, reason: hall.publish(b"99999999")
            for n in range(100):
                hall.publish(numbered(n))
            for client in fast:
                numbers = [number_of(payload) for payload in client.texts()]
                assert numbers.pop(HIGH // 1004 + 3) == 99_999_999
                assert numbers == list(range(100))
            hall.server.on_ended = None

        in_hall(test, when_slow="close", backlog_count_max=1)

    @pytest.mark.parametrize("seed", range(30))
    def test_whatever_the_pace_each_message_is_got_in_order_or_told_as_lost(
        self, seed: int
    ) -> None:
        drawn = random.Random(seed)

        async def test(hall: Hall) -> None:
            clients = hall.read(6, is_reading=False) + hall.read(1)
            published = 0
            for _ in range(100):
                for _ in range(drawn.randint(0, 20)):
                    size = drawn.choice((8, 500, 5000, 30_000))
                    hall.server.publish(numbered(published, size))
                    published += 1
                    if drawn.random() < 0.5:
                        hall.server.flush()
                    if drawn.random() < 0.02:
                        clients[0].frame(PING)  # what it is answered may fill its transport
                if drawn.random() < 0.5:
                    await asyncio.sleep(0)
                for client in clients:
                    if drawn.random() < 0.3:
                        client.wire.take(drawn.choice((1, 3000, 100_000)))
                assert hall.server._kept_size <= 200_000
                assert bool(hall.server._kept) <= bool(hall.server.slow_count)
            hall.server.flush()
            for client in clients:
                while client.wire.get_write_buffer_size():
                    client.wire.take(50_000)
                assert client.wire.most <= HIGH + HIGH + 30_004  # a write, and what waits before it
                lost = expected = 0
                for opcode, payload in client.frames():
                    if opcode == PONG:
                        continue
                    if opcode == TEXT:
                        lost += int(payload)
                        expected += int(payload)
                    else:
                        assert number_of(payload) == expected
                        expected += 1
                assert expected == published
                assert lost == client.reader.dropped_count
            assert hall.server.dropped_count == sum(c.reader.dropped_count for c in clients) > 0
            assert clients[-1].reader.dropped_count == 0
            assert hall.server.slow_count == 0

        in_hall(test, backlog_count_max=20, backlog_size_max=200_000, gap_text=lambda n: b"%d" % n)

    def test_the_first_loss_of_a_reader_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        async def test(hall: Hall) -> None:
            hall.read(2, is_reading=False)
            for n in range(200):
                hall.publish(numbered(n))

        with caplog.at_level(logging.INFO, "crosswire.server"):
            in_hall(test, backlog_count_max=1)
        warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 2
        assert TOKEN not in caplog.text


# ------------------------------------------------------------------ what a reader says


class TestWhatAReaderSays:
    def test_a_ping_is_answered(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read()[0]
            client.frame(PING, b"there?")
            client.frame(PONG, b"unasked")
            assert client.frames() == [(PONG, b"there?")]

        in_hall(test)

    @pytest.mark.parametrize(
        ("said", "code", "reason"),
        [
            (encode_frame(TEXT, b"", MASK), 1003, "message"),
            (encode_frame(BINARY, b"x" * 125, MASK), 1003, "message"),
            (encode_frame(TEXT, b"x", MASK, False) + encode_frame(0, b"y", MASK), 1003, "message"),
            (encode_frame(BINARY, b"x" * 126, MASK)[:8], 1009, "protocol"),
            (encode_frame(BINARY, b"x" * 70_000, MASK)[:14], 1009, "protocol"),
            (encode_frame(TEXT, b"", MASK, False) + encode_frame(0, b"", MASK, False) * 8, 1009,
             "protocol"),
            (encode_frame(TEXT, b"\xff", MASK), 1007, "protocol"),
            (encode_frame(TEXT, b"x"), 1002, "protocol"),
            (b"\xf1\x81abcdx", 1002, "protocol"),
            (encode_frame(PING, b"", MASK) * 31, 1008, "protocol"),
            (encode_frame(CLOSE, b"\x03\xe8bye", MASK), 1000, "peer"),
            (encode_frame(CLOSE, b"\x03\xed", MASK), 1002, "protocol"),
        ],
        ids=["empty", "message", "fragments", "long", "longer", "many-fragments", "utf8",
             "unmasked", "reserved", "flood", "close", "bad-close"],
    )  # fmt: skip
    def test_what_it_may_not_say_ends_it_with_a_code(
        self, said: bytes, code: int, reason: str
    ) -> None:
        async def test(hall: Hall) -> None:
            client, other = hall.read(2)
            client.say(said)
            hall.publish(b"x")
            assert client.close_code() == code
            assert client.frames()[-1][0] == CLOSE
            assert hall.told(client) == ["opened", reason]
            assert other.texts() == [b"x"]
            await asyncio.sleep(3)
            assert client.wire.lost_at is not None
            assert dict(hall.server.ended) == {reason: 1}

        in_hall(test)

    def test_it_may_say_it_in_the_same_read_as_its_request(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.come().upgrade(REQUEST + encode_frame(PING, b"1", MASK))
            talker = hall.come().upgrade(REQUEST + encode_frame(TEXT, b"1", MASK))
            hall.publish(b"x")
            assert client.frames() == [(PONG, b"1"), (BINARY, b"x")]
            assert talker.close_code() == 1003
            assert hall.told(talker) == ["opened", "message"]

        in_hall(test)


# ------------------------------------------------------------------ silence


class TestSilence:
    def test_a_silent_reader_is_pinged_and_its_pong_keeps_it(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read()[0]
            for k in range(1, 20):
                while len(client.frames()) < k:  # noqa: ASYNC110 - simulated time
                    await asyncio.sleep(0.5)
                client.frame(PONG)
            assert client.frames() == [(PING, b"")] * 19
            assert 19 * 8 <= hall.seam.seconds() <= 19 * (8 + 1.5)
            assert hall.server.reader_count == 1

        in_hall(test, idle_s=8, pong_limit_s=4)

    def test_one_that_does_not_answer_is_closed_and_cut(self) -> None:
        async def test(hall: Hall) -> None:
            silent, alive = hall.read(2)
            for _ in range(40):
                await asyncio.sleep(0.5)
                alive.frame(PING)
            assert silent.frames()[0] == (PING, b"")
            assert silent.close_code() == 1008
            assert hall.told(silent) == ["opened", "silent"]
            assert silent.wire.lost_at is not None
            assert 8 + 4 + 2 <= silent.wire.lost_at <= 8 + 4 + 2 + 2
            assert hall.told(alive) == ["opened"]
            assert (PING, b"") not in alive.frames()

        in_hall(test, idle_s=8, pong_limit_s=4)

    def test_a_slow_reader_lives_as_long_as_it_takes_bytes(self) -> None:
        async def test(hall: Hall) -> None:
            creeping, stopped = hall.read(2, is_reading=False)
            for n in range(100):
                hall.publish(numbered(n))
            for _ in range(40):
                await asyncio.sleep(1)
                creeping.wire.take(10)
            assert creeping.wire.lost_at is None
            assert hall.server.slow_count == 1
            assert hall.told(stopped) == ["opened", "silent"]
            assert stopped.wire.lost_at is not None
            assert stopped.wire.lost_at <= 8 + 4 + 2 + 2

        in_hall(test, idle_s=8, pong_limit_s=4)

    def test_a_thousand_readers_have_one_timer_and_no_task(self) -> None:
        async def test(hall: Hall) -> None:
            clients = hall.read(1000)
            clients[0].wire.is_reading = False
            for n in range(100):
                hall.publish(numbered(n))
            await asyncio.sleep(0)
            assert timers() == 1
            assert leftovers() == []
            assert hall.server.slow_count == 1

        in_hall(test)


# ------------------------------------------------------------------ the end


class TestTheEnd:
    def test_readers_are_told_and_it_is_over_when_they_have_answered(self) -> None:
        async def main() -> None:
            hall = Hall()
            await hall.server.open()
            clients, coming = hall.read(3), hall.come()
            closing = asyncio.ensure_future(hall.server.close())
            await turn()
            assert hall.seam.listener.is_closed
            assert not closing.done()
            assert coming.wire.lost_at == 0.0
            for client in clients:
                assert client.frames()[-1] == (CLOSE, b"\x03\xe9the server goes away")
                client.frame(CLOSE, b"\x03\xe9")
            await closing
            assert hall.seam.seconds() == 0.0
            assert hall.server.ended == {"closed": 3}
            assert hall.server.refused == {"cut": 1}
            late = hall.come()
            await turn()
            assert late.wire.lost_at is not None
            assert (timers(), leftovers()) == (0, [])

        simulate(main())

    def test_who_does_not_answer_or_does_not_read_is_cut_in_time(self) -> None:
        async def main() -> None:
            hall = Hall(close_limit_s=1.5)
            await hall.server.open()
            hall.read(2)
            stopped = hall.read(is_reading=False)[0]
            stopped.wire.is_sticky = True
            for n in range(100):
                hall.publish(numbered(n))
            await hall.server.close()
            assert hall.seam.seconds() == 1.5
            assert (timers(), leftovers()) == (0, [])

        simulate(main())

    def test_one_that_is_cancelled_in_its_end_cuts_all(self) -> None:
        async def main() -> None:
            hall = Hall()
            await hall.server.open()
            clients = hall.read(2)
            closing = asyncio.ensure_future(hall.server.close())
            await turn()
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await turn()
            assert [client.wire.lost_at for client in clients] == [0.0, 0.0]
            assert (timers(), leftovers()) == (0, [])

        simulate(main())

    def test_a_body_that_is_cancelled_closes_it(self) -> None:
        async def main() -> None:
            hall = Hall()

            async def body() -> None:
                async with hall.server:
                    await asyncio.sleep(1000)

            task = asyncio.ensure_future(body())
            await turn()
            client = hall.read()[0]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.close_code() == 1001

        simulate(main())

    def test_a_reader_that_is_lost_is_forgotten(self) -> None:
        async def test(hall: Hall) -> None:
            client, stopped = hall.read()[0], hall.read(is_reading=False)[0]
            for n in range(200):
                hall.publish(numbered(n))
            for lost in (client, stopped):
                lost.wire._lose(ConnectionResetError())
                assert hall.told(lost) == ["opened", "peer"]
            assert hall.server.reader_count == hall.server.slow_count == 0
            assert len(hall.server._kept) == 0
            assert hall.server._connections == set()

        in_hall(test)


# ------------------------------------------------------------------ on loopback


class Drain(asyncio.Protocol):
    """A raw client: it upgrades, and keeps a hash of what comes."""

    def __init__(self, token: str) -> None:
        loop = asyncio.get_running_loop()
        self.handshake = ClientHandshake("ws://127.0.0.1:1/", {"Authorization": f"Bearer {token}"})
        self.digest = hashlib.sha256()
        self.size = 0
        self.target = 1 << 60
        self.reached = loop.create_future()
        self.opened = loop.create_future()
        self.lost = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.handshake.request())

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            rest = self.handshake.receive(data)
            if rest is None:
                return
            self.opened.set_result(None)
            data = rest
        self.digest.update(data)
        self.size += len(data)
        if self.size >= self.target and not self.reached.done():
            self.reached.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def get(self, size: int) -> None:
        self.target = size
        if self.size < size:
            await self.reached


async def drain(server: Server, token: str | None = None) -> Drain:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: Drain(token or server.token), "127.0.0.1", server.port
    )
    await client.opened
    return client


@contextlib.asynccontextmanager
async def reading(
    server: Server, take: Callable[[bytes], object], tls: ssl.SSLContext | None = None
) -> AsyncIterator[WebSocket]:
    """Read with our own client; gone behind the block."""
    handshake = ClientHandshake(server.url, {"Authorization": f"Bearer {server.token}"})
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: WebSocket(handshake, System(), lambda s, opcode, payload: take(bytes(payload))),
        "127.0.0.1", server.port, ssl=tls,
    )  # fmt: skip
    await client.opened
    try:
        yield client
    finally:
        client.close()
        await asyncio.wait([client.ended], timeout=LIMIT_S)


@pytest.mark.transport
class TestOnLoopback:
    async def test_a_thousand_readers_get_every_message_byte_for_byte(self) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files < 2200:
            pytest.skip(f"A THOUSAND READERS NOT TESTED: {files} files may be open, not 2,200")
        drawn = random.Random(3)
        messages = [drawn.randbytes(drawn.choice((20, 300, 2000))) for _ in range(30)]
        sent = b"".join(encode_frame(BINARY, message) for message in messages)
        async with asyncio.timeout(LIMIT_S), Server() as server:
            clients = [await drain(server) for _ in range(1000)]
            assert server.reader_count == 1000
            for message in messages:
                server.publish(message)
                await asyncio.sleep(0)
            for client in clients:
                await client.get(len(sent))
            assert {client.digest.hexdigest() for client in clients} == {
                hashlib.sha256(sent).hexdigest()
            }
            assert (server.dropped_count, server.refused, server.ended) == (0, {}, {})
            with pytest.raises(HandshakeError, match="503"):
                await drain_refused(server)
            for client in clients:
                client.transport.abort()
            while server.reader_count:  # noqa: ASYNC110 - the kernel's turn
                await asyncio.sleep(0.01)

    async def test_a_stopped_reader_takes_nothing_from_the_others(self) -> None:
        messages = [numbered(n, 4000) for n in range(1500)]
        sent = b"".join(encode_frame(BINARY, message) for message in messages)
        terms: dict[str, Any] = {"backlog_count_max": 50, "gap_text": lambda lost: b"%d" % lost}
        async with asyncio.timeout(LIMIT_S), Server(**terms) as server:
            got: list[bytes] = []
            async with reading(server, got.append) as slow:
                clients = [await drain(server) for _ in range(5)]
                assert slow._transport
                slow._transport.pause_reading()
                for n, message in enumerate(messages):
                    server.publish(message)
                    if n % 10 == 9:  # the others keep pace, as they read
                        for client in clients:
                            await client.get((n + 1) * (len(sent) // 1500))
                            client.reached = asyncio.get_running_loop().create_future()
                assert {client.digest.digest() for client in clients} == {
                    hashlib.sha256(sent).digest()
                }
                assert server.slow_count == 1
                assert server.dropped_count > 0
                slow._transport.resume_reading()
                while not got or got[-1] != messages[-1]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                (gap,) = [k for k, payload in enumerate(got) if len(payload) < 10]
                assert int(got[gap]) == server.dropped_count == 1500 - (len(got) - 1)
                assert got[:gap] + got[gap + 1 :] == messages[:gap] + messages[-50:]
                assert server.slow_count == 0
            for client in clients:
                client.transport.abort()

    async def test_what_a_stopped_reader_holds_is_bounded(self) -> None:
        async with asyncio.timeout(LIMIT_S), Server() as server, reading(server, len) as client:
            (reader,) = server._readers
            assert client._transport
            client._transport.pause_reading()
            most = 0
            for n in range(3000):
                server.publish(numbered(n, 4000))
                most = max(most, reader._wire.get_write_buffer_size())
                if n % 50 == 0:
                    await asyncio.sleep(0)
            assert most <= HIGH + HIGH + 4004
            sock = reader._wire.get_extra_info("socket")
            given = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            assert given <= 2 * SEND_BUFFER_SIZE  # Linux doubles it for its own needs
            assert server._kept_size <= 1 << 20
            assert reader.dropped_count > 0
            client._transport.resume_reading()

    @pytest.mark.parametrize("has_tls", [False, True], ids=["ws", "wss"])
    async def test_our_own_client_reads(self, has_tls: bool) -> None:
        authority = trustme.CA()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if has_tls else None
        trust = ssl.create_default_context() if has_tls else None
        if tls and trust:
            authority.issue_cert("127.0.0.1").configure_cert(tls)
            authority.configure_trust(trust)
        got: list[bytes] = []
        async with asyncio.timeout(LIMIT_S), Server(tls=tls) as server:
            async with reading(server, got.append, trust) as client:
                for n in range(100):
                    server.publish(numbered(n, 5000))
                while len(got) < 100:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert got == [numbered(n, 5000) for n in range(100)]
                await server.close()
                assert await asyncio.shield(client.ended) == (1001, "the server goes away")
            assert server.ended == {"closed": 1}

    async def test_another_librarys_client_reads(self) -> None:
        async with asyncio.timeout(LIMIT_S), Server() as server:
            bearer = {"Authorization": f"Bearer {server.token}"}
            async with connect(server.url, additional_headers=bearer) as client:
                server.publish(b"{}", TEXT)
                server.publish(b"\x00" * 70_000)
                assert await client.recv() == "{}"
                assert await client.recv() == b"\x00" * 70_000
                await (await client.ping(b"there?"))
                closing = asyncio.ensure_future(server.close())
                with pytest.raises(ConnectionClosedOK):
                    await client.recv()
                await closing
                assert (client.close_code, client.close_reason) == (1001, "the server goes away")
            assert server.ended == {"closed": 1}

    async def test_refusals_are_read_by_a_client_in_words(self) -> None:
        async with asyncio.timeout(LIMIT_S), Server(handshake_limit_s=0.2) as server:
            with pytest.raises(HandshakeError, match="401 Unauthorized"):
                await drain_refused(server, "wrong")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert (await reader.read()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            writer.close()
            assert server.refused == {"token": 1, "late": 1}

    async def test_a_taken_port_is_named(self) -> None:
        async with Server() as server:
            with pytest.raises(HostError, match=f"cannot listen on 127.0.0.1:{server.port}: "):
                await Server(port=server.port).open()

    async def test_a_connection_that_never_speaks_tls_is_cut(self) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
        async with asyncio.timeout(LIMIT_S), Server(tls=tls, handshake_limit_s=0.2) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            while not server.refused:  # noqa: ASYNC110 - a timer of the same time
                await asyncio.sleep(0.01)
            assert server.refused in ({"late": 1}, {"cut": 1})  # whose timer was first


async def drain_refused(server: Server, token: str | None = None) -> None:
    """Ask for an upgrade and raise why there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    handshake = ClientHandshake(server.url, {"Authorization": f"Bearer {token or server.token}"})
    writer.write(handshake.request())
    data = await reader.read()
    writer.close()
    handshake.receive(data)


# ------------------------------------------------------------------ its page


class TestThePage:
    PAGE = (ROOT / "docs" / "server.md").read_text()

    def test_every_reason_of_a_refusal_is_on_it_with_its_status(self) -> None:
        table = self.PAGE.partition("| reason |")[2].partition("\n\n")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.M))
        assert rows.keys() == {*REFUSALS.values(), "request", "cut", "crowd"}
        assert {int(rows[reason]): reason for reason in REFUSALS.values()} == REFUSALS

    def test_every_member_of_a_server_is_on_it_and_in_its_docstring_or_its_own(self) -> None:
        server = Server()
        names = {name for name in (*vars(server), *dir(server)) if name[0] != "_"}
        assert [name for name in names if not re.search(rf"`{name}\b", self.PAGE)] == []
        assert Server.__doc__
        untold = [name for name in names if name not in Server.__doc__]
        assert all(getattr(Server, name).__doc__ for name in untold)

    def test_every_term_is_in_its_docstring(self) -> None:
        assert Server.__doc__
        terms = inspect.signature(Server).parameters
        assert [name for name in terms if not re.search(rf"\b{name}\b", Server.__doc__)] == []

    def test_the_bounds_of_the_architecture_are_its_defaults(self) -> None:
        page = (ROOT / "docs" / "architecture.md").read_text()
        terms = inspect.signature(Server).parameters
        for name in ("readers_max", "upgrades_max", "backlog_count_max"):
            assert f"`{name}` ({terms[name].default:,})" in page
        assert terms["backlog_size_max"].default == 1 << 20


# ------------------------------------------------------------------ the examples


Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def running() -> Iterator[Run]:
    """Start examples; whatever still runs behind the test is killed."""
    with contextlib.ExitStack() as stack:

        def run(name: str, *arguments: str, token: str = TOKEN) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, f"examples/{name}", *arguments],
                cwd=ROOT, env={**os.environ, "CROSSWIRE_TOKEN": token}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


class TestTheExamples:
    def test_signals_of_the_simulated_venues_are_served_and_read(self, running: Run) -> None:
        server = running("serve_signals.py", "--seconds", "3")
        assert server.stdout
        url = server.stdout.readline().removeprefix("listening on ").strip()
        some = running("read_signals.py", url, "--count", "5")
        all_of_it = running("read_signals.py", url)
        stranger = running("read_signals.py", url, token="another")
        out, err = stranger.communicate(timeout=30)
        assert (stranger.returncode, out) == (1, "")
        assert "401 Unauthorized" in err

        out, err = some.communicate(timeout=30)
        assert (some.returncode, err) == (0, "")
        got = [json.loads(line) for line in out.splitlines()]
        assert len(got) == 5
        assert {one["event"] for one in got} <= {"OPEN", "UPDATE", "CLOSE"}

        out, err = all_of_it.communicate(timeout=30)
        assert (all_of_it.returncode, err) == (
            1,
            "closed by the server: 1001 the server goes away\n",
        )
        numbers = [json.loads(line)["seq"] for line in out.splitlines()]
        assert numbers == sorted(set(numbers))
        last, err = server.communicate(timeout=30)
        assert (server.returncode, err) == (0, "")
        assert last == f"{numbers[-1] + 1} signals to 2 readers\n"

    def test_ctrl_c_closes_the_readers_and_leaves_no_traceback(self, running: Run) -> None:
        server = running("serve_signals.py", "--seconds", "60")
        assert server.stdout
        url = server.stdout.readline().removeprefix("listening on ").strip()
        reader, other = running("read_signals.py", url), running("read_signals.py", url)
        for process in (reader, other):
            assert process.stdout
            assert json.loads(process.stdout.readline())
        other.send_signal(signal.SIGINT)
        _, err = other.communicate(timeout=30)
        assert (other.returncode, err) == (130, "")
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=30)
        assert server.returncode == 130
        assert "Traceback" not in err  # the simulator may find that nobody is there any more
        _, err = reader.communicate(timeout=30)
        assert (reader.returncode, err) == (1, "closed by the server: 1001 the server goes away\n")

    @pytest.mark.parametrize("name", ["serve_signals.py", "read_signals.py"])
    def test_without_a_token_they_say_so(self, running: Run, name: str) -> None:
        process = running(name, *(["ws://127.0.0.1:1"] if name[0] == "r" else []), token="")
        _, err = process.communicate(timeout=30)
        assert process.returncode == 2
        assert "CROSSWIRE_TOKEN" in err
