"""A server publishes to many readers on loopback; a peer's server does the same by turns.

Both servers run on one uvloop in one thread and each has readers of its own, in a process that
reads and counts. A window is some messages, one or more in a turn of the loop; that thread's clock
tells what they cost, kernel included. Behind each window the readers read all of it.

Run as a program (``python -m benchmarks.publish``) this module is the readers: its first line on
stdin says how many, where and by what request; it prints a line when all are open, and at every
further line how many bytes they have read.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import uvloop

from crosswire.codec import encode_frame
from crosswire.connection import Opcode
from crosswire.handshake import ClientHandshake
from crosswire.sinks import Server

from .common import Sample

MESSAGE = b'{"event":"OPEN","buy":"binance BTC/USDT","sell":"okx BTC/USDT","net_bps":8.0}'.ljust(
    300
)
WINDOW_MESSAGES = 10
READ_LIMIT_S = 20.0
"""For the readers, behind a window."""

Publish = Callable[[bytes], None]


def _allow_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# ------------------------------------------------------------------ the readers


def _open(port: int, request: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(request)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        if not piece:
            raise RuntimeError(f"a reader was refused: {head!r}")
        head += piece
    sock.setblocking(False)
    return sock


def _read() -> None:
    _allow_files()
    order = json.loads(sys.stdin.readline())
    socks = {}
    poll = select.epoll()
    for _ in range(order["count"]):
        sock = _open(order["port"], order["request"].encode())
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    print("open", flush=True)
    poll.register(0, select.EPOLLIN | select.EPOLLHUP)
    total, buffer = 0, bytearray(1 << 16)
    while True:
        for fd, _ in poll.poll():
            if fd == 0:
                if not sys.stdin.readline():
                    return
                print(total, flush=True)
                continue
            total += socks[fd].recv_into(buffer)


@contextlib.contextmanager
def _process() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.publish"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Readers:
    """Readers of a server, in a process of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._stdin, self._stdout = process.stdin, process.stdout

    def _ask(self, line: str) -> str:
        print(line, file=self._stdin, flush=True)
        return self._stdout.readline()

    async def open(self, count: int, port: int, headers: dict[str, str]) -> None:
        """Connect ``count`` of them."""
        request = ClientHandshake(f"ws://127.0.0.1:{port}/", headers).request().decode()
        order = json.dumps({"count": count, "port": port, "request": request})
        if await asyncio.to_thread(self._ask, order) != "open\n":
            raise RuntimeError("the readers could not connect")

    async def read(self, size: int) -> None:
        """Wait until they have read so many bytes, and no more."""
        until = time.monotonic() + READ_LIMIT_S
        while (read := int(self._ask(""))) != size:
            if read > size or time.monotonic() > until:
                raise RuntimeError(f"the readers read {read} bytes of {size}")
            await asyncio.sleep(0.005)


# ------------------------------------------------------------------ the servers


@contextlib.asynccontextmanager
async def _ours(count: int) -> AsyncIterator[tuple[Publish, Readers]]:
    with _process() as process:
        async with Server(readers_max=count, idle_s=3600) as server:
            readers = Readers(process)
            await readers.open(count, server.port, {"Authorization": f"Bearer {server.token}"})
            yield lambda message: server.publish(message, Opcode.TEXT), readers
            process.kill()


@contextlib.asynccontextmanager
async def _websockets(count: int) -> AsyncIterator[tuple[Publish, Readers]]:
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    async def stay(connection: ServerConnection) -> None:
        await connection.wait_closed()

    with _process() as process:
        async with serve(
            stay, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=1024
        ) as server:
            readers = Readers(process)
            await readers.open(count, next(iter(server.sockets)).getsockname()[1], {})
            yield lambda message: broadcast(server.connections, message.decode()), readers
            process.kill()


async def _window(publish: Publish, in_a_turn: int) -> int:
    began = time.thread_time_ns()
    for _ in range(WINDOW_MESSAGES // in_a_turn):
        for _ in range(in_a_turn):
            publish(MESSAGE)
        await asyncio.sleep(0)  # ours and uvloop write at the end of a turn
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return time.thread_time_ns() - began


async def _measure(count: int, in_a_turn: int, windows: int) -> Sample:
    sample = Sample([], [])
    async with _ours(count) as ours, _websockets(count) as peer:
        gc.collect()
        gc.disable()
        try:
            size = WINDOW_MESSAGES * len(encode_frame(Opcode.TEXT, MESSAGE)) * count
            for i in range(-2, windows):
                times = {}
                for k in (0, 1) if i % 2 else (1, 0):
                    publish, readers = (ours, peer)[k]
                    times[k] = await _window(publish, in_a_turn) / (WINDOW_MESSAGES * count)
                    await readers.read(size * (i + 3))
                if i >= 0:
                    sample.ours_ns.append(times[0])
                    sample.peer_ns.append(times[1])
        finally:
            gc.enable()
    return sample


def take_turns(count: int, in_a_turn: int, windows: int) -> Sample:
    """Publish to ``count`` readers of ours and of the peer by turns, ``in_a_turn`` messages in one
    turn of the loop; CPU ns per message and reader."""
    _allow_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(count, in_a_turn, windows))


if __name__ == "__main__":
    _read()
