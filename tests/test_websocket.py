"""WebSockets over real sockets on the loopback address, in both roles, on every event loop.

The peers are the ``websockets`` library, which is of nobody's making here, and, where something has
to go wrong, a bare one. Deadlines pass by a clock that the test moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket as sockets
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fake_world import BINARY, CLOSE, PING, PONG, TEXT, leftovers, right_answer
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from crosswire.codec import mask, read_header
from crosswire.connection import ConnectionState
from crosswire.errors import HandshakeError, UsageError
from crosswire.handshake import ClientHandshake, ServerHandshake
from crosswire.receive import WebSocket
from crosswire.receive.websocket import CLOSE_LIMIT_S, HANDSHAKE_LIMIT_S, WRITE_MAX
from crosswire.seam import System

pytestmark = pytest.mark.transport

LIMIT_S = 20.0
HOST = "127.0.0.1"
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MESSAGES: list[str | bytes] = [
    "", b"", "a", "zażółć gęślą jaźń €😀", bytes(range(256)), "x" * 125, "x" * 126, b"y" * 65536,
    "0123456789" * 30_000, random.Random(1).randbytes(3_000_000), "end",
]  # fmt: skip
OnMessage = Callable[[WebSocket, int, memoryview], object]

# ------------------------------------------------------------------ time


@dataclass
class Timer:
    at: float
    do: Callable[[], None]
    is_over: bool = False

    def cancel(self) -> None:
        self.is_over = True


class Clock(System):
    """The real world, but for deadlines: they come when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.timers: list[Timer] = []

    def later(self, seconds: float, do: Callable[[], None]) -> Any:
        self.timers.append(Timer(self.now + seconds, do))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in self.timers:
            if not timer.is_over and timer.at <= self.now + 1e-9:
                timer.is_over = True
                timer.do()

    @property
    def running(self) -> list[float]:
        """When the timers that still run are due."""
        return [timer.at for timer in self.timers if not timer.is_over]


# ------------------------------------------------------------------ sockets


class Probe(WebSocket):
    """Tells what happens to it."""

    reads = 0
    is_paused = False
    waiting_max = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.changed = asyncio.Event()

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self.reads += 1
        if self._transport:
            size = self._transport.get_write_buffer_size()
            self.waiting_max = max(self.waiting_max, size)
        self.changed.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_paused = True
        self.changed.set()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.is_paused = False
        self.changed.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not is_so():
                self.changed.clear()
                await self.changed.wait()

    async def over(self) -> tuple[int, str]:
        """Wait for its end."""
        return await asyncio.wait_for(asyncio.shield(self.ended), LIMIT_S)


def echo(socket: WebSocket, opcode: int, payload: memoryview) -> None:
    socket.send(opcode, payload)


def ignore(socket: WebSocket, opcode: int, payload: memoryview) -> None:
    pass


class Kept:
    """Keeps messages, and tells when there are enough."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self._changed = asyncio.Event()

    def __call__(self, socket: WebSocket, opcode: int, payload: memoryview) -> None:
        self.messages.append(str(payload, "utf-8") if opcode == TEXT else bytes(payload))
        self._changed.set()

    async def until(self, count: int) -> list[str | bytes]:
        async with asyncio.timeout(LIMIT_S):
            while len(self.messages) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.messages


def open_sockets() -> set[str]:
    """Return the sockets of this process; what else a loop keeps open is its own."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return {name for name in found if name.startswith("socket:")}


@contextlib.asynccontextmanager
async def nothing_left(clock: Clock) -> AsyncIterator[None]:
    """Look that no task, timer or socket of the body is left."""
    tasks, before = set(leftovers()), open_sockets()
    yield
    assert clock.running == []
    async with asyncio.timeout(LIMIT_S):
        while open_sockets() - before or set(leftovers()) - tasks:  # noqa: ASYNC110 - a few turns
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def our_server(
    on_message: OnMessage, clock: Clock, **options: Any
) -> AsyncIterator[tuple[str, list[Probe]]]:
    """Serve; yield the URL, and a list that takes every connection."""
    made: list[Probe] = []
    terms = {"takes_deflate": options.pop("takes_deflate", False)}

    def connection() -> Probe:
        made.append(Probe(ServerHandshake(**terms), clock, on_message, **options))
        return made[-1]

    async with nothing_left(clock):
        server = await asyncio.get_running_loop().create_server(connection, HOST, 0)
        try:
            yield f"ws://{HOST}:{server.sockets[0].getsockname()[1]}/", made
            for socket in made:
                await socket.over()
        finally:
            server.close()
            await server.wait_closed()


async def our_client(
    url: str, on_message: OnMessage, clock: Clock, *, offers_deflate: bool = False, **options: Any
) -> Probe:
    """Connect to a server; the result is open."""
    port = int(url.rpartition(":")[2].strip("/"))
    _, socket = await asyncio.get_running_loop().create_connection(
        lambda: Probe(
            ClientHandshake(url, offers_deflate=offers_deflate), clock, on_message, **options
        ),
        HOST,
        port,
    )
    await asyncio.wait_for(asyncio.shield(socket.opened), LIMIT_S)
    return socket


@contextlib.asynccontextmanager
async def their_server(
    handler: Callable[[ServerConnection], Any], compression: str | None = None
) -> AsyncIterator[str]:
    async with serve(
        handler, HOST, 0, compression=compression, max_size=None, ping_interval=None
    ) as server:
        yield f"ws://{HOST}:{next(iter(server.sockets)).getsockname()[1]}"
    gc.collect()


def their_client(url: str, compression: str | None = None) -> connect:
    return connect(url, compression=compression, max_size=None, ping_interval=None, proxy=None)


async def their_echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.send(await connection.recv())


compressions = pytest.mark.parametrize("compression", [None, "deflate"], ids=["plain", "deflate"])


class TestOurServer:
    @compressions
    async def test_it_sends_back_whatever_their_client_sends(self, compression: str | None) -> None:
        options = {"takes_deflate": True, "message_max": 1 << 23}
        async with our_server(echo, Clock(), **options) as (url, made):
            async with their_client(url, compression) as peer:
                for message in MESSAGES:
                    await peer.send(message)
                    assert await asyncio.wait_for(peer.recv(), LIMIT_S) == message
                assert (made[0].handshake.deflation is not None) is (compression is not None)
                await (await peer.ping(b"1723161255343"))
            assert await made[0].over() == (1000, "")
            assert made[0].connection.error is None

    @compressions
    async def test_fragments_come_as_one_message(self, compression: str | None) -> None:
        async with (
            our_server(echo, Clock(), takes_deflate=True) as (url, _),
            their_client(url, compression) as peer,
        ):
            await peer.send(["za", "", "żółć", "€" * 50_000])
            assert await asyncio.wait_for(peer.recv(), LIMIT_S) == "zażółć" + "€" * 50_000
            await peer.send([b"\x00", b"\xff" * 70_000, b""])
            assert await asyncio.wait_for(peer.recv(), LIMIT_S) == b"\x00" + b"\xff" * 70_000

    async def test_many_connections_keep_apart(self) -> None:
        async def talk(url: str, n: int) -> None:
            async with their_client(url, "deflate") as peer:
                for k in range(50):
                    await peer.send(f"{n} {k} " + "x" * (37 * k))
                    assert await peer.recv() == f"{n} {k} " + "x" * (37 * k)

        async with our_server(echo, Clock(), takes_deflate=True) as (url, made):
            await asyncio.wait_for(asyncio.gather(*(talk(url, n) for n in range(20))), LIMIT_S)
            assert len(made) == 20

    async def test_their_client_is_told_why_it_may_not_come_in(self) -> None:
        clock = Clock()
        made: list[Probe] = []

        def connection() -> Probe:
            made.append(Probe(ServerHandshake(token="secret"), clock, echo))
            return made[-1]

        async with nothing_left(clock):
            server = await asyncio.get_running_loop().create_server(connection, HOST, 0)
            url = f"ws://{HOST}:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(Exception, match="HTTP 401"):
                await their_client(url)
            token = {"Authorization": "Bearer secret"}
            async with connect(url, additional_headers=token, proxy=None) as peer:
                await peer.send("in")
                assert await peer.recv() == "in"
            assert await made[0].over() == (1006, "")
            with pytest.raises(HandshakeError, match="answered with 401"):
                await made[0].opened
            await made[1].over()
            server.close()
            await server.wait_closed()


class TestOurClient:
    @compressions
    async def test_it_gets_back_from_their_server_whatever_it_sends(
        self, compression: str | None
    ) -> None:
        clock, kept = Clock(), Kept()
        async with nothing_left(clock), their_server(their_echo, compression) as url:
            socket = await our_client(url, kept, clock, offers_deflate=True, message_max=1 << 23)
            assert (socket.handshake.deflation is not None) is (compression is not None)
            for message in MESSAGES:
                is_text = isinstance(message, str)
                payload = message.encode() if isinstance(message, str) else message
                socket.send(TEXT if is_text else BINARY, payload)
            assert await kept.until(len(MESSAGES)) == MESSAGES
            socket.close()
            assert await socket.over() == (1000, "")

    @compressions
    async def test_fragments_go_and_come_as_one_message(self, compression: str | None) -> None:
        async def cut(connection: ServerConnection) -> None:
            await connection.send([str(await connection.recv()), "€", "", "ł" * 40_000])
            await connection.wait_closed()

        clock, kept = Clock(), Kept()
        async with nothing_left(clock), their_server(cut, compression) as url:
            socket = await our_client(url, kept, clock, offers_deflate=True)
            for part, is_final in ((b"a\xe2", False), (b"\x82", False), (b"\xac", True)):
                socket.connection.send(TEXT, part, is_final=is_final)
                socket.flush()
            assert await kept.until(1) == ["a€€" + "ł" * 40_000]
            socket.close()
            await socket.over()

    async def test_a_server_that_refuses_is_named(self) -> None:
        clock = Clock()

        def refuse(connection: ServerConnection, request: Any) -> Any:
            return connection.respond(503, "later\n")

        async with (
            nothing_left(clock),
            serve(their_echo, HOST, 0, process_request=refuse) as server,
        ):
            url = f"ws://{HOST}:{next(iter(server.sockets)).getsockname()[1]}"
            with pytest.raises(HandshakeError, match="503"):
                await our_client(url, ignore, clock)
        gc.collect()

    async def test_nothing_can_be_sent_before_and_behind_the_connection(self) -> None:
        clock = Clock()
        async with nothing_left(clock), their_server(their_echo) as url:
            early = Probe(ClientHandshake(url), clock, ignore)
            with pytest.raises(UsageError, match="not open"):
                early.send(TEXT, b"")
            early.flush()
            early.close()
            early.close()
            assert await early.over() == (1006, "")
            socket = await our_client(url, ignore, clock)
            socket.close()
            with pytest.raises(UsageError, match="closing"):
                socket.send(TEXT, b"")
            await socket.over()
            with pytest.raises(UsageError, match="closed"):
                socket.send(TEXT, b"")
            socket.close()
            socket.flush()
            socket.pause_writing()  # as a transport may do behind its end
            socket.resume_writing()


async def test_a_secure_url_is_not_spoken_in_plain_text() -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(sink, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        handshake = ClientHandshake(f"wss://{HOST}:{port}/", {"Authorization": "Bearer secret"})
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: WebSocket(handshake, System(), lambda *_: None), HOST, port
        )
        with pytest.raises(HandshakeError) as caught:
            await client.opened
        assert caught.value.code == "handshake-plain"
        assert await client.ended == (1006, "")
        assert await asyncio.wait_for(got, 10) == b""


class TestTheClosingHandshake:
    """Between their library and ours, from either side."""

    @staticmethod
    def words(peer: ClientConnection | ServerConnection) -> tuple[Any, Any]:
        """Return what a peer of theirs received and sent as close."""
        found = (peer.protocol.close_rcvd, peer.protocol.close_sent)
        return tuple(close and (close.code, close.reason) for close in found)  # type: ignore[return-value]

    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "w dół"), (4999, "x" * 123)])
    async def test_our_server_begins(self, code: int, reason: str) -> None:
        def end(socket: WebSocket, opcode: int, payload: memoryview) -> None:
            socket.close(code, reason)

        async with our_server(end, Clock()) as (url, made), their_client(url) as peer:
            await peer.send("end")
            await asyncio.wait_for(peer.wait_closed(), LIMIT_S)
            assert self.words(peer)[0] == (code, reason)
            assert (await made[0].over())[0] == code

    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "w dół"), (4999, "x" * 123)])
    async def test_their_client_begins(self, code: int, reason: str) -> None:
        async with our_server(ignore, Clock()) as (url, made):
            async with their_client(url) as peer:
                await peer.close(code, reason)
                assert self.words(peer) == ((code, ""), (code, reason))
            assert await made[0].over() == (code, reason)

    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (3000, "w dół")])
    async def test_our_client_begins(self, code: int, reason: str) -> None:
        clock, peers = Clock(), []

        async def wait(connection: ServerConnection) -> None:
            peers.append(connection)
            await connection.wait_closed()

        async with nothing_left(clock), their_server(wait) as url:
            socket = await our_client(url, ignore, clock)
            socket.close(code, reason)
            assert (await socket.over())[0] == code
            assert self.words(peers[0])[0] == (code, reason)

    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1012, "w dół")])
    async def test_their_server_begins(self, code: int, reason: str) -> None:
        clock, peers = Clock(), []

        async def end(connection: ServerConnection) -> None:
            peers.append(connection)
            await connection.close(code, reason)

        async with nothing_left(clock), their_server(end) as url:
            socket = await our_client(url, ignore, clock)
            assert await socket.over() == (code, reason)
            assert self.words(peers[0]) == ((code, ""), (code, reason))

    async def test_a_code_or_reason_that_may_not_be_sent_is_refused_and_ends_nothing(self) -> None:
        async with our_server(echo, Clock()) as (url, made), their_client(url) as peer:
            await peer.send("a")
            await peer.recv()
            for code, reason in ((1005, ""), (999, ""), (5000, ""), (1000, "x" * 124)):
                with pytest.raises(UsageError):
                    made[0].close(code, reason)
            await peer.send("b")
            assert await peer.recv() == "b"


# ------------------------------------------------------------------ a bare peer


@dataclass
class Bare:
    """The other side of one connection, without any library."""

    role: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def frame(self, opcode: int, payload: bytes = b"") -> bytes:
        """Return a frame as this side has to send it: a client's is masked, with zeros."""
        key = b"" if self.role == "client" else bytes(4)
        n = len(payload)
        short = n if n < 126 else 126 if n < 65536 else 127
        size = b"" if n < 126 else n.to_bytes(2 if n < 65536 else 8, "big")
        return bytes((0x80 | opcode, short | (0x80 if key else 0))) + size + key + payload

    def send(self, opcode: int, payload: bytes = b"") -> None:
        self.writer.write(self.frame(opcode, payload))

    async def rest(self) -> list[tuple[int, bytes]]:
        """Return the frames that still come until the end of the stream."""
        with contextlib.suppress(ConnectionError):
            return self.frames(await asyncio.wait_for(self.reader.read(), LIMIT_S))
        return []

    def frames(self, data: bytes) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        while data and (header := read_header(data, is_server=self.role == "client")):
            opcode, _, header_len, payload_len, key = header
            payload = bytearray(data[header_len : header_len + payload_len])
            assert (key is not None) is (self.role == "client")
            if key is not None:
                mask(payload, key)
            found.append((opcode, bytes(payload)))
            data = data[header_len + payload_len :]
        assert data == b""
        return found

    def cut(self, how: str) -> None:
        """End the stream, or break it."""
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            raw = self.writer.get_extra_info("socket")
            raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, linger)
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def against_a_bare_peer(
    role: str, clock: Clock, on_message: OnMessage = ignore, *, is_open: bool = True, **options: Any
) -> AsyncIterator[tuple[Probe, Bare]]:
    """Run one connection of ours; afterwards it must be gone."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Any] = loop.create_future()
    async with nothing_left(clock):
        if role == "server":

            def connection() -> Probe:
                made.set_result(Probe(ServerHandshake(), clock, on_message, **options))
                return made.result()  # type: ignore[no-any-return]

            server: Any = await loop.create_server(connection, HOST, 0)
            reader, writer = await asyncio.open_connection(HOST, server.sockets[0].getsockname()[1])
            socket = await asyncio.wait_for(made, LIMIT_S)
            if is_open:
                writer.write(REQUEST)
                assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        else:
            server = await asyncio.start_server(lambda *both: made.set_result(both), HOST, 0)
            port = server.sockets[0].getsockname()[1]
            handshake = ClientHandshake(f"ws://{HOST}:{port}/")
            _, socket = await loop.create_connection(
                lambda: Probe(handshake, clock, on_message, **options), HOST, port
            )
            reader, writer = await asyncio.wait_for(made, LIMIT_S)
            request = await reader.readuntil(b"\r\n\r\n")
            if is_open:
                writer.write(right_answer(request))
                await asyncio.wait_for(asyncio.shield(socket.opened), LIMIT_S)
        server.close()
        try:
            yield socket, Bare(role, reader, writer)
            await socket.over()
        finally:
            writer.transport.abort()
            await server.wait_closed()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            made = loop.create_future()  # it holds the streams


def right_head(role: str, socket: WebSocket) -> bytes:
    """Return the request that a server of ours takes, or the answer for a client of ours."""
    if role == "server":
        return REQUEST
    key: str = socket.handshake._protocol.key  # type: ignore[union-attr]
    return right_answer(b"Sec-WebSocket-Key: " + key.encode())


roles = pytest.mark.parametrize("role", ["server", "client"])


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Give back what earlier tests left, so that sockets can be counted."""
    gc.collect()
    yield
    gc.collect()


class TestThePeerThatNeverOpens:
    @roles
    async def test_silence_meets_the_limit(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock, is_open=False) as (socket, peer):
            clock.advance(HANDSHAKE_LIMIT_S - 0.1)
            assert not socket.opened.done()
            clock.advance(0.1)
            with pytest.raises(HandshakeError, match="no upgrade within 10 s") as caught:
                await socket.opened
            assert caught.value.code == "handshake-late"
            answer = await peer.reader.read()
            assert answer.startswith(b"HTTP/1.1 408 " if role == "server" else b"")
            assert bool(answer) is (role == "server")
            assert await socket.over() == (1006, "")

    @roles
    async def test_a_byte_now_and_then_meets_it_as_well(self, role: str) -> None:
        clock = Clock()
        head = REQUEST if role == "server" else b"HTTP/1.1 101 Switching Protocols\r\nX: y"
        async with against_a_bare_peer(role, clock, is_open=False, handshake_limit_s=30.0) as (
            socket,
            peer,
        ):
            for n in range(29):
                peer.writer.write(head[n : n + 1])
                await socket.until(lambda reads=n + 1: socket.reads >= reads)  # type: ignore[misc]
                clock.advance(1.0)
            assert not socket.opened.done()
            clock.advance(1.0)
            with pytest.raises(HandshakeError, match="within 30 s"):
                await socket.opened
            await socket.over()

    async def test_one_that_comes_byte_by_byte_in_time_is_let_in(self) -> None:
        clock, kept = Clock(), Kept()
        async with against_a_bare_peer("server", clock, kept, is_open=False) as (socket, peer):
            for n, byte in enumerate(REQUEST + peer.frame(TEXT, b"first")):
                peer.writer.write(bytes((byte,)))
                await socket.until(lambda reads=n + 1: socket.reads >= reads)  # type: ignore[misc]
                clock.advance(HANDSHAKE_LIMIT_S / 1000)
            assert await kept.until(1) == ["first"]
            assert clock.running == []
            peer.send(CLOSE)
            assert await socket.over() == (1005, "")

    async def test_a_tls_handshake_that_takes_the_whole_time_opens_nothing(self) -> None:
        clock = Clock()
        socket = Probe(ServerHandshake(), clock, ignore)
        clock.advance(HANDSHAKE_LIMIT_S)
        with pytest.raises(HandshakeError, match="no upgrade"):
            await socket.opened
        assert await socket.over() == (1006, "")
        server = await asyncio.get_running_loop().create_server(lambda: socket, HOST, 0)
        reader, writer = await asyncio.open_connection(
            HOST, server.sockets[0].getsockname()[1]
        )  # now it comes after all
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), LIMIT_S) == b""
        writer.close()
        server.close()
        await server.wait_closed()

    @roles
    async def test_whoever_cancels_opened_gives_up(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock, is_open=False) as (socket, _):
            socket.opened.cancel()
            assert await socket.over() == (1006, "")

    @roles
    async def test_closing_before_the_upgrade_gives_up(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock, is_open=False) as (socket, _):
            socket.close()
            assert await socket.over() == (1006, "")
            with pytest.raises(HandshakeError, match="given up"):
                await socket.opened

    @roles
    async def test_what_comes_behind_a_refusal_is_dropped(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock, is_open=False) as (socket, peer):
            peer.writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            with pytest.raises(HandshakeError):
                await asyncio.wait_for(socket.opened, LIMIT_S)
            # As TLS hands on what it had decrypted before it was closed.
            socket.get_buffer(-1)[:8] = b"x\r\n\r\nx\r\n"
            socket.buffer_updated(8)
            if role == "server":
                assert b" 400 Bad Request\r\n" in await peer.reader.read()

    @roles
    async def test_frames_in_the_read_of_the_head_are_handed_over(self, role: str) -> None:
        clock, kept = Clock(), Kept()
        async with against_a_bare_peer(role, clock, kept, is_open=False) as (socket, peer):
            frames = peer.frame(TEXT, b"a" * 5000) + peer.frame(TEXT, b"b") + peer.frame(CLOSE)
            peer.writer.write(right_head(role, socket) + frames)
            if role == "client":
                peer.writer.write_eof()
            assert await socket.over() == (1005, "")
            assert kept.messages == ["a" * 5000, "b"]


class TestThePeerThatNeverCloses:
    @roles
    async def test_silence_meets_the_limit(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock) as (socket, peer):
            socket.close(1001, "over")
            clock.advance(CLOSE_LIMIT_S - 0.1)
            assert not socket.ended.done()
            clock.advance(0.1)
            assert await socket.over() == (1006, "")
            assert await peer.rest() in ([], [(CLOSE, b"\x03\xe9over")])

    @roles
    async def test_chatter_does_not_put_it_off(self, role: str) -> None:
        clock, kept = Clock(), Kept()
        async with against_a_bare_peer(role, clock, kept, close_limit_s=10.0) as (socket, peer):
            reads = socket.reads
            socket.close()
            for n in range(9):
                peer.send(TEXT if n % 2 else PING, b"still here")
                await socket.until(lambda n=n: socket.reads > reads + n)  # type: ignore[misc]
                clock.advance(1.0)
            assert not socket.ended.done()
            clock.advance(1.0)
            assert await socket.over() == (1006, "")
            assert kept.messages == []

    async def test_a_server_that_leaves_the_stream_open_meets_it(self) -> None:
        clock = Clock()
        async with against_a_bare_peer("client", clock) as (socket, peer):
            reads = socket.reads
            peer.send(CLOSE, b"\x03\xe8bye")
            for _ in range(50):  # nothing of this is kept
                peer.writer.write(bytes(1 << 16))
                await peer.writer.drain()
            await socket.until(lambda: socket.reads > reads + 3)
            assert socket.connection.state is ConnectionState.CLOSED
            assert not socket.ended.done()
            clock.advance(CLOSE_LIMIT_S)
            assert await socket.over() == (1000, "bye")

    @roles
    async def test_the_end_of_the_stream_starts_the_limit_too(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock) as (socket, _):
            assert socket.eof_received() is False
            assert clock.running == [CLOSE_LIMIT_S]
            clock.advance(CLOSE_LIMIT_S)
            assert await socket.over() == (1006, "")


class TestThePeerThatDoesNotRead:
    @roles
    async def test_it_is_not_read_from_and_memory_stays_bounded(self, role: str) -> None:
        count, size = 32_000, 1000
        clock = Clock()
        async with against_a_bare_peer(role, clock, echo) as (socket, peer):
            # The bare peer stops reading, so the room of the sockets and ours is all there is.
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            frame = peer.frame(BINARY, b"x" * size)
            peer.writer.transport.set_write_buffer_limits(1 << 26)
            peer.writer.write(frame * count)
            await socket.until(lambda: socket.is_paused)
            assert socket._transport is not None
            assert not socket._transport.is_reading()
            reads = socket.reads
            for _ in range(100):
                await asyncio.sleep(0)
            assert socket.reads == reads
            assert peer.writer.transport.get_write_buffer_size() > 0
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
            expected = count * (4 + size + (4 if role == "client" else 0))
            await asyncio.wait_for(peer.reader.readexactly(expected), LIMIT_S)
            assert socket.waiting_max <= 4 * WRITE_MAX
            assert not socket.is_paused
            peer.send(CLOSE, b"\x03\xe8")
            await asyncio.wait_for(peer.reader.readexactly(4 if role == "server" else 8), LIMIT_S)
            peer.cut("end")
            assert await socket.over() == (1000, "")

    @roles
    @pytest.mark.parametrize("with_head", [False, True], ids=["later", "with-the-head"])
    async def test_what_was_read_waits_until_it_reads(self, role: str, with_head: bool) -> None:
        count, reply = 1000, bytes(1 << 16)
        waiting: list[int] = []

        def answer(socket: WebSocket, opcode: int, payload: memoryview) -> None:
            assert socket._transport is not None
            waiting.append(socket._transport.get_write_buffer_size())
            socket.send(BINARY, reply)

        clock = Clock()
        options = {"is_open": not with_head, "read_size": 256 if with_head else 65536}
        async with against_a_bare_peer(role, clock, answer, **options) as (socket, peer):
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            head = right_head(role, socket) if with_head else b""
            peer.writer.write(head + peer.frame(BINARY, b"x") * count)
            await socket.until(lambda: socket.is_paused)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(waiting) < count / 2
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
            if with_head and role == "server":
                await peer.reader.readuntil(b"\r\n\r\n")
            expected = count * (len(reply) + (14 if role == "client" else 10))
            received = 0
            async with asyncio.timeout(LIMIT_S):
                while received < expected:
                    received += len(await peer.reader.read(min(1 << 20, expected - received)))
            assert len(waiting) == count
            assert max(waiting) <= 2 * WRITE_MAX
            peer.send(CLOSE)
            await asyncio.wait_for(peer.reader.readexactly(2 if role == "server" else 6), LIMIT_S)
            peer.cut("end")
            assert await socket.over() == (1005, "")

    @roles
    async def test_one_that_reads_nothing_before_the_upgrade_is_not_read_from(
        self, role: str
    ) -> None:
        async with against_a_bare_peer(role, Clock(), is_open=False) as (socket, peer):
            socket.pause_writing()
            peer.writer.write(right_head(role, socket))
            for _ in range(100):
                await asyncio.sleep(0)
            assert socket.reads == 0
            socket.resume_writing()
            await asyncio.wait_for(asyncio.shield(socket.opened), LIMIT_S)
            peer.cut("end")
            assert await socket.over() == (1006, "")

    @roles
    async def test_closing_does_not_wait_for_it_for_ever(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock, message_max=1 << 25) as (socket, peer):
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            socket.send(BINARY, bytes(1 << 25))
            assert socket.is_paused
            socket.close()
            clock.advance(CLOSE_LIMIT_S)
            assert await socket.over() == (1006, "")


class TestWhatOnMessageRaises:
    @roles
    async def test_it_closes_with_1011_and_no_message_follows(
        self, role: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[bytes] = []

        def fail(socket: WebSocket, opcode: int, payload: memoryview) -> None:
            seen.append(bytes(payload))
            raise ValueError("of the caller")

        clock = Clock()
        async with against_a_bare_peer(role, clock, fail) as (socket, peer):
            peer.writer.write(peer.frame(TEXT, b"1") + peer.frame(TEXT, b"2") + peer.frame(PING))
            data = (
                await asyncio.wait_for(peer.reader.readuntil(b"internal error"), LIMIT_S)
                if (role == "server")
                else await asyncio.wait_for(peer.reader.readexactly(6 + 16), LIMIT_S)
            )
            assert peer.frames(data) == [(CLOSE, b"\x03\xf3internal error")]
            peer.send(CLOSE, b"\x03\xf3")
            if role == "client":
                peer.cut("end")
            assert await socket.over() == (1011, "")
        assert seen == [b"1"]
        assert [record.exc_info is not None for record in caplog.records] == [True]

    async def test_the_others_go_on(self) -> None:
        def fail(socket: WebSocket, opcode: int, payload: memoryview) -> None:
            if bytes(payload) == b"fail":
                raise ValueError
            socket.send(opcode, payload)

        async with our_server(fail, Clock()) as (url, made), their_client(url) as good:
            async with their_client(url) as bad:
                await bad.send("fail")
                await asyncio.wait_for(bad.wait_closed(), LIMIT_S)
                assert bad.close_code == 1011
            await good.send("on")
            assert await asyncio.wait_for(good.recv(), LIMIT_S) == "on"
            assert [socket.ended.done() for socket in made] == [False, True]


class TestBrokenProtocol:
    @roles
    async def test_in_the_read_of_the_head_all_behind_it_is_dropped(self, role: str) -> None:
        clock, kept = Clock(), Kept()
        options = {"is_open": False, "read_size": 256}
        async with against_a_bare_peer(role, clock, kept, **options) as (socket, peer):
            frames = peer.frame(TEXT, b"good") + b"\xff" * 9000
            peer.writer.write(right_head(role, socket) + frames)
            if role == "server":
                await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), LIMIT_S)
            assert await peer.rest() == [(CLOSE, b"\x03\xea")]
            assert await socket.over() == (1006, "")
            assert kept.messages == ["good"]

    @roles
    @pytest.mark.parametrize(
        ("first", "size", "payload", "code"),
        [(0xC1, b"\x00", b"", 1002), (0x83, b"\x00", b"", 1002), (0x81, b"\x02", b"\xff\xfe", 1007),
         (0x82, b"\x7f" + (1 << 40).to_bytes(8, "big"), b"", 1009), (0x88, b"\x01", b"\x03", 1002)],
        ids=["reserved-bit", "opcode-3", "no-utf8", "2^40", "close-of-1-byte"],
    )  # fmt: skip
    async def test_it_is_answered_with_its_code_and_the_stream_is_ended(
        self, role: str, first: int, size: bytes, payload: bytes, code: int
    ) -> None:
        frame = bytes((first,)) + size + payload
        if role == "server":  # a client masks
            frame = bytes((first, size[0] | 0x80)) + size[1:] + bytes(4) + payload
        clock, kept = Clock(), Kept()
        async with against_a_bare_peer(role, clock, kept) as (socket, peer):
            peer.writer.write(peer.frame(TEXT, b"good") + frame)
            assert await peer.rest() == [(CLOSE, code.to_bytes(2, "big"))]
            assert await socket.over() == (1006, "")
            assert socket.connection.error is not None
            assert kept.messages == ["good"]

    async def test_unmasked_frames_of_a_client_are_refused(self) -> None:
        async with against_a_bare_peer("server", Clock()) as (socket, peer):
            peer.writer.write(b"\x81\x01a")
            assert await peer.rest() == [(CLOSE, b"\x03\xea")]
            assert str(socket.connection.error).startswith("frame-unmasked")


class TestTheConnectionIsLost:
    @roles
    @pytest.mark.parametrize("how", ["end", "reset"])
    async def test_inside_the_upgrade(self, role: str, how: str) -> None:
        async with against_a_bare_peer(role, Clock(), is_open=False) as (socket, peer):
            peer.writer.write(b"HTTP/1.1 101" if role == "client" else b"GET / HT")
            await socket.until(lambda: socket.reads > 0)
            peer.cut(how)
            with pytest.raises(HandshakeError) as caught:
                await asyncio.wait_for(socket.opened, LIMIT_S)
            assert caught.value.code == "handshake-cut"
            assert await socket.over() == (1006, "")

    @roles
    @pytest.mark.parametrize("how", ["end", "reset"])
    async def test_when_open(self, role: str, how: str) -> None:
        async with against_a_bare_peer(role, Clock()) as (socket, peer):
            peer.cut(how)
            assert await socket.over() == (1006, "")
            assert socket.connection.state is ConnectionState.CLOSED

    @roles
    @pytest.mark.parametrize("how", ["end", "reset"])
    async def test_inside_a_message(self, role: str, how: str) -> None:
        kept = Kept()
        async with against_a_bare_peer(role, Clock(), kept) as (socket, peer):
            reads = socket.reads
            peer.writer.write(peer.frame(TEXT, b"x" * 1000)[:500])
            await socket.until(lambda: socket.reads > reads)
            peer.cut(how)
            assert await socket.over() == (1006, "")
            assert kept.messages == []

    @roles
    @pytest.mark.parametrize("how", ["end", "reset"])
    async def test_when_closing(self, role: str, how: str) -> None:
        async with against_a_bare_peer(role, Clock()) as (socket, peer):
            socket.close(1001)
            peer.cut(how)
            assert await socket.over() == (1006, "")

    @roles
    @pytest.mark.parametrize("how", ["end", "reset"])
    async def test_behind_the_peers_close(self, role: str, how: str) -> None:
        async with against_a_bare_peer(role, Clock()) as (socket, peer):
            peer.send(CLOSE, b"\x0f\xa0why")
            await peer.reader.readexactly(4 if role == "server" else 8)
            peer.cut(how)
            assert await socket.over() == (4000, "why")


class TestPings:
    @roles
    async def test_they_are_answered(self, role: str) -> None:
        async with against_a_bare_peer(role, Clock()) as (socket, peer):
            peer.writer.write(peer.frame(PING, b"1") + peer.frame(PING) + peer.frame(CLOSE))
            if role == "client":
                peer.writer.write_eof()
            found = await peer.rest()
            assert found == [(PONG, b"1"), (PONG, b""), (CLOSE, b"")]
            assert await socket.over() == (1005, "")
