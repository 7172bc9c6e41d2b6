"""Recordings on real files: their bytes, their order, and what happens when the disk does not.

A disk that stands still or is full is a file object in place of the one that the seam opens.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crosswire import seam
from crosswire.capture import Entry, Kind, RecordingWriter, read_recording, recording
from crosswire.errors import RecordingError, UsageError

THREAD = "crosswire-recorder"
HEAD = b"CWREC\0\0\0" + struct.pack("<II", 1, 32)
LIMIT_S = 10.0


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def read_until_it_raises(path: Path) -> tuple[list[Entry], str]:
    """Return the entries of a recording and what reading raised behind them."""
    entries: list[Entry] = []
    with pytest.raises(RecordingError) as caught:
        entries.extend(read_recording(path))
    return entries, str(caught.value)


class StillDisk(io.FileIO):
    """Lets no write but that of the head through until it is told to move."""

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self.may_move = threading.Event()

    def write(self, data: Any) -> int:
        assert not self.tell() or self.may_move.wait(LIMIT_S)
        return super().write(data)


class SmallDisk(io.FileIO):
    """Has room for so many bytes, and takes what fits of a write that is larger."""

    room = 0

    def write(self, data: Any) -> int:
        left = self.room - self.tell()
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(bytes(data)[:left])


class Disk:
    """Puts a file object in place of the real one, and keeps it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.file: Any = None

    def becomes(self, kind: Callable[[Path, str], Any]) -> None:
        def open_file(path: Path, mode: str, **options: Any) -> Any:
            if mode == "rb":
                return path.open(mode)
            assert options == {"buffering": 0}
            self.file = kind(path, mode)
            return self.file

        self._patch.setattr(recording, "open_file", open_file)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class TestTheFile:
    def test_its_bytes_are_those_of_version_1(self, tmp_path: Path) -> None:
        with RecordingWriter(tmp_path / "a.cwrec") as writer:
            writer.write(Kind.READ, 7, 11, -13, b"hello")
            writer.write(Kind.TICK, 0, 17, 19)
        first = struct.pack("<BBHIqq", 3, 0, 7, 5, 11, -13)
        second = struct.pack("<BBHIqq", 5, 0, 0, 0, 17, 19)
        assert (tmp_path / "a.cwrec").read_bytes() == (
            HEAD
            + first + struct.pack("<II", zlib.crc32(first + b"hello"), 0) + b"hello\0\0\0"
            + second + struct.pack("<II", zlib.crc32(second), 0)
        )  # fmt: skip

    def test_entries_stand_in_the_order_of_the_calls(self, tmp_path: Path) -> None:
        sent = [Entry(Kind.READ, n % 5, n, n, bytes(n % 300)) for n in range(20_000)]
        with RecordingWriter(tmp_path / "a.cwrec") as writer:
            for entry in sent:
                writer.write(*entry)
        assert list(read_recording(tmp_path / "a.cwrec")) == sent

    def test_it_is_made_when_it_is_opened_and_not_before(self, tmp_path: Path) -> None:
        writer = RecordingWriter(tmp_path / "a.cwrec")
        assert list(tmp_path.iterdir()) == []
        assert threads() == []
        with pytest.raises(UsageError, match="not open"):
            writer.write(Kind.TICK, 0, 1, 1)
        writer.open()
        assert len(threads()) == 1
        writer.close()
        assert threads() == []
        writer.close()
        with pytest.raises(UsageError, match="not open"):
            writer.write(Kind.TICK, 0, 1, 1)
        assert list(read_recording(tmp_path / "a.cwrec")) == []

    def test_one_that_holds_something_is_not_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "a.cwrec"
        path.write_bytes(b"dear")
        with pytest.raises(UsageError, match=f"^{path}: holds something.*remove this one$"):
            RecordingWriter(path).open()
        assert path.read_bytes() == b"dear"
        assert threads() == []

    def test_one_that_is_there_and_empty_is_taken(self, tmp_path: Path) -> None:
        path = tmp_path / "a.cwrec"
        path.touch()
        with RecordingWriter(path) as writer:
            writer.write(Kind.TICK, 0, 1, 1)
        assert len(list(read_recording(path))) == 1

    def test_it_holds_its_head_as_soon_as_it_is_open(self, tmp_path: Path, disk: Disk) -> None:
        disk.becomes(StillDisk)
        with RecordingWriter(tmp_path / "a.cwrec"):
            assert (tmp_path / "a.cwrec").read_bytes() == HEAD
            disk.file.may_move.set()

    @pytest.mark.parametrize("is_there", [False, True])
    def test_two_recorders_do_not_share_one(self, tmp_path: Path, is_there: bool) -> None:
        path = tmp_path / "a.cwrec"
        if is_there:
            path.touch()
        other = RecordingWriter(path)
        with RecordingWriter(path) as writer:
            with pytest.raises(UsageError, match=f"^{path}: another recorder writes this file"):
                other.open()
            writer.write(Kind.TICK, 0, 1, 1)
        with pytest.raises(UsageError, match=f"^{path}: holds something"):
            other.open()
        assert len(list(read_recording(path))) == 1
        assert threads() == []

    @pytest.mark.parametrize("does_lock", [True, False])
    def test_one_that_another_recorder_filled_in_between_is_left_to_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does_lock: bool
    ) -> None:
        """It was empty when it was opened, and is no more when it is locked; a file system that
        knows no locks makes no difference."""
        path = tmp_path / "a.cwrec"

        def lock_file(file: Any) -> bool:
            if path.stat().st_size == 0:
                path.write_bytes(b"dear")
            return seam.lock_file(file) if does_lock else True

        monkeypatch.setattr(recording, "lock_file", lock_file)
        with pytest.raises(UsageError, match=f"^{path}: holds something"):
            RecordingWriter(path).open()
        assert path.read_bytes() == b"dear"

    def test_a_file_system_without_locks_finds_nobody(self, tmp_path: Path) -> None:
        class Unlocked(io.FileIO):
            def fileno(self) -> int:
                raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        with Unlocked(tmp_path / "a.cwrec", "w") as file:
            assert seam.lock_file(file)

    def test_a_place_that_cannot_be_written_is_named_with_the_remedy(self, tmp_path: Path) -> None:
        folder = tmp_path / "nowhere"
        with pytest.raises(UsageError, match=f"make the folder {folder} first"):
            RecordingWriter(folder / "a.cwrec").open()
        with pytest.raises(UsageError, match=f"^{tmp_path}: Is a directory$"):
            RecordingWriter(tmp_path).open()


class TestADiskThatStandsStill:
    def test_nobody_waits_for_it(self, tmp_path: Path, disk: Disk) -> None:
        disk.becomes(StillDisk)
        with RecordingWriter(tmp_path / "a.cwrec") as writer:
            for n in range(2000):
                writer.write(Kind.READ, 0, n, n, bytes(1000))
            disk.file.may_move.set()
        entries = list(read_recording(tmp_path / "a.cwrec"))
        assert [entry.ts_rx for entry in entries] == list(range(2000))

    def test_a_full_queue_stops_the_recording_by_name_and_leaves_nothing_out(
        self, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
    ) -> None:
        disk.becomes(StillDisk)
        path = tmp_path / "a.cwrec"
        writer = RecordingWriter(path, queue_max=10 * 64)
        writer.open()
        for n in range(10):
            writer.write(Kind.READ, 0, n, n, bytes(32))
        assert writer.error is None
        for n in range(10, 50):
            writer.write(Kind.READ, 0, n, n, bytes(32))
        assert str(writer.error).startswith(f"{path}: recording-overrun: 640 bytes wait")
        disk.file.may_move.set()
        writer.close()
        entries, error = read_until_it_raises(path)
        assert [entry.ts_rx for entry in entries] == list(range(10))
        assert error.startswith(f"{path}: stopped at byte 656: recording-overrun: 640 bytes wait")
        assert [(r.name, r.levelno) for r in caplog.records] == [
            ("crosswire.recording", logging.ERROR)
        ]

    def test_what_was_written_makes_room_again(self, tmp_path: Path) -> None:
        written = threading.Event()
        with RecordingWriter(tmp_path / "a.cwrec", queue_max=200) as writer:
            for n in range(20):
                writer.write(Kind.READ, 0, n, n, bytes(64))
                while writer._put_bytes != writer._out_bytes:
                    written.wait(0.001)
        assert len(list(read_recording(tmp_path / "a.cwrec"))) == 20

    def test_closing_waits_for_it_only_so_long(self, tmp_path: Path, disk: Disk) -> None:
        disk.becomes(StillDisk)
        writer = RecordingWriter(tmp_path / "a.cwrec")
        writer.open()
        writer.write(Kind.TICK, 0, 1, 1)
        writer.close(limit_s=0.05)
        assert "recording-unfinished: the disk took longer than 0.05 s" in str(writer.error)
        disk.file.may_move.set()
        writer.close()
        assert threads() == []
        assert len(list(read_recording(tmp_path / "a.cwrec"))) == 1


class TestADiskThatIsFull:
    # The entries are 64 bytes behind a head of 16; the mark of a full disk takes 136.
    @pytest.mark.parametrize("room", [0, 10, 16, 80, 16 + 64 * 3, 16 + 64 * 3 + 9, 1000, 1039])
    def test_what_was_whole_is_read_and_the_end_is_told(
        self, tmp_path: Path, disk: Disk, room: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        disk.becomes(type("Disk", (SmallDisk,), {"room": room}))
        path = tmp_path / "a.cwrec"
        writer = RecordingWriter(path)
        writer.open()
        for n in range(100):
            writer.write(Kind.READ, 0, n, n, bytes(32))
        writer.close()
        assert str(writer.error) == f"{path}: recording-failed: No space left on device"
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert threads() == []
        entries, error = read_until_it_raises(path)
        # Where not a byte is left behind the last whole entry, that one is cut to tell it.
        whole = (room - 17) // 64 if room > 16 else 0
        assert [entry.ts_rx for entry in entries] == list(range(whole))
        words = (
            f"torn entry at byte {16 + 64 * whole}" if room > 16 else "not a crosswire recording"
        )
        assert words in error

    def test_where_a_cut_entry_leaves_room_the_reason_stands_in_the_file(
        self, tmp_path: Path, disk: Disk
    ) -> None:
        disk.becomes(type("Disk", (SmallDisk,), {"room": 16 + 64 + 900}))
        path = tmp_path / "a.cwrec"
        writer = RecordingWriter(path)
        writer.open()
        writer.write(Kind.READ, 0, 1, 1, bytes(32))
        writer.write(Kind.READ, 0, 2, 2, bytes(1000))
        writer.close()
        entries, error = read_until_it_raises(path)
        assert [entry.ts_rx for entry in entries] == [1]
        assert error == (f"{path}: stopped at byte 80: recording-failed: No space left on device")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
    def test_the_systems_own_full_disk(self) -> None:
        with (
            pytest.raises(RecordingError, match="/dev/full: recording-failed: No space left"),
            RecordingWriter("/dev/full") as writer,
        ):
            writer.write(Kind.TICK, 0, 1, 1)

    def test_an_error_of_the_body_is_not_hidden(self) -> None:
        with pytest.raises(KeyError), RecordingWriter("/dev/full"):
            raise KeyError("mine")


class TestAStoppedRecording:
    @pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff"])
    def test_one_that_does_not_say_why_is_refused_as_well(
        self, tmp_path: Path, payload: bytes
    ) -> None:
        path = tmp_path / "a.cwrec"
        with RecordingWriter(path) as writer:
            writer.write(Kind.TICK, 0, 1, 1)
            writer.write(255, 0, 0, 0, payload)  # type: ignore[arg-type]
            writer.write(Kind.TICK, 0, 2, 2)
        entries, error = read_until_it_raises(path)
        assert len(entries) == 1
        assert error == f"{path}: stopped at byte 48: it does not say why"
