"""A way through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6), only where one was asked for.

Rules:
1. Variables such as ``HTTPS_PROXY`` have no effect: a proxy is named in words, per venue.
2. The proxy sees host and port. TLS goes through the tunnel and is verified for the venue's host,
   as without it.
3. Credentials stand in an environment variable that is named; they are read for each connect, kept
   nowhere and shown nowhere.
4. The answer's head has 16 KiB and ``PROXY_LIMIT_S``, and nothing may follow it: the client speaks
   first in a tunnel.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import ProxyError, UsageError
from ..handshake import HEAD_MAX, text_shown, url_shown
from ..seam import Seam

__all__ = ["Proxy", "open_tunnel", "parse_proxy"]

PROXY_LIMIT_S = 10.0
"""For all of it, the way to the proxy and its own way to the venue."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)[ \r]")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host, port: where it is.
        auth_env: the environment variable that holds ``USER:PASSWORD`` for it, or ``None``.
    """

    host: str
    port: int
    auth_env: str | None = None

    def authorization(self) -> str:
        """Return the value of ``Proxy-Authorization``, or nothing.

        Raises:
            UsageError: the variable is not set, or holds something else.
        """
        if self.auth_env is None:
            return ""
        value = os.environ.get(self.auth_env, "")
        if ":" not in value:
            raise UsageError(
                f"the environment variable {self.auth_env} must hold USER:PASSWORD for the proxy"
            )
        return f"Basic {base64.b64encode(value.encode()).decode()}"


def parse_proxy(url: str, auth_env: str | None = None) -> Proxy:
    """Take ``http://HOST:PORT`` apart.

    Raises:
        UsageError: it is something else, or holds credentials.
    """
    what = f"{url_shown(url)!r} is no proxy that can be taken"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as looking it up will
    except ValueError:
        raise UsageError(f"{what}: its host or port cannot be; write http://HOST:PORT") from None
    if parts.scheme in ("https", "socks4", "socks4a", "socks5", "socks5h"):
        raise UsageError(f"{what}: {parts.scheme} is not spoken; write http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"{what}: it holds credentials; put USER:PASSWORD into an environment variable, and "
            "its name into proxy_auth_env"
        )
    is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment)
    is_clean = all("!" <= char <= "~" for char in url)
    if parts.scheme != "http" or not (host and port and is_bare and is_clean):
        raise UsageError(f"{what}; write http://HOST:PORT")
    return Proxy(host, port, auth_env)


async def open_tunnel(seam: Seam, proxy: Proxy, host: str, port: int) -> socket.socket:
    """Return a socket that a proxy has connected with ``host`` and ``port``.

    Raises:
        ProxyError: the proxy is not there, refuses, or answers something else.
        UsageError: the credentials are not there, or the seam has no sockets.
    """
    if not seam.has_sockets:
        raise UsageError("a proxy needs a seam with sockets")
    request = _request(proxy, host, port)
    where = f"{proxy.host}:{proxy.port}"
    try:
        async with seam.timeout(PROXY_LIMIT_S):
            try:
                sock = await seam.open_socket(proxy.host, proxy.port)
            except OSError as error:
                raise ProxyError(
                    "proxy-unreachable", f"{where}: {error}; look at the key proxy of the venue"
                ) from error
            try:
                await _ask(sock, request, where)
            except BaseException:
                sock.close()
                raise
            return sock
    except TimeoutError:
        words = f"{where}: no tunnel within {PROXY_LIMIT_S:g} s"
        raise ProxyError("proxy-late", f"{words}; the proxy may not reach the venue") from None


def _request(proxy: Proxy, host: str, port: int) -> bytes:
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    if not all("!" <= char <= "~" for char in name):
        raise UsageError("the host holds a space or a control character")
    lines = [f"CONNECT {name}:{port} HTTP/1.1", f"Host: {name}:{port}"]
    if authorization := proxy.authorization():
        lines.append(f"Proxy-Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode()


async def _ask(sock: socket.socket, request: bytes, where: str) -> None:
    """Send the request, and take the answer's head.

    Raises:
        ProxyError: there is no tunnel.
    """
    loop = asyncio.get_running_loop()
    head = bytearray()
    try:
        await loop.sock_sendall(sock, request)
        while (end := head.find(b"\r\n\r\n")) < 0:
            if len(head) >= HEAD_MAX:
                raise ProxyError("proxy-head", f"{where}: the head of its answer is above 16 KiB")
            data = await loop.sock_recv(sock, HEAD_MAX - len(head))
            if not data:
                raise ConnectionResetError("it ended the connection")
            head += data
    except OSError as error:
        raise ProxyError(
            "proxy-cut", f"{where}: {error or 'the connection ended'} before an answer"
        ) from error
    status = _STATUS.match(head)
    if status is None:
        raise ProxyError("proxy-refused", f"{where}: it speaks no HTTP; look at its port")
    if not status[1].startswith(b"2"):
        line = text_shown(head.partition(b"\r\n")[0].decode("latin-1"))
        advice = "it must allow CONNECT to the venue"
        if status[1] == b"407":
            advice = "it wants credentials: name their environment variable in proxy_auth_env"
        raise ProxyError("proxy-refused", f"{where}: answered with {line}; {advice}")
    if len(head) > end + 4:
        raise ProxyError("proxy-refused", f"{where}: it sent bytes behind its answer")
