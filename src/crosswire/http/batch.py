"""Many requests at once: so many at a time, or several in one, each with its own result.

:func:`ask_each` makes one request per item. A :class:`Batcher` is for venues that take several
items in one request. Both tell how every item ended: as :class:`Ok` or as :class:`Failed`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import inf
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..checks import check_callable, check_callables, check_numbers, check_type, check_whole
from ..errors import RequestError, UsageError
from ..seam import Seam

__all__ = ["Batcher", "Failed", "Ok", "ask_each"]

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_log = logging.getLogger("crosswire.http.batch")


@dataclass(frozen=True, slots=True)
class Ok(Generic[R_co]):
    """An item's request was answered.

    Attributes:
        value: what came of it.
    """

    value: R_co


@dataclass(frozen=True, slots=True)
class Failed:
    """An item's request failed, or was not begun.

    Attributes:
        error: how; a :class:`~crosswire.RequestError` with ``not-started``: it was not begun.
    """

    error: Exception


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until all have ended, also where the waiting is cancelled.

    Each is cancelled once: once more would break off what it does to end well.
    """
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    interrupted: asyncio.CancelledError | None = None
    while left:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            interrupted = error
        left = [task for task in left if not task.done()]
    if interrupted:
        raise interrupted


async def ask_each(
    items: Iterable[T],
    call: Callable[[T], Awaitable[R]],
    *,
    concurrency: int,
    stop_on: Callable[[Exception], bool] | None = None,
) -> list[Ok[R] | Failed]:
    """Return how ``call`` ended for each item, in the order of the items.

    An error is the result of its item alone. What is no ``Exception`` is raised, as is what the
    items or ``stop_on`` raise; then, and where the caller is cancelled, all that is under way is
    cancelled and waited for.

    Args:
        items: taken one by one, when there is room for the next; they have an end.
        call: makes the request for one.
        concurrency: requests under way at once, at most.
        stop_on: whether an error ends the beginning of new ones, as a ban does. Those that were
            not begun have failed with ``not-started``; those under way go on.

    Raises:
        UsageError: ``concurrency`` is not whole, or below 1; or ``call`` is no function.
    """
    check_whole(1, concurrency=concurrency)
    check_callable(call, "call")
    check_callables(stop_on=stop_on)
    check_type(items, Iterable, "items")
    source = iter(items)
    results: list[Any] = []
    stopped: Exception | None = None

    async def work(item: T, place: int) -> None:
        nonlocal stopped
        if stopped is None:
            try:
                results[place] = Ok(await call(item))
            except Exception as error:
                results[place] = Failed(error)
                if stopped is None and stop_on is not None and stop_on(error):
                    stopped = error
        else:
            results[place] = Failed(_not_started(stopped))

    async def work_on(item: T, place: int) -> None:
        await work(item, place)
        for following in source:  # of all workers: each takes the next
            results.append(None)
            await work(following, len(results) - 1)

    tasks: list[asyncio.Task[None]] = []
    broken: list[BaseException] = []
    over = asyncio.Event()
    left = 0

    def ended(task: asyncio.Task[None]) -> None:
        nonlocal left
        left -= 1
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            broken.append(error)
        if broken or left == 0:
            over.set()

    try:
        for item in islice(source, concurrency):
            results.append(None)
            tasks.append(asyncio.create_task(work_on(item, len(results) - 1)))
            tasks[-1].add_done_callback(ended)
            left += 1
        if tasks:
            await over.wait()
    finally:
        await _end(tasks)
    if broken:
        raise broken[0]
    return results


def _not_started(why: Exception) -> RequestError:
    error = RequestError("not-started", f"stopped by {why}", may_have_run=False)
    error.__cause__ = why
    return error


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    """Items of one key that wait for company."""

    items: list[T]
    answers: list[asyncio.Future[R]]
    ids: set[Hashable]
    timer: asyncio.TimerHandle


class Batcher(Generic[T, R]):
    """Puts items together into requests, and gives each item its own result.

    Use it as ``async with``: at the end of the block what waits is sent; where the block raised, it
    has failed with ``not-started``. What is under way is waited for in either case.

    The result of an item is found by its id, where both functions for it are given; else by its
    place, and an answer of another length than its request has failed for all of its items
    (``batch-count``). By id, an item fails alone where the answer has no result for it
    (``batch-missing``) or several (``batch-doubled``); a result whose id was not asked for, or
    cannot be read, is logged and counted. Each of these is a :class:`~crosswire.RequestError` that
    may have run.

    Args:
        seam: timers.
        send_batch: sends 1 to ``size_max`` items of one key in one request, and returns the
            results. What it raises is the failure of each of its items.
        size_max: items in one request.
        linger_s: how long the first one waits for company; 0: for those who ask in the same turn of
            the loop.
        concurrency: requests under way at once, at most.
        key_of: items of different keys are never in one request.
        id_of_item, id_of_result: ids, to be hashed. Items of one id are never in one request.

    Attributes:
        sent: requests.
        strays: results that belong to no item of their request.

    Raises:
        UsageError: ``send_batch`` is no function, a count is not whole or below 1, ``linger_s`` is
            negative or not finite, or only one of the functions for ids is given.
    """

    def __init__(
        self,
        seam: Seam,
        send_batch: Callable[[list[T]], Awaitable[Sequence[R]]],
        *,
        size_max: int,
        linger_s: float = 0.0,
        concurrency: int = 4,
        key_of: Callable[[T], Hashable] | None = None,
        id_of_item: Callable[[T], Hashable] | None = None,
        id_of_result: Callable[[R], Hashable] | None = None,
    ) -> None:
        check_callable(send_batch, "send_batch")
        check_type(seam, Seam, "seam", "crosswire.seam.System() is the real one")
        check_whole(1, size_max=size_max, concurrency=concurrency)
        check_numbers(linger_s=linger_s)
        check_callables(key_of=key_of, id_of_item=id_of_item, id_of_result=id_of_result)
        if not 0.0 <= linger_s < inf:
            raise UsageError(f"a batcher needs 0 <= linger_s < inf, not {linger_s!r}")
        if (id_of_item is None) != (id_of_result is None):
            raise UsageError("id_of_item and id_of_result are given together or not at all")
        self.sent = self.strays = 0
        self._seam, self._send_batch = seam, send_batch
        self._size_max, self._linger_s = size_max, linger_s
        self._key_of, self._id_of_item, self._id_of_result = key_of, id_of_item, id_of_result
        self._room = asyncio.Semaphore(concurrency)
        self._waiting: dict[Hashable, _Waiting[T, R]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def call(self, item: T) -> R:
        """Return the result of an item, which is sent together with those of other callers.

        A caller who is cancelled takes its item out, as long as its request has not begun; it
        changes nothing for the others.

        Raises:
            RequestError: see above; or what ``send_batch`` raised.
            UsageError: the batcher is closed.
        """
        return await self._put(item)

    async def call_all(self, items: Iterable[T]) -> list[Ok[R] | Failed]:
        """Return how each item ended, in the order of the items; they do not wait for others'.

        Raises:
            UsageError: the batcher is closed.
        """
        answers: list[asyncio.Future[R]] = []
        keys: set[Hashable] = set()
        try:
            for item in items:
                answers.append(self._put(item))
                keys.add(self._key_of(item) if self._key_of else None)
            for key in keys & self._waiting.keys():
                self._flush(key)
            if answers:
                await asyncio.wait(answers)
            return [_result_of(answer) for answer in answers]
        finally:
            for answer in answers:
                if not answer.cancel() and not answer.cancelled():
                    answer.exception()  # nobody else looks at it

    async def close(self, *, is_sent: bool = True) -> None:
        """Take no more items; wait for what is under way. Where that is cancelled, so is that.

        Args:
            is_sent: what waits is sent; else it has failed with ``not-started``.
        """
        self._is_closed = True
        if is_sent:
            self._flush_all()
        for waiting in self._waiting.values():
            waiting.timer.cancel()
            error = RequestError("not-started", "the batcher was closed", may_have_run=False)
            _fail(waiting.answers, error)
        self._waiting.clear()
        try:
            if self._sending:
                await asyncio.wait(self._sending)
        finally:
            await _end(self._sending)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(is_sent=error is None)

    # ------------------------------------------------------------------ waiting for company

    def _put(self, item: T) -> asyncio.Future[R]:
        if self._is_closed:
            raise UsageError("the batcher is closed")
        key = self._key_of(item) if self._key_of else None
        name = self._id_of_item(item) if self._id_of_item else None
        waiting = self._waiting.get(key)
        if waiting is not None and self._id_of_item and name in waiting.ids:
            self._flush(key)
            waiting = None
        if waiting is None:
            timer = self._seam.later(self._linger_s, partial(self._flush, key))
            waiting = self._waiting[key] = _Waiting([], [], set(), timer)
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        waiting.ids.add(name)
        waiting.items.append(item)
        waiting.answers.append(answer)
        if len(waiting.items) == self._size_max:
            self._flush(key)
        return answer

    def _flush_all(self) -> None:
        for key in list(self._waiting):
            self._flush(key)

    def _flush(self, key: Hashable) -> None:
        waiting = self._waiting.pop(key)
        waiting.timer.cancel()
        task = asyncio.create_task(self._send(waiting.items, waiting.answers))
        self._sending.add(task)
        task.add_done_callback(partial(self._ended, waiting.answers))

    # ------------------------------------------------------------------ one request

    async def _send(self, items: list[T], answers: list[asyncio.Future[R]]) -> None:
        async with self._room:
            wanted = [i for i, answer in enumerate(answers) if not answer.done()]
            if not wanted:
                return
            items, answers = [items[i] for i in wanted], [answers[i] for i in wanted]
            self.sent += 1
            try:
                results = await self._send_batch(list(items))
                self._hand_out(items, answers, results)
            except StopIteration as error:  # no future takes one
                text = "reading the results raised StopIteration"
                failure = RuntimeError(text)
                failure.__cause__ = error
                _fail(answers, failure)
            except Exception as error:
                _fail(answers, error)
            except BaseException:
                text = "the request was broken off"
                _fail(answers, RequestError("batch-cancelled", text, may_have_run=True))
                raise

    def _ended(self, answers: list[asyncio.Future[R]], task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        # What has no answer yet was cancelled before it was sent.
        text = "the batcher was closed"
        _fail(answers, RequestError("not-started", text, may_have_run=False))
        if not task.cancelled():
            task.exception()  # no Exception: the loop itself has raised it

    def _hand_out(
        self, items: list[T], answers: list[asyncio.Future[R]], results: Sequence[R]
    ) -> None:
        if not isinstance(results, Collection):
            text = f"something of type {type(results).__name__} for {len(items)} items"
            raise RequestError("batch-count", text, may_have_run=True)
        if self._id_of_item is None:
            if len(results) != len(items):
                text = f"{len(results)} results for {len(items)} items"
                raise RequestError("batch-count", text, may_have_run=True)
            for answer, result in zip(answers, results, strict=True):
                _give(answer, result)
            return
        found: dict[Hashable, list[R]] = {self._id_of_item(item): [] for item in items}
        strays = 0
        for result in results:
            try:
                found[self._id_of_result(result)].append(result)  # type: ignore[misc]
            except Exception:  # whatever reading an id out of what a venue sent comes to
                strays += 1
        if strays:
            self.strays += strays
            _log.warning("%d of %d results belong to no item", strays, len(results))
        beside = f"; {strays} results belong to no item" if strays else ""
        for answer, (name, own) in zip(answers, found.items(), strict=True):
            if len(own) == 1:
                _give(answer, own[0])
                continue
            code = "batch-doubled" if own else "batch-missing"
            text = f"{len(own)} results for {name!r}{beside}"
            _fail([answer], RequestError(code, text, may_have_run=True))


def _give(answer: asyncio.Future[R], result: R) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answers: Iterable[asyncio.Future[R]], error: Exception) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)


def _result_of(answer: asyncio.Future[R]) -> Ok[R] | Failed:
    error = answer.exception()
    if error is None:
        return Ok(answer.result())
    if isinstance(error, Exception):
        return Failed(error)
    raise error
