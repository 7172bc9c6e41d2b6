"""The limiter: nothing is sent that the venue would count above one of its limits.

A request asks for a :class:`Ticket` before it is sent, and tells it how it ended. In between, and
for as long as the venue counts it, it has its place in every window that it falls into (see
:mod:`crosswire.http.window`).

Rules:
1. All of a request's windows have room for it, or none is touched.
2. Who has to wait does so in the lane of its :class:`~crosswire.http.Kind`; see
   :mod:`crosswire.http.lanes`.
3. A limit's reserve is for cancels alone.
4. A venue that refuses (429) is left alone for as long as it says, but for cancels. One that bans
   (418) is sent nothing, by anybody, until the ban ends: whoever waits or asks gets an error. See
   :mod:`crosswire.http.stops`.
5. What the answers' headers tell is believed where it is more than what is known.
6. Nobody polls: there is one timer, for the earliest moment at which somebody may go.

A limiter stands for one address, and belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from numbers import Real
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from ..checks import check_callables, check_numbers, check_type, check_whole
from ..errors import BreakerOpenError, LimitError, RequestError, UsageError
from ..limits import Refusal, Scope, Signal, VenueLimits
from ..seam import Seam
from .lanes import Lanes, Waiter
from .ledger import Reply, Stop
from .message import Kind, Response
from .meter import Clock, Meter, Scopes
from .retry import parse_retry_after
from .share import Share
from .stops import Stops
from .tariff import Call, Tariff
from .usage import LimitEvent, LimitEventKind, LimitRow, Usage
from .window import CalendarWindow

__all__ = ["Limiter", "Ticket"]

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

WAIT_MAX_S = 1e9
"""A Retry-After may be of any year; more would be no time that the ledger can keep."""
NOTHING: Mapping[int, int] = {}
TIMER_LATE_NS = 1_000
"""A timer is asked for so much later, for the loop's clock is a float."""


class Ticket:
    """Leave to send one request.

    Whoever has it says how that ended: :meth:`answered`, or :meth:`unsent`. At the end of a
    ``with`` block what was not said is taken for a request without an answer.
    """

    __slots__ = ("_call", "_is_done", "_limiter", "_tokens")

    def __init__(self, limiter: Limiter, call: Call, tokens: Sequence[int]) -> None:
        self._limiter = limiter
        self._call = call
        self._tokens = tokens
        self._is_done = False

    def answered(
        self, status: int = 200, headers: Iterable[tuple[str, str]] = (), code: str = ""
    ) -> None:
        """Say what the answer was; once more changes nothing.

        Args:
            status: of HTTP.
            headers: (name in lower case, value); those that tell of limits are read.
            code: the venue's own, out of the body, where its refusals are told there.

        Raises:
            UsageError: ``status`` is no number, or ``code`` no text; nothing was said then.
        """
        if type(status) is not int or type(code) is not str:
            check_type(status, int, "status")
            check_type(code, str, "code")
        if not self._is_done:
            self._is_done = True
            self._limiter._take_answer(self._call, self._tokens, status, headers, code)

    def unsent(self) -> None:
        """Say that nothing of it was sent: it does not count."""
        if not self._is_done:
            self._is_done = True
            self._limiter._take_back(self._call)

    def lost(self) -> None:
        """Say that there will be no answer: it may have arrived, or still may."""
        if not self._is_done:
            self._is_done = True
            self._limiter._take_loss(self._call, self._tokens)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lost()


class Limiter:
    """Keeps one venue's limits for one address; see :mod:`crosswire.http.limiter`.

    Args:
        limits: of the venue, as :func:`crosswire.venues.venue_limits`.
        seam: clock and timers.
        clock_error_s: how far this machine's UTC, or what :meth:`set_clock` says, may be from the
            venue's. Around each of its calendar windows' ends, so long is counted twice.
        transit_s: how long a request without an answer may take to arrive after all.
        waiting_max: requests that may wait.
        share: with the limiters of other processes, which together let no more through; entered.
        on_event: called with each :class:`LimitEvent`, inside of the call that made it; what it
            raises is logged.

    Attributes:
        limits: as given.
        waiting: requests that wait now.
        usage: counts and waits, since it was made.

    Raises:
        UsageError: a number is out of its range.
    """

    def __init__(
        self,
        limits: VenueLimits,
        seam: Seam,
        *,
        clock_error_s: float = 0.1,
        transit_s: float = 5.0,
        waiting_max: int = 100_000,
        share: Share | None = None,
        on_event: Callable[[LimitEvent], None] | None = None,
    ) -> None:
        check_type(
            limits, VenueLimits, "limits", "crosswire.venues.venue_limits(NAME) gives a venue's"
        )
        check_type(seam, Seam, "seam", "crosswire.seam.System() is the real one")
        check_numbers(clock_error_s=clock_error_s, transit_s=transit_s)
        check_whole(0, waiting_max=waiting_max)
        if share is not None:
            check_type(share, Share, "share", "async with Share(NAME, seam) as share")
        check_callables(on_event=on_event)
        if not (0.0 <= clock_error_s < 1e6 and 0.0 <= transit_s < 1e6):
            raise UsageError("clock_error_s and transit_s are from 0 on, and below 1e6")
        self.limits = limits
        self.waiting = 0
        self.usage = Usage()
        self._seam = seam
        self._clock = seam.monotonic_ns
        self._venue_clock = Clock(
            seam.time_ns() - seam.monotonic_ns(), round(clock_error_s * 1e9), round(transit_s * 1e9)
        )
        self._waiting_max = waiting_max
        self._on_event = on_event
        self._share = share
        if share:
            share.join(self)
        self._tariff = Tariff(limits, self._venue_clock, share is not None)
        self._signals = {item.header for item in limits.limits if item.header}
        self._lanes = Lanes[Ticket]()
        self._stops = Stops(limits.venue, self._tariff)
        self._timer: asyncio.TimerHandle | None = None
        self._wake: int | None = None

    # ---- what a request costs

    def call(
        self,
        endpoint: str,
        *,
        kind: Kind | None = None,
        key: str = "",
        instrument: str = "",
        costs: Mapping[str, int] | None = None,
    ) -> Call:
        """Return what a request to an endpoint costs.

        Args:
            endpoint: as the venue's limits name it, as ``"GET /api/v3/depth"``.
            kind: its lane, and whether it is an order; ``None``: it is public, which
                only a GET or HEAD may be without a word.
            key: whose it is, where the venue counts keys apart; a name will do.
            instrument: which it is for, where the venue counts those apart.
            costs: unit → units, where they are not the endpoint's own, as where they depend on an
                argument.

        Raises:
            UsageError: the kind is not said, or none; a cost is not known, or more than a limit
                lets through at all; or so many keys, endpoints and instruments were named that
                their windows are too many.
        """
        return self._tariff.call(endpoint, kind, key, instrument, costs)

    # ---- asking

    def try_acquire(self, call: Call) -> Ticket | None:
        """Return a ticket, or ``None`` where the request would have to wait; what is lacking of a
        shared limit is asked for, and is there a little later.

        Raises:
            LimitError: the venue has banned this address, or its share was left.
            UsageError: ``call`` is none of this limiter.
        """
        now = self._clock()
        self._check_ours(call)
        if now < self._stops.until and self._stops.until_of(call, now):
            return None
        kept = self._lanes.kept_before(call) if self._lanes else NOTHING
        if kept is None:
            return None
        for window, _, needed, meter in call.places:
            room = window.room(now)
            if kept:
                needed += kept.get(id(meter), 0)
            if room < needed:
                if self._share:
                    self._lease(self._share, meter, needed - room)
                return None
        self.usage.passed += 1
        return Ticket(self, call, [window.spend(now, units) for window, units, _, _ in call.places])

    async def acquire(self, call: Call, *, limit_s: float | None = None) -> Ticket:
        """Return a ticket, as soon as there is one.

        Args:
            limit_s: how long it may take at most; 0 or less: there is room now, or never; ``None``:
                as long as it takes.

        Raises:
            LimitError: the venue has banned this address; or it took too long, or too many wait.
            UsageError: ``limit_s`` is not a number, or ``call`` is none of this limiter.
        """
        _check_wait(limit_s)
        ticket = self.try_acquire(call)
        if ticket is None:
            ticket = await self._wait(call, limit_s)
        return ticket

    def throttled(
        self,
        endpoint: str,
        *,
        kind: Kind | None = None,
        key: str = "",
        instrument: str = "",
        costs: Mapping[str, int] | None = None,
        limit_s: float | None = None,
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
        """Return a decorator for what makes one request: it waits for its ticket.

        Where the function returns a :class:`~crosswire.http.Response`, its headers are read. Where
        it raises a :class:`RequestError`, its status and ``retry_after_s`` are; where that says
        so, or is a :class:`LimitError`, or it raises :class:`BreakerOpenError`, nothing was sent.

        What returns anything else is taken for an answer of status 200.

        Args: as of :meth:`call` and :meth:`acquire`.

        Raises:
            UsageError: as of :meth:`call` and :meth:`acquire`; or, when it is called, what is
                decorated is no coroutine function.
        """
        check_type(endpoint, str, "endpoint", '@limiter.throttled("GET /path")')
        call = self.call(endpoint, kind=kind, key=key, instrument=instrument, costs=costs)
        _check_wait(limit_s)

        def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
            @functools.wraps(function)
            async def throttled(*args: P.args, **kwargs: P.kwargs) -> T:
                with await self.acquire(call, limit_s=limit_s) as ticket:
                    try:
                        made = function(*args, **kwargs)
                        if not inspect.isawaitable(made):
                            raise UsageError("throttled is for a coroutine function: async def")
                        result = await made
                    except (BreakerOpenError, LimitError):
                        ticket.unsent()
                        raise
                    except RequestError as error:
                        if error.status is not None:
                            ticket.answered(error.status, _wait_headers(error))
                        elif not error.may_have_run:
                            ticket.unsent()
                        raise
                    if isinstance(result, Response):
                        ticket.answered(result.status, result.headers)
                    else:
                        ticket.answered()
                    return result

            return throttled

        return decorate

    def _check_ours(self, call: object) -> None:
        if type(call) is not Call:
            given = type(call).__name__
            raise UsageError(f"a call is what call() of this limiter returns, not of type {given}")
        if call.tariff is not self._tariff:
            text = f"the call for {call.endpoint} is another limiter's, and counts there"
            raise UsageError(text)

    # ---- waiting

    async def _wait(self, call: Call, limit_s: float | None) -> Ticket:
        if self.waiting >= self._waiting_max:
            raise LimitError("rate-waiting", f"{self.waiting} requests wait already", left_s=0.0)
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self.waiting += 1
        self.usage.waited += 1
        is_first = self._lanes.put(call, self._clock(), future)
        timer = None
        if limit_s is not None:
            timer = self._seam.later(limit_s, functools.partial(self._give_up, future, limit_s))
        try:
            if is_first:
                self._let_go()
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.done() and future.exception() is None:
                future.result().unsent()  # it came, and nobody took it
            else:
                self._let_go()
            raise
        finally:
            self.waiting -= 1
            if timer:
                timer.cancel()

    def _give_up(self, future: asyncio.Future[Ticket], limit_s: float) -> None:
        if not future.done():
            future.set_exception(
                LimitError("rate-limited", f"no room within {limit_s:g} s", left_s=0.0)
            )
            self._let_go()

    def _let_go(self) -> None:
        """Let everybody go who may, and set the timer for the next."""
        now = self._clock()
        had_waiters = bool(self._lanes)
        wake = self._lanes.let_go(now, self._when, self._give)
        self._set_timer(now, wake)
        if self._share and not self._lanes and self._others_want():
            self._share.look()
        self._tell_of_waiting(now, had_waiters, wake)

    def _when(self, call: Call, now: int, kept: Mapping[int, int]) -> int | None:
        """Return when it may go at the earliest; ``None``: not before another's answer."""
        at = now
        if now < self._stops.until:
            at = max(at, self._stops.until_of(call, now))
        for window, _, needed, meter in call.places:
            needed += kept.get(id(meter), 0)
            room = window.room(now)
            if room < needed:
                if self._share:
                    self._lease(self._share, meter, needed - room)
                free = window.next_room(now, needed)
                if free is None:
                    return None
                at = max(at, free)
        return at

    def _lease(self, share: Share, meter: Meter, units: int) -> None:
        """Ask for units that others may hold."""
        units = min(units, meter.limit.amount - meter.window.limit)
        if units > 0:
            share.want(meter.id, units, meter.limit.amount, meter.hold_ns)

    def _give(self, waiter: Waiter[Ticket], now: int) -> None:
        places = waiter.call.places
        tokens = [window.spend(now, units) for window, units, _, _ in places]
        self.usage.passed += 1
        self.usage.note_wait(now - waiter.came)
        waiter.future.set_result(Ticket(self, waiter.call, tokens))

    def _set_timer(self, now: int, wake: int | None) -> None:
        if self._timer:
            if wake == self._wake:
                return
            self._timer.cancel()
            self._timer = None
        if wake is not None:
            delay_ns = max(wake - now, 0) + TIMER_LATE_NS
            self._timer = self._seam.later(delay_ns / 1e9, self._wake_up)
            self._wake = wake

    def _wake_up(self) -> None:
        self._timer = None
        self._let_go()

    # ---- what became of it

    def _take_answer(
        self,
        call: Call,
        tokens: Sequence[int],
        status: int,
        headers: Iterable[tuple[str, str]],
        code: str,
    ) -> None:
        now = self._clock()
        for (window, units, _, _), token in zip(call.places, tokens, strict=True):
            window.answer(now, units, token)
        told: dict[str, str] = {}
        for name, value in headers:
            if name in self._signals or name == "retry-after":
                told.setdefault(name, value)
        if told:
            self._correct(call, tokens, now, told)
        if status >= 400 or code:
            for refusal in self.limits.refusals:
                if refusal.status in (None, status) and refusal.code in ("", code):
                    self._take_refusal(call, refusal, now, told.get("retry-after"), status, code)
                    break
        if self._lanes:
            self._let_go()

    def _correct(
        self, call: Call, tokens: Sequence[int], now: int, told: Mapping[str, str]
    ) -> None:
        for (window, _, _, meter), token in zip(call.places, tokens, strict=True):
            text = told.get(meter.limit.header)
            if text is None:
                continue
            if not (text.isascii() and text.isdigit() and len(text) <= 15):
                self.usage.unread += 1
                continue
            used = int(text)
            if meter.limit.signal is Signal.REMAINING:
                used = meter.limit.amount - used
            if self._share and used > meter.others + meter.used(now) and not meter.is_known:
                self._share.look()  # what others hold may have become more: the next answer tells
                continue
            meter.is_known = False
            self.usage.foreign += window.correct(now, used - meter.others, token)

    def _take_refusal(
        self,
        call: Call,
        refusal: Refusal,
        now: int,
        retry_after: str | None,
        status: int,
        code: str,
    ) -> None:
        left_s = None
        if retry_after is not None:
            left_s = parse_retry_after(retry_after, self._seam.time_ns())
        wait_s = min(refusal.wait_s if left_s is None else left_s, WAIT_MAX_S)
        until = now + round(wait_s * 1e9)
        cause = f"HTTP {status}" + (f" with code {code}" if code else "")
        scopes = call.scopes(refusal.per)
        stop = Stop(until, refusal.is_ban, cause)
        if refusal.is_ban:
            self.usage.bans += 1
        else:
            self.usage.refusals += 1
        if self._share:
            self._share.stop(json.dumps([*scopes, stop.is_ban]), stop)
        self._halt(scopes, stop, now)
        self._let_go()

    def _halt(self, scopes: Scopes, stop: Stop, now: int) -> None:
        halt = self._stops.add(scopes, stop)
        if stop.is_ban:
            for waiter in self._lanes.waiting():
                if halt in waiter.call.halts:
                    waiter.future.set_exception(self._stops.banned(halt, now))
        kind = LimitEventKind.BANNED if stop.is_ban else LimitEventKind.LIMITED
        ends = halt.banned_until if stop.is_ban else halt.until
        self._tell(kind, " ".join(scopes[1]) or "address", now, ends, halt.cause)

    def _take_loss(self, call: Call, tokens: Sequence[int]) -> None:
        now = self._clock()
        for (window, units, _, _), token in zip(call.places, tokens, strict=True):
            window.lose(now, units, token)
        self.usage.lost += 1
        if self._lanes:
            self._let_go()

    def _take_back(self, call: Call) -> None:
        for window, units, _, _ in call.places:
            window.refund(units)
        self.usage.unsent += 1
        if self._lanes:
            self._let_go()

    # ---- sharing; see :class:`~crosswire.http.share.Sharer`

    def take_reply(self, reply: Reply) -> None:
        """Take grants and refusals, and what others hold and want."""
        now = self._clock()
        for meter in self._tariff.meters.values():
            meter.wanted = reply.wanted.get(meter.id, 0)
            meter.others = reply.others.get(meter.id, 0)
            meter.holders = max(1, reply.holders.get(meter.id, 1))
            meter.is_known = True
            if units := reply.grants.get(meter.id):
                meter.grant(now, units)
            if not meter.wanted and meter.window.limit < meter.held:
                meter.take_back_all(now)
        for scope, stop in reply.stops.items():
            per, values, _ = json.loads(scope)
            scopes = (tuple(Scope(item) for item in per), tuple(values))
            if not self._stops.is_known(scopes, stop):
                self._halt(scopes, stop, now)
        if self._lanes:
            self._let_go()

    def held(self) -> dict[str, int]:
        """Return what is held of the meters where that became less; it counts as given back."""
        now = self._clock()
        waited_for = self._lanes.meters()
        found = {}
        for meter in self._tariff.meters.values():
            if meter.wanted:
                units = meter.give(now, id(meter) in waited_for)
                if units is not None:
                    found[meter.id] = units
        return found

    def all_held(self) -> dict[str, int]:
        """Return what is held of every meter."""
        return {meter.id: meter.held for meter in self._tariff.meters.values()}

    def free_at(self) -> int | None:
        """Return when there is something to give back; ``None``: there is nothing wanted."""
        now = self._clock()
        waited_for = self._lanes.meters()
        times = [
            meter.free_at(now, id(meter) in waited_for)
            for meter in self._tariff.meters.values()
            if meter.wanted
        ]
        return min((at for at in times if at is not None), default=None)

    def counted(self) -> dict[str, int]:
        """Return the units of each meter that the venue still counts."""
        now = self._clock()
        return {meter.id: meter.used(now) for meter in self._tariff.meters.values()}

    def leave(self) -> None:
        """Let nothing more through: what was held is held no more."""
        self._stops.leave()
        for waiter in self._lanes.waiting():
            waiter.future.set_exception(self._stops.left())
        self._let_go()

    def _others_want(self) -> bool:
        return any(meter.wanted for meter in self._tariff.meters.values())

    # ---- what can be read and said

    def set_clock(self, utc_ahead_ns: int) -> None:
        """Say how far the venue's UTC is ahead of the seam's monotonic clock, in ns.

        Until then this machine's own UTC is taken for it.
        """
        self._venue_clock.utc_ahead_ns = utc_ahead_ns
        now = self._clock()
        for meter in self._tariff.meters.values():
            if isinstance(meter.window, CalendarWindow):
                meter.window.set_clock(now, utc_ahead_ns)
        if self._lanes:
            self._let_go()

    def rows(self) -> list[LimitRow]:
        """Return how full each window is."""
        now = self._clock()
        return [
            LimitRow(
                meter.limit.name, meter.values, meter.window.limit - meter.window.room(now),
                meter.window.out, meter.window.limit, meter.limit.unit,
            )
            for meter in self._tariff.meters.values()
        ]  # fmt: skip

    def stopped_s(self, call: Call) -> float:
        """Return how long a refusal or a ban still stops such requests, in s; 0: not at all.

        Raises:
            UsageError: ``call`` is none of this limiter.
        """
        self._check_ours(call)
        return self._stops.left_s(call, self._clock())

    def _tell_of_waiting(self, now: int, had_waiters: bool, wake: int | None) -> None:
        is_waiting = bool(self._lanes)
        if is_waiting and not self.usage.is_limited:
            self.usage.is_limited = True
            name = self._what_holds(self._lanes.first().call, now)
            self._tell(LimitEventKind.LIMITED, name, now, wake, "full")
        elif had_waiters and not is_waiting and self.usage.is_limited:
            self.usage.is_limited = False
            self._tell(LimitEventKind.REFILL, "", now, now, "nobody waits")

    def _what_holds(self, call: Call, now: int) -> str:
        names = [meter.name for window, _, need, meter in call.places if window.room(now) < need]
        return ", ".join(names) or "address"

    def _tell(
        self, kind: LimitEventKind, name: str, now: int, until: int | None, cause: str
    ) -> None:
        if not self._on_event:
            return
        left_s = None if until is None else max(0, until - now) / 1e9
        try:
            self._on_event(LimitEvent(kind, name, now, left_s, self.waiting, cause))
        except Exception:  # or whoever waits would pay for it, and whoever was answered
            _log.exception("on_event raised")


def _check_wait(limit_s: float | None) -> None:
    if limit_s is not None and not (isinstance(limit_s, Real) and limit_s == limit_s):
        raise UsageError(f"limit_s must be a number of seconds, not {limit_s!r}")


def _wait_headers(error: RequestError) -> list[tuple[str, str]]:
    """Return the header that said how long to wait, of an answer that is an error."""
    left_s = error.retry_after_s
    return [] if left_s is None else [("retry-after", f"{left_s:.9f}")]
