"""The words a venue's limits of requests are written in.

A venue counts several things at once, each over a time of its own and for each address, key,
endpoint or instrument apart. It declares them here; :class:`crosswire.http.Limiter` keeps them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

from .checks import as_word, check_numbers, check_type, check_whole
from .errors import UsageError

__all__ = ["Count", "Limit", "Refusal", "Scope", "Signal", "VenueLimits"]


class Scope(enum.StrEnum):
    """What a limit counts apart. Without any it counts all that one address sends."""

    KEY = "key"
    ENDPOINT = "endpoint"
    INSTRUMENT = "instrument"


class Count(enum.StrEnum):
    """Over which time a limit counts; see :mod:`crosswire.http.window`."""

    ROLLING = "rolling"
    CALENDAR = "calendar"
    DECAYING = "decaying"


class Signal(enum.StrEnum):
    """What a header of an answer tells of a limit."""

    USED = "used"
    REMAINING = "remaining"


@dataclass(frozen=True)
class Limit:
    """One limit of a venue.

    Attributes:
        name: the limiter's name of it, for people.
        unit: what it counts: ``requests``, of which each is one; ``orders``, of which each order
            is one; or another word, of which an endpoint's cost says how many.
        amount: most units, whole.
        count: over which time.
        length_s: of the window; for a decaying count it is not used.
        per_s: by how much a decaying count falls in a second.
        per: what is counted apart.
        reserve: units that only cancels may use.
        header: of answers, in lower case, which tells of it; empty: none does.
        signal: what the header tells.
    """

    name: str
    unit: str
    amount: int
    count: Count
    length_s: float = 0.0
    per_s: Fraction = Fraction(0)
    per: tuple[Scope, ...] = ()
    reserve: int = 0
    header: str = ""
    signal: Signal = Signal.USED

    def __post_init__(self) -> None:
        set_word = object.__setattr__  # of what is frozen from here on
        set_word(self, "count", as_word(Count, self.count, f"{self.name}: count"))
        set_word(self, "signal", as_word(Signal, self.signal, f"{self.name}: signal"))
        set_word(self, "per", _scopes(self.per, self.name))
        check_type(self.name, str, "the name of a limit")
        check_whole(1, **{f"{self.name}: amount": self.amount})
        check_whole(0, **{f"{self.name}: reserve": self.reserve})
        check_numbers(**{f"{self.name}: length_s": self.length_s})
        if not 0 <= self.reserve < self.amount:
            raise UsageError(f"{self.name}: a limit needs 0 <= reserve < amount")
        if not isinstance(self.per_s, int | Fraction):
            raise UsageError(f"{self.name}: per_s is a Fraction, as Fraction(33, 100)")
        if self.count is Count.DECAYING:
            if self.per_s <= 0:
                raise UsageError(f"{self.name}: a decaying limit needs per_s above 0")
        elif not 0.0 < self.length_s < 1e9:
            raise UsageError(f"{self.name}: a limit needs 0 < length_s < 1e9")


@dataclass(frozen=True)
class Refusal:
    """How a venue says that it was asked too often.

    Attributes:
        status: of the answer; ``None``: of any, and ``code`` tells.
        code: in the body, where the venue says it there.
        is_ban: everything from this address is refused, and who asks on is banned for longer.
        per: what of it is refused: all of the address, or of one key, endpoint, instrument.
        wait_s: how long, where the answer does not say.
    """

    status: int | None
    code: str = ""
    is_ban: bool = False
    per: tuple[Scope, ...] = ()
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "per", _scopes(self.per, "a refusal"))
        if self.status is not None:
            check_type(self.status, int, "the status of a refusal")
        check_type(self.code, str, "the code of a refusal")
        check_numbers(wait_s=self.wait_s)
        if not 0.0 <= self.wait_s < 1e9:
            raise UsageError(f"a refusal needs 0 <= wait_s < 1e9, not {self.wait_s!r}")


def _scopes(per: object, name: str) -> tuple[Scope, ...]:
    if not isinstance(per, tuple | list):
        raise UsageError(f"{name}: per is a tuple of what is counted apart, not {per!r}")
    return tuple(as_word(Scope, item, f"{name}: per") for item in per)


@dataclass(frozen=True)
class VenueLimits:
    """All limits of one venue, as of a day.

    Attributes:
        venue: its name.
        as_of: the day that the numbers are of, as ``2026-11``.
        source: where they are from.
        limits: all of them hold at once.
        refusals: the first that fits counts.
        costs: endpoint, as ``"GET /api/v3/time"`` → units of what is neither requests nor orders.
    """

    venue: str
    as_of: str
    source: str
    limits: tuple[Limit, ...]
    refusals: tuple[Refusal, ...]
    costs: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: MappingProxyType({}))
