"""Decode single frames to records, one JSON object each: what ``crosswire decode`` prints."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..codec import encode_frame
from ..engine import Engine
from ..errors import UsageError, VenueError
from ..line import Line
from ..venue import Control, Venue

__all__ = ["Decoder", "shortest"]

TEXT, BINARY = 1, 2
_DECODINGS: dict[str, Callable[[str], tuple[int, bytes]]] = {
    "raw": lambda text: (TEXT, text.encode("utf-8", "surrogateescape")),
    "b64": lambda text: (BINARY, base64.b64decode(text, validate=True)),
    "hex": lambda text: (BINARY, bytes.fromhex(text)),
}
_UNKNOWN = VenueError("message-unknown", 0, "neither data nor a known control message")
_FLAGS = {1: "inexact", 2: "one-sided", 4: "id-hashed"}

Rows = np.ndarray[Any, np.dtype[np.void]]


def shortest(value: float) -> str:
    """Return the shortest decimal text that gives the same double; whole numbers without ``.0``."""
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


def _json_text(record: dict[str, Any]) -> str:
    """JSON with every float as its shortest text."""
    fields = (
        f"{json.dumps(key)}:{shortest(item) if isinstance(item, float) else json.dumps(item)}"
        for key, item in record.items()
    )
    return "{" + ",".join(fields) + "}"


def _frame_of(line: str) -> tuple[int, bytes] | None:
    """Read one input line: an object with ``raw``, ``b64`` or ``hex``, or the frame's text itself.

    Returns:
        Opcode and payload; ``None`` for a line of a capture that was not received.

    Raises:
        UsageError: the encoded bytes cannot be read.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get("dir", "recv") != "recv":
        return None
    if not isinstance(value, dict) or not _DECODINGS.keys() & value.keys():
        return TEXT, line.encode("utf-8", "surrogateescape")
    for key, decode in _DECODINGS.items():
        if isinstance(value.get(key), str):
            try:
                return decode(value[key])
            except ValueError as error:
                raise UsageError(f"{key}: {error}") from None
    names = ", ".join(key for key in _DECODINGS if key in value)
    raise UsageError(f"{names}: must be text")


class Decoder:
    """Frames of one venue to records.

    Args:
        venue: whose frames they are.
        isa: instruction-set level.

    Attributes:
        errors: bad frames so far.
    """

    def __init__(self, venue: Venue, isa: str | None = None) -> None:
        self._venue = venue
        self._engine = Engine(takes_unknown=True, signals_max=2, pairs_max=1, isa=isa)
        self._engine.add_venue(venue.name, venue.layout, fee_bps=0.0)
        self._line = Line(self._engine, venue.name)
        self._line.on_control = self._on_control
        self._engine.on_quotes = lambda rows: self._keep("quote", rows)
        self._engine.on_trades = lambda rows: self._keep("trade", rows)
        self._found: list[tuple[str, Rows]] = []
        self._instruments: list[tuple[str, str]] = []
        self._unknown = False
        self._line.open(0, 0)
        self._fed = 0
        self.errors = 0

    def _keep(self, record: str, rows: Rows) -> None:
        self._found.append((record, rows.copy()))

    def _on_control(self, opcode: int, payload: bytes) -> None:
        answer = self._venue.understand(payload.decode("utf-8", "replace"))
        if opcode != TEXT or answer.control is Control.UNKNOWN:
            self._unknown = True

    def decode(self, lines: Iterable[str | bytes]) -> Iterator[str]:
        """Yield one line of JSON per record, or per bad frame:
        ``{"error": CODE, "at": OFFSET, "line": NUMBER, "text": WORDS}``. Empty lines are skipped,
        and so are those of a capture that were not received.

        Args:
            lines: text, or bytes, of which those that are no UTF-8 make their frame a bad one.
        """
        for number, item in enumerate(lines, 1):
            line = item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item
            if line.strip():
                yield from self._decode_line(line.rstrip("\r\n"), number)

    def _decode_line(self, line: str, number: int) -> Iterator[str]:
        try:
            found = _frame_of(line)
        except UsageError as error:
            yield self._error(VenueError("frame-text", 0, str(error)), number)
            return
        if found is None:
            return
        opcode, payload = found
        self._unknown = False
        frame = encode_frame(opcode, payload)
        self._line.feed(frame, 0, 0)
        self._fed += len(frame)
        for record, rows in self._found:
            for row in rows:
                yield _json_text(self._record(record, row))
        self._found.clear()
        for bad in self._line.message_errors():
            yield self._error(bad, number)
        if self._unknown:
            yield self._error(_UNKNOWN, number)
        broken = self._line.error
        if broken is not None:  # UTF-8: a real connection would be failed here
            at = broken.at - (self._fed - len(payload))  # in the payload, not the stream
            yield self._error(VenueError(broken.code, max(0, at), broken.text), number)
            self._line.open(0, 0)
            self._fed = 0

    def _error(self, bad: VenueError, number: int) -> str:
        self.errors += 1
        return _json_text({"error": bad.code, "at": bad.at, "line": number, "text": bad.text})

    def _record(self, record: str, row: np.void) -> dict[str, Any]:
        symbol = self._symbol(int(row["instrument"]))
        fields: dict[str, Any] = {"record": record, "venue": self._venue.name, "symbol": symbol}
        for name in row.dtype.names or ():
            if name not in ("ts_rx", "instrument", "venue", "flags", "reserved"):
                fields[name] = row[name].item()
        fields["flags"] = [text for bit, text in _FLAGS.items() if int(row["flags"]) & bit]
        return fields

    def _symbol(self, instrument: int) -> str:
        """Look an instrument up; the engine's directory is copied only when it has grown."""
        if len(self._instruments) != self._engine.instrument_count:
            self._instruments = self._engine.instruments
        return self._instruments[instrument][1]
