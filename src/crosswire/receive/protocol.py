"""The ``protocol`` engine: the loop's own transport, plain or TLS, with a buffered protocol.

The transport writes into the line's receive buffer and the line parses it in place; a read is
stamped once, by :class:`~crosswire.wake.StampedReads`. Until the upgrade is answered the bytes go
to the handshake.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from ..codec import encode_frame
from ..errors import HandshakeError, TlsError, VenueError
from ..handshake import HEAD_MAX, ClientHandshake
from ..line import Line
from ..seam import Seam
from ..wake import StampedReads
from .trust import broken

__all__ = ["LineProtocol"]

WRITE_MAX = 64 << 10
"""Most bytes that may wait for a venue to read them, beside the system's own buffers. What it is
told is little: when so much waits, it does not read."""


class LineProtocol(StampedReads, asyncio.BufferedProtocol):
    """One connection of a client.

    Args:
        line: where the bytes go after the upgrade.
        handshake: the upgrade to be made.
        seam: for the stamps: of the opening, of every read, of the end; and for the timer.
        on_open: called when the line was opened, before any byte of it is parsed.
        close_limit_s: how long a finished connection may take to be taken down.

    Attributes:
        upgraded: done when the upgrade was answered; raises HandshakeError.
        ended: done when the line reads no more; its result is the error that ended it, or None.
            The transport may still be on its way down, see :meth:`finish`.
    """

    def __init__(
        self,
        line: Line,
        handshake: ClientHandshake,
        seam: Seam,
        on_open: Callable[[int, int], None],
        close_limit_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._line = line
        self._handshake: ClientHandshake | None = handshake
        self._seam = seam
        self._on_open = on_open
        self._head = memoryview(bytearray(HEAD_MAX))
        self._transport: asyncio.Transport | None = None
        self._is_aborted = False
        self._close_limit_s = close_limit_s
        self._close_timer: asyncio.TimerHandle | None = None
        self.upgraded: asyncio.Future[None] = loop.create_future()
        self.upgraded.add_done_callback(_retrieve)
        self.ended: asyncio.Future[Exception | None] = loop.create_future()
        clocks = None if seam.has_system_clocks else (seam.time_ns, seam.monotonic_ns)
        super().__init__(self._head_buffer, self._receive_head, clocks)

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport
        self._transport = cast(asyncio.Transport, transport)
        if self._is_aborted:
            self.abort()
        elif self._handshake:
            self._transport.write(self._handshake.request())

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_closing()
        self._transport = None  # which holds this
        if isinstance(exc, ssl.SSLError):
            exc = broken(exc)
        if not self.upgraded.done():
            words = str(exc or "the connection was closed")
            is_named = isinstance(exc, TlsError)
            self.upgraded.set_exception(
                exc if exc and is_named else HandshakeError("handshake-cut", 0, words)
            )
        if not self.ended.done():
            self.ended.set_result(self._line.error or exc)

    # ---- ours

    def write(self, frame: bytes) -> None:
        """Send one frame; ignored when the connection is over. When more than ``WRITE_MAX`` bytes
        wait for the venue, that ends the connection."""
        if self._transport and not self._transport.is_closing():
            self._transport.write(frame)
            if self._transport.get_write_buffer_size() > WRITE_MAX:
                self._end(VenueError("write-overrun", 0, "the venue does not read"))
                self.abort()

    def close(self) -> None:
        """Close after what was written has been sent."""
        if self._transport:
            self._transport.close()

    def finish(self) -> None:
        """End the connection for the line at once, and close it behind the line's back: over TLS
        a close waits for the peer's, for longer than prices may stay readable."""
        if self.ended.done():
            return
        self._end(None)
        self.close()
        self._close_timer = self._seam.later(self._close_limit_s, self.abort)

    @property
    def is_closing(self) -> bool:
        """Whether it was finished and its transport is still on its way down."""
        return self._close_timer is not None

    def abort(self) -> None:
        """Close at once; a connection that is still being made is closed when it is there."""
        self._end_closing()
        self._is_aborted = True
        if self._transport:
            self._transport.abort()
            self._transport = None

    def _end(self, error: Exception | None) -> None:
        """End the connection for the line; its own error is the cause before any other."""
        # A closing transport may still read: the line may be another connection's by then.
        self._divert(self._head_buffer, _discard)
        if not self.ended.done():
            self.ended.set_result(self._line.error or error)

    def _end_closing(self) -> None:
        if self._close_timer:
            self._close_timer.cancel()
            self._close_timer = None

    def _head_buffer(self) -> memoryview:
        return self._head

    def _receive_head(self, n: int, ts: int, mono: int) -> int:
        assert self._handshake
        try:
            rest = self._handshake.receive(self._head[:n])
        except VenueError as error:
            if not self.upgraded.done():
                self.upgraded.set_exception(error)
            self.abort()
            return 0
        if rest is None:
            return 0
        self._handshake = None
        self._divert(self._line.window, self._line.received)
        self._line.open(ts, mono)
        self._on_open(ts, mono)
        self.upgraded.set_result(None)
        return self._line.feed(rest, ts, mono) if rest else 0

    def _finish(self) -> None:
        """The line reads no more: the peer closed, which the control handler has answered, or it
        broke the protocol, which is answered here. What was written leaves before the end."""
        if self._line.error is not None:
            code = self._line.close_code.to_bytes(2, "big")
            self.write(encode_frame(8, code, self._seam.random_bytes(4)))
        self.finish()


def _discard(n: int, ts_rx: int, mono_rx: int) -> int:
    """Ignore a read of a connection that was finished."""
    return 0


def _retrieve(future: asyncio.Future[None]) -> None:
    """Look at the result, which nobody else may do when a connect ran out of time."""
    if not future.cancelled():
        future.exception()
