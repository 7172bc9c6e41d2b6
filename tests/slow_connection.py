"""The receiving side of a WebSocket connection, slow and plain, from RFC 6455 and RFC 7692.

Strategy: the stream is there as a whole, and is gone through frame by frame. Without habits this is
what our connection does, byte by byte as it comes. Each habit is one rule that another
implementation sees otherwise; ``HABITS`` says which and why that is allowed.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from crosswire.handshake import Deflation

TAIL = b"\x00\x00\xff\xff"
PONGS_MAX = 16

HABITS: dict[str, dict[str, str]] = {
    "websockets": {
        "utf8-late": "text is checked when its message is whole; section 8.1 sets no moment",
        "frame-late": "most rules are checked when the frame is whole, and ours at the first byte",
        "pongs-all": "every ping is answered; 5.5.3 allows to answer only the newest",
        "pongs-closing": "pings behind our close are answered; 5.5.1 forbids only data there",
        "fragments-any": "the number of fragments has no limit; the limit is ours",
        "lengths-any": "longer forms of a length and 2^63 are taken; 5.2 forbids it",
        "inflate-1002": "what cannot be inflated closes with 1002; RFC 7692 names no code",
        "limit-controls": "control frames count against the limit of the message they stand in",
        "limit-compressed": "the limit holds for a frame before it is inflated, too",
        "close-in-message": "a close inside a fragmented message is refused; 5.4 allows it",
        "reason-first": "the reason of a close is checked in front of its code",
        "zlib-stops": "Python's zlib stops at a final block (RFC 7692, 7.2.3.4), and says nothing "
        "of a block that the message leaves unfinished",
    },
    "wsproto": {
        "header-late": "a header is checked when its length is whole, and ours at the first byte",
        "pongs-all": "every ping is answered; 5.5.3 allows to answer only the newest",
        "fragments-any": "the number of fragments has no limit; the limit is ours",
        "limit-none": "messages have no limit; the limit is ours",
        "order-late": "that a continuation is due is checked behind the inflating of what came",
        "surrogates-late": "a surrogate is refused at its third byte, and ours at its second",
        "no-1014": "1014 is refused; it was registered later than the others",
        "control-ends-compression": "behind a control frame inside a compressed message, the rest "
        "is read as plain; a fault",
        "zlib-stops": "Python's zlib stops at a final block (RFC 7692, 7.2.3.4), and says nothing "
        "of a block that the message leaves unfinished",
        "zlib-flushes": "behind a message zlib is flushed as behind a whole stream",
    },
}  # fmt: skip


@dataclass
class Outcome:
    """What is compared."""

    messages: list[tuple[int, bytes]] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    """Of the closes that were sent: 1005 where one had none."""
    has_failed: bool = False


@dataclass(frozen=True)
class Limits:
    message: int
    fragments: int


@dataclass(frozen=True)
class Frame:
    """One frame as far as it came, whatever is wrong with it."""

    at: int
    first: int
    second: int | None
    """The first two bytes."""
    size: int | None
    """Its payload's, where the length is whole."""
    is_shortest: bool
    has_mask: bool
    """The mask is whole, or there is none."""
    payload: bytes
    """What has come of it, unmasked."""
    end: int
    """Offset behind it, which may lie behind the stream."""
    is_whole: bool

    @property
    def is_final(self) -> bool:
        return bool(self.first & 0x80)

    @property
    def rsv(self) -> int:
        return self.first >> 4 & 7

    @property
    def opcode(self) -> int:
        return self.first & 15

    @property
    def is_masked(self) -> bool:
        return bool((self.second or 0) & 0x80)


def masked(payload: bytes, mask: bytes) -> bytes:
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(whole)).to_bytes(len(payload))


def encode(
    opcode: int, payload: bytes, mask: bytes | None, *, head: int = 0x80, form: int = 0
) -> bytes:
    """Return one frame; ``head``: FIN and reserved bits; ``form``: at least 126 or 127."""
    size = len(payload)
    bit = 0x80 if mask is not None else 0
    if size < 126 and form == 0:
        out = bytes((head | opcode, bit | size))
    elif size < 65536 and form < 127:
        out = bytes((head | opcode, bit | 126)) + size.to_bytes(2, "big")
    else:
        out = bytes((head | opcode, bit | 127)) + size.to_bytes(8, "big")
    return out + payload if mask is None else out + mask + masked(payload, mask)


def frames_of(data: bytes) -> Iterator[Frame]:
    """Walk from header to header."""
    at = 0
    while at < len(data):
        first, rest = data[at], data[at + 1 : at + 2]
        if not rest:
            yield Frame(at, first, None, None, True, False, b"", len(data) + 1, False)
            return
        second, size, body, least = rest[0], rest[0] & 127, at + 2, 0
        if size >= 126:
            body += 2 if size == 126 else 8
            least = 126 if size == 126 else 65536
            size = int.from_bytes(data[at + 2 : body])
        if body > len(data):
            yield Frame(at, first, second, None, True, False, b"", len(data) + 1, False)
            return
        mask = data[body : body + 4] if second & 0x80 else b""
        body += 4 if second & 0x80 else 0
        has_mask = body <= len(data)
        payload = data[body : body + size]
        if mask and has_mask:
            payload = masked(payload, mask)
        end = body + size
        yield Frame(
            at, first, second, size, size >= least, has_mask, payload, end, end <= len(data)
        )  # fmt: skip
        at = end


def is_surrogate(decoder: codecs.IncrementalDecoder) -> bool:
    """Python's decoder waits for the third byte of a surrogate, which is bad from the second on."""
    pending = decoder.getstate()[0]
    return len(pending) == 2 and pending[0] == 0xED and pending[1] >= 0xA0


class _FailureError(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class _Unpacker:
    """Python's zlib, which reads on behind a final block, or stops there."""

    def __init__(self, deflation: Deflation, habits: frozenset[str]) -> None:
        self.bits, self.keeps = deflation.read_bits, deflation.reads_context
        self.stops, self.flushes = "zlib-stops" in habits, "zlib-flushes" in habits
        self.ends = "control-ends-compression" in habits
        self.zlib = zlib.decompressobj(-self.bits)
        self.history = b""
        self.has_begun = False

    def begin(self) -> None:
        self.has_begun = False
        if not self.keeps and not self.ends:
            self._forget()

    def end(self) -> None:
        if not self.keeps and self.ends:
            self._forget()

    def _forget(self) -> None:
        self.zlib, self.history = zlib.decompressobj(-self.bits), b""

    def take(self, data: bytes) -> Iterator[bytes]:
        """Give what comes out, and then raise where it cannot be read."""
        if self.stops:
            yield self.zlib.decompress(data)
            return
        self.has_begun |= bool(data)
        before = self.zlib.copy()
        try:
            out = self.zlib.decompress(data)
        except zlib.error:
            self.zlib = before
            for n in range(len(data)):
                yield from self._drip(data[n : n + 1])
                if self.zlib.eof and data[n + 1 :]:
                    self._renew()
            raise
        yield self._note(out)
        while self.zlib.eof and self.zlib.unused_data:
            rest = self.zlib.unused_data
            self._renew()
            yield from self.take(rest)

    def _drip(self, byte: bytes) -> Iterator[bytes]:
        """Give what comes out of one byte, byte by byte: all that is in front of a fault in it."""
        while out := self.zlib.decompress(byte, 1):
            byte = self.zlib.unconsumed_tail
            yield self._note(out)

    def take_within(self, data: bytes, is_end: bool, limit: int) -> bytes:
        """Inflate a frame as websockets does: it stops where the limit is reached."""
        is_short = is_end and len(data) < 2044
        out = self.zlib.decompress(data + TAIL if is_short else data, limit)
        if self.zlib.unconsumed_tail:
            raise _FailureError(1009)
        if is_end and not is_short and self.zlib.decompress(TAIL, 1):
            raise _FailureError(1009)
        return out

    def finish(self) -> Iterator[bytes]:
        """Put the tail behind the message; it must end a block."""
        if self.stops:
            yield self.zlib.decompress(TAIL)
            if self.flushes:
                yield self.zlib.flush()
            return
        if self.zlib.eof:
            self._renew()
        elif self.has_begun:
            out = b"".join(self.take(TAIL))
            if self.zlib.eof:
                self._renew()
            judge = self.zlib.copy()
            if judge.decompress(b"\x03\x00") or not judge.eof or judge.unused_data:
                raise zlib.error("the tail ends no block")
            yield out

    def _note(self, out: bytes) -> bytes:
        self.history = (self.history + out)[-(1 << self.bits) :]
        return out

    def _renew(self) -> None:
        if self.history:
            self.zlib = zlib.decompressobj(-self.bits, zdict=self.history)
        else:
            self.zlib = zlib.decompressobj(-self.bits)


class SlowConnection:
    """Reads one stream.

    Args:
        rounds: offsets at which what is to be sent is taken: pings are counted anew.
        close_at: an end of a frame, where we begin to close.
    """

    def __init__(
        self,
        is_server: bool,
        deflation: Deflation | None,
        limits: Limits,
        habits: frozenset[str] = frozenset(),
        rounds: tuple[int, ...] = (),
        close_at: int | None = None,
    ) -> None:
        self.is_server, self.deflation, self.limits = is_server, deflation, limits
        self.habits, self.rounds, self.close_at = habits, rounds, close_at
        self.out = Outcome()
        self.opcode = 0
        self.size = self.fragments = 0
        self.data = b""
        self.is_compressed: bool | None = None
        """Of the message that is under way."""
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        if deflation is not None:
            self.unpacker = _Unpacker(deflation, habits)
        self.round = 0
        self.round_pings: list[bytes] = []

    def read(self, data: bytes) -> Outcome:
        try:
            at = 0
            for frame in frames_of(data):
                if self.close_at == at:
                    self._close(1000)
                self._frame(frame)
                at = frame.end
                if frame.is_whole and frame.opcode == 8:
                    break
            if self.close_at == at:
                self._close(1000)
        except _FailureError as failure:
            self.out.has_failed = True
            self._close(failure.code)
        self._end_round()
        return self.out

    def _close(self, code: int) -> None:
        if not self.out.codes:
            self.out.codes.append(code)

    def _frame(self, frame: Frame) -> None:
        late = "frame-late" in self.habits
        if frame.second is None:
            if not late and "header-late" not in self.habits:
                self._check_header(frame)
            return
        if "header-late" in self.habits and frame.size is None:
            self._check_in_front_of_length(frame)
            return
        if not late:
            self._check_header(frame)
            if not frame.has_mask:
                return
            if "order-late" not in self.habits:
                self._check_order(frame)
        else:
            if frame.opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
                raise _FailureError(1002)
            if frame.is_masked != self.is_server:
                raise _FailureError(1002)
        if frame.size is None:
            return
        if frame.opcode >= 8:
            if "limit-controls" in self.habits and frame.size > self.limits.message - self.size:
                raise _FailureError(1009)
            if frame.is_whole:
                if late:
                    self._check_header(frame)
                self._control(frame)
            return
        if frame.opcode and (self.is_compressed is None or "order-late" not in self.habits):
            is_compressed = bool(frame.rsv & 4) and self.deflation is not None
        else:
            is_compressed = bool(self.is_compressed)
        if (
            (not is_compressed or "limit-compressed" in self.habits)
            and "limit-none" not in self.habits
            and frame.size > self.limits.message - self.size
        ):
            raise _FailureError(1009)
        is_bounded = is_compressed and "limit-none" not in self.habits
        if is_bounded and frame.size > 2 * self.limits.message + 1024:
            raise _FailureError(1009)  # ours, beyond what the standard says
        if late and not frame.is_whole:
            return
        if frame.size and not frame.payload and "order-late" in self.habits:
            return
        self._data(frame, is_compressed)

    def _check_in_front_of_length(self, frame: Frame) -> None:
        """What wsproto sees while a length is not whole."""
        if frame.opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            raise _FailureError(1002)
        if frame.opcode >= 8 and (not frame.is_final or (frame.second or 0) & 127 > 125):
            raise _FailureError(1002)

    def _check_header(self, frame: Frame) -> None:
        allowed = 4 if self.deflation is not None and frame.opcode in (1, 2) else 0
        if frame.rsv & ~allowed or frame.opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            raise _FailureError(1002)
        if frame.opcode >= 8 and not frame.is_final:
            raise _FailureError(1002)
        if frame.second is None:
            return
        if frame.is_masked != self.is_server:
            raise _FailureError(1002)
        if frame.opcode >= 8:
            size = frame.size if "lengths-any" in self.habits else (frame.second or 0) & 127
            if size is not None and size > 125:
                raise _FailureError(1002)
        is_bad = frame.size is not None and (not frame.is_shortest or frame.size >= 1 << 63)
        if is_bad and "lengths-any" not in self.habits:
            raise _FailureError(1002)

    def _check_order(self, frame: Frame) -> None:
        if frame.opcode < 8 and (frame.opcode == 0) != (self.opcode != 0):
            raise _FailureError(1002)

    def _data(self, frame: Frame, is_compressed: bool) -> None:
        if frame.opcode and self.deflation is not None and is_compressed:
            self.unpacker.begin()
        if not self.opcode:
            self.fragments = 0
        self.fragments += 1
        if self.fragments > self.limits.fragments and "fragments-any" not in self.habits:
            raise _FailureError(1009)
        out = self._inflate(frame) if is_compressed else frame.payload
        if "frame-late" in self.habits:
            self._check_header(frame)
        if "frame-late" in self.habits or ("order-late" in self.habits and frame.has_mask):
            self._check_order(frame)
        self.is_compressed = is_compressed
        if frame.opcode:
            self.opcode, self.data, self.size = frame.opcode, b"", 0
            self.decoder.reset()
        is_end = frame.is_whole and frame.is_final
        self.data += out
        self.size += len(out)
        if self.opcode == 1 and ("utf8-late" not in self.habits or is_end):
            self._check_text(self.data if "utf8-late" in self.habits else out, is_end)
        if is_end:
            self.out.messages.append((self.opcode, self.data))
            self.opcode = self.size = 0
            self.is_compressed = None

    def _check_text(self, data: bytes, is_end: bool) -> None:
        try:
            self.decoder.decode(data, is_end)
        except UnicodeDecodeError:
            raise _FailureError(1007) from None
        if "surrogates-late" not in self.habits and is_surrogate(self.decoder):
            raise _FailureError(1007)

    def _inflate(self, frame: Frame) -> bytes:
        have = self.size
        is_end = frame.is_whole and frame.is_final
        opcode = frame.opcode or self.opcode
        out = b""
        if {"limit-compressed", "zlib-stops"} <= self.habits:
            try:
                return self.unpacker.take_within(frame.payload, is_end, self.limits.message - have)
            except zlib.error:
                code = 1002 if "inflate-1002" in self.habits else 1007
                raise _FailureError(code) from None
        decoder = codecs.getincrementaldecoder("utf-8")()
        if not frame.opcode:
            decoder.setstate(self.decoder.getstate())
        try:
            for step in (self.unpacker.take(frame.payload), self.unpacker.finish()):
                for piece in step:
                    seen = piece[: max(0, self.limits.message + 1 - have - len(out))]
                    out += piece
                    if opcode == 1 and not {"utf8-late", "zlib-stops"} & self.habits:
                        try:
                            decoder.decode(seen)
                        except UnicodeDecodeError:
                            raise _FailureError(1007) from None
                        if is_surrogate(decoder):
                            raise _FailureError(1007)
                    if have + len(out) > self.limits.message and "limit-none" not in self.habits:
                        raise _FailureError(1009)
                if not is_end:
                    break
            else:
                self.unpacker.end()
        except zlib.error:
            raise _FailureError(1007) from None
        return out

    def _control(self, frame: Frame) -> None:
        if "control-ends-compression" in self.habits:
            self.is_compressed = None
        if frame.opcode == 9:
            self._ping(frame)
        elif frame.opcode == 8:
            code = self._close_code(frame.payload)
            if "close-in-message" in self.habits and self.opcode:
                raise _FailureError(1002)
            self._close(code)

    def _ping(self, frame: Frame) -> None:
        if self.out.codes and "pongs-closing" not in self.habits:
            return
        number = sum(at < frame.end for at in self.rounds)
        if number != self.round:
            self._end_round()
            self.round = number
        self.round_pings.append(frame.payload)

    def _end_round(self) -> None:
        pings, self.round_pings = self.round_pings, []
        if "pongs-all" in self.habits or len(pings) <= PONGS_MAX:
            self.out.pongs += pings
        else:
            self.out.pongs += [*pings[:PONGS_MAX], pings[-1]]

    def _close_code(self, payload: bytes) -> int:
        if not payload:
            return 1005
        if len(payload) == 1:
            raise _FailureError(1002)
        code, reason = int.from_bytes(payload[:2]), payload[2:]
        known = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
        known -= {1014} if "no-1014" in self.habits else set()
        try:
            reason.decode()
        except UnicodeDecodeError:
            if code in known or "reason-first" in self.habits:
                raise _FailureError(1007) from None
        if code not in known:
            raise _FailureError(1002)
        return code
