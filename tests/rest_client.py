"""A raw client of REST servers, and a clock that a test holds."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from crosswire.seam import System
from crosswire.sim import RestServer
from crosswire.sim.certs import Certificates
from crosswire.sim.rest_wire import RestWire

LIMIT_S = 10.0
ORDER = {"client_id": "c1", "symbol": "BTCUSDT", "side": "buy", "price": "100", "qty": "1"}
ORDER_BODY = json.dumps(ORDER).encode()
UTC_NS = 1_700_000_000_123_456_789


class HeldTimer:
    """A timer that fires when the test says so."""

    def __init__(self, seconds: float, do: Callable[[], None]) -> None:
        self.seconds, self.do, self.is_cancelled = seconds, do, False

    def cancel(self) -> None:
        self.is_cancelled = True


class HeldSeam(System):
    """The real sockets, with a clock that stands and timers that wait to be fired.

    Attributes:
        now_ns: monotonic.
        utc_ns: the time.
        timers: what waits, in order of setting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_ns, self.utc_ns = 1_000_000_000, UTC_NS
        self.timers: list[HeldTimer] = []

    def time_ns(self) -> int:
        return self.utc_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers.append(timer := HeldTimer(seconds, do))
        return cast(asyncio.TimerHandle, timer)

    def waiting(self) -> list[float]:
        """Return for how long each timer was set that is not cancelled."""
        return [timer.seconds for timer in self.timers if not timer.is_cancelled]

    def fire(self) -> None:
        """Fire the timer that was set first."""
        self.timers = [timer for timer in self.timers if not timer.is_cancelled]
        self.timers.pop(0).do()


async def until(is_so: Callable[[], object]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(LIMIT_S):
        while not is_so():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0)


class Sink(asyncio.Transport):
    """A transport without a socket.

    Attributes:
        sent: what was written.
        is_closed: it was closed, or aborted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def fed(kind: type[RestWire], pieces: Iterable[bytes], **terms: Any) -> tuple[RestServer, Sink]:
    """Return a server without a socket, and what it sent, that was given these reads."""
    server, sink = RestServer(seam=HeldSeam(), **terms), Sink()
    wire = kind(server, 0, "127.0.0.1")
    wire.connection_made(sink)
    for piece in pieces:
        if not sink.is_closed:
            wire.data_received(piece)
    return server, sink


@dataclass
class Got:
    """An answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Raw:
    """One connection, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def request(self, line: str, body: bytes = b"", **headers: str) -> None:
        """Send a request: ``GET /path``, with headers whose names are written with ``_``."""
        lines = [f"{line} HTTP/1.1", "host: x"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"content-length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def answer(self, has_body: bool = True) -> Got:
        """Read one answer."""
        async with asyncio.timeout(LIMIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = [
                (name, value)
                for name, _, value in (line.partition(": ") for line in head[1:] if line)
            ]
            got = Got(int(head[0].split(" ")[1]), headers, b"")
            if got.header("transfer-encoding") == "chunked":
                while size := int(await self.reader.readline(), 16):
                    got.body += await self.reader.readexactly(size)
                    await self.reader.readline()
                await self.reader.readline()
            elif has_body:
                length = int(got.header("content-length") or 0)
                got.body = await self.reader.readexactly(length)
            return got

    async def ask(self, line: str, body: bytes = b"", **headers: str) -> Got:
        self.request(line, body, **headers)
        return await self.answer()

    async def rest(self) -> bytes:
        """Read up to the end of the connection; raises where it is reset."""
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.read()


@asynccontextmanager
async def connected(
    server: RestServer, source: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Raw]:
    """Open one connection, from an address."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        server.port,
        local_addr=(source, 0) if source else None,
        ssl=tls,
        limit=1 << 24,
    )
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except (OSError, ssl.SSLError):  # the fault that was asked for
            pass


@asynccontextmanager
async def over_tls(*versions: str, **terms: Any) -> AsyncIterator[tuple[RestServer, str]]:
    """Serve over TLS; yield the server and the path of its authority's certificate."""
    certificates = Certificates()
    try:
        async with RestServer(
            context=certificates.server_context(), versions=versions, **terms
        ) as server:
            yield server, str(certificates.ca_path)
    finally:
        certificates.close()
