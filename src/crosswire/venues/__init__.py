"""The venues: one folder per exchange, found by listing this folder.

A venue's name is ``EXCHANGE`` (spot) or ``EXCHANGE.MARKET``. The folder ``venues/EXCHANGE`` holds

* ``limits.py`` with ``LIMITS``: a tuple of :class:`crosswire.limits.VenueLimits`, one per market;
* ``market.py`` with ``VENUES``: a tuple of :class:`crosswire.venue.Venue`, one per market, where
  its streams are read; and with it
* ``sim.py`` with ``DIALECTS``: a tuple of :class:`crosswire.venue.Dialect`, one per market.

Nothing outside a venue's folder names a venue; adding one adds a folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType

    from ..limits import VenueLimits
    from ..venue import Dialect, Venue

__all__ = ["dialect", "venue", "venue_limits", "venue_names"]


def _modules(name: str) -> list[ModuleType]:
    """Return the modules of that name, one of each exchange that has it."""
    packages = sorted(info.name for info in pkgutil.iter_modules(__path__) if info.ispkg)
    names = [f"{__name__}.{package}.{name}" for package in packages]
    return [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]


@cache
def _all() -> dict[str, Venue]:
    return {item.name: item for module in _modules("market") for item in module.VENUES}


@cache
def _all_limits() -> dict[str, VenueLimits]:
    return {item.venue: item for module in _modules("limits") for item in module.LIMITS}


def venue_names() -> tuple[str, ...]:
    """Return the names of all venues, sorted."""
    return tuple(sorted(_all()))


def venue(name: str) -> Venue:
    """Return the venue of that name.

    Raises:
        UsageError: no venue has that name; the message lists those that exist.
    """
    try:
        return _all()[name]
    except KeyError:
        known = ", ".join(venue_names())
        raise UsageError(f"unknown venue {name!r}; this version knows {known}") from None


def dialect(name: str) -> Dialect:
    """Return how the local simulator speaks as that venue (see :mod:`crosswire.sim`).

    Raises:
        UsageError: no venue has that name.
    """
    exchange = venue(name).name.partition(".")[0]
    module = importlib.import_module(f"{__name__}.{exchange}.sim")
    dialects: tuple[Dialect, ...] = module.DIALECTS
    return {item.venue: item for item in dialects}[name]


def venue_limits(name: str) -> VenueLimits:
    """Return the limits of requests of the venue of that name, which need not be one of
    :func:`venue_names`.

    Raises:
        UsageError: no venue has that name; the message lists those that exist.
    """
    try:
        return _all_limits()[name]
    except KeyError:
        known = ", ".join(sorted(_all_limits()))
        raise UsageError(f"no limits of {name!r} are known; there are those of {known}") from None
