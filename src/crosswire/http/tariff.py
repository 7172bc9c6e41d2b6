"""What requests to a venue cost: which windows each falls into, and what may stop it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from operator import index

from ..checks import as_word, check_type
from ..errors import UsageError
from ..limits import Limit, Scope, VenueLimits
from .message import Kind
from .meter import Clock, Halt, Meter, Scopes
from .window import Window

__all__ = ["Call", "Lane", "Tariff"]

METERS_MAX = 1 << 16
"""Windows of one limiter: of keys, endpoints and instruments together."""
URGENCY = {kind: number for number, kind in enumerate(Kind)}

SAFE = ("GET /", "HEAD /")
"""How endpoints begin that change nothing."""
_ENDPOINT = re.compile(r"([A-Z][A-Z-]*) (/[^\s?#]*)", re.ASCII)
_PART = re.compile(r"\{[^{}/]+\}")

Lane = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Who waits in one queue: urgency; meters and halts, by identity."""


class Call:
    """What a request costs, and where; :meth:`Limiter.call` makes it, once for many requests.

    Attributes:
        endpoint, kind, key, instrument: as they were given.
        tariff: whose windows these are.
        places: (window, units, room that is needed, meter) of each limit that counts it.
        halts: what may stop it.
        lane: where it waits.
    """

    __slots__ = (
        "_method", "_path", "endpoint", "halts", "instrument", "key", "kind", "lane", "places",
        "tariff",
    )  # fmt: skip

    def __init__(
        self,
        tariff: Tariff,
        endpoint: str,
        kind: Kind,
        key: str,
        instrument: str,
        places: tuple[tuple[Window, int, int, Meter], ...],
        halts: tuple[Halt, ...],
    ) -> None:
        self.tariff = tariff
        self.endpoint, self.kind, self.key, self.instrument = endpoint, kind, key, instrument
        self._method, self._path = _taken_apart(endpoint)
        self.places, self.halts = places, halts
        meters = tuple(id(meter) for _, _, _, meter in places)
        self.lane: Lane = (URGENCY[kind], meters, tuple(id(halt) for halt in halts))

    def check(self, method: str, target: str) -> None:
        """Refuse a request that this is not for: what would be counted, and how often it may be
        made, would be another one's.

        Raises:
            UsageError: it is another one; its query is not shown, since it may hold a signature.
        """
        path = target.partition("?")[0]
        if self._path is not None and (method != self._method or not self._path.fullmatch(path)):
            raise UsageError(f"{method} {path} is not what the call is for, {self.endpoint}")

    def scopes(self, per: tuple[Scope, ...]) -> Scopes:
        """Return what of this call is counted, or stopped, apart."""
        return per, tuple(getattr(self, scope.value) for scope in per)


class Tariff:
    """A venue's limits, and the meters and halts of what was asked for so far.

    Args:
        limits: of the venue.
        clock: of the venue.
        is_shared: other processes let through of the same limits.

    Attributes:
        meters: by the limit's name and what it counts apart.
        halts: by what they stop.
    """

    def __init__(self, limits: VenueLimits, clock: Clock, is_shared: bool) -> None:
        self.limits = limits
        self.meters: dict[tuple[str, ...], Meter] = {}
        self.halts: dict[Scopes, Halt] = {}
        self._clock, self._is_shared = clock, is_shared
        self._calls: dict[tuple[object, ...], Call] = {}
        self._units = {"requests", "orders", *(item.unit for item in limits.limits)}

    def call(
        self,
        endpoint: str,
        kind: Kind | None,
        key: str,
        instrument: str,
        costs: Mapping[str, int] | None,
    ) -> Call:
        """Return what a request costs, as :meth:`Limiter.call`."""
        for value, what in ((endpoint, "endpoint"), (key, "key"), (instrument, "instrument")):
            check_type(value, str, what)
        if costs is not None:
            check_type(costs, Mapping, "costs", 'as {"weight": 5}')
        kind = _kind_of(endpoint) if kind is None else as_word(Kind, kind, "kind")
        own = {**self.limits.costs.get(endpoint, {}), **(costs or {})}
        name = (endpoint, kind, key, instrument, *sorted(own.items()))
        call = self._calls.get(name)
        if call is None:
            call = self._make_call(endpoint, kind, key, instrument, own)
            if len(self._calls) >= METERS_MAX:
                self._calls.clear()
            self._calls[name] = call
        return call

    def halt_of(self, scopes: Scopes) -> Halt:
        """Return what refusals of so much stop."""
        return self.halts.setdefault(scopes, Halt())

    def _make_call(
        self, endpoint: str, kind: Kind, key: str, instrument: str, costs: dict[str, int]
    ) -> Call:
        if odd := costs.keys() - self._units:
            raise UsageError(f"{endpoint}: {self.limits.venue} counts no {', '.join(sorted(odd))}")
        scope = {Scope.KEY: key, Scope.ENDPOINT: endpoint, Scope.INSTRUMENT: instrument}
        places = []
        for limit in self.limits.limits:
            units = self._units_of(limit, endpoint, kind, costs)
            if units == 0:
                continue
            meter = self._meter_of(limit, tuple(scope[item] for item in limit.per))
            needed = units if kind is Kind.CANCEL else units + limit.reserve
            if needed > limit.amount:
                raise UsageError(
                    f"{endpoint}: {units} {limit.unit} never pass {limit.name}, which lets through "
                    f"{limit.amount}, {limit.reserve} of them for cancels alone"
                )
            places.append((meter.window, units, needed, meter))
        per = dict.fromkeys(refusal.per for refusal in self.limits.refusals)
        halts = [self.halt_of((each, tuple(scope[item] for item in each))) for each in per]
        return Call(self, endpoint, kind, key, instrument, tuple(places), tuple(halts))

    def _units_of(self, limit: Limit, endpoint: str, kind: Kind, costs: dict[str, int]) -> int:
        default = {"requests": 1, "orders": int(kind is Kind.ORDER)}
        units = costs.get(limit.unit, default.get(limit.unit))
        if units is None:
            raise UsageError(
                f"{endpoint}: how much {limit.unit} it costs at {self.limits.venue} is not known"
                f"{self._like(endpoint)}; say costs={{{limit.unit!r}: N}}"
            )
        try:
            found = index(units)
        except TypeError:
            found = -1
        if found < 0:
            raise UsageError(f"{endpoint}: {limit.unit} are whole and at least 0, not {units!r}")
        return found

    def _like(self, endpoint: str) -> str:
        """Return what may have been meant, in words."""
        known = get_close_matches(endpoint, self.limits.costs, n=3)
        if known:
            return f" (known: {', '.join(known)})"
        return "" if _taken_apart(endpoint)[1] else " (endpoints are written as GET /path)"

    def _meter_of(self, limit: Limit, values: tuple[str, ...]) -> Meter:
        name = (limit.name, *values)
        meter = self.meters.get(name)
        if meter is None:
            if len(self.meters) >= METERS_MAX:
                raise UsageError(
                    f"{self.limits.venue}: more than {METERS_MAX} keys, endpoints and instruments "
                    "have a window of their own; name fewer"
                )
            meter = self.meters[name] = Meter(limit, values, self._clock, self._is_shared)
        return meter


def _taken_apart(endpoint: str) -> tuple[str, re.Pattern[str] | None]:
    """Return method and path of an endpoint that is named by them; a ``{part}`` of the path stands
    for anything but a slash."""
    found = _ENDPOINT.fullmatch(endpoint)
    if not found:
        return "", None
    return found[1], re.compile("[^/]+".join(re.escape(text) for text in _PART.split(found[2])))


def _kind_of(endpoint: str) -> Kind:
    """Return the kind of a request where none was said, which only what changes nothing needs not:
    an order that was taken for something public would count nowhere, and be made again."""
    if endpoint.startswith(SAFE):
        return Kind.PUBLIC
    raise UsageError(
        f"{endpoint}: say what it is by kind=, of {', '.join(Kind)}; only GET and HEAD are public "
        "by themselves"
    )
