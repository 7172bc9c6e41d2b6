"""Recordings and captures: what was received, in the order it was received."""

from .jsonl import CapturedFrame, read_jsonl
from .recording import Entry, Kind, RecordingWriter, read_recording

__all__ = ["CapturedFrame", "Entry", "Kind", "RecordingWriter", "read_jsonl", "read_recording"]
