"""Connections to one host, kept warm, and the requests that they carry.

Rules:
1. Nothing is sent twice: no retry, no redirect, no proxy of the environment, no cookie.
2. A request that finds a warm connection is written at once. Others wait for one, the most urgent
   kind first, in the order of arrival, at most ``waiting_max`` of them.
3. One deadline holds for all of a request: waiting, connecting, sending and the answer.
4. A connect that fails fails all that wait: not each of them asks anew.
5. A connection that the server may have given up is not used: none that was idle for longer than
   ``idle_max_s``, or than its own ``Keep-Alive`` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Self

from ..backoff import Backoff
from ..checks import as_word, check_type, check_whole, limit_ns
from ..errors import RequestError, UsageError
from ..receive.proxy import Proxy
from ..receive.tls import Resumption
from ..seam import Seam
from .connection import Connection
from .exchange import Exchange, check_body, check_method, check_target, checked_headers
from .message import Kind, Response
from .origin import PROTOCOLS, Origin

__all__ = ["LIMITS_S", "Pool", "Probe", "limits_ns"]

LIMITS_S: Mapping[Kind, float] = MappingProxyType(
    {Kind.CANCEL: 2.0, Kind.ORDER: 2.0, Kind.QUERY: 5.0, Kind.PUBLIC: 10.0}
)
"""How long a request may take, by its kind."""
GOODBYE_S = 1.0
"""How long a pool that is closed waits for its servers to end their sides, too."""
REWARM_S, REWARM_MAX_S = 0.1, 5.0
"""Delays of connects that replace warm connections which failed, at first and at most."""
_URGENCY = tuple(Kind)


@dataclass(frozen=True)
class Probe:
    """What keeps an idle connection warm.

    Attributes:
        target: of a cheap GET, over HTTP/1.1; HTTP/2 has its PING.
        limit_s: within which an answer must come; else the connection is replaced.
    """

    target: str
    limit_s: float = 5.0


class Pool:
    """Connections to one host; see :mod:`crosswire.http.pool`.

    It belongs to the event loop that uses it first. ``async with`` opens and closes it.

    Args:
        url: ``https://HOST[:PORT]``, or ``http://`` on loopback.
        seam: clock, timers and sockets.
        tls: verifies the server; ``None``: the system's authorities. For HTTP/2 it must offer it
            by ``set_alpn_protocols``; it is not changed here.
        headers: of every request.
        limits_s: how long a request may take, by its kind.
        version: ``"1.1"``, ``"2"``, or ``"auto"``: what the server picks of both.
        connections_max: that may be open, or being opened, at once, without those of HTTP/2 that
            take no more and wait for their last answers.
        warm: how many are kept open.
        idle_max_s: how long an idle HTTP/1.1 connection may have been, to be used.
        probe: keeps the warm ones in use; ``None``: they are replaced before ``idle_max_s``.
        head_max, body_max: of an answer, in bytes.
        waiting_max: requests that may wait for a connection.
        proxy: to go through; ``None``: straight, whatever the environment says.
        resumption: of TLS sessions, shared with a pool before this one; ``None``: its own.

    Attributes:
        connects, resumed: connections that were opened, and those that resumed a TLS session.
        connect_failures: connects that failed.
        requests, answers: that were asked for, and that came.
        errors: requests that ended with an error, by its code.

    Raises:
        UsageError: one of these is not what it must be.
    """

    def __init__(
        self,
        url: str,
        seam: Seam,
        tls: ssl.SSLContext | None = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        limits_s: Mapping[Kind, float] = LIMITS_S,
        version: str = "1.1",
        connections_max: int = 8,
        warm: int = 1,
        idle_max_s: float = 25.0,
        probe: Probe | None = None,
        head_max: int = 32 << 10,
        body_max: int = 16 << 20,
        waiting_max: int = 256,
        proxy: Proxy | None = None,
        resumption: Resumption | None = None,
    ) -> None:
        if not isinstance(version, str) or version not in PROTOCOLS:
            raise UsageError(f"version is {version!r}; it may be {', '.join(PROTOCOLS)}")
        check_whole(1, connections_max=connections_max, head_max=head_max, body_max=body_max)
        check_whole(0, warm=warm, waiting_max=waiting_max)
        if warm > connections_max:
            raise UsageError(f"warm is {warm}, and connections_max only {connections_max}")
        idle_max_ns = limit_ns(idle_max_s, "idle_max_s")
        if proxy is not None:
            check_type(proxy, Proxy, "proxy", "crosswire.receive.parse_proxy(URL) makes one")
        if resumption is not None:
            check_type(resumption, Resumption, "resumption")
        self._limits_ns = limits_ns(LIMITS_S, limits_s)
        headers = checked_headers(headers)
        check_type(seam, Seam, "seam", "crosswire.seam.System() is the real one")
        if probe is not None:
            check_type(probe, Probe, "probe", 'Probe("/time") makes one')
            check_target(probe.target)
            limit_ns(probe.limit_s)
        self._origin = Origin(
            url, seam, tls, version, proxy=proxy, resumption=resumption, headers=headers,
            head_max=head_max, body_max=body_max,
        )  # fmt: skip
        self._seam, self._clock, self._probe = seam, seam.monotonic_ns, probe
        self._connections_max, self._warm, self._waiting_max = connections_max, warm, waiting_max
        self._idle_max_ns = idle_max_ns
        self._backoff = Backoff(REWARM_S, REWARM_MAX_S)
        self._open: set[Connection] = set()
        self._sockets: set[Connection] = set()  # with those that are on their way out
        self._lost = asyncio.Event()  # set while there are none
        self._lost.set()
        self._free: list[Connection] = []
        self._waiting: dict[Kind, deque[Exchange]] = {kind: deque() for kind in _URGENCY}
        self._waiting_count = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._probing: set[asyncio.Task[None]] = set()
        self._tending: asyncio.TimerHandle | None = None
        self._rewarming: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_started = self._is_closed = False
        self.connects = self.resumed = self.connect_failures = 0
        self.requests = self.answers = 0
        self.errors: Counter[str] = Counter()

    # ---- state

    @property
    def open_count(self) -> int:
        """Connections that are open."""
        return len(self._open)

    @property
    def in_flight(self) -> int:
        """Requests that are out."""
        return sum(connection.in_flight for connection in self._open)

    @property
    def waiting_count(self) -> int:
        """Requests that wait for a connection."""
        return self._waiting_count

    # ---- life

    async def start(self) -> None:
        """Open the warm connections.

        Raises:
            RequestError: one of them could not be opened, which is tried again until the pool is
                closed; or it is closed.
        """
        if self._is_closed:
            raise _error("http-closed", "the pool is closed")
        self._own_loop()
        self._is_started = True
        if self._tending is None:
            self._tend_later()
        while len(self._open) + len(self._connecting) < self._warm:
            self._begin_connect()
        tasks = list(self._connecting)
        if tasks:
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def close(self) -> None:
        """End all connections; requests that are out or wait end with ``http-closed``.

        It returns when every socket is closed: behind the goodbyes of the servers, which have
        ``GOODBYE_S`` (1 s) for them.

        Raises:
            UsageError: it is called on another event loop than the pool's, whose sockets are open,
                or are being opened.
        """
        if self._sockets or self._connecting:
            self._own_loop()
        self._is_closed = True
        for timer in (self._tending, self._rewarming):
            if timer is not None:
                timer.cancel()
        self._tending = self._rewarming = None
        self._fail_waiting(lambda: _error("http-closed", "the pool was closed"))
        for connection in list(self._open):
            connection.close()
        tasks = [*self._connecting, *self._probing]
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
            with contextlib.suppress(TimeoutError):
                async with self._seam.timeout(GOODBYE_S):
                    await self._lost.wait()
        finally:
            for connection in list(self._sockets):
                connection.abort()
        await self._lost.wait()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- requests

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        kind: Kind = Kind.PUBLIC,
        limit_s: float | None = None,
    ) -> Response:
        """Send a request once, and return its answer, whatever its status.

        Args:
            method: as ``"GET"``.
            target: path and query, encoded by percent signs.
            headers: besides the constant ones.
            body: whole, encoded.
            kind: how urgent it is, and how long it may take.
            limit_s: instead of the kind's.

        Raises:
            RequestError: there is no answer; its ``may_have_run`` tells whether the request may
                have been carried out all the same.
            UsageError: it cannot be sent.
        """
        check_method(method)
        check_target(target)
        if headers:
            headers = checked_headers(headers)
        check_body(body)
        kind = as_word(Kind, kind, "kind")
        began = self._clock()
        left_ns = self._limits_ns[kind] if limit_s is None else limit_ns(limit_s)
        self.requests += 1
        future: asyncio.Future[Response] = self._own_loop().create_future()
        exchange = Exchange(method, target, headers, body, kind, began, began + left_ns, future)
        connection = self._take(began)
        timer = None
        if connection is not None:
            _send(connection, exchange)
        elif self._is_closed:
            exchange.fail("http-closed", "the pool is closed")
        elif self._waiting_count >= self._waiting_max:
            exchange.fail("http-busy", f"{self._waiting_max} requests wait for a connection")
        else:
            self._waiting[kind].append(exchange)
            self._waiting_count += 1
            timer = self._seam.later(left_ns / 1e9, lambda: self._expire(exchange))
            self._connect_more()
        try:
            response = await future
        except asyncio.CancelledError:
            self._give_up(exchange)
            raise
        except RequestError as error:
            self.errors[error.code] += 1
            raise
        finally:
            if timer is not None:
                timer.cancel()
        self.answers += 1
        return response

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that this runs on; what another one holds cannot be used from here."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise UsageError("the pool belongs to another event loop: make one for each")
        return loop

    def _expire(self, exchange: Exchange) -> None:
        """Its deadline is over; one that was given to a connection is that one's matter."""
        if exchange.carrier is None and not exchange.future.done():
            self._withdraw(exchange)
            exchange.expire()

    def _give_up(self, exchange: Exchange) -> None:
        if exchange.carrier is not None:
            exchange.carrier.cancel(exchange)
        else:
            self._withdraw(exchange)

    def _withdraw(self, exchange: Exchange) -> None:
        try:
            self._waiting[exchange.kind].remove(exchange)
        except ValueError:
            return  # it was failed with the others
        self._waiting_count -= 1

    # ---- connections

    def _take(self, now: int) -> Connection | None:
        """Return a connection that a request may be written to; the warmest first."""
        while self._free:
            connection = self._free[-1]
            if not connection.is_usable:
                self._free.pop()
                if not connection.in_flight:
                    connection.close()
            elif connection.is_shared:
                return connection
            else:
                self._free.pop()
                age = now - connection.idle_since
                if age < self._idle_limit(connection):
                    return connection
                connection.close()
        return None

    def _idle_limit(self, connection: Connection) -> int:
        told = connection.idle_max_ns
        if told is None:
            return self._idle_max_ns
        # The server's count began before ours, and ends before the request is there.
        return min(self._idle_max_ns, told - min(1_000_000_000, told // 2))

    def on_made(self, connection: Connection) -> None:
        """A connection has a socket."""
        self._sockets.add(connection)
        self._lost.clear()

    def on_lost(self, connection: Connection) -> None:
        """Its socket is closed."""
        self._sockets.discard(connection)
        if not self._sockets:
            self._lost.set()

    def on_free(self, connection: Connection) -> None:
        """A connection takes a request again."""
        self._give(connection, 0)

    def _give(self, connection: Connection, connect_began: int) -> None:
        while connection.is_usable and (exchange := self._next_waiting()) is not None:
            if connect_began:
                exchange.connect = self._clock() - max(connect_began, exchange.began)
            _send(connection, exchange)
        if connection.is_usable and connection not in self._free:
            self._free.append(connection)

    def _next_waiting(self) -> Exchange | None:
        """Return the most urgent one that is still wanted."""
        while self._waiting_count:
            queue = next(queue for queue in self._waiting.values() if queue)
            exchange = queue.popleft()
            self._waiting_count -= 1
            if exchange.future.done():
                continue  # its caller was cancelled, and has not had a turn yet
            if exchange.deadline > self._clock():
                return exchange
            exchange.expire()
        return None

    def on_gone(self, connection: Connection) -> None:
        """A connection takes no request any more."""
        self._open.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if self._is_closed:
            return
        # One that was replaced unused, or that the server let go when it was idle, has not failed.
        idle = self._clock() - connection.idle_since
        if connection.answers or idle >= min(self._idle_limit(connection) // 2, REWARM_MAX_S * 1e9):
            self._backoff.reset()
        self._connect_more()
        self._rewarm_later()

    def _connect_more(self) -> None:
        """Open as many connections as there are requests for them, and room."""
        while self._waiting_count > len(self._connecting) and self._has_room():
            if self._origin.may_share and self._connecting:
                return  # it may carry all of them
            self._begin_connect()

    def _has_room(self) -> bool:
        staying = sum(not connection.is_leaving for connection in self._open)
        return staying + len(self._connecting) < self._connections_max

    def _begin_connect(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._on_connect_done)

    def _on_connect_done(self, task: asyncio.Task[None]) -> None:
        self._connecting.remove(task)
        if task.cancelled() or self._is_closed:
            return
        error = task.exception()
        if error is None:
            self._connect_more()
            return
        self.connect_failures += 1
        self._fail_waiting(lambda: _again(error))
        self._rewarm_later()

    async def _connect(self) -> None:
        """Open one connection.

        Raises:
            RequestError: it cannot be.
            UsageError: the proxy's credentials are not there.
        """
        began = self._clock()
        connection, is_resumed = await self._origin.connect(self)
        self.connects += 1
        self.resumed += is_resumed
        if not connection.is_open:
            where = f"{self._origin.host}:{self._origin.port}"
            raise _error("http-connect", f"{where} ended the connection at once")
        self._open.add(connection)
        if self._is_closed:
            connection.close()
        else:
            self._give(connection, began)

    def _fail_waiting(self, make: Callable[[], BaseException]) -> None:
        """End all that wait for a connection, each with an error of its own."""
        for queue in self._waiting.values():
            while queue:
                exchange = queue.popleft()
                self._waiting_count -= 1
                if not exchange.future.done():
                    exchange.future.set_exception(make())

    # ---- warmth

    def _rewarm_later(self) -> None:
        """Have the warm connections back: at once, but after a failure not before a delay."""
        missing = self._warm - len(self._open) - len(self._connecting)
        if missing <= 0 or not self._is_started or self._is_closed or self._rewarming is not None:
            return
        delay_s = self._backoff.next_delay(self._seam.uniform)
        self._rewarming = self._seam.later(delay_s, self._rewarm)

    def _rewarm(self) -> None:
        self._rewarming = None
        while not self._is_closed and len(self._open) + len(self._connecting) < self._warm:
            self._begin_connect()

    def _tend_later(self) -> None:
        if not self._is_closed:
            self._tending = self._seam.later(self._idle_max_ns / 4e9, self._tend)

    def _tend(self) -> None:
        """Look after the idle ones: keep as many as shall be warm, and let the others go."""
        self._tend_later()
        now = self._clock()
        for connection in list(self._free):
            if connection.in_flight:
                continue
            if now - connection.idle_since < self._idle_limit(connection) // 2:
                continue
            if connection.is_shared and self._probe is None:
                continue  # HTTP/2 servers say goodbye by GOAWAY
            is_wanted = len(self._open) <= self._warm
            if not connection.is_shared:
                self._free.remove(connection)
            if not is_wanted or self._probe is None or not connection.is_usable:
                connection.close()
            else:
                task = asyncio.get_running_loop().create_task(self._ask(connection, self._probe))
                self._probing.add(task)
                task.add_done_callback(self._probing.discard)

    async def _ask(self, connection: Connection, probe: Probe) -> None:
        """Make a request of one's own on an idle connection; one that fails ends it."""
        if connection.is_shared:
            try:
                async with self._seam.timeout(probe.limit_s):
                    await connection.ping()
            except TimeoutError:
                self.errors["probe:http-timeout"] += 1
                connection.close()
            return
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        began = self._clock()
        deadline = began + limit_ns(probe.limit_s)
        exchange = Exchange("GET", probe.target, (), b"", Kind.PUBLIC, began, deadline, future)
        _send(connection, exchange)
        try:
            await future
        except RequestError as error:
            self.errors[f"probe:{error.code}"] += 1
        except asyncio.CancelledError:
            connection.cancel(exchange)
            raise


def limits_ns(usual: Mapping[Kind, float], own: Mapping[Kind, float]) -> dict[Kind, int]:
    """Return how long a request of each kind may take, in ns.

    Raises:
        UsageError: ``own`` holds what is no kind, or no time.
    """
    check_type(own, Mapping, "limits_s", "as {Kind.ORDER: 1.0}")
    found = dict(usual)
    for kind, limit_s in own.items():
        found[as_word(Kind, kind, "a kind of limits_s")] = limit_s
    return {kind: limit_ns(found[kind], f"limits_s of {kind}") for kind in Kind}


def _send(connection: Connection, exchange: Exchange) -> None:
    """Give a request to a connection. One that fails at that keeps nobody waiting, and no place."""
    exchange.carrier = connection
    try:
        connection.send(exchange)
    except Exception as error:
        if not exchange.future.done():
            exchange.future.set_exception(error)
        connection.close()


def _error(code: str, text: str) -> RequestError:
    """Make an error of a request that was not sent."""
    return RequestError(code, text, may_have_run=False)


def _again(error: BaseException) -> BaseException:
    """Return an error for one more that waited: each has its own, since a traceback grows."""
    if isinstance(error, RequestError):
        return _error(error.code, error.text)
    return error
