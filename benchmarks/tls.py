"""A firehose over TLS on loopback, one record a message, and transports that decrypt it by turns.

The server is a process of its own, as that of :mod:`benchmarks.loopback`, and for its reasons: it
sends a burst whenever it is asked to, each frame of 154 bytes as a record of its own, and the
client asks off the clock. What is measured is a ``BufferedProtocol`` that counts bytes: reading
from the kernel, decrypting, the loop and what lies between.

Run as a program (``python -m benchmarks.tls FOLDER``) this module is the server, with the key and
certificate in that folder; it prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from crosswire.receive import connect
from crosswire.seam import System

from . import common, loopback
from .loopback import FRAME_SIZE, Firehose

HOST = "127.0.0.1"
RECORDS = 1490
"""Of a burst: just above the 256 KiB for which a client waits."""
READ_SIZE = 1 << 18
SETTLE_S = 0.02
Client = Callable[[Firehose, ssl.SSLContext, int], Coroutine[Any, Any, float]]


# ------------------------------------------------------------------ the server


def _serve_one(sock: socket.socket, context: ssl.SSLContext, asked: threading.Semaphore) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    frame = b"\x81\x7e\x00\x96" + b"x" * 150
    with sock, contextlib.suppress(OSError):
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        while True:
            asked.acquire()
            for _ in range(RECORDS):
                tls.write(frame)
            sock.sendall(outgoing.read())


def _serve(folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    listener = socket.create_server((HOST, 0))
    asked = [threading.Semaphore(0)]  # of the connection whose turn it is, the latest one

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            asked[0] = threading.Semaphore(0)
            work = (sock, context, asked[0])
            threading.Thread(target=_serve_one, args=work, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    while os.read(0, 1):
        asked[0].release()


@contextlib.contextmanager
def server() -> Iterator[tuple[Firehose, ssl.SSLContext]]:
    """Run the server as a process of its own, with a throw-away certificate."""
    import trustme

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = trustme.CA()
        certificate = authority.issue_cert(HOST)
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.tls", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Firehose(int(process.stdout.readline()), process.stdin.fileno()), context
        finally:
            process.stdin.close()
            process.stdout.close()
            process.wait(10)


# ------------------------------------------------------------------ clients


class Meter(loopback.Counting):
    """Asks for its first burst once the loop has sent the end of the handshake."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        asyncio.get_running_loop().call_later(SETTLE_S, self.bursts.open, transport)


def counted(engine: str) -> Client:
    """Return a client of one of our engines; ``asyncio`` is the loop's own transport."""

    async def client(firehose: Firehose, context: ssl.SSLContext, count: int) -> float:
        meter = Meter(firehose, count * FRAME_SIZE, READ_SIZE)
        transport, _ = await connect(
            System(), lambda: meter, HOST, firehose.port, context, engine=engine
        )
        taken = transport.get_extra_info("tls_engine", "asyncio")
        if taken != engine:
            raise RuntimeError(f"the engine is {taken} in place of {engine}")
        return await meter.done * FRAME_SIZE

    return client


async def aiofastnet_counted(firehose: Firehose, context: ssl.SSLContext, count: int) -> float:
    """Be a client over aiofastnet's transport."""
    import aiofastnet

    meter = Meter(firehose, count * FRAME_SIZE, READ_SIZE)
    await aiofastnet.create_connection(
        asyncio.get_running_loop(), lambda: meter, HOST, firehose.port, ssl=context,
        server_hostname=HOST,
    )  # fmt: skip
    return await meter.done * FRAME_SIZE


def take_turns(
    mine: Client,
    peer: Client,
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    windows: int,
    count: int,
) -> common.Sample:
    """Let ours and the peer drink by turns on a loop, ``count`` messages each."""
    sample = common.Sample([], [])

    async def turns(firehose: Firehose, context: ssl.SSLContext) -> None:
        for i in range(-1, windows):
            took = [0.0, 0.0]
            for k in (0, 1) if i % 2 else (1, 0):
                took[k] = await (mine, peer)[k](firehose, context, count)
                await asyncio.sleep(0)
            if i >= 0:
                sample.ours_ns.append(took[0])
                sample.peer_ns.append(took[1])

    with server() as (firehose, context), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(turns(firehose, context))
    return sample


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
