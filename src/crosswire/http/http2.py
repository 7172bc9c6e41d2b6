"""One HTTP/2 connection: many requests at once, on the codec of the package ``h2``.

Rules:
1. A request is a stream. What breaks a rule of the connection ends all of them and it; what breaks
   one of a stream ends that one.
2. A stream that the server refused (REFUSED_STREAM), or that lies behind the last one that its
   GOAWAY names, has not run; any other that ends early may have.
3. What was received is acknowledged to flow control as it comes; an answer that grows above its
   limit is reset. What is sent waits for the server's windows.
4. Work is bounded: a server may send ``FRAMES_MAX`` frames that bring nothing in a row. What brings
   something is a part of an answer, room for a body that waits, or the answer to a PING; and each
   request begins a new row. A head is refused by its size while it comes.
5. A request that comes to its deadline, or is given up, makes the connection doubtful: the server
   is asked by a PING, and where nothing at all comes within ``ANSWER_S`` the connection takes no
   more; those that are out have their time.
6. Nothing is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from ..seam import Seam
from .connection import Connection, Owner, Terms
from .exchange import Exchange

__all__ = ["Http2"]

STREAMS_MAX = 100
"""Requests at once, also where the server allows more."""
WINDOW = 1 << 20
"""Of a stream and of the connection, for what the server sends."""
FRAMES_MAX = 1000
STREAM_ID_MAX = (1 << 31) - 3
SILENT_MAX = 1 << 21
"""Bytes that may come without being a frame or a head; the codec looks at the length of a frame
only when all of it is there, and a head has 64 frames of 16 KiB at most."""
ANSWER_S = 1.0
ANSWER_NS = round(ANSWER_S * 1e9)
_REFUSED, _CANCEL = 7, 8
_SETTINGS = 4


class _Codec(h2.connection.H2Connection):
    """Reads on behind a GOAWAY, which the package's own takes for the end: a server that goes away
    still answers the streams that it names."""

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[h2.events.Event]]:
        event = h2.events.ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class _Stream:
    """A request that is out, and what has come of its answer."""

    __slots__ = ("body", "exchange", "has_head", "headers", "size", "status", "unsent")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.unsent = memoryview(exchange.body)
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body: list[bytes] = []
        self.size = 0
        self.has_head = False


class Http2(Connection):
    """A connection; see :mod:`crosswire.http.http2` and :class:`Connection`."""

    is_shared = True
    version = "2"

    def __init__(self, terms: Terms, seam: Seam, owner: Owner) -> None:
        super().__init__(terms, seam, owner)
        self._head = [(":scheme", terms.scheme), (":authority", terms.authority)]
        self._constant = [(name.lower(), value) for name, value in terms.headers]
        self._streams: dict[int, _Stream] = {}
        self._ids: dict[Exchange, int] = {}
        self._idle_frames = self._silent_size = 0
        self._doubted = 0  # when it was asked whether it lives; 0: it is not doubted
        self._opening: bytearray | None = bytearray()
        self._was_full = False
        self._pings: list[asyncio.Future[None]] = []
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1")
        self._codec = _Codec(config)
        self._codec.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: terms.head_max,
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
            },
        )
        self._codec.decoder.max_header_list_size = terms.head_max

    # ---- the owner's side

    @property
    def in_flight(self) -> int:
        """How many requests are out."""
        return len(self._streams)

    @property
    def is_usable(self) -> bool:
        """A request may be sent now."""
        transport = self._transport
        return (
            self.is_open
            and not self.is_leaving
            and transport is not None
            and not transport.is_closing()
            and len(self._streams) < self._streams_max
        )

    @property
    def _streams_max(self) -> int:
        return min(STREAMS_MAX, self._codec.remote_settings.max_concurrent_streams)

    def send(self, exchange: Exchange) -> None:
        """Send a request; only while :attr:`is_usable`."""
        exchange.got = now = self._clock()
        head = [(":method", exchange.method), (":path", exchange.target), *self._head]
        head += self._constant
        head += [(name.lower(), value) for name, value in exchange.headers]
        if exchange.length is not None:
            head.append(("content-length", str(exchange.length)))
        number = self._codec.get_next_available_stream_id()
        stream = self._streams[number] = _Stream(exchange)
        self._ids[exchange] = number
        self._idle_frames = 0  # what an idle hour brought is not this one's fault
        exchange.is_written = True
        self._codec.send_headers(number, head, end_stream=not exchange.body)
        if exchange.body:
            self._send_body(number, stream)
        else:
            exchange.sent = now
        self._flush()
        if number >= STREAM_ID_MAX:  # the last one
            self.is_leaving = True
        if exchange.sent:
            exchange.sent = self._clock()
        self._was_full = not self.is_usable
        self._mind(now, exchange.deadline)

    def cancel(self, exchange: Exchange) -> None:
        """Give up a request: its stream is reset."""
        number = self._ids.get(exchange)
        if number is not None:
            self._doubt(self._clock())
            self._reset(number)
            self._flush()
            self._settle()

    def close(self) -> None:
        """End; the requests that are out are told."""
        self._fail_all("http-closed", "the pool was closed")
        if self.is_open:
            self._codec.close_connection()
            self._flush()
        self._leave()

    async def ping(self) -> None:
        """Ask for a sign of life, and wait for it. It ends with the connection, too."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pings.append(done)
        self._codec.ping(b"crosswir")
        self._flush()
        await done

    # ---- the deadline

    def _look_at_deadlines(self, now: int) -> None:
        for number, stream in list(self._streams.items()):
            if stream.exchange.deadline <= now:
                self._doubt(now)
                stream.exchange.expire()
                self._reset(number)
        if self._doubted and now >= self._doubted + ANSWER_NS:
            self._doubted = 0
            self.is_leaving = True
        self._flush()
        ends = [stream.exchange.deadline for stream in self._streams.values()]
        if self._doubted:
            ends.append(self._doubted + ANSWER_NS)
        if ends:
            self._mind(now, min(ends))
        self._settle()

    def _doubt(self, now: int) -> None:
        """Ask whether the server lives."""
        if self._doubted or self.is_leaving or not self.is_open:
            return
        self._doubted = now
        self._codec.ping(b"crosswir")
        self._mind(now, now + ANSWER_NS)

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._codec.initiate_connection()
        self._codec.increment_flow_control_window(WINDOW - 65535)
        self._flush()

    def buffer_updated(self, nbytes: int) -> None:
        now = self._clock()
        self._doubted = 0
        try:
            data = bytes(self._buffer[:nbytes])
            if self._opening is not None:
                self._check_opening(data)
            events = self._codec.receive_data(data)
            self._silent_size = 0 if events else self._silent_size + nbytes
            if self._silent_size > SILENT_MAX:
                raise h2.exceptions.FrameTooLargeError("a frame or a head without end")
            for event in events:
                self._take(event, now)
            self._send_waiting()
        except h2.exceptions.DenialOfServiceError as error:
            self._break("http-head-size", f"the server sends too much of a head: {error}")
            return
        except h2.exceptions.ProtocolError as error:
            self._break("http-malformed", f"the server broke HTTP/2: {error}")
            return
        self._flush()
        if self.is_open and self._idle_frames > FRAMES_MAX:
            self._break("http-malformed", f"more than {FRAMES_MAX} frames that bring no answer")
            return
        self._settle()

    def eof_received(self) -> bool:
        self._end("the peer ended the connection")
        return False

    # ---- what comes

    def _check_opening(self, data: bytes) -> None:
        """A server begins with SETTINGS (RFC 9113, 3.4); any other bytes could pass for a frame of
        megabytes that the codec waits for."""
        assert self._opening is not None
        self._opening += data[: 9 - len(self._opening)]
        if len(self._opening) == 9:
            size = int.from_bytes(self._opening[:3], "big")
            if self._opening[3] != _SETTINGS or size > 16384:
                raise h2.exceptions.ProtocolError("it does not begin with SETTINGS")
            self._opening = None

    def _take(self, event: h2.events.Event, now: int) -> None:
        self._idle_frames += 1
        if isinstance(event, h2.events.PingAckReceived):
            if self._pings:
                self._idle_frames = 0
            for ping in self._pings:
                if not ping.done():
                    ping.set_result(None)
            self._pings.clear()
            return
        if isinstance(event, h2.events.ConnectionTerminated):
            self._go_away(event)
            return
        number: int | None = getattr(event, "stream_id", None)
        stream = self._streams.get(number) if number else None
        if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
            self._codec.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if stream is None or number is None:
            return
        exchange = stream.exchange
        if not exchange.first and not isinstance(event, h2.events.WindowUpdated):
            exchange.first = now
        if isinstance(event, h2.events.ResponseReceived):
            self._take_head(number, stream, event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.size += len(event.data)
            if stream.size > self._terms.body_max:
                self._refuse(number, "http-body-size", f"above {self._terms.body_max} bytes")
            elif event.data:
                stream.body.append(event.data)
                self._idle_frames = 0
        elif isinstance(event, h2.events.StreamEnded):
            self._finish(number, stream, now)
        elif isinstance(event, h2.events.StreamReset):
            self._take_reset(number, stream, event)

    def _take_head(self, number: int, stream: _Stream, headers: Sequence[tuple[Any, Any]]) -> None:
        pairs = [(str(name), str(value)) for name, value in headers]
        status = pairs[0][1] if pairs and pairs[0][0] == ":status" else ""
        if not (len(status) == 3 and status.isascii() and status.isdecimal()):
            self._refuse(number, "http-malformed", "the answer has no status")
            return
        stream.status = int(status)
        stream.headers = [pair for pair in pairs if pair[0] != ":status"]
        if not 200 <= stream.status <= 599:
            self._refuse(number, "http-malformed", f"{status} is no status of an answer")
            return
        for name, value in stream.headers:
            if name == "content-encoding" and value.lower() not in ("", "identity"):
                self._refuse(
                    number, "http-encoding", "the body is encoded, which was not asked for"
                )
                return

    def _finish(self, number: int, stream: _Stream, now: int) -> None:
        if stream.size == 0 and self._lacks_body(stream):
            # The codec compares the two only where a DATA frame comes.
            self._refuse(number, "http-malformed", "the answer has a Content-Length and no body")
            return
        if stream.unsent:  # it answered before it had read all
            self._reset(number)
        else:
            self._forget(number)
        self._idle_frames = 0
        self.idle_since = now
        self.answers += 1
        body = stream.body[0] if len(stream.body) == 1 else b"".join(stream.body)
        stream.exchange.finish(stream.status, stream.headers, body, self.version, now)

    def _lacks_body(self, stream: _Stream) -> bool:
        """Return whether an answer that came without a body says that it has one."""
        if stream.exchange.method == "HEAD" or stream.status in (204, 304):
            return False
        return any(name == "content-length" and value.strip("0") for name, value in stream.headers)

    def _take_reset(self, number: int, stream: _Stream, event: h2.events.StreamReset) -> None:
        self._forget(number)
        code = int(event.error_code or 0)
        who = "the server" if event.remote_reset else "the codec"
        stream.exchange.fail(
            "http-stream-reset" if event.remote_reset else "http-malformed",
            f"{who} reset the stream with {_name(code)}",
            status=stream.status or None,
            has_run=not (event.remote_reset and code == _REFUSED and not stream.status),
        )

    def _go_away(self, event: h2.events.ConnectionTerminated) -> None:
        """Take no more requests; those up to the last one that it names may still be answered."""
        last = event.last_stream_id or 0
        code = int(event.error_code or 0)
        for number, stream in list(self._streams.items()):
            if number > last:
                self._forget(number)
                stream.exchange.fail(
                    "http-goaway",
                    f"the server ends the connection with {_name(code)}, behind stream {last}",
                    status=stream.status or None,
                    has_run=bool(stream.status),
                )
        self.is_leaving = True

    # ---- what goes

    def _send_body(self, number: int, stream: _Stream) -> None:
        """Send as much as the server's windows take."""
        codec = self._codec
        while stream.unsent:
            size = min(codec.local_flow_control_window(number), codec.max_outbound_frame_size)
            if size <= 0:
                return
            piece, stream.unsent = stream.unsent[:size], stream.unsent[size:]
            codec.send_data(number, bytes(piece), end_stream=not stream.unsent)
            self._idle_frames = 0
        stream.exchange.sent = self._clock()

    def _send_waiting(self) -> None:
        if not self.is_open:
            return
        for number, stream in list(self._streams.items()):
            if stream.unsent:
                self._send_body(number, stream)

    def _flush(self) -> None:
        data = self._codec.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # ---- ends

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number)
        del self._ids[stream.exchange]

    def _refuse(self, number: int, code: str, text: str) -> None:
        stream = self._streams[number]
        stream.exchange.fail(code, text, status=stream.status or None)
        self._reset(number)

    def _reset(self, number: int) -> None:
        self._forget(number)
        try:
            self._codec.reset_stream(number, _CANCEL)
        except h2.exceptions.StreamClosedError:
            pass  # it has ended on both sides

    def _settle(self) -> None:
        """Tell the owner, where there is room again; end, where there will be none."""
        if self.is_leaving and not self._streams:
            self._leave()
        elif not self.is_usable:
            self._was_full = True
        elif self._was_full:
            self._was_full = False
            self._owner.on_free(self)

    def _end(self, words: str) -> None:
        for number, stream in list(self._streams.items()):
            self._forget(number)
            where = "inside the answer" if stream.status else "before an answer"
            code = "http-truncated" if stream.status else "http-reset"
            stream.exchange.fail(code, f"{words} {where}", status=stream.status or None)
        self._leave()

    def _break(self, code: str, text: str) -> None:
        self._fail_all(code, text)
        self._flush()  # its GOAWAY
        self._leave()

    def _fail_all(self, code: str, text: str) -> None:
        for number, stream in list(self._streams.items()):
            self._forget(number)
            stream.exchange.fail(code, text, status=stream.status or None)

    def _leave(self) -> None:
        for ping in self._pings:
            if not ping.done():
                ping.set_result(None)
        self._pings.clear()
        super()._leave()


def _name(code: int) -> str:
    try:
        return h2.errors.ErrorCodes(code).name
    except ValueError:
        return f"error {code}"
