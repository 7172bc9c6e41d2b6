"""A simulated world: a clock that jumps, seeded randomness, a scripted network, a small venue.

Rule 1: time passes only when nothing is left to do, and then at once to the next timer, so an
hour of back-off takes a moment and every run of a seed is the same.
Rule 2: no socket, no file, no thread. A connection is a ``Peer``; what it does is the test's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import random
import selectors
import ssl
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import crosswire
from crosswire.codec import encode_frame, mask, read_header
from crosswire.engine import Engine
from crosswire.instruments import Pair
from crosswire.line import Line
from crosswire.seam import Seam
from crosswire.session import ReconnectBackoff, Session
from crosswire.venue import (
    Answer,
    Control,
    Field,
    Heartbeat,
    Layout,
    Message,
    Record,
    Slot,
    Text,
    Venue,
    parse_object,
)

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
TS_START = 1_786_000_000_000_000_000
MONO_START = 5_000_000_000
PACKAGE = Path(crosswire.__file__).parent
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

T = TypeVar("T")

# ------------------------------------------------------------------ time


class _Selector(selectors.DefaultSelector):
    """Never waits: it moves the loop's clock instead."""

    loop: SimulatedLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("the simulated world stands still: nothing will ever happen")
        if timeout > 0:
            self.loop.now += timeout
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is simulated."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in simulated time; a callback that raises fails it."""
    raised: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: raised.append(context))
        result = runner.run(main)
    assert not raised, raised
    return result


# ------------------------------------------------------------------ the network


class UnreachableError(OSError):
    """What connecting to a peer that is not there raises."""


class FakeTransport(asyncio.Transport):
    """Carries bytes between a client's buffered protocol and a peer, one loop turn later."""

    def __init__(self, protocol: asyncio.BufferedProtocol, peer: Peer) -> None:
        super().__init__()
        self._protocol = protocol
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._is_closing = False
        self._is_lost = False
        self._unread = 0
        self.lost_at: float | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        if self._peer.is_reading:
            self._loop.call_soon(self._peer.take, bytes(data))
        else:
            self._unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self._unread

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if self._peer.close_s:
                self._loop.call_later(self._peer.close_s, self._lose, None)
            elif not self._peer.is_stuck:
                self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._is_closing = True
        self._loop.call_soon(self._lose, None)

    # ---- the peer's side

    def deliver(self, data: bytes) -> None:
        """Let the client read these bytes."""
        view = memoryview(data)
        while view and not self._is_closing:
            room = memoryview(self._protocol.get_buffer(-1))
            n = min(len(room), len(view))
            room[:n] = view[:n]
            self._protocol.buffer_updated(n)
            view = view[n:]

    def deliver_late(self, data: bytes) -> None:
        """Let the client read these bytes though it is closing, as TLS does until it has shut."""
        room = memoryview(self._protocol.get_buffer(-1))
        room[: len(data)] = data
        self._protocol.buffer_updated(len(data))

    def cut(self, error: OSError | None) -> None:
        """Break the connection."""
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._lose, error)

    def _lose(self, error: OSError | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self.lost_at = self._loop.time()
            self._peer.is_open = False
            self._protocol.connection_lost(error)


class Peer:
    """One connection, seen from the venue. Override what it should do.

    Attributes:
        texts: text messages that the client sent.
        frames: control frames that it sent, (opcode, payload).
        is_reading: what the client sends is taken; else it waits in the client.
        is_stuck: a close by the client is never completed, as with a peer that is gone.
        close_s: how long a close by the client takes, as TLS waits for the peer's.
        connect_s: how long connecting takes.
    """

    is_reading = True
    is_stuck = False
    close_s = 0.0
    connect_s = 0.0

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.frames: list[tuple[int, bytes]] = []
        self.requested = b""
        self.is_open = False
        self.is_upgraded = False
        self._transport: FakeTransport | None = None
        self._received = b""

    def connected(self, transport: FakeTransport) -> None:
        """Take over a connection."""
        self._transport = transport
        self.is_open = True

    def take(self, data: bytes) -> None:
        """Take bytes from the client: the request, then masked frames."""
        self._received += data
        if not self.is_upgraded:
            if b"\r\n\r\n" not in self._received:
                return
            self.requested, _, self._received = self._received.partition(b"\r\n\r\n")
            self.is_upgraded = True
            self.on_request()
        while (header := read_header(self._received, is_server=True)) is not None:
            opcode, is_final, header_len, payload_len, key = header
            if len(self._received) < header_len + payload_len:
                return
            payload = bytearray(self._received[header_len : header_len + payload_len])
            self._received = self._received[header_len + payload_len :]
            assert is_final
            assert key is not None
            mask(payload, key)
            if opcode == TEXT:
                self.texts.append(payload.decode())
                self.on_text(self.texts[-1])
            else:
                self.frames.append((opcode, bytes(payload)))
                self.on_frame(opcode, bytes(payload))

    # ---- what it may do

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        if self._transport and self.is_open:
            self._transport.deliver(data)

    def say(self, text: str) -> None:
        """Send a text message."""
        self.send(encode_frame(TEXT, text.encode()))

    def cut(self, error: OSError | None = None) -> None:
        """Break the connection."""
        if self._transport and self.is_open:
            self._transport.cut(error)

    def after(self, seconds: float, do: Callable[..., None], *arguments: Any) -> None:
        """Do something later."""
        asyncio.get_running_loop().call_later(seconds, do, *arguments)

    def upgrade(self, extra: bytes = b"") -> None:
        """Answer the request rightly; ``extra`` follows in the same read."""
        self.send(right_answer(self.requested) + extra)

    # ---- what it does

    def on_request(self) -> None:
        """The upgrade was asked for."""
        self.upgrade()

    def on_text(self, text: str) -> None:
        """The client said something; by default every subscription is acknowledged."""
        request = parse_object(text).get("request")
        if request is not None:
            self.say(json.dumps({"c": "ack", "request": str(request)}))

    def on_frame(self, opcode: int, payload: bytes) -> None:
        """The client sent a control frame; a ping is answered, a close ends it."""
        if opcode == PING:
            self.send(encode_frame(PONG, payload))
        if opcode == CLOSE:
            self.cut()


class Refusing(Peer):
    """Answers 503."""

    def on_request(self) -> None:
        self.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        self.cut()


class Mute(Peer):
    """Accepts, and never says a word."""

    def on_request(self) -> None:
        pass


class Absent(Peer):
    """Is not there: connecting fails."""

    def connected(self, transport: FakeTransport) -> None:
        raise UnreachableError("connection refused")


def accept_key(key: bytes) -> bytes:
    """Return what RFC 6455, 4.2.2, demands as the answer to a key."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def key_of(request: bytes) -> bytes:
    """Return the key of an upgrade request."""
    for line in request.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key":
            return value.strip()
    raise AssertionError("the request has no Sec-WebSocket-Key")


def right_answer(request: bytes) -> bytes:
    """Return the head that accepts an upgrade."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key_of(request)) + b"\r\n\r\n"
    )


class FakeSeam(Seam):
    """Clock, randomness and network of a simulation.

    Args:
        peers: what each connect in turn reaches; the last one's type is repeated for ever.
        seed: of the randomness.

    Attributes:
        connects: monotonic time in s of every connect.
        drawn: (low, high, value) of every random float.
        met: the peers that were reached, oldest first.
        transports: of every connection that was made.
        pace: how many of the loop's seconds one of the seam's takes; what does not slow down with
            it keeps time by a clock of its own.
    """

    pace = 1.0

    def __init__(self, peers: Iterable[Peer] = (), seed: int = 1) -> None:
        self._peers = list(peers) or [Peer()]
        self._random = random.Random(seed)
        self.connects: list[float] = []
        self.drawn: list[tuple[float, float, float]] = []
        self.met: list[Peer] = []
        self.transports: list[FakeTransport] = []
        self.hosts: list[tuple[str, int, ssl.SSLContext | None, str | None]] = []

    def seconds(self) -> float:
        """Return simulated seconds since the start."""
        return asyncio.get_running_loop().time()

    def time_ns(self) -> int:
        return TS_START + round(self.seconds() * 1e9)

    def monotonic_ns(self) -> int:
        return MONO_START + round(self.seconds() * 1e9)

    def uniform(self, low: float, high: float) -> float:
        value = self._random.uniform(low, high)
        self.drawn.append((low, high, value))
        return value

    def random_bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.pace)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        return asyncio.timeout(seconds * self.pace)

    def later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds * self.pace, do)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return work()

    async def connect(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        server_hostname: str | None,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        self.connects.append(self.seconds())
        self.hosts.append((host, port, tls, server_hostname))
        peer = self._peers.pop(0) if len(self._peers) > 1 else self._peers[0]
        if peer in self.met:
            peer = type(peer)()
        self.met.append(peer)
        await asyncio.sleep(peer.connect_s)
        protocol = protocol_factory()
        assert isinstance(protocol, asyncio.BufferedProtocol)
        transport = FakeTransport(protocol, peer)
        peer.connected(transport)
        self.transports.append(transport)
        protocol.connection_made(transport)
        return transport, protocol


# ------------------------------------------------------------------ a venue


_QUOTE = {
    "k": Field(Slot.TAG, Text.STRING),
    "s": Field(Slot.SYMBOL, Text.STRING),
    "n": Field(Slot.SEQ, Text.NUMBER),
    "b": Field(Slot.BID, Text.STRING),
    "B": Field(Slot.BID_QTY, Text.STRING),
    "a": Field(Slot.ASK, Text.STRING),
    "A": Field(Slot.ASK_QTY, Text.STRING),
}
LAYOUT = Layout(
    messages=(Message("quote", Record.QUOTE, "q", _QUOTE),),
    control="c",
    word="pong",
    merge_by=(Slot.SEQ,),
)


def quote_text(symbol: str, seq: int, bid: str, ask: str, qty: str = "1") -> str:
    """Return the text of a quote of the small venue."""
    return f'{{"k":"q","s":"{symbol}","n":{seq},"b":"{bid}","B":"{qty}","a":"{ask}","A":"{qty}"}}'


def _subscribe(streams: Sequence[str], request: int) -> list[tuple[str, str]]:
    return [(str(request), json.dumps({"request": request, "streams": list(streams)}))]


def subscribe_each(streams: Sequence[str], request: int) -> list[tuple[str, str]]:
    """Subscribe streams that are answered one by one."""
    return [(name, json.dumps({"request": name})) for name in streams]


def _understand(text: str) -> Answer:
    if text == "pong":
        return Answer(Control.PONG)
    message = parse_object(text)
    request = str(message.get("request", ""))
    match message.get("c"):
        case "ack":
            return Answer(Control.ACK, request)
        case "no":
            return Answer(Control.REFUSED, request, str(message.get("why", "")))
        case "bye":
            return Answer(Control.GOING_AWAY, text=text)
        case "note":
            return Answer(Control.NOTICE, text=text)
    return Answer(Control.UNKNOWN, text=text)


def small_venue(name: str = "small", **changes: Any) -> Venue:
    """Return a venue that no exchange has."""
    options: dict[str, Any] = {
        "name": name,
        "url": "ws://127.0.0.1:9/stream",
        "layout": LAYOUT,
        "heartbeat": Heartbeat(idle_s=20.0, text=None, limit_s=45.0),
        "stream": lambda native, record: f"{native}.{record.name.lower()}",
        "subscribe": _subscribe,
        "understand": _understand,
        "native": lambda unified: unified.replace("/", ""),
        "unified": lambda native: None,
        "fee_bps": 1.0,
    }
    return Venue(**{**options, **changes})


# ------------------------------------------------------------------ a session in it


class Notes:
    """An observer that writes down what it is told, with the simulated time."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.opened: list[float] = []
        self.covered: list[float] = []
        self.lost: list[tuple[float, str]] = []
        self.waiting: list[tuple[str, asyncio.Future[None]]] = []

    def on_opened(self, session: Session, line: Line, ts: int, mono: int) -> None:
        assert ts - TS_START == mono - MONO_START
        self.opened.append((mono - MONO_START) / 1e9)

    def on_covered(self, session: Session, line: Line, ts: int, mono: int) -> None:
        self.covered.append((mono - MONO_START) / 1e9)

    def on_lost(self, session: Session, line: Line, ts: int, mono: int, reason: str) -> None:
        self.lost.append(((mono - MONO_START) / 1e9, reason))

    def on_state(self, session: Session) -> None:
        self.states.append(session.state.value)
        for state, future in self.waiting:
            if state == session.state.value and not future.done():
                future.set_result(None)

    def next(self, state: str) -> asyncio.Future[None]:
        """Return a future that is done when the session next comes into a state."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting = [item for item in self.waiting if not item[1].done()]
        self.waiting.append((state, future))
        return future


class World:
    """One session of a small venue with one instrument; make it inside the simulation.

    Attributes:
        peers: see :class:`FakeSeam`.
        has_spare: it has a second line, so that a connection can relieve another.
    """

    def __init__(
        self,
        *peers: Peer,
        seed: int = 1,
        streams: Iterable[tuple[str, Record]] = (("BTCUSDT", Record.QUOTE),),
        backoff: ReconnectBackoff | None = None,
        liveness_limit_s: float = 3600.0,
        data_limit_s: float = math.inf,
        has_spare: bool = False,
        **venue_changes: Any,
    ) -> None:
        self.venue = small_venue(**venue_changes)
        self.engine = Engine(
            instruments_max=4, pairs_max=4, lines_max=2, venues_max=2, signals_max=64
        )
        self.engine.add_venue(
            self.venue.name,
            self.venue.layout,
            liveness_limit_s=liveness_limit_s,
            data_limit_s=data_limit_s,
        )
        self.engine.add_instrument(self.venue.name, "BTCUSDT", fee_bps=0.0)
        self.engine.add_instrument(self.venue.name, "ETHUSDT", fee_bps=0.0)
        self.engine.set_pairs([Pair(1, 0, 1)])
        group = int(has_spare)
        self.line: Line = Line(self.engine, self.venue.name, group=group)
        self.spare = Line(self.engine, self.venue.name, group=group) if has_spare else None
        self.seam = FakeSeam(peers, seed)
        self.notes = Notes()
        self.session = Session(
            venue=self.venue,
            line=self.line,
            streams=list(streams),
            seam=self.seam,
            observer=self.notes,
            url=self.venue.url,
            backoff=backoff or ReconnectBackoff(),
            liveness_limit_s=liveness_limit_s,
            spare=self.spare,
            has_twins=has_spare,
        )
        self.task: asyncio.Task[None] | None = None

    @property
    def peer(self) -> Peer:
        """The newest connection's other side."""
        return self.seam.met[-1]

    def start(self) -> None:
        """Let the session run."""
        self.task = asyncio.ensure_future(self.session.run())

    async def keep_time(self) -> None:
        """Let the engine's time pass and the session look at it every 50 ms, as a runtime does."""
        while True:
            await asyncio.sleep(0.05)
            self.engine.advance(self.seam.time_ns(), self.seam.monotonic_ns())
            self.session.look(self.engine.stale_instruments())

    async def reach(self, state: str, limit_s: float = 60.0) -> None:
        """Wait until the session comes into a state; fail when it does not within ``limit_s``."""
        assert self.task
        if self.session.state.value == state:
            return
        there = self.notes.next(state)
        await asyncio.wait({there, self.task}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        assert not self.task.done(), self.task
        assert there.done(), f"{self.session.state} instead of {state}"

    async def stop(self) -> None:
        """Stop it and wait until it has ended, as whoever runs it does."""
        assert self.task
        await self.session.stop()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await asyncio.sleep(0)
        if not self.task.cancelled() and (error := self.task.exception()) is not None:
            raise error


def leftovers() -> list[str]:
    """Return the tasks that still run, besides this one."""
    current = asyncio.current_task()
    return [str(task) for task in asyncio.all_tasks() if task is not current]


def is_of_package(task: asyncio.Task[Any]) -> bool:
    """Return whether a task runs the package's code. Its text would not do: that names the files
    of whatever it runs, and a checkout may stand in a folder of any name."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and Path(code.co_filename).is_relative_to(PACKAGE)
