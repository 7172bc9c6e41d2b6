"""A WebSocket connection on the loop's own transport, in both roles.

For what speaks WebSocket and is no market data feed: servers of signals, clients, echo peers. A
feed's bytes go through :class:`~crosswire.receive.LineProtocol` to a line instead.

Rules:
1. The upgrade has one deadline, however slowly its bytes drip; a TLS handshake before it counts.
2. A server ends the TCP connection once both closes were sent; a client waits for that. From the
   first of them on, or the end of the stream, all is over within ``close_limit_s``.
3. While the peer does not read what we write, nothing more is read from it, and nothing that was
   read is handed over.
4. A peer that takes nothing of what waits for it for ``stall_limit_s`` is cut: its end would not be
   seen, since nothing is read from it.
5. One turn of the loop hands over ``TURN_SIZE`` of messages and one more; what is left of a read,
   which compression may have made small, waits for the next turn, and so does reading.
6. Once the end has begun, no message is handed over; behind the peer's close nothing is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from ..connection import Connection, ConnectionState, Opcode
from ..errors import HandshakeError, UsageError, VenueError
from ..handshake import HEAD_MAX, ClientHandshake, ServerHandshake
from ..seam import Seam

__all__ = ["WebSocket"]

_log = logging.getLogger("crosswire.websocket")

HANDSHAKE_LIMIT_S = 10.0
CLOSE_LIMIT_S = 2.0
STALL_LIMIT_S = 30.0
WRITE_MAX = 1 << 16
TURN_SIZE = 1 << 20
"""Bytes of messages behind which others have their turn."""
_WASTE = memoryview(bytearray(HEAD_MAX))
"""Where every connection puts what comes behind its end; nobody reads it."""


class WebSocket(asyncio.BufferedProtocol):
    """One connection.

    Args:
        handshake: the upgrade to be made; its class says the role.
        seam: for stamps, masks and deadlines.
        on_message: called with (this, opcode, payload) for every text and binary message; the
            payload is a memoryview, valid during the call. What it raises is logged, and ends the
            connection with close code 1011.
        handshake_limit_s, close_limit_s: how long the upgrade, and the end, may take.
        stall_limit_s: how long the peer may take nothing while the transport is full; ``None``:
            whoever made this looks after it.
        limits: for :class:`~crosswire.connection.Connection`.

    Attributes:
        connection: the codec, once the upgrade was made.
        opened: done when the upgrade was made; raises HandshakeError. Cancelling it gives up.
        ended: done when the transport is gone; its result is the (close code, reason) of the peer.
            Several may wait for it: with ``asyncio.wait`` or behind ``asyncio.shield``.
    """

    connection: Connection

    def __init__(
        self,
        handshake: ClientHandshake | ServerHandshake,
        seam: Seam,
        on_message: Callable[[WebSocket, int, memoryview], object],
        *,
        handshake_limit_s: float = HANDSHAKE_LIMIT_S,
        close_limit_s: float = CLOSE_LIMIT_S,
        stall_limit_s: float | None = STALL_LIMIT_S,
        **limits: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.handshake = handshake
        self._loop = loop
        self._seam = seam
        self._on_message = on_message
        self._handshake_limit_s = handshake_limit_s
        self._close_limit_s = close_limit_s
        self._stall_limit_s = stall_limit_s
        self._limits = limits
        self._is_open = False
        self._is_ending = False
        self._is_paused = False
        self._is_going_on = False  # _go_on is to be called
        self._head = _WASTE  # room for the head, from the transport to the end of the upgrade
        self._rest = b""  # what came behind the head in its read
        self._transport: asyncio.Transport | None = None
        self._stall: asyncio.TimerHandle | None = None  # runs while the transport is full
        self._written = 0  # bytes given to the transport
        self._deadline = seam.later(handshake_limit_s, self._give_up)
        self.opened: asyncio.Future[None] = loop.create_future()
        self.opened.add_done_callback(self._take_opened)
        self.ended: asyncio.Future[tuple[int, str]] = loop.create_future()

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport
        self._transport = cast(asyncio.Transport, transport)
        if self.opened.done():  # given up before, as where the TLS handshake took too long
            self._transport.abort()
            return
        request = b""
        if isinstance(self.handshake, ClientHandshake):
            if self.handshake.is_secure and not transport.get_extra_info("ssl_object"):
                self._refuse("handshake-plain", "wss:// asks for TLS, and this connection has none")
                self._abort()
                return
            request = self.handshake.request()
        self._head = memoryview(bytearray(HEAD_MAX))
        self._transport.set_write_buffer_limits(WRITE_MAX)
        if request:
            self._transport.write(request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.connection.window() if self._reads_frames() else self._head

    def buffer_updated(self, nbytes: int) -> None:
        if self._reads_frames():
            self.connection.received(nbytes, self._seam.monotonic_ns())
            self._take()
        elif not self.opened.done():
            self._receive_head(self._head[:nbytes])

    def eof_received(self) -> bool:
        if self._is_open:
            self._limit_end()
        return False

    def pause_writing(self) -> None:
        self._is_paused = True
        if self._transport:
            self._transport.pause_reading()
            self._limit_stall(self._taken())

    def resume_writing(self) -> None:
        self._is_paused = False
        self._forgive_stall()
        self._go_on_soon()  # not inside whatever wrote

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._forgive_stall()
        self._transport = None
        self._refuse("handshake-cut", str(exc or "the connection was closed"))
        code, reason = 1006, ""
        if self._is_open:
            self.connection.receive_eof()
            assert self.connection.close_code is not None
            code, reason = self.connection.close_code, self.connection.close_reason or ""
        if not self.ended.done():
            self.ended.set_result((code, reason))

    # ---- ours

    def send(self, opcode: int, payload: bytes | bytearray | memoryview) -> None:
        """Send one message.

        Raises:
            UsageError: the connection is not open.
        """
        if not self._is_open:
            raise UsageError("the connection is not open; nothing can be sent")
        self.connection.send(opcode, payload)
        self.flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the end; :attr:`ended` tells when it is over.

        Raises:
            UsageError: a code that may not be sent, or a reason longer than 123 bytes.
        """
        if self._is_open:
            self.connection.close(code, reason)
            self.flush()
        else:
            self._refuse("handshake-cut", "given up")
            self._abort()

    def flush(self) -> None:
        """Write what was put in line in :attr:`connection`, and end what has come to its end."""
        if not self._is_open or self._transport is None or self._transport.is_closing():
            return
        if data := self.connection.data_to_send():
            self._written += len(data)
            self._transport.write(data)
        if self.connection.state is not ConnectionState.OPEN:
            self._end()
            self._take_end()

    def _reads_frames(self) -> bool:
        return self._is_open and self.connection.state is not ConnectionState.CLOSED

    def _take_upgrade(self) -> None:
        """What a subclass does once the upgrade was made, before it is given a message."""

    def _take_end(self) -> None:
        """What a subclass does once the connection is not open any more; it may come again."""

    def _end(self) -> None:
        assert self._transport
        self._limit_end()
        is_over = self.connection.state is ConnectionState.CLOSED
        if is_over and (isinstance(self.handshake, ServerHandshake) or self.connection.error):
            self._transport.close()

    def _limit_end(self) -> None:
        """Let the end take ``close_limit_s`` from now, unless it has begun before."""
        if not self._is_ending:
            self._is_ending = True
            self._deadline = self._seam.later(self._close_limit_s, self._abort)

    def _taken(self) -> int:
        """Return how many bytes have left the transport, but for a constant."""
        assert self._transport
        return self._written - self._transport.get_write_buffer_size()

    def _limit_stall(self, taken: int) -> None:
        """Let the peer take more than that within ``stall_limit_s`` from now."""
        self._forgive_stall()
        if self._stall_limit_s is not None:
            self._stall = self._seam.later(self._stall_limit_s, lambda: self._look_at_stall(taken))

    def _look_at_stall(self, before: int) -> None:
        if self._transport and (taken := self._taken()) > before:
            self._limit_stall(taken)
        else:
            self._abort()

    def _forgive_stall(self) -> None:
        if self._stall:
            self._stall.cancel()
            self._stall = None

    def _give_up(self) -> None:
        """The upgrade took too long; a client that did not ask for one in time is told."""
        is_late = not self.opened.done()
        self._refuse("handshake-late", f"no upgrade within {self._handshake_limit_s:g} s")
        if is_late and self._transport and isinstance(self.handshake, ServerHandshake):
            self.handshake.refuse(HTTPStatus.REQUEST_TIMEOUT)
            self._answer()
            self._limit_end()
            self._transport.close()
        else:
            self._abort()

    def _abort(self) -> None:
        """End at once; the transport, where there is one, tells when it is gone."""
        self._deadline.cancel()
        self._forgive_stall()
        if self._transport:
            self._transport.abort()
        elif not self.ended.done():
            self.ended.set_result((1006, ""))

    def _refuse(self, code: str, text: str) -> None:
        """Say that there was no upgrade, unless there was one or that was said."""
        if not self.opened.done():
            self.opened.set_exception(HandshakeError(code, 0, text))

    def _take_opened(self, future: asyncio.Future[None]) -> None:
        """Look at the result, which nobody else may do; who cancelled it wants no connection."""
        self._head = _WASTE
        if future.cancelled():
            self._abort()
        else:
            future.exception()

    def _receive_head(self, data: memoryview) -> None:
        assert self._transport
        try:
            rest = self.handshake.receive(data)
        except VenueError as error:
            self._answer()
            self.opened.set_exception(error)
            self._transport.close()
            return
        if rest is None:
            return
        self._deadline.cancel()
        self._answer()
        self.connection = Connection(
            is_server=isinstance(self.handshake, ServerHandshake),
            random_bytes=self._seam.random_bytes,
            deflation=self.handshake.deflation,
            **self._limits,
        )
        self._is_open = True
        self._rest = rest
        self._head = _WASTE
        self.opened.set_result(None)
        self._take_upgrade()
        self._take()

    def _answer(self) -> None:
        if self._transport and isinstance(self.handshake, ServerHandshake):
            self._transport.write(self.handshake.answer())

    def _go_on_soon(self) -> None:
        if not self._is_going_on:
            self._is_going_on = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Hand over what waited for the peer, or for a turn, then read on."""
        self._is_going_on = False
        if self._transport is None or self._transport.is_closing():
            return
        if self._is_open:
            self._take()
        is_held = self._is_paused or self._is_going_on
        if not is_held and not self._transport.is_closing():
            self._transport.resume_reading()

    def _take(self) -> None:
        """Hand over what came, as far as the peer reads and as much as fits in a turn, and write
        what that gave."""
        size = 0
        while not self._is_paused:
            if size >= TURN_SIZE:
                if self._transport:
                    self._transport.pause_reading()
                self._go_on_soon()
                break
            message = self.connection.next_message()
            if message is not None:
                size += len(message[1])
                self._hand_over(*message)
            elif not self._take_rest():
                break
        self.flush()

    def _take_rest(self) -> bool:
        """Take a part of what came behind the head; return whether there was one."""
        if not self._rest or self.connection.state is ConnectionState.CLOSED:
            return False
        window = self.connection.window()
        n = min(len(window), len(self._rest))
        window[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        self.connection.received(n, self._seam.monotonic_ns())
        return True

    def _hand_over(self, opcode: int, payload: memoryview) -> None:
        is_message = opcode in (Opcode.TEXT, Opcode.BINARY)
        if not is_message or self.connection.state is not ConnectionState.OPEN:
            return
        try:
            self._on_message(self, opcode, payload)
        except Exception:
            _log.exception("on_message raised; the connection is closed")
            self.connection.close(1011, "internal error")
