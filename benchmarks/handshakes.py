"""Connects over TLS on loopback: one that resumes a session beside one that does not, by turns.

What is timed is ``connect`` with the ``direct`` engine, a byte of the server, with which the
tickets of TLS 1.3 have come, and the end. The figure is processor time of both ends, since they
wait for each other: of the client's thread, and of the server, a process of its own. The wall clock
shows what else the machine does; and the ways between, which decide off loopback, are in neither.

Run as a program (``python -m benchmarks.handshakes FOLDER VERSION``) this module is the server,
with the key and certificate in that folder; it prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crosswire.receive import Resumption, connect
from crosswire.seam import System, reset_on_close

from . import common

HOST = "127.0.0.1"
CONNECTS = 10
"""Of either kind in a window."""
SETTLE_S = 0.005
"""For the server to end what it does."""


# ------------------------------------------------------------------ the server


def _serve_one(sock: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
        tls.sendall(b"x")
        tls.recv(1)


def _serve(folder: Path, version: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    listener = socket.create_server((HOST, 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve_one, args=(sock, context), daemon=True).start()


@contextlib.contextmanager
def server(version: str, key: str) -> Iterator[tuple[int, int, ssl.SSLContext]]:
    """Run the server as a process of its own; yield its id, its port, and a context for it.

    Args:
        version: ``TLSv1_2`` or ``TLSv1_3``.
        key: of its certificate, ``ECDSA`` (P-256) or ``RSA`` (2048 bits); the authority's is P-256.
    """
    import trustme

    with tempfile.TemporaryDirectory() as name:
        authority = trustme.CA()
        certificate = authority.issue_cert(HOST, key_type=trustme.KeyType[key])
        certificate.private_key_and_cert_chain_pem.write_to_path(Path(name) / "server.pem")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.handshakes", name, version],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent,
        )
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline()), context
        finally:
            process.kill()
            process.stdout.close()
            process.wait(10)


# ------------------------------------------------------------------ the client


class _Client(asyncio.BufferedProtocol):
    """Waits for the byte."""

    def __init__(self) -> None:
        self._buffer = bytearray(16)
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.come.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


def _cpu_ns(pid: int) -> int:
    """Return the processor time of a process in ns, by the clock that Linux has for each."""
    return time.clock_gettime_ns((~pid << 3) | 2)


async def _connect(
    port: int, context: ssl.SSLContext, resumption: Resumption, is_resumed: bool
) -> None:
    """Connect once."""
    transport, client = await connect(
        System(), _Client, HOST, port, context, resumption, engine="direct"
    )
    assert isinstance(client, _Client)
    assert isinstance(transport, asyncio.Transport)
    assert resumption.ssl_object is not None
    if transport.get_extra_info("tls_engine") != "direct":
        raise RuntimeError("the direct engine cannot be used here")
    if resumption.ssl_object.session_reused != is_resumed:
        raise RuntimeError(f"session_reused is not {is_resumed}")
    await client.come
    reset_on_close(transport)  # leaves no port in TIME-WAIT
    transport.abort()
    await client.lost


def take_turns(
    version: str,
    key: str,
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    windows: int,
) -> common.Sample:
    """Connect by turns; ours are those that resume, the peer's those that do not."""
    sample = common.Sample([], [])

    async def turns(pid: int, port: int, context: ssl.SSLContext) -> None:
        kept = Resumption()
        await _connect(port, context, kept, False)
        for i in range(-2, windows):
            took: list[float] = [0.0, 0.0]
            for k in (0, 1) if i % 2 else (1, 0):
                await asyncio.sleep(SETTLE_S)
                began = time.thread_time_ns() + _cpu_ns(pid)
                for _ in range(CONNECTS):
                    how: Any = (Resumption(), False) if k else (kept, True)
                    await _connect(port, context, *how)
                await asyncio.sleep(SETTLE_S)
                took[k] = (time.thread_time_ns() + _cpu_ns(pid) - began) / CONNECTS
            if i >= 0:
                sample.ours_ns.append(took[0])
                sample.peer_ns.append(took[1])

    with (
        server(version, key) as (pid, port, context),
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        runner.run(turns(pid, port, context))
    return sample


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
