"""The venues: one folder per exchange, found by listing this folder.

A venue's name is ``EXCHANGE`` (spot) or ``EXCHANGE.MARKET``. The folder ``venues/EXCHANGE`` holds

* ``market.py`` with ``VENUES``: a tuple of :class:`crosswire.venue.Venue`, one per market, and
* ``sim.py`` with ``DIALECTS``: a tuple of :class:`crosswire.venue.Dialect`, one per market.

Nothing outside a venue's folder names a venue; adding one adds a folder.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from ..venue import Dialect, Venue

__all__ = ["dialect", "venue", "venue_names"]


def _exchanges() -> list[str]:
    return sorted(info.name for info in pkgutil.iter_modules(__path__) if info.ispkg)


@cache
def _all() -> dict[str, Venue]:
    found: dict[str, Venue] = {}
    for exchange in _exchanges():
        for item in importlib.import_module(f"{__name__}.{exchange}.market").VENUES:
            found[item.name] = item
    return found


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
