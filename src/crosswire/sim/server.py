"""The simulated venues on real sockets: WebSocket over TLS on the loopback address.

One port per venue, one pacing loop for all. The loop sends every event of the scenario at its
time; when it is late it catches up in a burst and skips nothing. Only a silence must not become
shorter than planned: when one begins late, all that follows is postponed. Data frames are written
straight to the connection's transport: a whole frame a time, so they never mix with the library's
own. A client that does not read is cut off, with a close frame and a count.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from zlib import crc32

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from ..seam import Seam, System
from ..venue import Record, SimQuote, SimTrade
from ..venues import dialect, venue
from .certs import HOST, Certificates
from .market import Event, frame_of, generate, text_of
from .plan import Plan, Scenario, make_plan
from .proof import STREAMS, Connection, save_sent
from .rest import RestServer
from .rest_side import rest_side

__all__ = ["SimServer"]

BURST_MAX = 64
"""Events sent in a row before the event loop gets its turn."""
BACKLOG_MAX = 32 << 20
"""Bytes a client may leave unread before it is cut off."""
CLOSE_LIMIT_S = 1.5
"""How long clients may take to close when the server stops."""
CUT_OFF_GRACE_S = 1.0
"""How long it then has to read up to the close frame."""

_log = logging.getLogger(__name__)


class _VenueServer:
    """One venue: its connections, what they have subscribed, and whether it is frozen."""

    def __init__(self, name: str, seam: Seam) -> None:
        self.name = name
        self._seam = seam
        self.sent = {Record.QUOTE: 0, Record.TRADE: 0}
        self.accepted: list[Connection] = []
        self.cut_off = 0
        self.refusals = 0
        self.server: Server
        self.newest: dict[str, tuple[SimQuote, int]] = {}
        self.rest: RestServer | None = None
        self._dialect = dialect(name)
        self._connections: dict[ServerConnection, Connection] = {}
        self._streams: dict[tuple[str, Record], list[ServerConnection]] = {}
        self._last_frame = b""
        self._thawed = asyncio.Event()
        self._thawed.set()

    async def start(self, certificates: Certificates, has_rest: bool) -> None:
        """Listen on a free port; on another one for REST."""
        if has_rest:
            self.rest = rest_side(self.newest, certificates.server_context(), self._seam)
            await self.rest.__aenter__()
        self.server = await serve(
            self._handle,
            HOST,
            0,
            ssl=certificates.server_context(),
            process_request=self._admit,
            compression=None,
            ping_interval=None,
            close_timeout=0.5,
            max_size=1 << 16,
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        port = next(iter(self.server.sockets)).getsockname()[1]
        return f"wss://{HOST}:{port}{self._dialect.path}"

    def send(self, native: str, message: SimQuote | SimTrade, stamp: int) -> None:
        """Send one message, stamped, to every connection that subscribed its stream.

        Args:
            stamp: UTC ns; a quote's ``seq``, and the time of both.
        """
        record = Record.QUOTE if isinstance(message, SimQuote) else Record.TRADE
        if self.rest and isinstance(message, SimQuote):
            self.newest[native] = message, stamp
        connections = self._streams.get((native, record))
        if not connections:
            return
        frame = frame_of(self._dialect, native, message, stamp)
        self._last_frame = frame
        self.sent[record] += 1
        text_sum = crc32(text_of(frame))
        stream = _stream_name(native, record)
        slow: list[ServerConnection] = []
        for connection in connections:
            transport = connection.transport
            if transport.is_closing():
                continue  # its end has not been noticed yet
            transport.write(frame)
            log = self._connections[connection]
            log.streams[stream] += 1
            log.stamps.append(stamp if record is Record.QUOTE else 0)
            log.sums.append(text_sum)
            if transport.get_write_buffer_size() > BACKLOG_MAX:
                slow.append(connection)
        for connection in slow:
            self._cut_off(connection)

    def freeze(self) -> None:
        """Fall silent: nothing is read either, so that no ping is answered."""
        self._thawed.clear()
        for connection in self._connections:
            connection.transport.pause_reading()

    def thaw(self) -> None:
        """Speak again."""
        self._thawed.set()
        for connection in self._connections:
            connection.transport.resume_reading()

    def cut(self) -> None:
        """Break every connection in the middle of a frame."""
        for connection, log in list(self._connections.items()):
            log.cut_ns = self._seam.time_ns()
            self._forget(connection)
            connection.transport.write(self._last_frame[: len(self._last_frame) // 2])
            connection.transport.abort()

    def _cut_off(self, connection: ServerConnection) -> None:
        """Send a client that does not read a close frame, and nothing after it."""
        _log.warning("%s: a client does not read; cut off", self.name)
        self.cut_off += 1
        self._forget(connection)
        # Not connection.close(), which first waits until the backlog is written.
        connection.protocol.send_close(CloseCode.POLICY_VIOLATION, "does not read")
        connection.send_data()
        self._seam.later(CUT_OFF_GRACE_S, connection.transport.abort)

    def abort(self) -> None:
        """Drop every connection without a word."""
        for connection in self._connections:
            connection.transport.abort()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refusals:
            self.refusals -= 1
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "try again later\n")
        if request.path.partition("?")[0] != self._dialect.path:
            return connection.respond(HTTPStatus.NOT_FOUND, f"no stream at {request.path}\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        log = self._connections[connection] = Connection()
        self.accepted.append(log)
        if not self._thawed.is_set():
            connection.transport.pause_reading()
        try:
            async for message in connection:
                await self._thawed.wait()
                await self._answer(connection, message)
        except ConnectionClosed as closed:
            _log.info("%s: connection ended: %s", self.name, closed)
        finally:
            self._forget(connection)

    async def _answer(self, connection: ServerConnection, message: str | bytes) -> None:
        text = message if isinstance(message, str) else message.decode("utf-8", "replace")
        answered = self._dialect.answer(text)
        for answer in answered.texts:
            await connection.send(answer)
        log = self._connections.get(connection)
        if log is None:
            return
        for stream in answered.closed:
            if connection in self._streams.get(stream, ()):
                self._streams[stream].remove(connection)
        for stream in answered.opened:
            log.streams.setdefault(_stream_name(*stream), 0)
            connections = self._streams.setdefault(stream, [])
            if connection not in connections:
                connections.append(connection)

    def _forget(self, connection: ServerConnection) -> None:
        self._connections.pop(connection, None)
        for connections in self._streams.values():
            if connection in connections:
                connections.remove(connection)


def _stream_name(native: str, record: Record) -> str:
    return f"{STREAMS[record is Record.TRADE]} {native}"


class SimServer:
    """All venues of a scenario; use it as an asynchronous context manager.

    Args:
        scenario: what happens.
        seam: clock, timers and sockets; the real ones by default.
        has_rest: every venue has a REST side, too: see :func:`~crosswire.sim.rest_side.rest_side`.

    Attributes:
        plan: what will happen; its plants' ``seq_open`` and ``seq_close`` are set as they are
            sent.
        postponed_ns: by how much the end was postponed in all, for silences that began late.
    """

    def __init__(
        self, scenario: Scenario, seam: Seam | None = None, *, has_rest: bool = False
    ) -> None:
        self.scenario = scenario
        self.plan: Plan = make_plan(scenario)
        self.postponed_ns = 0
        self._seam = seam or System()
        self._has_rest = has_rest
        self._certificates = Certificates()
        self._venues = {name: _VenueServer(name, self._seam) for name in scenario.venues}
        self._plants = {item.id: item for item in self.plan.plants + self.plan.baits}
        self._last_stamp = 0

    async def __aenter__(self) -> Self:
        """Start all servers."""
        for server in self._venues.values():
            await server.start(self._certificates, self._has_rest)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all servers and remove the certificates."""
        for server in self._venues.values():
            server.thaw()
            server.server.close()
        try:
            async with self._seam.timeout(CLOSE_LIMIT_S):
                await self._wait_closed()
        except TimeoutError:  # a client that does not read is not told
            for server in self._venues.values():
                server.abort()
            await self._wait_closed()
        for server in self._venues.values():
            if server.rest:
                await server.rest.__aexit__(None, None, None)
        self._certificates.close()

    async def _wait_closed(self) -> None:
        for server in self._venues.values():
            await server.server.wait_closed()

    def ready(self) -> dict[str, Any]:
        """Return what a client needs: URLs, the authority's certificate, native symbols."""
        symbols = {
            name: [venue(name).native(symbol) for symbol in self.scenario.symbols]
            for name in self._venues
        }
        urls = {name: {"url": server.url} for name, server in self._venues.items()}
        for name, server in self._venues.items():
            if server.rest:
                urls[name]["rest"] = server.rest.url
        ca = str(self._certificates.ca_path)
        return {"ready": True, "ca": ca, "venues": urls, "symbols": symbols}

    def done(self) -> dict[str, Any]:
        """Return what was sent, and how many clients were cut off because they did not read.

        The file that ``stamps`` names, see :func:`~crosswire.sim.proof.load_sent`, is there
        until the servers stop.
        """
        accepted = {name: server.accepted for name, server in self._venues.items()}
        stamps = self._certificates.ca_path.with_name("stamps.npz")
        save_sent(stamps, accepted)
        sent = {
            name: {"quotes": server.sent[Record.QUOTE], "trades": server.sent[Record.TRADE]}
            for name, server in self._venues.items()
        }
        return {
            "done": True,
            "plants": [item.as_dict() for item in self.plan.plants],
            "baits": [item.as_dict() for item in self.plan.baits],
            "sent": sent,
            "rest": {
                name: {
                    "requests": len(server.rest.account.requests),
                    "refused": sum(e.status == 429 for e in server.rest.account.requests),
                }
                for name, server in self._venues.items()
                if server.rest
            },
            "cut_off": {name: server.cut_off for name, server in self._venues.items()},
            "connections": {
                name: [connection.as_dict() for connection in connections]
                for name, connections in accepted.items()
            },
            "stamps": str(stamps),
        }

    async def run(self) -> None:
        """Play the scenario in real time, once."""
        seam = self._seam
        start = now = seam.monotonic_ns()
        in_a_row = 0
        for event in generate(self.scenario, self.plan):
            due = start + event.t_ns
            if due > now:
                now = seam.monotonic_ns()
            in_a_row += 1
            if due > now or in_a_row == BURST_MAX:
                in_a_row = 0
                now = await self._wait_until(due)
            self._play(event)
            if event.kind == "freeze":
                now = seam.monotonic_ns()
                self.postponed_ns += now - due
                start += now - due

    async def _wait_until(self, due: int) -> int:
        """Give others a turn at least once, until ``due``; return the monotonic time."""
        now = self._seam.monotonic_ns()
        await self._seam.sleep(max(0.0, (due - now) / 1e9))
        while (now := self._seam.monotonic_ns()) < due:
            await self._seam.sleep((due - now) / 1e9)
        return now

    def _play(self, event: Event) -> None:
        server = self._venues[event.venue]
        if event.message is not None:
            stamp = max(self._seam.time_ns(), self._last_stamp + 1)
            self._last_stamp = stamp
            server.send(event.symbol, event.message, stamp)
            if event.plant is not None:
                self._plants[event.plant].mark(stamp)
            return
        match event.kind:
            case "freeze":
                server.freeze()
            case "thaw":
                server.thaw()
            case "cut":
                server.cut()
            case "refuse":
                server.refusals = event.times
