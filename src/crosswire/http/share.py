"""One address's limits, shared by the processes of this host.

Each process is a member, with a limiter of its own that lets through what the member holds of
each limit; the :mod:`~crosswire.http.ledger` sees to it that all together hold no more than there
is. A member that lacks something leases it, some more than it needs, so that most requests
need no look at the ledger.

Rules:
1. Nobody polls. Who wants what others hold tells them by a datagram (a nudge); they give back what
   they do not use, as it becomes free, and nudge in turn. Only of a member that was killed nobody
   tells: who wants something looks again after ``LOOK_AGAIN_S``.
2. While others want, a member keeps to its even share: all of that where it has waiters of its
   own, else twice as much of it as it used not long ago.
3. A refusal of the venue's, and a ban, stops all members.
4. A nudge is a hint: it says nothing, and nothing is lost with it but time.
5. What the ledger did not take, as where its disk is full, is told again after ``LOOK_AGAIN_S``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from ..checks import check_type
from ..errors import HostError, UsageError
from ..seam import Nudge, Seam, thread_lock
from .ledger import Ledger, Reply, Stop, Want

__all__ = ["Share", "Sharer"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_AGAIN_S = 1.0
CHUNKS = 20
"""A lease is a part of this many of the limit, where nobody else wants it."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}", re.ASCII)


class Sharer(Protocol):
    """What shares: a limiter."""

    def take_reply(self, reply: Reply) -> None:
        """Take grants and refusals, and what others hold and want."""

    def held(self) -> Mapping[str, int]:
        """Return what is held of the meters where that became less, and count it as given back."""

    def all_held(self) -> Mapping[str, int]:
        """Return what is held of every meter."""

    def free_at(self) -> int | None:
        """Return when there will be something to give back; ``None``: there is nothing wanted."""

    def counted(self) -> Mapping[str, int]:
        """Return the units of each meter that the venue still counts."""

    def leave(self) -> None:
        """Let nothing more through."""


class Share:
    """A membership; an asynchronous context manager, within which a limiter is made with it.

    Args:
        name: of what is shared, the same in all processes: one for each venue and address, as
            ``"binance"``.
        seam: clock, timers and threads.
        folder: where the ledgers are; ``None``: ``XDG_RUNTIME_DIR``, or else a folder of this
            user's own in ``/dev/shm``. It is to be in memory, and gone with the next boot.

    Raises:
        UsageError: ``name`` is not one of up to 40 of ``a-z 0-9 . _ -``.
        HostError: the folder cannot be used (when entered).
    """

    def __init__(self, name: str, seam: Seam, *, folder: str | Path | None = None) -> None:
        check_type(name, str, "name")
        check_type(seam, Seam, "seam", "crosswire.seam.System() is the real one")
        if folder is not None and not isinstance(folder, str | Path):
            raise UsageError(f"folder must be a path, not of type {type(folder).__name__}")
        if not NAME.fullmatch(name):
            raise UsageError(f"a share's name is up to 40 of a-z 0-9 . _ -, not {name!r}")
        self._folder = Path(folder or _default_folder()) / name
        self._seam = seam
        self._member = seam.random_bytes(8).hex()
        self._sharer: Sharer | None = None
        self._ledger: Ledger | None = None
        self._nudge: Nudge | None = None
        self._wants: dict[str, Want] = {}
        self._asking: dict[str, Want] = {}
        self._unmet: dict[str, Want] = {}
        self._stops: dict[str, Stop] = {}
        self._untold: dict[str, int] = {}
        self._is_nudged = False
        self._is_failing = False
        self._gone_free_at: int | None = None
        self._turn = 0
        self._turn_lock = thread_lock()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Become a member."""
        self._ledger = await self._seam.in_thread(lambda: Ledger(self._folder, self._member))
        try:
            self._nudge = self._seam.open_nudge(self._folder, self._member, self._be_nudged)
        except BaseException as error:
            self._ledger.close()
            self._ledger = None
            if not isinstance(error, OSError):
                raise
            raise HostError(f"limits cannot be shared in {self._folder}: {error}") from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave; what was spent stays spent for the others, and the limiter lets nothing more
        through. Who is cancelled meanwhile leaves all the same, or would hold what it holds for as
        long as its process lives."""
        leaving = asyncio.get_running_loop().create_task(self._leave())
        try:
            await asyncio.shield(leaving)
        except asyncio.CancelledError:
            await asyncio.wait([leaving])
            raise

    async def _leave(self) -> None:
        if self._timer:
            self._timer.cancel()
        ledger, self._ledger = self._ledger, None
        assert ledger
        assert self._nudge
        try:
            if self._task:
                await asyncio.gather(self._task, return_exceptions=True)
            counted: Mapping[str, int] = {}
            if self._sharer:
                self._sharer.leave()
                counted = self._sharer.counted()
            now = self._seam.monotonic_ns()
            await self._in_turn(lambda: ledger.leave(now, counted))
            self._nudge.send()
        finally:
            self._nudge.close()

    def join(self, sharer: Sharer) -> None:
        """Say who shares.

        Raises:
            UsageError: it was not entered, or somebody shares by it already.
        """
        if self._ledger is None:
            raise UsageError("a Share is to be entered (async with) before its limiter is made")
        if self._sharer:
            raise UsageError("a Share is for one limiter")
        self._sharer = sharer

    def want(self, meter: str, units: int, amount: int, hold_ns: int) -> None:
        """Ask for what is lacking; :meth:`Sharer.take_reply` tells when it is there."""
        known = self._asking.get(meter) or self._unmet.get(meter)
        if known is None or known.units != units:
            self._wants[meter] = Want(units, max(0, amount // CHUNKS - units), amount, hold_ns)
            self._begin()

    def stop(self, scope: str, stop: Stop) -> None:
        """Tell all members of a refusal; one that was not told yet is made no shorter or milder."""
        if known := self._stops.get(scope):
            is_ban = known.is_ban or stop.is_ban
            stop = Stop(max(known.until, stop.until), is_ban, stop.cause)
        self._stops[scope] = stop
        self._begin()

    def look(self) -> None:
        """Read the ledger, and give back what may be given back."""
        self._is_nudged = True
        self._begin()

    def _be_nudged(self) -> None:
        self._wants = {**self._unmet, **self._wants}
        self.look()

    def _begin(self) -> None:
        is_busy = self._task is not None and not self._task.done()  # done: cancelled unbegun
        if not is_busy and self._ledger:
            self._task = asyncio.get_running_loop().create_task(self._exchange())

    async def _exchange(self) -> None:
        """Exchange with the ledger until there is nothing more to say."""
        try:
            while self._ledger and self._sharer and (held := self._has_news()) is not None:
                await self._exchange_once(self._ledger, self._sharer, held)
            self._is_failing = False
        except (sqlite3.Error, OSError):
            if not self._is_failing:
                _log.exception("limits are not shared for now; what is held is gone on with")
            self._is_failing = True
        finally:
            self._task = None
            self._set_timer()

    def _has_news(self) -> Mapping[str, int] | None:
        """Return what is given back; ``None``: there is nothing to say at all."""
        assert self._sharer
        held = {**self._untold, **self._sharer.held()}
        if held or self._wants or self._stops or self._is_nudged:
            return held
        return None

    async def _exchange_once(self, ledger: Ledger, sharer: Sharer, held: Mapping[str, int]) -> None:
        wants, stops = self._wants, self._stops
        self._wants, self._stops, self._untold, self._is_nudged = {}, {}, {}, False
        self._asking = wants
        now = self._seam.monotonic_ns()
        try:
            reply = await self._in_turn(lambda: ledger.exchange(now, held, wants, stops))
        except BaseException:  # it may have been done, where this task was cancelled
            self._wants = {**wants, **self._wants}
            self._stops = {**stops, **self._stops}
            self._untold = dict(sharer.all_held())
            raise
        finally:
            self._asking = {}
        is_new = bool(wants.keys() - reply.grants.keys() - self._unmet.keys())
        for meter, want in wants.items():
            if meter in reply.grants:
                self._unmet.pop(meter, None)
            else:
                self._unmet[meter] = want
        self._gone_free_at = reply.free_at
        sharer.take_reply(reply)
        if held or stops or is_new:
            assert self._nudge
            self._nudge.send()

    async def _in_turn(self, work: Callable[[], T]) -> T:
        """Do in a thread what uses the ledger, one after the other. Work whose task is cancelled
        goes on in its thread; where the next overtakes it, it is not done at all."""
        self._turn = turn = self._turn + 1

        def in_turn() -> T:
            with self._turn_lock:
                if turn != self._turn:
                    raise HostError("overtaken")
                return work()

        return await self._seam.in_thread(in_turn)

    def _set_timer(self) -> None:
        """Wake up when there is something to give back; and while something is wanted."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not (self._ledger and self._sharer):
            return
        now = self._seam.monotonic_ns()
        times = [at for at in (self._sharer.free_at(),) if at is not None]
        if self._unmet or self._is_failing:
            times.append(now + round(LOOK_AGAIN_S * 1e9))
            if self._gone_free_at is not None:
                times.append(self._gone_free_at)
        if times:
            delay_s = max(0, min(times) - now) / 1e9 + 1e-6
            self._timer = self._seam.later(delay_s, self._be_nudged)


def _default_folder() -> Path:
    """Return where ledgers are: a folder in memory, of this user's own."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "crosswire"
    return Path(f"/dev/shm/crosswire-{os.getuid()}")
