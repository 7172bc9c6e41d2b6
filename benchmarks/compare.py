"""Compare crosswire with other libraries: `python -m benchmarks.compare [--only NAME] [--json]`.

Every row times ours and one peer in one process on the thread's CPU clock, in short windows by
turns, and gives the median ratio of neighbouring windows (peer / ours: how many times cheaper
ours is) with a bootstrap 95 % interval. The rows:

=========================  =====================================================================
decode/KIND/PEER           server frames to QUOTE or TRADE rows, against a peer's decoder
pipeline/signal/PEER       8 venues, tops and crosses net of fees, 64 messages a read
pipeline/signal-single/..  the same with one message a read
receive/loopback/PEER      150-byte text frames from a firehose, frames only
receive/loopback-*/PEER    the same with binary frames, with other reads, or decoded further
receive/tls-ENGINE/PEER    the same over TLS, a record a frame, bytes counted: what TLS costs
handshake/tls-VERSION-*/.. a connect that resumes a TLS session, beside one that does not
rest/order-*/http*/LOOP    an order over HTTP and TLS: p50 of the round trip, or CPU
rest/order-*-apart/..      the same, where client and server have a processor each
rest/limiter/WHAT          a limiter where nobody has to wait, beside aiolimiter
rest/reconnect/LOOP        an order on a new connection that resumes TLS, beside one that does not
wake/tls/LOOP              CPU of one TLS message a wake, less what receiving alone takes
wake/line/null             CPU of one message a wake, beside a protocol that only counts bytes
wake/signal-spin/epoll     p50 of due to signal on a spinning loop, beside one that sleeps
wake/round-trip/c          p50 of a round trip on a spinning loop, beside a client in C
unmask/SIZE/PEER           unmasking in place, called from Python
utf8/4KiB/PEER             text of several alphabets checked, called from Python
inflate/147B-*/zlib        tickers of about 147 bytes out of permessage-deflate, from Python
kernel/*                   single kernels as kernels call them, in C, in data that caches hold:
                           frame headers and unmasking beside memcpy, the check for ASCII as a
                           share of decoding, inflate beside Python's zlib
publish/N-readers/PEER     300-byte texts from one server to N readers on loopback
publish/N-readers-burst/.. the same with ten in one turn of the loop
=========================  =====================================================================

A name ending in ``@LEVEL`` forces that instruction-set level; all others take the best one.

Exit: 0 done, 1 ours lost messages, does not agree with a peer on the signals, or a C compiler is
not there for the rows of kernels, 2 usage, 3 a peer is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import platform
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from crosswire.capture import read_jsonl
from crosswire.codec import Inflate, mask, utf8_error
from crosswire.engine import isa_levels
from crosswire.wake import Spin

from . import common, handshakes, kernels, limiter, loopback, peers, publish, rest, tls, wake
from .common import Sample, Side

KIB_64 = 65536


class DisagreementError(Exception):
    """Ours lost messages, or found other signals than a peer in the same messages."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: windows of each side in memory, and on loopback."""

    windows: int
    turns: int


FULL = Effort(windows=60, turns=15)
QUICK = Effort(windows=12, turns=3)


@dataclass(frozen=True)
class Case:
    """A row to be measured.

    Attributes:
        name: of the row.
        package: the peer's, for its version; empty for what Python itself has.
        peer: what the peer is called in the row, behind its package and version.
        method: what is timed on either side, and what is unequal in it.
        measure: does it.
        of_medians: the ratio is that of the medians; see :func:`common.ratio_of`.
    """

    name: str
    package: str
    peer: str
    method: str
    measure: Callable[[Effort], Sample]
    of_medians: bool = False


@dataclass(frozen=True)
class Row:
    """A row as it is reported."""

    name: str
    ours_ns: float
    peer: str
    peer_ns: float
    ratio: float
    low: float
    high: float
    method: str


# ------------------------------------------------------------------ decode

DECODE = (
    "ours: Line.feed of chunks of 1,000 server frames, 16 KiB at a time, into on_quotes/on_trades "
    "batches; it includes the copy into the receive buffer, frame headers, the UTF-8 check, the "
    "symbol lookup, the top of book and the check for pairs (there are none). peer: one "
    "ready-made bytes object per message, no frames, {}"
)


@dataclass(frozen=True)
class Decoding:
    """One kind of message and the peers that decode it."""

    kind: str
    venue: str
    messages: Callable[[], Sequence[bytes]]
    symbols: Sequence[str]
    against: Sequence[tuple[str, str, Callable[[Sequence[bytes]], peers.Job], str]]


_TYPED = "typed Struct with lax floats (gc=False, strict=False) and attribute access"
_ROW = "and arr[i] = (tuple) of 6 fields with the symbol's number from a dict"
_FLOATS = "loads() and float() of four strings"

DECODINGS = (
    Decoding(
        "bookTicker",
        "binance",
        common.book_tickers,
        common.SYMBOLS,
        (
            ("msgspec-typed", "msgspec", peers.msgspec_typed, _TYPED),
            ("msgspec-rows", "msgspec", peers.msgspec_rows, f"{_TYPED} {_ROW}"),
            ("orjson", "orjson", peers.orjson_floats, _FLOATS),
            ("orjson-rows", "orjson", peers.orjson_rows, f"{_FLOATS} {_ROW}"),
            ("json", "", peers.json_floats, _FLOATS),
            ("json-rows", "", peers.json_rows, f"{_FLOATS} {_ROW}"),
        ),
    ),
    Decoding(
        "combined",
        "binance",
        common.combined,
        common.SYMBOLS,
        (("msgspec-typed", "msgspec", peers.msgspec_combined, _TYPED),),
    ),
    Decoding(
        "trade",
        "binance",
        common.trades,
        common.SYMBOLS,
        (("msgspec-typed", "msgspec", peers.msgspec_trade, _TYPED),),
    ),
    Decoding(
        "okx-bbo",
        "okx",
        common.okx_bbo,
        common.OKX_SYMBOLS,
        (("msgspec-typed", "msgspec", peers.msgspec_okx, _TYPED),),
    ),
)


def _decode_side(decoding: Decoding, isa: str | None) -> Side:
    engine, line = common.quotes_line(decoding.venue, decoding.symbols, isa)
    chunks = common.chunks(decoding.messages())
    engine.on_quotes = engine.on_trades = len

    def run() -> None:
        for chunk in chunks:
            line.feed(chunk, 1, 1)

    run()
    if engine.errors or engine.message_count != len(decoding.messages()):
        raise DisagreementError(
            f"{decoding.kind}: {engine.message_count} messages, errors {engine.errors}"
        )
    hits, misses = line.predictions
    if misses > hits // 100:
        _say(f"{decoding.kind}: {misses} of {hits + misses} messages were not predicted")
    return Side(run)


def _decode_cases(isa: str | None) -> Iterator[Case]:
    for decoding in DECODINGS:
        for name, package, job, work in decoding.against:

            def measure(
                effort: Effort,
                decoding: Decoding = decoding,
                job: Callable[[Sequence[bytes]], peers.Job] = job,
            ) -> Sample:
                messages = decoding.messages()
                return common.interleave(
                    _decode_side(decoding, isa),
                    Side(job(messages)),
                    len(messages),
                    windows=effort.windows,
                )

            yield Case(
                f"decode/{decoding.kind}/{name}",
                package,
                "" if package else f"json of Python {platform.python_version()}",
                DECODE.format(work),
                measure,
            )


# ------------------------------------------------------------------ pipeline

PIPELINE = (
    "8 venues x 64 symbols, {} a read, venues by turns; ours: frames to signals in the ring, every "
    "pair of venues watched both ways, batches handed to Python; peer: ready-made bytes objects, "
    "msgspec typed, net tops in lists per symbol, best bid against best ask, routes one by one "
    "only where they may be open. Both found the same opens, updates and closes first"
)


def _agree(market: common.MarketEngine, peer: peers.MsgspecPipeline) -> None:
    events = [0, 0, 0, 0]

    def count(signals: Any) -> None:
        for event in signals["event"].tolist():
            events[event] += 1

    market.begin()
    market.engine.on_signals = count
    market.run()
    peer.begin()
    peer.run()
    market.engine.on_signals = len
    if (events[1], events[2], events[3]) != (peer.opens, peer.updates, peer.closes):
        raise DisagreementError(
            f"ours has {events[1:]} opens, updates and closes, the peer "
            f"{[peer.opens, peer.updates, peer.closes]}; errors {market.engine.errors}"
        )
    if not peer.opens:
        raise DisagreementError("no signal was found: the input is wrong")


def _pipeline_cases(isa: str | None) -> Iterator[Case]:
    for name, read_messages, text in (
        ("signal", 64, "64 messages"),
        ("signal-single", 1, "one message"),
    ):

        def measure(effort: Effort, read_messages: int = read_messages) -> Sample:
            market = common.MarketEngine(read_messages, isa)
            peer = peers.MsgspecPipeline(read_messages)
            _agree(market, peer)
            return common.interleave(
                Side(market.run, market.begin),
                Side(peer.run, peer.begin),
                market.messages,
                windows=effort.windows,
            )

        yield Case(
            f"pipeline/{name}/msgspec",
            "msgspec",
            "+ Python",
            PIPELINE.format(text),
            measure,
        )


# ------------------------------------------------------------------ receive

RECEIVE = (
    "150-byte {} in bursts of 256 KiB from a raw-socket server process, read when all is there; "
    "each client has a connection of its own by turns, all on uvloop in one thread, CPU of that "
    "thread per message, kernel included. ours: BufferedProtocol on Line.window()/received(), "
    "reads of {} KiB, {}. peer: {}"
)

MODES = {
    "text": (
        "text frames",
        "frames only: a layout without messages, so that each text is checked as UTF-8 and counted",
    ),
    "binary": (
        "binary frames",
        "frames only: each message is refused unread (MESSAGE_BINARY) and counted",
    ),
    "counted": (
        "text frames of combined bookTickers",
        "a layout of one COUNTED kind, so that every message takes the order-free scan",
    ),
    "rows": (
        "text frames of combined bookTickers",
        "every message decoded into rows for on_quotes, tops updated",
    ),
}


def _receive_case(
    name: str, mode: str, read_kib: int, peer: str, work: str, client: Any, count: int
) -> Case:
    sent, what = MODES[mode]

    def measure(effort: Effort) -> Sample:
        return loopback.take_turns(
            "quotes" if mode in ("counted", "rows") else mode,
            loopback.ours(mode, read_kib * 1024),
            client,
            windows=effort.turns,
            counts=(300_000, count),
        )

    package = "" if peer == "bytes-counted" else peer
    text = "" if package else "BufferedProtocol that counts bytes"
    return Case(name, package, text, RECEIVE.format(sent, read_kib, what, work), measure)


def _receive_cases() -> Iterator[Case]:
    count = "counts {} in Python"
    others = (
        ("picows", count.format("frames"), loopback.picows_counted, 80_000),
        ("aiohttp", "one receive() a message", loopback.aiohttp_counted, 20_000),
        ("websockets", "asyncio API, one recv() a message", loopback.websockets_counted, 6_000),
    )
    for suffix, mode, read_kib, has_others in (
        ("", "text", 64, True),
        ("-16KiB", "text", 16, False),
        ("-binary", "binary", 64, True),
        ("-counted", "counted", 64, False),
        ("-rows", "rows", 64, True),
    ):
        floor = f"counts bytes in reads of {read_kib} KiB; below 1 is expected"
        yield _receive_case(
            f"receive/loopback{suffix}/bytes-counted",
            mode,
            read_kib,
            "bytes-counted",
            floor,
            loopback.bytes_counted(read_kib * 1024),
            300_000,
        )
        for peer, work, client, messages in others if has_others else ():
            yield _receive_case(
                f"receive/loopback{suffix}/{peer}", mode, read_kib, peer, work, client, messages
            )


# ------------------------------------------------------------------ TLS

TLS = (
    "TLS 1.3, a record for each frame of 154 bytes, bursts of 256 KiB from another process, on "
    "{}; the same BufferedProtocol counts bytes in a buffer of 256 KiB; ours: the {} engine; "
    "peer: {}"
)


def _tls_cases() -> Iterator[Case]:
    import uvloop

    factories = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    for engine in ("direct", "public"):
        for peer, package, loop, words, client in (
            ("asyncio", "", "asyncio", "its own TLS transport", tls.counted("asyncio")),
            ("uvloop", "uvloop", "uvloop", "its own TLS transport", tls.counted("asyncio")),
            ("aiofastnet", "aiofastnet", "asyncio", "its transport", tls.aiofastnet_counted),
        ):
            yield Case(
                f"receive/tls-{engine}/{peer}",
                package,
                "" if package else "asyncio's SSLProtocol",
                TLS.format(loop, engine, words),
                partial(_measure_tls, engine, client, factories[loop]),
            )


def _measure_tls(engine: str, client: Any, factory: Any, effort: Effort) -> Sample:
    return tls.take_turns(
        tls.counted(engine), client, loop_factory=factory, windows=effort.turns, count=150_000
    )


HANDSHAKE = (
    "connect() with the direct engine on {}, TLS {}, a server with a certificate of {} in another "
    "process, on loopback, a byte from it and the end; CPU of both ends; ours: one that resumes a "
    "session (session_reused is looked at); peer: one that does not"
)


def _handshake_cases() -> Iterator[Case]:
    import uvloop

    factories = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    for version in ("1.2", "1.3"):
        for key, words in (("ECDSA", "P-256"), ("RSA", "RSA-2048")):
            for loop, factory in factories.items():
                yield Case(
                    f"handshake/tls-{version}-{words.lower()}/{loop}",
                    "",
                    "a full handshake",
                    HANDSHAKE.format(loop, version, words),
                    partial(_measure_handshakes, version, key, factory),
                )


def _measure_handshakes(version: str, key: str, factory: Any, effort: Effort) -> Sample:
    name = f"TLSv{version.replace('.', '_')}"
    return handshakes.take_turns(name, key, loop_factory=factory, windows=effort.windows)


# ------------------------------------------------------------------ requests

REST = (
    "POST of a 150-byte order over {} and TLS on loopback, one after the other, on {}, {} "
    "requests a window, to a server in another process{}; {}"
)
RECONNECT = (
    "an order on a new connection and its end, over HTTP/1.1 and TLS on loopback, on {}; the wall "
    "clock; ours: a pool that resumes a session; peer: one that does not"
)


LIMITER = (
    "one limit that is never reached, {} calls a window, on asyncio; ours: acquire{}; peer: acquire"
)


def _rest_cases() -> Iterator[Case]:
    import uvloop

    for what, told in (("acquire", ""), ("request", " and the answer, which the peer is not told")):
        yield Case(
            f"rest/limiter/{what}",
            "aiolimiter",
            "",
            LIMITER.format(limiter.CALLS, told),
            partial(_measure_limiter, what == "request"),
        )

    factories = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    words = {"p50": "median of the wall clock", "cpu": "processor time of the client's thread"}
    for loop, factory in factories.items():
        for version, package in (("1.1", "aiohttp"), ("2", "httpx2")):
            for what, told in words.items():
                for apart, where in (("", " on the same processor"), ("-apart", "")):
                    yield Case(
                        f"rest/order-{what}{apart}/http{version[0]}/{loop}",
                        package,
                        "",
                        REST.format(f"HTTP/{version}", loop, rest.TRIPS, where, told),
                        partial(_measure_rest, what, version, bool(apart), factory),
                    )
        yield Case(
            f"rest/reconnect/{loop}",
            "",
            "a full handshake",
            RECONNECT.format(loop),
            partial(_measure_reconnects, factory),
        )


def _measure_rest(what: str, version: str, is_apart: bool, factory: Any, effort: Effort) -> Sample:
    return rest.take_turns(
        what, version, is_apart=is_apart, loop_factory=factory, windows=effort.windows
    )


def _measure_limiter(is_told: bool, effort: Effort) -> Sample:
    return limiter.take_turns(is_told, effort.windows)


def _measure_reconnects(factory: Any, effort: Effort) -> Sample:
    return rest.take_turns_reconnecting(loop_factory=factory, windows=effort.windows)


# ------------------------------------------------------------------ wake-ups

WAKE = (
    "one message a wake, the next one sent when that is read and due, {}, by another process on "
    "another processor; windows of {:,} messages by turns, on {}. "
)
WAKES, SLOW_WAKES = 500, 400
LINE_WAKES = 200
"""Short windows, and many: neighbours have much in common then, and the difference is small."""


def _wake_cases() -> Iterator[Case]:
    import uvloop

    loops = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    for name, factory in loops.items():
        yield Case(
            f"wake/tls/{name}",
            "uvloop" if name == "uvloop" else "",
            "its own TLS" if name == "uvloop" else "asyncio's SSLProtocol",
            WAKE.format("40,000/s", WAKES, name) + "TLS 1.3 records of 150-byte texts, bytes "
            "counted; of both the CPU of receiving as many bytes and no more is taken off. ours: "
            "the direct engine, stamps of the kernel included",
            partial(_measure_wake, factory),
            of_medians=True,
        )
    yield Case(
        "wake/line/null",
        "",
        "BufferedProtocol that counts bytes",
        WAKE.format("40,000/s", LINE_WAKES, "uvloop") + "111-byte bookTickers, plain text. ours: "
        "LineProtocol, to the top of book",
        partial(_measure_line, uvloop.new_event_loop),
    )
    yield Case(
        "wake/signal-spin/epoll",
        "",
        "the same without Spin",
        f"a message every {wake.SLOW_NS // 1000} µs over TLS, by another process on another "
        f"processor, from C; windows of {SLOW_WAKES:,} by turns, on uvloop. Every quote makes "
        "a signal; p50 from due to on_signals. ours: inside of Spin()",
        partial(_measure_spin, uvloop.new_event_loop),
    )
    yield Case(
        "wake/round-trip/c",
        "",
        "recv without waiting, in C",
        f"{wake.TRIP_SIZE} bytes to an echo in C that never sleeps, and back, windows of "
        f"{wake.TRIPS:,} by turns, p50. ours: a reader on uvloop inside of Spin(); peer: "
        "benchmarks/roundtrip.c",
        lambda effort: wake.round_trips(loop_factory=uvloop.new_event_loop, windows=effort.turns),
    )


def _measure_wake(factory: Any, effort: Effort) -> Sample:
    ours, peer = wake.decrypted("direct"), wake.decrypted("asyncio")
    return wake.above_bare(ours, peer, loop_factory=factory, windows=30 * effort.turns, count=WAKES)


def _measure_line(factory: Any, effort: Effort) -> Sample:
    return wake.two_of(
        wake.quoted, wake.counted, loop_factory=factory, windows=60 * effort.turns, count=LINE_WAKES
    )


def _measure_spin(factory: Any, effort: Effort) -> Sample:
    return wake.two_of(
        wake.signalled(Spin),
        wake.signalled(nullcontext),
        loop_factory=factory,
        windows=effort.turns,
        count=SLOW_WAKES,
    )


# ------------------------------------------------------------------ unmask

UNMASK = (
    "{} bytes in cache, called from Python, nothing subtracted; ours: codec.mask() in place, "
    "peer: {}"
)


def _unmask_cases(isa: str | None) -> Iterator[Case]:
    for name, size, calls in (("64KiB", KIB_64, 500), ("130B", 130, 5000)):
        yield Case(
            f"unmask/{name}/memcpy",
            "",
            "memcpy (bytearray slice)",
            UNMASK.format(size, "dst[:] = src between two bytearrays, which is a memcpy"),
            lambda effort, size=size, calls=calls: _unmask_against_copy(isa, size, calls, effort),
        )
        yield Case(
            f"unmask/{name}/websockets",
            "websockets",
            "apply_mask",
            UNMASK.format(size, "websockets.speedups.apply_mask, which gives new bytes"),
            lambda effort, size=size, calls=calls: _unmask_against_websockets(
                isa, size, calls, effort
            ),
        )


KEY = bytes.fromhex("37fa213d")


def _mask_job(isa: str | None, size: int) -> peers.Job:
    data = bytearray(size)
    return (lambda: mask(data, KEY)) if isa is None else (lambda: mask(data, KEY, 0, isa))


def _unmask_against_copy(isa: str | None, size: int, calls: int, effort: Effort) -> Sample:
    source, target = bytearray(size), bytearray(size)

    def copy() -> None:
        target[:] = source

    return common.interleave(
        Side(_mask_job(isa, size)),
        Side(copy),
        1,
        windows=effort.windows,
        repeat=(calls, calls),
    )


def _unmask_against_websockets(isa: str | None, size: int, calls: int, effort: Effort) -> Sample:
    from websockets.speedups import apply_mask

    data = bytes(size)
    return common.interleave(
        Side(_mask_job(isa, size)),
        Side(lambda: apply_mask(data, KEY)),
        1,
        windows=effort.windows,
        repeat=(calls, calls),
    )


# ------------------------------------------------------------------ UTF-8

UTF8_TEXT = ("price 价格 цена τιμή précio " * 100).encode()[:4096]
UTF8 = "4 KiB of five alphabets, called from Python; ours: codec.utf8_error(), peer: {}"


def _utf8_cases() -> Iterator[Case]:
    level = isa_levels()[-1]
    for name, peer, method, job in (
        (
            "scalar",
            "one byte after the other, in C",
            "the same at the level base, which looks at one byte after the other",
            lambda: utf8_error(UTF8_TEXT, isa="base"),
        ),
        (
            "decode",
            f"bytes.decode of Python {platform.python_version()}",
            "bytes.decode, which also makes a str",
            UTF8_TEXT.decode,
        ),
    ):

        def measure(effort: Effort, job: peers.Job = job) -> Sample:
            ours = Side(lambda: utf8_error(UTF8_TEXT, isa=level))
            return common.interleave(
                ours, Side(job), 1, windows=effort.windows, repeat=(1000, 1000)
            )

        yield Case(f"utf8/4KiB/{name}", "", peer, UTF8.format(method), measure)


# ------------------------------------------------------------------ inflate

INFLATE = (
    "combined bookTickers, sync flush, 15 bits, level 6, {}; ours: Inflate.message(data), which "
    "checks that the message ends whole; peer: {}decompress(data + 00 00 FF FF, 1 MiB). The "
    "system's zlib lies beneath both"
)


def _packed(messages: Sequence[bytes], keeps_context: bool) -> list[bytes]:
    """Return the messages as a sender compresses them, by zlib and not by us."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    found = []
    for message in messages:
        own = packer if keeps_context else zlib.compressobj(6, zlib.DEFLATED, -15)
        found.append((own.compress(message) + own.flush(zlib.Z_SYNC_FLUSH))[:-4])
    return found


def _inflate_sides(keeps_context: bool) -> tuple[peers.Job, peers.Job]:
    """Both read every message again and again: the first refers to nothing before it."""
    packed = _packed(common.combined(), keeps_context)
    read = Inflate(keeps_context=keeps_context).message
    ours = peers.each(read, packed)
    if [read(data) for data in packed] != list(common.combined()):
        raise DisagreementError("inflate: ours reads other messages than were packed")
    return ours, (peers.zlib_kept if keeps_context else peers.zlib_anew)(packed)


def _inflate_cases() -> Iterator[Case]:
    for name, keeps_context, text, anew in (
        ("takeover", True, "context kept", "one decompressobj, "),
        ("no-takeover", False, "no context", "a new decompressobj a message, "),
    ):

        def measure(effort: Effort, keeps_context: bool = keeps_context) -> Sample:
            ours, peer = _inflate_sides(keeps_context)
            return common.interleave(
                Side(ours), Side(peer), common.MESSAGES, windows=effort.windows
            )

        yield Case(
            f"inflate/147B-{name}/zlib",
            "",
            f"zlib {zlib.ZLIB_RUNTIME_VERSION} of Python {platform.python_version()}",
            INFLATE.format(text, anew),
            measure,
        )


# ------------------------------------------------------------------ single kernels

BLOCKS, TIMES = 100, 200
SMALL = 130
RECORDED = (
    Path(__file__).parent.parent / "examples" / "data" / "binance-btcusdt-2024-08-08.jsonl.gz"
)


def _in_turns(ours: Callable[[], object], peer: Callable[[], object], effort: Effort) -> Sample:
    return common.interleave(Side(ours), Side(peer), BLOCKS * TIMES, windows=effort.windows)


def _headers_against_copy(effort: Effort) -> Sample:
    frames = bytearray(common.frames([bytes(SMALL)] * BLOCKS))
    return _in_turns(
        kernels.walk_headers(frames, BLOCKS * SMALL, TIMES),
        kernels.copy_blocks(bytearray(BLOCKS * SMALL), SMALL, TIMES),
        effort,
    )


def _small_masks_against_copy(effort: Effort) -> Sample:
    return _in_turns(
        kernels.unmask_blocks(bytearray(BLOCKS * SMALL), SMALL, TIMES),
        kernels.copy_blocks(bytearray(BLOCKS * SMALL), SMALL, TIMES),
        effort,
    )


def _large_masks_against_copy(effort: Effort) -> Sample:
    return common.interleave(
        Side(kernels.unmask_blocks(bytearray(KIB_64), KIB_64, TIMES)),
        Side(kernels.copy_blocks(bytearray(KIB_64), KIB_64, TIMES)),
        TIMES,
        windows=effort.windows,
    )


def _ascii_within_decoding(effort: Effort) -> Sample:
    messages = common.book_tickers()[:1000]
    size = len(messages[0])
    _, line = common.quotes_line("binance", common.SYMBOLS)
    data = common.frames(messages)
    check = kernels.check_ascii(bytearray(b"x" * (size * BLOCKS)), size, TIMES)

    def decode() -> None:
        for _ in range(BLOCKS * TIMES // len(messages)):
            line.feed(data, 1, 1)

    return _in_turns(check, decode, effort)


def _recorded() -> list[bytes]:
    """Return the best bids and offers of the recording that comes with the project."""
    frames = read_jsonl(RECORDED)
    return [frame.payload for frame in frames if b"@bookTicker" in frame.payload]


def _inflate_in_c(messages: Sequence[bytes], keeps_context: bool, effort: Effort) -> Sample:
    packed = _packed(messages, keeps_context)
    size = sum(map(len, messages))
    return common.interleave(
        Side(kernels.inflate_messages(packed, size, keeps_context=keeps_context)),
        Side((peers.zlib_kept if keeps_context else peers.zlib_anew)(packed)),
        len(messages),
        windows=effort.windows,
    )


def _kernel_cases() -> Iterator[Case]:
    memcpy = "memcpy"
    for name, peer, method, work in (
        (
            "header/memcpy",
            memcpy,
            "cw_frame_read; peer: a copy of 130 bytes",
            _headers_against_copy,
        ),
        (
            "unmask-130B/memcpy",
            memcpy,
            "130 bytes in place; peer: a copy",
            _small_masks_against_copy,
        ),
        ("unmask-64KiB/memcpy", memcpy, "64 KiB in place; peer: a copy", _large_masks_against_copy),
        (
            "ascii-105B/decode",
            "Line.feed of bookTickers",
            "the check for ASCII; peer: all of frames to rows, this check in it",
            _ascii_within_decoding,
        ),
    ):
        yield Case(f"kernel/{name}", "", peer, method, work)
    for name, keeps_context in (("takeover", True), ("no-takeover", False)):
        for kind, messages in (("one-symbol", _recorded), ("64-symbols", common.combined)):

            def measure(
                effort: Effort,
                messages: Callable[[], Sequence[bytes]] = messages,
                keeps_context: bool = keeps_context,
            ) -> Sample:
                return _inflate_in_c(messages(), keeps_context, effort)

            yield Case(
                f"kernel/inflate-{kind}-{name}/zlib",
                "",
                f"zlib {zlib.ZLIB_RUNTIME_VERSION} of Python {platform.python_version()}",
                "as in the rows inflate/*, but ours without a call from Python: as the receiver "
                "reads a compressed message. one-symbol: recorded; 64-symbols: combined()",
                measure,
            )


# ------------------------------------------------------------------ publish

PUBLISH = (
    "300-byte text messages to {:,} readers on loopback, in another process, {} in a turn of the "
    "loop; both servers on uvloop in one thread, CPU of that thread per message and reader, kernel "
    "included: most of it. ours: Server.publish(); peer: broadcast() to all connections of "
    "its asyncio server, without compression"
)


def _publish_cases() -> Iterator[Case]:
    for name, count, in_a_turn in (
        ("100-readers", 100, 1),
        ("1000-readers", 1000, 1),
        ("1000-readers-burst", 1000, 10),
    ):

        def measure(effort: Effort, count: int = count, in_a_turn: int = in_a_turn) -> Sample:
            return publish.take_turns(count, in_a_turn, effort.windows)

        method = PUBLISH.format(count, in_a_turn)
        yield Case(f"publish/{name}/websockets", "websockets", "broadcast", method, measure)


# ------------------------------------------------------------------ rows


def cases() -> list[Case]:
    """Return every row that can be measured, in the order of the report."""

    def by_level(isa: str | None) -> Iterator[Case]:
        yield from _decode_cases(isa)
        yield from _pipeline_cases(isa)
        yield from _unmask_cases(isa)

    found = [
        *by_level(None),
        *_receive_cases(),
        *_tls_cases(),
        *_handshake_cases(),
        *_rest_cases(),
        *_wake_cases(),
        *_utf8_cases(),
        *_inflate_cases(),
        *_kernel_cases(),
        *_publish_cases(),
    ]
    for level in isa_levels():
        for case in by_level(level):
            found.append(
                Case(f"{case.name}@{level}", case.package, case.peer, case.method, case.measure)
            )
    return found


def chosen(names: Sequence[str]) -> list[Case]:
    """Return the cases of these names or groups; all of them for no name.

    A group is the beginning of a name: ``decode``, ``decode/bookTicker``; ``@base`` is the group
    of that level.
    """

    def is_in(name: str, wanted: str) -> bool:
        return (
            name == wanted
            or name.startswith(f"{wanted}/")
            or (wanted.startswith("@") and name.endswith(wanted))
        )

    return [c for c in cases() if not names or any(is_in(c.name, wanted) for wanted in names)]


def missing(found: Sequence[Case]) -> list[str]:
    """Return the packages of peers that are not installed."""
    lacking = set()
    wanted = {case.package for case in found if case.package}
    if any(case.name.startswith(("receive", "handshake", "publish", "wake")) for case in found):
        wanted.add("uvloop")
    for package in wanted:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            lacking.add(package)
    return sorted(lacking)


def measured(case: Case, effort: Effort) -> Row:
    """Measure a case."""
    sample = case.measure(effort)
    ratio = common.ratio_of(sample, of_medians=case.of_medians)
    version = importlib.metadata.version(case.package) if case.package else ""
    return Row(
        name=case.name,
        ours_ns=round(common.median(sample.ours_ns), 2),
        peer=f"{case.package} {version} {case.peer}".strip(),
        peer_ns=round(common.median(sample.peer_ns), 2),
        ratio=round(ratio.ratio, 3),
        low=round(ratio.low, 3),
        high=round(ratio.high, 3),
        method=case.method,
    )


# ------------------------------------------------------------------ the command


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_table(rows: Sequence[Row], machine: dict[str, Any], isa: str) -> None:
    print(", ".join(f"{key} {value}" for key, value in machine.items()), f"isa {isa}", sep=", ")
    print(f"{'row':<42} {'ours ns':>10} {'peer ns':>10} {'ratio':>8}  95 %             peer")
    for row in rows:
        interval = f"{row.low:.2f} .. {row.high:.2f}"
        print(
            f"{row.name:<42} {row.ours_ns:>10,.1f} {row.peer_ns:>10,.1f} {row.ratio:>7.2f}x  "
            f"{interval:<16} {row.peer}"
        )
    print(
        "\nns are thread CPU time per message (unmask: per call; publish: and per reader), medians;"
        "\nthose of handshake are of both ends, per connect;"
        "\nof wake/signal-spin, wake/round-trip, rest/order-p50 and rest/reconnect they are the "
        "time that passes;"
    )
    print("ratio is peer / ours.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Time crosswire and other libraries at the same work, in turns.",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="a row, a group such as decode/bookTicker, or a level such as @base; "
        "may be given more than once",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object as the last line of standard output"
    )
    parser.add_argument("--quick", action="store_true", help="fewer windows, wider intervals")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    found = chosen(options.only)
    if not found:
        names = "\n  ".join(case.name for case in cases())
        parser.error(f"no row is called {' or '.join(options.only)}; there are\n  {names}")
    lacking = missing(found)
    if lacking:
        _say(
            f"missing peers: {', '.join(lacking)}; install them with `pip install "
            "crosswire[bench]` or `make bench`, or name rows that need none with --only"
        )
        if options.json:
            print(json.dumps({"missing": lacking, "install": "pip install crosswire[bench]"}))
        return 3
    effort = QUICK if options.quick else FULL
    machine, isa = common.machine(), common.best_isa()
    rows = []
    for i, case in enumerate(found, 1):
        try:
            row = measured(case, effort)
        except (DisagreementError, kernels.MissingCompilerError) as error:
            _say(f"{case.name}: {error}")
            if options.json:
                print(json.dumps({"error": str(error), "name": case.name}))
            return 1
        rows.append(row)
        _say(
            f"[{i}/{len(found)}] {row.name}: {row.ours_ns:,.1f} against {row.peer_ns:,.1f} ns, "
            f"{row.ratio:.2f}x ({row.low:.2f} .. {row.high:.2f})"
        )
    if options.json:
        print(json.dumps({"machine": machine, "isa": isa, "rows": [asdict(row) for row in rows]}))
    else:
        _print_table(rows, machine, isa)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
