"""What a wake-up costs: one message at a time from another process, at a given pace.

A server of its own sends frames one by one, each when it is due, but not before the client has read
the one before and had time to sleep: so a client wakes up once for each, however busy the machine
is. The server sees that at the client's own socket, of which it has a descriptor, without a cost to
the client. Where the time until a signal is measured, messages are sent from C when they are due,
without a look. Clients have a connection each, all of one thread, and messages come to one
after the other in short windows; server and clients keep to a processor each. What is measured is
the CPU time of the client's thread for each message, everything in it (epoll, loop, recv,
protocol), or the median time from when a message was due to the signal that it made, on the one
monotonic clock.

The server's time is not measured: it waits by looking at the clock.

Run as a program (``python -m benchmarks.wake FOLDER``) this module is the server, with the key and
certificate in that folder: it prints its two ports, plain and TLS, and does what the lines on stdin
say. With ``echo`` in place of a folder it is the echo of the round trips, in C, which never sleeps
(``benchmarks/roundtrip.c``); it prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import functools
import itertools
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

from crosswire.codec import encode_frame
from crosswire.engine import Engine
from crosswire.handshake import ClientHandshake
from crosswire.instruments import Pair
from crosswire.line import Line
from crosswire.receive import LineProtocol, connect
from crosswire.seam import System
from crosswire.venues import venue
from crosswire.wake import Spin

from . import common, kernels, loopback

HOST = "127.0.0.1"
WARM_UP = 50
"""Messages at the same pace before each window."""
SETTLE_S = 0.005
LATE_S = 30.0
RECORD_SIZE = loopback.FRAME_SIZE + 22
"""Of a TLS 1.3 record with one frame: header, kind of content and tag about it."""
PACE_NS = 25_000
"""40,000 messages a second."""
SLOW_NS = 500_000
"""2,000 a second: the thread and its processor sleep in between."""

LOOK_AGAIN_NS = 5_000
"""How long the server leaves the socket of a client alone that has not read it yet."""
REST_NS = 16_000
"""How long a client that has read has at least until the next message: it should sleep by then, for
who is busy still when it comes is spared the wake-up."""

Measure = Callable[[int], Awaitable[float]]
"""messages → ns of a message, in one window."""
Client = Callable[["Server"], contextlib.AbstractAsyncContextManager[Measure]]
"""server → a connection to it, as long as the context is, and what measures it."""


# ------------------------------------------------------------------ the server


def _quote(due_ns: int, number: int) -> bytes:
    """A bookTicker whose update number is the time at which it is due, and whose price changes."""
    text = (
        f'{{"u":{due_ns},"s":"BTCUSDT","b":"61837.{60 + number % 2}000000","B":"3.70000000",'
        f'"a":"61838.{60 + number % 2}000000","A":"1.50000000"}}'
    )
    return encode_frame(1, text.encode())


def _payloads(kind: str, count: int) -> list[bytes]:
    if kind == "quotes":
        begin = time.monotonic_ns()
        return [_quote(begin + i, i) for i in range(count)]
    size = RECORD_SIZE - 4 if kind == "records" else loopback.MESSAGE_SIZE
    return [encode_frame(1, b"x" * size)] * count


class _Connection:
    """The server's end of one connection, plain or TLS.

    Args:
        sock: accepted.
        context: of TLS, or ``None``.

    Attributes:
        client: a descriptor of the client's own socket.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.client = -1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls: ssl.SSLObject | None = None
        if context:
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
            self._step(self.tls.do_handshake)

    def _step(self, work: Callable[[], Any]) -> Any:
        while True:
            try:
                result = work()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self.sock.recv(65536))
        self.sock.sendall(self.outgoing.read())
        return result

    def upgrade(self) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += self._read()
        self.sock.sendall(self.packed(loopback.answer(request)))

    def _read(self) -> bytes:
        tls = self.tls
        return self._step(lambda: tls.read(65536)) if tls else self.sock.recv(65536)

    def packed(self, payload: bytes) -> bytes:
        if self.tls is None:
            return payload
        self.tls.write(payload)
        return self.outgoing.read()

    def send(self, kind: str, count: int, pace_ns: int) -> None:
        """Send each when it is due, which is later where the one before was read late: a pause of
        the client, who may have to wait for its processor, is the delay of one message and not of
        all behind it. All are prepared before."""
        due = time.monotonic_ns() + 2_000_000 + count * 10_000
        ready = [self.packed(data) for data in _payloads(kind, count)]
        send, clock = self.sock.send, time.monotonic_ns
        ioctl, unread, nothing = fcntl.ioctl, termios.FIONREAD, bytes(4)
        for data in ready:
            while clock() < due:
                pass
            send(data)
            while ioctl(self.client, unread, nothing) != nothing:
                again = clock() + LOOK_AGAIN_NS
                while clock() < again:
                    pass
            due = max(due + pace_ns, clock() + REST_NS)

    def send_timed(self, count: int, pace_ns: int) -> None:
        """Send quotes that tell when they are due, each at that very time, from C: between two of
        them the sender does nothing but look at the clock, and leaves the client's socket alone,
        whose lock the client would have to wait for."""
        library = _library()
        first = time.monotonic_ns() + 2_000_000 + count * 50_000
        due = [first + i * pace_ns for i in range(count)]
        ready = [self.packed(_quote(due_ns, i)) for i, due_ns in enumerate(due)]
        numbers = ctypes.c_int64 * count
        if library.send_when_due(
            self.sock.fileno(),
            b"".join(ready),
            numbers(*map(len, ready)),
            numbers(*due),
            ctypes.c_size_t(count),
        ):
            raise RuntimeError("the client is gone")


def _serve(folder: Path, channel: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    plain, secure = socket.create_server((HOST, 0)), socket.create_server((HOST, 0))
    print(plain.getsockname()[1], secure.getsockname()[1], flush=True)
    connections: list[_Connection] = []
    for line in sys.stdin:
        match line.split():
            case ["plain"]:
                connections.append(_Connection(plain.accept()[0], None))
            case ["tls"]:
                connections.append(_Connection(secure.accept()[0], context))
            case ["upgrade"]:
                connections[-1].upgrade()
            case ["watch"]:
                connections[-1].client = socket.recv_fds(channel, 1, 1)[1][0]
            case ["send", number, kind, count, pace_ns]:
                connection = connections[int(number)]
                if kind == "timed":
                    connection.send_timed(int(count), int(pace_ns))
                else:
                    connection.send(kind, int(count), int(pace_ns))
                os.write(1, b"sent\n")  # at once: whoever waits reads it with one read
            case _:
                raise ValueError(line)


def _pin(place: int) -> set[int]:
    """Keep to one of the processors; returns those that were allowed before."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) > 1:
        os.sched_setaffinity(0, {sorted(allowed)[place]})
    return allowed


class Server:
    """The running server, as clients see it.

    Attributes:
        plain_port, tls_port: where it listens.
        context: verifies it.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], channel: socket.socket, context: ssl.SSLContext
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.plain_port, self.tls_port = map(int, self._out.readline().split())
        os.set_blocking(self._out.fileno(), False)
        self._channel = channel
        self._count = 0
        self.context = context

    def tell(self, line: str) -> None:
        """Have something done in the order of the calls; a connection is accepted then."""
        self._in.write(line.encode() + b"\n")

    def watch(self, sock: Any) -> Connection:
        """Return what messages can be sent to: the connection that was accepted last, whose
        client's socket this is."""
        socket.send_fds(self._channel, [b"."], [sock.fileno()])
        self.tell("watch")
        self._count += 1
        return Connection(self, self._count - 1)

    async def answer(self) -> None:
        """Wait until what was told last is done."""
        loop, fd = asyncio.get_running_loop(), self._out.fileno()
        answer: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            with contextlib.suppress(BlockingIOError):
                answer.set_result(os.read(fd, 64))

        loop.add_reader(fd, read)
        try:
            async with asyncio.timeout(LATE_S):
                if (found := await answer) != b"sent\n":
                    raise RuntimeError(f"the server says {found!r}")
        finally:
            loop.remove_reader(fd)


class Connection:
    """A connection that the server can send to."""

    def __init__(self, server: Server, number: int) -> None:
        self._server, self._number = server, number

    async def send(self, kind: str, count: int, pace_ns: int) -> None:
        """Have messages sent; returns when all were read."""
        self._server.tell(f"send {self._number} {kind} {count} {pace_ns}")
        await self._server.answer()
        await asyncio.sleep(SETTLE_S)

    async def cost(self, kind: str, count: int) -> float:
        """Return the ns of this thread's CPU for each message, behind a warm-up."""
        await self.send(kind, WARM_UP, PACE_NS)
        began = time.thread_time_ns()
        await self.send(kind, count, PACE_NS)
        return (time.thread_time_ns() - began) / count


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Run the server, with a throw-away certificate, on a processor of its own."""
    import trustme

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = trustme.CA()
        certificate = authority.issue_cert(HOST)
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        ours, its = socket.socketpair()
        with ours, its, _program(name, its.fileno()) as process:
            yield Server(process, ours, context)


@contextlib.contextmanager
def _program(*arguments: str | int) -> Iterator[subprocess.Popen[bytes]]:
    """Run this module, and keep this process off its processor; numbers are descriptors for it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.wake", *map(str, arguments)],
        pass_fds=[fd for fd in arguments if isinstance(fd, int)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    allowed = _pin(0)
    try:
        yield process
    finally:
        os.sched_setaffinity(0, allowed)
        process.stdin.close()
        process.stdout.close()
        process.kill()  # it may wait for a client that is gone
        process.wait(10)


# ------------------------------------------------------------------ clients


class Null(asyncio.BufferedProtocol):
    """Counts bytes."""

    def __init__(self) -> None:
        self.total = 0
        self.buffer = memoryview(bytearray(1 << 18))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, n: int) -> None:
        self.total += n


def _check(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise RuntimeError(f"{found} {what} in place of {expected}")


@contextlib.asynccontextmanager
async def bare(server: Server) -> AsyncIterator[Measure]:
    """Receive as many bytes as a record has, and throw them away."""
    loop = asyncio.get_running_loop()
    buffer, total = bytearray(1 << 18), 0

    def run() -> None:
        nonlocal total
        total += sock.recv_into(buffer)

    async def measure(count: int) -> float:
        nonlocal total
        total = 0
        took = await connection.cost("records", count)
        _check(total, (WARM_UP + count) * RECORD_SIZE, "bytes")
        return took

    server.tell("plain")
    with socket.create_connection((HOST, server.plain_port)) as sock:
        sock.setblocking(False)
        connection = server.watch(sock)
        loop.add_reader(sock, run)
        try:
            yield measure
        finally:
            loop.remove_reader(sock)


def decrypted(engine: str) -> Client:
    """Return a client of one of our TLS engines; ``asyncio`` is the loop's own transport."""

    @contextlib.asynccontextmanager
    async def client(server: Server) -> AsyncIterator[Measure]:
        null = Null()

        async def measure(count: int) -> float:
            null.total = 0
            took = await connection.cost("frames", count)
            _check(null.total, (WARM_UP + count) * loopback.FRAME_SIZE, "bytes")
            return took

        server.tell("tls")
        transport, _ = await connect(
            System(), lambda: null, HOST, server.tls_port, server.context, engine=engine
        )
        taken = transport.get_extra_info("tls_engine", "asyncio")
        if taken != engine:
            raise RuntimeError(f"the engine is {taken} in place of {engine}")
        connection = server.watch(transport.get_extra_info("socket"))
        try:
            yield measure
        finally:
            cast(asyncio.Transport, transport).abort()

    return client


@contextlib.asynccontextmanager
async def counted(server: Server) -> AsyncIterator[Measure]:
    """Count the bytes of quotes."""
    null = Null()

    async def measure(count: int) -> float:
        null.total = 0
        took = await connection.cost("quotes", count)
        size = len(_quote(time.monotonic_ns(), 0))
        _check(null.total, (WARM_UP + count) * size, "bytes")
        return took

    server.tell("plain")
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: null, HOST, server.plain_port
    )
    connection = server.watch(transport.get_extra_info("socket"))
    try:
        yield measure
    finally:
        transport.abort()


@contextlib.asynccontextmanager
async def _upgraded(server: Server, line: Line, is_secure: bool) -> AsyncIterator[Connection]:
    """Open a connection of ours behind its upgrade."""
    name, port = ("tls", server.tls_port) if is_secure else ("plain", server.plain_port)
    seam = System()
    handshake = ClientHandshake(f"ws://{HOST}:{port}/")
    protocol = LineProtocol(line, handshake, seam, lambda ts, mono: None, 1.0)
    server.tell(name)
    server.tell("upgrade")
    context = server.context if is_secure else None
    transport, _ = await connect(seam, lambda: protocol, HOST, port, context)
    await protocol.upgraded
    try:
        yield server.watch(transport.get_extra_info("socket"))
    finally:
        protocol.abort()
        line.lose(seam.time_ns(), seam.monotonic_ns())


@contextlib.asynccontextmanager
async def quoted(server: Server) -> AsyncIterator[Measure]:
    """Take quotes into the top of book."""
    engine, line = common.quotes_line("binance", common.SYMBOLS)

    async def measure(count: int) -> float:
        before = engine.message_count
        took = await connection.cost("quotes", count)
        _check(engine.message_count - before, WARM_UP + count, "messages")
        _check(len(engine.errors), 0, "errors")
        return took

    async with _upgraded(server, line, is_secure=False) as connection:
        yield measure


def signalled(waiting: Callable[[], contextlib.AbstractContextManager[object]]) -> Client:
    """Return a client whose every message, over TLS, makes a signal; its measure is the median from
    when a message was due to the call with its signal, inside of the context ``waiting()``."""

    @contextlib.asynccontextmanager
    async def client(server: Server) -> AsyncIterator[Measure]:
        clock = time.monotonic_ns
        line = crossed_line()
        took: list[int] = []

        def on_signals(signals: Any) -> None:
            now = clock()
            took.extend(now - int(due) for due in signals["legs"]["book_seq"].max(axis=1))

        async def measure(count: int) -> float:
            with waiting():
                await connection.send("timed", WARM_UP, SLOW_NS)  # an even number: see _quote
                took.clear()
                await connection.send("timed", count, SLOW_NS)
            _check(len(took), count, "signals")
            return common.median(took)

        line.engine.on_signals = on_signals
        async with _upgraded(server, line, is_secure=True) as connection:
            yield measure

    return client


def crossed_line() -> Line:
    """Return a line of which each of the server's quotes updates an open pair."""
    engine = Engine()
    for name in ("binance", "okx"):
        engine.add_venue(name, venue(name).layout, liveness_limit_s=3600)  # one is quoted once
    btc = engine.add_instrument("binance", "BTCUSDT", fee_bps=0.0)
    other = engine.add_instrument("okx", "BTC-USDT", fee_bps=0.0)
    engine.set_pairs([Pair(1, btc, other, open_net_bps=0.0)])
    line = Line(engine, "okx")
    line.open(time.time_ns(), time.monotonic_ns())
    text = (
        b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":'
        b'[["60001","5","0","1"]],"bids":[["60000","5","0","1"]],"ts":"1","seqId":1}]}'
    )
    line.feed(encode_frame(1, text), time.time_ns(), time.monotonic_ns())
    return Line(engine, "binance")


# ------------------------------------------------------------------ round trips

TRIP_SIZE = 130
TRIPS = 3000
"""Of a window."""


@functools.cache
def _library() -> ctypes.CDLL:
    return kernels.build([Path(__file__).with_name("roundtrip.c")])


def _echo() -> None:
    library = _library()
    with socket.create_server((HOST, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                library.echo(sock.fileno())


def _dialled(port: int) -> socket.socket:
    sock = socket.create_connection((HOST, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _polled(port: int) -> float:
    """Return p50 of round trips by a client in C that looks all the time, in ns."""
    found = (ctypes.c_int64 * TRIPS)()
    data = bytes(TRIP_SIZE)
    with _dialled(port) as sock:
        if _library().round_trips(
            sock.fileno(), data, ctypes.c_size_t(len(data)), ctypes.c_size_t(TRIPS), found
        ):
            raise RuntimeError("the echo is gone")
    return common.median(found)


async def _spun(port: int) -> float:
    """Return p50 of round trips by a reader on a spinning loop, in ns: it receives and sends by
    itself, at once, as :class:`~crosswire.receive.tls.TlsTransport` does."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    data, buffer = bytes(TRIP_SIZE), bytearray(1 << 16)
    stamps: list[int] = []
    with _dialled(port) as sock, Spin():
        sock.setblocking(False)
        stamp, clock, take, put = stamps.append, time.monotonic_ns, sock.recv_into, sock.send

        def run() -> None:
            if take(buffer) != TRIP_SIZE:
                done.set_exception(RuntimeError("the echo came in pieces, or ended"))
                return
            put(data)  # at once: what is noted is noted while the message is on its way
            stamp(clock())
            if len(stamps) > TRIPS:
                loop.remove_reader(sock)
                done.set_result(None)

        loop.add_reader(sock, run)
        stamp(clock())
        put(data)
        try:
            await done
        finally:
            loop.remove_reader(sock)
    return common.median([b - a for a, b in itertools.pairwise(stamps)])


def round_trips(
    *, loop_factory: Callable[[], asyncio.AbstractEventLoop], windows: int
) -> common.Sample:
    """Go to and fro by turns; returns p50 of each window, of the loop and of the client in C."""
    _library()
    sample = common.Sample([], [])

    async def turns(port: int) -> None:
        for i in range(-1, windows):
            for k in (0, 1) if i % 2 else (1, 0):
                took = _polled(port) if k else await _spun(port)
                if i >= 0:
                    sample[k].append(took)

    with _program("echo") as process, asyncio.Runner(loop_factory=loop_factory) as runner:
        assert process.stdout is not None
        runner.run(turns(int(process.stdout.readline())))
    return sample


# ------------------------------------------------------------------ by turns


def take_turns(
    clients: tuple[Client, ...],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    windows: int,
    count: int,
) -> list[list[float]]:
    """Send ``count`` messages to each client by turns, on one loop; returns the windows of each."""
    found: list[list[float]] = [[] for _ in clients]

    async def turns(running: Server) -> None:
        async with contextlib.AsyncExitStack() as stack:
            measures = [await stack.enter_async_context(client(running)) for client in clients]
            places = list(range(len(measures)))
            for i in range(-1, windows):
                for k in places if i % 2 else reversed(places):
                    took = await measures[k](count)
                    if i >= 0:
                        found[k].append(took)

    with server() as running, asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(turns(running))
    return found


def two_of(mine: Client, peer: Client, **how: Any) -> common.Sample:
    """Return two by turns."""
    return common.Sample(*take_turns((mine, peer), **how))


def above_bare(mine: Client, peer: Client, **how: Any) -> common.Sample:
    """Return two by turns, less what receiving alone took in the same turn."""
    ours, others, floor = take_turns((mine, peer, bare), **how)
    return common.Sample(
        [a - b for a, b in zip(ours, floor, strict=True)],
        [a - b for a, b in zip(others, floor, strict=True)],
    )


if __name__ == "__main__":
    _pin(-1)
    if sys.argv[1] == "echo":
        _echo()
    _serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
