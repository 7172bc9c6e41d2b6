"""Sends the probes of endpoints when they are due; see :mod:`crosswire.http.endpoints`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from ..checks import check_callable, check_type, limit_ns
from ..errors import BreakerOpenError, RequestError, UsageError, VenueError
from ..seam import Seam
from .breaker import Outcome, outcome_of
from .endpoints import Endpoints, Use

__all__ = ["Prober"]

T = TypeVar("T")


class Prober(Generic[T]):
    """Probes endpoints for as long as it runs. It sleeps until the next probe is due.

    Args:
        endpoints: whose probes it sends; no other prober does.
        seam: timers.
        probe: asks a place something that is light and changes nothing, as the venue's time, and
            returns what the answer says of it. Where it raises a
            :class:`~crosswire.RequestError` with a status, that status says it; a
            :class:`~crosswire.BreakerOpenError` says nothing, for nothing was sent; any other
            :class:`~crosswire.VenueError` or ``OSError`` is a failure.
        limit_s: how long a probe may take; longer is a failure.

    Raises:
        UsageError: not ``0 < limit_s < 1e9``, or one of the others is not what it must be.
    """

    def __init__(
        self,
        endpoints: Endpoints[T],
        seam: Seam,
        probe: Callable[[T], Awaitable[Outcome]],
        *,
        limit_s: float = 2.0,
    ) -> None:
        check_type(endpoints, Endpoints, "endpoints")
        check_type(seam, Seam, "seam", "crosswire.seam.System() is the real one")
        check_callable(probe, "probe")
        limit_ns(limit_s)
        self._endpoints, self._seam, self._probe = endpoints, seam, probe
        self._limit_s = limit_s
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Probe until cancelled; then what is under way is cancelled too, and waited for.

        Raises:
            UsageError: the endpoints have a prober that runs.
            ExceptionGroup: ``probe`` raised what is no failure of a venue.
        """
        if self._endpoints.on_sooner is not None:
            raise UsageError("these endpoints have a prober that runs")
        self._endpoints.on_sooner = self._wake.set
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    for call in self._endpoints.begin_probes():
                        task = group.create_task(self._send(call))
                        task.add_done_callback(partial(self._ended, call))
                    await self._until_due()
        finally:
            self._endpoints.on_sooner = None

    async def _until_due(self) -> None:
        left_s = self._endpoints.next_probe_s
        if left_s is None:
            await self._wake.wait()
            return
        timer = self._seam.later(left_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _send(self, call: Use[T]) -> None:
        outcome, cause = await self._ask(call.place)
        call.done(outcome, cause=cause)

    def _ended(self, call: Use[T], task: asyncio.Task[None]) -> None:
        call.done(Outcome.NEUTRAL)  # where it was cancelled, even before it began
        self._wake.set()

    async def _ask(self, place: T) -> tuple[Outcome, str]:
        try:
            async with self._seam.timeout(self._limit_s):
                return await self._probe(place), "the answer to a probe"
        except BreakerOpenError:
            return Outcome.NEUTRAL, ""
        except RequestError as error:
            said = Outcome.FAILURE if error.status is None else outcome_of(error.status)
            return said, str(error)
        except (VenueError, OSError) as error:  # a TimeoutError is one
            return Outcome.FAILURE, str(error) or f"no answer within {self._limit_s:g} s"
