"""One HTTP/1.1 connection: one request at a time, and no answer for anybody else.

Rules:
1. A request leaves as one write. While it is out nothing else is written.
2. Bytes that come while no request is out, or behind the end of an answer, end the connection: they
   would be taken for the answer to the next request.
3. An answer that breaks a rule of RFC 9112 ends its request with an error, and the connection.
4. Up to ``INFORMATIONS_MAX`` informational answers (1xx) are skipped; 101 is an error, since no
   upgrade was asked for.
5. Nothing is sent again.
"""

from __future__ import annotations

import re

import httptools

from ..seam import Seam
from .connection import Connection, Owner, Terms
from .exchange import Exchange, encode_headers

__all__ = ["Http1"]

INFORMATIONS_MAX = 8
_KEEP_ALIVE = re.compile(r"(?:^|[,;\s])timeout\s*=\s*(\d{1,6})(?:$|[,;\s])", re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_TELLING = frozenset(("content-length", "transfer-encoding", "content-encoding", "keep-alive"))
"""Headers that say something of the connection, or of the body."""


class _FaultError(Exception):
    """An answer is not taken."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Http1(Connection):
    """A connection; see :mod:`crosswire.http.http1` and :class:`Connection`."""

    is_shared = False
    version = "1.1"

    def __init__(self, terms: Terms, seam: Seam, owner: Owner) -> None:
        super().__init__(terms, seam, owner)
        self._line_end = f" HTTP/1.1\r\nHost: {terms.authority}\r\n".encode() + encode_headers(
            terms.headers
        )
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._has_ended = False
        self._forget()

    def _forget(self) -> None:
        """Be ready for the next head."""
        self._status = 0
        self._lines: list[tuple[bytes, bytes]] = []
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._trailer_size = self._body_size = self._informations = self._fed_size = 0
        self._is_head_done = self._is_done = self._has_more = self._is_lasting = False
        self._length: int | None = None
        self._is_chunked = False
        self._encoding = ""

    # ---- the owner's side

    @property
    def in_flight(self) -> int:
        """How many requests are out."""
        return 0 if self._exchange is None else 1

    @property
    def is_usable(self) -> bool:
        """A request may be sent now."""
        transport = self._transport
        return (
            self.is_open
            and self._exchange is None
            and transport is not None
            and not transport.is_closing()
        )

    def send(self, exchange: Exchange) -> None:
        """Send a request; only while :attr:`is_usable`."""
        transport = self._transport
        assert transport is not None
        assert self._exchange is None
        length = exchange.length
        line = f"{exchange.method} {exchange.target}".encode("ascii")
        more = encode_headers(exchange.headers) if exchange.headers else b""
        if length is None:
            data = b"%b%b%b\r\n" % (line, self._line_end, more)
        else:
            data = b"%b%b%bContent-Length: %d\r\n\r\n%b" % (
                line, self._line_end, more, length, exchange.body,
            )  # fmt: skip
        self._exchange = exchange
        exchange.got = now = self._clock()
        exchange.is_written = True
        transport.write(data)
        exchange.sent = self._clock()
        self._mind(now, exchange.deadline)

    def cancel(self, exchange: Exchange) -> None:
        """Give up a request: its answer would be taken for another one's."""
        if self._exchange is exchange:
            self._exchange = None
            self._drop()

    def close(self) -> None:
        """End; a request that is out is told, and what is left of it is not sent."""
        if self._exchange is None:
            self._leave()
            return
        self._fail("http-closed", "the pool was closed")
        self._drop()

    # ---- the deadline

    def _look_at_deadlines(self, now: int) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if now < exchange.deadline:
            self._mind(now, exchange.deadline)
            return
        self._exchange = None
        exchange.expire()
        self._drop()

    # ---- the transport's side

    def buffer_updated(self, nbytes: int) -> None:
        exchange = self._exchange
        if exchange is None:
            self._drop()
            return
        if not exchange.first:
            exchange.first = self._clock()
        if not self._is_head_done:
            self._fed_size += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
            if not self._is_head_done and self._fed_size > self._terms.head_max:
                raise _FaultError(
                    "http-head-size", f"the head is above {self._terms.head_max} bytes"
                )
        except (httptools.HttpParserError, _FaultError) as error:
            if not self._is_done:
                self._refuse(error)
                return
            self._has_more = True  # what stands behind the answer is not one
        if self._is_done:
            self._complete()

    def eof_received(self) -> bool:
        exchange = self._exchange
        if exchange is not None and self._is_until_eof():
            self._has_ended = True
            self._complete()
        self._end("the peer ended the connection")
        return False

    # ---- the parser's side

    def on_message_begin(self) -> None:
        if self._is_done:
            self._has_more = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_head_done:
            self._lines.append((name, value))
        else:  # a trailer, or what stands behind the answer
            self._trailer_size += len(name) + len(value) + 4
            if self._trailer_size > self._terms.head_max:
                raise self._too_long_a_head()

    def on_headers_complete(self) -> None:
        if self._is_done:
            return
        status = self._parser.get_status_code()
        headers = self._headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in self._lines
        ]
        if self._fed_size > self._terms.head_max:  # with what stands behind the head
            size = sum([len(name) + len(value) + 4 for name, value in headers])
            if size > self._terms.head_max:
                raise self._too_long_a_head()
        for name, value in headers:
            if name in _TELLING:
                self._note(name, value)
        if self._is_chunked and self._length is not None:
            raise _FaultError("http-malformed", "it has both Content-Length and Transfer-Encoding")
        if not 100 <= status <= 599 or status == 101:
            raise _FaultError("http-malformed", f"{status} is no status of an answer")
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise _FaultError("http-malformed", "it is neither HTTP/1.0 nor HTTP/1.1")
        if status < 200:
            self._informations += 1
            if self._informations > INFORMATIONS_MAX:
                raise _FaultError(
                    "http-malformed", f"more than {INFORMATIONS_MAX} informational answers"
                )
            self._lines, self._length, self._is_chunked, self._encoding = [], None, False, ""
            return
        self._status = status
        self._is_head_done = True
        if self._encoding not in ("", "identity"):
            raise _FaultError("http-encoding", "the body is encoded, which was not asked for")
        exchange = self._exchange
        if exchange is not None and exchange.method == "HEAD":
            self._is_done = True
            # The parser does not know of HEAD, and would take the next answer for a body.
            self._has_more = True
        elif status == 204 and (self._length or self._is_chunked):
            # It has none, but a server that says otherwise may send one: the next answer, to us.
            self._has_more = True
        elif (self._length or 0) > self._terms.body_max and status not in (204, 304):
            raise _FaultError("http-body-size", f"the body is above {self._terms.body_max} bytes")

    def _note(self, name: str, value: str) -> None:
        """Take in what a header says of the body's length and form, and of the connection."""
        match name:
            case "content-length":
                if self._length is not None or not _LENGTH.fullmatch(value):
                    raise _FaultError("http-malformed", "Content-Length is no single number")
                self._length = int(value)
            case "transfer-encoding":
                if self._is_chunked or value.lower() != "chunked":
                    raise _FaultError("http-malformed", "Transfer-Encoding is not chunked alone")
                self._is_chunked = True
            case "content-encoding":
                self._encoding = value.lower()
            case "keep-alive":
                if found := _KEEP_ALIVE.search(value):
                    self.idle_max_ns = int(found[1]) * 1_000_000_000

    def on_body(self, body: bytes) -> None:
        if self._is_done:
            self._has_more = True
            return
        self._body_size += len(body)
        if self._body_size > self._terms.body_max:
            raise _FaultError("http-body-size", f"the body is above {self._terms.body_max} bytes")
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._status and not self._is_done:
            self._is_done = True
            self._is_lasting = self._parser.should_keep_alive()

    def _too_long_a_head(self) -> _FaultError:
        return _FaultError("http-head-size", f"the head is above {self._terms.head_max} bytes")

    # ---- ends

    def _is_until_eof(self) -> bool:
        # TLS transports tell of an end alike with and without close_notify, and anybody can cut.
        is_plain = self._terms.scheme == "http"
        is_open_ended = not self._is_chunked and self._length is None
        return is_plain and self._is_head_done and is_open_ended

    def _complete(self) -> None:
        """Hand the answer over, and be free or gone."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        transport = self._transport
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        status, headers = self._status, self._headers
        is_kept = (
            not self._has_more
            and not self._has_ended
            and self._is_lasting
            and self.is_open
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()  # it answered before it had read all
        )
        self._forget()
        now = self._clock()
        self.answers += 1
        exchange.finish(status, headers, body, self.version, now)
        if not is_kept:
            self._leave()
            return
        self.idle_since = now
        self._owner.on_free(self)

    def _refuse(self, error: Exception) -> None:
        cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
        if isinstance(cause, _FaultError):
            self._fail(cause.code, str(cause), status=self._status or None)
        else:
            self._fail("http-malformed", f"the answer is no HTTP: {error}")
        self._drop()

    def _fail_cut(self, words: str) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.first:
            status = self._status or None
            self._fail("http-truncated", f"{words} inside the answer", status=status)
        else:
            self._fail("http-reset", f"{words} before an answer")

    def _fail(self, code: str, text: str, status: int | None = None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.fail(code, text, status=status)

    def _drop(self) -> None:
        """End without a word: what is still to come is of no use."""
        self.abort()
        self._leave()

    def _end(self, words: str) -> None:
        self._fail_cut(words)
        self._leave()
