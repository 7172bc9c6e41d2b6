"""A chaos proxy: TCP connections forwarded on the loopback address, and struck by faults.

It works on raw bytes, so TLS passes through unread. Each connection has two flows, one for each
direction. A flow has no task: bytes that came, a transport that takes bytes again and its one timer
each let it forward what may be forwarded now.

Rule 1: whatever strikes is in the flow's account before its effect can be seen at the other end.
Rule 2: a socket is read only as far as there is room for what it gives: ``ahead_max`` bytes wait at
most, in the flow or unsent in the other socket's transport, and beside them the ranges that are
being repeated.
Rule 3: a flow writes only to a transport that holds nothing unsent, so each piece is a send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self, cast

from ..errors import HostError, UsageError
from ..seam import Seam, System, reset_on_close
from .faults import DIRECTIONS, FINAL_KINDS, SPAN_KINDS, Account, Chaos, Draws, Fault, Strike

__all__ = ["ChaosProxy", "ProxiedConnection"]

HOST = "127.0.0.1"
READ_SIZE = 1 << 16
"""Most bytes of one read."""
AHEAD_MAX = 1 << 18
BURST_MAX = 64
"""Pieces sent in a row before the event loop gets its turn."""
THROTTLE_STEP_S = 0.01
"""A throttled flow sends what it may send in so long as one piece."""
CONNECT_LIMIT_S = 10.0
LINGER_S = 1.0
"""How long the ends of a cut connection may take to close; then their sockets are closed."""


Struck = asyncio.Future[Strike | None]


def _tell(struck: Struck | None, strike: Strike | None) -> None:
    """Tell whoever waits for a fault that it has struck, or never will."""
    if struck and not struck.done():
        struck.set_result(strike)


class _Piece:
    """Bytes that wait: as they were read, or a range that is repeated.

    Attributes:
        luck: what share of a jitter it suffers.
    """

    __slots__ = ("data", "is_copy", "luck", "mono_ns")

    def __init__(self, data: bytearray, mono_ns: int, luck: float, is_copy: bool = False) -> None:
        self.data, self.mono_ns, self.luck, self.is_copy = data, mono_ns, luck, is_copy


class _Copy:
    """A range that is to be repeated, and what of it was forwarded so far."""

    def __init__(self, begin: int, fault: Fault, struck: Struck | None) -> None:
        assert fault.size
        self.fault, self.struck = fault, struck
        self.begin, self.end = begin, begin + fault.size
        self.data = bytearray()


class _End(asyncio.BufferedProtocol):
    """One socket of a connection: what it reads feeds one flow, the other flow is written to it."""

    feeds: _Flow
    fed_by: _Flow

    def __init__(self, connection: ProxiedConnection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._is_reading = True
        self._is_paused = False
        self._is_finishing = False  # FIN follows what is unsent
        self._is_aborted = False
        self.has_eof = False
        self.is_lost = False

    # ---- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        self._connection._take_made(self)
        self.fed_by.run()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._connection._proxy._window[: self.feeds.room]

    def buffer_updated(self, nbytes: int) -> None:
        self.feeds.take(bytearray(self._connection._proxy._window[:nbytes]))

    def eof_received(self) -> bool:
        self.has_eof = True
        if self._connection.struck_by:  # it has had its end, or gives up a half-open connection
            self.close()
        else:
            self.feeds.end()
        return True

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._is_finishing:
            self.finish()
        self.fed_by.run()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._connection._take_lost(self, exc)

    # ---- called by flows and the connection

    @property
    def is_made(self) -> bool:
        return self._transport is not None

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @property
    def is_writable(self) -> bool:
        """Whether a piece may be written now."""
        return not (self._is_paused or self.is_closing)

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the system has not taken."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def write(self, data: bytes) -> None:
        assert self._transport
        self._transport.write(data)

    def regulate(self) -> None:
        """Read if there is room, and only then."""
        if self._transport is None or self.is_closing or self.has_eof:
            return
        if (has_room := self.feeds.room > 0) != self._is_reading:
            self._is_reading = has_room
            if has_room:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def finish(self) -> None:
        """Send FIN behind what was written."""
        self._is_finishing = self._is_paused
        if self._transport is None or self.is_closing or self._is_finishing:
            return
        try:
            self._transport.write_eof()
        except OSError:  # the peer has reset it, which the loop is about to tell
            pass

    def close(self) -> None:
        """Close the socket behind what was written."""
        if self._transport and not self.is_closing:
            self._transport.close()

    def abort(self) -> None:
        """Close the socket now; what is unsent was not forwarded."""
        if self._transport and not (self.is_lost or self._is_aborted):
            self._is_aborted = True
            self.fed_by.account.forwarded -= self.unsent
            self._transport.abort()

    def reset(self) -> None:
        """Close the socket now, with RST."""
        if self._transport and not self.is_lost:
            reset_on_close(self._transport)
            self.abort()


class _Flow:
    """One direction of a connection: what waits, what holds, and when the next piece may go."""

    source: _End
    sink: _End

    def __init__(self, connection: ProxiedConnection, draws: Draws, ahead_max: int) -> None:
        self.account = Account()
        self.is_open = True
        self._connection = connection
        self._seam = connection._seam
        self._draws = draws
        self._ahead_max = ahead_max
        self._offset = 0  # of the next byte to forward
        self._pieces: deque[_Piece] = deque()
        self._held = 0  # bytes of these
        self._spans: list[tuple[int | None, Fault]] = []  # what holds, and where it ends
        self._copies: list[_Copy] = []
        self._armed: deque[tuple[Fault, Struck]] = deque()
        self._free_ns = 0  # nothing is forwarded before
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False  # nothing will come behind what waits
        self._is_reset = False  # and that it ended with is a reset

    # ---- bytes in

    @property
    def room(self) -> int:
        """How many bytes may be read now; what comes behind the flow's end is read and lost."""
        if not self.is_open:
            return READ_SIZE
        return max(0, min(READ_SIZE, self._ahead_max - self._held - self.sink.unsent))

    def take(self, data: bytearray) -> None:
        """Take what was read."""
        account = self.account
        account.received += len(data)
        if not self.is_open:
            return
        self._hold(_Piece(data, self._seam.monotonic_ns(), self._draws.luck()), is_next=False)
        account.waiting += len(data)
        self.run()

    def end(self, is_reset: bool = False) -> None:
        """Let FIN follow what waits, or a reset."""
        self._has_ended = True
        self._is_reset |= is_reset
        if self.is_open:
            self.run()
        elif is_reset:
            self.sink.reset()

    def _hold(self, piece: _Piece, is_next: bool) -> None:
        if is_next:
            self._pieces.appendleft(piece)
        else:
            self._pieces.append(piece)
        self._held += len(piece.data)
        held = self._held + self.sink.unsent
        self.account.waiting_max = max(self.account.waiting_max, held)

    # ---- bytes out

    def run(self) -> None:
        """Forward what may be forwarded now, and set the timer for what may be later."""
        send_count = 0
        while self.is_open and self._timer is None and self.sink.is_writable:
            if not self._pieces:
                if self._has_ended:
                    self._finish()
                break
            piece = self._pieces[0]
            if not piece.is_copy and self._strike_here():
                continue
            now = self._seam.monotonic_ns()
            due = self._due_ns(piece)
            if due > now or send_count == BURST_MAX:
                self._timer = self._seam.later(max(0, due - now) / 1e9, self._wake)
                break
            send_count += 1
            self._send(piece, self._size_of(piece), now)
        self.source.regulate()

    def _wake(self) -> None:
        self._timer = None
        self.run()

    def _due_ns(self, piece: _Piece) -> int:
        """Return when a piece may be forwarded."""
        late_s = 0.0
        for _, fault in self._spans:
            if fault.kind == "delay":
                late_s += fault.parameter
            elif fault.kind == "jitter":
                late_s += fault.parameter * piece.luck
        return max(self._free_ns, piece.mono_ns + round(late_s * 1e9))

    def _size_of(self, piece: _Piece) -> int:
        """Return how much of a piece is the next send: as far as nothing changes."""
        size = len(piece.data)
        for _, fault in self._spans:
            if fault.kind == "split":
                size = min(size, int(fault.parameter))
            elif fault.kind == "slow-drip":
                size = 1
            elif fault.kind == "throttle":
                size = min(size, max(1, int(fault.parameter * THROTTLE_STEP_S)))
        if not piece.is_copy:
            ends = [end for end, _ in self._spans] + [copy.end for copy in self._copies]
            for offset in (*ends, self._draws.offset):
                if offset is not None:
                    size = min(size, offset - self._offset)
        return size

    def _send(self, piece: _Piece, size: int, now: int) -> None:
        """Forward the first bytes of a piece that is the next."""
        data = bytes(piece.data[:size])
        del piece.data[:size]
        if not piece.data:
            self._pieces.popleft()
        self._held -= size
        self.account.forwarded += size
        self.account.send_count += 1
        for _, fault in self._spans:
            if fault.kind == "slow-drip":
                self._free_ns = max(self._free_ns, now + round(fault.parameter * 1e9))
            elif fault.kind == "throttle":
                took_ns = round(size / fault.parameter * 1e9)
                self._free_ns = max(self._free_ns, now + took_ns)
        if not piece.is_copy:
            self.account.waiting -= size
            self._offset += size
            self._spans = [
                item for item in self._spans if item[0] is None or item[0] > self._offset
            ]
            self._repeat(data, piece)
        self.sink.write(data)

    def _repeat(self, data: bytes, piece: _Piece) -> None:
        """Let the ranges take what is forwarded; those that are whole come next, in their order."""
        whole = [copy for copy in self._copies if copy.end == self._offset]
        for copy in self._copies:
            copy.data += data
        for copy in whole:
            self._copies.remove(copy)
            _tell(copy.struck, self._note(copy.fault, copy.begin, len(copy.data)))
        for copy in reversed(whole):
            self._hold(_Piece(copy.data, piece.mono_ns, piece.luck, is_copy=True), is_next=True)

    def _finish(self) -> None:
        """All was forwarded: end the other side as this one ended."""
        self.stop()
        if self._is_reset:
            self.sink.reset()
        else:
            self.sink.finish()
        self._connection._take_finished()

    def stop(self) -> None:
        """Forward nothing any more; what waits is lost."""
        self.is_open = False
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for struck in [item[1] for item in self._armed] + [copy.struck for copy in self._copies]:
            _tell(struck, None)
        self._armed.clear()
        self._copies.clear()
        self._pieces.clear()
        self._held = self.account.waiting = 0
        self.source.regulate()

    # ---- faults

    def arm(self, fault: Fault) -> asyncio.Future[Strike | None]:
        """Strike in front of the next byte that is forwarded; at once where no byte is needed."""
        struck: Struck = asyncio.get_running_loop().create_future()
        fault = self._draws.settle(fault)
        if fault.kind in ("corrupt", "duplicate"):
            self._armed.append((fault, struck))
            self.run()
        else:
            struck.set_result(self._strike(fault))
        return struck

    def _strike_here(self) -> bool:
        """Let one fault strike that is due in front of the next byte; return whether one was."""
        struck: Struck | None = None
        if self._armed:
            fault, struck = self._armed.popleft()
        elif self._draws.offset == self._offset:
            fault = self._draws.take()
        else:
            return False
        if fault.kind == "duplicate":
            self._copies.append(_Copy(self._offset, fault, struck))
            return True
        _tell(struck, self._strike(fault))
        return True

    def _strike(self, fault: Fault) -> Strike:
        if fault.kind in FINAL_KINDS:
            strike = self._note(fault, self._offset, 0)
            self._connection._end_by(fault.kind)
        elif fault.kind in SPAN_KINDS:
            strike = self._note(fault, self._offset, fault.span)
            self._spans.append((self._offset + fault.span if fault.span else None, fault))
        elif fault.kind == "stall":
            strike = self._note(fault, self._offset, 0)
            stalled_ns = self._seam.monotonic_ns() + round(fault.parameter * 1e9)
            self._free_ns = max(self._free_ns, stalled_ns)
        else:
            strike = self._note(fault, self._offset, 1)
            self._pieces[0].data[0] ^= 1 << int(fault.parameter)
        return strike

    def _note(self, fault: Fault, offset: int, length: int | None) -> Strike:
        mono_ns = self._seam.monotonic_ns()
        strike = Strike(fault.kind, mono_ns, offset, length, fault.parameter)
        self.account.strikes.append(strike)
        return strike


class ProxiedConnection:
    """A client's connection, and the one that was made upstream for it; a proxy makes it.

    Attributes:
        number: how many came before it.
        up: the account of what the client sends.
        down: the account of what upstream sends.
        struck_by: ``cut``, ``reset`` or ``half-open`` where that ended it, else ``None``.
        error: why upstream was not reached; the client is then reset.
    """

    def __init__(self, proxy: ChaosProxy, number: int) -> None:
        self.number = number
        self.struck_by: str | None = None
        self.error: Exception | None = None
        self._proxy = proxy
        self._seam = proxy._seam
        self._flows = {
            direction: _Flow(self, Draws(proxy.chaos, number, direction), proxy.ahead_max)
            for direction in DIRECTIONS
        }
        up, down = self._flows["up"], self._flows["down"]
        self.up, self.down = up.account, down.account
        client, upstream = _End(self), _End(self)
        client.feeds = upstream.fed_by = up
        client.fed_by = upstream.feeds = down
        up.source = down.sink = client
        up.sink = down.source = upstream
        self._ends: tuple[_End, ...] = (client, upstream)  # none once it has ended
        self._opening: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()

    @property
    def is_ended(self) -> bool:
        """Whether both sockets are closed."""
        return self._gone.is_set()

    async def wait_ended(self) -> None:
        """Wait until both sockets are closed."""
        await self._gone.wait()

    def strike(self, fault: Fault, direction: str = "down") -> asyncio.Future[Strike | None]:
        """Let a fault strike, at once or in front of the next byte; see :meth:`ChaosProxy.strike`.

        Raises:
            UsageError: an unknown direction, or nothing is forwarded in it any more. A connection
                that is half-open can be cut and reset.
        """
        if direction not in DIRECTIONS:
            raise UsageError(f"a direction is one of {DIRECTIONS}, not {direction!r}")
        flow = self._flows.get(direction)
        is_last_word = fault.kind in ("cut", "reset") and self.struck_by in (None, "half-open")
        if flow is None or not (flow.is_open or is_last_word):
            raise UsageError(f"nothing goes {direction} on connection {self.number} any more")
        return flow.arm(fault)

    # ---- its life

    def _take_made(self, end: _End) -> None:
        if self._proxy._is_closed or self.struck_by in ("cut", "reset"):
            end.abort()
        elif end is self._ends[0]:
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(lambda _: self._look_ended())

    async def _open(self) -> None:
        client, upstream = self._ends
        try:
            async with self._seam.timeout(CONNECT_LIMIT_S):
                await self._seam.connect(lambda: upstream, *self._proxy.upstream, None, None)
        except (OSError, UnicodeError) as error:  # the latter of a host that is no name
            self.error = error
            for flow in self._flows.values():
                flow.stop()
            client.reset()

    def _take_finished(self) -> None:
        if not any(flow.is_open for flow in self._flows.values()):
            for end in self._ends:
                end.close()

    def _take_lost(self, end: _End, error: Exception | None) -> None:
        """A socket is closed: by us, or because its peer broke the connection."""
        if not self.struck_by:
            end.fed_by.stop()
            end.feeds.end(is_reset=error is not None)
        self._look_ended()

    def _end_by(self, kind: str) -> None:
        self.struck_by = kind
        for flow in self._flows.values():
            flow.stop()
        if kind == "half-open":
            return
        if self._opening:
            self._opening.cancel()
        for end in self._ends:
            if kind == "reset":
                end.reset()
                continue
            end.finish()
            if end.has_eof:
                end.close()
        if kind == "cut":
            # What still comes is read meanwhile: closing a socket with unread bytes sends RST.
            self._linger = self._seam.later(LINGER_S, self._abort)

    def _abort(self) -> None:
        """Close what is open, now."""
        if self._opening:
            self._opening.cancel()
        for flow in self._flows.values():
            flow.stop()
        for end in self._ends:
            end.abort()

    def _look_ended(self) -> None:
        is_opening = self._opening is not None and not self._opening.done()
        if is_opening or any(end.is_made and not end.is_lost for end in self._ends):
            return
        if self._linger:
            self._linger.cancel()
        self._ends, self._flows = (), {}  # of thousands that have ended the accounts are enough
        self._gone.set()
        self._proxy._open.discard(self)


class ChaosProxy:
    """Forwards connections to one address and strikes them; use it as an asynchronous context
    manager, once.

    It listens on the loopback address alone. A connection upstream is made for each one that comes.
    FIN of one end is given to the other behind what waits, and the other direction goes on; a reset
    of one end is given to the other as a reset. When it is left, every socket is closed, what waits
    is lost, and nothing of it stays.

    Args:
        host, port: where connections are forwarded to.
        chaos: what strikes by itself; ``None``: nothing does.
        ahead_max: bytes of one direction that are read ahead of what can be forwarded. A delay of d
            seconds so lets no more through than ``ahead_max / d`` bytes a second.
        seam: clock, timers and sockets; the real ones by default.

    Attributes:
        host, port: where it listens; the port is known once it is entered.
        upstream: the address that connections are forwarded to.
        connections: all that came, with their accounts, which are kept until the proxy goes.

    Raises:
        UsageError: an impossible address or ``ahead_max``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        chaos: Chaos | None = None,
        *,
        ahead_max: int = AHEAD_MAX,
        seam: Seam | None = None,
    ) -> None:
        if not host or not 1 <= port <= 65_535:
            raise UsageError(f"{host!r}, {port} is no address to forward to")
        if ahead_max < 1:
            raise UsageError(f"ahead_max is 1 byte or more, not {ahead_max}")
        self.host, self.port = HOST, 0
        self.upstream = (host, port)
        self.chaos = chaos or Chaos()
        self.ahead_max = ahead_max
        self.connections: list[ProxiedConnection] = []
        self._seam = seam or System()
        # Of all sockets: a read is taken out of it before the next one begins.
        self._window = memoryview(bytearray(READ_SIZE))
        self._open: set[ProxiedConnection] = set()
        self._listener: asyncio.Server | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Listen on a free port.

        Raises:
            HostError: the system refuses.
            UsageError: it was entered before.
        """
        if self._listener:
            raise UsageError("a chaos proxy is entered once")
        try:
            self._listener = await self._seam.serve(self._accept, HOST, 0, None, 0.0)
        except OSError as error:
            raise HostError(f"cannot listen on {HOST}: {error}") from error
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening, close every socket, and wait until all are closed."""
        assert self._listener
        self._is_closed = True
        self._listener.close()
        for connection in list(self._open):
            connection._abort()
        while self._open:
            await next(iter(self._open)).wait_ended()
        await self._listener.wait_closed()

    def strike(
        self, fault: Fault, connection: ProxiedConnection | None = None, direction: str = "down"
    ) -> asyncio.Future[Strike | None]:
        """Let a fault strike a direction of a connection, the newest by default.

        A ``corrupt`` and a ``duplicate`` strike in front of the next byte that is forwarded, every
        other kind strikes at once. A ``cut``, ``reset`` or ``half-open`` does not wait for what
        waits: that is lost.

        Returns:
            What can be awaited until it has struck: its entry in the account, or ``None`` where the
            stream ended before. Nobody has to await it.

        Raises:
            UsageError: as :meth:`ProxiedConnection.strike`, or no connection has come yet.
        """
        if connection is None:
            if not self.connections:
                raise UsageError("no connection has come yet that could be struck")
            connection = self.connections[-1]
        return connection.strike(fault, direction)

    def _accept(self) -> asyncio.BaseProtocol:
        if self._is_closed:
            return _Late()
        connection = ProxiedConnection(self, len(self.connections))
        self.connections.append(connection)
        self._open.add(connection)
        return connection._ends[0]


class _Late(asyncio.Protocol):
    """Takes a connection that comes to a proxy that is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()
