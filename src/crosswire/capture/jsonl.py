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
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import RecordingError
from ..seam import open_file

__all__ = ["CapturedFrame", "read_jsonl", "unpacked_lines"]

TEXT, BINARY = 1, 2
GZIP_MAGIC = b"\x1f\x8b"
REMEDY = "a frame is an object with dir, raw or b64, and a time as ts_ns, rx_ns or ts"


class CapturedFrame(NamedTuple):
    """One server frame: receive time in ns, opcode, payload."""

    ts_ns: int
    opcode: int
    payload: bytes


def _time_of(row: dict[str, Any], before: int) -> int:
    stamp = before
    for key in ("ts_ns", "rx_ns"):
        if key in row:
            stamp = int(row[key])
            break
    else:
        if "ts" in row:
            stamp = int(Decimal(row["ts"]) * 1_000_000_000)
    if not 0 <= stamp < 1 << 63:
        raise ValueError("a time out of range")
    return stamp


def _payload_of(row: dict[str, Any]) -> tuple[int, bytes]:
    if "b64" in row:
        return BINARY, base64.b64decode(row["b64"], validate=True)
    return TEXT, row["raw"].encode()


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
            row = json.loads(line)
            if row["dir"] != "recv":
                continue
            before = _time_of(row, before)
            yield CapturedFrame(before, *_payload_of(row))
    except (
        ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError
    ) as error:  # fmt: skip
        words = f"line {number} is no frame ({type(error).__name__}: {error})"
        raise RecordingError(f"{path}: {words}; {REMEDY}") from None
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from None
