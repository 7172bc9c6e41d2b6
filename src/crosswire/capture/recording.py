"""Recordings: every read with its stamp, in one total order over all connections.

File layout, all little-endian. A 16-byte head: magic ``CWREC``, NUL, NUL, NUL, then u4 version
and u4 size of an entry's head. Entries follow, each a 32-byte head and ``size`` bytes of payload,
padded with zeros to a multiple of 8:

    kind u1 | zero u1 | line u2 | size u4 | ts_rx i8 | mono_rx i8 | crc32 u4 | zero u4

``crc32`` (zlib's) covers the first 24 bytes of the head and the payload, so a file that was cut
by a crash is readable up to the last whole entry and says where it ends. A recording that had to
stop before its run did says so itself: its last entry is of kind 255, with ``{"error", "reason"}``
as JSON, and reading it raises.
"""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import queue
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import RecordingError, UsageError
from ..seam import Thread, lock_file, open_file, pause_thread, start_thread

__all__ = ["Entry", "Kind", "RecordingWriter", "create_file", "read_recording"]

_log = logging.getLogger("crosswire.recording")

MAGIC = b"CWREC\0\0\0"
VERSION = 1
_FILE_HEAD = struct.Struct("<8sII")
_ENTRY_HEAD = struct.Struct("<BBHIqq")
_ENTRY_CRC = struct.Struct("<II")
ENTRY_SIZE = _ENTRY_HEAD.size + _ENTRY_CRC.size
_STOPPED = 255
"""Kind of the entry behind which a recording was given up; it is never handed out."""

QUEUE_MAX = 64 << 20
CHUNK_SIZE = 64 << 10
GATHER_S = 0.01
CLOSE_LIMIT_S = 10.0
_END = b""


class Kind(enum.IntEnum):
    """What an entry records."""

    CONFIG = 1
    """A configuration took effect; the payload is JSON: lines, pairs, fees, thresholds, limits."""
    OPENED = 2
    """A connection may carry data from here on; the payload is JSON: ``{"venue", "url"}``, and
    ``"group"`` where its line is not alone."""
    READ = 3
    """Bytes that were read from a connection after its upgrade, frames cut anywhere."""
    LOST = 4
    """A connection ended; the payload is JSON: ``{"reason"}``."""
    TICK = 5
    """The engine's clock was advanced by the timer; no payload."""
    COVERED = 6
    """From here on a line carries every stream of its group; no payload."""


_KINDS = frozenset((*Kind, _STOPPED))


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
    """Append entries to a new recording file, in the order of the calls.

    Rules:
    1. Writing never waits for the disk and never raises for it. An entry goes into a queue that is
       bounded in bytes; a thread, started by :meth:`open`, writes the queue to the file.
    2. Nothing is left out in between. When the queue is full or the file takes no more, the
       recording stops there for good: that is logged once, :attr:`error` holds it, what is written
       later is ignored, and reading the file raises at that place.
    3. One thread writes. :meth:`close` (or leaving the ``with`` block) makes the file whole.

    Args:
        path: the file. What it holds already is never overwritten; it may be there and empty. One
            recorder has it at a time.
        queue_max: most bytes that may wait for the disk.

    Attributes:
        error: why the recording stopped before it was closed, or ``None``.
    """

    def __init__(self, path: str | Path, *, queue_max: int = QUEUE_MAX) -> None:
        self.path = path
        self.error: RecordingError | None = None
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._queue_max = queue_max
        self._is_open = False
        self._thread: Thread | None = None
        # How many bytes of entries were put in and written out; each is changed by one thread only.
        self._put_bytes = self._out_bytes = 0

    def open(self) -> None:
        """Create the file with its head, and start the thread.

        Raises:
            UsageError: the file holds something already, another recorder has it, or it cannot be
                made; the message says what to do.
        """
        self._file = create_file(self.path)
        self._is_open = True
        try:
            _write_all(self._file, _FILE_HEAD.pack(MAGIC, VERSION, ENTRY_SIZE))
        except OSError as error:
            self._file.close()
            self._stop("recording-failed", error.strerror or str(error))
        else:
            self._thread = start_thread("crosswire-recorder", self._write_out)

    def write(self, kind: Kind, line: int, ts_rx: int, mono_rx: int, payload: bytes = b"") -> None:
        """Append one entry; ``payload`` is copied. Ignored after :attr:`error` was set.

        Raises:
            UsageError: the recording is not open.
        """
        if not self._is_open:
            raise UsageError(f"{self.path}: the recording is not open")
        if self.error is not None:
            return
        entry = _entry(kind, line, ts_rx, mono_rx, payload)
        if self._put_bytes - self._out_bytes + len(entry) > self._queue_max:
            reason = f"{self._queue_max} bytes wait for a disk that is too slow"
            self._queue.put(self._stop("recording-overrun", reason))
            self._queue.put(_END)
        else:
            self._put(entry)

    def write_json(self, kind: Kind, line: int, ts_rx: int, mono_rx: int, value: Any) -> None:
        """Append one entry whose payload is ``value`` as JSON."""
        self.write(kind, line, ts_rx, mono_rx, _json(value))

    def end(self) -> None:
        """Take no more entries; the thread writes those that wait, closes the file and ends."""
        if self._is_open:
            self._is_open = False
            self._queue.put(_END)

    def close(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """End, and wait until the file is whole and closed; closing twice is allowed.

        When the disk takes longer than ``limit_s``, that is the :attr:`error`; the thread goes on.
        """
        self.end()
        if self._thread:
            self._thread.join(limit_s)
            if self._thread.is_alive():
                self._stop("recording-unfinished", f"the disk took longer than {limit_s:g} s")

    def __enter__(self) -> RecordingWriter:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """Close; raises :attr:`error` where nothing else is raised."""
        self.close()
        if kind is None and self.error is not None:
            raise self.error

    def _put(self, entry: bytes) -> None:
        self._put_bytes += len(entry)
        self._queue.put(entry)

    def _stop(self, name: str, reason: str) -> bytes:
        """Note an error; returns the entry that tells it to a reader of the file."""
        if self.error is None:
            self.error = RecordingError(f"{self.path}: {name}: {reason}")
            _log.error("%s; recording has stopped", self.error)
        return _entry(_STOPPED, 0, 0, 0, _json({"error": name, "reason": reason}))

    # ---- the thread's side

    def _write_out(self) -> None:
        """Write the queue to the file until its end, or until the file takes no more."""
        try:
            with self._file as file:
                self._write_queue(file)
        except OSError as error:  # closing may tell what writing did not
            self._stop("recording-failed", error.strerror or str(error))

    def _write_queue(self, file: IO[bytes]) -> None:
        """Write in chunks and with pauses: the thread takes turns with the one that feeds the
        engine, so it wakes for many entries together rather than for each."""
        is_last = False
        while not is_last:
            entries, is_last = self._take()
            try:
                _write_all(file, b"".join(entries))
            except (OSError, MemoryError) as error:
                reason = getattr(error, "strerror", None) or repr(error)
                start = _FILE_HEAD.size + self._out_bytes
                _mark_end(file, start, entries, self._stop("recording-failed", reason))
                self._queue = queue.SimpleQueue()  # nobody reads what still waits
                return
            size = sum(map(len, entries))
            self._out_bytes += size
            if size < CHUNK_SIZE and not is_last:
                pause_thread(GATHER_S)

    def _take(self) -> tuple[list[bytes], bool]:
        """Wait for entries; returns those that are there, about a chunk, and whether it is over."""
        entries: list[bytes] = []
        size = 0
        entry = self._queue.get()
        while entry is not _END:
            entries.append(entry)
            size += len(entry)
            if size >= CHUNK_SIZE or self._queue.empty():
                return entries, False
            entry = self._queue.get()
        return entries, True


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _entry(kind: int, line: int, ts_rx: int, mono_rx: int, payload: bytes) -> bytes:
    head = _ENTRY_HEAD.pack(kind, 0, line, len(payload), ts_rx, mono_rx)
    crc = zlib.crc32(payload, zlib.crc32(head))
    return b"".join((head, _ENTRY_CRC.pack(crc, 0), payload, bytes(-len(payload) % 8)))


def create_file(path: str | Path) -> IO[bytes]:
    """Open a new file, or one that is there and empty, without a buffer of its own. It is locked
    until it is closed.

    Raises:
        UsageError: it holds something, another recorder has it, or it cannot be made; the message
            says what to do.
    """
    path = Path(path)
    try:
        try:
            file = open_file(path, "xb", buffering=0)
        except FileExistsError:
            file = open_file(path, "ab", buffering=0)
        # Only the size behind the lock counts: until then another recorder may write.
        is_ours = lock_file(file)
        if is_ours and not file.seek(0, 2):
            return file
        file.close()
    except FileNotFoundError:
        raise UsageError(f"{path}: make the folder {path.parent} first") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    if is_ours:
        raise UsageError(f"{path}: holds something already; name another file, or remove this one")
    raise UsageError(f"{path}: another recorder writes this file; name another file")


def _write_all(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _mark_end(file: IO[bytes], start: int, entries: list[bytes], mark: bytes) -> None:
    """End a file that takes no more behind its last whole entry, and say so with ``mark``. Where
    there is no room for that, what ends the file is a cut entry: a reader must see that it ended
    too soon.

    Args:
        start: size of the file before ``entries`` were to be written.
    """
    with contextlib.suppress(OSError):
        size, whole = file.seek(0, 2), start
        for entry in entries:
            if whole + len(entry) > size:
                break
            whole += len(entry)
        file.truncate(whole)
        file.seek(whole)
        try:
            _write_all(file, mark)
        except OSError:
            if file.tell() == whole:
                file.truncate(max(0, whole - 1))


def read_recording(path: str | Path) -> Iterator[Entry]:
    """Yield the entries of a recording in their total order.

    Raises:
        RecordingError: the file is no recording, is of another version, an entry is torn or
            altered, or the recording was stopped; the message holds the byte offset. Every entry
            before it has been yielded.
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
                raise RecordingError(f"{path}: torn entry at byte {offset}", offset)
            kind, zero, line, size, ts_rx, mono_rx = _ENTRY_HEAD.unpack_from(head)
            crc, zero_after = _ENTRY_CRC.unpack_from(head, _ENTRY_HEAD.size)
            body = file.read(size + -size % 8)
            if len(body) < size + -size % 8:
                raise RecordingError(f"{path}: torn entry at byte {offset}", offset)
            payload = body[:size]
            known = kind in _KINDS and not (zero or zero_after or any(body[size:]))
            if not known or zlib.crc32(payload, zlib.crc32(head[: _ENTRY_HEAD.size])) != crc:
                raise RecordingError(f"{path}: altered entry at byte {offset}", offset)
            if kind == _STOPPED:
                raise RecordingError(f"{path}: stopped at byte {offset}: {_why(payload)}", offset)
            offset += ENTRY_SIZE + len(body)
            yield Entry(Kind(kind), line, ts_rx, mono_rx, payload)


def _why(payload: bytes) -> str:
    """Return in words why a recording was stopped."""
    try:
        told = json.loads(payload)
        return f"{told['error']}: {told['reason']}"
    except (ValueError, KeyError, TypeError):
        return "it does not say why"
