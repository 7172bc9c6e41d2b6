"""Cases written from RFC 6455 and RFC 7692, in both roles, whole and byte by byte.

They go the way of the Autobahn suite (its groups 1-7, 9, 10, 12, 13) without needing it: each tells
what comes, what is handed out of it, what is sent back, and how it ends.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from crosswire.codec import mask, read_header
from crosswire.connection import Connection, ConnectionState, Opcode
from crosswire.errors import UsageError
from crosswire.handshake import Deflation

FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"\x37\xfa\x21\x3d"
BEHIND = b"\x81\x01x" * 3 + b"\xff" * 20  # what comes behind the end, and is not looked at

Event = tuple[int, bytes]


@dataclass(frozen=True)
class Frame:
    """One frame that comes, masked where it comes to a server.

    Attributes:
        first: its first byte.
        says: the length in its header, where that is not the payload's.
        form: the length's bits: 7, 16 or 64; ``None``: the shortest.
    """

    first: int
    payload: bytes = b""
    says: int | None = None
    form: int | None = None

    def wire(self, role: str) -> bytes:
        n = len(self.payload) if self.says is None else self.says
        form = self.form or (7 if n < 126 else 16 if n < 65536 else 64)
        short = n if form == 7 else 126 if form == 16 else 127
        long = b"" if form == 7 else n.to_bytes(form // 8, "big")
        if role == "client":
            return bytes((self.first, short)) + long + self.payload
        payload = bytearray(self.payload)
        mask(payload, KEY)
        return bytes((self.first, 0x80 | short)) + long + KEY + payload


@dataclass(frozen=True)
class Case:
    """What comes and what has to come of it.

    Attributes:
        section: of RFC 6455, or of RFC 7692 where it says so.
        error: its name where the protocol is broken; the close code is then the last of ``sent``.
        at: index of the frame, and of the byte in its payload, that is told as wrong; nothing
            behind that byte is needed to tell.
    """

    section: str
    what: str
    frames: list[Frame]
    events: list[Event] = field(default_factory=list)
    sent: list[Event] = field(default_factory=list)
    error: str | None = None
    at: tuple[int, int] | None = None
    deflation: Deflation | None = None
    limits: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.section} {self.what}".replace(" ", "-")


def text(payload: bytes | str) -> Frame:
    return Frame(FIN | TEXT, payload.encode() if isinstance(payload, str) else payload)


def binary(payload: bytes) -> Frame:
    return Frame(FIN | BINARY, payload)


def ping(payload: bytes = b"") -> Frame:
    return Frame(FIN | PING, payload)


def pong(payload: bytes = b"") -> Frame:
    return Frame(FIN | PONG, payload)


def close(payload: bytes = b"") -> Frame:
    return Frame(FIN | CLOSE, payload)


def fragments(opcode: int, *parts: bytes, bits: int = 0) -> list[Frame]:
    """Return one message in as many frames as there are parts."""
    last = len(parts) - 1
    return [
        Frame((FIN if n == last else 0) | (0 if n else opcode | bits), part)
        for n, part in enumerate(parts)
    ]


def broken(error: str, code: int) -> dict[str, Any]:
    """Return how a case ends where the protocol is broken, and no more."""
    return {"error": error, "sent": [(CLOSE, code.to_bytes(2, "big"))]}


# ------------------------------------------------------------------ sections 5.2 to 5.6: frames

SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 100_000]


def framing() -> Iterator[Case]:
    for n in SIZES:
        yield Case("5.2", f"text of {n}", [text(b"*" * n)], [(TEXT, b"*" * n)])
        yield Case("5.2", f"binary of {n}", [binary(b"\xfe" * n)], [(BINARY, b"\xfe" * n)])
    yield Case("5.2", "messages one behind the other", [text("a"), binary(b"\xff"), text("")],
               [(TEXT, b"a"), (BINARY, b"\xff"), (TEXT, b"")])  # fmt: skip
    for n, form in ((0, 16), (125, 16), (0, 64), (125, 64), (126, 64), (65535, 64)):
        yield Case("5.2", f"length {n} in {form} bits", [binary(b""), Frame(
            FIN | BINARY, bytes(n), form=form)], [(BINARY, b"")],
            **broken("frame-length-form", 1002))  # fmt: skip
    for says in (1 << 63, (1 << 64) - 1):
        yield Case("5.2", f"length {says}", [Frame(FIN | BINARY, says=says)],
                   **broken("frame-length-form", 1002))  # fmt: skip
    for bits in range(RSV3, FIN, RSV3):
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
            yield Case("5.2", f"reserved bits {bits >> 4} of opcode {opcode}",
                       [text("good"), Frame(FIN | bits | opcode, b"")], [(TEXT, b"good")],
                       **broken("frame-reserved-bits", 1002))  # fmt: skip
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"payload"):
            yield Case("5.2", f"opcode {opcode} with {len(payload)} bytes",
                       [text("good"), Frame(FIN | opcode, payload), ping()], [(TEXT, b"good")],
                       **broken("frame-opcode", 1002))  # fmt: skip


def fragmentation() -> Iterator[Case]:
    hello = (TEXT, b"fragment1fragment2")
    two = fragments(TEXT, b"fragment1", b"fragment2")
    yield Case("5.4", "two fragments", two, [hello])
    yield Case("5.4", "fragments of nothing", fragments(TEXT, b"", b"", b""), [(TEXT, b"")])
    yield Case("5.4", "fragments with nothing around", fragments(BINARY, b"", b"\xff", b""),
               [(BINARY, b"\xff")])  # fmt: skip
    yield Case("5.4", "a ping in between", [two[0], ping(b"now"), two[1]],
               [(PING, b"now"), hello], [(PONG, b"now")])  # fmt: skip
    yield Case("5.4", "pings and pongs in between, and a message behind",
               [two[0], ping(b"1"), pong(b"2"), ping(b"3"), two[1], text("next")],
               [(PING, b"1"), (PONG, b"2"), (PING, b"3"), hello, (TEXT, b"next")],
               [(PONG, b"1"), (PONG, b"3")])  # fmt: skip
    yield Case("5.4", "a close in between", [two[0], close(b"\x03\xe8"), two[1]],
               [(CLOSE, b"\x03\xe8")], [(CLOSE, b"\x03\xe8")])  # fmt: skip
    for size in (1, 13, 1300, 20_000):
        whole = bytes(range(256)) * 256
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
        yield Case("5.4", f"65536 bytes in fragments of {size}", fragments(BINARY, *parts),
                   [(BINARY, whole)], limits={"fragments_max": 65536})  # fmt: skip
    wrong = broken("frame-continuation", 1002)
    yield Case("5.4", "a final continuation of nothing", [Frame(FIN, b"x")], **wrong)
    yield Case("5.4", "a continuation of nothing", [Frame(0, b"x"), text("y")], **wrong)
    yield Case("5.4", "a continuation behind a whole message", [text("a"), Frame(FIN, b"x")],
               [(TEXT, b"a")], **wrong)  # fmt: skip
    yield Case("5.4", "a continuation behind a whole fragmented one", [*two, Frame(0, b"x")],
               [hello], **wrong)  # fmt: skip
    yield Case("5.4", "a message inside another", [two[0], text("b")], **wrong)
    yield Case("5.4", "a fragmented message inside another", [two[0], *two], **wrong)
    for opcode in (CLOSE, PING, PONG):
        yield Case("5.5", f"opcode {opcode} in fragments", [Frame(opcode, b""), Frame(FIN)],
                   **broken("frame-control-fragmented", 1002))  # fmt: skip


def controls() -> Iterator[Case]:
    for payload in (b"", b"payload", b"\x00\xff\xfe\xfd", b"\xfe" * 125):
        yield Case("5.5.2", f"ping of {len(payload)}", [ping(payload)], [(PING, payload)],
                   [(PONG, payload)])  # fmt: skip
    for opcode in (CLOSE, PING, PONG):
        for n, form in ((126, 16), (65536, 64), (5, 16), (5, 64)):
            yield Case("5.5", f"opcode {opcode} with a length of {form} bits, {n}",
                       [Frame(FIN | opcode, bytes(n), form=form)],
                       **broken("frame-control-too-long", 1002))  # fmt: skip
    many = [b"payload-%d" % n for n in range(10)]
    yield Case("5.5.2", "ten pings", [ping(one) for one in many], [(PING, one) for one in many],
               [(PONG, one) for one in many])  # fmt: skip
    yield Case("5.5.3", "pongs that nobody asked for", [pong(), pong(b"x"), ping(b"y"), pong(b"y")],
               [(PONG, b""), (PONG, b"x"), (PING, b"y"), (PONG, b"y")], [(PONG, b"y")])  # fmt: skip


# ------------------------------------------------------------------ section 8.1: UTF-8

GOOD_TEXT = [
    "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\0", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000",
    "\ufdd0", "\ufffd", "\ufffe", "\uffff", "\U00010000", "\U0001fffe", "\U0001ffff", "\U0003ffff",
    "\U0010fffe", "\U0010ffff", "\ufeff",
]  # fmt: skip
BAD_TEXT = [  # and the byte that is wrong
    (b"\x80", 0), (b"\xbf", 0), (b"a\x80\xbf\x80", 1), (b"\xc0\x80", 0), (b"\xc0\xaf", 0),
    (b"\xc1\xbf", 0), (b"\xc2 ", 1), (b"\xdf\xc0", 1), (b"\xe0\x80\xaf", 1), (b"\xe0\x9f\xbf", 1),
    (b"\xe1 ", 1), (b"\xe1\x80 ", 2), (b"\xed\xa0\x80", 1), (b"\xed\xad\xbf", 1),
    (b"\xed\xb0\x80", 1), (b"\xed\xbf\xbf", 1), (b"\xf0\x80\x80\xaf", 1), (b"\xf0\x8f\xbf\xbf", 1),
    (b"\xf1\x80\x80 ", 3), (b"\xf1\x80\x80\xc0", 3), (b"\xf4\x90\x80\x80", 1),
    (b"\xf5\x80\x80\x80", 0), (b"\xf8\x88\x80\x80\x80", 0), (b"\xfc\x84\x80\x80\x80\x80", 0),
    (b"\xfe", 0), (b"\xff", 0),
    ("κόσμε".encode() + b"\xed\xa0\x80edited", 11),
    ("κόσμε".encode() + b"\xf4\x90\x80\x80edited", 11),
]  # fmt: skip
CUT_TEXT = [
    b"\xce",
    "κ".encode() + b"\xe1\xbd",
    b"\xf0",
    b"\xf0\x9f\x98",
    b"\xf4\x8f\xbf",
    b"a\xc2",
]


def utf8() -> Iterator[Case]:
    for good in GOOD_TEXT:
        data = good.encode()
        name = data.hex()
        yield Case("8.1", f"text {name}", [text(data)], [(TEXT, data)])
        yield Case("8.1", f"text {name} byte by byte in fragments",
                   fragments(TEXT, *(bytes((byte,)) for byte in data), b""),
                   [(TEXT, data)])  # fmt: skip
        yield Case("8.1", f"text {name} with a ping in it",
                   [Frame(TEXT, data[:1]), ping(b"\xff"), Frame(FIN, data[1:])],
                   [(PING, b"\xff"), (TEXT, data)], [(PONG, b"\xff")])  # fmt: skip
    wrong = broken("utf8", 1007)
    for bad, at in BAD_TEXT:
        for before in (b"", b"x" * 61, "ż".encode() * 40):
            whole = before + bad
            yield Case("8.1", f"text {bad.hex()} behind {len(before)}",
                       [text("good"), text(whole + b"z" * 300)], [(TEXT, b"good")], **wrong,
                       at=(1, len(before) + at))  # fmt: skip
        parts = [*(bytes((byte,)) for byte in bad), b"z"]
        yield Case("8.1", f"text {bad.hex()} byte by byte in fragments", fragments(TEXT, *parts),
                   **wrong, at=(at, 0))  # fmt: skip
        yield Case("8.1", f"text {bad.hex()} in an unfinished message", [Frame(TEXT, bad)],
                   **wrong, at=(0, at))  # fmt: skip
        yield Case("8.1", f"binary {bad.hex()}", [binary(bad)], [(BINARY, bad)])
        yield Case("5.5.1", f"close with reason {bad.hex()}", [close(b"\x03\xe8" + bad)], **wrong)
    for cut in CUT_TEXT:
        yield Case("8.1", f"text {cut.hex()} that ends inside a character", [text(cut)], **wrong)
        yield Case("8.1", f"text {cut.hex()} that ends so in fragments",
                   fragments(TEXT, b"a", cut, b""), **wrong)  # fmt: skip
        yield Case("5.5.1", f"close with reason {cut.hex()}", [close(b"\x03\xe8" + cut)], **wrong)


# ------------------------------------------------------------------ sections 5.5.1 and 7: the end

GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
              4000, 4999]  # fmt: skip
BAD_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def endings() -> Iterator[Case]:
    yield Case("5.5.1", "close of nothing", [close(), text("late")], [(CLOSE, b"")], [(CLOSE, b"")])
    yield Case("5.5.1", "close of one byte", [close(b"\x03")], **broken("frame-close", 1002))
    for reason in ("", "w dół", "*" * 123):
        payload = b"\x03\xe8" + reason.encode()
        yield Case("5.5.1", f"close with a reason of {len(reason.encode())}", [close(payload)],
                   [(CLOSE, payload)], [(CLOSE, b"\x03\xe8")])  # fmt: skip
    yield Case("5.5", "close with a reason of 124", [close(b"\x03\xe8" + b"*" * 124)],
               **broken("frame-control-too-long", 1002))  # fmt: skip
    for code in GOOD_CODES:
        two = code.to_bytes(2, "big")
        yield Case("7.4", f"close code {code}", [close(two)], [(CLOSE, two)], [(CLOSE, two)])
    for code in BAD_CODES:
        for reason in (b"", b"reason"):
            yield Case("7.4", f"close code {code} with {len(reason)}",
                       [close(code.to_bytes(2, "big") + reason)],
                       **broken("frame-close", 1002))  # fmt: skip
    for late in (text("late"), ping(b"late"), close(b"\x03\xe9"), Frame(FIN | RSV2 | 15, b"late")):
        yield Case("5.5.1", f"opcode {late.first & 15} behind the close",
                   [text("a"), close(b"\x03\xe8"), late], [(TEXT, b"a"), (CLOSE, b"\x03\xe8")],
                   [(CLOSE, b"\x03\xe8")])  # fmt: skip
    yield Case("5.5.1", "close behind pings", [ping(b"1"), ping(b"2"), close()],
               [(PING, b"1"), (PING, b"2"), (CLOSE, b"")],
               [(PONG, b"1"), (PONG, b"2"), (CLOSE, b"")])  # fmt: skip


# ------------------------------------------------------------------ section 10.4: limits


def limits() -> Iterator[Case]:
    some = {"message_max": 1000, "fragments_max": 4, "controls_max": 3}
    big = broken("frame-too-big", 1009)
    yield Case("10.4", "message of the limit", [binary(bytes(1000))], [(BINARY, bytes(1000))],
               limits=some)  # fmt: skip
    for says in (1001, 65536, 1 << 32, (1 << 63) - 1):
        yield Case("10.4", f"frame that says {says}", [Frame(FIN | BINARY, says=says)],
                   **big, limits=some)  # fmt: skip
        yield Case("10.4", f"last fragment that says {says}",
                   [Frame(BINARY, b"a"), Frame(FIN, says=says)], **big, limits=some)  # fmt: skip
    yield Case("10.4", "fragments of the limit together", fragments(BINARY, *[bytes(250)] * 4),
               [(BINARY, bytes(1000))], limits=some)  # fmt: skip
    yield Case("10.4", "fragments above the limit together", fragments(BINARY, bytes(600),
               bytes(401)), **big, limits=some)  # fmt: skip
    yield Case("10.4", "too many fragments", fragments(BINARY, *[b""] * 5),
               **broken("frame-fragments", 1009), limits=some)  # fmt: skip
    yield Case("10.4", "pings of the limit", [ping()] * 3, [(PING, b"")] * 3, [(PONG, b"")] * 3,
               limits=some)  # fmt: skip
    yield Case("10.4", "too many pings in a second", [ping()] * 4, [(PING, b"")] * 3,
               [*[(PONG, b"")] * 3, (CLOSE, b"\x03\xf0")], "frame-flood", limits=some)  # fmt: skip
    for bomb in (bytes(1001), bytes(1 << 20)):
        yield Case("10.4", f"compressed message of {len(bomb)}",
                   [Frame(FIN | RSV1 | BINARY, deflated(bomb)[0])], **big, limits=some,
                   deflation=Deflation())  # fmt: skip
    yield Case("10.4", "compressed message of the limit",
               [Frame(FIN | RSV1 | BINARY, deflated(bytes(1000))[0])], [(BINARY, bytes(1000))],
               limits=some, deflation=Deflation())  # fmt: skip


# ------------------------------------------------------------------ RFC 7692


def deflated(*messages: bytes, bits: int = 15, keeps_context: bool = True) -> list[bytes]:
    """Return messages as section 7.2.1 has them: a sync flush each, its last four octets gone."""
    found = []
    work = zlib.compressobj(9, zlib.DEFLATED, -bits)
    for message in messages:
        if not keeps_context:
            work = zlib.compressobj(9, zlib.DEFLATED, -bits)
        data = work.compress(message) + work.flush(zlib.Z_SYNC_FLUSH)
        found.append(data.removesuffix(b"\0\0\xff\xff"))
    return found


HELLO = bytes.fromhex("f248cdc9c90700")  # the examples of section 7.2.3
HELLO_AGAIN = bytes.fromhex("f200110000")
HELLO_STORED = bytes.fromhex("000500faff48656c6c6f00")
HELLO_FINAL = bytes.fromhex("f348cdc9c9070000")
HELLO_IN_TWO = bytes.fromhex("f248050000 00ffffcac9c90700")
COMPRESSED = FIN | RSV1 | TEXT


def deflate() -> Iterator[Case]:
    rfc, hello = "RFC 7692 7.2.3", (TEXT, b"Hello")
    terms = {"deflation": Deflation()}
    for section, what, data in (
        ("1", "one block", HELLO), ("3", "a block without compression", HELLO_STORED),
        ("4", "a block with BFINAL", HELLO_FINAL), ("5", "two blocks", HELLO_IN_TWO),
    ):  # fmt: skip
        yield Case(f"{rfc}.{section}", what, [Frame(COMPRESSED, data)] * 3, [hello] * 3, **terms)
        for cut in range(1, len(data)):
            yield Case(f"{rfc}.{section}", f"{what} in fragments cut at {cut}",
                       fragments(TEXT, data[:cut], data[cut:], bits=RSV1), [hello],
                       **terms)  # fmt: skip
    yield Case(f"{rfc}.1", "fragments with a ping in between",
               [Frame(RSV1 | TEXT, HELLO[:3]), ping(b"f"), Frame(FIN, HELLO[3:])],
               [(PING, b"f"), hello], [(PONG, b"f")], **terms)  # fmt: skip
    yield Case(f"{rfc}.2", "the window of the message before",
               [Frame(COMPRESSED, HELLO), Frame(COMPRESSED, HELLO_AGAIN)], [hello] * 2,
               **terms)  # fmt: skip
    yield Case("RFC 7692 7.1.1.1", "the window where none is kept",
               [Frame(COMPRESSED, HELLO), Frame(COMPRESSED, HELLO_AGAIN)], [hello],
               **broken("inflate", 1007), deflation=Deflation(reads_context=False))  # fmt: skip
    yield Case(f"{rfc}.6", "an empty message", [Frame(COMPRESSED, b"\0")] * 2, [(TEXT, b"")] * 2,
               **terms)  # fmt: skip
    yield Case("RFC 7692 6", "messages that are not compressed in between",
               [Frame(COMPRESSED, HELLO), text("plain"), Frame(COMPRESSED, HELLO_AGAIN)],
               [hello, (TEXT, b"plain"), hello], **terms)  # fmt: skip
    for bits in range(9, 16):
        for keeps in (True, False):
            messages = [b"%d %s" % (n, b"ticker" * 3000) for n in range(5)]
            both = deflated(*messages, bits=bits, keeps_context=keeps)
            yield Case("RFC 7692 7.1.2",
                       f"window of {bits} bits, {'kept' if keeps else 'not kept'}",
                       [Frame(COMPRESSED, data) for data in both],
                       [(TEXT, message) for message in messages],
                       deflation=Deflation(read_bits=bits, reads_context=keeps))  # fmt: skip
    yield Case("RFC 7692 5", "RSV1 of a control frame", [Frame(FIN | RSV1 | PING)],
               **broken("frame-reserved-bits", 1002), **terms)  # fmt: skip
    yield Case("RFC 7692 6.1", "RSV1 of a continuation",
               [Frame(RSV1 | TEXT, HELLO[:3]), Frame(FIN | RSV1, HELLO[3:])],
               **broken("frame-reserved-bits", 1002), **terms)  # fmt: skip
    for bits in (RSV2, RSV3, RSV1 | RSV2):
        yield Case("RFC 7692 6", f"reserved bits {bits >> 4}", [Frame(FIN | bits | TEXT, HELLO)],
                   **broken("frame-reserved-bits", 1002), **terms)  # fmt: skip
    for what, data in (
        ("of another kind", b"\xff\xff\xff"), ("cut off", HELLO[:4]),
        ("of block type 3", b"\x07"), ("that refers to before its window", HELLO_AGAIN),
    ):  # fmt: skip
        yield Case("RFC 7692 7.2.2", f"data {what}", [Frame(COMPRESSED, data)],
                   **broken("inflate", 1007), **terms)  # fmt: skip
    yield Case("RFC 7692 7.2.2", "text that is not UTF-8",
               [Frame(COMPRESSED, deflated(b"ok\xff")[0])], **broken("utf8", 1007),
               **terms)  # fmt: skip


# ------------------------------------------------------------------ the run

CASES = [*framing(), *fragmentation(), *controls(), *utf8(), *endings(), *limits(), *deflate()]
roles = pytest.mark.parametrize("role", ["server", "client"])


def connection(role: str, case: Case) -> Connection:
    return Connection(
        is_server=role == "server",
        random_bytes=bytes,
        deflation=case.deflation,
        **case.limits,
    )


def frames_of(data: bytes, role: str) -> list[Event]:
    """Take apart what was sent by one of this role."""
    found = []
    while data:
        header = read_header(data, is_server=role == "client")
        assert header is not None
        opcode, is_final, header_len, payload_len, key = header
        assert is_final
        payload = bytearray(data[header_len : header_len + payload_len])
        if key is not None:
            mask(payload, key)
        found.append((opcode, bytes(payload)))
        data = data[header_len + payload_len :]
    return found


def cut(data: bytes) -> list[bytes]:
    """Return single bytes; in the middle of much data 997 of them together."""
    edge = len(data) // 2 if len(data) < 8192 else 1024
    middle = data[edge : len(data) - edge]
    return [
        *(bytes((byte,)) for byte in data[:edge]),
        *(middle[at : at + 997] for at in range(0, len(middle), 997)),
        *(bytes((byte,)) for byte in data[len(data) - edge :]),
    ]


def feed(subject: Connection, pieces: Iterable[bytes]) -> tuple[list[Event], bytes, int | None]:
    """Give bytes; return what was handed out, what was sent, and behind how many it was over."""
    events: list[Event] = []
    sent = bytearray()
    taken, over_at = 0, None
    for piece in pieces:
        events += [(opcode, bytes(payload)) for opcode, payload in subject.receive(piece)]
        sent += subject.data_to_send()
        taken += len(piece)
        if over_at is None and subject.state is ConnectionState.CLOSED:
            over_at = taken
    return events, bytes(sent), over_at


@roles
@pytest.mark.parametrize("size", [0, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_comes_is_taken_as_the_section_says(case: Case, size: int, role: str) -> None:
    parts = [frame.wire(role) for frame in case.frames]
    data = b"".join(parts)
    is_over = case.error is not None or any(opcode == CLOSE for opcode, _ in case.events)
    data += BEHIND if is_over else b""
    pieces = cut(data) if size else [data]
    subject = connection(role, case)
    events, sent, over_at = feed(subject, pieces)
    assert events == case.events
    assert frames_of(sent, role) == case.sent
    assert (subject.error and subject.error.code) == case.error
    assert subject.state is (ConnectionState.CLOSED if is_over else ConnectionState.OPEN)
    if case.error is not None:
        assert subject.close_code is None  # the peer has sent none
    if case.at is not None:
        number, offset = case.at
        header_len = len(parts[number]) - len(case.frames[number].payload)
        wrong_at = len(b"".join(parts[:number])) + header_len + offset
        assert over_at == (wrong_at + 1 if size else len(data))


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 500


class TestTheExamplesOfSection57:
    """Their octets as they stand in RFC 6455."""

    @pytest.mark.parametrize(
        ("role", "octets", "events"),
        [
            ("client", "81 05 48 65 6c 6c 6f", [(TEXT, b"Hello")]),
            ("server", "81 85 37 fa 21 3d 7f 9f 4d 51 58", [(TEXT, b"Hello")]),
            ("client", "01 03 48 65 6c 80 02 6c 6f", [(TEXT, b"Hello")]),
            ("client", "89 05 48 65 6c 6c 6f", [(PING, b"Hello")]),
            ("server", "8a 85 37 fa 21 3d 7f 9f 4d 51 58", [(PONG, b"Hello")]),
            ("client", "82 7e 01 00" + "aa" * 256, [(BINARY, b"\xaa" * 256)]),
            ("client", "82 7f 00 00 00 00 00 01 00 00" + "aa" * 65536, [(BINARY, b"\xaa" * 65536)]),
        ],
    )
    def test_they_are_read(self, role: str, octets: str, events: list[Event]) -> None:
        subject = Connection(is_server=role == "server", random_bytes=bytes)
        assert feed(subject, [bytes.fromhex(octets)])[0] == events

    def test_they_are_written(self) -> None:
        server = Connection(is_server=True)
        client = Connection(is_server=False, random_bytes=lambda n: KEY * (n // 4))
        for subject, octets in (
            (server, "81 05 48 65 6c 6c 6f"),
            (client, "81 85 37 fa 21 3d 7f 9f 4d 51 58"),
        ):
            subject.send(TEXT, b"Hello")
            assert subject.data_to_send() == bytes.fromhex(octets)
        server.send(TEXT, b"Hel", is_final=False)
        server.send(TEXT, b"lo")
        assert server.data_to_send() == bytes.fromhex("01 03 48 65 6c 80 02 6c 6f")
        server.ping(b"Hello")
        assert server.data_to_send() == bytes.fromhex("89 05 48 65 6c 6c 6f")
        client.pong(b"Hello")
        assert client.data_to_send() == bytes.fromhex("8a 85 37 fa 21 3d 7f 9f 4d 51 58")
        for n, head in ((256, "82 7e 01 00"), (65536, "82 7f 00 00 00 00 00 01 00 00")):
            server.send(BINARY, b"\xaa" * n)
            assert server.data_to_send() == bytes.fromhex(head) + b"\xaa" * n


class TestMasking:
    """Section 5.1."""

    def test_a_server_refuses_a_frame_without_a_mask(self) -> None:
        subject = Connection(is_server=True)
        assert feed(subject, [text("x").wire("client")])[:2] == ([], b"\x88\x02\x03\xea")
        assert subject.error is not None
        assert subject.error.code == "frame-unmasked"

    def test_a_client_refuses_a_frame_with_one(self) -> None:
        subject = Connection(is_server=False, random_bytes=bytes)
        events, sent, _ = feed(subject, [text("x").wire("server")])
        assert (events, frames_of(sent, "client")) == ([], [(CLOSE, b"\x03\xea")])
        assert subject.error is not None
        assert subject.error.code == "frame-masked"


class TestTheEndWeBegin:
    """Sections 5.5.1 and 7.1."""

    @roles
    @pytest.mark.parametrize("code", GOOD_CODES)
    def test_the_answer_ends_it(self, role: str, code: int) -> None:
        subject = Connection(is_server=role == "server", random_bytes=bytes)
        subject.close(code, "w dół")
        payload = code.to_bytes(2, "big") + "w dół".encode()
        assert frames_of(subject.data_to_send(), role) == [(CLOSE, payload)]
        assert subject.state is ConnectionState.CLOSING
        late = [text("still under way"), ping(b"x"), close(code.to_bytes(2, "big"))]
        events, sent, _ = feed(subject, [frame.wire(role) for frame in late])
        assert [opcode for opcode, _ in events] == [TEXT, PING, CLOSE]
        assert sent == b""  # nothing is sent behind a close
        assert (subject.state, subject.close_code) == (ConnectionState.CLOSED, code)

    @roles
    @pytest.mark.parametrize("code", BAD_CODES)
    def test_a_code_that_may_not_be_sent_is_refused(self, role: str, code: int) -> None:
        subject = Connection(is_server=role == "server", random_bytes=bytes)
        with pytest.raises(UsageError):
            subject.close(code)
        assert (subject.data_to_send(), subject.state) == (b"", ConnectionState.OPEN)

    @roles
    def test_a_broken_protocol_behind_our_close_is_not_answered(self, role: str) -> None:
        subject = Connection(is_server=role == "server", random_bytes=bytes)
        subject.close()
        subject.data_to_send()
        events, sent, _ = feed(subject, [Frame(FIN | 15).wire(role)])
        assert (events, sent, subject.state) == ([], b"", ConnectionState.CLOSED)

    @roles
    def test_a_stream_that_ends_without_a_close_is_1006_and_a_close_without_a_code_1005(
        self, role: str
    ) -> None:
        subject = Connection(is_server=role == "server", random_bytes=bytes)
        subject.receive_eof()
        assert subject.close_code == 1006
        subject = Connection(is_server=role == "server", random_bytes=bytes)
        feed(subject, [close().wire(role)])
        assert subject.close_code == 1005


class TestCompressedRoundTrips:
    """What one end sends, the other reads: RFC 7692 section 7, every window, kept or not."""

    @roles
    @pytest.mark.parametrize("keeps_context", [True, False], ids=["kept", "not-kept"])
    @pytest.mark.parametrize("bits", range(8, 16))
    def test_they_give_the_messages_back(self, role: str, bits: int, keeps_context: bool) -> None:
        other = "client" if role == "server" else "server"
        ours = Deflation(write_bits=bits, writes_context=keeps_context)
        theirs = Deflation(read_bits=bits, reads_context=keeps_context)
        sender = Connection(is_server=role == "server", random_bytes=bytes, deflation=ours)
        reader = Connection(is_server=other == "server", random_bytes=bytes, deflation=theirs)
        messages = [b"", b"x", b"ticker " * 5000, bytes(range(256)) * 300, b"x", b""]
        for message in messages:
            sender.send(BINARY, message)
        events, sent, _ = feed(reader, [sender.data_to_send()])
        assert (events, sent) == ([(BINARY, message) for message in messages], b"")


def test_the_opcodes_here_are_those_of_the_package() -> None:
    assert list(Opcode) == [TEXT, BINARY, CLOSE, PING, PONG]
