"""The one seam to the outside world: time, randomness, sockets, files and threads.

Everything else in the package takes these from here, or has them passed in, so that a test can
put simulated ones in their place. A test bans their direct use elsewhere.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import random
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from functools import cached_property, partial
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Any, TypeVar

from .budget import ConnectBudget

__all__ = [
    "Nudge",
    "Seam",
    "System",
    "Thread",
    "is_loopback",
    "limit_send_buffer",
    "lock_file",
    "open_file",
    "pause_thread",
    "reset_on_close",
    "start_thread",
    "thread_lock",
]

T = TypeVar("T")

_log = logging.getLogger("crosswire.seam")

LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
ADDRESS_LIMIT_S = 3.0
"""How long an address may take before the next one of its name is tried; the last may take all."""
TCP_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
"""A peer that is gone is found out by the system within 30 s, also where nothing is sent to it;
TCP_USER_TIMEOUT is in ms, the others in s."""
SO_TIMESTAMPNS, SO_BUSY_POLL = 35, 46
"""Linux's numbers, for which Python has no names; elsewhere they are refused."""
LISTEN_BACKLOG = 1024
"""Connections that the system holds until they are accepted."""


def open_file(path: str | Path, mode: str = "rb", **options: Any) -> IO[Any]:
    """Open a file; the only place where the package does."""
    return open(path, mode, **options)


def lock_file(file: IO[Any]) -> bool:
    """Take an open file for oneself, until it is closed; returns whether nobody else has it. Where
    its file system knows no locks, nobody is found."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN)
    return True


def thread_lock() -> AbstractContextManager[bool]:
    """Return a lock for what only one thread at a time may use."""
    return Lock()


def start_thread(name: str, work: Callable[[], None]) -> Thread:
    """Start a thread for what would block; it does not keep the interpreter from ending."""
    thread = Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


_Place = tuple[int, int, int, str, Any]  # as socket.getaddrinfo has it


async def _look_up(host: str, port: int) -> Sequence[_Place]:
    """Return the addresses of a name, from a thread of its own.

    A lookup cannot be broken off: who gives up leaves the thread to the resolver's own limits. One
    of the loop's pool would be missed there, and the end of the loop would wait for it.
    """
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        return ask(flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Sequence[_Place]] = loop.create_future()

    def deliver(places: Sequence[_Place] | Exception) -> None:
        if found.done():
            return
        if isinstance(places, Exception):
            found.set_exception(places)
        else:
            found.set_result(places)

    def work() -> None:
        places: Sequence[_Place] | Exception
        try:
            places = ask()
        except Exception as error:
            places = error
        try:
            loop.call_soon_threadsafe(deliver, places)
        except RuntimeError:
            pass  # the loop was closed: nobody waits

    start_thread("crosswire-lookup", work)
    return await found


def pause_thread(seconds: float) -> None:
    """Let the calling thread wait; never call it in an event loop's."""
    time.sleep(seconds)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, whatever a name server says."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return any(address in network for network in LOOPBACK)


def limit_send_buffer(transport: asyncio.BaseTransport, size: int) -> None:
    """Let the system hold about ``size`` bytes that the peer has not taken, where there is a
    socket beneath."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Let the end of a transport reset its connection (RST), where there is a socket beneath: what
    the system has not sent by then is dropped."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Nudge:
    """A way for processes of one host to wake each other: a datagram socket in a common folder.

    Args:
        folder: common to those who nudge each other; its path has at most 80 bytes.
        name: of this one, of at most 20 characters.
        on_nudge: called in the running loop, once for any number of nudges that came together.

    Raises:
        OSError: the socket cannot be made there.
    """

    def __init__(self, folder: Path, name: str, on_nudge: Callable[[], None]) -> None:
        self._folder = folder
        self._path = folder / f"{name}.nudge"
        self._on_nudge = on_nudge
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(str(self._path))
        except BaseException:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._take)

    def send(self) -> None:
        """Nudge all others; one that is full has been nudged enough, and one that is gone is
        forgotten."""
        for path in self._folder.glob("*.nudge"):
            if path == self._path:
                continue
            try:
                self._socket.sendto(b"", str(path))
            except (BlockingIOError, FileNotFoundError):
                pass
            except ConnectionRefusedError:  # its process was killed
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop, and be forgotten."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _take(self) -> None:
        try:
            while True:
                self._socket.recv(1)
        except BlockingIOError:
            pass
        self._on_nudge()


class Seam:
    """What a session needs from the world: a clock, randomness, timers and connections.

    Subclass it to simulate; :class:`System` is the real one.

    Attributes:
        has_sockets: :meth:`open_socket` and :meth:`adopt` work; without them a connection is the
            business of :meth:`connect` alone.
    """

    has_sockets = False

    @cached_property
    def connect_budget(self) -> ConnectBudget:
        """What admits connects by this seam's clock."""
        return ConnectBudget()

    @property
    def has_system_clocks(self) -> bool:
        """Whether the two clocks are the system's own, which compiled code may read by itself."""
        return False

    def time_ns(self) -> int:
        """Return UTC in ns, for stamps only."""
        raise NotImplementedError

    def monotonic_ns(self) -> int:
        """Return monotonic ns, for every duration."""
        raise NotImplementedError

    def uniform(self, low: float, high: float) -> float:
        """Return a random float in [low, high], for jitter."""
        raise NotImplementedError

    def random_bytes(self, n: int) -> bytes:
        """Return ``n`` unpredictable bytes, for masks and keys."""
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        raise NotImplementedError

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Return a context that breaks off its body after ``seconds`` with a TimeoutError."""
        raise NotImplementedError

    def later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``do`` in the running loop after ``seconds``, unless the handle is cancelled."""
        raise NotImplementedError

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do in another thread what would block; cancelling ends the waiting, not the work."""
        raise NotImplementedError

    def open_nudge(self, folder: Path, name: str, on_nudge: Callable[[], None]) -> Nudge:
        """Return a :class:`Nudge`, in the running loop."""
        raise NotImplementedError

    async def open_socket(self, host: str, port: int) -> socket.socket:
        """Open one TCP connection that does not block; every address of the name is tried."""
        raise NotImplementedError

    def ask_receive_stamps(self, sock: socket.socket) -> bool:
        """Have the kernel stamp what a socket receives with its UTC clock, for ``recvmsg`` to tell
        (SO_TIMESTAMPNS); returns whether it does."""
        return False

    async def connect(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        server_hostname: str | None,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Open one connection; with ``tls`` the certificate is verified for the host name."""
        raise NotImplementedError

    async def adopt(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        server_hostname: str | None,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Make a connection as :meth:`connect` of a socket that is open; it is closed where that
        fails."""
        raise NotImplementedError

    async def serve(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        handshake_limit_s: float,
    ) -> asyncio.Server:
        """Listen; each connection that comes is given a protocol, behind its TLS handshake."""
        raise NotImplementedError


class System(Seam):
    """The real world: the system's clocks and the running event loop.

    Args:
        busy_poll_us: how long the kernel itself looks for packets of a connection, at its device,
            before it lets a read or a wait sleep (SO_BUSY_POLL); 0: not at all. A kernel that
            refuses it is told of once, as a warning, and goes on without.

    Attributes:
        connect_budget: one for the process, whatever number of loops and threads connects.
    """

    has_sockets = True
    connect_budget = ConnectBudget()

    def __init__(self, busy_poll_us: int = 0) -> None:
        self._random = random.SystemRandom()
        self._busy_poll_us = busy_poll_us

    @property
    def has_system_clocks(self) -> bool:
        kind = type(self)
        return kind.time_ns is System.time_ns and kind.monotonic_ns is System.monotonic_ns

    def time_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wait_until(self, mono_ns: int) -> None:
        """Block until monotonic time ``mono_ns``."""
        time.sleep(max(0, mono_ns - time.monotonic_ns()) / 1e9)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def random_bytes(self, n: int) -> bytes:
        return secrets.token_bytes(n)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)

    def later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, do)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    def open_nudge(self, folder: Path, name: str, on_nudge: Callable[[], None]) -> Nudge:
        return Nudge(folder, name, on_nudge)

    async def open_socket(self, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        errors: list[OSError] = []
        places = await _look_up(host, port)
        for number, (family, kind, proto, _, address) in enumerate(places, start=1):
            limit_s = None if number == len(places) else ADDRESS_LIMIT_S
            try:
                sock = socket.socket(family, kind, proto)
            except OSError as error:  # a family that this machine does not speak
                errors.append(error)
                continue
            try:
                sock.setblocking(False)
                for level, name, value in TCP_OPTIONS:
                    sock.setsockopt(level, name, value)
                if self._busy_poll_us:
                    self._ask_busy_poll(sock)
                async with asyncio.timeout(limit_s):
                    await loop.sock_connect(sock, address)
                return sock
            except OSError as error:  # a TimeoutError is one
                sock.close()
                errors.append(error)
            except BaseException:
                sock.close()
                raise
        if len(errors) == 1:
            raise errors[0]
        words = "; ".join(str(error) or "no answer in time" for error in errors)
        raise OSError(f"none of {len(errors)} addresses answers: {words}")

    def _ask_busy_poll(self, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_BUSY_POLL, self._busy_poll_us)
        except OSError as error:
            _log.warning(
                "the kernel refuses busy_poll_us = %d: %s; connections go on without (a process "
                "needs CAP_NET_ADMIN to raise it above the sysctl net.core.busy_read)",
                self._busy_poll_us,
                error.strerror or error,
            )
            self._busy_poll_us = 0

    def ask_receive_stamps(self, sock: socket.socket) -> bool:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        except OSError as error:
            _log.debug("the kernel stamps no packet: %s", error.strerror or error)
            return False
        return True

    async def connect(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        server_hostname: str | None,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        sock = await self.open_socket(host, port)
        return await self.adopt(protocol_factory, sock, tls, server_hostname)

    async def adopt(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        server_hostname: str | None,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        loop = asyncio.get_running_loop()
        is_taken = False

        def make() -> asyncio.BaseProtocol:
            nonlocal is_taken
            protocol = protocol_factory()
            is_taken = True
            return protocol

        try:
            return await loop.create_connection(
                make, sock=sock, ssl=tls, server_hostname=server_hostname
            )
        except BaseException:
            if is_taken and isinstance(loop, asyncio.BaseEventLoop):
                # A transport of the loop's has it, and closes it: at once, but TLS that has just
                # shaken hands waits for a goodbye. Closed beneath it, the descriptor would be
                # watched for 30 s, and could be another connection's by then.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            else:
                with suppress(OSError):  # uvloop may have closed it beneath
                    sock.close()
            raise

    async def serve(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        handshake_limit_s: float,
    ) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            protocol_factory,
            host,
            port,
            ssl=tls,
            backlog=LISTEN_BACKLOG,
            ssl_handshake_timeout=handshake_limit_s if tls else None,
        )
