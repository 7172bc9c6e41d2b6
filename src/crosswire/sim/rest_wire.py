"""A connection of a REST server: what its two versions share, and what they need of the server."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from ..seam import reset_on_close
from .rest_faults import Luck, RestFault
from .rest_venue import Answer

__all__ = ["BODY_MAX", "HEAD_MAX", "Desk", "Exchange", "RestEntry", "RestWire"]

HEAD_MAX = 32 << 10
BODY_MAX = 1 << 20


@dataclass
class RestEntry:
    """One request in the account.

    Attributes:
        id: how many came before it, by their heads.
        connection: number of its connection, from 0.
        version: ``"1.1"`` or ``"2"``.
        address, key: whose it is.
        method, target: as sent.
        endpoint, instrument, weight, orders: as the venue counts it, once it is whole.
        head_mono_ns: when its head was read.
        mono_ns: when it was counted; 0: it was not.
        utc_ns: the same by the venue's clock.
        answered_mono_ns: when the last byte of its answer was written; 0: it was not.
        status: of the answer that was begun; ``None``: there was none.
        over: names of the limits that it was over.
        fault: kind of the fault that struck it, else ``None``.
        is_whole: all of it was read.
        is_carried_out: the handler was called.
    """

    id: int
    connection: int
    version: str
    address: str
    key: str | None
    method: str
    target: str
    head_mono_ns: int
    endpoint: str = ""
    instrument: str | None = None
    weight: int = 0
    orders: int = 0
    mono_ns: int = 0
    utc_ns: int = 0
    answered_mono_ns: int = 0
    status: int | None = None
    over: tuple[str, ...] = ()
    fault: str | None = None
    is_whole: bool = False
    is_carried_out: bool = False


@dataclass
class Exchange:
    """A request at work.

    Attributes:
        entry: in the account.
        headers: (name in lower case, value), in order.
        fault: that strikes it.
        is_last: its connection is closed behind the answer.
    """

    entry: RestEntry
    headers: tuple[tuple[str, str], ...]
    fault: RestFault | None
    luck: Luck | None
    is_last: bool = False


class Desk(Protocol):
    """What a connection needs of its server."""

    idle_limit_s: float | None

    def begin(
        self,
        wire: RestWire,
        version: str,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        *,
        can_be_struck: bool = True,
    ) -> Exchange:
        """Take a request whose head was read; a fault strikes it, if one may."""

    def finish(self, wire: RestWire, exchange: Exchange, body: bytes) -> None:
        """Take a request that is whole; its answer is played when its time has come."""

    def later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle | None:
        """Do something after a time; at once, and without a handle, after none."""

    def cancel(self, timer: asyncio.TimerHandle | None) -> None:
        """Forget what was to be done later."""

    def note_answered(self, entry: RestEntry) -> None:
        """Note that all of an answer was written."""

    def note_malformed(self) -> None:
        """Note that a connection is closed for what no request is."""

    def forget(self, wire: RestWire) -> None:
        """Take a connection that is gone."""


class RestWire(asyncio.Protocol):
    """One connection.

    Attributes:
        number: how many were accepted before it.
        address: of the client.
    """

    def __init__(self, desk: Desk, number: int, address: str) -> None:
        self.number = number
        self.address = address
        self._desk = desk
        self._transport: asyncio.Transport | None = None
        self._is_ended = False  # nothing is read or written any more
        self._is_reading = True
        self._is_full = False  # the client does not take what is written
        self._idle: asyncio.TimerHandle | None = None

    # ---- called by the server

    @abstractmethod
    def play(self, exchange: Exchange, answer: Answer) -> None:
        """Send an answer, as its fault has it; nothing where the connection is gone."""

    def abort(self) -> None:
        """Close the connection now."""
        self._end()
        if self._transport:
            self._transport.abort()

    def reset(self) -> None:
        """Close the connection now, with RST."""
        self._end()
        if self._transport:
            reset_on_close(self._transport)
            self._transport.abort()

    # ---- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._watch_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end()
        self._desk.forget(self)

    def pause_writing(self) -> None:
        """Read no further request while the client does not take its answers."""
        self._is_full = True
        self._regulate()

    def resume_writing(self) -> None:
        """Read on."""
        self._is_full = False
        self._regulate()

    # ---- for the two versions

    def _has_too_many(self) -> bool:
        """Return whether so many requests wait that no more are read."""
        return False

    def _say_goodbye(self) -> None:
        """Write what a version says before an idle connection is closed."""

    def _regulate(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        is_reading = not (self._is_full or self._has_too_many())
        if is_reading == self._is_reading:
            return
        self._is_reading = is_reading
        if is_reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _write(self, data: bytes) -> None:
        if self._transport and data and not self._transport.is_closing():
            self._transport.write(data)

    def _close(self) -> None:
        """Close the connection behind what was written."""
        self._end()
        if self._transport:
            self._transport.close()

    def _end(self) -> None:
        self._is_ended = True
        self._desk.cancel(self._idle)

    def _watch_idle(self, is_idle: bool = True) -> None:
        """Let the time without a request begin, or end."""
        self._desk.cancel(self._idle)
        self._idle = None
        if is_idle and self._desk.idle_limit_s and not self._is_ended:
            self._idle = self._desk.later(self._desk.idle_limit_s, self._leave)

    def _leave(self) -> None:
        self._say_goodbye()
        self._close()
