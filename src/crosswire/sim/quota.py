"""A venue's own counting of requests: its limits, who is refused, and who is banned.

Pure: no socket and no clock; the time is passed in, so that it also serves as the oracle of a
limiter's tests. All arithmetic is exact.

Rule 1: a request is over a limit where the count behind it would be above ``count_max``.
Rule 2: a request that is refused is counted by the limits that say so (``counts_refused``), and by
no other; one from a banned address is counted by none.
Rule 3: time never goes back: an earlier one counts as the latest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ..errors import UsageError

__all__ = ["SCOPES", "UNITS", "Hit", "Ledger", "Overshoot", "Ruling", "Tally", "VenueLimit"]

SCOPES = ("address", "key", "endpoint", "instrument")
UNITS = ("weight", "requests", "orders")
KINDS = ("window", "rolling", "decay")
COUNT_MAX = 10**12
SECONDS_MAX = 10**8
BAN_S = 120.0
NS = 10**9


@dataclass(frozen=True, slots=True)
class Hit:
    """What a venue counts of one request.

    Attributes:
        address: whose ban it is.
        key: of the account, or ``None``.
        endpoint: its name.
        instrument: that it is about, or ``None``.
        weight: 0 or more.
        orders: how many it places, 0 or more.
    """

    address: str = ""
    key: str | None = None
    endpoint: str = ""
    instrument: str | None = None
    weight: int = 1
    orders: int = 0

    def cost(self, unit: str) -> int:
        """Return what it costs in a unit of ``UNITS``."""
        if unit == "requests":
            return 1
        return self.orders if unit == "orders" else self.weight


@dataclass(frozen=True)
class VenueLimit:
    """One limit of a venue.

    Give ``window_s`` for a count that begins anew at each multiple of the window in UTC; with
    ``is_rolling``, for what came within the last ``window_s`` (a request leaves it that long after
    it came). Give ``decay_per_s`` instead for a counter that falls by so much a second, down to 0.

    Attributes:
        name: in the account; unique among a venue's.
        count_max: a count may reach it, and not pass it.
        window_s: seconds; a float is taken as its decimal text, so 0.1 is a tenth.
        decay_per_s: units a second; likewise.
        is_rolling: of a window.
        per: what has a count of its own: each combination of these, of ``SCOPES``. A request
            without one of them (no key, no instrument) is not counted.
        unit: one of ``UNITS``. A request that costs 0 is never over.
        endpoints: only these are counted; empty: all are.
        counts_refused: count requests that are refused, too.
        status: of the refusal.
        text: body of the refusal; empty: the server's own.
        tells_when: send ``Retry-After`` with the refusal.
        used_header: name of the header that tells the count, rounded up; empty: none.
        left_header: name of the header that tells what is left, rounded down.

    Raises:
        UsageError: a number out of range, an unknown word, or not exactly one of the two rates.
    """

    name: str
    count_max: int
    window_s: float | Fraction | None = None
    decay_per_s: float | Fraction | None = None
    is_rolling: bool = False
    per: tuple[str, ...] = ("address",)
    unit: str = "weight"
    endpoints: tuple[str, ...] = ()
    counts_refused: bool = False
    status: int = 429
    text: str = ""
    tells_when: bool = True
    used_header: str = ""
    left_header: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.name:
            raise UsageError("a limit needs a name")
        if not 1 <= self.count_max <= COUNT_MAX or self.count_max != int(self.count_max):
            raise UsageError(f"limit {self.name}: count_max is a whole number from 1 on")
        if (self.window_s is None) == (self.decay_per_s is None):
            raise UsageError(f"limit {self.name}: give one of window_s and decay_per_s")
        if self.is_rolling and self.window_s is None:
            raise UsageError(f"limit {self.name}: only a window rolls")
        if self.window_s is not None:
            window = _exact(self.window_s, f"limit {self.name}: window_s") * NS
            if window.denominator != 1:
                raise UsageError(f"limit {self.name}: window_s is a whole number of ns")
        if self.decay_per_s is not None:
            _exact(self.decay_per_s, f"limit {self.name}: decay_per_s")
        if not isinstance(self.per, tuple) or set(self.per) - set(SCOPES):
            raise UsageError(f"limit {self.name}: per is a tuple of {', '.join(SCOPES)}")
        names = self.endpoints
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise UsageError(f"limit {self.name}: endpoints is a tuple of names")
        if self.unit not in UNITS:
            raise UsageError(f"limit {self.name}: unit is one of {', '.join(UNITS)}")
        if not 200 <= self.status <= 599:
            raise UsageError(f"limit {self.name}: status is 200 to 599")

    @property
    def kind(self) -> str:
        """One of ``window``, ``rolling``, ``decay``."""
        if self.decay_per_s is not None:
            return "decay"
        return "rolling" if self.is_rolling else "window"

    def subject(self, hit: Hit) -> tuple[str, ...] | None:
        """Return whose count a request is added to; ``None``: it is not counted."""
        if not hit.cost(self.unit) or (self.endpoints and hit.endpoint not in self.endpoints):
            return None
        parts = [getattr(hit, scope) for scope in self.per]
        return None if None in parts else tuple(parts)


def _exact(value: Any, what: str) -> Fraction:
    """Return a positive number of seconds, or of units a second, as its decimal text has it.

    Raises:
        UsageError: it is not one, or above 1e8.
    """
    try:
        number = value if isinstance(value, Fraction) else Fraction(str(value))
    except ValueError:
        raise UsageError(f"{what} is a number, not {value!r}") from None
    if not 0 < number <= SECONDS_MAX:
        raise UsageError(f"{what} is above 0 and at most {SECONDS_MAX:g}, not {value!r}")
    return number


# ------------------------------------------------------------------ one count


class _Window:
    """A count that begins anew at each multiple of the window."""

    def __init__(self, limit: VenueLimit) -> None:
        self._window_ns = int(_exact(limit.window_s, "window_s") * NS)
        self._number = 0
        self._count = 0

    def count(self, now_ns: int) -> int | Fraction:
        if now_ns // self._window_ns != self._number:
            self._number, self._count = now_ns // self._window_ns, 0
        return self._count

    def add(self, cost: int, now_ns: int) -> None:
        self._count = int(self.count(now_ns)) + cost

    def free_ns(self, room: int, now_ns: int) -> int:
        if self.count(now_ns) <= room:
            return now_ns
        return (self._number + 1) * self._window_ns


class _Rolling:
    """What came within the last window."""

    def __init__(self, limit: VenueLimit) -> None:
        self._window_ns = int(_exact(limit.window_s, "window_s") * NS)
        self._log: deque[tuple[int, int]] = deque()
        self._count = 0

    def count(self, now_ns: int) -> int | Fraction:
        while self._log and self._log[0][0] + self._window_ns <= now_ns:
            self._count -= self._log.popleft()[1]
        return self._count

    def add(self, cost: int, now_ns: int) -> None:
        self.count(now_ns)
        self._log.append((now_ns, cost))
        self._count += cost

    def free_ns(self, room: int, now_ns: int) -> int:
        count = self.count(now_ns)
        for came_ns, cost in self._log:
            if count <= room:
                break
            count -= cost
            now_ns = came_ns + self._window_ns
        return now_ns


class _Decay:
    """A counter that falls steadily, down to 0."""

    def __init__(self, limit: VenueLimit) -> None:
        self._per_ns = _exact(limit.decay_per_s, "decay_per_s") / NS
        self._count = Fraction(0)
        self._at_ns = 0

    def count(self, now_ns: int) -> int | Fraction:
        fallen = self._count - (now_ns - self._at_ns) * self._per_ns
        self._count, self._at_ns = max(Fraction(0), fallen), now_ns
        return self._count

    def add(self, cost: int, now_ns: int) -> None:
        self._count = self.count(now_ns) + Fraction(cost)

    def free_ns(self, room: int, now_ns: int) -> int:
        above = self.count(now_ns) - room
        return now_ns - int(-above / self._per_ns // 1) if above > 0 else now_ns


_Count = _Window | _Rolling | _Decay


def _count_of(limit: VenueLimit) -> _Count:
    if limit.kind == "decay":
        return _Decay(limit)
    return _Rolling(limit) if limit.is_rolling else _Window(limit)


# ------------------------------------------------------------------ the ledger


@dataclass(frozen=True, slots=True)
class Overshoot:
    """A request that was over a limit.

    Attributes:
        now_ns: when it came, UTC by the venue's clock.
        subject: whose count it was, in the order of the limit's ``per``.
        by: how far above ``count_max`` the count behind it would be.
    """

    now_ns: int
    subject: tuple[str, ...]
    by: int | Fraction


@dataclass
class Tally:
    """What became of one limit.

    Attributes:
        highest: the highest count that a request reached, or would have reached where it was over.
        overshoots: the requests that were over, in order of arrival.
    """

    highest: int | Fraction = 0
    overshoots: list[Overshoot] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a venue says to a request.

    Attributes:
        status: of the refusal; ``None``: it passes.
        retry_after_s: whole seconds until the same request would pass if nothing else came, or
            until the ban ends; ``None``: not told.
        text: body of the refusal, where the limit has one.
        over: names of the limits that it was over.
        headers: (name, value) of what the limits tell, counted at arrival.
    """

    status: int | None
    retry_after_s: int | None
    text: str
    over: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]


@dataclass
class _Offender:
    """An address that was refused: until when, how often while it was, and its ban's end."""

    limited_ns: int = 0
    row: int = 0
    banned_ns: int = 0


class Ledger:
    """Counts a venue's requests, and rules who is refused.

    Args:
        limits: all are asked about each request.
        ban_after: an address that is refused so many times, each but the first while an earlier
            refusal has not yet passed, is banned by the next one; ``None``: nobody ever is.
        ban_s: how long a ban is.
        extends_ban: whoever asks while banned is banned for ``ban_s`` from then on.

    Attributes:
        tallies: what became of each limit, by name.
        bans: (UTC ns, address) of every ban that began.

    Raises:
        UsageError: two limits of one name, or a number out of range.
    """

    def __init__(
        self,
        limits: Sequence[VenueLimit],
        *,
        ban_after: int | None = None,
        ban_s: float = BAN_S,
        extends_ban: bool = False,
    ) -> None:
        if len({limit.name for limit in limits}) != len(limits):
            raise UsageError("two limits have one name")
        if ban_after is not None and ban_after < 1:
            raise UsageError(f"ban_after is 1 or more, not {ban_after}")
        self.limits = tuple(limits)
        self.tallies = {limit.name: Tally() for limit in limits}
        self.bans: list[tuple[int, str]] = []
        self._counts: dict[tuple[str, tuple[str, ...]], _Count] = {}
        self._offenders: dict[str, _Offender] = {}
        self._ban_after = ban_after
        self._ban_ns = int(_exact(ban_s, "ban_s") * NS)
        self._extends_ban = extends_ban
        self._last_ns = 0

    def take(self, hit: Hit, now_ns: int) -> Ruling:
        """Count a request that comes now, and say what becomes of it.

        Args:
            now_ns: UTC by the venue's clock.
        """
        now = self._last_ns = max(now_ns, self._last_ns)
        offender = self._offenders.get(hit.address)
        if offender and now < offender.banned_ns:
            if self._extends_ban:
                offender.banned_ns = now + self._ban_ns
            return _ban(offender.banned_ns - now)
        concerned = [
            (limit, subject, self._counts.get((limit.name, subject)) or self._begin(limit, subject))
            for limit in self.limits
            if (subject := limit.subject(hit)) is not None
        ]
        over: list[VenueLimit] = []
        for limit, subject, count in concerned:
            behind = count.count(now) + hit.cost(limit.unit)
            tally = self.tallies[limit.name]
            tally.highest = max(tally.highest, behind)
            if behind > limit.count_max:
                over.append(limit)
                tally.overshoots.append(Overshoot(now, subject, behind - limit.count_max))
        for limit, _, count in concerned:
            if not over or limit.counts_refused:
                count.add(hit.cost(limit.unit), now)
        headers = tuple(_headers(concerned, now))
        if not over:
            return Ruling(None, None, "", (), headers)
        free_ns = max(
            count.free_ns(max(0, limit.count_max - hit.cost(limit.unit)), now)
            for limit, _, count in concerned
        )  # of all of them: one that counts refusals may be full by this one
        names = tuple(limit.name for limit in over)
        if self._offends(hit.address, now, free_ns):
            return _ban(self._ban_ns, names, headers)
        first = over[0]
        retry_after_s = max(1, -((now - free_ns) // NS)) if first.tells_when else None
        return Ruling(first.status, retry_after_s, first.text, names, headers)

    def count(self, name: str, subject: tuple[str, ...], now_ns: int) -> int | Fraction:
        """Return a limit's count of a subject, in the order of its ``per``.

        Raises:
            UsageError: there is no such limit.
        """
        if name not in self.tallies:
            raise UsageError(f"no limit is named {name!r}")
        now = self._last_ns = max(now_ns, self._last_ns)
        count = self._counts.get((name, subject))
        return count.count(now) if count else 0

    def banned_until_ns(self, address: str) -> int:
        """Return when the last ban of an address ends, UTC ns; 0: it never had one."""
        offender = self._offenders.get(address)
        return offender.banned_ns if offender else 0

    def _begin(self, limit: VenueLimit, subject: tuple[str, ...]) -> _Count:
        count = self._counts[limit.name, subject] = _count_of(limit)
        return count

    def _offends(self, address: str, now: int, free_ns: int) -> bool:
        """Note a refusal; return whether the address is banned for it."""
        offender = self._offenders.setdefault(address, _Offender())
        offender.row = offender.row + 1 if now < offender.limited_ns else 1
        offender.limited_ns = max(offender.limited_ns, free_ns)
        if self._ban_after is None or offender.row <= self._ban_after:
            return False
        self._offenders[address] = _Offender(banned_ns=now + self._ban_ns)
        self.bans.append((now, address))
        return True


def _ban(
    left_ns: int, over: tuple[str, ...] = (), headers: tuple[tuple[str, str], ...] = ()
) -> Ruling:
    return Ruling(418, -(-left_ns // NS), "", over, headers)


def _headers(
    concerned: Sequence[tuple[VenueLimit, tuple[str, ...], _Count]], now: int
) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    for limit, _, count in concerned:
        used = -(-count.count(now) // 1)
        if limit.used_header:
            told.append((limit.used_header, str(used)))
        if limit.left_header:
            told.append((limit.left_header, str(max(0, limit.count_max - used))))
    return told
