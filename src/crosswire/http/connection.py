"""What the connections of HTTP/1.1 and HTTP/2 have in common: a transport, an owner, one timer.

Rules:
1. The owner is told once that a connection takes no request any more, and once that its socket is
   closed, which is later: what was written is still sent, and TLS says goodbye.
2. One timer serves request after request: it looks at the deadlines of those that are out.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from ..seam import Seam
from .exchange import Exchange

__all__ = ["Connection", "Owner", "Terms"]

BUFFER_SIZE = 64 << 10


@dataclass(frozen=True)
class Terms:
    """What all connections of a pool have in common.

    Attributes:
        scheme, authority: of the base URL; the port stands in it where it is not the scheme's own.
        headers: constant ones of every request.
        head_max, body_max: of an answer, in bytes.
    """

    scheme: str
    authority: str
    headers: Sequence[tuple[str, str]]
    head_max: int
    body_max: int


class Connection(asyncio.BufferedProtocol):
    """What a pool needs of a connection, whatever it speaks.

    Args:
        terms: of the pool.
        seam: clock and timers.
        owner: is told what becomes of it.

    Attributes:
        is_shared: it carries many requests at once.
        is_open: it takes requests, now or later.
        is_leaving: it takes none any more, and ends when those that are out have.
        version: ``"1.1"`` or ``"2"``.
        idle_since: when it carried something last, monotonic ns.
        idle_max_ns: how long the server keeps it, by its own word; ``None``: it did not say.
        answers: how many it brought.
    """

    version: str
    is_shared: bool

    def __init__(self, terms: Terms, seam: Seam, owner: Owner) -> None:
        self.is_open = self.is_leaving = False
        self.answers = 0
        self.idle_since = 0
        self.idle_max_ns: int | None = None
        self._terms, self._seam, self._owner = terms, seam, owner
        self._clock = seam.monotonic_ns
        self._buffer = memoryview(bytearray(BUFFER_SIZE))
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._is_gone = False

    # ---- the owner's side

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """How many requests are out."""

    @property
    @abstractmethod
    def is_usable(self) -> bool:
        """A request may be sent now."""

    @abstractmethod
    def send(self, exchange: Exchange) -> None:
        """Send a request; only while :attr:`is_usable`."""

    @abstractmethod
    def cancel(self, exchange: Exchange) -> None:
        """Give up a request that is out."""

    @abstractmethod
    def close(self) -> None:
        """End; the requests that are out are told."""

    def abort(self) -> None:
        """Close the socket at once; what is still to be sent is dropped."""
        if self._transport is not None:
            self._transport.abort()

    async def ping(self) -> None:
        """Ask for a sign of life, and wait for it, or for the end; only where it is shared."""
        raise NotImplementedError

    # ---- the deadline

    def _mind(self, now: int, at: int) -> None:
        """Look at the deadlines at ``at``, or before."""
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._seam.later(max(0, at - now) / 1e9, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._look_at_deadlines(self._clock())

    @abstractmethod
    def _look_at_deadlines(self, now: int) -> None:
        """End what is late, and mind the next deadline."""

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        self.is_open = True
        self.idle_since = self._clock()
        self._owner.on_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost: {exc}" if exc else "the connection was lost")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport = None
        self._owner.on_lost(self)

    # ---- the end

    @abstractmethod
    def _end(self, words: str) -> None:
        """Fail the requests that are out, and leave."""

    def _leave(self) -> None:
        self.is_open = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
        if not self._is_gone:
            self._is_gone = True
            self._owner.on_gone(self)


class Owner(Protocol):
    """Who is told of a connection."""

    def on_made(self, connection: Connection) -> None:
        """It has a socket; called once, before all others."""

    def on_free(self, connection: Connection) -> None:
        """It takes a request again."""

    def on_gone(self, connection: Connection) -> None:
        """It takes none any more; called once."""

    def on_lost(self, connection: Connection) -> None:
        """Its socket is closed; called once, behind all others."""
