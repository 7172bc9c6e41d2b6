"""Random frame streams through our connection, ``websockets`` and ``wsproto``: one outcome.

Strategy: a seed makes one stream of frames, valid or mutated, for one role, with or without
permessage-deflate. Each of the three reads it; compared are the messages, the pongs, the close
codes that were sent, and whether the connection failed. Where they differ, ours must be what
``slow_connection`` says without habits, and theirs what it says with the habits listed for them: so
a difference is allowed only where its habit makes exactly that difference.

Run: ``.venv/bin/python tests/differential.py --count 1000000 --seed 1 --processes 2``. It ends with
how often each habit showed. ``tests/test_differential.py`` runs a slice. The habits are those of
websockets 17.4 and wsproto 1.3.2.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from slow_connection import HABITS, TAIL, Limits, Outcome, SlowConnection, encode, frames_of
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate as WebsocketsDeflate
from websockets.frames import Opcode as WebsocketsOpcode
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from wsproto.connection import Connection as WsprotoConnection
from wsproto.connection import ConnectionState as WsprotoState
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate

from crosswire.connection import Connection, ConnectionState
from crosswire.handshake import Deflation

MESSAGE_MAX = 4096
FRAGMENTS_MAX = 12
BLOCK = 500
"""Streams that a process compares before it tells."""
ASKED_EACH = 10
"""Of so many streams, one is read again without each habit, to see which of them made it differ."""
CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4999)
WRONG_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
WORDS = ("", "a", "Hello", "κόσμε", "\U0001f600", "€uro " * 9, "0123456789" * 13, "é" * 70)
BAD_TEXT = (
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x82",
    b"a\xc3",
    b"\x80",
    b"\xed\xa0",
)

# ------------------------------------------------------------------ streams


@dataclass(frozen=True)
class Stream:
    """What arrives, and where we begin to close."""

    is_server: bool
    deflation: Deflation | None
    data: bytes = field(repr=False)
    close_at: int | None
    """Close once the frames that end before this offset are read; ``None``: do not."""
    cuts: tuple[int, ...]


class Maker:
    """One stream of frames, from one source of chance."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.is_server = rng.random() < 0.5
        self.deflation: Deflation | None = None
        if rng.random() < 0.5:
            self.deflation = Deflation(
                rng.randint(9, 15), rng.randint(9, 15), rng.random() < 0.5, rng.random() < 0.5
            )
        self.packer = self._new_packer()
        self.out: list[bytes] = []

    def make(self) -> Stream:
        rng = self.rng
        for _ in range(rng.choice((1, 2, 3, 5, 8))):
            kind = rng.random()
            if kind < 0.62:
                self.message()
            elif kind < 0.80:
                self.control()
            elif kind < 0.83:
                for _ in range(rng.randint(14, 40)):
                    self.frame(9, rng.randbytes(rng.randint(0, 3)))
            elif kind < 0.89:
                self.close()
            elif kind < 0.97:
                self.wrong()
            else:
                self.out.append(rng.randbytes(rng.randint(1, 12)))
        data = b"".join(self.out)
        if rng.random() < 0.25:
            data = self.mutate(data)
        if rng.random() < 0.1:
            data = data[: rng.randrange(len(data) + 1)]
        close_at = rng.randrange(len(data) + 1) if rng.random() < 0.15 else None
        cuts = tuple(sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 4)))))
        return Stream(self.is_server, self.deflation, data, close_at, cuts)

    def frame(self, opcode: int, payload: bytes, *, head: int = 0x80, form: int = 0) -> None:
        mask = self.rng.randbytes(4) if self.is_server else None
        self.out.append(encode(opcode, payload, mask, head=head, form=form))

    def text(self) -> bytes:
        rng = self.rng
        text = "".join(rng.choice(WORDS) for _ in range(rng.choice((0, 1, 1, 2, 4)))).encode()
        if rng.random() < 0.08:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(BAD_TEXT) + (text[at:] if rng.random() < 0.7 else b"")
        return text

    def payload(self, opcode: int) -> bytes:
        rng = self.rng
        if opcode == 1 and rng.random() < 0.95:
            return self.text()
        near = rng.choice((0, 1, 5, 125, 126, 127, 300, MESSAGE_MAX - 1, MESSAGE_MAX))
        if rng.random() < 0.03:
            near = rng.choice((MESSAGE_MAX + 1, MESSAGE_MAX * 2, 65535, 65536))
        return b"a" * near if opcode == 1 or rng.random() < 0.5 else rng.randbytes(near)

    def message(self) -> None:
        rng = self.rng
        opcode = rng.choice((1, 1, 2))
        payload, head = self.payload(opcode), 0
        if self.deflation and rng.random() < 0.7:
            payload, head = self.packed(payload), 0x40
        count = 1 if rng.random() < 0.5 else rng.choice((2, 2, 3, 4, 11, 12, 13, 20))
        cuts = sorted(rng.randrange(len(payload) + 1) for _ in range(count - 1))
        for n, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(payload)], strict=True)):
            if n and rng.random() < 0.15:
                self.control()
            if n and rng.random() < 0.02:
                self.close()
            if n and rng.random() < 0.01:
                self.frame(1, rng.randbytes(3), head=rng.choice((0, 0x40, 0x80, 0xC0)))
            final = 0x80 if n == count - 1 else 0
            self.frame(0 if n else opcode, payload[begin:end], head=final | (0 if n else head))

    def packed(self, payload: bytes) -> bytes:
        rng = self.rng
        assert self.deflation
        if not self.deflation.reads_context:
            self.packer = self._new_packer()
        if rng.random() < 0.05:  # RFC 7692, 7.2.3.4: a final block, behind which a window goes on
            packer = self._new_packer()
            return packer.compress(payload) + packer.flush() + b"\0"
        data = self.packer.compress(payload) + self.packer.flush(zlib.Z_SYNC_FLUSH)
        data = data.removesuffix(TAIL)
        if rng.random() < 0.05:
            changed = bytearray(data or b"\0")
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            data = bytes(changed)
        return data

    def control(self) -> None:
        rng = self.rng
        size = rng.choice((0, 1, 4, 20, 124, 125))
        self.frame(rng.choice((9, 9, 10)), rng.randbytes(size))

    def close(self) -> None:
        rng = self.rng
        if rng.random() < 0.2:
            return self.frame(8, b"")
        code = rng.choice(CODES) if rng.random() < 0.8 else rng.choice(WRONG_CODES)
        reason = self.text()[:123] if rng.random() < 0.5 else b""
        return self.frame(8, code.to_bytes(2, "big") + reason)

    def wrong(self) -> None:
        """Break one rule."""
        rng = self.rng
        payload = self.payload(2)
        match rng.randrange(10):
            case 0:
                self.frame(rng.choice((1, 2)), payload, head=0x80 | 0x10 * rng.randint(1, 7))
            case 1:
                self.frame(rng.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), payload)
            case 2:
                self.frame(0, payload, head=rng.choice((0, 0x80)))
            case 3:
                self.frame(rng.choice((8, 9, 10)), payload[:100], head=0)
            case 4:
                self.frame(rng.choice((8, 9, 10)), rng.randbytes(rng.choice((126, 300))))
            case 5:
                self.frame(rng.choice((1, 2, 9)), payload[:100], form=rng.choice((126, 127)))
            case 6:
                mask = None if self.is_server else rng.randbytes(4)
                self.out.append(encode(2, payload, mask))
            case 7:
                self.frame(8, rng.randbytes(1))
            case 8:
                size = rng.choice((1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1))
                bit = 0xFF if self.is_server else 0x7F
                self.out.append(bytes((0x82, bit)) + size.to_bytes(8, "big") + rng.randbytes(9))
            case _:
                self.frame(
                    rng.choice((9, 10, 8)), payload[:9], head=0x80 | 0x10 * rng.randint(1, 7)
                )

    def mutate(self, data: bytes) -> bytes:
        rng, out = self.rng, bytearray(data or b"\0")
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(out))
            match rng.randrange(4):
                case 0:
                    out[at] ^= 1 << rng.randrange(8)
                case 1:
                    out[at] = rng.randrange(256)
                case 2:
                    out.insert(at, rng.randrange(256))
                case _ if len(out) > 1:
                    del out[at]
                case _:
                    pass
        return bytes(out)

    def _new_packer(self) -> zlib._Compress:
        bits = self.deflation.read_bits if self.deflation else 15
        return zlib.compressobj(self.rng.choice((1, 6, 9)), zlib.DEFLATED, -bits)


def stream_of(seed: int, number: int) -> Stream:
    return Maker(random.Random(f"{seed} {number}")).make()


# ------------------------------------------------------------------ outcomes


def note_sent(outcome: Outcome, sent: bytes, is_server: bool) -> None:
    """Take apart what an endpoint sent, and check its frames."""
    for frame in frames_of(sent):
        assert frame.is_whole
        assert frame.is_masked is not is_server
        assert (frame.is_final, frame.rsv, frame.is_shortest) == (True, 0, True)
        if frame.opcode == 10:
            outcome.pongs.append(frame.payload)
        else:
            assert frame.opcode == 8
            outcome.codes.append(int.from_bytes(frame.payload[:2]) if frame.payload else 1005)


@functools.lru_cache(maxsize=1)  # asked for by each reader of a stream
def places_of(stream: Stream) -> tuple[list[int], int | None]:
    """Return the ends of whole frames, and the one at which we close."""
    ends = [0, *(frame.end for frame in frames_of(stream.data) if frame.is_whole)]
    close_at = stream.close_at
    return ends, None if close_at is None else max(end for end in ends if end <= close_at)


def pieces(stream: Stream, *, is_cut: bool) -> Iterator[tuple[bytes, bool]]:
    """Give the stream in pieces, and whether to close in front of each.

    They are cut at the ends of frames, or only where the close comes and at random.
    """
    ends, close_at = places_of(stream)
    order = sorted({0, len(stream.data), *(stream.cuts if is_cut else ends), close_at or 0})
    for begin, end in zip(order, [*order[1:], order[-1]], strict=True):
        yield stream.data[begin:end], begin == close_at


def read_ours(stream: Stream) -> Outcome:
    connection = Connection(
        is_server=stream.is_server, random_bytes=random.Random(1).randbytes,
        read_size=4096, message_max=MESSAGE_MAX, fragments_max=FRAGMENTS_MAX, controls_max=0,
        deflation=stream.deflation,
    )  # fmt: skip
    out, sent = Outcome(), b""
    for piece, is_close in pieces(stream, is_cut=True):
        if is_close:
            connection.close(1000)
        for opcode, payload in connection.receive(piece):
            if opcode < 8:
                out.messages.append((opcode, bytes(payload)))
        sent += connection.data_to_send()
    if connection.error is not None:
        assert connection.state is ConnectionState.CLOSED
        out.has_failed = True
    note_sent(out, sent, stream.is_server)
    return out


def read_websockets(stream: Stream) -> Outcome:
    protocol: Protocol
    if stream.is_server:
        protocol = ServerProtocol(state=State.OPEN, max_size=MESSAGE_MAX)
    else:
        protocol = ClientProtocol(
            parse_uri("ws://localhost/"), state=State.OPEN, max_size=MESSAGE_MAX
        )
    if (terms := stream.deflation) is not None:
        protocol.extensions = [
            WebsocketsDeflate(
                not terms.reads_context, not terms.writes_context, terms.read_bits, terms.write_bits
            )
        ]
    protocol.logger.disabled = True
    out, opcode, parts, is_over = Outcome(), 0, b"", False
    for piece, is_close in pieces(stream, is_cut=False):
        if is_close and protocol.state is State.OPEN:
            protocol.send_close(1000)
        protocol.receive_data(piece)
        for frame in protocol.events_received():
            assert not isinstance(frame, Exception)
            kind = getattr(frame, "opcode", None)
            if kind not in (WebsocketsOpcode.TEXT, WebsocketsOpcode.BINARY, WebsocketsOpcode.CONT):
                continue
            opcode = int(kind) or opcode
            parts += bytes(frame.data)  # type: ignore[union-attr]
            if frame.fin and not is_over:  # type: ignore[union-attr]
                if opcode == 1 and not is_text(parts):  # as the shells of the library do
                    protocol.fail(1007)
                    is_over = True
                    break
                out.messages.append((opcode, parts))
                parts = b""
    out.has_failed = is_over or protocol.parser_exc is not None
    note_sent(out, b"".join(protocol.data_to_send()), stream.is_server)
    return out


def read_wsproto(stream: Stream) -> Outcome:
    kind = ConnectionType.SERVER if stream.is_server else ConnectionType.CLIENT
    extensions = []
    if (terms := stream.deflation) is not None:
        reads, writes = ("client", "server") if stream.is_server else ("server", "client")
        extension = WsprotoDeflate()
        for side, bits, keeps in (
            (reads, terms.read_bits, terms.reads_context),
            (writes, terms.write_bits, terms.writes_context),
        ):
            setattr(extension, f"{side}_max_window_bits", bits)
            setattr(extension, f"{side}_no_context_takeover", not keeps)
        extension._enabled = True
        extensions.append(extension)
    connection = WsprotoConnection(kind, extensions)
    out, parts, sent = Outcome(), b"", b""
    for piece, is_close in pieces(stream, is_cut=False):
        if is_close and connection.state is WsprotoState.OPEN and not out.has_failed:
            sent += connection.send(CloseConnection(1000))
        if out.has_failed or connection.state not in (
            WsprotoState.OPEN,
            WsprotoState.LOCAL_CLOSING,
        ):
            break
        connection.receive_data(piece)
        for event in connection.events():
            is_open = connection.state in (WsprotoState.OPEN, WsprotoState.REMOTE_CLOSING)
            if isinstance(event, Ping) and is_open:
                sent += connection.send(event.response())
            elif isinstance(event, CloseConnection):
                before = connection.state
                out.has_failed = before in (WsprotoState.OPEN, WsprotoState.LOCAL_CLOSING)
                if is_open:
                    sent += connection.send(
                        CloseConnection(event.code) if out.has_failed else event.response()
                    )
                break
            elif isinstance(event, TextMessage | BytesMessage):
                is_str = isinstance(event, TextMessage)
                parts += event.data.encode() if is_str else bytes(event.data)  # type: ignore[union-attr]
                if event.message_finished:
                    out.messages.append((1 if is_str else 2, parts))
                    parts = b""
    note_sent(out, sent, stream.is_server)
    return out


def read_slowly(stream: Stream, habits: frozenset[str] = frozenset()) -> Outcome:
    rounds = sorted({*stream.cuts, len(stream.data), places_of(stream)[1] or 0})
    model = SlowConnection(
        stream.is_server, stream.deflation, Limits(MESSAGE_MAX, FRAGMENTS_MAX), habits,
        tuple(rounds), places_of(stream)[1],
    )  # fmt: skip
    return model.read(stream.data)


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# ------------------------------------------------------------------ comparison

PEERS: dict[str, Callable[[Stream], Outcome]] = {
    "websockets": read_websockets,
    "wsproto": read_wsproto,
}
Shown = Counter[tuple[str, str]]


class DifferenceError(AssertionError):
    """An outcome that no listed habit explains."""


def compare(seed: int, number: int, shown: Shown) -> None:
    """Read one stream with all three; of each tenth, note which habits showed.

    Raises:
        DifferenceError: ours, or theirs, is not what the list allows.
    """
    stream = stream_of(seed, number)
    ours = read_ours(stream)
    theirs = {name: read(stream) for name, read in PEERS.items()}
    if all(outcome == ours for outcome in theirs.values()):
        return
    check(seed, number, "crosswire", ours, read_slowly(stream))
    for name, outcome in theirs.items():
        if outcome == ours:
            continue
        habits = frozenset(HABITS[name])
        check(seed, number, name, outcome, read_slowly(stream, habits))
        if number % ASKED_EACH == 0:
            shown.update(
                (name, habit)
                for habit in habits
                if read_slowly(stream, habits - {habit}) != outcome
            )


def check(seed: int, number: int, name: str, outcome: Outcome, wanted: Outcome) -> None:
    if outcome != wanted:
        stream = stream_of(seed, number)
        raise DifferenceError(
            f"{name} differs at --seed {seed} --first {number} --count 1\n"
            f"{stream}\ndata {stream.data.hex()}\nread    {outcome}\nallowed {wanted}"
        )


def compare_block(block: tuple[int, int, int]) -> tuple[int, Shown, list[str]]:
    """Compare streams of one seed, from the first number up to the last.

    Returns:
        Their count, which habits showed, and what the list does not allow.
    """
    seed, first, last = block
    shown: Shown = Counter()
    faults: list[str] = []
    for number in range(first, last):
        try:
            compare(seed, number, shown)
        except DifferenceError as error:
            faults.append(str(error))
    return last - first, shown, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="streams")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first stream")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    end = args.first + args.count
    blocks = [
        (args.seed, first, min(first + BLOCK, end)) for first in range(args.first, end, BLOCK)
    ]
    shown: Shown = Counter()
    began = told = time.monotonic()
    done = fault_count = 0
    with multiprocessing.Pool(args.processes) as pool:
        for count, more, faults in pool.imap_unordered(compare_block, blocks):
            done += count
            shown += more
            fault_count += len(faults)
            for text in faults:
                print(text, flush=True)
            if time.monotonic() > told + 5:
                told = time.monotonic()
                rate = done / (told - began)
                print(f"{done} streams, {rate:.0f} a second", file=sys.stderr, flush=True)
    if fault_count:
        print(f"{fault_count} of {done} streams of seed {args.seed} differ beyond the list")
        return 1
    print(f"{done} streams of seed {args.seed} agree in {time.monotonic() - began:.0f} s, but for")
    for name, habits in HABITS.items():
        for habit, reason in habits.items():
            times = shown[name, habit]
            print(f"{f'{times} times' if times else 'NEVER':>12}  {name} {habit}: {reason}")
    print(f"(counted on each {ASKED_EACH}th stream)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
