"""The TLS engines on real sockets: each gives the same bytes and ends in the same way.

The peer is Python's ``ssl`` over memory buffers, so that a test decides how its records leave:
whole, cut anywhere, changed, or not to their end.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from crosswire.errors import TlsError, UsageError
from crosswire.receive import Resumption, connect
from crosswire.receive import tls as receive_tls
from crosswire.receive.tls import CLOSE_LIMIT_S, ENGINES, pick_engine
from crosswire.seam import System
from crosswire.session import tls_context

pytestmark = pytest.mark.transport

HOST = "127.0.0.1"
LIMIT_S = 20.0


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return tls_context(str(path))


class Peer:
    """A server's end of one connection, a record at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext
    ) -> None:
        self.reader, self.writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def _step(self, work: Callable[[], Any]) -> Any:
        """Do it as soon as enough has come; send what it gives to send."""
        while True:
            try:
                result = work()
            except ssl.SSLWantReadError:
                result = None
                is_done = False
            else:
                is_done = True
            await self.put(self._outgoing.read())
            if is_done:
                return result
            data = await self.reader.read(1 << 16)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    async def shake_hands(self) -> None:
        await self._step(self.tls.do_handshake)

    async def read(self, n: int) -> bytes:
        got = bytearray()
        while len(got) < n and (piece := await self._step(partial(self.tls.read, n - len(got)))):
            got += piece
        return bytes(got)

    def records(self, *payloads: bytes) -> bytes:
        """Return each payload, of 16 KiB at most, as a record."""
        for payload in payloads:
            assert self.tls.write(payload) == len(payload)
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    async def put(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End without a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Client(asyncio.BufferedProtocol):
    """Keeps what it is given and told; a test may act inside ``on_bytes``."""

    def __init__(self, size: int = 1 << 16) -> None:
        self.buffer = memoryview(bytearray(size))
        self.got = bytearray()
        self.told: list[str] = []
        self.transport: Any = None
        self.on_bytes: Callable[[], None] = lambda: None
        self.changed = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert not self.lost.done()
        self.got += self.buffer[:nbytes]
        self.changed.set()
        self.on_bytes()

    def eof_received(self) -> bool:
        self.told.append("eof")
        return False

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)
        self.changed.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not is_so():
                self.changed.clear()
                await self.changed.wait()


class World:
    """A server of one handler, and clients of one engine."""

    def __init__(self, engine: str, port: int, context: ssl.SSLContext) -> None:
        self.engine, self.port, self.context = engine, port, context
        self.resumption = Resumption()

    async def client(self, make: Callable[[], Client] = Client) -> Client:
        _, client = await connect(
            System(), make, HOST, self.port, self.context, self.resumption, self.engine
        )
        assert isinstance(client, Client)
        name = client.transport.get_extra_info("tls_engine", "asyncio")
        assert name == self.engine
        return client


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handle: Handler, **options: Any) -> AsyncIterator[int]:
    """Serve on a port, and leave nothing of it behind."""
    peers: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        peers.append((task, writer))
        try:
            await handle(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the client's end, or the test's
        finally:
            writer.close()

    server = await asyncio.start_server(accept, HOST, 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task, writer in peers:
            task.cancel()
            writer.transport.abort()
        closing = [writer.wait_closed() for _, writer in peers]
        await asyncio.gather(*closing, *(task for task, _ in peers), return_exceptions=True)


@pytest.fixture
def world(engine: str, authority: trustme.CA, context: ssl.SSLContext) -> Any:
    """Return what serves with a handler and gives a :class:`World`."""

    @asynccontextmanager
    async def serve(handle: Callable[[Peer], Any], **options: Any) -> Any:
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(options.pop("name", HOST)).configure_cert(own)
        for name, value in options.items():
            setattr(own, name, value)

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = Peer(reader, writer, own)
            await peer.shake_hands()
            await handle(peer)

        async with listening(accept) as port:
            yield World(engine, port, context)

    return serve


async def hold(peer: Peer) -> None:
    """Wait for the client's end."""
    while await peer.read(1 << 14):
        pass


def is_quiet(world: World, error: Exception | None) -> bool:
    """Whether a connection ended without an error; asyncio's engine takes what comes behind its own
    goodbye for one."""
    late = getattr(error, "reason", "") == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
    return error is None or (world.engine == "asyncio" and late)


SIZES = [1, 2, 16383, 16384, 150, 1, 0, 5000, 150, 150]


class TestBytes:
    @pytest.mark.parametrize("buffer_size", [1, 100, 1 << 16])
    async def test_records_of_every_size_arrive_however_they_are_cut(
        self, world: Any, buffer_size: int
    ) -> None:
        rng = random.Random(buffer_size)
        payloads = [rng.randbytes(size) for size in SIZES if size]

        async def send(peer: Peer) -> None:
            data = peer.records(*payloads)
            while data:
                n = rng.choice((1, 5, 6, 1000, 20_000))
                await peer.put(data[:n])
                data = data[n:]
            await peer.put(peer.records(b"!") + peer.goodbye())
            await hold(peer)

        async with world(send) as w:
            client = await w.client(lambda: Client(buffer_size))
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            assert bytes(client.got) == b"".join(payloads) + b"!"
            assert client.told == ["eof"]

    async def test_what_comes_with_the_handshake_is_not_lost(self, world: Any) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(b"early"))
            await hold(peer)

        async with world(send) as w:
            client = await w.client()
            await client.until(lambda: bytes(client.got) == b"early")
            client.transport.abort()
            assert await client.lost is None

    async def test_a_burst_of_megabytes_arrives_and_others_have_their_turn(
        self, world: Any
    ) -> None:
        turns = 0

        async def send(peer: Peer) -> None:
            for n in range(400):
                await peer.put(peer.records(bytes([n % 251]) * 16384))
            await hold(peer)

        def count() -> None:
            nonlocal turns
            turns += 1
            asyncio.get_running_loop().call_soon(count)

        async with world(send) as w:
            client = await w.client()
            count()
            await client.until(lambda: len(client.got) == 400 * 16384)
            assert bytes(client.got[-16384:]) == bytes([399 % 251]) * 16384
            assert turns > 20
            client.transport.abort()

    async def test_what_is_written_arrives_and_a_peer_that_does_not_read_pauses_it(
        self, world: Any
    ) -> None:
        piece = bytes(range(256)) * 256
        may_read = asyncio.Event()
        count = 0
        got: list[bytes] = []

        async def sink(peer: Peer) -> None:
            await may_read.wait()
            got.append(await peer.read(count * len(piece) + 3))

        async with world(sink) as w:
            client = await w.client()
            client.transport.set_write_buffer_limits(1 << 16)
            while not client.told:
                client.transport.write(memoryview(piece))
                count += 1
                assert count < 1000
            assert client.told == ["pause"]
            may_read.set()
            await client.until(lambda: client.told == ["pause", "resume"])
            client.transport.write(b"end")
            client.transport.close()
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            assert got == [piece * count + b"end"]


class TestPauses:
    async def test_nothing_is_handed_over_while_it_is_paused_and_nothing_is_lost(
        self, world: Any
    ) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(*(bytes([n]) * 100 for n in range(200))))
            await peer.put(peer.goodbye())
            await hold(peer)

        async with world(send) as w:
            client = await w.client(lambda: Client(100))
            loop = asyncio.get_running_loop()

            def pause() -> None:
                size = len(client.got)
                client.transport.pause_reading()

                def look() -> None:
                    assert len(client.got) == size
                    client.transport.resume_reading()

                loop.call_soon(lambda: loop.call_soon(look))

            client.on_bytes = pause
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            assert bytes(client.got) == b"".join(bytes([n]) * 100 for n in range(200))


class TestTheEnd:
    async def test_the_peers_goodbye_ends_it_in_order(self, world: Any) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(b"last") + peer.goodbye())
            await hold(peer)

        async with world(send) as w:
            client = await w.client()
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            assert (bytes(client.got), client.told) == (b"last", ["eof"])
            assert client.transport.is_closing()

    @pytest.mark.parametrize("cut", [0, 3, 60])
    async def test_a_stream_that_is_cut_short_ends_without_what_was_not_whole(
        self, world: Any, cut: int
    ) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(b"whole") + peer.records(b"x" * 100)[:cut])
            peer.writer.close()

        async with world(send) as w:
            client = await w.client()
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            assert bytes(client.got) == b"whole"

    @pytest.mark.parametrize("at", [5, 40, -1])
    async def test_a_record_that_was_changed_ends_it_with_an_error(
        self, world: Any, at: int
    ) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(b"good"))
            assert await peer.read(2) == b"go"
            bad = bytearray(peer.records(b"x" * 100))
            bad[at] ^= 1
            await peer.put(bad + peer.records(b"behind"))
            await hold(peer)

        async with world(send) as w:
            client = await w.client()
            await client.until(lambda: client.got == b"good")
            client.transport.write(b"go")
            error = await asyncio.wait_for(client.lost, LIMIT_S)
            assert isinstance(error, ssl.SSLError)
            assert error.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
            assert bytes(client.got) == b"good"

    async def test_a_reset_is_told(self, world: Any) -> None:
        async def send(peer: Peer) -> None:
            assert await peer.read(2) == b"go"
            peer.reset()

        async with world(send) as w:
            client = await w.client()
            client.transport.write(b"go")
            assert isinstance(await asyncio.wait_for(client.lost, LIMIT_S), ConnectionResetError)

    async def test_a_protocol_that_raises_ends_it_and_is_told(self, world: Any) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(b"poison"))
            await hold(peer)

        def fail() -> None:
            raise LookupError("of the protocol")

        seen: list[dict[str, Any]] = []
        async with world(send) as w:
            asyncio.get_running_loop().set_exception_handler(lambda _, told: seen.append(told))
            client = await w.client()
            client.on_bytes = fail
            error = await asyncio.wait_for(client.lost, LIMIT_S)
            assert isinstance(error, LookupError)
            assert [type(told["exception"]) for told in seen] == [LookupError]

    @pytest.mark.parametrize("how", ["close", "abort"])
    async def test_nothing_is_handed_over_behind_an_end_of_ones_own(
        self, world: Any, how: str
    ) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(*(b"0123456789" for _ in range(100))))
            await hold(peer)

        async with world(send) as w:
            client = await w.client(lambda: Client(10))
            client.on_bytes = lambda: getattr(client.transport, how)()
            assert is_quiet(w, await asyncio.wait_for(client.lost, LIMIT_S))
            assert len(client.got) == 10 or (w.engine, how) == ("asyncio", "close")
            if w.engine != "asyncio":  # whose transport fails there
                client.transport.write(b"ignored")
                client.transport.close()
                client.transport.abort()

    async def test_the_peer_reads_all_that_was_written_before_a_close(self, world: Any) -> None:
        ends: list[bytes] = []

        async def send(peer: Peer) -> None:
            await peer.put(peer.records(*(bytes(16384) for _ in range(20))))
            ends.append(await peer.read(1000))

        async with world(send) as w:
            client = await w.client()
            client.transport.write(b"goodbye")
            client.transport.close()  # much that it has not read is on its way
            assert is_quiet(w, await asyncio.wait_for(client.lost, LIMIT_S))
            assert ends == [b"goodbye"]


class TestAPeerThatNeverReads:
    async def test_a_close_is_over_in_time(self, world: Any, engine: str) -> None:
        if engine == "asyncio":
            pytest.skip("asyncio's own limit")
        timers: list[tuple[float, Callable[[], None]]] = []

        class Seam(System):
            def later(self, seconds: float, do: Callable[[], None]) -> Any:
                timers.append((seconds, do))
                return super().later(seconds, do)

        async def sleep(peer: Peer) -> None:
            await asyncio.Event().wait()

        async with world(sleep) as w:
            _, client = await connect(Seam(), Client, HOST, w.port, w.context, None, engine)
            assert isinstance(client, Client)
            while not client.told:
                client.transport.write(bytes(1 << 16))
            client.transport.close()
            [(seconds, do)] = timers
            assert seconds == CLOSE_LIMIT_S
            assert not client.lost.done()
            do()
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None


class TestHandshakes:
    async def test_a_certificate_of_another_name_is_refused(self, world: Any) -> None:
        async with world(hold, name="other.example") as w:
            with pytest.raises(TlsError, match=r"tls-host: .*IP address mismatch"):
                await w.client()

    async def test_a_peer_that_speaks_no_tls_is_refused(self, engine: str, context: Any) -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()

        async with listening(plain) as port:
            with pytest.raises(TlsError, match="tls-plain: "):
                await connect(System(), Client, HOST, port, context, None, engine)

    async def test_a_peer_that_leaves_inside_the_handshake_is_told(
        self, engine: str, context: Any
    ) -> None:
        async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)

        async with listening(leave) as port:
            with pytest.raises(TlsError, match="tls-cut: "):
                await connect(System(), Client, HOST, port, context, None, engine)

    async def test_one_that_is_cancelled_at_any_moment_says_nothing_else(
        self, engine: str, context: Any
    ) -> None:
        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with listening(mute) as port:
            for turns in range(12):
                attempt = asyncio.create_task(
                    connect(System(), Client, HOST, port, context, None, engine)
                )
                for _ in range(turns):
                    await asyncio.sleep(0)
                attempt.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await attempt

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_the_next_one_resumes(self, world: Any, version: ssl.TLSVersion) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(b"x"))
            await hold(peer)

        async with world(send, maximum_version=version) as w:
            resumed = []
            for _ in range(3):
                client = await w.client()
                await client.until(lambda client=client: client.got == b"x")
                resumed.append(w.resumption.ssl_object.session_reused)
                client.transport.close()
                assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            assert resumed == [False, True, True]
            assert w.resumption.ssl_object.version() == version.name.replace("_", ".")

    async def test_a_failed_attempt_does_not_forget_the_session(self, world: Any) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(b"x"))
            await hold(peer)

        async with world(send) as w:
            client = await w.client()
            await client.until(lambda: client.got == b"x")
            client.transport.close()
            await asyncio.wait_for(client.lost, LIMIT_S)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            w.resumption.wrap(w.context, incoming, outgoing, HOST)  # and nothing came of it
            again = await w.client()
            assert w.resumption.ssl_object.session_reused
            again.transport.abort()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="NO KEY UPDATE: openssl is not there")
@pytest.mark.parametrize("command", [b"k\n", b"K\n"], ids=["of its own", "and of ours"])
async def test_a_key_update_goes_unnoticed(
    engine: str, command: bytes, authority: trustme.CA, context: Any, tmp_path: Path
) -> None:
    certificate = authority.issue_cert(HOST)
    path = tmp_path / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(path)
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        "openssl", "s_server", "-accept", f"{HOST}:{port}", "-cert", path, "-key", path,
        "-tls1_3", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert server.stdin
    assert server.stdout
    try:
        async with asyncio.timeout(LIMIT_S):
            while b"ACCEPT" not in (line := await server.stdout.readline()):
                assert line
        _, client = await connect(System(), Client, HOST, port, context, None, engine)
        assert isinstance(client, Client)
        for n in range(3):
            server.stdin.write(b"before %d\n" % n)
            await client.until(lambda n=n: client.got.endswith(b"before %d\n" % n))
            server.stdin.write(command)  # a read of its own, or it is no command
            lines: list[bytes] = []
            async with asyncio.timeout(LIMIT_S):
                while not any(line.startswith(b"SSL_do_handshake") for line in lines):
                    client.transport.write(b"ours\n")  # what it prints is flushed with this
                    while not lines or not lines[-1].endswith(b"ours\n"):
                        lines.append(await server.stdout.readline())
                        assert lines[-1]
                    lines.append(b"")
            server.stdin.write(b"behind %d\n" % n)
            await client.until(lambda n=n: client.got.endswith(b"behind %d\n" % n))
        client.transport.abort()
        assert await client.lost is None
    finally:
        server.kill()
        await server.wait()


class TestTheChoice:
    def test_it_is_the_best_that_may_be_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CROSSWIRE_TLS", raising=False)
        assert pick_engine() == "direct"
        for name in ENGINES:
            monkeypatch.setenv("CROSSWIRE_TLS", name)
            assert pick_engine() == name
        monkeypatch.setenv("CROSSWIRE_TLS", "fastest")
        with pytest.raises(UsageError, match="CROSSWIRE_TLS is 'fastest'; it may be direct"):
            pick_engine()

    def test_a_process_without_what_it_needs_takes_the_public_one_and_says_so_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(receive_tls, "find_fault", lambda: "there is no SSL_read_ex")
        monkeypatch.setattr(receive_tls, "_told", set())
        assert [pick_engine("direct"), pick_engine("direct")] == ["public", "public"]
        assert [record.message for record in caplog.records] == [
            "TLS is read by the public engine: there is no SSL_read_ex"
        ]

    async def test_a_connection_that_fails_its_check_is_read_by_the_public_one(
        self, authority: trustme.CA, context: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Blind:
            """Sees two connections where one was made."""

            def __init__(self) -> None:
                self.fault = ""

            def __enter__(self) -> None:
                pass

            def __exit__(self, *exc: object) -> None:
                self.fault = "2 connections were made in place of one"

            def check(self, *arguments: object) -> str:
                return self.fault

        monkeypatch.setattr(receive_tls, "Spy", Blind)
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(own)

        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"as ever")
            await reader.read()

        async with listening(send, ssl=own) as port:
            _, client = await connect(System(), Client, HOST, port, context, None, "direct")
            assert isinstance(client, Client)
            assert client.transport.get_extra_info("tls_engine") == "public"
            await client.until(lambda: client.got == b"as ever")
            client.transport.abort()
            assert await client.lost is None


async def test_a_transport_tells_of_its_connection(world: Any) -> None:
    async with world(hold) as w:
        client = await w.client()
        told = client.transport.get_extra_info
        assert told("peername") == (HOST, w.port)
        assert told("sockname")[0] == HOST
        assert told("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert told("ssl_object").version() == told("cipher")[1] == "TLSv1.3"
        assert told("peercert")["subjectAltName"] == (("IP Address", HOST),)
        assert told("nothing", 5) == 5
        client.transport.abort()
        assert await client.lost is None


async def test_many_connections_leave_nothing(world: Any) -> None:
    async with world(hold) as w:
        for _ in range(3):
            client = await w.client()
            client.transport.abort()
            await client.lost
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        for number in range(60):
            client = await w.client()
            getattr(client.transport, ("close", "abort")[number % 2])()
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            del client
        await asyncio.sleep(0)
        gc.collect()
        # those of the server's side may take a turn longer
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 4
