"""Sessions over real sockets on the loopback address, plain and TLS, on every event loop.

The peers are the ``websockets`` server and, where the protocol has to be broken, a bare one.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import json
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import trustme
from fake_world import accept_key, is_of_package, key_of, leftovers, quote_text, small_venue
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from crosswire.codec import encode_frame, mask, read_header
from crosswire.engine import Engine
from crosswire.errors import UsageError
from crosswire.instruments import Pair
from crosswire.line import Line
from crosswire.receive.tls import ENGINES
from crosswire.seam import System
from crosswire.session import ReconnectBackoff, Session, tls_context
from crosswire.venue import Heartbeat, Record

pytestmark = pytest.mark.transport

LIMIT_S = 10.0
HOST = "127.0.0.1"
Handler = Callable[[ServerConnection], Awaitable[None]]


class Authority:
    """A private authority, the file that clients trust, and servers' contexts."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.folder = folder
        self.ca_file = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)

    def server(self, *names: str, **options: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names, **options).configure_cert(context)
        return context

    def self_signed(self) -> ssl.SSLContext:
        stranger = trustme.CA()
        path = self.folder / "self.pem"
        path.write_bytes(stranger.private_key_pem.bytes() + stranger.cert_pem.bytes())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def of_a_stranger(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert(HOST).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["ws", *(f"wss {engine}" for engine in ENGINES)])
def scheme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name, _, engine = str(request.param).partition(" ")
    monkeypatch.setenv("CROSSWIRE_TLS", engine)
    return name


class Client:
    """A session of the small venue, and what its engine hands out."""

    def __init__(self, url: str, ca_file: str | None, **changes: Any) -> None:
        self.venue = small_venue(**changes)
        self.engine = Engine(
            instruments_max=2, pairs_max=2, lines_max=2, venues_max=1, signals_max=16
        )
        self.engine.add_venue(self.venue.name, self.venue.layout)
        self.engine.add_instrument(self.venue.name, "BTCUSDT", fee_bps=0.0)
        self.engine.add_instrument(self.venue.name, "ETHUSDT", fee_bps=0.0)
        self.engine.set_pairs([Pair(1, 0, 1)])
        self.engine.on_quotes = self._take
        self.line = Line(self.engine, self.venue.name)
        self.seqs: list[int] = []
        self.quotes: list[tuple[int, float, float]] = []
        self.states: list[str] = []
        self.lost: list[str] = []
        self._changed = asyncio.Event()
        self.session = Session(
            venue=self.venue,
            line=self.line,
            streams=[("BTCUSDT", Record.QUOTE), ("ETHUSDT", Record.QUOTE)],
            seam=System(),
            observer=self,
            url=url,
            tls=tls_context(ca_file) if url.startswith("wss") else None,
            backoff=ReconnectBackoff(0.01, 0.05),
        )
        self.task = asyncio.ensure_future(self.session.run())

    def _take(self, quotes: Any) -> None:
        self.seqs.extend(quotes["seq"].tolist())
        self.quotes.extend(quotes[["seq", "bid", "ask"]].tolist())
        self._changed.set()

    def on_opened(self, session: Session, line: Line, ts: int, mono: int) -> None:
        self._changed.set()

    def on_covered(self, session: Session, line: Line, ts: int, mono: int) -> None:
        raise AssertionError("a lone line covers nothing")

    def on_lost(self, session: Session, line: Line, ts: int, mono: int, reason: str) -> None:
        self.lost.append(reason)
        self._changed.set()

    def on_state(self, session: Session) -> None:
        self.states.append(session.state.value)
        self._changed.set()

    def has_been(self, state: str) -> bool:
        return state in self.states

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so; fail when it is not in time, or the session has died."""
        async with asyncio.timeout(LIMIT_S):
            while not is_so():
                assert not self.task.done(), self.task
                self._changed.clear()
                await self._changed.wait()

    async def stop(self) -> None:
        await self.session.stop()
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@contextlib.asynccontextmanager
async def connected(url: str, ca_file: str | None, **changes: Any) -> AsyncIterator[Client]:
    """Run a session, stop it, and look that nothing of it is left."""
    before = asyncio.all_tasks()
    client = Client(url, ca_file, **changes)
    try:
        yield client
    finally:
        await client.stop()
    assert client.session.state.value == "stopped"
    assert client.task not in asyncio.all_tasks()
    assert not client.line.is_live
    assert client.session._link is None
    assert client.session._tasks == {}
    assert not any(link.is_closing for link in client.session._closing)
    mine = [task for task in asyncio.all_tasks() - before if is_of_package(task)]
    assert mine == []


@contextlib.asynccontextmanager
async def serving(
    scheme: str, authority: Authority, handler: Handler, **options: Any
) -> AsyncIterator[str]:
    """Run a ``websockets`` server; yield its URL."""
    context = authority.server(HOST) if scheme == "wss" else None
    async with serve(
        handler, HOST, 0, ssl=context, compression=None, close_timeout=0.2, **options
    ) as server:
        yield f"{scheme}://{HOST}:{next(iter(server.sockets)).getsockname()[1]}/stream"
    gc.collect()


async def acknowledge(connection: ServerConnection) -> list[str]:
    """Take one subscription and acknowledge it; return its streams."""
    request = json.loads(await connection.recv())
    await connection.send(json.dumps({"c": "ack", "request": str(request["request"])}))
    return list(request["streams"])


class TestQuotesFlow:
    async def test_every_quote_reaches_the_consumer_once_and_in_order(
        self, scheme: str, authority: Authority
    ) -> None:
        asked: list[list[str]] = []

        async def venue(connection: ServerConnection) -> None:
            asked.append(await acknowledge(connection))
            for n in range(1, 5001):
                await connection.send(quote_text("BTCUSDT", n, "10", "11"))
            await connection.wait_closed()

        async with serving(scheme, authority, venue) as url:
            async with connected(url, authority.ca_file) as client:
                await client.until(lambda: len(client.seqs) >= 5000)
                assert client.seqs == list(range(1, 5001))
                # The last quotes may be read before the acknowledged session's turn comes.
                await client.until(lambda: client.session.state.value == "live")
                assert client.engine.errors == {}
            assert asked == [["BTCUSDT.quote", "ETHUSDT.quote"]]

    async def test_large_and_fragmented_messages_reach_it_as_well(
        self, scheme: str, authority: Authority
    ) -> None:
        async def venue(connection: ServerConnection) -> None:
            await acknowledge(connection)
            for n in range(1, 41, 2):
                large = quote_text("BTCUSDT", n, f"{n}", f"{n}.5")
                await connection.send(large[:-1] + " " * (n * 4_500) + "}")
                text = quote_text("BTCUSDT", n + 1, f"{n + 1}", f"{n + 1}.5")
                await connection.send([text[:7], text[7:30], text[30:]])
            await connection.wait_closed()

        async with (
            serving(scheme, authority, venue) as url,
            connected(url, authority.ca_file) as client,
        ):
            await client.until(lambda: len(client.quotes) + client.line.error_count >= 40)
            assert client.quotes == [(n, float(n), n + 0.5) for n in range(1, 41)]
            assert client.engine.errors == {}

    async def test_a_ping_of_the_server_is_answered(
        self, scheme: str, authority: Authority
    ) -> None:
        latencies: list[float] = []

        async def venue(connection: ServerConnection) -> None:
            await acknowledge(connection)
            latencies.append(await (await connection.ping(b"1723161255343")))
            await connection.send(quote_text("BTCUSDT", 1, "10", "11"))
            await connection.wait_closed()

        async with (
            serving(scheme, authority, venue, ping_interval=None) as url,
            connected(url, authority.ca_file) as client,
        ):
            await client.until(lambda: client.seqs == [1])
            assert len(latencies) == 1

    async def test_a_quiet_server_is_pinged_and_stays(
        self, scheme: str, authority: Authority
    ) -> None:
        async def venue(connection: ServerConnection) -> None:
            await acknowledge(connection)
            await connection.wait_closed()

        beat = Heartbeat(idle_s=0.05, text=None, limit_s=5.0)
        async with (
            serving(scheme, authority, venue, ping_interval=None) as url,
            connected(url, authority.ca_file, heartbeat=beat) as client,
        ):
            await client.until(lambda: client.session.state.value == "live")
            frames = client.line.frame_count
            async with asyncio.timeout(LIMIT_S):
                while client.line.frame_count < frames + 3:  # noqa: ASYNC110 - pongs
                    await asyncio.sleep(0.01)
            assert client.session.connects == 1

    async def test_stopping_closes_the_connection_in_words(
        self, scheme: str, authority: Authority
    ) -> None:
        ended: asyncio.Future[tuple[int | None, str]] = asyncio.get_running_loop().create_future()

        async def venue(connection: ServerConnection) -> None:
            await acknowledge(connection)
            await connection.wait_closed()
            ended.set_result((connection.close_code, connection.close_reason or ""))

        async with serving(scheme, authority, venue) as url:
            async with connected(url, authority.ca_file) as client:
                await client.until(lambda: client.session.state.value == "live")
            assert await asyncio.wait_for(ended, LIMIT_S) == (1000, "")


class TestBrokenConnections:
    async def test_a_cut_inside_a_frame_is_mended_and_the_records_go_on(
        self, scheme: str, authority: Authority
    ) -> None:
        asked: list[list[str]] = []

        async def venue(connection: ServerConnection) -> None:
            asked.append(await acknowledge(connection))
            first = 100 * len(asked)
            for n in range(first, first + 10):
                await connection.send(quote_text("BTCUSDT", n, "10", "11"))
            frame = encode_frame(1, quote_text("BTCUSDT", 99_999, "10", "11").encode())
            connection.transport.write(frame[: len(frame) // 2])
            if len(asked) < 4:
                await asyncio.sleep(0.02)
                connection.transport.close()
            await connection.wait_closed()

        async with (
            serving(scheme, authority, venue) as url,
            connected(url, authority.ca_file) as client,
        ):
            await client.until(lambda: len(client.seqs) >= 40)
            assert client.seqs == [100 * k + n for k in (1, 2, 3, 4) for n in range(10)]
            assert asked == [["BTCUSDT.quote", "ETHUSDT.quote"]] * 4
            assert (client.session.connects, client.session.losses) == (4, 3)
            assert len(client.lost) == 3
            assert client.engine.errors == {}

    async def test_a_server_that_does_not_read_is_given_up(
        self, scheme: str, authority: Authority
    ) -> None:
        met: list[int] = []

        async def venue(connection: ServerConnection) -> None:
            met.append(1)
            await acknowledge(connection)
            if len(met) == 1:
                connection.transport.pause_reading()  # type: ignore[attr-defined]
                sock = connection.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                with contextlib.suppress(OSError):
                    while not connection.transport.is_closing():
                        # Less than a line's most in a second, as that would be another error.
                        connection.transport.write(encode_frame(9, bytes(125)) * 90)
                        await asyncio.sleep(0.1)
            await connection.wait_closed()

        async with (
            serving(scheme, authority, venue, ping_interval=None) as url,
            connected(url, authority.ca_file) as client,
        ):
            await client.until(lambda: client.session.connects == 1)
            assert client.session._link
            assert client.session._link._protocol._transport
            sock = client.session._link._protocol._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await client.until(lambda: client.session.connects == 2)
            assert len(client.lost) == 1
            assert "write-overrun at byte 0: the venue does not read" in client.lost[0]
            assert client.engine.errors == {}

    async def test_ten_refusals_are_survived(self, scheme: str, authority: Authority) -> None:
        refused: list[str] = []

        def admit(connection: ServerConnection, request: Any) -> Any:
            if len(refused) < 10:
                refused.append(request.path)
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "try again later\n")
            return None

        async def venue(connection: ServerConnection) -> None:
            await acknowledge(connection)
            await connection.send(quote_text("BTCUSDT", 1, "10", "11"))
            await connection.wait_closed()

        async with (
            serving(scheme, authority, venue, process_request=admit) as url,
            connected(url, authority.ca_file) as client,
        ):
            await client.until(lambda: client.seqs == [1])
            assert refused == ["/stream"] * 10
            assert client.states.count("backing-off") == 10
            assert "upgrading" in client.states
            assert client.lost == []

    async def test_a_close_frame_of_the_server_is_answered_and_followed_by_a_reconnect(
        self, scheme: str, authority: Authority
    ) -> None:
        codes: list[int | None] = []

        async def venue(connection: ServerConnection) -> None:
            await acknowledge(connection)
            if len(codes) < 3:
                await connection.close(1012, "restart")
                codes.append(connection.close_code)
            else:
                await connection.send(quote_text("BTCUSDT", 1, "10", "11"))
                await connection.wait_closed()

        async with (
            serving(scheme, authority, venue) as url,
            connected(url, authority.ca_file) as client,
        ):
            await client.until(lambda: client.seqs == [1])
            assert codes == [1012] * 3
            assert client.session.losses == 3

    async def test_a_server_that_is_not_there_is_found_when_it_comes(
        self, scheme: str, authority: Authority
    ) -> None:
        async def venue(connection: ServerConnection) -> None:
            await acknowledge(connection)
            await connection.wait_closed()

        async with serving(scheme, authority, venue) as url:
            port = int(url.rpartition(":")[2].partition("/")[0])
        async with connected(url, authority.ca_file) as client:
            await client.until(lambda: client.states.count("backing-off") >= 3)
            assert "Error" in client.session.last_error
            context = authority.server(HOST) if scheme == "wss" else None
            async with serve(venue, HOST, port, ssl=context, close_timeout=0.2):
                await client.until(lambda: client.session.state.value == "live")
                await client.stop()


@contextlib.asynccontextmanager
async def bare_server(
    context: ssl.SSLContext | None, answer: Callable[[bytes], bytes]
) -> AsyncIterator[tuple[int, asyncio.Queue[bytes]]]:
    """Run a server without any library: it answers each request as it is told, then only reads.

    Yields its port, and a queue that takes what each connection sent after its request.
    """
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(request))
            await writer.drain()
            received.put_nowait(await reader.read())
        except (OSError, asyncio.IncompleteReadError) as error:
            received.put_nowait(repr(error).encode())
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve_one, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], received
    finally:
        server.close()
        await server.wait_closed()


def upgraded(request: bytes, rest: bytes) -> bytes:
    """Return a right answer and what follows it."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key_of(request)) + b"\r\n\r\n" + rest
    )


def client_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Return the frames that a client sent, which must all be masked."""
    found: list[tuple[int, bytes]] = []
    while data and (header := read_header(data, is_server=True)) is not None:
        opcode, _, header_len, payload_len, key = header
        assert key is not None
        payload = bytearray(data[header_len : header_len + payload_len])
        mask(payload, key)
        found.append((opcode, bytes(payload)))
        data = data[header_len + payload_len :]
    return found


class TestBrokenProtocol:
    @pytest.mark.parametrize(
        ("frame", "code", "name"),
        [
            (b"\x81\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e", 1002, "frame-"),
            (b"\xc1\x00", 1002, "frame-"),
            (b"\x83\x00", 1002, "frame-"),
            (b"\x80\x00", 1002, "frame-"),
            (b"\x89\x7e\x00\x80" + bytes(128), 1002, "frame-"),
            (b"\x88\x01\x03", 1002, "frame-"),
            (b"\x88\x02\x03\xed", 1002, "frame-"),
            (b"\x81\x7f" + b"\xff" * 8, 1002, "frame-"),
            (b"\x81\x7f" + (1 << 40).to_bytes(8, "big"), 1009, "frame-"),
            (b"\x81\x02\xff\xfe", 1007, "utf8"),
            (b"\x88\x04\x03\xe8\xff\xfe", 1007, "utf8"),
        ],
        ids=[
            "masked", "reserved-bit", "opcode-3", "lone-continuation", "long-ping",
            "close-of-1-byte", "close-1005", "2^64-1", "2^40", "text-no-utf8", "reason-no-utf8",
        ],
    )  # fmt: skip
    async def test_it_is_answered_with_its_close_code_and_named(
        self, scheme: str, authority: Authority, frame: bytes, code: int, name: str
    ) -> None:
        good = encode_frame(1, quote_text("BTCUSDT", 7, "10", "11").encode())
        context = authority.server(HOST) if scheme == "wss" else None
        async with bare_server(context, lambda request: upgraded(request, good + frame)) as (
            port,
            received,
        ):
            async with connected(f"{scheme}://{HOST}:{port}/", authority.ca_file) as client:
                await client.until(lambda: "backing-off" in client.states)
                assert client.seqs[0] == 7
                assert name in client.session.last_error
            frames = client_frames(await asyncio.wait_for(received.get(), LIMIT_S))
            closes = [payload for opcode, payload in frames if opcode == 8]
            assert closes == [code.to_bytes(2, "big")]

    async def test_an_answer_that_is_no_upgrade_is_named_and_opens_nothing(
        self, scheme: str, authority: Authority
    ) -> None:
        context = authority.server(HOST) if scheme == "wss" else None
        async with bare_server(
            context,
            lambda request: upgraded(request, b"").replace(accept_key(key_of(request)), b"x" * 28),
        ) as (port, received):
            async with connected(f"{scheme}://{HOST}:{port}/", authority.ca_file) as client:
                await client.until(lambda: client.session.state.value == "backing-off")
                assert "handshake-refused" in client.session.last_error
                assert client.session.connects == 0
            assert await received.get() == b""


class TestCertificates:
    async def refuse(self, context: ssl.SSLContext, ca_file: str | None, host: str = HOST) -> str:
        """Return the error with which a server is refused; it has seen no byte of a request."""
        seen: list[bytes] = []

        def answer(request: bytes) -> bytes:
            seen.append(request)
            return upgraded(request, b"")

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with (
            bare_server(context, answer) as (port, _),
            connected(f"wss://{host}:{port}/", ca_file) as client,
        ):
            await client.until(lambda: client.states.count("backing-off") >= 2)
            assert client.session.connects == 0
            assert client.seqs == []
            assert "upgrading" not in client.states
            error = client.session.last_error
        assert seen == []
        return error

    async def test_the_right_one_is_taken(self, authority: Authority) -> None:
        async with (
            bare_server(authority.server(HOST), lambda request: upgraded(request, b"")) as (
                port,
                _,
            ),
            connected(f"wss://{HOST}:{port}/", authority.ca_file) as client,
        ):
            await client.until(lambda: client.session.connects == 1)
            assert client.session.last_error == ""

    async def test_one_of_an_unknown_authority_is_refused(self, authority: Authority) -> None:
        error = await self.refuse(authority.of_a_stranger(), authority.ca_file)
        assert "tls-authority" in error

    async def test_one_that_the_system_does_not_know_is_refused(self, authority: Authority) -> None:
        error = await self.refuse(authority.server(HOST), None)
        assert "tls-authority" in error

    async def test_a_self_signed_one_is_refused(self, authority: Authority) -> None:
        error = await self.refuse(authority.self_signed(), authority.ca_file)
        assert "tls-authority" in error
        assert "self" in error

    @pytest.mark.parametrize(
        ("names", "host"),
        [(("elsewhere.example",), HOST), (("127.0.0.2",), HOST), ((HOST,), "localhost")],
    )
    async def test_one_of_another_host_is_refused(
        self, authority: Authority, names: tuple[str, ...], host: str
    ) -> None:
        error = await self.refuse(authority.server(*names), authority.ca_file, host)
        assert "tls-host" in error
        assert "not valid for" in error or "mismatch" in error

    async def test_an_expired_one_is_refused(self, authority: Authority) -> None:
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        context = authority.server(
            HOST, not_before=past, not_after=past + datetime.timedelta(days=1)
        )
        error = await self.refuse(context, authority.ca_file)
        assert "expired" in error

    async def test_a_server_that_speaks_no_newer_tls_than_1_1_is_refused(
        self, authority: Authority
    ) -> None:
        context = authority.server(HOST)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        error = await self.refuse(context, authority.ca_file)
        assert "tls-cut" in error  # asyncio's server does not say why

    async def test_a_plain_server_behind_wss_is_refused(self, authority: Authority) -> None:
        async def venue(connection: ServerConnection) -> None:
            raise AssertionError("nobody should come in")

        async with (
            serving("ws", authority, venue) as url,
            connected(url.replace("ws:", "wss:"), authority.ca_file) as client,
        ):
            await client.until(lambda: client.states.count("backing-off") >= 2)
            assert "Error" in client.session.last_error
            assert client.session.connects == 0

    async def test_plain_text_off_loopback_is_refused_before_any_connect(self) -> None:
        with pytest.raises(UsageError, match="insecure = true"):
            Client("ws://192.0.2.1/stream", None)


class TestNothingIsLeft:
    async def test_a_task_is_the_packages_by_its_code_and_not_by_its_text(self) -> None:
        async def crosswire() -> None:
            await asyncio.sleep(0)

        mine = asyncio.ensure_future(System().sleep(0.0))
        other = asyncio.ensure_future(crosswire())
        assert "crosswire" in str(other)
        assert [is_of_package(task) for task in (mine, other)] == [True, False]
        await asyncio.gather(mine, other)

    async def test_after_many_sessions_no_task_is_left(
        self, scheme: str, authority: Authority
    ) -> None:
        async def venue(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                await acknowledge(connection)
                await connection.wait_closed()

        before = len(leftovers())
        async with serving(scheme, authority, venue) as url:
            for wanted in ("connecting", "upgrading", "subscribing", "live") * 2:
                async with connected(url, authority.ca_file) as client:
                    await client.until(partial(client.has_been, wanted))
        gc.collect()
        assert len(leftovers()) == before
