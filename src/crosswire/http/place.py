"""Where the connections of a pool lead, and what is spoken there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from ..checks import check_type
from ..errors import UsageError
from ..handshake import url_shown
from ..receive.trust import check_context
from ..seam import is_loopback
from .connection import Connection

__all__ = ["PROTOCOLS", "Chooser", "context_for", "import_http2", "take_apart"]

PROTOCOLS = {"1.1": ["http/1.1"], "2": ["h2"], "auto": ["h2", "http/1.1"]}
"""What a version offers by ALPN."""


class Chooser(asyncio.BufferedProtocol):
    """Stands before what speaks, which is known once TLS has agreed on it: our TLS transports keep
    the protocol that they began with."""

    def __init__(self, choose: Callable[[asyncio.BaseTransport], Connection | None]) -> None:
        self._choose = choose
        self.chosen: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.chosen = self._choose(transport)
        if self.chosen is not None:
            self.chosen.connection_made(transport)

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        if self.chosen is None:
            return bytearray(1 << 12)  # of a connection that is about to be closed
        return self.chosen.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        if self.chosen is not None:
            self.chosen.buffer_updated(nbytes)

    def eof_received(self) -> bool:
        if self.chosen is not None:
            self.chosen.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.chosen is not None:
            self.chosen.connection_lost(exc)


def take_apart(url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and what Host says.

    Raises:
        UsageError: it is no base URL.
    """
    check_type(url, str, "url")
    what = f"{url_shown(url)!r}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    except ValueError:
        raise UsageError(f"{what} is no URL of a pool: its host or port cannot be") from None
    if parts.scheme not in ("https", "http") or not host:
        raise UsageError(f"{what} is no URL of a pool; write https://HOST or https://HOST:PORT")
    if "@" in parts.netloc:
        raise UsageError(f"the URL of a pool, {what}, is given without a name or password in it")
    if parts.path not in ("", "/") or "?" in url or "#" in url:
        raise UsageError(
            f"the URL of a pool, {what}, is given without the path or query behind it: they belong "
            "in the target of each request"
        )
    if port == 0 or not all("!" <= char <= "~" for char in url):
        raise UsageError(f"{what} is no URL of a pool: its host or port cannot be")
    if parts.scheme == "http" and not is_loopback(host):
        raise UsageError(f"{what}: plain text is for loopback alone; write https://")
    usual = 443 if parts.scheme == "https" else 80
    port = port or usual
    return parts.scheme, host, port, name if port == usual else f"{name}:{port}"


def import_http2() -> type[Connection]:
    """Return the connection of HTTP/2.

    Raises:
        UsageError: its package is not there.
    """
    try:
        from .http2 import Http2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("h2", "hpack", "hyperframe"):
            raise
        raise UsageError(
            "HTTP/2 needs the package h2: python -m pip install 'crosswire[http2]'"
        ) from None
    return Http2


def context_for(
    scheme: str, host: str, tls: ssl.SSLContext | None, version: str
) -> ssl.SSLContext | None:
    """Return the context of a pool; the caller's own is looked at, and not changed.

    Raises:
        UsageError: it verifies too little, or is for a URL of plain text.
    """
    if scheme == "http":
        if version == "auto":
            raise UsageError("version 'auto' needs TLS, which tells what the server speaks")
        if tls is not None:
            raise UsageError("a TLS context was given for a URL of plain text")
        return None
    if tls is not None:
        check_type(tls, ssl.SSLContext, "tls", "ssl.create_default_context() makes one")
    else:
        tls = ssl.create_default_context()
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.set_alpn_protocols(PROTOCOLS[version])
    check_context(tls, host)
    return tls
