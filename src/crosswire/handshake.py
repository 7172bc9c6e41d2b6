"""The WebSocket upgrade in both roles, on the Sans-I/O layer of ``websockets``.

We cut the head at the empty line and give the library exactly that: it checks the
``Sec-WebSocket-Accept`` against the key that was sent, and negotiates permessage-deflate. What
follows the head belongs to our codec.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.typing import Origin
from websockets.uri import WebSocketURI, parse_uri

from .errors import HandshakeError, UsageError

__all__ = [
    "HEAD_MAX",
    "ClientHandshake",
    "Deflation",
    "ServerHandshake",
    "parse_url",
    "text_shown",
    "url_shown",
]

HEAD_MAX = 16384
"""The longest head in bytes, its empty line included."""
HEADERS_MAX = 128
"""Most header lines of a head."""
TEXT_MAX = 200
"""Most characters of a peer's text in an error."""
_FORBIDDEN = frozenset("\r\n\0")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~]*")
_TOKEN = re.compile(r"[!-~]+")
_SILENT = logging.Logger("crosswire.handshake", logging.CRITICAL + 1)
"""The library would log every header, and tokens and keys of venues stand in some."""
_REDIRECTS = (b"301", b"302", b"303", b"307", b"308")
_LOCATION = re.compile(rb"\r\nlocation:[ \t]*([^\r\n]*)", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5]\d\d)[ \r]")


def parse_url(url: str) -> WebSocketURI:
    """Take a ``ws://`` or ``wss://`` URL apart; its port is the scheme's where it names none.

    Raises:
        UsageError: it is not one, its host or port cannot be, or it holds a space or a control
            character.
    """
    what = f"{url_shown(url)!r} is no WebSocket URL"
    if any(char <= " " or char == "\x7f" for char in url):
        raise UsageError(f"{what}: it holds a space or a control character")
    try:
        parts = urlsplit(url)
        is_port = parts.port != 0
    except ValueError:
        is_port = False
    if not is_port:
        raise UsageError(f"{what}: its host or port cannot be")
    try:
        user, at, host = parts.netloc.rpartition("@")
        if at and ":" not in user:  # a name without a password has an empty one
            url = parts._replace(netloc=f"{user}:@{host}").geturl()
        uri = parse_uri(url)
        uri.host.encode("idna")  # as looking it up will
        return uri
    except InvalidURI as error:  # its text is the whole URL
        raise UsageError(f"{what}: {error.msg}") from None
    except ValueError:
        raise UsageError(f"{what}: its host cannot be") from None


def url_shown(url: str) -> str:
    """Return what may be shown of a URL: scheme, host and port. The rest may hold secrets."""
    scheme, mark, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    if not mark:
        scheme, rest = "", scheme
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('/')[0]}"


def text_shown(text: str) -> str:
    """Return what may be shown of a peer's text: 200 characters, those that print."""
    return "".join(char if char.isprintable() else "?" for char in text[:TEXT_MAX])


@dataclass(frozen=True)
class Deflation:
    """What an upgrade agreed on permessage-deflate (RFC 7692).

    Attributes:
        read_bits, write_bits: the peer's window and ours, 8..15: bytes are 1 << bits.
        reads_context, writes_context: whether the peer's messages, and ours, may refer back to
            those before them.
        level: how hard ours are compressed, 0 (not at all) to 9; -1 is zlib's choice.
    """

    read_bits: int = 15
    write_bits: int = 15
    reads_context: bool = True
    writes_context: bool = True
    level: int = -1


def _deflation_of(protocol: Protocol) -> Deflation | None:
    """Return what was agreed."""
    for extension in protocol.extensions:
        assert isinstance(extension, PerMessageDeflate)  # nothing else is offered or taken
        return Deflation(
            extension.remote_max_window_bits,
            extension.local_max_window_bits,
            not extension.remote_no_context_takeover,
            not extension.local_no_context_takeover,
        )
    return None


class _Head:
    """Bytes up to the empty line."""

    def __init__(self) -> None:
        self._data = bytearray()

    def take(self, new: bytes | bytearray | memoryview) -> tuple[bytes, bytes] | None:
        """Return the head and the bytes behind it, or ``None`` while it is not whole.

        Raises:
            HandshakeError: it is longer than 16 KiB, or has more than 128 lines.
        """
        self._data += new
        end = self._data.find(b"\r\n\r\n", 0, HEAD_MAX)
        if end < 0:
            if len(self._data) >= HEAD_MAX:
                raise HandshakeError("handshake-head", HEAD_MAX, "head of more than 16 KiB")
            return None
        data, self._data = self._data, bytearray()  # a token may stand in it: it is not kept
        head = bytes(data[: end + 4])
        if head.count(b"\r\n") > HEADERS_MAX + 2:
            raise HandshakeError("handshake-head", 0, f"head of more than {HEADERS_MAX} lines")
        return head, bytes(data[end + 4 :])


class ClientHandshake:
    """One upgrade: send :meth:`request`, then give :meth:`receive` what arrives.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: further headers to send.
        offers_deflate: offer permessage-deflate.

    Attributes:
        is_secure: the URL asks for TLS; whoever owns the socket sees to it.
        deflation: what was agreed, once the answer was received; ``None``: nothing.

    Raises:
        UsageError: the URL is not one, or a header cannot be sent or is the upgrade's own.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        offers_deflate: bool = False,
    ) -> None:
        extensions = [ClientPerMessageDeflateFactory()] if offers_deflate else None
        where = parse_url(url)
        self.is_secure = where.secure
        self._protocol = ClientProtocol(where, extensions=extensions, logger=_SILENT)
        self._head = _Head()
        self.deflation: Deflation | None = None
        request = self._protocol.connect()
        for name, value in (headers or {}).items():
            if _FORBIDDEN & set(name + value):
                raise UsageError(f"header {name!r} holds a line break or NUL")
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
                raise UsageError(f"header {name!r} holds what no header of ASCII may")
            if name in request.headers:
                raise UsageError(f"header {name!r} is written by the upgrade, or given twice")
            request.headers[name] = value
        self._protocol.send_request(request)

    def request(self) -> bytes:
        """Return the bytes of the upgrade request, once."""
        return b"".join(self._protocol.data_to_send())

    def receive(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """Take bytes of the answer.

        Returns:
            ``None`` while the head is not whole; then the bytes that follow it, maybe none.

        Raises:
            HandshakeError: the answer is no upgrade, or its head is longer than 16 KiB.
        """
        whole = self._head.take(data)
        if whole is None:
            return None
        head, rest = whole
        status = _STATUS.match(head)
        if status and status[1] != b"101":  # told here, for its body is not read
            line = head.partition(b"\r\n")[0].decode("latin-1")
            if status[1] in _REDIRECTS and (place := _LOCATION.search(head)):
                raise _redirect(line, place[1].decode("latin-1"))
            raise _refusal(f"answered with {line}")
        self._protocol.receive_data(head)
        if self._protocol.state is not State.OPEN:
            raise _refusal(self._protocol.handshake_exc)
        self.deflation = _deflation_of(self._protocol)
        return rest


class ServerHandshake:
    """One upgrade of a server: give :meth:`receive` what arrives, then send :meth:`answer`, also
    when it raised: the peer is told why.

    Args:
        token: a client must send ``Authorization: Bearer TOKEN``; ``None``: anybody may connect.
            It is printable ASCII without spaces, and stands in no error and no answer.
        origins: allowed values of ``Origin``, that is web pages; a client that sends none is no
            page. Empty: no page.
        hosts: allowed values of ``Host``, against pages that renamed their own host to this one;
            ``None``: any.
        takes_deflate: accept an offer of permessage-deflate.
        has_room: asked of a request that may be upgraded; ``False``: 503. ``None``: there is.

    Attributes:
        path: what the client asked for, once the request was received.
        status: of the answer, 101 for an upgrade; 0 before there is one.
        deflation: what was agreed, once the request was received; ``None``: nothing.

    Raises:
        UsageError: the token cannot be sent in a header, or ``origins`` or ``hosts`` is one text
            and no list.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        origins: Sequence[str] = (),
        hosts: Sequence[str] | None = None,
        takes_deflate: bool = False,
        has_room: Callable[[], bool] | None = None,
    ) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            raise UsageError("a token is printable ASCII without spaces, of one character or more")
        if isinstance(origins, str) or isinstance(hosts, str):
            raise UsageError("origins and hosts are lists of texts")
        extensions = [ServerPerMessageDeflateFactory()] if takes_deflate else None
        allowed = [None, *(Origin(origin) for origin in origins)]
        self._protocol = ServerProtocol(origins=allowed, extensions=extensions, logger=_SILENT)
        self._head = _Head()
        self._answer = b""
        self._token = None if token is None else f"Bearer {token}".encode()
        self._hosts = hosts
        self._has_room = has_room
        self.path = ""
        self.status = 0
        self.deflation: Deflation | None = None

    def receive(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """Take bytes of the request.

        Returns:
            ``None`` while the head is not whole; then the bytes that follow it, maybe none.

        Raises:
            HandshakeError: it is no upgrade, or is refused; :meth:`answer` says so.
        """
        try:
            whole = self._head.take(data)
        except HandshakeError:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            raise
        if whole is None:
            return None
        head, rest = whole
        self._protocol.receive_data(head)
        requests = self._protocol.events_received()
        if not requests:
            self._take_answer()  # to lines that are too long the library gives one
            if not self._answer:
                self.refuse(HTTPStatus.BAD_REQUEST)
            raise _refusal(self._protocol.handshake_exc)
        request = cast(Request, requests[0])
        self.path = request.path
        response = self._response_to(request)
        self._protocol.send_response(response)
        self._take_answer()
        if self._protocol.state is not State.OPEN:
            raise _refusal(f"answered with {response.status_code} {response.reason_phrase}")
        self.deflation = _deflation_of(self._protocol)
        return rest

    def answer(self) -> bytes:
        """Return the bytes of the answer, once."""
        answer, self._answer = self._answer, b""
        return answer

    def refuse(self, status: HTTPStatus) -> None:
        """Put an answer in line that is no upgrade, where none was given yet."""
        self._answer = self._protocol.reject(status, f"{status.phrase}\n").serialize()
        self.status = status

    def _response_to(self, request: Request) -> Response:
        headers = request.headers
        given = headers.get_all("Authorization")
        if self._token is not None and not (
            len(given) == 1
            and hmac.compare_digest(given[0].encode("utf-8", "surrogateescape"), self._token)
        ):
            response = self._protocol.reject(HTTPStatus.UNAUTHORIZED, "a token is needed\n")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        hosts = headers.get_all("Host")
        if len(hosts) != 1:
            return self._protocol.reject(HTTPStatus.BAD_REQUEST, "one Host is needed\n")
        if self._hosts is not None and hosts[0] not in self._hosts:
            return self._protocol.reject(HTTPStatus.FORBIDDEN, "not a host of this server\n")
        if any(not value.isascii() for name, value in headers.raw_items() if _is_read(name)):
            return self._protocol.reject(HTTPStatus.BAD_REQUEST, "a header is not ASCII\n")
        if any(version != "13" for version in headers.get_all("Sec-WebSocket-Version")):
            response = self._protocol.reject(HTTPStatus.UPGRADE_REQUIRED, "version 13 is spoken\n")
            response.headers["Upgrade"] = "websocket"
            response.headers["Sec-WebSocket-Version"] = "13"
            return response
        response = self._protocol.accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS and not (
            self._has_room is None or self._has_room()
        ):
            return self._protocol.reject(HTTPStatus.SERVICE_UNAVAILABLE, "no room\n")
        return response

    def _take_answer(self) -> None:
        self._answer += b"".join(self._protocol.data_to_send())
        if self._answer:
            self.status = int(self._answer[9:12])


def _is_read(name: str) -> bool:
    """Return whether the value of a header is looked at by the library."""
    name = name.lower()
    return name in ("connection", "upgrade", "origin") or name.startswith("sec-websocket-")


def _refusal(why: str | Exception | None) -> HandshakeError:
    text = str(why) if isinstance(why, str | InvalidHandshake) else repr(why)
    return HandshakeError("handshake-refused", 0, text_shown(text))


def _redirect(line: str, place: str) -> HandshakeError:
    """Refuse to go elsewhere: what is trusted is the place that was asked for."""
    place = re.split(r"[?#]", place, maxsplit=1)[0]
    is_elsewhere = "://" in place or place.startswith("//")
    where = f"to {url_shown(place.removeprefix('//'))}" if is_elsewhere else "on the same host"
    text = (
        f"answered with {text_shown(line)}, a redirect {text_shown(where)}; it is not followed: "
        "write where it leads as url, if you trust that"
    )
    return HandshakeError("handshake-redirect", 0, text)
