"""What a hostile peer may send, W1 to W7: each case at every cut.

A case is a stream that breaks one rule behind a good message. However it is cut, the good message
is handed out, the error has its name and place, the close its code, the memory its bound, and the
connection is over. On one loop with others it is closed at once, and they lose nothing.

W1 lengths, W2 fragments, W3 control frames, W4 frames, W5 text, W6 compression, W7 the upgrade.
gzip and zlib inside messages are read by ``crosswire.codec.Inflate``; its hostile cases stand in
``tests/test_inflate.py``.

``.venv/bin/python tests/test_hostile.py`` tells how long each takes to be closed in real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from fake_world import FakeSeam, accept_key, key_of, simulate
from slow_connection import TAIL, encode, frames_of

from crosswire import HandshakeError, UsageError
from crosswire.connection import Connection, ConnectionState
from crosswire.handshake import HEAD_MAX, ClientHandshake, Deflation, ServerHandshake
from crosswire.receive.websocket import WebSocket
from crosswire.seam import System

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"
CAP = 1 << 17
ROOM = 64 << 10
"""Bytes beside the cap that a connection may take while it reads."""
CUTS_ALL = 4096
CUTS_SEEDED = 256
CLOSED_WITHIN_S = 0.050
ROLES = pytest.mark.parametrize("is_server", [False, True], ids=["client", "server"])

# ------------------------------------------------------------------ streams


class Peer:
    """Writes what the connection of a role reads."""

    def __init__(self, is_server: bool) -> None:
        self.is_server = is_server

    def frame(self, opcode: int, payload: bytes = b"", head: int = 0x80, form: int = 0) -> bytes:
        mask = MASK if self.is_server else None
        return encode(opcode, payload, mask, head=head, form=form)

    def says(self, opcode: int, size: int, form: int, head: int = 0x80) -> bytes:
        """A header that says a size, and the first bytes behind it."""
        bit = 0x80 if self.is_server else 0
        width = 2 if form == 126 else 8
        return bytes((head | opcode, bit | form)) + size.to_bytes(width, "big") + b"abcdefgh"

    def packed(self, *messages: bytes, head: int = 0xC0, opcode: int = BINARY) -> bytes:
        return b"".join(self.frame(opcode, data, head=head) for data in messages)


def deflated(message: bytes, bits: int = 15) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return (packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def in_a_row(*messages: bytes) -> list[bytes]:
    """Compress messages that refer back to each other."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return [
        (packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
        for message in messages
    ]


@dataclass(frozen=True)
class Case:
    name: str
    error: str
    close: int
    build: Callable[[Peer], bytes]
    terms: dict[str, Any] = field(default_factory=dict)

    @property
    def message_max(self) -> int:
        return int(self.terms.get("message_max", CAP))

    def stream(self, is_server: bool) -> bytes:
        peer = Peer(is_server)
        return peer.frame(TEXT, b"good") + self.build(peer)

    def connection(self, is_server: bool, draw: Callable[[int], bytes] = bytes) -> Connection:
        terms = {"read_size": 4096, "message_max": CAP, **self.terms}
        return Connection(is_server=is_server, random_bytes=draw, **terms)


DEFLATE: dict[str, Any] = {"deflation": Deflation()}
NO_CONTEXT: dict[str, Any] = {"deflation": Deflation(reads_context=False)}
BAD_TEXT = {
    "a lone continuation byte": b"\x80",
    "an overlong slash": b"\xc0\xaf",
    "an overlong of three": b"\xe0\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "FE": b"\xfe",
    "a character cut by another": b"\xe2\x82a",
}


def w1() -> Iterator[Case]:
    for size in (1 << 63, (1 << 63) + 5, (1 << 64) - 1):
        for opcode in (TEXT, BINARY):
            yield Case(
                f"a length of {size:#x} on opcode {opcode}", "frame-length-form", 1002,
                lambda p, o=opcode, n=size: p.says(o, n, 127),
            )  # fmt: skip
    for size in ((1 << 63) - 1, 1 << 62, (1 << 32) + 1, 1 << 32, (1 << 31) - 1, CAP + 1):
        yield Case(
            f"a length of {size:#x}", "frame-too-big", 1009, lambda p, n=size: p.says(TEXT, n, 127)
        )
        yield Case(
            f"a length of {size:#x} where 3 bytes are there", "frame-too-big", 1009,
            lambda p, n=size: p.frame(TEXT, b"abc", head=0) + p.says(0, n, 127),
        )  # fmt: skip
    yield Case(
        "a plain length of 2^63 - 1 where compression was agreed", "frame-too-big", 1009,
        lambda p: p.says(TEXT, (1 << 63) - 1, 127), DEFLATE,
    )  # fmt: skip
    for form, size in ((126, 0), (126, 125), (127, 0), (127, 126), (127, 65535)):
        yield Case(
            f"{size} said in the form {form}", "frame-length-form", 1002,
            lambda p, f=form, n=size: p.says(BINARY, n, f),
        )  # fmt: skip
    yield Case(
        "one byte above the limit, in one frame", "frame-too-big", 1009,
        lambda p: p.frame(BINARY, bytes(126)), {"message_max": 125},
    )  # fmt: skip
    yield Case(
        "one byte above the limit, in its continuation", "frame-too-big", 1009,
        lambda p: p.frame(BINARY, bytes(5000), head=0) + p.frame(0, b"a"), {"message_max": 5000},
    )  # fmt: skip
    yield Case(
        "any byte where none is allowed", "frame-too-big", 1009,
        lambda p: p.frame(BINARY, bytes(5), head=0), {"message_max": 4},
    )  # fmt: skip


def w2() -> Iterator[Case]:
    for payload in (b"", b"a"):
        yield Case(
            f"one fragment too many of {len(payload)} bytes", "frame-fragments", 1009,
            lambda p, b=payload: (
                p.frame(TEXT, b, head=0) + p.frame(0, b, head=0) * 99 + p.frame(0, b)
            ),
            {"fragments_max": 100},
        )  # fmt: skip
    yield Case(
        "fragments that never end in compressed bytes", "frame-fragments", 1009,
        lambda p: p.frame(TEXT, b"", head=0x40) + p.frame(0, b"", head=0) * 200,
        {"fragments_max": 100, **DEFLATE},
    )  # fmt: skip
    yield Case(
        "fragments that sum up", "frame-too-big", 1009,
        lambda p: p.frame(BINARY, bytes(30), head=0) + p.frame(0, bytes(30), head=0) * 9,
        {"message_max": 290},
    )  # fmt: skip


def w3() -> Iterator[Case]:
    for opcode in (CLOSE, PING, PONG):
        for size, form in ((126, 126), (65535, 126), (65536, 127), ((1 << 63) - 1, 127)):
            yield Case(
                f"a control frame {opcode} of {size:#x} bytes", "frame-control-too-long", 1002,
                lambda p, o=opcode, n=size, f=form: p.says(o, n, f),
            )  # fmt: skip
        yield Case(
            f"a control frame {opcode} in fragments", "frame-control-fragmented", 1002,
            lambda p, o=opcode: p.frame(o, b"", head=0),
        )  # fmt: skip
    for opcode in (PING, PONG):
        yield Case(
            f"a flood of {opcode}", "frame-flood", 1008,
            lambda p, o=opcode: p.frame(o, b"x") * 51, {"controls_max": 50},
        )  # fmt: skip
    yield Case(
        "a flood inside a message", "frame-flood", 1008,
        lambda p: p.frame(TEXT, b"a", head=0) + (p.frame(PING) + p.frame(PONG)) * 26,
        {"controls_max": 50},
    )  # fmt: skip


def w4() -> Iterator[Case]:
    yield Case(
        "a mask where none may be, or none where one must", "frame-masked", 1002,
        lambda p: encode(TEXT, b"abc", None if p.is_server else MASK),
    )  # fmt: skip
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
            yield Case(
                f"reserved bits {rsv:03b} on opcode {opcode}", "frame-reserved-bits", 1002,
                lambda p, r=rsv, o=opcode: p.frame(o, b"", head=0x80 | r << 4),
            )  # fmt: skip
    yield Case(
        "a reserved bit on a continuation", "frame-reserved-bits", 1002,
        lambda p: p.frame(TEXT, b"a", head=0) + p.frame(0, b"b", head=0xC0), DEFLATE,
    )  # fmt: skip
    for opcode in (CLOSE, PING, PONG):
        yield Case(
            f"a compressed control frame {opcode}", "frame-reserved-bits", 1002,
            lambda p, o=opcode: p.frame(o, b"", head=0xC0), DEFLATE,
        )  # fmt: skip
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Case(f"opcode {opcode}", "frame-opcode", 1002, lambda p, o=opcode: p.frame(o, b"abc"))
    for head in (0, 0x80):
        yield Case(
            f"a continuation of nothing, head {head:#x}", "frame-continuation", 1002,
            lambda p, h=head: p.frame(0, b"abc", head=h),
        )  # fmt: skip
        yield Case(
            f"a message inside a message, head {head:#x}", "frame-continuation", 1002,
            lambda p, h=head: (
                p.frame(TEXT, b"a", head=0) + p.frame(PING) + p.frame(BINARY, b"b", head=h)
            ),
        )  # fmt: skip
    yield Case(
        "a continuation behind a whole message", "frame-continuation", 1002,
        lambda p: p.frame(TEXT, b"a", head=0) + p.frame(0, b"b") + p.frame(0, b"c"),
    )  # fmt: skip
    yield Case("a close of one byte", "frame-close", 1002, lambda p: p.frame(CLOSE, b"\x03"))
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case(
            f"close code {code}", "frame-close", 1002,
            lambda p, c=code: p.frame(CLOSE, c.to_bytes(2, "big") + b"why"),
        )  # fmt: skip


def w5() -> Iterator[Case]:
    for name, bad in BAD_TEXT.items():
        text = "κόσμε".encode() * 3 + bad + b"behind"
        yield Case(name, "utf8", 1007, lambda p, t=text: p.frame(TEXT, t))
        yield Case(
            f"{name}, in a reason", "utf8", 1007,
            lambda p, b=bad: p.frame(CLOSE, b"\x03\xe8why" + b),
        )  # fmt: skip
        yield Case(
            f"{name}, in fragments of a byte", "utf8", 1007,
            lambda p, t=text: (
                p.frame(TEXT, t[:1], head=0)
                + b"".join(p.frame(0, t[n : n + 1], head=0) for n in range(1, len(t)))
            ),
        )  # fmt: skip
        for terms in (DEFLATE, NO_CONTEXT):
            yield Case(
                f"{name}, compressed, {terms['deflation'].reads_context}", "utf8", 1007,
                lambda p, t=text: p.packed(deflated(t), opcode=TEXT), terms,
            )  # fmt: skip
        yield Case(
            f"{name}, compressed in fragments", "utf8", 1007,
            lambda p, t=text: (
                p.frame(TEXT, deflated(t)[:9], head=0x40) + p.frame(0, deflated(t)[9:])
            ),
            DEFLATE,
        )  # fmt: skip
    cut = "a€".encode()[:-1]
    yield Case("a character that ends with its frame", "utf8", 1007, lambda p: p.frame(TEXT, cut))
    yield Case(
        "a character that ends with its message", "utf8", 1007,
        lambda p: p.frame(TEXT, cut, head=0) + p.frame(0),
    )  # fmt: skip
    yield Case(
        "a character that ends with its compressed message", "utf8", 1007,
        lambda p: p.packed(deflated(cut), opcode=TEXT), DEFLATE,
    )  # fmt: skip
    yield Case(
        "a character that ends with its reason", "utf8", 1007,
        lambda p: p.frame(CLOSE, b"\x03\xe8" + cut),
    )  # fmt: skip
    yield Case(
        "a bad byte behind 6 KiB", "utf8", 1007,
        lambda p: p.frame(TEXT, b"a" * 6000 + b"\xff" + b"a" * 50),
    )  # fmt: skip


def w6() -> Iterator[Case]:
    for terms in (DEFLATE, NO_CONTEXT):
        has = "with" if terms["deflation"].reads_context else "without"
        for opcode in (TEXT, BINARY):
            yield Case(
                f"a bomb of 1000 to 1 on opcode {opcode}, {has} context", "frame-too-big", 1009,
                lambda p, o=opcode: p.packed(deflated(bytes(1 << 20)), opcode=o), terms,
            )  # fmt: skip
        yield Case(
            f"one byte above the limit, {has} context", "frame-too-big", 1009,
            lambda p: p.packed(deflated(bytes(1001))), {"message_max": 1000, **terms},
        )  # fmt: skip
        yield Case(
            f"a bomb in fragments, {has} context", "frame-too-big", 1009,
            lambda p: (
                p.frame(BINARY, deflated(bytes(1 << 20))[:100], head=0x40)
                + p.frame(0, deflated(bytes(1 << 20))[100:])
            ),
            terms,
        )  # fmt: skip
        for name, data in (
            ("a block of type 3", b"\x07\x00"),
            ("a stored block whose lengths disagree", b"\x00\x05\x00\x00\x00hello"),
            ("a distance beyond what was", b"\x4b\x04\x42\x00"),
            ("a message that ends inside a block", deflated(b"hello hello" * 9)[:-4]),
            ("noise", random.Random(6).randbytes(64)),
            ("noise behind a message", deflated(b"hello") + b"\xff\xff\xff"),
        ):
            yield Case(
                f"{name}, {has} context", "inflate", 1007, lambda p, d=data: p.packed(d), terms
            )
    yield Case(
        "a reference to the message before, where there is no context", "inflate", 1007,
        lambda p: p.packed(in_a_row(b"abc" * 30, b"abc" * 30)[1]), NO_CONTEXT,
    )  # fmt: skip
    yield Case(
        "a bomb that the message before has loaded", "frame-too-big", 1009,
        lambda p: p.packed(*in_a_row(bytes(CAP), bytes(CAP + 1))), DEFLATE,
    )  # fmt: skip
    yield Case(
        "a gzip member where a message should be", "inflate", 1007,
        lambda p: p.packed(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + deflated(b"a")), DEFLATE,
    )  # fmt: skip


def cases() -> Iterator[Any]:
    for group in (w1, w2, w3, w4, w5, w6):
        for case in group():
            yield pytest.param(case, id=f"{group.__name__}: {case.name}")


CASES = [*cases()]

# ------------------------------------------------------------------ cuts, memory, one run


def cuts_of(stream: bytes, seed: str) -> list[int]:
    """Every offset up to 4 KiB; beyond, those of all headers and 256 by chance."""
    cuts = {*range(min(len(stream), CUTS_ALL) + 1)}
    if len(stream) > CUTS_ALL:
        for frame in frames_of(stream):
            cuts |= {n for n in range(frame.at, frame.at + 15) if n <= len(stream)}
        rng = random.Random(seed)
        cuts |= {rng.randrange(CUTS_ALL, len(stream)) for _ in range(CUTS_SEEDED)}
    return sorted(cuts)


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                     "uordblks", "fordblks", "keepcost")
    ]  # fmt: skip


@cache
def allocator() -> Any:
    """Return glibc's count of what is allocated, or ``None`` where there is none."""
    found = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if found is not None:
        found.restype = _Mallinfo
    return found


def allocated() -> int:
    """Return the bytes that C code holds: Python's small objects are elsewhere."""
    count = allocator()
    if count is None:
        return 0
    info = count()
    return int(info.uordblks + info.hblkhd)


@dataclass
class Run:
    messages: list[tuple[int, int, bytes]]
    """Opcode, size and first bytes of the first ones."""
    told: tuple[str, int]
    sent: bytes
    extra: int
    """Most bytes that were allocated beyond those of the new connection."""


def run(case: Case, is_server: bool, pieces: list[memoryview]) -> Run:
    """Feed a connection as a transport does, and look at the memory after each message and read,
    and as a client in front of each frame that is sent, the close with what led to it."""

    def draw(n: int) -> bytes:
        nonlocal peak
        peak = max(peak, allocated())
        return bytes(4)

    connection = case.connection(is_server, draw)
    messages = []
    base = peak = allocated()
    for piece in pieces:
        while piece and connection.state is not ConnectionState.CLOSED:
            window = connection.window()
            n = min(len(window), len(piece))
            window[:n] = piece[:n]
            piece = piece[n:]
            connection.received(n, 0)
            while (message := connection.next_message()) is not None:
                peak = max(peak, allocated())
                if len(messages) < 4:
                    messages.append((message[0], len(message[1]), bytes(message[1][:9])))
            peak = max(peak, allocated())
    assert connection.state is ConnectionState.CLOSED
    assert connection.next_message() is None
    assert connection.error is not None
    with pytest.raises(UsageError):
        connection.send(TEXT, b"a")
    told = (connection.error.code, connection.error.at)
    return Run(messages, told, connection.data_to_send(), peak - base)


def judge(case: Case, is_server: bool, result: Run) -> None:
    assert result.messages[0] == (TEXT, 4, b"good")
    wanted = case.error
    if wanted == "frame-masked" and is_server:
        wanted = "frame-unmasked"
    assert result.told[0] == wanted
    closes = [frame.payload for frame in frames_of(result.sent) if frame.opcode == CLOSE]
    assert closes == [case.close.to_bytes(2, "big")]
    assert result.extra <= case.message_max + ROOM


# ------------------------------------------------------------------ W1 to W6


@ROLES
@pytest.mark.parametrize("case", CASES)
def test_a_case_comes_to_the_same_end_at_every_cut(case: Case, is_server: bool) -> None:
    stream = memoryview(case.stream(is_server))
    whole = run(case, is_server, [stream])
    judge(case, is_server, whole)
    for cut in cuts_of(bytes(stream), case.name):
        result = run(case, is_server, [stream[:cut], stream[cut:]])
        judge(case, is_server, result)
        assert result.told == whole.told, cut
        assert result.messages == whole.messages, cut
    if len(stream) <= CUTS_ALL:
        single = [stream[n : n + 1] for n in range(len(stream))]
        result = run(case, is_server, single)
        judge(case, is_server, result)
        assert result.told == whole.told


@ROLES
def test_the_default_limits_hold_for_fragments_and_floods(is_server: bool) -> None:
    peer = Peer(is_server)
    fragments = peer.frame(TEXT, b"", head=0) + peer.frame(0, b"", head=0) * 65536
    flood = peer.frame(PING) * 1001
    for name, code, close, data in (
        ("fragments", "frame-fragments", 1009, fragments),
        ("flood", "frame-flood", 1008, flood),
    ):
        case = Case(name, code, close, lambda p, d=data: d)
        stream = memoryview(case.stream(is_server))
        rng = random.Random(name)
        for cut in [0, *(rng.randrange(len(stream)) for _ in range(8))]:
            judge(case, is_server, run(case, is_server, [stream[:cut], stream[cut:]]))


@pytest.mark.skipif(allocator() is None, reason="MEMORY NOT MEASURED: there is no mallinfo2")
def test_what_is_measured_is_the_memory_of_the_kernels() -> None:
    """A message of the limit takes its block, and a broken connection gives it back."""
    peer = Peer(False)
    case = Case("", "utf8", 1007, lambda p: b"")
    connection = case.connection(False)
    before = allocated()
    list(connection.receive(peer.frame(TEXT, bytes(CAP - 1), head=0)))
    assert CAP <= allocated() - before < CAP + ROOM
    list(connection.receive(peer.frame(0, b"\xff")))
    assert connection.error is not None
    assert allocated() - before < 4096
    bomb = Case("", "frame-too-big", 1009, lambda p: p.packed(deflated(bytes(1 << 20))), DEFLATE)
    assert run(bomb, False, [memoryview(bomb.stream(False))]).extra >= CAP


# ------------------------------------------------------------------ on a loop with others


class Wire(asyncio.Transport):
    """Takes what a protocol writes; is lost one turn of the loop after it is closed."""

    def __init__(self, protocol: WebSocket) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self.written = b""
        self.lost_at: float | None = None
        self._is_closing = False
        protocol.connection_made(self)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._lose)

    abort = close

    def _lose(self) -> None:
        self.lost_at = self._loop.time()
        self._protocol.connection_lost(None)

    def deliver(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._is_closing:
            room = memoryview(self._protocol.get_buffer(-1))
            n = min(len(room), len(view))
            room[:n] = view[:n]
            self._protocol.buffer_updated(n)
            view = view[n:]


EXTENSION = b"Sec-WebSocket-Extensions: permessage-deflate"


def request(*headers: bytes) -> bytes:
    lines = (
        b"GET / HTTP/1.1", b"Host: localhost", b"Upgrade: websocket", b"Connection: Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13", *headers,
    )  # fmt: skip
    return b"\r\n".join(lines) + b"\r\n\r\n"


def answer(asked: bytes, *headers: bytes, accept: bytes | None = None) -> bytes:
    lines = (
        b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + (accept or accept_key(key_of(asked))), *headers,
    )  # fmt: skip
    return b"\r\n".join(lines) + b"\r\n\r\n"


def open_wire(
    is_server: bool,
    take: Callable[[WebSocket, int, memoryview], object],
    deflation: Deflation | None = None,
    **limits: Any,
) -> Wire:
    """Return the wire of a connection whose upgrade was made."""
    parameters = [EXTENSION]
    if deflation is not None and not deflation.reads_context:
        side = b"client" if is_server else b"server"
        parameters[0] += b"; " + side + b"_no_context_takeover"
    headers = parameters if deflation is not None else []
    handshake: ServerHandshake | ClientHandshake
    if is_server:
        handshake = ServerHandshake(takes_deflate=True)
    else:
        handshake = ClientHandshake("ws://localhost/", offers_deflate=True)
    limits.setdefault("message_max", CAP)
    protocol = WebSocket(handshake, FakeSeam(), take, **limits)
    wire = Wire(protocol)
    wire.deliver(request(*headers) if is_server else answer(wire.written, *headers))
    assert protocol.opened.done()
    assert protocol.opened.exception() is None
    wire.written = b""
    return wire


async def beside_others(case: Case, is_server: bool) -> None:
    loop = asyncio.get_running_loop()
    peer = Peer(is_server)
    taken: list[list[bytes]] = [[], [], []]
    hostile: list[bytes] = []
    others = [
        open_wire(is_server, lambda ws, opcode, data, to=to: to.append(bytes(data))) for to in taken
    ]
    bad = open_wire(is_server, lambda ws, opcode, data: hostile.append(bytes(data)), **case.terms)
    stream = case.stream(is_server)
    step = len(stream) // 3 + 1
    sent: list[bytes] = []
    last = 0.0
    for n in range(6):
        text = b"message %d" % n
        sent.append(text)
        for wire in others:
            wire.deliver(peer.frame(TEXT, text))
        if piece := stream[n * step : (n + 1) * step]:
            last = loop.time()
            bad.deliver(piece)
        await asyncio.sleep(0.010)
    assert bad.lost_at is not None
    assert bad.lost_at - last <= CLOSED_WITHIN_S
    assert hostile[0] == b"good"
    closes = [frame.payload for frame in frames_of(bad.written) if frame.opcode == CLOSE]
    assert closes == [case.close.to_bytes(2, "big")]
    assert taken == [sent] * 3
    for wire in others:
        assert wire.lost_at is None
        assert wire.written == b""
        wire.close()
    await asyncio.sleep(0)


@ROLES
@pytest.mark.parametrize("case", CASES)
def test_a_case_ends_its_own_connection_at_once_and_others_lose_nothing(
    case: Case, is_server: bool
) -> None:
    simulate(beside_others(case, is_server))


# ------------------------------------------------------------------ W7: the upgrade

LONG = b"X: " + b"a" * 4000
BAD_REQUESTS = {
    "a head of more than 16 KiB": request(LONG, LONG, LONG, LONG, LONG),
    "a head that never ends": request()[:-2] + b"X: a\r\n" * 3000,
    "129 headers": request(*[b"X: a"] * 124),
    "no key": request().replace(b"Sec-WebSocket-Key", b"X"),
    "a key of 15 bytes": request().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j"),
    "a NUL in a value": request(b"X: a\0b"),
    "a CR in a value": request(b"X: a\rb"),
    "a LF in a name": request(b"X\nY: a"),
    "no host": request().replace(b"Host", b"X"),
    "version 8": request().replace(b"Version: 13", b"Version: 8"),
    "POST": request().replace(b"GET", b"POST"),
    "noise": random.Random(7).randbytes(64) + b"\r\n\r\n",
}
BAD_ANSWERS: dict[str, Callable[[bytes], bytes]] = {
    "a head of more than 16 KiB": lambda asked: answer(asked, LONG, LONG, LONG, LONG, LONG),
    "a head that never ends": lambda asked: answer(asked)[:-2] + b"X: a\r\n" * 3000,
    "129 headers": lambda asked: answer(asked, *[b"X: a"] * 126),
    "the accept key of another request": lambda asked: answer(
        asked, accept=b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    ),
    "an accept key in small letters": lambda asked: answer(
        asked, accept=accept_key(key_of(asked)).swapcase()
    ),
    "an accept key with more behind it": lambda asked: answer(
        asked, accept=accept_key(key_of(asked)) + b"="
    ),
    "an extension that was not offered": lambda asked: answer(asked, EXTENSION),
    "a subprotocol that was not offered": lambda asked: answer(
        asked, b"Sec-WebSocket-Protocol: chat"
    ),
    "a NUL in a value": lambda asked: answer(asked, b"X: a\0b"),
    "a CR in a value": lambda asked: answer(asked, b"X: a\rb"),
    "200": lambda asked: answer(asked).replace(b"101 Switching Protocols", b"200 OK"),
    "a redirect": lambda asked: b"HTTP/1.1 302 Found\r\nLocation: ws://evil/\r\n\r\n",
    "noise": lambda asked: random.Random(7).randbytes(64) + b"\r\n\r\n",
}


REFUSED = {"a redirect": "handshake-redirect", "": "handshake-refused"}


def refusal(handshake: ClientHandshake | ServerHandshake, pieces: list[bytes]) -> tuple[str, bytes]:
    """Return the error's name and what is answered."""
    for n, piece in enumerate(pieces):
        try:
            rest = handshake.receive(piece)
        except HandshakeError as error:
            is_server = isinstance(handshake, ServerHandshake)
            return error.code, handshake.answer() if is_server else b""
        assert rest is None, n
    raise AssertionError("no refusal")


class TestTheUpgrade:
    @pytest.mark.parametrize("name", BAD_REQUESTS)
    def test_a_bad_request_is_refused_with_an_answer_at_every_cut(self, name: str) -> None:
        head = BAD_REQUESTS[name]
        whole = refusal(ServerHandshake(), [head])
        assert whole[0] == ("handshake-head" if "head" in name else "handshake-refused")
        assert whole[1].startswith(b"HTTP/1.1 4")
        for cut in cuts_of(head, name) if len(head) < CUTS_ALL else range(0, len(head), 61):
            assert refusal(ServerHandshake(), [head[:cut], head[cut:]])[0] == whole[0], cut

    @pytest.mark.parametrize("name", BAD_ANSWERS)
    def test_a_bad_answer_is_refused_at_every_cut(self, name: str) -> None:
        def attempt(*cuts: int) -> str:
            handshake = ClientHandshake("ws://localhost/")
            head = BAD_ANSWERS[name](handshake.request())
            edges = [0, *cuts, len(head)]
            pieces = [head[a:b] for a, b in pairwise(edges)]
            return refusal(handshake, pieces)[0]

        size = len(BAD_ANSWERS[name](ClientHandshake("ws://localhost/").request()))
        whole = attempt()
        assert whole == ("handshake-head" if "head" in name else REFUSED.get(name, REFUSED[""]))
        for cut in range(0, size + 1, 1 if size < 1024 else 61):
            assert attempt(cut) == whole, cut

    def test_no_more_than_a_head_is_kept(self) -> None:
        handshake = ServerHandshake()
        before = allocated()
        assert refusal(handshake, [b"X: a\r\n"] * HEAD_MAX)[0] == "handshake-head"
        assert allocated() - before < 4 * HEAD_MAX

    @ROLES
    @pytest.mark.parametrize("every_s", [0.5, 2.0, 9.0])
    def test_a_slow_drip_ends_10_s_after_the_beginning(
        self, is_server: bool, every_s: float
    ) -> None:
        async def drip() -> None:
            loop = asyncio.get_running_loop()
            began = loop.time()
            handshake: ServerHandshake | ClientHandshake
            handshake = ServerHandshake() if is_server else ClientHandshake("ws://localhost/")
            protocol = WebSocket(handshake, FakeSeam(), lambda *what: None)
            wire = Wire(protocol)
            head = request() if is_server else answer(wire.written)
            for at in range(len(head)):
                if wire.lost_at is not None:
                    break
                wire.deliver(head[at : at + 1])
                await asyncio.sleep(every_s)
            assert wire.lost_at is not None
            assert wire.lost_at - began == pytest.approx(10.0, abs=0.05)
            error = protocol.opened.exception()
            assert isinstance(error, HandshakeError)
            assert error.code == "handshake-late"

        simulate(drip())

    @pytest.mark.parametrize("bad", ["\r", "\n", "\0", "a\r\nX: b"])
    def test_no_line_break_or_nul_leaves_us(self, bad: str) -> None:
        for headers in ({"X": f"a{bad}"}, {f"X{bad}": "a"}):
            with pytest.raises(UsageError):
                ClientHandshake("ws://localhost/", headers)
        with pytest.raises(UsageError):
            ClientHandshake(f"ws://localhost/{bad}")
        with pytest.raises(UsageError):
            ServerHandshake(token=f"a{bad}")


# ------------------------------------------------------------------ in real time


async def measure() -> None:
    """Send every case to a server over loopback; tell how long its connections then live."""
    loop = asyncio.get_running_loop()
    limits: dict[str, Any] = {}

    def serve() -> WebSocket:
        handshake = ServerHandshake(takes_deflate=True)
        return WebSocket(handshake, System(), lambda *what: None, **limits)

    server = await loop.create_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    took: list[tuple[float, str]] = []
    for parameters in CASES:
        case: Case = parameters.values[0]
        terms = {"message_max": CAP, **case.terms}
        deflation = terms.pop("deflation", None)
        limits = terms
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(*([EXTENSION] if deflation else [])))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(case.stream(is_server=True))
        began = loop.time()
        with contextlib.suppress(ConnectionResetError):  # it ends while we still write
            await reader.read()
        took.append((loop.time() - began, str(parameters.id)))
        writer.close()
    server.close()
    took.sort()
    print(f"{len(took)} cases, closed within {took[-1][0] * 1e3:.1f} ms ({took[-1][1]}), "
          f"half of them within {took[len(took) // 2][0] * 1e3:.2f} ms")  # fmt: skip


if __name__ == "__main__":
    asyncio.run(measure())
