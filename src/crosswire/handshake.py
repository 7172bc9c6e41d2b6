"""The WebSocket upgrade of a client, on the Sans-I/O layer of ``websockets``.

We cut the answer's head at the empty line and give the library exactly that; it checks the
``Sec-WebSocket-Accept`` against the key that was sent. What follows the head belongs to our codec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from .errors import HandshakeError, UsageError

__all__ = ["HEAD_MAX", "ClientHandshake", "parse_url"]

HEAD_MAX = 16384
"""The longest head of an answer in bytes, its empty line included."""
_FORBIDDEN = frozenset("\r\n\0")
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5]\d\d)[ \r]")


def parse_url(url: str) -> WebSocketURI:
    """Take a ``ws://`` or ``wss://`` URL apart; its port is the scheme's where it names none.

    Raises:
        UsageError: it is not one, its host or port cannot be, or it holds a space or a control
            character.
    """
    if any(char <= " " or char == "\x7f" for char in url):
        raise UsageError(f"{url!r} is no WebSocket URL: it holds a space or a control character")
    try:
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError("port 0")
        user, at, host = parts.netloc.rpartition("@")
        if at and ":" not in user:  # a name without a password has an empty one
            url = parts._replace(netloc=f"{user}:@{host}").geturl()
        uri = parse_uri(url)
        uri.host.encode("idna")  # as looking it up will
        return uri
    except (InvalidURI, ValueError) as error:
        raise UsageError(f"{url!r} is no WebSocket URL: {error}") from None


class ClientHandshake:
    """One upgrade: send :meth:`request`, then give :meth:`receive` what arrives.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: further headers to send.

    Raises:
        UsageError: the URL is not one, or a header holds CR, LF or NUL.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._protocol = ClientProtocol(parse_url(url))
        self._head = bytearray()
        request = self._protocol.connect()
        for name, value in (headers or {}).items():
            if _FORBIDDEN & set(name + value):
                raise UsageError(f"header {name!r} holds a line break or NUL")
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
        self._head += data
        end = self._head.find(b"\r\n\r\n", 0, HEAD_MAX)
        if end < 0:
            if len(self._head) >= HEAD_MAX:
                raise HandshakeError("handshake-head", HEAD_MAX, "head of more than 16 KiB")
            return None
        head, rest = bytes(self._head[: end + 4]), bytes(self._head[end + 4 :])
        status = _STATUS.match(head)
        if status and status[1] != b"101":  # told here, for its body is not read
            line = head.partition(b"\r\n")[0].decode("latin-1")
            raise HandshakeError("handshake-refused", 0, f"answered with {line}")
        self._protocol.receive_data(head)
        if self._protocol.state is not State.OPEN:
            error = self._protocol.handshake_exc
            text = str(error) if isinstance(error, InvalidHandshake) else repr(error)
            raise HandshakeError("handshake-refused", 0, text)
        return rest
