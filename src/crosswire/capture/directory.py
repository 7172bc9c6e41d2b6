"""What a recording of ours begins with: its venues, lines, instruments, pairs and terms."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Config, VenueConfig
from ..errors import RecordingError
from ..instruments import Instrument, Pair
from ..venues import venue
from .recording import Kind, read_recording

__all__ = ["Directory", "instrument_of", "read_directory"]


class Directory(NamedTuple):
    """What the CONFIG entry of a recording says; numbers are places in these lists.

    Attributes:
        lines: (venue name, group) of each line; a recording that does not tell them has one for
            each venue, alone.
        data_limits_s: by venue name.
    """

    instruments: list[Instrument]
    multipliers: list[float]
    pairs: list[Pair]
    config: Config
    lines: list[tuple[str, int]]
    data_limits_s: dict[str, float]


def instrument_of(name: str, native: str) -> Instrument:
    """Return an instrument of a venue by its native symbol."""
    return Instrument(name, native, venue(name).unified(native))


def read_directory(path: str | Path) -> Directory | None:
    """Return what a recording begins with, or ``None`` where that is no CONFIG entry.

    Raises:
        RecordingError: it is not what a runtime writes.
    """
    first = next(read_recording(path), None)
    if first is None or first.kind is not Kind.CONFIG:
        return None
    try:
        return _directory(first.json())
    except LookupError as error:
        words = f"it has no {error.args[0]!r}"
        raise RecordingError(f"{path}: its CONFIG entry cannot be read: {words}") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        words = "it is not what a runtime writes"
        raise RecordingError(f"{path}: its CONFIG entry cannot be read: {words}") from None


def _directory(value: Any) -> Directory:
    config = Config(
        open_net_bps=float(value["open_net_bps"]),
        close_net_bps=float(value["close_net_bps"]),
    )
    for name in value.get("venues", value["fees_bps"]):
        config.venues[name] = VenueConfig(
            name,
            float(value["fees_bps"][name]),
            venue(name).url,
            float(value["liveness_limit_s"][name]),
        )
    items = sorted(value["instruments"], key=lambda item: item["id"])
    place = {item["id"]: number for number, item in enumerate(items)}
    return Directory(
        [instrument_of(item["venue"], item["symbol"]) for item in items],
        [item.get("multiplier", 1.0) for item in items],
        [
            Pair(
                pair["rule"],
                place[pair["a"]],
                place[pair["b"]],
                pair.get("open_net_bps", config.open_net_bps),
                pair.get("close_net_bps", config.close_net_bps),
                pair.get("qty_max") or inf,
            )
            for pair in value["pairs"]
        ],
        config,
        _lines(value, config),
        {name: inf if s is None else float(s) for name, s in value.get("data_limit_s", {}).items()},
    )


def _lines(value: Any, config: Config) -> list[tuple[str, int]]:
    if "lines" not in value:
        return [(name, 0) for name in config.venues]
    lines = [(str(line["venue"]), int(line["group"])) for line in value["lines"]]
    for name, _ in lines:
        if name not in config.venues:
            raise LookupError(name)
    return lines
