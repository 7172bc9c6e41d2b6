"""Captures as JSON lines, plain or gzip: one frame a line, in the order of receipt.

``dir`` is ``recv`` for a server frame (others are skipped); ``raw`` is its text, or ``b64`` a
binary frame; the receive time is ``ts_ns`` (ns), ``ts`` (seconds, decimal text) or ``rx_ns``
(monotonic ns). A frame without a time keeps that of the frame before it.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import RecordingError
from ..seam import open_file

__all__ = ["CapturedFrame", "read_jsonl", "unpacked_lines"]

TEXT, BINARY = 1, 2
GZIP_MAGIC = b"\x1f\x8b"
REMEDY = "a frame is an object with dir, raw or b64, and a time as ts_ns, rx_ns or ts"


class _NoFrameError(Exception):
    """A line is no frame; its text says why."""


class CapturedFrame(NamedTuple):
    """One server frame: receive time in ns, opcode, payload."""

    ts_ns: int
    opcode: int
    payload: bytes


_TIMES: dict[str, Callable[[Any], int]] = {
    "ts_ns": int,
    "rx_ns": int,
    "ts": lambda value: int(Decimal(value) * 1_000_000_000),
}
"""How a receive time is read, by its key; the first that is there counts."""
_PAYLOADS: dict[str, Callable[[Any], tuple[int, bytes]]] = {
    "b64": lambda value: (BINARY, base64.b64decode(value, validate=True)),
    "raw": lambda value: (TEXT, str.encode(value)),
}


def _row_of(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise _NoFrameError("it is no JSON") from None
    if not isinstance(row, dict):
        raise _NoFrameError("it is no object")
    if "dir" not in row:
        raise _NoFrameError("it has no dir")
    return row


def _time_of(row: dict[str, Any], before: int) -> int:
    key = next((key for key in _TIMES if key in row), None)
    if key is None:
        return before
    try:
        stamp = _TIMES[key](row[key])
    except (ValueError, TypeError, ArithmeticError):
        raise _NoFrameError(f"its {key} is no time") from None
    if not 0 <= stamp < 1 << 63:
        raise _NoFrameError(f"its {key} is out of range")
    return stamp


def _payload_of(row: dict[str, Any]) -> tuple[int, bytes]:
    key = next((key for key in _PAYLOADS if key in row), None)
    if key is None:
        raise _NoFrameError("it has neither raw nor b64")
    try:
        return _PAYLOADS[key](row[key])
    except (ValueError, TypeError):
        raise _NoFrameError(f"its {key} cannot be read") from None


def unpacked_lines(file: IO[bytes], path: str | Path) -> Iterator[bytes]:
    """Yield the lines of an open binary file, unpacked where it is gzip; it need not be seekable.

    Args:
        file: what to read.
        path: its name in errors.

    Raises:
        RecordingError: it cannot be read on; the message holds the number of the last whole line.
    """
    number = 0
    buffered: Any = file if hasattr(file, "peek") else io.BufferedReader(file)
    try:
        is_gzip = buffered.peek(2)[:2] == GZIP_MAGIC
        for line in gzip.GzipFile(fileobj=buffered) if is_gzip else buffered:
            number += 1
            yield line
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(f"{path}: after line {number}: {error}") from None


def _lines(path: str | Path) -> Iterator[bytes]:
    with open_file(path, "rb") as file:
        yield from unpacked_lines(file, path)


def read_jsonl(path: str | Path) -> Iterator[CapturedFrame]:
    """Yield the server frames of a capture.

    Raises:
        RecordingError: a line is no such object, or the file cannot be read on; the message holds
            the line's number.
    """
    before = 0
    number = 0
    try:
        for line in _lines(path):
            number += 1
            row = _row_of(line)
            if row["dir"] != "recv":
                continue
            before = _time_of(row, before)
            yield CapturedFrame(before, *_payload_of(row))
    except _NoFrameError as error:
        raise RecordingError(f"{path}: line {number} is no frame: {error}; {REMEDY}") from None
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from None
