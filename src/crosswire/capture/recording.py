"""Recordings: every read with its stamp, in one total order over all connections.

File layout, all little-endian. A 16-byte head: magic ``CWREC``, NUL, NUL, NUL, then u4 version
and u4 size of an entry's head. Entries follow, each a 32-byte head and ``size`` bytes of payload,
padded with zeros to a multiple of 8:

    kind u1 | zero u1 | line u2 | size u4 | ts_rx i8 | mono_rx i8 | crc32 u4 | zero u4

``crc32`` (zlib's) covers the first 24 bytes of the head and the payload, so a file that was cut
by a crash is readable up to the last whole entry and says where it ends.
"""

from __future__ import annotations

import enum
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import RecordingError
from ..seam import open_file

__all__ = ["Entry", "Kind", "RecordingWriter", "read_recording"]

MAGIC = b"CWREC\0\0\0"
VERSION = 1
_FILE_HEAD = struct.Struct("<8sII")
_ENTRY_HEAD = struct.Struct("<BBHIqq")
_ENTRY_CRC = struct.Struct("<II")
ENTRY_SIZE = _ENTRY_HEAD.size + _ENTRY_CRC.size


class Kind(enum.IntEnum):
    """What an entry records."""

    CONFIG = 1
    """A configuration took effect; the payload is JSON: pairs, fees, thresholds, limits."""
    OPENED = 2
    """A connection may carry data from here on; the payload is JSON: ``{"venue", "url"}``."""
    READ = 3
    """Bytes that were read from a connection after its upgrade, frames cut anywhere."""
    LOST = 4
    """A connection ended; the payload is JSON: ``{"reason"}``."""
    TICK = 5
    """The engine's clock was advanced by the timer; no payload."""


class Entry(NamedTuple):
    """One entry of a recording. ``ts_rx`` is UTC ns, ``mono_rx`` monotonic ns."""

    kind: Kind
    line: int
    ts_rx: int
    mono_rx: int
    payload: bytes

    def json(self) -> Any:
        """Return the payload of a CONFIG, OPENED or LOST entry as a Python object."""
        return json.loads(self.payload)


class RecordingWriter:
    """Append entries to a recording file.

    The file is buffered; call :meth:`close` (or leave the ``with`` block) to have it whole.
    """

    def __init__(self, path: str | Path) -> None:
        self._file: IO[bytes] = open_file(path, "wb")
        self._file.write(_FILE_HEAD.pack(MAGIC, VERSION, ENTRY_SIZE))

    def write(self, kind: Kind, line: int, ts_rx: int, mono_rx: int, payload: bytes = b"") -> None:
        """Append one entry; ``payload`` is copied."""
        head = _ENTRY_HEAD.pack(kind, 0, line, len(payload), ts_rx, mono_rx)
        crc = zlib.crc32(payload, zlib.crc32(head))
        pad = bytes(-len(payload) % 8)
        self._file.write(b"".join((head, _ENTRY_CRC.pack(crc, 0), payload, pad)))

    def write_json(self, kind: Kind, line: int, ts_rx: int, mono_rx: int, value: Any) -> None:
        """Append one entry whose payload is ``value`` as JSON."""
        self.write(kind, line, ts_rx, mono_rx, json.dumps(value, sort_keys=True).encode())

    def close(self) -> None:
        """Flush and close the file; closing twice is allowed."""
        self._file.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_recording(path: str | Path) -> Iterator[Entry]:
    """Yield the entries of a recording in their total order.

    Raises:
        RecordingError: the file is no recording, is of another version, or an entry is torn or
            altered; the message holds the byte offset. Every entry before it has been yielded.
    """
    with open_file(path, "rb") as file:
        head = file.read(_FILE_HEAD.size)
        if len(head) < _FILE_HEAD.size or head[:8] != MAGIC:
            raise RecordingError(f"{path}: not a crosswire recording")
        _, version, entry_size = _FILE_HEAD.unpack(head)
        if version != VERSION or entry_size != ENTRY_SIZE:
            raise RecordingError(f"{path}: recording version {version}, this reads {VERSION}")
        offset = _FILE_HEAD.size
        while head := file.read(ENTRY_SIZE):
            if len(head) < ENTRY_SIZE:
                raise RecordingError(f"{path}: torn entry at byte {offset}")
            kind, zero, line, size, ts_rx, mono_rx = _ENTRY_HEAD.unpack_from(head)
            crc, zero_after = _ENTRY_CRC.unpack_from(head, _ENTRY_HEAD.size)
            body = file.read(size + -size % 8)
            if len(body) < size + -size % 8:
                raise RecordingError(f"{path}: torn entry at byte {offset}")
            payload = body[:size]
            known = kind in Kind._value2member_map_ and not (zero or zero_after or any(body[size:]))
            if not known or zlib.crc32(payload, zlib.crc32(head[: _ENTRY_HEAD.size])) != crc:
                raise RecordingError(f"{path}: altered entry at byte {offset}")
            offset += ENTRY_SIZE + len(body)
            yield Entry(Kind(kind), line, ts_rx, mono_rx, payload)
