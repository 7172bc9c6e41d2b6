"""One connection of a venue, from the first packet to the last, as a table of states.

connecting → upgrading → subscribing → syncing → live ⇄ stale, draining, and at any time closed.

Rules:
1. Every subscription is acknowledged or refused by name, or the connection is given up in time;
   one whose subscriptions were all refused, or refused without saying which, is given up at once.
   An acknowledgement that came late is told.
2. It is live once every stream that quotes has, or a moment after the acknowledgements: a quiet
   instrument has nothing to say.
3. Any byte received is life of the connection; without one for the venue's limit, or for as long as
   an answer may take, it is dropped. A quiet one is asked for a byte before the engine would take
   its prices for stale, where that is after 2 s or later: nobody is asked before a second of
   silence.
4. Only data is life of a stream. One that the engine calls stale is subscribed again. When it then
   stays silent the connection is dropped, however well it answers pings: where the venue answers a
   subscription with what stands; elsewhere a stream may be quiet, and all of them must be silent.
5. Whatever ends a connection, its line is lost first, so that nothing stale stays readable.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import logging
import math
import re
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from .codec import encode_frame
from .errors import SubscriptionError, VenueError
from .handshake import ClientHandshake, parse_url
from .line import Line
from .receive import LineProtocol, Proxy, Resumption, connect
from .seam import Seam
from .venue import Answer, Control, Record, Venue
from .wake import KernelDelay

__all__ = ["TRANSITIONS", "Event", "Link", "LinkObserver", "LinkTerms", "State"]

_log = logging.getLogger("crosswire.session")

CONNECT_LIMIT_S = 10.0
ACK_LIMIT_S = 10.0
ACK_LATE_S = 3.0
"""An acknowledgement that takes longer is told as late."""
CLOSE_LIMIT_S = 1.0
SYNC_LIMIT_S = 1.0
"""How long a stream that quotes may take to do so before the connection is live without it; and
for how long it has been acknowledged when a line is said to carry all that its twins do: what was
on its way to them when it was subscribed has arrived by then."""
SYNC_LOOK_S = 0.02
DRAIN_LIMIT_S = 1.0
"""How long the answer to a last ping may take before a relieved connection is closed."""
REVIVE_LIMIT_S = 10.0
"""How long a stream that was subscribed again may stay silent."""
PING_GAP_MIN_S = 1.0
"""Least silence before a ping, and so least time between two: with a subscription at most every
``Venue.message_gap_s`` and pongs only as answers, which end the silence, a connection sends at most
5 messages in a second, pings and pongs counted. That is what the strictest of the venues takes;
each says its limits beside its ``Heartbeat``."""

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_WORD = re.compile(r"[\w@-](?:[\w.@-]*[\w@-])?")
"""A word of a request or of a refusal; a full stop behind it is none of it."""


class State(enum.Enum):
    """Where a connection is in its life; the last three are of whoever makes connections."""

    CONNECTING = "connecting"
    UPGRADING = "upgrading"
    SUBSCRIBING = "subscribing"
    SYNCING = "syncing"
    LIVE = "live"
    STALE = "stale"
    DRAINING = "draining"
    CLOSED = "closed"
    IDLE = "idle"
    BACKING_OFF = "backing-off"
    STOPPED = "stopped"


class Event(enum.Enum):
    """What moves a connection from one state to the next."""

    CONNECTED = "connected"
    UPGRADED = "upgraded"
    ACKNOWLEDGED = "acknowledged"
    SYNCED = "synced"
    SILENT = "silent"
    HEARD = "heard"
    RELIEVED = "relieved"
    ENDED = "ended"


_OPEN = (State.SUBSCRIBING, State.SYNCING, State.LIVE, State.STALE)

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.CONNECTING, Event.CONNECTED): State.UPGRADING,
    (State.UPGRADING, Event.UPGRADED): State.SUBSCRIBING,
    (State.SUBSCRIBING, Event.ACKNOWLEDGED): State.SYNCING,
    (State.SYNCING, Event.SYNCED): State.LIVE,
    (State.LIVE, Event.SILENT): State.STALE,
    (State.STALE, Event.HEARD): State.LIVE,
    **{(state, Event.RELIEVED): State.DRAINING for state in _OPEN},
    **{
        (state, Event.ENDED): State.CLOSED
        for state in (State.CONNECTING, State.UPGRADING, *_OPEN, State.DRAINING)
    },
}


@dataclass
class LinkTerms:
    """What every connection of a place is made with.

    Attributes:
        venue: the venue.
        streams: (native symbol, record) to subscribe.
        url: where to.
        tls: context for ``wss``.
        resumption: the TLS session of the place.
        liveness_limit_s: silence after which the engine takes the line's prices for stale; half
            of it is when the venue is asked for a sign of life, if its own time is not earlier.
        has_twins: the line is of a group, whose lines carry the same streams.
        proxy: to connect through.
        kernel_delay: counts how long reads lay in the kernel.
        requests: numbers of requests, so that no connection takes an answer to another's for its
            own.
    """

    venue: Venue
    streams: list[tuple[str, Record]]
    url: str
    tls: ssl.SSLContext | None = None
    resumption: Resumption = field(default_factory=Resumption)
    liveness_limit_s: float = math.inf
    has_twins: bool = False
    proxy: Proxy | None = None
    kernel_delay: KernelDelay | None = None
    requests: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class LinkObserver(Protocol):
    """What a connection tells whoever makes it."""

    def on_link_opened(self, link: Link, ts: int, mono: int) -> None:
        """The line was opened; no byte of it has been parsed."""

    def on_link_covered(self, link: Link, ts: int, mono: int) -> None:
        """The line is about to be said to carry all that its twins do."""

    def on_link_lost(self, link: Link, ts: int, mono: int, reason: str) -> None:
        """The line is about to be lost."""

    def on_link_state(self, link: Link) -> None:
        """The state has changed."""

    def on_farewell(self, link: Link) -> bool:
        """The venue will soon end the connection; returns whether it is to be kept until then."""


class Link:
    """One connection. It is made for one: :meth:`run` it, once.

    Args:
        terms: what it is made with.
        line: where its bytes go; nobody else's while it runs.
        seam: clock, randomness, network.
        observer: is told what happens.

    Attributes:
        state: where it is in its life.
        refused: what the venue refused, each as ``request: reason``.
        late: subscriptions whose acknowledgement took longer than 3 s.
        error: why it ended, in words; empty while it has not, and when it was told to.
        opened_mono: monotonic ns of the upgrade; 0 before.
        is_told_to_end: it was relieved, or said goodbye.
        settled: done once it carries what it can carry; cancelled when it ended before.
    """

    def __init__(self, terms: LinkTerms, line: Line, seam: Seam, observer: LinkObserver) -> None:
        self.terms = terms
        self.venue = terms.venue
        self.line = line
        self.seam = seam
        self.observer = observer
        self.state = State.CONNECTING
        self.refused: list[str] = []
        self.late: list[str] = []
        self.error = ""
        self.opened_mono = 0
        url = parse_url(terms.url)
        self._host, self._port = url.host, url.port
        self._protocol = LineProtocol(
            line, ClientHandshake(terms.url), seam, self._opened, CLOSE_LIMIT_S
        )
        self._is_open = False
        self.is_told_to_end = False
        self._farewell: str | None = None
        self._pending: set[str] = set()
        self._answer = asyncio.Event()
        self._nameless_refusal: str | None = None
        self._heard_at = 0
        self._heard_bytes = 0
        self._relieved = asyncio.Event()
        self._stale: set[str] = set()
        self._asked: set[str] = set()  # subscribed again, and stale since
        self._fell_silent = asyncio.Event()
        self._is_acknowledged = asyncio.Event()
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ids = {native: n for n, (name, native) in enumerate(line.engine.instruments)
               if name == self.venue.name}  # fmt: skip
        self._quoted = {
            native: ids[native]
            for native, record in terms.streams
            if record is Record.QUOTE and native in ids
        }
        line.on_control = self._on_control

    # ---- life

    async def run(self) -> None:
        """Go through the whole life; however it ends, cancelled as well, the line is lost then.

        Raises:
            OSError: it could not be made, broke, or fell silent (a TimeoutError).
            VenueError: the venue refused something, or broke the protocol.
        """
        reason = "stopped"
        try:
            await self._upgrade()
            self._move(Event.UPGRADED)
            await self._stay()
        except (OSError, VenueError) as error:
            if not self.is_told_to_end:
                reason = self.error = f"{type(error).__name__}: {error}"
                raise
        finally:
            self.settled.cancel()
            if not self._protocol.is_closing:
                self._protocol.abort()
            try:
                self._lose(reason)
            finally:
                self._move(Event.ENDED)

    def relieve(self) -> None:
        """Another connection carries the streams: end this one, once all that was on its way to it
        has come."""
        if self.state in _OPEN:
            self.is_told_to_end = True
            self._move(Event.RELIEVED)
            self._relieved.set()

    async def say_goodbye(self) -> None:
        """Close with a close frame, and wait a moment for the end; a connection that is not open
        yet is only aborted."""
        self.is_told_to_end = True
        if self.state in _OPEN:
            self._send(CLOSE, (1000).to_bytes(2, "big"))
            self._protocol.close()
            try:
                async with self.seam.timeout(CLOSE_LIMIT_S):
                    await asyncio.shield(self._protocol.ended)
            except TimeoutError:
                self._protocol.abort()

    def abort(self) -> None:
        """End at once, also what is still on its way down."""
        self.is_told_to_end = True
        self._protocol.abort()

    @property
    def is_closing(self) -> bool:
        """Whether it has ended and its transport is still on its way down."""
        return self._protocol.is_closing

    @property
    def is_dismissed(self) -> bool:
        """Whether the venue asked for the end."""
        return self._farewell is not None

    def _move(self, event: Event) -> None:
        new = TRANSITIONS.get((self.state, event))
        if new is None:
            raise RuntimeError(f"link of {self.venue.name}: {event.value} in {self.state.value}")
        self.state = new
        self.observer.on_link_state(self)

    async def _upgrade(self) -> None:
        """Connect and have the upgrade answered, both within the limit."""
        terms = self.terms
        try:
            async with self.seam.timeout(CONNECT_LIMIT_S):
                await connect(
                    self.seam,
                    lambda: self._protocol,
                    self._host,
                    self._port,
                    terms.tls,
                    terms.resumption,
                    proxy=terms.proxy,
                    delay=terms.kernel_delay,
                )
                self._move(Event.CONNECTED)
                await asyncio.shield(self._protocol.upgraded)
        except TimeoutError as error:
            words = str(error) or f"still {self.state.value} after {CONNECT_LIMIT_S:g} s"
            raise TimeoutError(words) from None

    def _opened(self, ts: int, mono: int) -> None:
        self._is_open = True
        self.opened_mono = self._heard_at = mono
        self._heard_bytes = self.line.byte_count
        self.observer.on_link_opened(self, ts, mono)

    def _lose(self, reason: str) -> None:
        """Take the line down, if it was opened."""
        self._protocol.upgraded.cancel()
        if not self._is_open:
            return
        self._is_open = False
        ts, mono = self.seam.time_ns(), self.seam.monotonic_ns()
        try:
            self.observer.on_link_lost(self, ts, mono, reason)
        finally:
            self.line.lose(ts, mono)

    async def _stay(self) -> None:
        """Settle, then watch until the connection ends."""
        parts = (self._settle(), self._watch(), self._revive(), self._drain())
        work = [asyncio.ensure_future(part) for part in parts]
        ended = self._protocol.ended
        try:
            waiting: set[asyncio.Future[Any]] = {*work, ended}
            while not ended.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for part in done - {ended}:
                    part.result()
            if not self.is_told_to_end:
                raise self._end()
        finally:
            for part in work:
                part.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    def _end(self) -> Exception:
        """Say why the connection ended."""
        error = self._protocol.ended.result()
        if error is not None:
            return error if isinstance(error, OSError | VenueError) else OSError(str(error))
        if self._farewell is not None:
            return ConnectionError(f"the venue asked to reconnect: {self._farewell}")
        text = "closed by the venue" if self.line.is_closed else "cut by the venue"
        return ConnectionError(text)

    # ---- subscriptions

    async def _settle(self) -> None:
        """From the subscriptions to a connection that is live, and carries what its twins do."""
        start = {native: self._quotes_of(native) for native in self._quoted}
        await self._subscribe(self.terms.streams)
        self._is_acknowledged.set()
        if self.state is State.SUBSCRIBING:  # it may have been relieved by now
            self._move(Event.ACKNOWLEDGED)
        acknowledged = self.seam.monotonic_ns()
        while self._age_s(acknowledged) < SYNC_LIMIT_S and any(
            self._quotes_of(native) == count for native, count in start.items()
        ):
            await self.seam.sleep(SYNC_LOOK_S)
        if self.state is State.SYNCING:
            self._move(Event.SYNCED)
        await self.seam.sleep(max(0.0, SYNC_LIMIT_S - self._age_s(acknowledged)))
        self._cover()
        if not self.settled.done():
            self.settled.set_result(None)

    def _cover(self) -> None:
        """Vouch for the line, where it has twins and nothing was refused."""
        if not self.terms.has_twins or self.refused or self.state is State.DRAINING:
            return
        ts, mono = self.seam.time_ns(), self.seam.monotonic_ns()
        try:
            self.observer.on_link_covered(self, ts, mono)
        finally:
            self.line.cover(ts, mono)

    def _quotes_of(self, native: str) -> int:
        return self.line.engine.top(self._quoted[native]).quotes

    def _age_s(self, mono: int) -> float:
        return (self.seam.monotonic_ns() - mono) / 1e9

    async def _subscribe(self, streams: Iterable[tuple[str, Record]]) -> None:
        """Send subscriptions, paced, and wait until each is answered."""
        names = [self.venue.stream(native, record) for native, record in streams]
        size = self.venue.subscribe_max
        requested: list[str] = []
        self._pending.clear()
        self._nameless_refusal = None
        refused = len(self.refused)
        for first in range(0, len(names), size):
            if first:
                await self.seam.sleep(self.venue.message_gap_s)
            batch = names[first : first + size]
            for request, text in self.venue.subscribe(batch, next(self.terms.requests)):
                self._pending.add(request)
                requested.append(request)
                if text:
                    self._send(TEXT, text.encode())
        await self._await_answers()
        if self._nameless_refusal is not None:
            raise SubscriptionError("subscription-refused", 0, self._nameless_refusal)
        if requested and len(self.refused) - refused == len(requested):
            raise SubscriptionError("subscription-refused", 0, "; ".join(self.refused))

    async def _await_answers(self) -> None:
        """Wait until no request is left; tell those that are late, and give up at the limit."""
        for limit_s in (ACK_LATE_S, ACK_LIMIT_S - ACK_LATE_S):
            try:
                async with self.seam.timeout(limit_s):
                    while self._pending and self._nameless_refusal is None:
                        self._answer.clear()
                        await self._answer.wait()
                return
            except TimeoutError:
                missing = ", ".join(sorted(self._pending))
                if limit_s == ACK_LATE_S:
                    self.late += sorted(self._pending)
                    _log.warning("%s has not answered yet: %s", self.venue.name, missing)
        raise SubscriptionError("subscription-unanswered", 0, missing)

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
                self._dismiss(answer.text)
            case Control.NOTICE:
                _log.info("%s: %s", self.venue.name, answer.text)
            case Control.UNKNOWN:
                self.line.reject()
                _log.warning("%s sent an unknown message: %.200s", self.venue.name, text)
            case Control.PONG:
                pass

    def _dismiss(self, text: str) -> None:
        """The venue will end the connection: leave it now, unless another one is being made."""
        if self._protocol.ended.done():
            return
        self._farewell = text[:200]
        if not self.observer.on_farewell(self):
            self._protocol.finish()

    # ---- silence

    async def _watch(self) -> None:
        """Ping when nothing was heard, and give up when nothing was heard for too long.

        A silence is asked about once, so pings are never closer than the silence that calls for
        one, and the answer comes while prices are still alive: the look after half of the
        liveness limit is at most an eighth of it late.
        """
        beat = self.venue.heartbeat
        idle_s = min(beat.idle_s, max(self.terms.liveness_limit_s / 2, PING_GAP_MIN_S))
        limit_s = min(beat.limit_s, idle_s + beat.answer_s)
        asked = False
        while True:
            await self.seam.sleep(min(idle_s, limit_s) / 4)
            if self._has_heard():
                asked = False
            silent_s = self._age_s(self._heard_at)
            if silent_s >= limit_s:
                raise TimeoutError(f"no byte for {silent_s:.1f} s")
            if silent_s >= idle_s and not asked:
                asked = True
                self._ask()

    def _has_heard(self) -> bool:
        """Note what was received since the last call; returns whether anything was."""
        if self.line.byte_count == self._heard_bytes:
            return False
        self._heard_bytes, self._heard_at = self.line.byte_count, self.seam.monotonic_ns()
        return True

    def _ask(self) -> None:
        text = self.venue.heartbeat.text
        if text is None:
            self._send(PING, b"")
        else:
            self._send(TEXT, text.encode())

    async def _drain(self) -> None:
        """Once relieved: ask for one more byte, which comes behind all that was on its way, and
        close when it has."""
        await self._relieved.wait()
        await self.seam.sleep(SYNC_LOOK_S)  # the other one carried everything before that byte
        heard = self.line.byte_count
        self._ask()
        start = self.seam.monotonic_ns()
        while self.line.byte_count == heard and self._age_s(start) < DRAIN_LIMIT_S:
            await self.seam.sleep(SYNC_LOOK_S)
        self._send(CLOSE, (1000).to_bytes(2, "big"))
        self._protocol.finish()

    def look(self, stale: Iterable[int]) -> None:
        """Compare the streams with the instruments that the engine calls stale; call it whenever
        time was let pass."""
        ids = set(stale)
        before = self._stale
        self._stale = {native for native, number in self._quoted.items() if number in ids}
        self._asked &= self._stale
        is_silent = bool(self._stale) or not self.line.is_live
        if self._stale - before:
            self._fell_silent.set()
        if self.state is State.LIVE and is_silent:
            self._move(Event.SILENT)
        elif self.state is State.STALE and not is_silent:
            self._move(Event.HEARD)

    async def _revive(self) -> None:
        """Subscribe streams again that fell silent; if they stay so the connection has failed."""
        await self._is_acknowledged.wait()
        while True:
            await self._fell_silent.wait()
            self._fell_silent.clear()
            streams = [(native, Record.QUOTE) for native in sorted(self._stale - self._asked)]
            if not streams:
                continue
            self._asked |= self._stale
            names = ", ".join(native for native, _ in streams)
            _log.warning("%s: silent, subscribed again: %s", self.venue.name, names)
            await self._unsubscribe(streams)
            await self._subscribe(streams)
            await self.seam.sleep(REVIVE_LIMIT_S)
            silent = [native for native, _ in streams if native in self._asked]
            if silent and (self.venue.speaks_first or len(self._stale) == len(self._quoted)):
                names = ", ".join(silent)
                raise SubscriptionError("stream-stale", 0, f"subscribed again, and silent: {names}")

    async def _unsubscribe(self, streams: Iterable[tuple[str, Record]]) -> None:
        if self.venue.unsubscribe is None:
            return
        names = [self.venue.stream(native, record) for native, record in streams]
        for text in self.venue.unsubscribe(names, next(self.terms.requests)):
            self._send(TEXT, text.encode())
            await self.seam.sleep(self.venue.message_gap_s)
