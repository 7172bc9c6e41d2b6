"""One venue's REST interface: a request is let through, sent, and repeated where that is safe.

A request's way::

    Client.request → Retry → Limiter → Breaker → Endpoints → Pool → socket

Each may refuse, and then nothing was sent. Rules:

1. An attempt that was not sent costs nothing, neither at the limiter nor at the breaker.
2. An answer of any status is told to all three; one of 400 or above, and a redirect, is an error
   to the caller, which says whether the request may have been carried out.
3. An order is sent once, to one endpoint, whatever comes back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..checks import check_callable, check_callables, check_type
from ..errors import BreakerOpenError, RequestError, UsageError
from ..seam import Seam
from .breaker import Breaker, Outcome, outcome_of
from .endpoints import Endpoints
from .exchange import check_body, check_method, check_target, checked_headers
from .limiter import Limiter
from .message import Kind, Response
from .pool import limits_ns
from .retry import Effect, Retry, parse_retry_after
from .tariff import Call

__all__ = ["Client", "Sender", "status_error"]

_log = logging.getLogger(__name__)

EFFECTS = {
    Kind.CANCEL: Effect.IDEMPOTENT,
    Kind.ORDER: Effect.ONCE,
    Kind.QUERY: Effect.READ,
    Kind.PUBLIC: Effect.READ,
}
LIMITS_S = {Kind.CANCEL: 5.0, Kind.ORDER: 5.0, Kind.QUERY: 15.0, Kind.PUBLIC: 30.0}
REFUSED = frozenset({400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 417, 418, 421, 422, 428,
                     429, 431})  # fmt: skip
"""Statuses that say that nothing was carried out. 408, 409, 3xx and 5xx do not say that."""
OURS = frozenset({"http-busy", "http-closed"})
"""Errors that say nothing of the venue."""
BODY_SHOWN = 200
"""Bytes of a body that an error shows."""


class Sender(Protocol):
    """What sends a request to one address, as :class:`~crosswire.http.Pool`."""

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
        """Send it once."""


S = TypeVar("S", bound=Sender)


def status_error(response: Response, now_ns: int) -> RequestError | None:
    """Return what an answer's status is as an error; ``None``: it is none.

    Args:
        now_ns: UTC, for a ``Retry-After`` that is a date.
    """
    status = response.status
    if 200 <= status < 300:
        return None
    text = response.header("retry-after")
    shown = response.body[:BODY_SHOWN].decode("utf-8", "replace")
    return RequestError(
        "http-status",
        f"{status}: {shown!r}",
        may_have_run=status not in REFUSED,
        status=status,
        retry_after_s=None if text is None else parse_retry_after(text, now_ns),
    )


class Client:
    """Asks one venue, by all its addresses; see :mod:`crosswire.http.client`.

    Args:
        endpoints: of the venue, each with its pool.
        limiter: of the venue, for the address that this machine sends from.
        seam: clock and randomness.
        retry: how requests are repeated; ``None``: as :class:`Retry` does by default.
        breaker: makes the breaker of a kind, which is given its name; ``None``: as
            :class:`Breaker` is by default.
        limits_s: for all attempts together, by kind.
        code_of: returns the venue's own code of an answer, where its refusals are told in a body
            with HTTP 200, ``None`` where there is none; an answer with one is told to the limiter,
            and left to the caller. It is given every answer, of any status and body; what it raises
            is logged.

    Attributes:
        breakers: by kind.
        limiter, endpoints: as given.
    """

    def __init__(
        self,
        endpoints: Endpoints[S],
        limiter: Limiter,
        seam: Seam,
        *,
        retry: Retry | None = None,
        breaker: Callable[[str], Breaker] | None = None,
        limits_s: Mapping[Kind, float] | None = None,
        code_of: Callable[[Response], str | None] | None = None,
    ) -> None:
        check_type(endpoints, Endpoints, "endpoints", "it holds the pool of each address")
        check_type(limiter, Limiter, "limiter")
        check_type(seam, Seam, "seam", "crosswire.seam.System() is the real one")
        if retry is not None:
            check_type(retry, Retry, "retry", "Retry(seam) makes one")
        check_callables(breaker=breaker, code_of=code_of)
        self.endpoints: Endpoints[Any] = endpoints
        self.limiter = limiter
        venue = limiter.limits.venue
        make = breaker or (lambda name: Breaker(seam.monotonic_ns, name))
        self.breakers = {kind: make(f"{venue} {kind}") for kind in Kind}
        self._seam = seam
        self._retry = retry or Retry(seam)
        self._limits_ns = limits_ns(LIMITS_S, limits_s or {})
        self._code_of = code_of

    async def request(
        self,
        call: Call,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        sign: Callable[[], tuple[str, Sequence[tuple[str, str]], bytes]] | None = None,
        limit_s: float | None = None,
    ) -> Response:
        """Return a request's answer, of status 200 to 299.

        Args:
            call: what it costs, of this client's limiter; its kind says what else is done. It is
                compared with method and path, where its endpoint is named by them.
            method, target, headers, body: as of :meth:`Pool.request`.
            sign: instead of ``target``, ``headers`` and ``body``: makes them for each attempt,
                just before it is sent, where they hold a time.
            limit_s: for all attempts together; ``None``: by its kind.

        Raises:
            RequestError: it failed; ``may_have_run`` tells whether it may have been carried out.
            LimitError: it was not sent for the venue's limits.
            BreakerOpenError: it was not sent at all, for the venue keeps failing.
            UsageError: it cannot be sent, or is not what ``call`` is for.
        """
        check_type(call, Call, "call", "Limiter.call() makes one")
        check_method(method)
        check_body(body)
        if sign is None:
            check_target(target)
            headers = checked_headers(headers)
            call.check(method, target)
        else:
            check_callable(sign, "sign")
        kind = call.kind
        limit_s = self._limits_ns[kind] / 1e9 if limit_s is None else limit_s
        last: RequestError | None = None

        async def attempt(left_s: float) -> Response:
            nonlocal last
            try:
                return await self._attempt(call, method, target, headers, body, sign, left_s)
            except RequestError as error:
                error.may_have_run |= last is not None and last.may_have_run
                last = error
                raise

        try:
            return await self._retry.run(attempt, effect=EFFECTS[kind], limit_s=limit_s)
        except BreakerOpenError as error:
            if last is None:
                raise
            raise last from error  # an attempt before may have run

    async def _attempt(
        self,
        call: Call,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        sign: Callable[[], tuple[str, Sequence[tuple[str, str]], bytes]] | None,
        left_s: float,
    ) -> Response:
        clock = self._seam.monotonic_ns
        end = clock() + round(left_s * 1e9)
        with await self.limiter.acquire(call, limit_s=left_s) as ticket:
            try:
                permit = self.breakers[call.kind].ask()
            except BreakerOpenError:
                ticket.unsent()
                raise
            with permit:
                try:
                    use = self.endpoints.pick()
                except BaseException:
                    ticket.unsent()
                    raise
                with use:
                    try:
                        if sign:
                            target, headers, body = _parts_of(sign())
                            check_target(target)
                            call.check(method, target)
                        begun = clock()
                        if begun >= end:
                            raise RequestError(
                                "http-timeout", "no time is left to send it", may_have_run=False
                            )
                    except BaseException:
                        ticket.unsent()
                        raise
                    try:
                        response: Response = await use.place.request(
                            method, target, headers=headers, body=body, kind=call.kind,
                            limit_s=(end - begun) / 1e9,
                        )  # fmt: skip
                    except UsageError:
                        ticket.unsent()
                        raise
                    except RequestError as error:
                        if not error.may_have_run:
                            ticket.unsent()
                        if error.code not in OURS:
                            permit.done(Outcome.FAILURE, str(error))
                            use.done(Outcome.FAILURE, cause=str(error))
                        raise
                    outcome = outcome_of(response.status)
                    cause = f"HTTP {response.status}" if outcome is Outcome.FAILURE else ""
                    permit.done(outcome, cause)
                    use.done(outcome, (clock() - begun) / 1e9, cause)
                    ticket.answered(response.status, response.headers, self._code(response))
        refusal = status_error(response, self._seam.time_ns())
        if refusal:
            raise refusal
        return response

    def _code(self, response: Response) -> str:
        """Return the venue's own code. A body may be anything: what fails at it is logged, and
        costs nobody the answer, which may be an order's."""
        if self._code_of is None:
            return ""
        try:
            code = self._code_of(response)
            if code is not None:
                check_type(code, str, "what code_of returns")
        except Exception:
            _log.exception("code_of failed at an answer of HTTP %s", response.status)
            return ""
        return code or ""


def _parts_of(signed: object) -> tuple[str, Sequence[tuple[str, str]], bytes]:
    """Return what ``sign`` made.

    Raises:
        UsageError: something else.
    """
    if not (isinstance(signed, tuple) and len(signed) == 3):
        raise UsageError("sign must return (target, headers, body)")
    return signed
