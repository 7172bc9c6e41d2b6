"""A 150-byte order over TLS on loopback: a crosswire pool beside another client, by turns.

The server is a process of its own, as small as can be: it counts heads and bodies and answers each
with the same bytes. Both clients verify the same certificate and keep one connection. A window is
``TRIPS`` requests, one after the other; told are the median of their times, and the processor time
of the client's thread for each. Both run on the same loop.

Client and server share one processor, or have one each. Where they have, each trip wakes the other
one twice, which on a virtual machine takes as long as all of a client's work: on either side, and
of no use to tell them apart.

Run as a program (``python -m benchmarks.rest FOLDER VERSION``) this module is the server, with the
key and certificate in that folder; it prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import cast

from crosswire.http import Kind, Pool
from crosswire.receive import Resumption
from crosswire.seam import System

from . import common

HOST = "127.0.0.1"
TRIPS = 300
"""Requests of either kind in a window."""
CONNECTS = 10
ORDER = (
    b'{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTC","quantity":"0.00100",'
    b'"price":"64210.10","newClientOrderId":"cw-0123456789abcdef01"}'
)
REPLY = (
    b'{"symbol":"BTCUSDT","orderId":28457100011,"clientOrderId":"cw-0123456789abcdef01",'
    b'"transactTime":1764374400123,"status":"NEW","executedQty":"0.00000"}'
)
HEADERS = (("Content-Type", "application/json"), ("X-Key", "0123456789abcdef" * 4))
Ask = Callable[[], Awaitable[int]]


# ------------------------------------------------------------------ the server


class _Server(asyncio.Protocol):
    ANSWER = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Used-Weight: 1\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(REPLY), REPLY)
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            size = end + 4 + (len(ORDER) if self._data.startswith(b"POST") else 0)
            if len(self._data) < size:
                return
            self._data = self._data[size:]
            self._transport.write(self.ANSWER)


class _Server2(asyncio.Protocol):
    """HTTP/2, on the codec that our side has too: it answers once a request has ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        import h2.config
        import h2.connection

        self._transport = cast(asyncio.Transport, transport)
        self._codec = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._codec.initiate_connection()
        self._transport.write(self._codec.data_to_send())

    def data_received(self, data: bytes) -> None:
        import h2.events

        head = [(":status", "200"), ("content-type", "application/json"), ("x-used-weight", "1")]
        head.append(("content-length", str(len(REPLY))))
        for event in self._codec.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self._codec.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self._codec.send_headers(event.stream_id, head)
                self._codec.send_data(event.stream_id, REPLY, end_stream=True)
        self._transport.write(self._codec.data_to_send())


async def _serve(folder: Path, version: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.set_alpn_protocols(["h2" if version == "2" else "http/1.1"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Server2 if version == "2" else _Server, HOST, 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def server(version: str = "1.1") -> Iterator[tuple[int, ssl.SSLContext]]:
    """Run the server as a process of its own; yield its port, and a context for it."""
    import trustme

    with tempfile.TemporaryDirectory() as name:
        authority = trustme.CA()
        certificate = authority.issue_cert(HOST)
        certificate.private_key_and_cert_chain_pem.write_to_path(Path(name) / "server.pem")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        context.set_alpn_protocols(["h2" if version == "2" else "http/1.1"])
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.rest", name, version],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent,
        )
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), context
        finally:
            process.kill()
            process.stdout.close()
            process.wait(10)


# ------------------------------------------------------------------ the clients


@contextlib.asynccontextmanager
async def _ours(port: int, context: ssl.SSLContext, version: str):  # type: ignore[no-untyped-def]
    async with Pool(
        f"https://{HOST}:{port}", System(), context, headers=HEADERS, version=version
    ) as pool:

        async def ask() -> int:
            response = await pool.request("POST", "/v1/order", body=ORDER, kind=Kind.ORDER)
            return len(response.body)

        yield ask
        if pool.connects != 1:
            raise RuntimeError("the pool did not keep its connection")


@contextlib.asynccontextmanager
async def _aiohttp(port: int, context: ssl.SSLContext):  # type: ignore[no-untyped-def]
    import aiohttp

    url = f"https://{HOST}:{port}/v1/order"
    connector = aiohttp.TCPConnector(ssl=context, limit=1)
    limit = aiohttp.ClientTimeout(total=2.0)
    async with aiohttp.ClientSession(
        connector=connector, headers=dict(HEADERS), timeout=limit
    ) as session:

        async def ask() -> int:
            async with session.post(url, data=ORDER) as response:
                return len(await response.read())

        yield ask


@contextlib.asynccontextmanager
async def _httpx2(port: int, context: ssl.SSLContext):  # type: ignore[no-untyped-def]
    import httpx2

    url = f"https://{HOST}:{port}/v1/order"
    async with httpx2.AsyncClient(
        http1=False, http2=True, verify=context, headers=dict(HEADERS), timeout=2.0, trust_env=False
    ) as client:

        async def ask() -> int:
            response = await client.post(url, content=ORDER)
            if response.http_version != "HTTP/2":
                raise RuntimeError("the peer does not speak HTTP/2")
            return len(response.content)

        yield ask


async def _window(ask: Ask) -> tuple[float, float]:
    """Return the median time and the mean processor time of a request, in ns."""
    took = []
    cpu = time.thread_time_ns()
    for _ in range(TRIPS):
        began = time.perf_counter_ns()
        size = await ask()
        took.append(time.perf_counter_ns() - began)
        if size != len(REPLY):
            raise RuntimeError("the answer is another one")
    return statistics.median(took), (time.thread_time_ns() - cpu) / TRIPS


@contextlib.contextmanager
def on_one_processor(is_wanted: bool) -> Iterator[None]:
    """Keep this process, and those that it starts, on one of its processors."""
    allowed = os.sched_getaffinity(0)
    if is_wanted:
        os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def take_turns(
    what: str,
    version: str,
    *,
    is_apart: bool,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    windows: int,
) -> common.Sample:
    """Send orders by turns, beside aiohttp over HTTP/1.1, or httpx2 over HTTP/2.

    Args:
        what: ``p50`` or ``cpu``.
        version: ``1.1`` or ``2``.
        is_apart: client and server may have a processor each.
    """
    sample = common.Sample([], [])
    column = ("p50", "cpu").index(what)

    async def turns(port: int, context: ssl.SSLContext) -> None:
        other = _httpx2 if version == "2" else _aiohttp
        async with _ours(port, context, version) as ours, other(port, context) as peer:
            for i in range(-2, windows):
                took = {}
                for ask in (ours, peer) if i % 2 else (peer, ours):
                    took[ask] = (await _window(ask))[column]
                if i >= 0:
                    sample.ours_ns.append(took[ours])
                    sample.peer_ns.append(took[peer])

    with (
        on_one_processor(not is_apart),
        server(version) as (port, context),
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        runner.run(turns(port, context))
    return sample


def take_turns_reconnecting(
    *, loop_factory: Callable[[], asyncio.AbstractEventLoop], windows: int
) -> common.Sample:
    """Open a pool, send an order and close it by turns; ours resume a TLS session, the peer's do
    not. Told is the wall clock of one, in ns."""
    sample = common.Sample([], [])

    async def once(url: str, context: ssl.SSLContext, kept: Resumption | None) -> None:
        pool = Pool(url, System(), context, headers=HEADERS, warm=0, resumption=kept)
        try:
            await pool.request("POST", "/v1/order", body=ORDER, kind=Kind.ORDER)
        finally:
            await pool.close()
        if pool.resumed != (kept is not None):
            raise RuntimeError("a session was not resumed, or was where there was none")

    async def turns(port: int, context: ssl.SSLContext) -> None:
        url, kept = f"https://{HOST}:{port}", Resumption()
        pool = Pool(url, System(), context, headers=HEADERS, resumption=kept)
        async with pool:
            await pool.request("POST", "/v1/order", body=ORDER)
        for i in range(-2, windows):
            took = [0.0, 0.0]
            for k in (0, 1) if i % 2 else (1, 0):
                began = time.perf_counter_ns()
                for _ in range(CONNECTS):
                    await once(url, context, None if k else kept)
                took[k] = (time.perf_counter_ns() - began) / CONNECTS
            if i >= 0:
                sample.ours_ns.append(took[0])
                sample.peer_ns.append(took[1])

    with (
        on_one_processor(True),
        server() as (port, context),
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        runner.run(turns(port, context))
    return sample


if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2]))
