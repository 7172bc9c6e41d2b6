"""One WebSocket server, many readers: each message is encoded once and is the same bytes for all.

Rules:
1. Nobody reads without the token. The server listens on loopback unless another host is named, and
   off loopback in plain text only where that is asked for in words.
2. What was published in one turn of the loop goes to every reader's transport at its end, in one
   piece: a call into the system for each reader, not for each of its messages. No reader waits for
   another, and none has a task or a timer of its own while it is open.
3. A reader is slow from when its transport takes no more (64 KiB wait there) until it has caught
   up. What is published meanwhile is kept once for all slow readers; each has a number only: the
   next message that it needs.
4. What is kept is bounded in messages and in bytes. What falls out of it is lost to the slow
   readers that still needed it: they go on with the newest, or are closed. It is counted, and
   so is what was kept for a slow reader that ends.
5. A reader sends pings, pongs and a close, nothing else. Silence is asked about, then ends it.
6. Compression is never taken: a frame that all share cannot depend on what one of them has read.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import islice
from math import isfinite
from types import TracebackType
from typing import Any, Literal, Self, cast

from ..codec import encode_frame
from ..connection import ConnectionState, Opcode
from ..errors import HostError, UsageError
from ..handshake import ServerHandshake
from ..receive import WebSocket
from ..receive.websocket import WRITE_MAX
from ..seam import Seam, System, is_loopback, limit_send_buffer

__all__ = ["Reader", "Server"]

_log = logging.getLogger("crosswire.server")

TOKEN_BYTES = 32
"""Random bytes of a token that was not given."""
SEND_BUFFER_SIZE = 1 << 18
"""Bytes that the system may hold for a reader, so that a thousand stopped ones are affordable."""
READER_LIMITS = {"read_size": 512, "message_max": 125, "fragments_max": 8, "controls_max": 30}
"""Of a reader's connection: it has nothing to say."""

REFUSALS = {401: "token", 403: "origin", 408: "late", 431: "head", 503: "full"}
"""Names of refusals by the status of the answer; any other status is ``request``."""


class Reader(WebSocket):
    """A connection of a :class:`Server`; it is made by one.

    Attributes:
        peer: the address it came from, or ``None``.
        dropped_count: messages that were lost to it because it is slow.
        is_slow: it has yet to catch up.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(
            server._handshake(),
            server._seam,
            server._take_message,
            handshake_limit_s=server._handshake_limit_s,
            close_limit_s=server._close_limit_s,
            stall_limit_s=None,  # the server looks after all
            **READER_LIMITS,
        )
        self.peer: Any = None
        self.dropped_count = 0
        self.is_slow = False
        self._server = server
        self._wire: asyncio.Transport  # from connection_made on
        self._is_crowd = False
        self._is_paused = False
        self._next = 0  # number of the message that a slow one needs next
        self._untold = 0  # of dropped_count, what it was not told
        self._unsent = 0  # bytes in the transport when last looked at
        self._mono_heard = 0
        self._mono_pinged = 0  # 0: nothing was asked since it was heard
        self.opened.add_done_callback(self._take_refusal)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self.peer = transport.get_extra_info("peername")
        super().connection_made(transport)
        if not self.opened.done():
            limit_send_buffer(self._wire, SEND_BUFFER_SIZE)

    def buffer_updated(self, nbytes: int) -> None:
        self._hear()
        super().buffer_updated(nbytes)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_paused = True
        self._server._slow_down(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_paused = False
        self._hear()
        self._server._catch_up(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server._disconnect(self)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the end, behind what was published. Raises as the method of WebSocket."""
        self._server.flush()
        super().close(code, reason)
        self._server._forget(self, "closed")

    def _take_upgrade(self) -> None:
        self._server._open_reader(self)

    def _take_end(self) -> None:
        if self.connection.error:
            reason = "protocol"
        else:
            reason = "closed" if self.connection.state is ConnectionState.CLOSING else "peer"
        self._server._forget(self, reason)

    def _hear(self) -> None:
        self._mono_heard = self._seam.monotonic_ns()
        self._mono_pinged = 0

    def _take_refusal(self, opened: asyncio.Future[None]) -> None:
        if not opened.cancelled() and opened.exception():
            self._server._refuse(self)


class _Cut(asyncio.Protocol):
    """Takes a connection that comes to a server that is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


class Server:
    """Serve messages to readers; use it as an asynchronous context manager, once.

    A reader upgrades at any path with ``Authorization: Bearer TOKEN`` and gets what is published
    from then on.

    Args:
        host, port: where to listen; port 0 is any that is free.
        tls: what to serve ``wss://`` with; ``None`` serves ``ws://``.
        insecure: allow ``ws://`` off loopback.
        token: what a reader must know; ``None`` makes one of 256 random bits, see :attr:`token`.
        origins: web pages that may connect, by the value of ``Origin``. A reader that sends none is
            no page.
        hosts: allowed values of ``Host``; ``None``: any.
        readers_max: most readers; one more is refused with 503.
        upgrades_max: most connections beside the readers, in their TLS handshake, their upgrade or
            their end; for one more the oldest that is no reader yet is cut without an answer.
        when_slow: ``newest``: a slow reader loses the oldest of what it has not got; ``close``: it
            is closed with 1013.
        backlog_count_max, backlog_size_max: most messages, and bytes of their frames, that are kept
            for slow readers, once for all of them.
        gap_text: makes the text message by which a slow reader is told, in its place among the
            others, how many messages were lost to it; ``None``: it is not told.
        handshake_limit_s: how long a TLS handshake and an upgrade may take; then 408.
        idle_s, pong_limit_s: silence after which a reader is sent a ping, and how long it may take
            to answer; then it is closed with 1008. Of a slow one, bytes that leave the transport
            are an answer.
        close_limit_s: how long a closing handshake may take.
        seam: clock, randomness, timers and sockets; the real ones by default.

    Attributes:
        token: what a reader must know. It is had here, and stands in no log, error or answer.
        host, port: where it listens; the port is known once it is open.
        published_count: messages published.
        dropped_count: messages lost to slow readers, once for each reader; also what was kept for
            one when it ended.
        refused: connections that became no reader, by reason: ``token`` (401), ``origin`` (403, or
            a host), ``head`` (431), ``late`` (408), ``full`` (503), ``request`` (any other status),
            ``cut`` (it hung up) and ``crowd`` (see ``upgrades_max``).
        ended: readers that were, by reason: ``peer`` (it closed, or its connection broke),
            ``slow``, ``silent``, ``message`` (it sent one: 1003), ``protocol`` (it broke that) and
            ``closed`` (the server was, or :meth:`Reader.close` was called).
        on_opened: called with a new :class:`Reader`, before it gets its first message; it may
            ``reader.send()``.
        on_refused, on_ended: called with the reader and the reason.
        callback_errors: how often a callback raised, which is logged and changes nothing else.

    Raises:
        UsageError: plain text off loopback that was not asked for, a token that cannot be sent, or
            a limit out of range.
    """

    on_opened: Callable[[Reader], object] | None = None
    on_refused: Callable[[Reader, str], object] | None = None
    on_ended: Callable[[Reader, str], object] | None = None

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        token: str | None = None,
        origins: Sequence[str] = (),
        hosts: Sequence[str] | None = None,
        readers_max: int = 1000,
        upgrades_max: int = 128,
        when_slow: Literal["newest", "close"] = "newest",
        backlog_count_max: int = 1024,
        backlog_size_max: int = 1 << 20,
        gap_text: Callable[[int], bytes] | None = None,
        handshake_limit_s: float = 10.0,
        idle_s: float = 20.0,
        pong_limit_s: float = 20.0,
        close_limit_s: float = 2.0,
        seam: Seam | None = None,
    ) -> None:
        if not (tls or insecure or is_loopback(host)):
            raise UsageError(f"{host!r} is off loopback: give tls, or say insecure=True")
        if when_slow not in ("newest", "close"):
            raise UsageError(f"when_slow is 'newest' or 'close', not {when_slow!r}")
        if min(readers_max, upgrades_max, backlog_count_max, backlog_size_max) < 1:
            raise UsageError("a limit of a server must be at least 1")
        if not all(
            isfinite(limit) and limit > 0
            for limit in (handshake_limit_s, idle_s, pong_limit_s, close_limit_s)
        ):
            raise UsageError("a time limit of a server must be finite and more than 0")
        self._seam = seam or System()
        if token is None:
            token = base64.urlsafe_b64encode(self._seam.random_bytes(TOKEN_BYTES)).decode()
        self.token = token
        self.host, self.port = host, port
        self.published_count = 0
        self.dropped_count = 0
        self.callback_errors = 0
        self.refused: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._tls = tls
        self._origins, self._hosts = origins, hosts
        self._readers_max, self._upgrades_max = readers_max, upgrades_max
        self._closes_slow = when_slow == "close"
        self._backlog_count_max, self._backlog_size_max = backlog_count_max, backlog_size_max
        self._gap_text = gap_text
        self._handshake_limit_s, self._close_limit_s = handshake_limit_s, close_limit_s
        self._idle_ns, self._pong_limit_ns = round(idle_s * 1e9), round(pong_limit_s * 1e9)
        self._look_s = min(idle_s, pong_limit_s) / 4
        self._handshake()  # refuses a token that cannot be sent
        self._listener: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._gone: asyncio.Future[None] | None = None
        self._unsent: list[bytes] = []  # published in this turn of the loop
        self._unsent_size = 0
        self._sent_count = 0  # messages that were written to readers or kept
        self._connections: set[Reader] = set()  # all that came and are not gone
        self._upgrades: dict[Reader, None] = {}  # of these, no readers yet, in order of coming
        self._readers: dict[Reader, None] = {}  # open, in the order of their coming
        self._slow: dict[Reader, None] = {}  # of these
        self._too_slow: dict[Reader, None] = {}  # of the slow ones, to be ended
        self._is_ending_slow = False
        self._fast: tuple[Reader, ...] | None = ()  # the others; None: to be made anew
        self._kept: deque[bytes] = deque()  # the newest frames, of which some slow reader needs one
        self._kept_size = 0

    # ---- its life

    async def open(self) -> None:
        """Listen.

        Raises:
            HostError: the system refuses, as where the port is taken.
            UsageError: it was opened before.
        """
        if self._listener or self._is_closed:
            raise UsageError("a server is opened once")
        try:
            self._listener = await self._seam.serve(
                self._accept, self.host, self.port, self._tls, self._handshake_limit_s
            )
        except OSError as error:
            raise HostError(f"cannot listen on {self.host}:{self.port}: {error}") from error
        self.port = self._listener.sockets[0].getsockname()[1]
        self._timer = self._seam.later(self._look_s, self._look)

    async def close(self) -> None:
        """Stop listening, close every reader with 1001, and wait, ``close_limit_s`` at most, until
        all are gone."""
        if self._listener is None:
            return
        if self._is_closed:  # somebody else closes it, or did
            if self._gone:
                await asyncio.shield(self._gone)
            return
        self._is_closed = True
        self._gone = asyncio.get_running_loop().create_future()
        self._listener.close()
        if self._timer:
            self._timer.cancel()
        for reader in list(self._connections):  # in their upgrade, open, or in their end
            reader.close(1001, "the server goes away")
        if not (self._connections or self._gone.done()):
            self._gone.set_result(None)
        try:
            await asyncio.shield(self._gone)
        finally:
            for connection in self._connections:
                connection._abort()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- what it is for

    @property
    def url(self) -> str:
        """Where a reader connects to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self._tls else 'ws'}://{host}:{self.port}"

    @property
    def reader_count(self) -> int:
        """Readers that are open."""
        return len(self._readers)

    @property
    def slow_count(self) -> int:
        """Readers among them that have yet to catch up."""
        return len(self._slow)

    def publish(self, payload: bytes | bytearray | memoryview, opcode: int = Opcode.BINARY) -> None:
        """Send one message to every reader, at the end of this turn of the loop; it never waits.

        Call it in the loop's thread.

        Args:
            payload: the message; it is copied. That a text is UTF-8 is the caller's care.
            opcode: BINARY or TEXT.

        Raises:
            UsageError: another opcode, a frame larger than ``backlog_size_max``, or the server is
                not open.
        """
        if opcode not in (Opcode.BINARY, Opcode.TEXT):
            raise UsageError(f"opcode {opcode} is no message")
        if self._listener is None or self._is_closed:
            raise UsageError("the server is not open; nothing can be published")
        frame = encode_frame(opcode, payload)
        if len(frame) > self._backlog_size_max:
            raise UsageError(f"a frame of {len(frame)} bytes is larger than backlog_size_max")
        self.published_count += 1
        if not self._readers:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent.append(frame)
        self._unsent_size += len(frame)
        if self._unsent_size >= WRITE_MAX:
            self.flush()

    def flush(self) -> None:
        """Send what was published now, rather than at the end of this turn of the loop."""
        if not self._unsent:
            return
        frames, self._unsent, self._unsent_size = self._unsent, [], 0
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        self._sent_count += len(frames)
        if self._slow:
            self._keep(frames)
        if self._fast is None:
            self._fast = tuple(reader for reader in self._readers if not reader.is_slow)
        for reader in self._fast:  # a reader that this makes slow has got these
            wire = reader._wire
            if not wire.is_closing():
                wire.write(data)
        self._end_too_slow()

    # ---- slow readers

    def _slow_down(self, reader: Reader) -> None:
        if reader in self._readers and not reader.is_slow:
            reader.is_slow = True
            reader._next = self._sent_count
            reader._unsent = reader._wire.get_write_buffer_size()
            self._slow[reader] = None
            self._fast = None

    def _keep(self, frames: Sequence[bytes]) -> None:
        """Keep messages for the slow readers, and take from them what there is no room for."""
        kept = self._kept
        kept.extend(frames)
        self._kept_size += sum(map(len, frames))
        while len(kept) > self._backlog_count_max or self._kept_size > self._backlog_size_max:
            self._kept_size -= len(kept.popleft())
        first = self._sent_count - len(kept)
        behind = [reader for reader in self._slow if reader._next < first]
        for reader in behind:
            if not reader.dropped_count:
                _log.warning("reader %s is too slow: messages are lost to it", reader.peer)
            self._lose_until(first, reader)
        if self._closes_slow:
            self._too_slow.update(dict.fromkeys(behind))

    def _lose_until(self, number: int, reader: Reader) -> None:
        """Count what a slow reader does not get of the messages before that one."""
        lost = number - reader._next
        reader.dropped_count += lost
        reader._untold += lost
        reader._next = number
        self.dropped_count += lost

    def _end_too_slow(self) -> None:
        """End readers that lost messages. What is published meanwhile, as by a callback, may add to
        them: they are ended here as well, and not inside of it."""
        if self._is_ending_slow:
            return
        self._is_ending_slow = True
        try:
            while self._too_slow:
                reader = next(iter(self._too_slow))
                del self._too_slow[reader]
                if reader in self._readers:
                    self._end(reader, "slow", 1013, "too slow for what is published")
        finally:
            self._is_ending_slow = False

    def _catch_up(self, reader: Reader) -> None:
        """Give a slow reader what was kept for it, as long as its transport takes it."""
        while reader.is_slow and not reader._is_paused and not reader._wire.is_closing():
            if reader._untold:
                self._tell_gap(reader)
            elif reader._next < self._sent_count:
                frames = self._kept_from(reader._next)
                reader._next += len(frames)
                reader._wire.write(b"".join(frames))
            else:
                self._quicken(reader)

    def _kept_from(self, number: int) -> list[bytes]:
        """Return kept frames for one write: as many as a transport takes, at least one."""
        frames: list[bytes] = []
        size = 0
        for frame in islice(self._kept, number - self._sent_count + len(self._kept), None):
            size += len(frame)
            if frames and size > WRITE_MAX:
                break
            frames.append(frame)
        return frames

    def _tell_gap(self, reader: Reader) -> None:
        """Tell a reader how many messages were lost to it, where there are words for it."""
        lost, reader._untold = reader._untold, 0
        if self._gap_text:
            try:
                frame = encode_frame(Opcode.TEXT, self._gap_text(lost))
            except Exception:
                self._note_raised("gap_text")
            else:
                if reader in self._readers:  # it may have been closed meanwhile
                    reader._wire.write(frame)

    def _quicken(self, reader: Reader) -> None:
        """Take a reader from the slow ones; behind the last of them nothing is kept."""
        if self._slow.pop(reader, self) is None:
            reader.is_slow = False
            self._fast = None
            if not self._slow:
                self._kept.clear()
                self._kept_size = 0

    # ---- readers come and go

    def _handshake(self) -> ServerHandshake:
        return ServerHandshake(
            token=self.token, origins=self._origins, hosts=self._hosts, has_room=self._has_room
        )

    def _has_room(self) -> bool:
        return len(self._readers) < self._readers_max

    def _accept(self) -> asyncio.BaseProtocol:
        """Return what takes a connection that has come, before its TLS handshake."""
        if self._is_closed:
            return _Cut()
        reader = Reader(self)
        self._connections.add(reader)
        self._upgrades[reader] = None
        if len(self._connections) - len(self._readers) > self._upgrades_max:
            oldest = next(iter(self._upgrades))
            del self._upgrades[oldest]
            oldest._is_crowd = True
            oldest.close()
        return reader

    def _disconnect(self, reader: Reader) -> None:
        self._forget(reader, "peer")
        self._upgrades.pop(reader, None)
        self._connections.discard(reader)
        if self._gone and not self._connections and not self._gone.done():
            self._gone.set_result(None)

    def _open_reader(self, reader: Reader) -> None:
        self._upgrades.pop(reader, None)
        if self._is_closed:
            return
        self.flush()
        self._readers[reader] = None
        self._fast = None
        _log.info("reader %s opened", reader.peer)
        self._call("on_opened", self.on_opened, reader)
        if reader._is_paused:
            self._slow_down(reader)

    def _refuse(self, reader: Reader) -> None:
        self._upgrades.pop(reader, None)
        status = cast(ServerHandshake, reader.handshake).status
        reason = REFUSALS.get(status, "request") if status else "cut"
        if reader._is_crowd:
            reason = "crowd"
        self.refused[reason] += 1
        _log.info("%s refused: %s", reader.peer, reason)
        self._call("on_refused", self.on_refused, reader, reason)
        if reader._transport is None:  # given up in its TLS handshake; nothing tells its end
            self._disconnect(reader)

    def _end(self, reader: Reader, reason: str, code: int, text: str) -> None:
        """Close a reader, and say why."""
        self._forget(reader, reason)
        reader.close(code, text)

    def _forget(self, reader: Reader, reason: str) -> None:
        """Count a reader's end, once."""
        if self._readers.pop(reader, self) is None:
            self._fast = None
            if reader.is_slow:
                self._lose_until(self._sent_count, reader)
            self._quicken(reader)
            self.ended[reason] += 1
            _log.info("reader %s ended: %s", reader.peer, reason)
            self._call("on_ended", self.on_ended, reader, reason)

    def _take_message(self, socket: WebSocket, opcode: int, payload: memoryview) -> None:
        self._end(cast(Reader, socket), "message", 1003, "this server takes no messages")

    def _call(self, name: str, callback: Callable[..., object] | None, *arguments: Any) -> None:
        if callback:
            try:
                callback(*arguments)
            except Exception:
                self._note_raised(name)

    def _note_raised(self, name: str) -> None:
        self.callback_errors += 1
        _log.exception("%s raised", name)

    # ---- silence

    def _look(self) -> None:
        """Ask whom nothing was heard of; end who did not answer."""
        self._timer = self._seam.later(self._look_s, self._look)
        now = self._seam.monotonic_ns()
        for reader in list(self._readers):
            if reader._is_paused:
                unsent = reader._wire.get_write_buffer_size()
                if unsent < reader._unsent:
                    reader._hear()
                reader._unsent = unsent  # also where it grew: behind it was caught up meanwhile
            if reader.connection.state is not ConnectionState.OPEN:
                continue  # its transport is about to tell that it is gone
            silence = now - reader._mono_heard
            if reader._mono_pinged:
                is_over = now - reader._mono_pinged >= self._pong_limit_ns
            else:
                is_over = silence >= self._idle_ns + self._pong_limit_ns
            if is_over:
                self._end(reader, "silent", 1008, "no sign of life")
            elif silence >= self._idle_ns and not reader._mono_pinged and not reader._is_paused:
                reader._mono_pinged = now
                reader.connection.ping()
                reader.flush()
