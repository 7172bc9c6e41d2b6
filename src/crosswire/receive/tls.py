"""The ``direct`` and ``public`` engines: a TLS connection whose records are decrypted in place.

To a protocol it is what the loop's own TLS transport is: :func:`connect` makes either. The socket
is the seam's; Python's ``ssl`` shakes hands on it, with the caller's context and a session to
resume, and encrypts what is written; a reader of :mod:`crosswire.tls` takes the reads.

Rules:
1. The engine is ``direct`` where that passes its checks, else ``public``, else ``asyncio``, the
   loop's own; ``CROSSWIRE_TLS`` names the best that may be taken. Each gives the same bytes and
   ends in the same way.
2. A close sends what was written, then close_notify, and reads on, to no avail, until the peer has
   ended or ``CLOSE_LIMIT_S`` is over: a socket closed with bytes unread would tell the peer of a
   reset, and lose what it was sent.
3. The newest connection's TLS session is offered to the next one of the same place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from ..errors import UsageError
from ..seam import Seam
from ..tls import DirectReader, PublicReader, Records, Spy, find_fault
from ..wake import KernelDelay
from .proxy import Proxy, open_tunnel
from .trust import check_context, late, refusal

__all__ = ["ENGINES", "Resumption", "TlsTransport", "connect", "pick_engine"]

_log = logging.getLogger("crosswire.tls")

ENGINES = ("direct", "public", "asyncio")
"""From the fastest to the one that always works."""
HANDSHAKE_SIZE = 1 << 16
HANDSHAKE_LIMIT_S = 60.0
"""Of the loop's own TLS as well. A session gives a whole connect less."""
WRITE_HIGH = 64 << 10
REPLIES_MAX = 1 << 16
"""Most bytes of answers to key updates that may wait for a peer that does not read them."""
CLOSE_LIMIT_S = 30.0
_told: set[str] = set()  # faults that were logged


def pick_engine(wanted: str | None = None) -> str:
    """Return the best engine that may be taken and works in this process.

    Args:
        wanted: one of :data:`ENGINES`; ``None``: what ``CROSSWIRE_TLS`` says, or ``direct``.

    Raises:
        UsageError: it is none of them.
    """
    wanted = wanted or os.environ.get("CROSSWIRE_TLS") or "direct"
    if wanted not in ENGINES:
        raise UsageError(f"CROSSWIRE_TLS is {wanted!r}; it may be {', '.join(ENGINES)}")
    if wanted == "direct" and (fault := find_fault()):
        _tell(fault)
        return "public"
    return wanted


def _tell(fault: str) -> None:
    if fault not in _told:
        _told.add(fault)
        _log.warning("TLS is read by the public engine: %s", fault)


class Resumption:
    """The TLS session of one place, from each connection to the next (RFC 8446 section 2.2).

    A session vouches for the name that its certificate was verified for: it is offered under that
    name and context alone.

    Attributes:
        ssl_object: of the newest connection; its ``session_reused`` tells whether it was resumed.
    """

    def __init__(self) -> None:
        self.ssl_object: ssl.SSLObject | None = None
        self._place: tuple[ssl.SSLContext, str | None] | None = None
        self._session: ssl.SSLSession | None = None

    def wrap(
        self,
        context: ssl.SSLContext,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_hostname: str | None,
    ) -> ssl.SSLObject:
        """Return a client's connection that offers the session of the one before."""
        if self._place != (context, server_hostname):
            self._place, self._session = (context, server_hostname), None
        elif self.ssl_object and self.ssl_object.version():  # its handshake was done
            self._session = self.ssl_object.session
        self.ssl_object = context.wrap_bio(
            incoming, outgoing, server_hostname=server_hostname, session=self._session
        )
        return self.ssl_object


class _Resuming:
    """What the loop's own TLS takes for a context: it knows of no session to resume."""

    def __init__(self, context: ssl.SSLContext, resumption: Resumption) -> None:
        self._context = context
        self._resumption = resumption

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> ssl.SSLObject:
        assert not server_side
        return self._resumption.wrap(self._context, incoming, outgoing, server_hostname)


async def connect(
    seam: Seam,
    protocol_factory: Callable[[], asyncio.BufferedProtocol],
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    resumption: Resumption | None = None,
    engine: str | None = None,
    proxy: Proxy | None = None,
    delay: KernelDelay | None = None,
) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
    """Open one connection, and tell its protocol of it.

    Args:
        seam: where it is opened; one without sockets decrypts by itself.
        tls: verifies the certificate for ``host``; ``None``: plain text.
        resumption: of this place.
        engine: as of :func:`pick_engine`.
        proxy: to go through; ``None``: straight, whatever the environment says.
        delay: counts how long reads lay in the kernel, where the engine and the system tell; the
            transport's own by default.

    Returns:
        the transport and the protocol, as ``loop.create_connection``.

    Raises:
        OSError: the name is not known, or nobody answers.
        TlsError: TLS was refused, by either side.
        ProxyError: the proxy gave no way.
        UsageError: ``tls`` verifies too little for a host off loopback.
    """
    if tls is not None:
        check_context(tls, host)
        engine = pick_engine(engine)
    tunnel = await open_tunnel(seam, proxy, host, port) if proxy else None
    if tls is None:
        if tunnel:
            return await seam.adopt(protocol_factory, tunnel, None, None)
        return await seam.connect(protocol_factory, host, port, None, None)
    try:
        return await _connect_tls(
            seam, protocol_factory, host, port, tls, resumption, engine, tunnel, delay
        )
    except OSError as error:
        named = refusal(error, host)
        if named is None:
            raise
        raise named from error


async def _connect_tls(
    seam: Seam,
    protocol_factory: Callable[[], asyncio.BufferedProtocol],
    host: str,
    port: int,
    tls: ssl.SSLContext,
    resumption: Resumption | None,
    engine: str | None,
    sock: socket.socket | None,
    delay: KernelDelay | None,
) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
    resumption = resumption or Resumption()
    if not seam.has_sockets or engine == "asyncio":
        context = cast(ssl.SSLContext, _Resuming(tls, resumption)) if seam.has_sockets else tls
        if sock:
            return await seam.adopt(protocol_factory, sock, context, host)
        return await seam.connect(protocol_factory, host, port, context, host)
    sock = sock or await seam.open_socket(host, port)
    try:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        spy = Spy() if engine == "direct" else None
        ssl_object, spy = _wrap(spy, resumption, tls, incoming, outgoing, host)
        try:
            async with seam.timeout(HANDSHAKE_LIMIT_S):
                records = await _shake_hands(sock, ssl_object, incoming, outgoing, spy)
        except TimeoutError as error:
            if str(error):  # the system's: the peer is gone
                raise
            raise late(f"no TLS handshake within {HANDSHAKE_LIMIT_S:g} s") from None
        protocol = protocol_factory()
        transport = TlsTransport(
            seam, sock, ssl_object, incoming, outgoing, protocol, records, spy, delay
        )
    except BaseException:
        sock.close()
        raise
    try:
        transport.start()
    except BaseException:
        transport.abort()
        raise
    return transport, protocol


def _wrap(
    spy: Spy | None,
    resumption: Resumption,
    context: ssl.SSLContext,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    host: str,
) -> tuple[ssl.SSLObject, Spy | None]:
    """Make the connection under the eyes of a spy, where there is one."""
    if spy is None:
        return resumption.wrap(context, incoming, outgoing, host), None
    with spy:
        ssl_object = resumption.wrap(context, incoming, outgoing, host)
    return ssl_object, spy


async def _shake_hands(
    sock: socket.socket,
    ssl_object: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    spy: Spy | None,
) -> Records:
    """Returns the records that came."""
    loop = asyncio.get_running_loop()
    records = Records()
    is_first = True
    while True:
        try:
            ssl_object.do_handshake()
            is_done = True
        except ssl.SSLWantReadError:
            is_done = False
        except ssl.SSLError:
            if outgoing.pending:  # the peer is told why
                await loop.sock_sendall(sock, outgoing.read())
            raise
        if is_first and spy:
            spy.check(ssl_object, incoming, outgoing)
        is_first = False
        if outgoing.pending:
            await loop.sock_sendall(sock, outgoing.read())
        if is_done:
            return records
        data = await loop.sock_recv(sock, HANDSHAKE_SIZE)
        if not data:
            raise ConnectionResetError("the peer ended the connection inside the TLS handshake")
        incoming.write(data)
        records.note(data)


def _name(ask: Callable[[], Any]) -> Any:
    """Return an address of a socket; ``None``: the peer has gone."""
    try:
        return ask()
    except OSError:
        return None


class TlsTransport(asyncio.Transport):
    """One TLS connection of a client, as a transport; see :func:`connect`.

    Args:
        seam: for the deadline of a close.
        sock: connected, non-blocking; it is closed with the connection.
        ssl_object: behind the handshake, over ``incoming`` and ``outgoing``.
        protocol: is told as by any transport.
        records: counted all that was written to ``incoming``.
        spy: saw how ``ssl_object`` was made; without one, or where it found a fault, the engine is
            ``public``.
        delay: as of :func:`connect`.
    """

    def __init__(
        self,
        seam: Seam,
        sock: socket.socket,
        ssl_object: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        protocol: asyncio.BufferedProtocol,
        records: Records,
        spy: Spy | None,
        delay: KernelDelay | None,
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._seam = seam
        self._sock = sock
        self._fd = sock.fileno()
        self._ssl = ssl_object
        self._outgoing = outgoing
        self._protocol = protocol
        self._names = {"peername": _name(sock.getpeername), "sockname": _name(sock.getsockname)}
        self._backlog = bytearray()
        self._unsent = bytearray()  # plain text that waits for a renegotiation (TLS 1.2)
        self._high, self._low = WRITE_HIGH, WRITE_HIGH // 4
        self._replies_size = 0  # of those that joined the backlog
        self._is_writing_paused = False
        self._is_closing = False
        self._is_lost = False
        self._has_peer_ended = False
        self._has_said_goodbye = False
        self._timer: asyncio.TimerHandle | None = None
        self._delay = delay or KernelDelay() if seam.ask_receive_stamps(sock) else None
        common = (
            self._fd, ssl_object, incoming, protocol.get_buffer, protocol.buffer_updated,
            self._delay, self._send_replies, self._end,
        )  # fmt: skip
        self._reader: DirectReader | PublicReader
        if spy and not spy.fault:
            self._engine, self._reader = "direct", DirectReader(*common, spy)
        else:
            if spy:
                _tell(spy.fault)
            self._engine, self._reader = "public", PublicReader(*common, records)

    def start(self) -> None:
        """Tell the protocol, and begin to read."""
        self._protocol.connection_made(self)
        if not self._is_lost and not self._is_closing:
            self.resume_reading()

    # ---- what a transport is

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what asyncio's TLS transport tells; and ``tls_engine``, the engine's name, and
        ``kernel_to_read``, how long reads lay in the kernel, as
        :meth:`~crosswire.wake.KernelDelay.quantiles_ns`, where it tells."""
        match name:
            case "socket":
                return self._sock
            case "peername" | "sockname":
                return self._names[name]
            case "ssl_object":
                return self._ssl
            case "sslcontext":
                return self._ssl.context
            case "peercert":
                return self._ssl.getpeercert()
            case "cipher":
                return self._ssl.cipher()
            case "compression":
                return self._ssl.compression()
            case "tls_engine":
                return self._engine
            case "kernel_to_read" if self._delay:
                return self._delay.quantiles_ns()
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Refuse it: the reader is bound to the protocol of the start.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it was closed, or is gone."""
        return self._is_closing or self._is_lost

    def is_reading(self) -> bool:
        """Whether the protocol is given what comes."""
        return not (self._reader.is_paused or self.is_closing())

    def pause_reading(self) -> None:
        """Hand nothing over until :meth:`resume_reading`."""
        if self.is_reading():
            self._reader.is_paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Go on, first with what was received before."""
        if not self.is_closing():
            self._reader.is_paused = False
            self._loop.add_reader(self._fd, self._reader.run)
            self._loop.call_soon(self._reader.run)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say from how many waiting bytes on the protocol is to pause, and when it may go on."""
        if high is None:
            high = WRITE_HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be >= low ({low}) and that >= 0")
        self._high, self._low = high, low
        self._mind_backlog()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high) of :meth:`set_write_buffer_limits`."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the socket."""
        return len(self._backlog) + len(self._unsent)

    def can_write_eof(self) -> bool:
        """Return ``False``: TLS has no half-closed connection that peers agree on."""
        return False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes; ignored behind the end."""
        if self._is_closing or not data:
            return
        if isinstance(data, memoryview):
            data = bytes(data)  # whose length is in bytes, whatever its items are
        if self._unsent:
            self._unsent += data
            data = bytes(self._unsent)
            self._unsent.clear()
        self._encrypt(data)

    def close(self) -> None:
        """Send what waits, then end; nothing more is handed over."""
        if self.is_closing():
            return
        self._is_closing = True
        self._stop_reading()
        self._timer = self._seam.later(CLOSE_LIMIT_S, self.abort)
        if not self._backlog:
            self._say_goodbye()

    def abort(self) -> None:
        """End at once."""
        self._lose(None)

    # ---- reads

    def _stop_reading(self) -> None:
        self._reader.is_over = True
        self._loop.remove_reader(self._fd)

    def _send_replies(self) -> None:
        """Send what OpenSSL answers by itself, as to a key update."""
        if self._unsent:
            data = bytes(self._unsent)
            self._unsent.clear()
            self._encrypt(data)
        elif self._outgoing.pending:
            self._replies_size += self._outgoing.pending
            self._flush()
            if not self._backlog:
                self._replies_size = 0
            elif self._replies_size > REPLIES_MAX:
                self._lose(OSError("the peer asks for key updates and does not read them"))

    def _end(self, error: BaseException | None) -> None:
        """The stream ended, or broke; or it ended behind a close."""
        self._loop.remove_reader(self._fd)
        if error is not None:
            self._break(error)
            return
        self._has_peer_ended = True
        if self._is_lost:
            return
        if not self._is_closing:
            try:
                self._protocol.eof_received()
            except BaseException as failure:
                self._break(failure)
                if not isinstance(failure, Exception):
                    raise
                return
            self.close()
        elif self._has_said_goodbye and not self._backlog:
            self._lose(None)

    def _break(self, error: BaseException) -> None:
        if not isinstance(error, OSError):  # a protocol's own fault, and not the peer's
            self._report(error)
        self._lose(error if isinstance(error, Exception) else None)

    def _report(self, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "a protocol failed", "exception": error,
             "transport": self, "protocol": self._protocol}
        )  # fmt: skip

    # ---- writes

    def _encrypt(self, data: bytes | bytearray) -> None:
        """Write plain text, as records of up to 16 KiB."""
        try:
            while (n := self._ssl.write(data)) < len(data):
                data = data[n:]
        except ssl.SSLWantReadError:
            self._unsent += data
        except ssl.SSLError as error:
            self._break(error)
            return
        self._flush()

    def _flush(self) -> None:
        """Write what is encrypted, as much as the socket takes."""
        data = self._outgoing.read()
        if not self._backlog and data:
            try:
                n = self._sock.send(data)
                if n == len(data) and not self._is_writing_paused:
                    return
                data = data[n:]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._lose(error)
                return
            if data:
                self._loop.add_writer(self._fd, self._write_more)
        self._backlog += data
        self._mind_backlog()

    def _write_more(self) -> None:
        try:
            n = self._sock.send(self._backlog)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        del self._backlog[:n]
        self._mind_backlog()
        if self._backlog or self._is_lost:
            return
        self._loop.remove_writer(self._fd)
        if self._has_said_goodbye:
            self._await_the_peers()
        elif self._is_closing:
            self._say_goodbye()

    def _mind_backlog(self) -> None:
        """Tell the protocol to pause, or to go on."""
        size = self.get_write_buffer_size()
        if size > self._high and not self._is_writing_paused:
            self._is_writing_paused = True
            self._tell(self._protocol.pause_writing)
        elif size <= self._low and self._is_writing_paused:
            self._is_writing_paused = False
            self._tell(self._protocol.resume_writing)

    def _tell(self, do: Callable[[], None]) -> None:
        """Call what the writing must not fail with, as the loop's own transports do."""
        try:
            do()
        except Exception as failure:
            self._report(failure)

    # ---- the end

    def _say_goodbye(self) -> None:
        self._has_said_goodbye = True
        try:
            self._ssl.unwrap()
        except ssl.SSLError:
            pass  # ours is written; the peer's has not come, or data came in its place
        self._flush()
        if not self._backlog and not self._is_lost:
            self._await_the_peers()

    def _await_the_peers(self) -> None:
        """All is sent; the socket is closed once the peer has read it."""
        if self._has_peer_ended:
            self._lose(None)
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)
            return
        self._loop.add_reader(self._fd, self._reader.discard)

    def _lose(self, error: Exception | None) -> None:
        """Let the socket go, and tell the protocol in a turn of its own."""
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._stop_reading()
        self._loop.remove_writer(self._fd)
        self._backlog.clear()
        self._unsent.clear()
        self._reader.detach()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._loop.call_soon(self._tell_the_end, error)

    def _tell_the_end(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._reader.forget()
            self._sock.close()
