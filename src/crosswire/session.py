"""One place of a venue, kept connected: back-off, budget, replacement.

Rules:
1. Back-off is exponential, capped, with full jitter: a delay is uniform in
   [0, min(cap, base * 2**attempts)]. It starts again only after a minute of good health.
   A reconnect that the venue asked for is no failure, once in such a row; see
   :class:`ReconnectBackoff`.
   It never ends: there is no last try.
2. No connect begins before the process's budget and the venue's admit it.
3. Where the venue's data can be merged, a connection that the venue will end is replaced before
   it does: another one is made on the second line, and only when that carries everything is the
   first one closed. It is due when the venue says so, or shortly before the age at which it ends
   every connection.
4. Stopping breaks off whatever is waited for; only a venue's goodbye gets a second.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from .backoff import Backoff
from .errors import UsageError, VenueError
from .handshake import parse_url, url_shown
from .line import Line
from .link import TRANSITIONS, Event, Link, LinkTerms, State
from .receive import Proxy, Resumption, check_context
from .seam import Seam, is_loopback
from .venue import Record, Venue
from .wake import KernelDelay

__all__ = [
    "TRANSITIONS",
    "Event",
    "ReconnectBackoff",
    "Session",
    "SessionObserver",
    "State",
    "tls_context",
]

_log = logging.getLogger("crosswire.session")

HEALTHY_S = 60.0
RELIEF_SHARE = (0.90, 0.97)
"""Of the age at which a venue ends a connection: when it is replaced, at random, so that those
that were made together are not replaced together."""


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
class ReconnectBackoff(Backoff):
    """The delays of a row of reconnects, which a venue may have asked for.

    Attributes:
        is_invited: a reconnect of this row was asked for by the venue.
    """

    is_invited: bool = False

    def invited_delay(self, uniform: Callable[[float, float], float]) -> float:
        """Return the delay in seconds before a reconnect that the venue asked for.

        The first since the last reset is of the shortest kind and counts as no failure. The next
        ones do: a venue that asks each new connection to go must not be hammered either.
        """
        if self.is_invited:
            return self.next_delay(uniform)
        self.is_invited = True
        return uniform(0.0, self.base_s)

    def reset(self) -> None:
        """Begin again at the shortest delay."""
        super().reset()
        self.is_invited = False


class SessionObserver(Protocol):
    """What a session tells whoever runs it."""

    def on_opened(self, session: Session, line: Line, ts: int, mono: int) -> None:
        """A line was opened; no byte of it has been parsed."""

    def on_covered(self, session: Session, line: Line, ts: int, mono: int) -> None:
        """A line is about to be said to carry all that its twins do."""

    def on_lost(self, session: Session, line: Line, ts: int, mono: int, reason: str) -> None:
        """A line is about to be lost."""

    def on_state(self, session: Session) -> None:
        """The state has changed."""


@dataclass
class Session:
    """Keeps one place of a venue connected and subscribed.

    Args:
        venue: the venue.
        line: the line to feed.
        streams: (native symbol, record) to subscribe.
        seam: clock, randomness, network.
        observer: is told what happens.
        url: replaces the venue's own.
        tls: context for ``wss``; required there, and ``ws`` is allowed on loopback only. Off
            loopback it must verify certificate and host name.
        insecure: allow ``ws`` off loopback.
        proxy: to connect through; ``None``: none, whatever the environment says.
        liveness_limit_s: silence after which the engine takes the line's prices for stale; half
            of it is when the venue is asked for a sign of life, if its own time is not earlier.
        spare: a second line of the same group, for the connection that relieves another; without
            one a connection is left before the next is made.
        has_twins: both lines are of a group.

    Attributes:
        connects, losses: upgrades that succeeded, and those of them that ended unasked.
        reliefs: connections that another one took over from before they ended.
        refused: what the newest connection's venue refused, each as ``request: reason``.
        late: its subscriptions that were acknowledged late, or not yet, after 3 s.
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
    backoff: ReconnectBackoff = field(default_factory=ReconnectBackoff)
    liveness_limit_s: float = math.inf
    spare: Line | None = None
    has_twins: bool = False
    proxy: Proxy | None = None

    connects: int = 0
    losses: int = 0
    reliefs: int = 0
    refused: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
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
        if url.secure and self.tls:
            check_context(self.tls, url.host)
        if self.proxy:
            self.proxy.authorization()
        self._kernel_delay = KernelDelay()
        self._terms = LinkTerms(
            self.venue,
            self.streams,
            self.url,
            self.tls if url.secure else None,
            Resumption(),
            self.liveness_limit_s,
            self.has_twins,
            self.proxy,
            self._kernel_delay,
        )
        self._lines = [self.line] if self.spare is None else [self.line, self.spare]
        self._link: Link | None = None
        self._next: Link | None = None
        self._tasks: dict[Link, asyncio.Task[None]] = {}
        self._due: dict[Link, asyncio.TimerHandle] = {}
        self._closing: list[Link] = []
        self._relief: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._rest = self._told = State.IDLE
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def state(self) -> State:
        """Where the connection that carries the streams is in its life, or why there is none."""
        return self._rest if self._link is None else self._link.state

    @property
    def lines(self) -> list[Line]:
        """Its lines: the first, and the spare where there is one."""
        return list(self._lines)

    def kernel_to_read_ns(self) -> dict[str, int]:
        """Return ``{"count", "p50", "p99", "p99_9", "max"}`` of the ns that reads lay in the
        kernel, from its stamp of their last packet on; of one read in seven of all connections.

        Nothing is counted, and all is 0, in plain text, on the loop's own TLS, and where the system
        stamps no packets.
        """
        return self._kernel_delay.quantiles_ns()

    # ---- life

    async def run(self) -> None:
        """Connect and stay connected until :meth:`stop`; never raises for what a venue does.

        However it ends, cancelled as well, the connection is gone then and the state STOPPED.
        """
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                await self._unless_stopped(self._admit())
                if not self._stopping.is_set():
                    self._link = self._make()
                    self._note_state()
                    delay_s = await self._carry()
                if not self._stopping.is_set():
                    self._rest = State.BACKING_OFF
                    self._note_state()
                    await self._unless_stopped(self.seam.sleep(delay_s))
            self._drop_relief()
            if self._link:
                await self._link.say_goodbye()
        finally:
            await self._end()

    async def stop(self) -> None:
        """Close the connection, with a close frame where one is open, and end :meth:`run`."""
        self._stopping.set()
        await self._ended.wait()
        self._rest = State.STOPPED
        self._note_state()

    async def _end(self) -> None:
        """Let go of everything, at once."""
        self._stopping.set()
        tasks = [*self._tasks.values(), *([self._relief] if self._relief else [])]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for link in self._closing:
                link.abort()
            self._link = None
            self._rest = State.STOPPED
            self._ended.set()
            self._note_state()

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

    async def _admit(self) -> None:
        """Wait until one more connect may begin."""
        place = f"{self.venue.name} {self._host}"
        await self.seam.connect_budget.admit(self.seam, place, self.venue.connect_limit)

    def _note_state(self) -> None:
        if self.state is not self._told:
            self._told = self.state
            self.observer.on_state(self)

    def look(self, stale: Iterable[int]) -> None:
        """Take note of the instruments that the engine calls stale, whenever time was let pass."""
        if self._link:
            self._link.look(stale)

    # ---- one connection after the other

    def _make(self) -> Link:
        """Begin a connection on a line that no other one uses."""
        used = {link.line for link in self._tasks}
        line = next(line for line in self._lines if line not in used)
        link = Link(self._terms, line, self.seam, self)
        self._tasks[link] = asyncio.ensure_future(link.run())
        self._tasks[link].add_done_callback(lambda task: self._forget(link, task))
        return link

    def _forget(self, link: Link, task: asyncio.Task[None]) -> None:
        """A connection has ended. What the venue did is told by whoever waits for it."""
        del self._tasks[link]
        if due := self._due.pop(link, None):
            due.cancel()
        self._closing = [other for other in self._closing if other.is_closing]
        if link.is_closing:
            self._closing.append(link)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, OSError | VenueError):
            self._failure = error
            _log.error("a connection of %s failed", self.venue.name, exc_info=error)
        elif error is not None and not (self._stopping.is_set() or link.is_told_to_end):
            self.last_error = f"{type(error).__name__}: {error}"
            where = (self.venue.name, self._host, self._port)
            _log.warning("%s at %s:%d: %s", *where, self.last_error)
        self._changed.set()

    async def _carry(self) -> float:
        """Stay connected; returns, once no connection is left, how long to wait before the next."""
        delay_s = 0.0
        while self._link and not self._stopping.is_set():
            link = self._link
            self._changed.clear()
            if link in self._tasks:
                await self._unless_stopped(self._until_changed())
            if self._failure:
                raise self._failure
            if link in self._tasks or self._link is not link:
                continue
            delay_s = self._delay_after(link)
            self._drop_relief()
            self._take_over(self._next)
        return delay_s

    async def _until_changed(self) -> None:
        await self._changed.wait()

    def _delay_after(self, link: Link) -> float:
        """Return how long to wait before the next connect, in seconds."""
        self._forgive(link)
        if self._next:
            return 0.0  # one is under way
        invited = link.is_dismissed
        delay = self.backoff.invited_delay if invited else self.backoff.next_delay
        return delay(self.seam.uniform)

    def _forgive(self, link: Link) -> None:
        """Begin again at the shortest delay, where a connection lasted long enough."""
        age_ns = self.seam.monotonic_ns() - link.opened_mono
        if link.opened_mono and age_ns >= HEALTHY_S * 1e9:
            self.backoff.reset()

    # ---- one connection in the place of another

    def _take_over(self, link: Link | None) -> None:
        """From now on a connection carries the streams, if there is one."""
        self._link, self._next = link, None
        if link:
            self.refused, self.late = link.refused, link.late
            self._note_state()

    def _drop_relief(self) -> None:
        """Break off what is done for a relief; a connection that it made goes on."""
        if self._relief:
            self._relief.cancel()
            self._relief = None

    def _start_relief(self, link: Link) -> None:
        if self._stopping.is_set():
            return
        if link is self._link and (self._relief is None or self._relief.done()):
            self._relief = asyncio.ensure_future(self._relieve(link))
            self._relief.add_done_callback(self._forget_relief)

    def _forget_relief(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._failure = task.exception() or self._failure
            self._changed.set()

    async def _relieve(self, old: Link) -> None:
        """Make another connection, for as long as the old one lasts, and let it take over when it
        carries everything. Should the old one end before, the new one has its place at once."""
        self._forgive(old)
        delay = self.backoff.invited_delay
        while True:
            await self.seam.sleep(delay(self.seam.uniform))
            while len(self._tasks) >= len(self._lines):  # an older one is on its way down
                await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            await self._admit()
            if self._link is not old:
                return
            new = self._next = self._make()
            task = self._tasks[new]
            await asyncio.wait({task, new.settled}, return_when=asyncio.FIRST_COMPLETED)
            if self._next is not new:
                return
            if not task.done() and not new.settled.cancelled():
                if len(new.refused) <= len(old.refused):
                    self.reliefs += 1
                    self._take_over(new)
                    old.relieve()
                    return
                new.relieve()
            self._next = None
            await asyncio.wait({task})
            delay = self.backoff.next_delay

    # ---- what connections tell

    def on_link_opened(self, link: Link, ts: int, mono: int) -> None:
        self.connects += 1
        if link is self._link:
            self.refused, self.late = link.refused, link.late
        if self.spare and math.isfinite(self.venue.life_s):
            age_s = self.venue.life_s * self.seam.uniform(*RELIEF_SHARE)
            self._due[link] = self.seam.later(age_s, lambda: self._start_relief(link))
        self.observer.on_opened(self, link.line, ts, mono)

    def on_link_covered(self, link: Link, ts: int, mono: int) -> None:
        self.observer.on_covered(self, link.line, ts, mono)

    def on_link_lost(self, link: Link, ts: int, mono: int, reason: str) -> None:
        self.losses += not (self._stopping.is_set() or link.is_told_to_end)
        self.observer.on_lost(self, link.line, ts, mono, reason)

    def on_link_state(self, link: Link) -> None:
        if link is self._link and link.state is not State.CLOSED:
            self._note_state()

    def on_farewell(self, link: Link) -> bool:
        if self.spare is None or link is not self._link:
            return False
        self._start_relief(link)
        return True
