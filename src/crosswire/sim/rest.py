"""A REST server on the loopback address: one venue's, with its limits, faults and latency.

A connection's wire (``rest_h1``, ``rest_h2``) reads requests and plays answers; what happens in
between is here, and the same for both: a request is read, counted by the venue's clock, refused or
carried out, and answered.

Rule 1: what happens to a request is in the account before the client can see it.
Rule 2: a request is counted once, when it is whole and its arrival jitter is over.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from types import TracebackType
from typing import Self, cast

from ..checks import check_type
from ..errors import HostError, UsageError
from ..seam import Seam, System, reset_on_close
from .quota import BAN_S, Hit, Ledger, Ruling, VenueLimit
from .rest_faults import Latency, Luck, RestChaos, RestFault, changed, page
from .rest_h1 import Http1
from .rest_venue import Answer, Route, Routes, SimRequest, SimVenue, json_answer
from .rest_wire import Exchange, RestEntry, RestWire

__all__ = ["RestAccount", "RestServer"]

HOST = "127.0.0.1"
HANDSHAKE_LIMIT_S = 10.0
VERSIONS = {"1.1": "http/1.1", "2": "h2"}
NOT_FOUND = Route(lambda _: json_answer({"code": "not-found"}, 404))
WRONG_METHOD = Route(lambda _: json_answer({"code": "wrong-method"}, 405))

_log = logging.getLogger(__name__)


@dataclass
class RestAccount:
    """What came to a server; it is true at any moment.

    Attributes:
        requests: every request whose head was read, in that order.
        connection_count: connections that were accepted.
        turned_away: connections that were closed at once, by ``connections_max`` or because the
            server does not accept.
        malformed: connections that were closed for what no request is.
    """

    requests: list[RestEntry] = field(default_factory=list)
    connection_count: int = 0
    turned_away: int = 0
    malformed: int = 0


@dataclass
class _Pending:
    fault: RestFault
    left: int
    method: str | None
    path: str | None


class RestServer:
    """One venue's REST interface; use it as an asynchronous context manager, once.

    It listens on the loopback address alone, and counts a client by the address that it comes from
    (any of 127.0.0.0/8). A head is at most 32 KiB, a body 1 MiB; who sends more, or what is no
    HTTP, is answered 431, 413 or 400, and its connection is closed.

    Args:
        routes: endpoints by (method, path); ``None``: those of a :class:`SimVenue`.
        seam: clock, timers and sockets; the real ones by default.
        context: TLS; ``None``: plain text. Its ALPN protocols are set here.
        versions: of HTTP that it speaks, the preferred first. In plain text one alone, and ``"2"``
            is then expected without an upgrade.
        limits: what the venue counts, see :class:`VenueLimit`.
        ban_after, ban_s, extends_ban: as of :class:`Ledger`.
        seed: of everything that is drawn.
        faults: which fault strikes which request, by its number.
        chaos: what strikes others, by seed.
        latency: of each answer.
        arrival_jitter_s: a whole request is counted up to so long after it was read.
        clock_skew_s: by how much the venue's clock is ahead of ours.
        idle_limit_s: a connection without a request is closed after so long; ``None``: never.
        connections_max: more than so many at once are closed as they come.
        key_header: in lower case; names the account.
        port: to listen on; 0: a free one.

    Attributes:
        account: what came.
        ledger: the venue's counting: its ``tallies`` and ``bans``.
        venue: the :class:`SimVenue`, where ``routes`` was left out.
        latency, arrival_jitter_s, clock_skew_s, chaos, routes: may be changed at any time.
        accepts: connections are accepted; else they are reset as they come, over TLS behind the
            handshake.

    Raises:
        UsageError: a number out of range, or versions that cannot be.
        HostError: HTTP/2 is wanted and ``h2`` is not installed.
    """

    def __init__(
        self,
        routes: Routes | None = None,
        seam: Seam | None = None,
        *,
        context: ssl.SSLContext | None = None,
        versions: Sequence[str] = ("1.1",),
        limits: Sequence[VenueLimit] = (),
        ban_after: int | None = None,
        ban_s: float = BAN_S,
        extends_ban: bool = False,
        seed: int = 0,
        faults: Mapping[int, RestFault] | None = None,
        chaos: RestChaos | None = None,
        latency: Latency | None = None,
        arrival_jitter_s: float = 0.0,
        clock_skew_s: float = 0.0,
        idle_limit_s: float | None = None,
        connections_max: int = 1000,
        key_header: str = "x-key",
        port: int = 0,
    ) -> None:
        for limit in limits if isinstance(limits, Sequence) else (limits,):
            check_type(limit, VenueLimit, "each of limits")
        check_type(limits, Sequence, "limits")
        is_odd = isinstance(versions, str) or not versions or set(versions) - set(VERSIONS)
        if is_odd or (not context and len(versions) > 1):
            raise UsageError(f"versions are of {', '.join(VERSIONS)}, one in plain text")
        if not 0 <= arrival_jitter_s <= 3600 or connections_max < 1:
            raise UsageError("arrival_jitter_s is 0 to 3600, connections_max 1 or more")
        self.venue = SimVenue(seed)
        self.routes = self.venue.routes() if routes is None else routes
        self.account = RestAccount()
        self.ledger = Ledger(limits, ban_after=ban_after, ban_s=ban_s, extends_ban=extends_ban)
        self.latency = latency or Latency()
        self.arrival_jitter_s = arrival_jitter_s
        self.clock_skew_s = clock_skew_s
        self.idle_limit_s = idle_limit_s
        self.chaos = chaos
        self.accepts = True
        self.port = port
        self._seam = seam or System()
        self._context = context
        self._versions = tuple(versions)
        self._seed = seed
        self._faults = dict(faults or {})
        self._pending: deque[_Pending] = deque()
        self._connections_max = connections_max
        self._key_header = key_header
        self._wires: set[RestWire] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._down_ns = 0  # maintenance until then, monotonic
        self._down_after_s: int | None = None
        self._listener: asyncio.Server | None = None
        self._is_closed = False
        self._gone = asyncio.Event()
        if "2" in self._versions:
            _http2()

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            HostError: the system refuses.
            UsageError: it was entered before.
        """
        if self._listener:
            raise UsageError("a REST server is entered once")
        if self._context:
            self._context.set_alpn_protocols([VERSIONS[version] for version in self._versions])
        try:
            self._listener = await self._seam.serve(
                lambda: _Door(self), HOST, self.port, self._context, HANDSHAKE_LIMIT_S
            )
        except OSError as error:
            raise HostError(f"cannot listen on {HOST}: {error}") from error
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening, close every connection, and wait until all are closed."""
        assert self._listener
        self._is_closed = True
        self._listener.close()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for wire in list(self._wires):
            wire.abort()
        while self._wires:
            self._gone.clear()
            await self._gone.wait()
        await self._listener.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"{'https' if self._context else 'http'}://{HOST}:{self.port}"

    @property
    def connection_count(self) -> int:
        """How many connections are open now."""
        return len(self._wires)

    # ---- what a test does to it

    def strike(
        self,
        fault: RestFault,
        count: int = 1,
        *,
        method: str | None = None,
        path: str | None = None,
    ) -> None:
        """Let a fault strike the next ``count`` requests that its kind, method and path suit.

        One request suffers one fault: the plan's before these, and these before the chaos.

        Raises:
            UsageError: ``count`` is below 1, or ``fault`` none.
        """
        check_type(fault, RestFault, "fault", 'RestFault("close") makes one')
        if count < 1:
            raise UsageError(f"count is 1 or more, not {count}")
        self._pending.append(_Pending(fault, count, method, path))

    def begin_maintenance(self, seconds: float, retry_after_s: int | None = None) -> None:
        """Answer every request with 503 and a page for so long; it is neither counted nor carried
        out.

        Args:
            retry_after_s: what the answer says; ``None``: nothing.
        """
        self._down_ns = self._seam.monotonic_ns() + round(seconds * 1e9)
        self._down_after_s = retry_after_s

    def end_maintenance(self) -> None:
        """Answer again as ever."""
        self._down_ns = 0

    def drop_connections(self) -> None:
        """Reset every connection."""
        for wire in list(self._wires):
            wire.reset()

    def venue_ns(self) -> int:
        """Return UTC in ns by the venue's clock."""
        return self._seam.time_ns() + round(self.clock_skew_s * 1e9)

    # ---- called by the wires

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
        key = next((value for name, value in headers if name == self._key_header), None)
        number = len(self.account.requests)
        entry = RestEntry(
            number, wire.number, version, wire.address, key, method, target,
            self._seam.monotonic_ns(),
        )  # fmt: skip
        is_drawn = self.chaos or self.arrival_jitter_s or self.latency.jitter_s
        luck = Luck(self._seed, number) if is_drawn else None
        fault = self._fault_of(entry, luck) if can_be_struck else None
        entry.fault = fault.kind if fault else None
        self.account.requests.append(entry)
        return Exchange(entry, tuple(headers), fault, luck)

    def finish(self, wire: RestWire, exchange: Exchange, body: bytes) -> None:
        """Take a request that is whole: count it, carry it out and have it answered, in time."""
        entry = exchange.entry
        entry.is_whole = True
        luck = exchange.luck
        jitter_s = luck.arrival * self.arrival_jitter_s if luck else 0.0
        self.later(jitter_s, lambda: self._count(wire, exchange, body))

    def later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle | None:
        """Do something after a time; at once, and without a handle, after none."""
        if seconds <= 0:
            do()
            return None

        def run() -> None:
            self._timers.discard(timer)
            do()

        timer = self._seam.later(seconds, run)
        self._timers.add(timer)
        return timer

    def cancel(self, timer: asyncio.TimerHandle | None) -> None:
        """Forget what was to be done later."""
        if timer:
            timer.cancel()
            self._timers.discard(timer)

    def note_answered(self, entry: RestEntry) -> None:
        """Note that all of an answer was written."""
        entry.answered_mono_ns = self._seam.monotonic_ns()

    def note_malformed(self) -> None:
        """Note that a connection is closed for what no request is."""
        self.account.malformed += 1

    def forget(self, wire: RestWire) -> None:
        """Take a connection that is gone."""
        self._wires.discard(wire)
        self._gone.set()

    # ---- a request's way

    def _fault_of(self, entry: RestEntry, luck: Luck | None) -> RestFault | None:
        planned = self._faults.get(entry.id)
        if planned and planned.suits(entry.version):
            return planned
        path = entry.target.partition("?")[0]
        for item in self._pending:
            if (
                item.fault.suits(entry.version)
                and item.method in (None, entry.method)
                and item.path in (None, path)
            ):
                item.left -= 1
                if item.left < 1:
                    self._pending.remove(item)
                return item.fault
        return luck.fault(self.chaos, entry.version) if self.chaos and luck else None

    def _count(self, wire: RestWire, exchange: Exchange, body: bytes) -> None:
        entry = exchange.entry
        now_ns = self._seam.monotonic_ns()
        if now_ns < self._down_ns:
            self._answer(wire, exchange, self._maintenance())
            return
        entry.mono_ns, entry.utc_ns = now_ns, self.venue_ns()
        request = SimRequest(
            entry.id, entry.version, entry.method, entry.target, exchange.headers, body,
            entry.address, entry.utc_ns,
        )  # fmt: skip
        route = self._route_of(request)
        try:
            entry.instrument = request.params.get("symbol")
        except UsageError:  # its handler is about to say so
            entry.instrument = None
        entry.endpoint = route.endpoint or f"{request.method} {request.path}"
        try:
            entry.weight, entry.orders = route.weight_of(request), route.orders
        except Exception:
            self._answer(wire, exchange, _broken(request, "weight"))
            return
        hit = Hit(
            entry.address, entry.key, entry.endpoint, entry.instrument, entry.weight, entry.orders
        )
        ruling = self.ledger.take(hit, entry.utc_ns)
        entry.over = ruling.over
        if ruling.status is not None:
            answer = _refusal(ruling, ruling.status)
        elif exchange.fault and not exchange.fault.carries_out:
            answer = json_answer({})
        else:
            entry.is_carried_out = route not in (NOT_FOUND, WRONG_METHOD)
            answer = _handle(route, request)
        answer = replace(answer, headers=(*answer.headers, *ruling.headers))
        self._answer(wire, exchange, answer)

    def _route_of(self, request: SimRequest) -> Route:
        method = "GET" if request.method == "HEAD" else request.method
        if route := self.routes.get((method, request.path)):
            return route
        is_known = any(path == request.path for _, path in self.routes)
        return WRONG_METHOD if is_known else NOT_FOUND

    def _answer(self, wire: RestWire, exchange: Exchange, answer: Answer) -> None:
        date = formatdate(self.venue_ns() // 10**9, usegmt=True)
        answer = changed(answer, exchange.fault)
        answer = replace(answer, headers=(("date", date), *answer.headers))
        luck = exchange.luck.answer if exchange.luck else 0.0
        delay_s = self.latency.fixed_s + luck * self.latency.jitter_s
        self.later(delay_s, lambda: wire.play(exchange, answer))

    def _maintenance(self) -> Answer:
        answer = page(503, "Under maintenance")
        if self._down_after_s is None:
            return answer
        return replace(answer, headers=(("retry-after", str(self._down_after_s)),))

    # ---- connections

    def _open(self, version: str, address: str) -> RestWire | None:
        """Return what speaks a version on a new connection; ``None``: it is turned away."""
        is_full = len(self._wires) >= self._connections_max
        if self._is_closed or not self.accepts or is_full or version not in self._versions:
            self.account.turned_away += 1
            return None
        number = self.account.connection_count
        self.account.connection_count += 1
        wire = (_http2() if version == "2" else Http1)(self, number, address)
        self._wires.add(wire)
        return wire


def _http2() -> type[RestWire]:
    """Return what speaks HTTP/2, for which a package is needed that is not always there."""
    try:
        from .rest_h2 import Http2
    except ImportError as error:
        raise HostError(f"HTTP/2 needs h2: pip install 'crosswire[http2]' ({error})") from error
    return Http2


def _refusal(ruling: Ruling, status: int) -> Answer:
    body = ruling.text.encode() or json_answer({"code": "too-many-requests"}).body
    if ruling.retry_after_s is None:
        return Answer(status, body)
    return Answer(status, body, (("retry-after", str(ruling.retry_after_s)),))


def _handle(route: Route, request: SimRequest) -> Answer:
    try:
        answer = route.handler(request)
        if not isinstance(answer, Answer):
            raise TypeError(f"a handler returns an Answer, not {type(answer).__name__}")
    except UsageError as error:
        return json_answer({"code": "bad-request", "text": str(error)}, 400)
    except Exception:
        return _broken(request, "handler")
    return answer


def _broken(request: SimRequest, what: str) -> Answer:
    """Log the error that is being handled, and return what a client is told of it."""
    _log.exception("the %s of %s %s failed", what, request.method, request.path)
    return json_answer({"code": "internal"}, 500)


class _Door(asyncio.Protocol):
    """A connection until its version is known, behind its TLS handshake."""

    def __init__(self, server: RestServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        tls = transport.get_extra_info("ssl_object")
        version = self._server._versions[0]
        if tls:  # who says nothing speaks HTTP/1.1
            version = "2" if tls.selected_alpn_protocol() == "h2" else "1.1"
        peer = transport.get_extra_info("peername")
        wire = self._server._open(version, peer[0] if peer else "")
        if wire is None:
            reset_on_close(transport)
            transport.abort()
            return
        transport.set_protocol(wire)
        wire.connection_made(transport)
