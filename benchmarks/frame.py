"""Frames: headers walked in a receive buffer, and masks.

Moved by frame.c, line.c, buffer.c, utf8.c, and ops_mask and ops_ascii_prefix in ops_wide.h.
"""

from __future__ import annotations

from crosswire.codec import encode_frame, mask
from crosswire.engine import isa_levels

from . import loopback


class Walk:
    """512 KiB of 150-byte frames through a line that decodes nothing."""

    params = (["text", "binary"], list(isa_levels()))
    param_names = ("opcode", "isa")

    def setup(self, kind: str, isa: str) -> None:
        self.data, self.count = loopback.block(kind)
        _, self.line = loopback.engine_for(kind, 65536, isa)

    def time_block(self, kind: str, isa: str) -> None:
        """One block of 3,404 frames."""
        self.line.open(1, 1)
        self.line.feed(self.data, 1, 1)


class Masking:
    """Payloads masked in place, called from Python."""

    params = ([130, 65536], list(isa_levels()))
    param_names = ("size", "isa")

    def setup(self, size: int, isa: str) -> None:
        self.data = bytearray(size)
        self.key = bytes.fromhex("37fa213d")

    def time_mask(self, size: int, isa: str) -> None:
        """One payload."""
        mask(self.data, self.key, 0, isa)


class Encoding:
    """A subscription of 130 bytes as a masked frame."""

    def setup(self) -> None:
        self.payload = bytes(130)
        self.key = bytes.fromhex("37fa213d")

    def time_encode(self) -> None:
        """One frame."""
        encode_frame(1, self.payload, self.key)
