"""Heap allocations of one message on its way in: the loop's, TLS's and ours, side by side.

A thread sends one bookTicker whenever it is asked to; the client asks for the next when one has
come in, so every message is one read (and one TLS record). The client is once a protocol that only
counts bytes, which shows what loop and TLS allocate, and once a Line behind the same transport.
Python's own allocator is turned off (``PYTHONMALLOC=malloc``), so that every object counts, and the
C library's is counted per thread by ``count_malloc.c``, which is built and preloaded.

That nothing allocates between ``cw_line_feed`` and the ring is proved by ``tests/c/test_alloc.c``;
what Python itself needs for the call is in the row ``no loop``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from crosswire.codec import encode_frame
from crosswire.sim.certs import Certificates

from . import common

COUNTER = Path(__file__).with_name("count_malloc.c")
WARM_UP = 500
MESSAGES = 2000

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Row(NamedTuple):
    """Allocations a message: of a protocol that counts bytes, and of a Line in its place."""

    name: str
    counting: float
    ours: float


# ------------------------------------------------------------------ the sender


class Sender:
    """A thread at the other end of a socket; a byte written to ``more`` asks for one message."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.client, self._server = socket.socketpair()
        self._asked, self.more = os.pipe()
        self._context = context
        self._frames = [encode_frame(1, text) for text in common.combined()]
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        sock = self._server
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if self._context:
                sock = stack.enter_context(self._context.wrap_socket(sock, server_side=True))
            at = 0
            while os.read(self._asked, 1):
                sock.sendall(self._frames[at % len(self._frames)])
                at += 1

    def close(self) -> None:
        """End the thread."""
        os.close(self.more)
        self._thread.join()
        os.close(self._asked)
        self._server.close()


# ------------------------------------------------------------------ the clients


class Counting(asyncio.BufferedProtocol):
    """Counts bytes, and asks for the next message until enough have come."""

    def __init__(self, sender: Sender, allocations: Callable[[], int]) -> None:
        self.sender = sender
        self.allocations = allocations
        self.buffer = memoryview(bytearray(65536))
        self.seen = self.began = 0
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.ask()

    def get_buffer(self, sizehint: int) -> Any:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.ask()

    def ask(self) -> None:
        """Ask for another message, or end."""
        self.seen += 1
        if self.seen == WARM_UP:
            self.began = self.allocations()
        elif self.seen == WARM_UP + MESSAGES:
            self.done.set_result((self.allocations() - self.began) / MESSAGES)
            return
        os.write(self.sender.more, b".")


class Ours(Counting):
    """The same with a Line, which decodes every message."""

    def __init__(self, sender: Sender, allocations: Callable[[], int]) -> None:
        super().__init__(sender, allocations)
        _, self.line = common.quotes_line("binance", common.SYMBOLS, None, read_size=65536)
        self.line.open(1, 1)
        self.get_buffer = lambda sizehint: self.line.window()  # type: ignore[method-assign]

    def buffer_updated(self, nbytes: int) -> None:
        self.line.received(nbytes, time.time_ns(), time.monotonic_ns())
        self.ask()


async def receive(client: type[Counting], certificates: Certificates | None) -> float:
    """Return allocations a message of one client."""
    server = client_side = None
    if certificates:
        server = certificates.server_context()
        client_side = ssl.create_default_context(cafile=str(certificates.ca_path))
    sender = Sender(server)
    try:
        transport, protocol = await asyncio.get_running_loop().create_connection(
            lambda: client(sender, counter()),
            sock=sender.client,
            ssl=client_side,
            server_hostname="localhost" if client_side else None,
        )
        took = await protocol.done
        if isinstance(protocol, Ours) and protocol.line.message_count != protocol.seen - 1:
            raise RuntimeError(f"{protocol.line.message_count} of {protocol.seen - 1} messages")
        transport.abort()
        return took
    finally:
        await asyncio.to_thread(sender.close)


def fed_directly() -> float:
    """Return allocations a message of ``Line.received`` without a loop."""
    allocations = counter()
    _, line = common.quotes_line("binance", common.SYMBOLS, None, read_size=65536)
    line.open(1, 1)
    frames = [encode_frame(1, text) for text in common.combined()][:WARM_UP]
    began = 0
    for turn in range(2):
        began = allocations()
        for frame in frames:
            line.window()[: len(frame)] = frame
            line.received(len(frame), turn + 1, turn + 1)
    return (allocations() - began) / len(frames)


# ------------------------------------------------------------------ the report


def counter() -> Callable[[], int]:
    """Return the preloaded count of this thread."""
    read: Any = ctypes.CDLL(None).cw_allocations
    read.restype = ctypes.c_uint64
    return lambda: int(read())


def measure() -> list[Row]:
    """Return the rows; runs in a process that has the counter preloaded."""
    rows = [Row("no loop", 0.0, fed_directly())]
    certificates = Certificates()
    try:
        for loop, factory in LOOPS.items():
            for name, terms in (("plain", None), ("TLS", certificates)):
                figures = []
                for client in (Counting, Ours):
                    with asyncio.Runner(loop_factory=factory) as runner:
                        figures.append(runner.run(receive(client, terms)))
                rows.append(Row(f"{loop}, {name}", *figures))
    finally:
        certificates.close()
    return rows


@contextlib.contextmanager
def preloaded() -> Iterator[dict[str, str]]:
    """Build the counter; yields the environment of a process that has it beneath."""
    compiler = os.environ.get("CC") or "cc"
    if shutil.which(compiler.split()[0]) is None:
        sys.exit(f"benchmarks.allocations needs a C compiler; {compiler} is not there")
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/count_malloc.so"
        command = [*compiler.split(), "-O2", "-shared", "-fPIC", "-o", library, str(COUNTER)]
        subprocess.run(command, check=True)
        yield {**os.environ, "LD_PRELOAD": library, "PYTHONMALLOC": "malloc"}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.allocations", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps({"rows": [row._asdict() for row in measure()]}))
        return
    command = [sys.executable, "-m", "benchmarks.allocations", "--measure"]
    with preloaded() as environment:
        root = Path(__file__).resolve().parent.parent
        told = subprocess.run(command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True)
    if told.returncode:
        sys.exit(f"benchmarks.allocations: the measured process ended with {told.returncode}")
    if args.json:
        print(told.stdout, end="")
        return
    print("heap allocations a message    loop and TLS    with a Line    of it ours")
    for row in map(Row._make, (r.values() for r in json.loads(told.stdout)["rows"])):
        ours = row.ours - row.counting
        print(f"{row.name:28}  {row.counting:12.2f}  {row.ours:13.2f}  {ours:12.2f}")


if __name__ == "__main__":
    main()
