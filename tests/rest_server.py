"""A server of HTTP/1.1 over TLS that answers as a test says, and counts each request by its id."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from crosswire.seam import reset_on_close

HOST = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Answer = Callable[["Request"], Awaitable[None]]


class Request:
    """One that was read to its end."""

    def __init__(
        self, number: int, method: str, target: str, body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        self.number, self.method, self.target, self.body = number, method, target, body
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        reset_on_close(self.writer.transport)
        self.writer.transport.abort()


class RestServer:
    """Keeps what it saw.

    Attributes:
        seen: how often each target was read to its end.
        connections: that were accepted, behind TLS.
        resumed: those of them that resumed a session.
        on_connect: may end a connection before it reads.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: Counter[str] = Counter()
        self.connections = self.resumed = 0
        self.port = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.on_connect: Callable[[asyncio.StreamWriter], None] | None = None

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        tls = writer.get_extra_info("ssl_object")
        self.resumed += bool(tls and tls.session_reused)
        self.writers.add(writer)
        if self.on_connect:
            self.on_connect(writer)
        number = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.split(b" ", 2)
                length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                number += 1
                self.seen[target.decode()] += 1
                await self.answer(Request(number, method.decode(), target.decode(), body, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client has gone
        finally:
            self.writers.discard(writer)
            writer.close()


@asynccontextmanager
async def rest_server(answer: Answer, tls: ssl.SSLContext | None) -> AsyncIterator[RestServer]:
    """Run it on loopback."""
    server = RestServer(answer)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve(reader, writer)
        tasks.discard(task)

    listener = await asyncio.start_server(serve, HOST, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        for writer in list(server.writers):
            writer.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
