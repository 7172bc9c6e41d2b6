"""What a protocol, a peer or the machine may do to the TLS engines, and what must be left behind.

Where the loop does not matter the readers are driven by hand, over a pair of sockets, so that each
step of them is the test's.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from test_tls import HOST, LIMIT_S, Client, Peer, authority, context, hold, listening, world

from crosswire import seam as crosswire_seam
from crosswire.errors import TlsError, UsageError
from crosswire.receive import connect
from crosswire.receive.tls import HANDSHAKE_LIMIT_S, REPLIES_MAX
from crosswire.seam import System
from crosswire.tls import DirectReader, PublicReader, Records, Spy
from crosswire.wake import KernelDelay

_FIXTURES = (authority, context, world)
OURS = ("direct", "public")


@pytest.fixture(params=OURS)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ------------------------------------------------------------------ a reader by hand


class Bench:
    """A reader over a pair of sockets, with the server's end in memory."""

    def __init__(self, engine: str, authority: trustme.CA, context: ssl.SSLContext) -> None:
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(own)
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._from, self._to = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.records_in = Records()
        self.server = own.wrap_bio(self._from, self._to, server_side=True)
        self.spy = Spy()
        with self.spy:
            self.client = context.wrap_bio(self.incoming, self.outgoing, server_hostname=HOST)
        self._shake_hands()
        self.window: Any = memoryview(bytearray(1 << 16))
        self.got = bytearray()
        self.ends: list[BaseException | None] = []
        self.on_get: Callable[[], None] = lambda: None
        self.on_bytes: Callable[[], None] = lambda: None
        common = (
            self.near.fileno(), self.client, self.incoming, self._get, self._take, KernelDelay(),
            lambda: None, self.ends.append,
        )  # fmt: skip
        self.reader: Any = (
            DirectReader(*common, self.spy)
            if engine == "direct"
            else PublicReader(*common, self.records_in)
        )
        self.reader.run()  # what the handshake left; a test begins behind it

    def _shake_hands(self) -> None:
        for _ in range(4):
            for work in (self.client.do_handshake, self.server.do_handshake):
                try:
                    work()
                except ssl.SSLWantReadError:
                    pass
                if not self.spy.fault:
                    self.spy.check(self.client, self.incoming, self.outgoing)
                self._from.write(self.outgoing.read())
                data = self._to.read()
                self.incoming.write(data)
                self.records_in.note(data)
        assert self.spy.fault == ""

    def _get(self, hint: int) -> Any:
        self.on_get()
        return self.window

    def _take(self, n: int) -> None:
        self.got += self.window[:n]
        self.on_bytes()

    def records(self, *payloads: bytes) -> bytes:
        for payload in payloads:
            assert self.server.write(payload) == len(payload)
        return self._to.read()

    def run(self, data: bytes = b"") -> None:
        self.far.sendall(data)
        self.reader.run()

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def bench(engine: str, authority: trustme.CA, context: ssl.SSLContext) -> Iterator[Bench]:
    bench = Bench(engine, authority, context)
    yield bench
    bench.close()


class TestBytes:
    def test_records_cut_at_every_byte_give_the_same(self, bench: Bench) -> None:
        sent, cut, size = b"", 0, 1
        while cut < size:
            payload = bytes([cut % 251]) * 60
            data = bench.records(payload, payload[:1])
            size = len(data)
            bench.run(data[:cut])
            bench.run(data[cut:])
            sent += payload + payload[:1]
            cut += 1
        assert cut > 100
        assert (bytes(bench.got), bench.ends) == (sent, [])

    @pytest.mark.parametrize("size", [1, 16383, 16384])
    def test_a_record_larger_than_the_window_is_handed_over_in_parts(
        self, bench: Bench, size: int
    ) -> None:
        bench.window = memoryview(bytearray(1 + size // 3))
        payload = os.urandom(size)
        bench.run(bench.records(payload, b"behind"))
        assert bytes(bench.got) == payload + b"behind"

    def test_it_goes_on_where_an_interrupt_left_it(self, bench: Bench) -> None:
        def stop() -> None:
            bench.on_bytes = lambda: None
            raise KeyboardInterrupt

        bench.window = memoryview(bytearray(4))
        bench.on_bytes = stop
        with pytest.raises(KeyboardInterrupt):
            bench.run(bench.records(b"0123456789"))
        assert bytes(bench.got) == b"0123"
        bench.run()
        assert (bytes(bench.got), bench.ends) == (b"0123456789", [])

    def test_a_pause_inside_a_batch_keeps_its_rest_and_what_comes_behind(
        self, bench: Bench
    ) -> None:
        bench.window = memoryview(bytearray(10))

        def pause() -> None:
            bench.reader.is_paused = True

        bench.on_bytes = pause
        bench.run(bench.records(*(bytes([n]) * 10 for n in range(5))))
        bench.far.sendall(bench.records(b"behind    "))
        for n in range(1, 6):
            assert len(bench.got) == 10 * n
            bench.reader.run()
            assert len(bench.got) == 10 * n
            bench.reader.is_paused = False
            bench.reader.run()
        assert bytes(bench.got[-20:]) == bytes([4]) * 10 + b"behind    "

    def test_a_loop_that_runs_inside_the_protocol_loses_nothing(self, bench: Bench) -> None:
        """As with nest_asyncio, where a callback may run the loop."""

        def run_inside() -> None:
            def pause() -> None:
                bench.reader.is_paused = True
                bench.on_bytes = lambda: None

            bench.on_bytes = pause
            bench.window = memoryview(bytearray(5))
            bench.run(bench.records(b"inner and", b" the rest", b" of it"))

        bench.on_bytes = run_inside
        bench.run(bench.records(b"outer"))
        assert bytes(bench.got) == b"outerinner"
        bench.reader.is_paused = False
        bench.run(bench.records(b", and more"))
        assert bytes(bench.got) == b"outerinner and the rest of it, and more"
        assert bench.ends == []


class TestWindows:
    def test_an_empty_one_ends_it(self, bench: Bench) -> None:
        bench.window = bytearray()
        bench.run(bench.records(b"x"))
        [error] = bench.ends
        assert isinstance(error, RuntimeError)
        assert "empty buffer" in str(error)

    @pytest.mark.parametrize(
        ("window", "error"),
        [
            (bytes(10), BufferError),
            (memoryview(bytes(10)), BufferError),
            (memoryview(bytearray(20))[::2], BufferError),
            (None, TypeError),
        ],
        ids=["bytes", "read-only", "with gaps", "none"],
    )
    def test_one_that_cannot_be_written_ends_it(
        self, bench: Bench, window: Any, error: type[Exception]
    ) -> None:
        bench.window = window
        bench.run(bench.records(b"x"))
        assert [type(end) for end in bench.ends] == [error]

    def test_one_that_was_released_ends_it(self, bench: Bench) -> None:
        bench.window.release()
        bench.run(bench.records(b"x"))
        assert [type(end) for end in bench.ends] == [ValueError]

    def test_asking_for_one_may_pause(self, bench: Bench) -> None:
        def pause() -> None:
            bench.reader.is_paused = True
            bench.on_get = lambda: None

        bench.on_get = pause
        bench.run(bench.records(b"x"))
        assert bench.got == b""
        bench.reader.is_paused = False
        bench.run()
        assert bench.got == b"x"

    def test_asking_for_one_may_end_it(self, bench: Bench) -> None:
        def end() -> None:
            bench.reader.is_over = True
            bench.reader.detach()

        bench.on_get = end
        bench.run(bench.records(b"x"))
        assert (bench.got, bench.ends) == (b"", [])

    def test_one_that_grows_behind_a_read_is_let_go(self, bench: Bench) -> None:
        store = bytearray(100)
        bench.window = store
        bench.on_bytes = lambda: store.extend(b"more")  # a view that is still held forbids it
        bench.run(bench.records(b"x"))
        assert (bench.ends, len(store)) == ([], 104)


def header(size: int, kind: int = 23, version: int = 3) -> bytes:
    return bytes((kind, version, 3)) + size.to_bytes(2, "big")


class TestRecords:
    STREAM = b"".join(header(n) + bytes(n) for n in (1, 7, 300, 2, 16_401))

    def test_complete_ones_are_counted_wherever_the_stream_is_cut(self) -> None:
        ends = [6, 18, 323, 330, len(self.STREAM)]
        for cut in (*range(400), *range(400, len(self.STREAM), 97), len(self.STREAM)):
            records = Records()
            records.note(self.STREAM[:cut])
            assert records.count == sum(end <= cut for end in ends)
            records.note(self.STREAM[cut:])
            assert records.count == 5

    def test_byte_by_byte_is_as_good(self) -> None:
        records = Records()
        for byte in self.STREAM:
            records.note(bytes((byte,)))
        records.note(b"")
        assert records.count == 5

    @pytest.mark.parametrize(
        "odd",
        [b"HTTP/", header(1, kind=19), header(1, kind=25), header(1, version=2), header(0),
         header(16_384 + 2049)],
    )  # fmt: skip
    def test_what_is_no_record_is_there_to_be_refused_at_its_header(self, odd: bytes) -> None:
        records = Records()
        records.note(self.STREAM + odd[:4])
        assert records.count == 5
        records.note(odd[4:])
        assert records.count == 6
        records.note(b"whatever follows")
        assert records.count > 0

    def test_the_longest_record_is_none_too_long(self) -> None:
        records = Records()
        records.note(header(16_384 + 2048))
        assert records.count == 0

    @pytest.mark.parametrize("window_size", [1, 2, 3, 4, 5, 6, 7, 12, 13, 1 << 14])
    def test_windows_of_any_size_get_all_of_them(self, bench: Bench, window_size: int) -> None:
        bench.window = memoryview(bytearray(window_size))
        data = bench.records(b"abc", b"defghi", b"j", b"klm") + bench.records(b"nopqrs" * 1000)
        for cut in range(0, len(data), 41):
            bench.run(data[cut : cut + 41])
        assert (bytes(bench.got), bench.ends) == (b"abcdefghijklm" + b"nopqrs" * 1000, [])

    def test_what_is_no_record_ends_the_stream_at_once(self, bench: Bench) -> None:
        bench.run(bench.records(b"before") + b"HTTP/")
        assert bytes(bench.got) == b"before"
        assert [type(error) for error in bench.ends] == [ssl.SSLError]


class TestWhoseConnection:
    def test_one_that_was_not_checked_is_not_taken(self, context: ssl.SSLContext) -> None:
        spy = Spy()
        with spy:
            tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
        with pytest.raises(UsageError, match="nothing was seen and checked"):
            DirectReader(0, tls, ssl.MemoryBIO(), len, len, KernelDelay(), len, len, spy)  # type: ignore[arg-type]

    @pytest.mark.parametrize("engine", ["direct"], indirect=True)
    def test_one_has_one_reader(self, bench: Bench) -> None:
        with pytest.raises(UsageError, match="nothing was seen and checked"):
            DirectReader(
                0, bench.client, bench.incoming, len, len, KernelDelay(), len, len, bench.spy  # type: ignore
            )  # fmt: skip

    @pytest.mark.parametrize("engine", ["direct"], indirect=True)
    def test_an_error_that_others_left_in_openssl_is_not_its_own(self, bench: Bench) -> None:
        import _ssl

        crypto = ctypes.CDLL(_ssl.__file__)
        if not hasattr(crypto, "ERR_set_error"):
            pytest.skip("NO STALE ERROR: this OpenSSL is older than 3.0")
        crypto.ERR_peek_error.restype = ctypes.c_ulong
        crypto.ERR_new()
        crypto.ERR_set_error(6, 100, None)  # of the library EVP
        assert crypto.ERR_peek_error()
        bench.run(bench.records(b"as ever"))
        assert (bytes(bench.got), bench.ends) == (b"as ever", [])
        assert not crypto.ERR_peek_error()


# ------------------------------------------------------------------ on a loop

COLLECTED = """
import asyncio, gc, socket, ssl, sys, threading, warnings
from crosswire.receive import connect
from crosswire.seam import System

engine, loop_name, folder = sys.argv[1:]
if loop_name == "uvloop":
    import uvloop
    new_loop = uvloop.new_event_loop
else:
    new_loop = asyncio.SelectorEventLoop
warnings.simplefilter("ignore", ResourceWarning)  # that of the sockets, which is the point
own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
own.load_cert_chain(folder + "/server.pem")
context = ssl.create_default_context(cafile=folder + "/ca.pem")
listener = socket.create_server(("127.0.0.1", 0))

def serve():
    while True:
        sock, _ = listener.accept()
        sock = own.wrap_socket(sock, server_side=True)
        sock.send(b"hello")
        kept.append(sock)

class Client(asyncio.BufferedProtocol):
    def __init__(self):
        self.window, self.come = bytearray(100), asyncio.Event()
    def connection_made(self, transport):
        self.transport = transport
    def get_buffer(self, hint):
        return self.window
    def buffer_updated(self, n):
        self.come.set()

async def main():
    _, client = await connect(
        System(), Client, "127.0.0.1", listener.getsockname()[1], context, engine=engine
    )
    await client.come.wait()

kept = []
threading.Thread(target=serve, daemon=True).start()
for _ in range(10):
    loop = new_loop()
    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
print("alive", flush=True)
"""


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
def test_a_loop_that_was_closed_is_collected_with_its_connections(
    engine: str, loop_name: str, authority: trustme.CA, tmp_path: Path
) -> None:
    if loop_name == "uvloop":
        pytest.importorskip("uvloop")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert(HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    done = subprocess.run(
        [sys.executable, "-c", COLLECTED, engine, loop_name, str(tmp_path)],
        env={**os.environ, "MALLOC_PERTURB_": "165"},  # memory that was freed is no pointer
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.decode()) == (0, b"alive\n", "")


@pytest.mark.transport
class TestProtocols:
    async def test_one_that_fails_at_the_start_leaves_no_socket(self, world: Any) -> None:
        class Failing(Client):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                raise LookupError("of the protocol")

        async with world(hold) as w:
            made: list[Client] = []

            def make() -> Client:
                made.append(Failing())
                return made[-1]

            with pytest.raises(LookupError):
                await w.client(make)
            [client] = made
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            await asyncio.sleep(0)
            assert client.transport.get_extra_info("socket").fileno() == -1

    async def test_one_that_is_cancelled_at_the_end_leaves_no_socket(self, world: Any) -> None:
        class Cancelled(Client):
            def eof_received(self) -> bool:
                raise asyncio.CancelledError

        async def end(peer: Peer) -> None:
            await peer.put(peer.goodbye())
            await hold(peer)

        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: seen.append(told))
        async with world(end) as w:
            client = await w.client(Cancelled)
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            assert [type(told["exception"]) for told in seen] == [asyncio.CancelledError]

    async def test_one_that_fails_when_told_to_pause_is_told_and_goes_on(self, world: Any) -> None:
        class Failing(Client):
            def pause_writing(self) -> None:
                super().pause_writing()
                raise LookupError("of the protocol")

        may_read = asyncio.Event()
        got: list[bytes] = []
        size = 1 << 23

        async def sink(peer: Peer) -> None:
            await may_read.wait()
            got.append(await peer.read(size))

        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: seen.append(told))
        async with world(sink) as w:
            client = await w.client(Failing)
            client.transport.write(bytes(size))
            assert client.told == ["pause"]
            assert [type(told["exception"]) for told in seen] == [LookupError]
            may_read.set()
            await client.until(lambda: client.told == ["pause", "resume"])
            client.transport.close()
            assert await asyncio.wait_for(client.lost, LIMIT_S) is None
            assert got == [bytes(size)]

    @pytest.mark.parametrize("how", ["close", "abort", "pause and abort", "write and close"])
    async def test_one_may_end_it_and_let_all_go_inside_a_read(self, world: Any, how: str) -> None:
        async def send(peer: Peer) -> None:
            await peer.put(peer.records(*(b"0123456789" for _ in range(50))))
            await hold(peer)

        async with world(send) as w:
            client = await w.client(lambda: Client(10))
            lost = client.lost
            transport = client.transport
            watched = weakref.ref(transport)
            del transport

            def end(client: Client) -> None:
                client.on_bytes = lambda: None
                transport, client.transport = client.transport, None
                if "pause" in how:
                    transport.pause_reading()
                if "write" in how:
                    transport.write(bytes(1 << 20))
                getattr(transport, how.split()[-1])()
                del transport
                gc.collect()

            client.on_bytes = partial(end, client)
            error = await asyncio.wait_for(lost, LIMIT_S)
            assert error is None or how == "write and close"
            assert len(client.got) == 10
            await asyncio.sleep(0)
            gc.collect()
            assert watched() is None

    async def test_nothing_needs_the_collection_of_garbage(self, world: Any) -> None:
        async with world(hold) as w:
            watched: list[weakref.ref[Any]] = []
            gc.collect()
            gc.disable()
            try:
                for number in range(20):
                    client = await w.client()
                    watched.append(weakref.ref(client.transport))
                    getattr(client.transport, ("close", "abort")[number % 2])()
                    assert await asyncio.wait_for(client.lost, LIMIT_S) is None
                    client.transport = None  # as a protocol does that is told the end
                    del client
                await asyncio.sleep(0)
                assert [ref for ref in watched if ref() is not None] == []
            finally:
                gc.enable()


@pytest.mark.transport
async def test_a_peer_that_asks_and_does_not_read_is_cut(world: Any, engine: str) -> None:
    async def sleep(peer: Peer) -> None:
        await asyncio.Event().wait()

    async with world(sleep) as w:
        client = await w.client()
        transport = client.transport
        for _ in range(10_000):  # as long as the system takes them, nothing waits
            transport._outgoing.write(b"a key update")
            transport._send_replies()
        assert not transport.is_closing()
        while not client.told:
            transport.write(bytes(1 << 16))
        size = transport.get_write_buffer_size()
        count = 0
        while not transport.is_closing():
            transport._outgoing.write(b"a key update")
            transport._send_replies()
            count += 1
            assert transport.get_write_buffer_size() <= size + REPLIES_MAX
        assert count == REPLIES_MAX // len(b"a key update") + 1
        error = await asyncio.wait_for(client.lost, LIMIT_S)
        assert isinstance(error, OSError)
        assert "does not read" in str(error)


@pytest.mark.transport
class TestPlaces:
    async def test_a_session_is_not_offered_under_another_name(self, world: Any) -> None:
        """The certificate of a connection that resumes is not looked at again."""

        async def send(peer: Peer) -> None:
            await peer.put(peer.records(b"x"))
            await hold(peer)

        async with world(send) as w:
            client = await w.client()
            await client.until(lambda: client.got == b"x")
            client.transport.close()
            await asyncio.wait_for(client.lost, LIMIT_S)
            with pytest.raises(TlsError, match=r"tls-host: .*Hostname mismatch"):
                await connect(
                    System(), Client, "localhost", w.port, w.context, w.resumption, w.engine
                )

    async def test_its_names_are_told_to_the_end_and_behind_it(self, world: Any) -> None:
        async def leave(peer: Peer) -> None:
            await peer.read(2)
            peer.reset()

        async with world(leave) as w:
            client = await w.client()
            told: list[Any] = []
            client.transport.write(b"go")
            client.lost.add_done_callback(
                lambda _: told.append(client.transport.get_extra_info("peername"))
            )
            await asyncio.wait_for(client.lost, LIMIT_S)
            await asyncio.sleep(0)
            assert told == [(HOST, w.port)]
            assert client.transport.get_extra_info("peername") == (HOST, w.port)
            assert client.transport.get_extra_info("sockname")[0] == HOST

    async def test_a_peer_that_never_shakes_hands_is_given_up(
        self, engine: str, context: ssl.SSLContext
    ) -> None:
        asked: list[float] = []

        class Seam(System):
            def timeout(self, seconds: float) -> Any:
                asked.append(seconds)
                return super().timeout(0.01)

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with listening(mute) as port:
            with pytest.raises(TlsError, match="tls-late: no TLS handshake within 60 s"):
                await connect(Seam(), Client, HOST, port, context, None, engine)
        assert asked == [HANDSHAKE_LIMIT_S]

    async def test_a_family_that_this_machine_does_not_speak_is_passed_by(
        self, world: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def look_up(host: str, port: int) -> list[Any]:
            kind = socket.SOCK_STREAM
            return [
                (9999, kind, 0, "", ("::", port)),
                (socket.AF_INET, kind, 0, "", (HOST, port)),
            ]

        monkeypatch.setattr(crosswire_seam, "_look_up", look_up)
        async with world(hold) as w:
            client = await w.client()
            client.transport.abort()
            assert await client.lost is None


class TestNames:
    @pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
    def test_one_whose_lookup_hangs_holds_up_nothing(
        self, loop_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither the limit of a connect nor the end of its loop; threads cannot be broken off."""
        factory: Any = asyncio.SelectorEventLoop
        if loop_name == "uvloop":
            factory = pytest.importorskip("uvloop").new_event_loop
        answer = threading.Event()
        asked = socket.getaddrinfo

        def hang(host: Any, *arguments: Any, flags: int = 0, **options: Any) -> Any:
            if not flags:
                answer.wait()
                raise socket.gaierror(socket.EAI_AGAIN, "nobody answered")
            return asked(host, *arguments, flags=flags, **options)

        monkeypatch.setattr(socket, "getaddrinfo", hang)

        async def main() -> None:
            for _ in range(40):  # more than a pool has threads
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await System().open_socket("hangs.example", 1)
            assert await asyncio.to_thread(lambda: "there is a thread left")

        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main())
            threads = [t for t in threading.enumerate() if t.name == "crosswire-lookup"]
            assert len(threads) == 40
            assert all(thread.daemon for thread in threads)
        finally:
            answer.set()
        for thread in threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive()

    async def test_one_that_is_not_known_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: Any, **options: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        with pytest.raises(socket.gaierror):
            await System().open_socket("nothing.invalid", 1)


@pytest.mark.transport
@pytest.mark.skipif(shutil.which("openssl") is None, reason="NO RENEGOTIATION: no openssl here")
async def test_what_is_written_inside_a_renegotiation_waits_for_it(
    engine: str, authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    path = tmp_path / "server.pem"
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(path)
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        "openssl", "s_server", "-accept", f"{HOST}:{port}", "-cert", path, "-key", path,
        "-tls1_2", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert server.stdin
    assert server.stdout
    seen: list[bytes] = []

    async def until(mark: bytes) -> None:
        async with asyncio.timeout(LIMIT_S):
            while mark not in (line := await server.stdout.readline()):
                assert line
                seen.append(line)

    try:
        await until(b"ACCEPT")
        _, client = await connect(System(), Client, HOST, port, context, None, engine)
        assert isinstance(client, Client)
        loop = asyncio.get_running_loop()
        count = waits = 0

        def write() -> None:
            """Write in every turn, and ask for one again and again, until a write is inside."""
            nonlocal count, waits
            assert server.stdin
            if not (client.lost.done() or waits):
                if count % 500 == 0:
                    server.stdin.write(b"r\n")
                client.transport.write(b"line %d\n" % count)
                count += 1
                waits += client.transport.get_write_buffer_size() > 0
                loop.call_soon(write)
            else:
                client.changed.set()

        write()
        await client.until(lambda: bool(waits) or client.lost.done())
        assert not client.lost.done()
        client.transport.write(b"behind it\n")
        await until(b"behind it")
        lines = [line for line in seen if line.startswith(b"line ")]
        assert lines == [b"line %d\n" % n for n in range(count)]
        client.transport.abort()
        assert await client.lost is None
    finally:
        server.kill()
        await server.wait()
