"""A firehose on loopback, and clients that drink from it by turns.

The server is a process of its own: it answers the upgrade, then sends 256 KiB of pre-built frames
whenever it is asked to. A client connects, reads past the first two MiB, and measures its thread's
CPU time while a given number of messages comes in; then it hangs up, and the next one has its
turn. All run on one uvloop in one thread, so that thread's clock tells what each costs: reading
from the kernel, the loop and the library.

A server that never stops sending would be simpler, but not a measure: whether its packets pass
through the kernel on the server's CPU time or, behind an acknowledgement, on the client's, is up
to the scheduler, and makes a factor of three for the cheapest client. So whenever the kernel has
nothing more to read, the client asks for more and waits, off the clock, until all of it is there.

Run as a program (``python -m benchmarks.loopback KIND``) this module is the server; it prints
its port, sends once for every byte on stdin, and ends when that does.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import os
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from crosswire.codec import encode_frame
from crosswire.engine import Engine
from crosswire.line import Line
from crosswire.venue import Field, Layout, Message, Record, Slot, Text

from . import common

BLOCK_SIZE = 512 * 1024
WARM_UP_BYTES = 4 * BLOCK_SIZE
BURST_SIZE = 256 * 1024
MESSAGE_SIZE = 150
FRAME_SIZE = MESSAGE_SIZE + 4

COUNTED_LAYOUT = Layout(
    messages=(Message("counted", Record.COUNTED, None, {"s": Field(Slot.SYMBOL, Text.STRING)}),),
    envelope="data",
)
"""A venue whose bookTickers are counted for their symbol and not decoded further."""


# ------------------------------------------------------------------ what is sent


def messages(kind: str) -> list[bytes]:
    """Return messages of exactly 150 bytes: letters, or, for ``quotes``, bookTickers.

    The quotes stand in the combined envelope; the stream's name is drawn out to the length.
    """
    if kind != "quotes":
        return [bytes(97 + (i + k) % 26 for k in range(MESSAGE_SIZE)) for i in range(1000)]
    return [
        message.replace(
            b"@bookTicker", b"@bookTicker".ljust(11 + MESSAGE_SIZE - len(message), b"_")
        )
        for message in common.combined()
        if len(message) <= MESSAGE_SIZE
    ]


def block(kind: str) -> tuple[bytes, int]:
    """Return a block of whole frames of at most 512 KiB, and how many messages it has."""
    texts = messages(kind)
    count = BLOCK_SIZE // FRAME_SIZE
    opcode = 2 if kind == "binary" else 1
    return b"".join(encode_frame(opcode, texts[i % len(texts)]) for i in range(count)), count


# ------------------------------------------------------------------ the server


def answer(request: bytes) -> bytes:
    key = next(
        line.partition(b":")[2].strip()
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def _serve_one(connection: socket.socket, data: bytes, asked: threading.Semaphore) -> None:
    with connection, contextlib.suppress(ConnectionError):
        request = b""
        while b"\r\n\r\n" not in request:
            piece = connection.recv(65536)
            if not piece:
                return
            request += piece
        connection.sendall(answer(request))
        at = 0
        twice = memoryview(data + data)
        while True:
            asked.acquire()
            connection.sendall(twice[at : at + BURST_SIZE])
            at = (at + BURST_SIZE) % len(data)


def _serve(kind: str) -> None:
    data, _ = block(kind)
    listener = socket.create_server(("127.0.0.1", 0))
    asked = [threading.Semaphore(0)]  # of the connection whose turn it is, the latest one

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            asked[0] = threading.Semaphore(0)
            work = (connection, data, asked[0])
            threading.Thread(target=_serve_one, args=work, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    while os.read(0, 1):
        asked[0].release()


class Firehose(NamedTuple):
    """A running server: ``more`` is a descriptor; each byte written to it asks for a burst."""

    port: int
    more: int


@contextlib.contextmanager
def server(kind: str) -> Iterator[Firehose]:
    """Run the server as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.loopback", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Firehose(int(process.stdout.readline()), process.stdin.fileno())
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


# ------------------------------------------------------------------ clients

Client = Callable[[Firehose, int], Coroutine[Any, Any, float]]
"""(server, messages) → thread CPU ns per message."""


def _handshake(port: int) -> socket.socket:
    """Return a connected socket of which the upgrade's answer, and no more, has been read."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    sock.setblocking(False)
    return sock


class _Bursts:
    """Asks for a burst whenever the kernel has nothing to read; the wait is off the clock."""

    def __init__(self, firehose: Firehose) -> None:
        self.firehose = firehose
        self.waited_ns = 0
        self.is_open = False

    def open(self, transport: Any) -> None:
        """Begin to look before every turn of the loop."""
        self.fd = transport.get_extra_info("socket").fileno()
        self.is_open = True
        asyncio.get_running_loop().call_soon(self._look)

    def close(self) -> None:
        """Ask no more."""
        self.is_open = False

    def clock(self) -> int:
        """Thread CPU time in ns without the waiting."""
        return time.thread_time_ns() - self.waited_ns

    def _waiting(self) -> int:
        return int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4)), "little")

    def _look(self) -> None:
        if not self.is_open:
            return
        began = time.thread_time_ns()
        if self._waiting() == 0:
            os.write(self.firehose.more, b".")
            self._wait()
        self.waited_ns += time.thread_time_ns() - began
        asyncio.get_running_loop().call_soon(self._look)

    def _wait(self) -> None:
        """Wait for the whole burst, or for as much as the receive window lets through: it grows
        with what is read, so at first it is too small, and what is there no longer changes."""
        before = still = 0
        while (found := self._waiting()) < BURST_SIZE and still < 10:
            still = still + 1 if found and found == before else 0
            before = found
            time.sleep(0.0001)


class _Meter(asyncio.BufferedProtocol):
    """Counts bytes; measures from the end of the warm-up on, until enough have come."""

    def __init__(self, firehose: Firehose, byte_count: int) -> None:
        self.total = 0
        self.target = WARM_UP_BYTES
        self.byte_count = byte_count
        self.began_at = self.began_ns = 0
        self.is_measuring = False
        self.bursts = _Bursts(firehose)
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.bursts.open(transport)

    def mark(self) -> None:
        """Begin or end the measuring, and say how many more bytes to read."""
        now = self.bursts.clock()
        if not self.is_measuring:
            self.is_measuring = True
            self.began_at, self.began_ns = self.total, now
            self.target = self.total + self.byte_count
        elif not self.done.done():
            self.done.set_result((now - self.began_ns) / (self.total - self.began_at))
            self.bursts.close()
            self.transport.abort()


class Counting(_Meter):
    def __init__(self, firehose: Firehose, byte_count: int, read_size: int) -> None:
        super().__init__(firehose, byte_count)
        self.buffer = memoryview(bytearray(read_size))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, n: int) -> None:
        self.total += n
        if self.total >= self.target:
            self.mark()


class _Ours(_Meter):
    def __init__(self, firehose: Firehose, byte_count: int, line: Line) -> None:
        super().__init__(firehose, byte_count)
        self.line = line
        self.get = line.window
        self.received = line.received

    def get_buffer(self, sizehint: int) -> Any:
        return self.get()

    def buffer_updated(self, n: int) -> None:
        self.received(n, time.time_ns(), time.monotonic_ns())
        self.total += n
        if self.total >= self.target:
            self.mark()


async def _drink(protocol: _Meter) -> float:
    sock = _handshake(protocol.bursts.firehose.port)
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
    per_byte = await protocol.done
    await asyncio.sleep(0)
    return per_byte * FRAME_SIZE


def bytes_counted(read_size: int) -> Client:
    """The floor: a BufferedProtocol that counts bytes."""

    async def client(firehose: Firehose, count: int) -> float:
        return await _drink(Counting(firehose, count * FRAME_SIZE, read_size))

    return client


def engine_for(mode: str, read_size: int, isa: str | None) -> tuple[Engine, Line]:
    """Return an engine and its line that do as much with a message as ``mode`` says."""
    if mode in ("text", "binary"):
        engine = Engine(isa=isa)
        engine.add_venue("none", Layout(messages=()))
        return engine, Line(engine, "none", read_size=read_size)
    layout = COUNTED_LAYOUT if mode == "counted" else None
    return common.quotes_line("binance", common.SYMBOLS, isa, layout=layout, read_size=read_size)


def ours(mode: str, read_size: int, isa: str | None = None) -> Client:
    """A Line behind a BufferedProtocol: ``text``, ``binary``, ``counted`` or ``rows``."""
    engine, line = engine_for(mode, read_size, isa)
    rows = 0

    def take(quotes: Any) -> None:
        nonlocal rows
        rows += len(quotes)

    if mode == "rows":
        engine.on_quotes = take

    async def client(firehose: Firehose, count: int) -> float:
        nonlocal rows
        line.open(time.time_ns(), time.monotonic_ns())
        messages_before, bytes_before, rows = line.message_count, line.byte_count, 0
        took = await _drink(_Ours(firehose, count * FRAME_SIZE, line))
        line.lose(time.time_ns(), time.monotonic_ns())
        seen = line.message_count - messages_before
        if seen != (line.byte_count - bytes_before) // FRAME_SIZE:
            raise RuntimeError(f"our line saw {seen} messages: {line.error}")
        if mode == "rows" and rows != seen:
            raise RuntimeError(f"{rows} rows of {seen} messages: {engine.errors}")
        return took

    return client


class _Stopwatch:
    """Thread CPU time per message between two counts of messages."""

    def __init__(self, firehose: Firehose, count: int) -> None:
        self.first = WARM_UP_BYTES // FRAME_SIZE
        self.last = self.first + count
        self.count = count
        self.ns = 0
        self.bursts = _Bursts(firehose)

    def begin(self) -> None:
        self.ns = self.bursts.clock()

    def end(self) -> float:
        took = self.bursts.clock() - self.ns
        self.bursts.close()
        return took / self.count


async def picows_counted(firehose: Firehose, count: int) -> float:
    """picows with a listener that counts frames."""
    import picows

    watch = _Stopwatch(firehose, count)
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    class Listener(picows.WSListener):
        def __init__(self) -> None:
            self.seen = 0
            self.target = watch.first

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            self.seen += 1
            if self.seen == self.target:
                self.mark()

        def mark(self) -> None:
            if self.target == watch.first:
                self.target = watch.last
                watch.begin()
            elif not done.done():
                done.set_result(watch.end())

    transport, _ = await picows.ws_connect(Listener, f"ws://127.0.0.1:{firehose.port}/")
    watch.bursts.open(transport.underlying_transport)
    took = await done
    transport.disconnect(graceful=False)
    await transport.wait_disconnected()
    return took


async def aiohttp_counted(firehose: Firehose, count: int) -> float:
    """aiohttp's client session, one receive() a message."""
    import aiohttp

    watch = _Stopwatch(firehose, count)
    async with aiohttp.ClientSession() as session:
        socket_ = await session.ws_connect(
            f"http://127.0.0.1:{firehose.port}/", compress=0, max_msg_size=0, autoping=False
        )
        watch.bursts.open(socket_)
        for _ in range(watch.first):
            await socket_.receive()
        watch.begin()
        for _ in range(watch.count):
            await socket_.receive()
        return watch.end()


async def websockets_counted(firehose: Firehose, count: int) -> float:
    """websockets' asyncio client, one recv() a message."""
    from websockets.asyncio.client import connect

    watch = _Stopwatch(firehose, count)
    socket_ = await connect(
        f"ws://127.0.0.1:{firehose.port}/",
        compression=None,
        max_size=None,
        ping_interval=None,
        close_timeout=0.1,
    )
    watch.bursts.open(socket_.transport)
    for _ in range(watch.first):
        await socket_.recv()
    watch.begin()
    for _ in range(watch.count):
        await socket_.recv()
    took = watch.end()
    socket_.transport.abort()
    await socket_.wait_closed()
    return took


def take_turns(
    kind: str,
    mine: Client,
    peer: Client,
    *,
    windows: int,
    counts: tuple[int, int],
) -> common.Sample:
    """Let ours and the peer drink by turns; ``counts`` are the messages per turn of each."""
    import uvloop

    sample = common.Sample([], [])

    async def turns(firehose: Firehose) -> None:
        for i in range(-1, windows):
            took = [0.0, 0.0]
            for k in (0, 1) if i % 2 else (1, 0):
                took[k] = await (mine, peer)[k](firehose, counts[k])
            if i >= 0:
                sample.ours_ns.append(took[0])
                sample.peer_ns.append(took[1])

    with server(kind) as firehose, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(turns(firehose))
    return sample


if __name__ == "__main__":
    _serve(sys.argv[1])
