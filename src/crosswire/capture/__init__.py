"""Recordings and captures: what was received, in the order it was received."""

from .recording import Entry, Kind, RecordingWriter, read_recording

__all__ = ["Entry", "Kind", "RecordingWriter", "read_recording"]
