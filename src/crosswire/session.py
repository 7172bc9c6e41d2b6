"""One connection's life: connect, upgrade, subscribe, live, back off — as a table of states.

Rules:
1. Back-off is exponential, capped, with full jitter: a delay is uniform in
   [0, min(cap, base * 2**attempts)]. It starts again only after a minute of good health.
2. Every subscription is acknowledged, refused by name, or the connection is given up in time.
3. Any byte received is life; a connection without one for the venue's limit is dropped.
4. Whatever ends a connection, its line is lost first, so that nothing stale stays readable.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from .codec import encode_frame
from .engine import Line
from .errors import SubscriptionError, UsageError, VenueError
from .handshake import ClientHandshake
from .receive import LineProtocol
from .seam import Seam
from .venue import Answer, Control, Record, Venue

__all__ = ["Backoff", "Event", "Session", "SessionObserver", "State", "tls_context"]

_log = logging.getLogger("crosswire.session")

CONNECT_LIMIT_S = 10.0
ACK_LIMIT_S = 10.0
CLOSE_LIMIT_S = 1.0
HEALTHY_S = 60.0

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class State(enum.Enum):
    """Where a connection is in its life."""

    IDLE = "idle"
    CONNECTING = "connecting"
    UPGRADING = "upgrading"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    BACKING_OFF = "backing-off"
    STOPPED = "stopped"


class Event(enum.Enum):
    """What moves a connection from one state to the next."""

    START = "start"
    CONNECTED = "connected"
    UPGRADED = "upgraded"
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    STOP = "stop"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.START): State.CONNECTING,
    (State.BACKING_OFF, Event.START): State.CONNECTING,
    (State.CONNECTING, Event.CONNECTED): State.UPGRADING,
    (State.UPGRADING, Event.UPGRADED): State.SUBSCRIBING,
    (State.SUBSCRIBING, Event.ACKNOWLEDGED): State.LIVE,
    (State.CONNECTING, Event.FAILED): State.BACKING_OFF,
    (State.UPGRADING, Event.FAILED): State.BACKING_OFF,
    (State.SUBSCRIBING, Event.FAILED): State.BACKING_OFF,
    (State.LIVE, Event.FAILED): State.BACKING_OFF,
    **{(state, Event.STOP): State.STOPPED for state in State},
}


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a verifying client context, TLS 1.2 or later; ``ca_file`` replaces the system's."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@dataclass
class Backoff:
    """Capped exponential back-off with full jitter.

    Attributes:
        base_s, cap_s: bounds of the first and of the longest delay.
        attempts: failures in a row.
    """

    base_s: float = 0.1
    cap_s: float = 30.0
    attempts: int = 0

    def next_delay(self, uniform: Callable[[float, float], float]) -> float:
        """Return the next delay in seconds."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(self.attempts, 60))
        self.attempts += 1
        return uniform(0.0, ceiling)

    def reset(self) -> None:
        """Begin again at the shortest delay."""
        self.attempts = 0


class SessionObserver(Protocol):
    """What a session tells whoever runs it."""

    def on_opened(self, session: Session, ts: int, mono: int) -> None:
        """The line was opened; no byte of it has been parsed."""

    def on_lost(self, session: Session, ts: int, mono: int, reason: str) -> None:
        """The line is about to be lost."""

    def on_state(self, session: Session) -> None:
        """The state has changed."""


@dataclass
class Session:
    """Keeps one line of a venue connected and subscribed.

    Args:
        venue: the venue.
        line: the line to feed.
        streams: (native symbol, record) to subscribe.
        seam: clock, randomness, network.
        observer: is told what happens.
        url: replaces the venue's own.
        tls: context for ``wss``; required there, and ``ws`` is allowed on loopback only.
        insecure: allow ``ws`` off loopback.
    """

    venue: Venue
    line: Line
    streams: list[tuple[str, Record]]
    seam: Seam
    observer: SessionObserver
    url: str
    tls: ssl.SSLContext | None = None
    insecure: bool = False
    backoff: Backoff = field(default_factory=Backoff)

    state: State = State.IDLE
    connects: int = 0
    losses: int = 0
    refused: list[str] = field(default_factory=list)
    last_error: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise UsageError(f"{self.url!r} is no ws:// or wss:// URL")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "wss" else 80)
        is_loopback = self._host in ("localhost", "::1") or self._host.startswith("127.")
        if parts.scheme == "ws" and not (is_loopback or self.insecure):
            raise UsageError(
                f"{self.url}: plain text off loopback; say insecure = true to allow it"
            )
        if parts.scheme == "wss" and self.tls is None:
            raise UsageError(f"{self.url}: wss needs a TLS context")
        self._context = self.tls if parts.scheme == "wss" else None
        self._protocol: LineProtocol | None = None
        self._pending: set[str] = set()
        self._acknowledged = asyncio.Event()
        self._request = 0
        self._is_stopping = False
        self._heard_at = 0
        self._heard_bytes = 0
        self.line.on_control = self._on_control

    # ---- life

    async def run(self) -> None:
        """Connect and stay connected until :meth:`stop`; never raises for what a venue does."""
        while not self._is_stopping:
            self._move(Event.START)
            try:
                await self._connect_once()
            except (OSError, VenueError, TimeoutError) as error:
                self._fail(error)
            if not self._is_stopping:
                await self.seam.sleep(self.backoff.next_delay(self.seam.uniform))

    async def stop(self) -> None:
        """Close the connection, with a close frame where one is open, and end :meth:`run`."""
        self._is_stopping = True
        protocol = self._protocol
        if protocol and not protocol.ended.done():
            if self.state in (State.SUBSCRIBING, State.LIVE):
                self._send(CLOSE, (1000).to_bytes(2, "big"))
            protocol.close()
            try:
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await asyncio.shield(protocol.ended)
            except TimeoutError:
                protocol.abort()
        self._move(Event.STOP)

    def _move(self, event: Event) -> None:
        new = TRANSITIONS.get((self.state, event))
        if new is None:
            raise RuntimeError(f"session of {self.venue.name}: {event.value} in {self.state.value}")
        if new is not self.state:
            self.state = new
            self.observer.on_state(self)

    def _fail(self, error: BaseException) -> None:
        self.last_error = f"{type(error).__name__}: {error}"
        _log.warning("%s: %s", self.venue.name, self.last_error)
        if not self._is_stopping:
            self._move(Event.FAILED)

    async def _connect_once(self) -> None:
        """One connection from the first packet to the last."""
        handshake = ClientHandshake(self.url)
        self._pending.clear()
        self._acknowledged.clear()
        protocol: LineProtocol | None = None
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                _, made = await self.seam.connect(
                    lambda: LineProtocol(self.line, handshake, self.seam, self._opened),
                    self._host,
                    self._port,
                    self._context,
                    self._host if self._context else None,
                )
                assert isinstance(made, LineProtocol)
                protocol = self._protocol = made
                self._move(Event.CONNECTED)
                await asyncio.shield(protocol.upgraded)
            self._move(Event.UPGRADED)
            await self._stay(protocol)
        finally:
            if protocol:
                protocol.abort()
                self._lose(protocol)

    def _opened(self, ts: int, mono: int) -> None:
        self.connects += 1
        self._heard_at = mono
        self._heard_bytes = self.line.byte_count
        self.observer.on_opened(self, ts, mono)

    def _lose(self, protocol: LineProtocol) -> None:
        """Take the line down, once per opened connection."""
        upgraded = protocol.upgraded
        if not upgraded.done():
            upgraded.cancel()
            return
        if upgraded.cancelled() or upgraded.exception() is not None:
            return
        ts, mono = self.seam.time_ns(), self.seam.monotonic_ns()
        self.losses += not self._is_stopping
        self.observer.on_lost(self, ts, mono, self.last_error)
        self.line.lose(ts, mono)

    async def _stay(self, protocol: LineProtocol) -> None:
        """Subscribe, then watch until the connection ends."""
        opened = self.seam.monotonic_ns()
        watch = asyncio.ensure_future(self._watch(protocol))
        subscribe = asyncio.ensure_future(self._subscribe())
        try:
            waiting: set[asyncio.Future[Any]] = {watch, subscribe, protocol.ended}
            while not (watch.done() or protocol.ended.done()):
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if subscribe in done:
                    subscribe.result()
                    self._move(Event.ACKNOWLEDGED)
            if watch.done():
                watch.result()
            raise self._end_of(protocol)
        finally:
            watch.cancel()
            subscribe.cancel()
            await asyncio.gather(watch, subscribe, return_exceptions=True)
            if self.seam.monotonic_ns() - opened >= HEALTHY_S * 1e9:
                self.backoff.reset()

    def _end_of(self, protocol: LineProtocol) -> Exception:
        """Say why the connection ended."""
        error = protocol.ended.result() if protocol.ended.done() else None
        if error is not None:
            return error if isinstance(error, OSError | VenueError) else OSError(str(error))
        text = "closed by the venue" if self.line.is_closed else "cut by the venue"
        return ConnectionError(text)

    # ---- subscriptions

    async def _subscribe(self) -> None:
        """Send every subscription, paced, and wait until each is answered."""
        names = [self.venue.stream(native, record) for native, record in self.streams]
        size = self.venue.subscribe_max
        for first in range(0, len(names), size):
            if first:
                await self.seam.sleep(self.venue.message_gap_s)
            self._request += 1
            for request, text in self.venue.subscribe(names[first : first + size], self._request):
                self._pending.add(request)
                if text:
                    self._send(TEXT, text.encode())
        if not self._pending:
            return
        try:
            async with asyncio.timeout(ACK_LIMIT_S):
                await self._acknowledged.wait()
        except TimeoutError:
            missing = ", ".join(sorted(self._pending))
            raise SubscriptionError("subscription-unanswered", 0, missing) from None
        if len(self.refused) >= len(names):
            raise SubscriptionError("subscription-refused", 0, "; ".join(self.refused))

    def _answered(self, answer: Answer) -> None:
        if answer.control is Control.REFUSED:
            self.refused.append(f"{answer.request}: {answer.text}")
            _log.error("%s refused %s: %s", self.venue.name, answer.request, answer.text)
        self._pending.discard(answer.request)
        if not self._pending:
            self._acknowledged.set()

    # ---- control messages

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._protocol:
            self._protocol.write(encode_frame(opcode, payload, self.seam.random_bytes(4)))

    def _on_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self._send(CLOSE, payload[:2])
        elif opcode == TEXT:
            self._on_message(payload.decode())

    def _on_message(self, text: str) -> None:
        answer = self.venue.understand(text)
        match answer.control:
            case Control.ACK | Control.REFUSED:
                self._answered(answer)
            case Control.GOING_AWAY:
                _log.warning("%s is going away: %s", self.venue.name, answer.text)
                if self._protocol:
                    self._protocol.close()
            case Control.NOTICE:
                _log.info("%s: %s", self.venue.name, answer.text)
            case Control.UNKNOWN:
                self.line.reject()
                _log.warning("%s sent an unknown message: %.200s", self.venue.name, text)
            case Control.PONG:
                pass

    # ---- heartbeat

    async def _watch(self, protocol: LineProtocol) -> None:
        """Ping when nothing was heard, and give up when nothing was heard for too long."""
        beat = self.venue.heartbeat
        asked = False
        while not protocol.ended.done():
            await self.seam.sleep(min(beat.idle_s, beat.limit_s) / 4)
            now = self.seam.monotonic_ns()
            if self.line.byte_count != self._heard_bytes:
                self._heard_bytes, self._heard_at, asked = self.line.byte_count, now, False
            silent_s = (now - self._heard_at) / 1e9
            if silent_s >= beat.limit_s:
                raise TimeoutError(f"no byte for {silent_s:.1f} s")
            if silent_s >= beat.idle_s and not asked:
                asked = True
                if beat.text is None:
                    self._send(PING, b"")
                else:
                    self._send(TEXT, beat.text.encode())
