"""Where the connections of a pool lead, what is spoken there, and how one is opened.

Rules:
1. TLS verifies the server; plain text is for loopback alone.
2. What is spoken is what both sides agreed on by ALPN; a server that picks anything else is left.
3. No connect of one origin but the first shakes hands in full: TLS sessions are resumed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import cast
from urllib.parse import urlsplit

from ..checks import check_type
from ..errors import RequestError, UsageError, VenueError
from ..handshake import url_shown
from ..receive.proxy import Proxy
from ..receive.tls import Resumption, connect
from ..receive.trust import check_context
from ..seam import Seam, is_loopback
from .connection import Connection, Owner, Terms
from .http1 import Http1

__all__ = ["PROTOCOLS", "Origin"]

CONNECT_LIMIT_S = 10.0

PROTOCOLS = {"1.1": ["http/1.1"], "2": ["h2"], "auto": ["h2", "http/1.1"]}
"""What a version offers by ALPN."""


class Origin:
    """One server's address, by scheme, host and port, and all that its connections have in common.

    Args:
        url, seam, tls, version, proxy, resumption, headers, head_max, body_max: as of
            :class:`~crosswire.http.Pool`.

    Attributes:
        host, port: that are connected to.
        may_share: one connection may carry all requests; until a server has picked HTTP/1.1.

    Raises:
        UsageError: the URL or the context cannot be, or HTTP/2 needs a package.
    """

    def __init__(
        self,
        url: str,
        seam: Seam,
        tls: ssl.SSLContext | None,
        version: str,
        *,
        proxy: Proxy | None,
        resumption: Resumption | None,
        headers: Sequence[tuple[str, str]],
        head_max: int,
        body_max: int,
    ) -> None:
        scheme, self.host, self.port, authority = _take_apart(url)
        self._tls = _context_for(scheme, self.host, tls, version)
        self._terms = Terms(scheme, authority, headers, head_max, body_max)
        self._seam, self._version, self._proxy = seam, version, proxy
        self._resumption = resumption or Resumption()
        self._http2 = None if version == "1.1" else _import_http2()
        self.may_share = self._http2 is not None

    async def connect(self, owner: Owner) -> tuple[Connection, bool]:
        """Open one connection.

        Returns:
            the connection, and whether it resumed a TLS session.

        Raises:
            RequestError: it cannot be opened.
            UsageError: the proxy's credentials are not there.
        """
        where = f"{self.host}:{self.port}"
        chooser = _Chooser(lambda transport: self._choose(transport, owner))
        make = (lambda: chooser) if self._http2 else (lambda: self._make_http1(owner))
        try:
            async with self._seam.timeout(CONNECT_LIMIT_S):
                transport, protocol = await connect(
                    self._seam, make, self.host, self.port, self._tls, self._resumption,
                    proxy=self._proxy,
                )  # fmt: skip
        except TimeoutError:
            text = f"no connection to {where} within {CONNECT_LIMIT_S:g} s"
            raise RequestError("http-connect", text, may_have_run=False) from None
        except OSError as error:
            text = f"{where}: {error}"
            raise RequestError("http-connect", text, may_have_run=False) from error
        except VenueError as error:  # of TLS, or of a proxy
            raise RequestError(error.code, error.text, may_have_run=False) from error
        chosen = chooser.chosen if self._http2 else cast(Http1, protocol)
        tls = transport.get_extra_info("ssl_object")
        got = tls.selected_alpn_protocol() if tls is not None else None
        if chosen is None or (self._http2 is None and got not in (None, "http/1.1")):
            cast(asyncio.Transport, transport).abort()
            raise RequestError(
                "http-alpn",
                f"{where} picked {got or 'nothing'}, and version is {self._version!r}; a context "
                f"that is given needs set_alpn_protocols({PROTOCOLS[self._version]})",
                may_have_run=False,
            )
        self.may_share = chosen.is_shared
        return chosen, bool(tls is not None and tls.session_reused)

    def _make_http1(self, owner: Owner) -> Http1:
        return Http1(self._terms, self._seam, owner)

    def _choose(self, transport: asyncio.BaseTransport, owner: Owner) -> Connection | None:
        """Return what speaks on a connection, by what its TLS has agreed on; ``None``: nothing."""
        tls = transport.get_extra_info("ssl_object")
        picked = tls.selected_alpn_protocol() if tls is not None else None
        if self._http2 is not None and (picked == "h2" or tls is None):
            return self._http2(self._terms, self._seam, owner)
        return None if self._version == "2" else self._make_http1(owner)


class _Chooser(asyncio.BufferedProtocol):
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


def _take_apart(url: str) -> tuple[str, str, int, str]:
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


def _import_http2() -> type[Connection]:
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


def _context_for(
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
