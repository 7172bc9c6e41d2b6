"""One connection's life: connect, upgrade, subscribe, live, back off — as a table of states.

Rules:
1. Back-off is exponential, capped, with full jitter: a delay is uniform in
   [0, min(cap, base * 2**attempts)]. It starts again only after a minute of good health.
   A reconnect that the venue asked for is no failure, once in such a row; see :class:`Backoff`.
2. Every subscription is acknowledged or refused by name, or the connection is given up in time;
   one whose subscriptions were all refused, or refused without saying which, is given up at once.
3. Any byte received is life; a connection without one for the venue's limit is dropped. A quiet
   one is asked for a byte before the engine would take its prices for stale, where that is after
   2 s or later: nobody is asked before a second of silence.
4. Whatever ends a connection, its line is lost first, so that nothing stale stays readable.
5. Stopping breaks off whatever is waited for; only a venue's goodbye gets a second.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
import re
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from .codec import encode_frame
from .errors import SubscriptionError, UsageError, VenueError
from .handshake import ClientHandshake, parse_url, url_shown
from .line import Line
from .receive import LineProtocol, Resumption, connect
from .seam import Seam, is_loopback
from .venue import Answer, Control, Record, Venue

__all__ = ["Backoff", "Event", "Session", "SessionObserver", "State", "tls_context"]

_log = logging.getLogger("crosswire.session")

CONNECT_LIMIT_S = 10.0
ACK_LIMIT_S = 10.0
CLOSE_LIMIT_S = 1.0
HEALTHY_S = 60.0
PING_GAP_MIN_S = 1.0
"""Least silence before a ping, and so least time between two: with a subscription at most every
``Venue.message_gap_s`` and pongs only as answers, which end the silence, a connection sends at most
5 messages in a second, pings and pongs counted. That is what the strictest of the venues takes;
each says its limits beside its ``Heartbeat``."""

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_WORD = re.compile(r"[\w@-](?:[\w.@-]*[\w@-])?")
"""A word of a request or of a refusal; a full stop behind it is none of it."""


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
    """Return a verifying client context, TLS 1.2 or later; ``ca_file`` replaces the system's.

    Raises:
        UsageError: ``ca_file`` cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError is one
        raise UsageError(f"{ca_file}: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@dataclass
class Backoff:
    """Capped exponential back-off with full jitter.

    Attributes:
        base_s, cap_s: bounds of the first and of the longest delay.
        attempts: failures in a row.
        is_invited: a reconnect of this row was asked for by the venue.
    """

    base_s: float = 0.1
    cap_s: float = 30.0
    attempts: int = 0
    is_invited: bool = False

    def next_delay(self, uniform: Callable[[float, float], float]) -> float:
        """Return the next delay in seconds."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(self.attempts, 60))
        self.attempts += 1
        return uniform(0.0, ceiling)

    def invited_delay(self, uniform: Callable[[float, float], float]) -> float:
        """Return the delay in seconds before a reconnect that the venue asked for.

        The first since the last reset is of the shortest kind and counts as no failure. The next
        ones do: a venue that asks each new connection to go must not be hammered either.
        """
        if self.is_invited:
            return self.next_delay(uniform)
        self.is_invited = True
        return uniform(0.0, min(self.cap_s, self.base_s))

    def reset(self) -> None:
        """Begin again at the shortest delay."""
        self.attempts = 0
        self.is_invited = False


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
        liveness_limit_s: silence after which the engine takes the line's prices for stale; half
            of it is when the venue is asked for a sign of life, if its own time is not earlier.

    Attributes:
        state: where the connection is in its life.
        connects, losses: upgrades that succeeded, and those of them that ended unasked.
        refused: what the newest connection's venue refused, each as ``request: reason``.
        last_error: why the last attempt or connection ended, in words.
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
    liveness_limit_s: float = math.inf

    state: State = State.IDLE
    connects: int = 0
    losses: int = 0
    refused: list[str] = field(default_factory=list)
    last_error: str = ""

    def __post_init__(self) -> None:
        url = parse_url(self.url)
        self._host, self._port = url.host, url.port
        if not (url.secure or self.insecure or is_loopback(url.host)):
            raise UsageError(
                f"{url_shown(self.url)}: plain text off loopback; say insecure = true to allow it"
            )
        if url.secure and self.tls is None:
            raise UsageError(f"{url_shown(self.url)}: wss needs a TLS context")
        self._context = self.tls if url.secure else None
        self._resumption = Resumption()
        self._protocol: LineProtocol | None = None
        self._closing: list[LineProtocol] = []
        self._is_open = False
        self._request = 0
        self._requested = 0
        self._pending: set[str] = set()
        self._denied = 0
        self._nameless_refusal: str | None = None
        self._farewell: str | None = None
        self._answer = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._heard_at = 0
        self._heard_bytes = 0
        self.line.on_control = self._on_control

    # ---- life

    async def run(self) -> None:
        """Connect and stay connected until :meth:`stop`; never raises for what a venue does.

        However it ends, cancelled as well, the connection is gone then and the state STOPPED.
        """
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                self._move(Event.START)
                try:
                    await self._connect_once()
                except (OSError, VenueError) as error:  # a TimeoutError is an OSError
                    if not self._stopping.is_set():
                        where = (self.venue.name, self._host, self._port)
                        _log.warning("%s at %s:%d: %s", *where, self._note(error))
                if not self._stopping.is_set():
                    self._move(Event.FAILED)
                    await self._unless_stopped(self.seam.sleep(self._delay()))
        finally:
            for closing in self._closing:
                closing.abort()
            self._ended.set()
            self._move(Event.STOP)

    def _delay(self) -> float:
        """Return how long to wait before the next connect, in seconds."""
        next_delay = (
            self.backoff.next_delay if self._farewell is None else self.backoff.invited_delay
        )
        return next_delay(self.seam.uniform)

    async def stop(self) -> None:
        """Close the connection, with a close frame where one is open, and end :meth:`run`."""
        self._stopping.set()
        protocol = self._protocol
        if protocol and self.state in (State.SUBSCRIBING, State.LIVE):
            self._send(CLOSE, (1000).to_bytes(2, "big"))
            protocol.close()
            try:
                async with self.seam.timeout(CLOSE_LIMIT_S):
                    await asyncio.shield(protocol.ended)
            except TimeoutError:
                protocol.abort()
        await self._ended.wait()
        self._move(Event.STOP)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something, and break it off as soon as :meth:`stop` is called."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            task.cancel()
            stopping.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)

    def _move(self, event: Event) -> None:
        new = TRANSITIONS.get((self.state, event))
        if new is None:
            raise RuntimeError(f"session of {self.venue.name}: {event.value} in {self.state.value}")
        if new is not self.state:
            self.state = new
            self.observer.on_state(self)

    def _note(self, error: Exception) -> str:
        self.last_error = f"{type(error).__name__}: {error}"
        return self.last_error

    async def _connect_once(self) -> None:
        """One connection from the first packet to the last."""
        handshake = ClientHandshake(self.url)
        protocol = self._protocol = LineProtocol(
            self.line, handshake, self.seam, self._opened, CLOSE_LIMIT_S
        )
        self._farewell = None
        reason = "stopped"
        try:
            await self._unless_stopped(self._upgrade(protocol))
            if not self._stopping.is_set():
                self._move(Event.UPGRADED)
                await self._stay(protocol)
        except (OSError, VenueError) as error:
            if not self._stopping.is_set():
                reason = self._note(error)
            raise
        finally:
            self._release(protocol)
            self._lose(protocol, reason)

    def _release(self, protocol: LineProtocol) -> None:
        """Drop a connection; one that was finished gets its time, for the answer it still sends."""
        self._closing = [other for other in self._closing if other.is_closing]
        if protocol.is_closing:
            self._closing.append(protocol)
        else:
            protocol.abort()

    async def _upgrade(self, protocol: LineProtocol) -> None:
        """Connect and have the upgrade answered, both within the limit."""
        try:
            async with self.seam.timeout(CONNECT_LIMIT_S):
                await connect(
                    self.seam,
                    lambda: protocol,
                    self._host,
                    self._port,
                    self._context,
                    self._resumption,
                )
                self._move(Event.CONNECTED)
                await asyncio.shield(protocol.upgraded)
        except TimeoutError as error:
            words = str(error) or f"still {self.state.value} after {CONNECT_LIMIT_S:g} s"
            raise TimeoutError(words) from None

    def _opened(self, ts: int, mono: int) -> None:
        self.connects += 1
        self._is_open = True
        self._heard_at = mono
        self._heard_bytes = self.line.byte_count
        self.observer.on_opened(self, ts, mono)

    def _lose(self, protocol: LineProtocol, reason: str) -> None:
        """Take the line down, once per opened connection."""
        protocol.upgraded.cancel()
        if not self._is_open:
            return
        self._is_open = False
        ts, mono = self.seam.time_ns(), self.seam.monotonic_ns()
        self.losses += not self._stopping.is_set()
        try:
            self.observer.on_lost(self, ts, mono, reason)
        finally:
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
        if self._farewell is not None:
            return ConnectionError(f"the venue asked to reconnect: {self._farewell}")
        text = "closed by the venue" if self.line.is_closed else "cut by the venue"
        return ConnectionError(text)

    # ---- subscriptions

    async def _subscribe(self) -> None:
        """Send every subscription, paced, and wait until each is answered."""
        names = [self.venue.stream(native, record) for native, record in self.streams]
        size = self.venue.subscribe_max
        self._pending.clear()
        self.refused.clear()
        self._requested = self._denied = 0
        self._nameless_refusal = None
        for first in range(0, len(names), size):
            if first:
                await self.seam.sleep(self.venue.message_gap_s)
            self._request += 1
            for request, text in self.venue.subscribe(names[first : first + size], self._request):
                self._pending.add(request)
                self._requested += 1
                if text:
                    self._send(TEXT, text.encode())
        try:
            async with self.seam.timeout(ACK_LIMIT_S):
                while self._pending and self._nameless_refusal is None:
                    self._answer.clear()
                    await self._answer.wait()
        except TimeoutError:
            missing = ", ".join(sorted(self._pending))
            raise SubscriptionError("subscription-unanswered", 0, missing) from None
        if self._nameless_refusal is not None:
            raise SubscriptionError("subscription-refused", 0, self._nameless_refusal)
        if self._requested and self._denied == self._requested:
            raise SubscriptionError("subscription-refused", 0, "; ".join(self.refused))

    def _answered(self, answer: Answer) -> None:
        if answer.control is Control.REFUSED:
            self._refuse(answer)
        self._pending.discard(answer.request)
        self._answer.set()

    def _refuse(self, answer: Answer) -> None:
        """Take a refusal for the pending requests that it is about. Without a request id these are
        the ones that its text names, or the only one there is; else nobody knows which."""
        text = answer.text[:200]
        _log.error("%s refused %s: %s", self.venue.name, answer.request or "a request", text)
        requests = {answer.request} if answer.request else self._named_in(answer.text)
        requests &= self._pending
        if not (requests or answer.request):
            if len(self._pending) == 1:
                requests = set(self._pending)
            elif self._pending:
                self._nameless_refusal = text
        self.refused += [f"{request}: {text}" for request in sorted(requests)]
        self._denied += len(requests)
        self._pending -= requests

    def _named_in(self, text: str) -> set[str]:
        """Return the pending requests all words of which stand in a text; a number is no name."""
        words = set(_WORD.findall(text))
        return {
            request
            for request in self._pending
            if not request.isdecimal() and words.issuperset(_WORD.findall(request))
        }

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
                if self._protocol and not self._protocol.ended.done():
                    self._farewell = answer.text[:200]
                    self._protocol.finish()
            case Control.NOTICE:
                _log.info("%s: %s", self.venue.name, answer.text)
            case Control.UNKNOWN:
                self.line.reject()
                _log.warning("%s sent an unknown message: %.200s", self.venue.name, text)
            case Control.PONG:
                pass

    # ---- heartbeat

    async def _watch(self, protocol: LineProtocol) -> None:
        """Ping when nothing was heard, and give up when nothing was heard for too long.

        A silence is asked about once, so pings are never closer than the silence that calls for
        one, and the answer comes while prices are still alive: the look after half of the
        liveness limit is at most an eighth of it late.
        """
        beat = self.venue.heartbeat
        idle_s = min(beat.idle_s, max(self.liveness_limit_s / 2, PING_GAP_MIN_S))
        asked = False
        while not protocol.ended.done():
            await self.seam.sleep(min(idle_s, beat.limit_s) / 4)
            now = self.seam.monotonic_ns()
            if self.line.byte_count != self._heard_bytes:
                self._heard_bytes, self._heard_at, asked = self.line.byte_count, now, False
            silent_s = (now - self._heard_at) / 1e9
            if silent_s >= beat.limit_s:
                raise TimeoutError(f"no byte for {silent_s:.1f} s")
            if silent_s >= idle_s and not asked:
                asked = True
                if beat.text is None:
                    self._send(PING, b"")
                else:
                    self._send(TEXT, beat.text.encode())
