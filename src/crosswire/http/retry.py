"""Asking again: only what may be asked twice, not before its time, and never past a deadline.

What a repeated request does is its :class:`Effect`:

==============  =====================================  ========================================
effect          as                                     asked again
==============  =====================================  ========================================
``read``        a book, the state of an order          after a failure that passes
``idempotent``  a cancel by the order's id             after a failure that passes
``once``        an order                               never, here
==============  =====================================  ========================================

A failure passes where no answer came, or one of 408, 429 and 5xx. Any other 4xx would be the same
again, and 418 is a ban: who asks on is banned for longer.

An order whose answer is missing may stand in the book, whatever its client id: it is not this
module's to find out.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_tz
from enum import StrEnum
from typing import TypeVar

from ..backoff import Backoff, Jitter
from ..checks import as_word, check_callables, check_numbers, check_type, limit_ns
from ..errors import RequestError
from ..seam import Seam

__all__ = ["Effect", "Repeat", "Retry", "parse_retry_after", "passes"]

T = TypeVar("T")

SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"\d{4} \d\d:\d\d:\d\d GMT"
    r"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, \d\d-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct"
    r"|Nov|Dec)-\d\d \d\d:\d\d:\d\d GMT"
    r"|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"[ \d]\d \d\d:\d\d:\d\d \d{4}",
    re.ASCII,
)
"""The three forms of RFC 9110, 5.6.7, of which the last two are only read, never written."""


class Effect(StrEnum):
    """What it does to ask twice."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


def parse_retry_after(text: str, now_ns: int) -> float | None:
    """Return how long a ``Retry-After`` asks to wait, in s, from 0 on (RFC 9110, 10.2.3).

    Args:
        text: seconds, also with a fraction, which some servers send; or a date.
        now_ns: UTC, for dates. One that is over gives 0.

    Returns:
        ``None`` where it is neither.
    """
    text = text.strip(" \t")
    if SECONDS.fullmatch(text):
        return float(text)
    if not DATE.fullmatch(text):
        return None
    parts = parsedate_tz(text)
    if parts is None or not (1 <= parts[2] <= 31 and parts[3] < 24 and parts[4] < 60):
        return None
    return max(0.0, timegm(parts[:6]) - now_ns / 1e9)


def passes(error: RequestError) -> bool:
    """Whether the same request may end otherwise the next time."""
    status = error.status
    if error.code == "http-closed":
        return False  # whoever closed the pool meant it
    return status is None or status in (408, 429) or status >= 500


@dataclass(frozen=True)
class Repeat:
    """A request is about to be made again.

    Attributes:
        attempt: that failed, from 1.
        delay_s: until the next one.
        error: how it failed.
    """

    attempt: int
    delay_s: float
    error: RequestError


class Retry:
    """Makes requests, and makes them again where that is safe; see :mod:`crosswire.http.retry`.

    Args:
        seam: clock and randomness.
        base_s, cap_s, jitter: of the delays, as of :class:`~crosswire.backoff.Backoff`. A venue
            that says how long is left alone for so long, and the delay comes on top, so that its
            clients do not come back all at once.
        on_repeat: called with each :class:`Repeat`, before the wait.

    Raises:
        UsageError: not ``0 < base_s <= cap_s``.
    """

    def __init__(
        self,
        seam: Seam,
        *,
        base_s: float = 0.1,
        cap_s: float = 5.0,
        jitter: Jitter = Jitter.FULL,
        on_repeat: Callable[[Repeat], None] | None = None,
    ) -> None:
        check_type(seam, Seam, "seam", "crosswire.seam.System() is the real one")
        check_numbers(base_s=base_s, cap_s=cap_s)
        check_callables(on_repeat=on_repeat)
        jitter = as_word(Jitter, jitter, "jitter")
        Backoff(base_s, cap_s, jitter)
        self._seam = seam
        self._terms = (base_s, cap_s, jitter)
        self._on_repeat = on_repeat

    async def run(
        self, call: Callable[[float], Awaitable[T]], *, effect: Effect, limit_s: float
    ) -> T:
        """Return what ``call`` returns.

        Args:
            call: makes the request once, in at most the seconds that it is given.
            effect: of making it twice.
            limit_s: for all attempts together. What would begin behind it is not waited for.

        Raises:
            RequestError: the last failure, where it was not to be asked again, or not in time.
            UsageError: not ``0 < limit_s < inf``, or ``effect`` is none.
        """
        effect = as_word(Effect, effect, "effect")
        clock = self._seam.monotonic_ns
        end = clock() + limit_ns(limit_s)
        backoff = Backoff(*self._terms)
        while True:
            try:
                return await call((end - clock()) / 1e9)
            except RequestError as error:
                if effect is Effect.ONCE or not passes(error):
                    raise
                delay = backoff.next_delay(self._seam.uniform) + (error.retry_after_s or 0.0)
                if clock() + round(delay * 1e9) >= end:
                    raise
                if self._on_repeat:
                    self._on_repeat(Repeat(backoff.attempts, delay, error))
                last = error
            await self._seam.sleep(delay)
            if clock() >= end:  # a busy loop sleeps longer than it was asked to
                raise last
