"""HTTP/2 as a REST server speaks it: streams side by side, each a row of steps.

Needs ``h2``; flow control of both directions is the library's, and is honoured.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from .rest_faults import EARLY_KINDS, RestFault
from .rest_venue import Answer, json_answer
from .rest_wire import BODY_MAX, HEAD_MAX, Desk, Exchange, RestWire

__all__ = ["Close", "Http2", "Reset", "Step", "steps_of"]

STREAMS_MAX = 100
REFUSED = int(ErrorCodes.REFUSED_STREAM)
WINDOW = 65_535
"""Bytes of a body that may be sent ahead, as the standard begins with."""


@dataclass(frozen=True)
class Reset:
    """RST_STREAM with a code."""

    code: int


class Close(Enum):
    """How the whole connection ends in place of an answer."""

    CLOSE = "close"
    RESET = "reset"
    GOAWAY = "goaway"


Step = list[tuple[str, str]] | bytes | float | Reset | Close | None
"""A head, bytes of the body, seconds to wait, or an end; ``None`` is the stream's own."""


def steps_of(answer: Answer, fault: RestFault | None, *, is_head: bool) -> list[Step]:
    """Return how an answer is sent on its stream.

    Args:
        fault: that changes how; those that change the answer itself have done so.
        is_head: of a HEAD request: without its body.
    """
    length = len(answer.body)
    body = b"" if is_head else answer.body
    kind = fault.kind if fault else ""
    told = max(1, length) if kind == "truncate" else length
    head = [(":status", str(answer.status)), ("content-type", answer.content_type)]
    head += [(name.lower(), value) for name, value in answer.headers]
    head.append(("content-length", str(told)))
    match fault:
        case RestFault(kind="reset"):
            return [Close.RESET]
        case RestFault(kind="close"):
            return [Close.CLOSE]
        case RestFault(kind="goaway-abrupt"):
            return [Close.GOAWAY]
        case RestFault(kind="internal-error"):
            return [Reset(ErrorCodes.INTERNAL_ERROR)]
        case RestFault(kind="no-answer"):
            return []
        case RestFault(kind="truncate", size=size):
            return [head, body[: min(length // 2 if size is None else size, told - 1)], None]
        case RestFault(kind="drip", seconds=float(seconds), size=int(size)):
            steps: list[Step] = [head]
            for at in range(0, len(body), size):
                steps += [seconds, body[at : at + size]]
            return [*steps, None]
        case RestFault(kind="stall", seconds=float(seconds), size=int(size)):
            begin: list[Step] = [head, body[:size], seconds] if size else [seconds, head]
            return [*begin, body[size:], None]
    return [head, body, None]


@dataclass
class _Stream:
    """A stream that is open.

    Attributes:
        steps: of its answer, that are left.
    """

    exchange: Exchange
    body: bytearray = field(default_factory=bytearray)
    steps: deque[Step] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None
    status: int | None = None
    is_pumping: bool = False


class Http2(RestWire):
    """A connection that speaks HTTP/2."""

    def __init__(self, desk: Desk, number: int, address: str) -> None:
        super().__init__(desk, number, address)
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                SettingCodes.MAX_HEADER_LIST_SIZE: HEAD_MAX,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            },
        )
        self._h2.decoder.max_header_list_size = HEAD_MAX
        self._streams: dict[int, _Stream] = {}
        self._last_id: int | None = None  # behind GOAWAY: later streams are not served
        self._widening: asyncio.TimerHandle | None = None
        self._has_left = False  # the client wants no answer any more
        self._reset_ids: set[int | None] = set()  # streams that the read at hand resets

    # ---- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with our settings."""
        super().connection_made(transport)
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        if self._is_ended:
            return
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._desk.note_malformed()
            self._flush()
            self._close()
            return
        self._has_left = any(isinstance(event, ConnectionTerminated) for event in events)
        self._reset_ids = {e.stream_id for e in events if isinstance(e, StreamReset)}
        for event in events:
            if not self._is_ended:
                self._take(event)
        # A setting or a window update may let any stream go on.
        for stream_id in list(self._streams):
            self._pump(stream_id)
        self._flush()

    def _take(self, event: Event) -> None:
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        match event:
            case RequestReceived(stream_id=int(stream_id), headers=headers):
                head = [(str(name), str(value)) for name, value in headers or ()]
                self._begin(stream_id, head, is_whole=event.stream_ended is not None)
            case DataReceived(stream_id=int(stream_id), data=data):
                size = event.flow_controlled_length or 0
                if size:
                    self._h2.acknowledge_received_data(size, stream_id)
                if stream:
                    self._take_body(stream_id, stream, data or b"")
            case StreamEnded():
                if stream and stream.status is None:  # else its body was too long
                    self._desk.finish(self, stream.exchange, bytes(stream.body))
            case StreamReset(stream_id=int(stream_id)):
                self._drop(stream_id)
            case ConnectionTerminated():
                self._close()

    def _begin(self, stream_id: int, headers: list[tuple[str, str]], is_whole: bool) -> None:
        self._watch_idle(is_idle=False)
        named = dict(headers)
        plain = [(name, value) for name, value in headers if name[:1] != ":"]
        is_given_back = self._last_id is not None
        exchange = self._desk.begin(
            self, "2", named.get(":method", ""), named.get(":path", ""), plain,
            can_be_struck=not is_given_back,
        )  # fmt: skip
        entry = exchange.entry
        if is_given_back:
            entry.fault, entry.is_whole = "goaway", is_whole
            return
        kind = exchange.fault.kind if exchange.fault else ""
        if kind not in EARLY_KINDS:
            self._streams[stream_id] = _Stream(exchange)
            return
        entry.is_whole = is_whole
        if kind == "reset-early":
            self.reset()
        elif kind == "refused-stream":
            self._streams[stream_id] = _Stream(exchange, steps=deque([Reset(REFUSED)]))
            self._pump(stream_id)
        else:
            # The library would end every stream with its own GOAWAY; the earlier ones are served.
            self._last_id = max(0, stream_id - 2)
            self._write_goaway(self._last_id, ErrorCodes.NO_ERROR)
            self._look_done()

    def _take_body(self, stream_id: int, stream: _Stream, data: bytes) -> None:
        if stream.status is not None:  # it was too long: the answer is on its way
            return
        stream.body += data
        if len(stream.body) > BODY_MAX:
            self._desk.note_malformed()
            answer = json_answer({"code": "no-request"}, 413)
            stream.steps = deque([*steps_of(answer, None, is_head=False), Reset(0)])
            stream.status = 413
            self._pump(stream_id)

    # ---- answers

    def play(self, exchange: Exchange, answer: Answer) -> None:
        """Send an answer on its stream."""
        found = [item for item in self._streams.items() if item[1].exchange is exchange]
        if not found or self._is_ended or self._has_left:
            return
        ((stream_id, stream),) = found
        self._change_settings(exchange.fault)
        is_head = exchange.entry.method == "HEAD"
        stream.steps = deque(steps_of(answer, exchange.fault, is_head=is_head))
        stream.status = answer.status
        self._pump(stream_id)
        self._flush()

    def _pump(self, stream_id: int) -> None:
        """Do the steps of a stream that are due, as far as its window reaches."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_pumping or stream_id in self._reset_ids:
            return
        stream.is_pumping = True
        while stream.steps and stream.timer is None and not (self._is_ended or self._has_left):
            step = stream.steps.popleft()
            if isinstance(step, bytes) and (rest := self._send(stream_id, step)):
                stream.steps.appendleft(rest)
                break
            if not isinstance(step, bytes):
                self._do(stream_id, stream, step)
        stream.is_pumping = False

    def _send(self, stream_id: int, data: bytes) -> bytes:
        """Send what the window lets; return the rest."""
        while data:
            window = self._h2.local_flow_control_window(stream_id)
            size = min(window, self._h2.max_outbound_frame_size, len(data))
            if size <= 0:
                break
            self._h2.send_data(stream_id, data[:size])
            data = data[size:]
        return data

    def _do(self, stream_id: int, stream: _Stream, step: Step) -> None:
        entry = stream.exchange.entry
        if isinstance(step, list):
            entry.status = stream.status
            self._h2.send_headers(stream_id, step)
        elif isinstance(step, float):
            self._flush()
            stream.timer = self._desk.later(step, lambda: self._wake(stream_id, stream))
        elif isinstance(step, Reset):
            with suppress(StreamClosedError):  # both sides have ended it: nothing is left to reset
                self._h2.reset_stream(stream_id, step.code)
            self._drop(stream_id)
        elif step is Close.RESET:
            self.reset()
        elif step is Close.CLOSE:
            self._close()
        elif step is Close.GOAWAY:
            self._write_goaway(max(self._streams), ErrorCodes.INTERNAL_ERROR)
            self._close()
        else:
            self._h2.end_stream(stream_id)
            self._desk.note_answered(entry)
            if not stream.steps:
                self._drop(stream_id)

    def _wake(self, stream_id: int, stream: _Stream) -> None:
        stream.timer = None
        self._pump(stream_id)
        self._flush()

    def _change_settings(self, fault: RestFault | None) -> None:
        match fault:
            case RestFault(kind="settings", size=int(size)):
                self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: size})
            case RestFault(kind="no-window", seconds=float(seconds)):
                self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
                self._desk.cancel(self._widening)
                self._widening = self._desk.later(seconds, self._widen)

    def _widen(self) -> None:
        self._widening = None
        if not (self._is_ended or self._has_left):
            self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
            self._flush()

    # ---- its life

    def _write_goaway(self, last_id: int, code: int) -> None:
        self._flush()
        frame = GoAwayFrame(stream_id=0, last_stream_id=last_id, error_code=code)
        self._write(frame.serialize())

    def _flush(self) -> None:
        self._write(self._h2.data_to_send())

    def _drop(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream:
            self._desk.cancel(stream.timer)
        self._look_done()

    def _look_done(self) -> None:
        if self._streams or self._is_ended:
            return
        if self._last_id is not None:
            self._flush()
            self._close()
        else:
            self._watch_idle()

    def _say_goodbye(self) -> None:
        self._write_goaway(self._h2.highest_inbound_stream_id, ErrorCodes.NO_ERROR)

    def _end(self) -> None:
        super()._end()
        for stream in self._streams.values():
            self._desk.cancel(stream.timer)
        self._desk.cancel(self._widening)
