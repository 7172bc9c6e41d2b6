"""HTTP/1.1 as a REST server speaks it: requests in, one after the other or ahead; answers in order.

An answer is a row of steps: bytes to send, seconds to wait, and how it ends. A fault is another
row.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from http import HTTPStatus

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from .rest_faults import RestFault
from .rest_venue import Answer, json_answer
from .rest_wire import BODY_MAX, HEAD_MAX, Desk, Exchange, RestWire

__all__ = ["End", "Http1", "Step", "steps_of"]

AHEAD_MAX = 64
"""Requests of a connection that wait for their answers; no more are read meanwhile."""
CHUNK_END = b"0\r\n\r\n"


class End(Enum):
    """How a connection ends behind an answer."""

    CLOSE = "close"
    RESET = "reset"


Step = bytes | float | End

BAD_HEADS = (
    b"HELLO 1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
)
"""By the ``variant`` of a ``bad-head``."""


def _head_of(answer: Answer, length: int | None, is_last: bool) -> bytes:
    """Return a head.

    Args:
        length: of the body; ``None``: it comes in chunks.
        is_last: the connection is closed behind it.
    """
    try:
        reason = HTTPStatus(answer.status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {answer.status} {reason}", f"content-type: {answer.content_type}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    if is_last:
        lines.append("connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def steps_of(
    answer: Answer, fault: RestFault | None, *, is_head: bool, is_last: bool
) -> list[Step]:
    """Return how an answer is sent.

    Args:
        fault: that changes how; those that change the answer itself have done so.
        is_head: of a HEAD request: without its body.
        is_last: the connection is closed behind it.
    """
    body, length = answer.body, len(answer.body)
    is_last = is_last or (fault is not None and fault.kind == "last")
    if answer.is_chunked:
        middle = length // 2
        parts = [body[:middle], body[middle:]] if middle else [body] if body else []
        data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + CHUNK_END
        whole = _head_of(answer, None, is_last) + (b"" if is_head else data)
    else:
        whole = _head_of(answer, length, is_last) + (b"" if is_head else body)
    end: list[Step] = [End.CLOSE] if is_last else []
    match fault:
        case RestFault(kind="reset"):
            return [End.RESET]
        case RestFault(kind="close"):
            return [End.CLOSE]
        case RestFault(kind="truncate", size=size):
            told = _head_of(answer, max(1, length), is_last)
            return [told + body[: min(length // 2 if size is None else size, max(0, length - 1))],
                    End.CLOSE]  # fmt: skip
        case RestFault(kind="drip", seconds=float(seconds), size=int(size)):
            steps: list[Step] = []
            for at in range(0, len(whole), size):
                steps += [whole[at : at + size], seconds]
            return steps[:-1] + end
        case RestFault(kind="stall", seconds=float(seconds), size=int(size)):
            return [whole[:size], seconds, whole[size:], *end]
        case RestFault(kind="bad-head", variant=int(variant)):
            return [BAD_HEADS[variant], End.CLOSE]
        case RestFault(kind="bad-chunk"):
            return [_head_of(answer, None, is_last) + b"2\r\n{}\r\nzz\r\n{}\r\n", End.CLOSE]
        case RestFault(kind="twice"):
            return [whole + whole, *end]
        case RestFault(kind="unasked", seconds=float(seconds)):
            late = _head_of(Answer(408), 0, is_last=True)
            return [whole, seconds, late, End.CLOSE]
    return [whole, *end]


class _Slot:
    """The place of an answer in the row of a connection's answers.

    Attributes:
        steps: what is left to do; ``None``: the answer is not there yet.
        sends_left: how many of them are bytes of the answer.
    """

    def __init__(self, exchange: Exchange | None, steps: list[Step] | None = None) -> None:
        self.exchange = exchange
        self.status: int | None = None
        self.steps = None if steps is None else deque(steps)
        self.sends_left = 0


class Http1(RestWire):
    """A connection that speaks HTTP/1.1; the parser calls its ``on_`` methods."""

    def __init__(self, desk: Desk, number: int, address: str) -> None:
        super().__init__(desk, number, address)
        self._parser = HttpRequestParser(self)
        self._slots: deque[_Slot] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._refusal = 0  # status that ends the reading
        self._whole: list[tuple[Exchange, bytes]] = []
        self._is_pumping = False
        self._begin()

    def _begin(self) -> None:
        self._exchange: Exchange | None = None
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._head_size = 0  # of what the parser gave
        self._unread_size = 0  # of reads that were nothing but a part of a head
        self._body = bytearray()

    # ---- called by the loop

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        if self._is_ended or self._refusal:
            return
        is_in_head = self._exchange is None
        self._parse(data)
        if is_in_head and self._exchange is None and not self._whole:
            self._unread_size += len(data)
            if self._unread_size > HEAD_MAX:
                self._refusal = self._refusal or 431
        self._finish_whole()
        if self._refusal and not self._is_ended:
            self._refuse()
        self._regulate()

    def _finish_whole(self) -> None:
        whole, self._whole = self._whole, []
        for exchange, body in whole:
            if not self._is_ended:
                self._desk.finish(self, exchange, body)

    def _parse(self, data: bytes) -> None:
        while data and not self._refusal:
            try:
                self._parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                # It offers another protocol, which nobody has to take: the request is like any
                # other, and what follows is the next one.
                self._parser = HttpRequestParser(self)
                data = data[upgrade.args[0] :]
            except HttpParserCallbackError:
                raise  # not the client's fault
            except HttpParserError:
                self._refusal = self._refusal or 400
                return

    # ---- called by the parser

    def on_message_begin(self) -> None:
        """Begin a request; behind one that is refused, none."""
        if not self._refusal:
            self._watch_idle(is_idle=False)
            self._begin()

    def on_url(self, url: bytes) -> None:
        """Take the target, or more of it."""
        self._url += url
        self._measure(len(url))

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Take one header."""
        text = (value or b"").decode("latin-1")
        self._headers.append((name.decode("latin-1").lower(), text))
        self._measure(len(name) + len(text) + 4)

    def on_headers_complete(self) -> None:
        """Let the server know that a request has begun."""
        if self._is_ended or self._refusal:
            return
        method = self._parser.get_method().decode("latin-1")
        exchange = self._exchange = self._desk.begin(
            self, "1.1", method, self._url.decode("latin-1"), self._headers
        )
        if exchange.fault and exchange.fault.kind == "reset-early":
            self._finish_whole()  # what came before it is not struck
            if not self._is_ended:
                self.reset()
            return
        self._slots.append(_Slot(exchange))

    def on_body(self, body: bytes) -> None:
        """Take some of the body."""
        if self._is_ended or self._refusal:
            self._body += body[:1]
            return
        self._body += body
        if len(self._body) > BODY_MAX:
            self._refusal = 413

    def on_message_complete(self) -> None:
        """Put the request aside until the parser has returned."""
        exchange = self._exchange
        if exchange is None or self._refusal:
            return
        if self._is_ended:  # its head was struck; whether more of it was there is known now
            exchange.entry.is_whole = not self._body
            return
        if self._parser.should_upgrade() and any(
            name in ("content-length", "transfer-encoding") for name, _ in self._headers
        ):
            self._refusal = 400  # the parser takes the body for the other protocol's
            return
        exchange.is_last = not self._parser.should_keep_alive()
        exchange.entry.is_whole = True
        self._whole.append((exchange, bytes(self._body)))
        self._exchange = None

    def _measure(self, size: int) -> None:
        self._head_size += size
        if self._head_size > HEAD_MAX:
            self._refusal = self._refusal or 431

    def _refuse(self) -> None:
        """Say what is wrong behind the answers that are due, and close the connection."""
        self._desk.note_malformed()
        if self._exchange and self._slots and self._slots[-1].exchange is self._exchange:
            self._slots.pop()
        else:
            self._exchange = None
        answer = json_answer({"code": "no-request"}, self._refusal)
        slot = _Slot(self._exchange, steps_of(answer, None, is_head=False, is_last=True))
        slot.status, slot.sends_left = self._refusal, 1
        self._slots.append(slot)
        self._pump()

    # ---- answers

    def play(self, exchange: Exchange, answer: Answer) -> None:
        """Send an answer when those before it are sent."""
        for slot in self._slots:
            if slot.exchange is exchange:
                is_head = exchange.entry.method == "HEAD"
                steps = steps_of(answer, exchange.fault, is_head=is_head, is_last=exchange.is_last)
                slot.steps, slot.status = deque(steps), answer.status
                is_unasked = exchange.fault is not None and exchange.fault.kind == "unasked"
                sends = sum(isinstance(step, bytes) and step != b"" for step in steps)
                slot.sends_left = sends - is_unasked  # what nobody asked for is no answer
        self._pump()

    def _pump(self) -> None:
        """Do the steps that are due."""
        if self._is_pumping:
            return
        self._is_pumping = True
        while self._slots and self._timer is None and not self._is_ended:
            slot = self._slots[0]
            if slot.steps is None:
                break
            if not slot.steps:
                self._slots.popleft()
                continue
            self._do(slot, slot.steps.popleft())
        self._is_pumping = False
        if not self._slots:
            self._watch_idle()
        self._regulate()

    def _do(self, slot: _Slot, step: Step) -> None:
        if isinstance(step, bytes):
            if slot.exchange and step:
                slot.exchange.entry.status = slot.status
                slot.sends_left -= 1
                if slot.sends_left == 0:
                    self._desk.note_answered(slot.exchange.entry)
            self._write(step)
        elif isinstance(step, float):
            self._timer = self._desk.later(step, self._wake)
        elif step is End.CLOSE:
            self._close()
        else:
            self.reset()

    def _wake(self) -> None:
        self._timer = None
        self._pump()

    # ---- for the base

    def _has_too_many(self) -> bool:
        return len(self._slots) > AHEAD_MAX

    def _end(self) -> None:
        super()._end()
        self._desk.cancel(self._timer)
