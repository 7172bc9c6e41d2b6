"""The chaos proxy: what each fault does, and that the account tells every byte.

Where delays are the point the network is simulated and so is time: a wire takes and gives pieces at
once, and the loop's clock jumps. All else runs over real sockets on the loopback address.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from fake_world import FakeSeam, leftovers, simulate
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

import crosswire.sim as sim
from crosswire.errors import HostError, UsageError
from crosswire.seam import System, reset_on_close
from crosswire.sim import Account, Chaos, ChaosProxy, Fault, ProxiedConnection, Scenario
from crosswire.sim.faults import DIRECTIONS, Draws
from crosswire.sim.server import SimServer
from crosswire.venue import Control, Record, SimQuote
from crosswire.venues import dialect, venue

LIMIT_S = 10.0
TEXT = bytes(range(1, 101))

# ------------------------------------------------------------------ a simulated network


class Wire(asyncio.Transport):
    """One socket of the proxy. The test is its peer.

    Attributes:
        pieces: (seconds, bytes) of every send.
        is_stuck: the peer takes nothing.
        end: ``fin`` or ``gone``, once the proxy has said so.
    """

    def __init__(self, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self.pieces: list[tuple[float, bytes]] = []
        self.is_stuck = False
        self.end = ""
        self.is_reading = True
        self.high: int | None = None
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._unread: deque[bytes] = deque()
        self._unsent: list[bytes] = []
        self._is_closing = False

    @property
    def got(self) -> bytes:
        return b"".join(data for _, data in self.pieces)

    # ---- the peer

    def send(self, *pieces: bytes) -> None:
        """Let the proxy read these bytes, each piece by itself."""
        self._unread.extend(pieces)
        self._deliver()

    def _deliver(self) -> None:
        while self._unread and self.is_reading and not self._is_closing:
            data = self._unread.popleft()
            room = self._protocol.get_buffer(-1)
            n = min(len(room), len(data))
            assert n > 0
            room[:n] = data[:n]
            if data[n:]:
                self._unread.appendleft(data[n:])
            self._protocol.buffer_updated(n)

    def send_fin(self) -> None:
        assert self._protocol.eof_received()

    def break_off(self) -> None:
        self._lose(ConnectionResetError())

    def take(self) -> None:
        """Take what is unsent; one that is stuck takes no more than that."""
        self.pieces += [(self._loop.time(), data) for data in self._unsent]
        self._unsent.clear()
        self._protocol.resume_writing()

    # ---- the transport

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._unsent))

    def write(self, data: Any) -> None:
        assert self.high == 0  # the least that is unsent pauses the proxy
        assert not self._unsent
        assert not self.end
        if self.is_stuck:
            self._unsent.append(bytes(data))
            self._protocol.pause_writing()
        else:
            self.pieces.append((self._loop.time(), bytes(data)))

    def write_eof(self) -> None:
        self.end = "fin"

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True
        self._loop.call_soon(self._deliver)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._lose(None)

    def abort(self) -> None:
        self._unsent.clear()
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            self.end = "gone"
            self._loop.call_soon(self._protocol.connection_lost, error)


class _Listener:
    """What serving returns, and a socket of it."""

    def __init__(self) -> None:
        self.is_closed = False
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 4)

    def close(self) -> None:
        self.is_closed = True

    async def wait_closed(self) -> None:
        pass


class WireSeam(FakeSeam):
    """A world in which the proxy's sockets are wires."""

    def __init__(self) -> None:
        super().__init__()
        self.listener = _Listener()
        self.factory: Callable[[], asyncio.BaseProtocol]
        self.upstreams: list[Wire] = []
        self.connecting: asyncio.Event | None = None

    async def serve(self, protocol_factory: Any, *_: Any) -> Any:
        self.factory = protocol_factory
        return self.listener

    async def connect(self, protocol_factory: Any, *_: Any) -> Any:
        if self.connecting:
            await self.connecting.wait()
        protocol = protocol_factory()
        self.upstreams.append(Wire(protocol))
        protocol.connection_made(self.upstreams[-1])
        return self.upstreams[-1], protocol

    def come(self) -> Wire:
        """Let a client come."""
        protocol = cast(asyncio.BufferedProtocol, self.factory())
        wire = Wire(protocol)
        protocol.connection_made(wire)
        return wire


def timers() -> int:
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in scheduled)


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


class World:
    """A proxy in simulated time, with one connection through it."""

    def __init__(self, proxy: ChaosProxy, seam: WireSeam, client: Wire) -> None:
        self.proxy, self.seam, self.client = proxy, seam, client
        self.upstream = seam.upstreams[0]
        self.connection = proxy.connections[0]
        self.down, self.up = self.connection.down, self.connection.up

    def strike(self, kind: str, direction: str = "down", **options: Any) -> Any:
        return self.proxy.strike(Fault(kind, **options), direction=direction)

    async def pass_time(self) -> None:
        """Wait until the proxy has nothing more to do by itself."""
        loop = asyncio.get_running_loop()
        while self.connection._linger or any(f._timer for f in self.connection._flows.values()):
            if self.connection.is_ended:
                break
            scheduled = loop._scheduled  # type: ignore[attr-defined]
            times = [handle.when() for handle in scheduled if not handle.cancelled()]
            await asyncio.sleep(min(times) - loop.time() if times else 0)
            await turn()

    def times(self) -> list[float]:
        """Return when each piece came to the client, in ms."""
        return [round(seconds * 1e3, 3) for seconds, _ in self.client.pieces]


def in_world(
    test: Callable[[World], Awaitable[None]], chaos: Chaos | None = None, **options: Any
) -> None:
    """Run a test in simulated time; whatever it does, nothing is left behind."""

    async def main() -> None:
        seam = WireSeam()
        async with ChaosProxy("127.0.0.1", 9, chaos, seam=seam, **options) as proxy:
            client = seam.come()
            await turn()
            await test(World(proxy, seam, client))
        assert client.end == "gone"
        assert seam.upstreams[0].end == "gone"
        assert proxy.connections[0].is_ended
        assert (timers(), leftovers()) == (0, [])

    simulate(main())


# ------------------------------------------------------------------ real sockets


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop its turns until something is so."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - a few turns
            await asyncio.sleep(0)


class Peer:
    """One end: a stream's reader and writer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, n: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(n), LIMIT_S)

    async def rest(self) -> tuple[bytes, str]:
        """Return all that still comes, and how it ended: ``fin`` or ``reset``."""
        got = b""
        try:
            async with asyncio.timeout(LIMIT_S):
                while data := await self.reader.read(1 << 16):
                    got += data
        except TimeoutError:
            raise
        except OSError:  # uvloop tells one that it meets in its own FIN as ENOTCONN
            return got, "reset"
        return got, "fin"

    def close(self) -> None:
        self.writer.close()


class Pair:
    """A client and an upstream peer on real sockets, the proxy between them."""

    def __init__(self, proxy: ChaosProxy, client: Peer, upstream: Peer) -> None:
        self.proxy, self.client, self.upstream = proxy, client, upstream
        self.connection = proxy.connections[-1]
        self.up, self.down = self.connection.up, self.connection.down

    def strike(self, kind: str, direction: str = "down", **options: Any) -> Any:
        return self.proxy.strike(Fault(kind, **options), self.connection, direction)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, asyncio.Queue[Peer]]]:
    """Give a port, and the queue of those who came there."""
    came: asyncio.Queue[Peer] = asyncio.Queue()
    server = await asyncio.start_server(
        lambda reader, writer: came.put_nowait(Peer(reader, writer)), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()


async def join(proxy: ChaosProxy, came: asyncio.Queue[Peer]) -> Pair:
    client = Peer(*await asyncio.open_connection(proxy.host, proxy.port))
    return Pair(proxy, client, await asyncio.wait_for(came.get(), LIMIT_S))


@contextlib.asynccontextmanager
async def joined(chaos: Chaos | None = None, **options: Any) -> AsyncIterator[Pair]:
    async with listening() as (port, came), ChaosProxy("127.0.0.1", port, chaos, **options) as one:
        pair = await join(one, came)
        try:
            yield pair
        finally:
            pair.client.close()
            pair.upstream.close()


def open_files() -> set[str]:
    """Return what this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return found


# ------------------------------------------------------------------ no fault


@pytest.mark.transport
class TestWithoutFaults:
    async def test_bytes_go_both_ways_and_fin_leaves_the_other_direction_open(self) -> None:
        async with joined() as pair:
            pair.client.send(TEXT)
            assert await pair.upstream.read(100) == TEXT
            pair.client.writer.write_eof()
            assert await pair.upstream.rest() == (b"", "fin")
            pair.upstream.send(TEXT * 2)
            assert await pair.client.read(200) == TEXT * 2
            assert not pair.connection.is_ended
            pair.upstream.close()
            assert await pair.client.rest() == (b"", "fin")
            await asyncio.wait_for(pair.connection.wait_ended(), LIMIT_S)
            assert pair.connection.struck_by is None
            up = Account([], received=100, forwarded=100, waiting_max=100, send_count=1)
            assert pair.up == up
            assert (pair.down.strikes, pair.down.forwarded, pair.down.lost) == ([], 200, 0)

    @pytest.mark.parametrize("is_client", [True, False])
    async def test_a_reset_is_given_on_as_one_behind_what_was_read(self, is_client: bool) -> None:
        async with joined() as pair:
            one, other = pair.client, pair.upstream
            if not is_client:
                one, other = other, one
            one.send(TEXT)
            assert await other.read(100) == TEXT
            reset_on_close(one.writer.transport)
            one.writer.transport.abort()
            assert await other.rest() == (b"", "reset")
            await asyncio.wait_for(pair.connection.wait_ended(), LIMIT_S)
            assert pair.connection.struck_by is None

    async def test_much_goes_through_little_room(self) -> None:
        data = random.Random(1).randbytes(1 << 19)
        async with joined(ahead_max=1000) as pair:
            pair.upstream.send(data)
            pair.client.send(data[::-1])
            gone = asyncio.gather(pair.client.read(len(data)), pair.upstream.read(len(data)))
            assert await gone == [data, data[::-1]]
            assert max(pair.up.waiting_max, pair.down.waiting_max) <= 1000

    async def test_a_client_is_reset_where_upstream_is_not_reached(self) -> None:
        async with listening() as (port, _):
            pass
        async with ChaosProxy("127.0.0.1", port) as proxy:
            client = Peer(*await asyncio.open_connection(proxy.host, proxy.port))
            assert await client.rest() == (b"", "reset")
            await asyncio.wait_for(proxy.connections[0].wait_ended(), LIMIT_S)
            assert isinstance(proxy.connections[0].error, OSError)
            client.close()

    async def test_connections_are_numbered_and_have_accounts_of_their_own(self) -> None:
        async with listening() as (port, came), ChaosProxy("127.0.0.1", port) as proxy:
            first, second = await join(proxy, came), await join(proxy, came)
            assert [item.number for item in proxy.connections] == [0, 1]
            proxy.strike(Fault("corrupt", bit=0), first.connection)
            for pair in (first, second):
                pair.upstream.send(b"\x00")
            assert await first.client.read(1) == b"\x01"
            assert await second.client.read(1) == b"\x00"
            assert (len(first.down.strikes), len(second.down.strikes)) == (1, 0)
            for pair in (first, second):
                pair.client.close()
                pair.upstream.close()


# ------------------------------------------------------------------ ends


@pytest.mark.transport
class TestEnds:
    @pytest.mark.parametrize("direction", DIRECTIONS)
    async def test_a_cut_gives_fin_to_both_ends_behind_what_was_forwarded(
        self, direction: str
    ) -> None:
        async with joined() as pair:
            pair.upstream.send(TEXT)
            assert await pair.client.read(100) == TEXT
            strike = await pair.strike("cut", direction)
            struck, other = (pair.down, pair.up) if direction == "down" else (pair.up, pair.down)
            assert (strike.kind, strike.offset, strike.length) == ("cut", struck.forwarded, 0)
            assert (struck.strikes, other.strikes) == ([strike], [])
            assert pair.connection.struck_by == "cut"
            pair.upstream.send(TEXT)
            pair.client.send(TEXT)
            assert await pair.client.rest() == (b"", "fin")
            assert await pair.upstream.rest() == (b"", "fin")
            pair.client.close()
            pair.upstream.close()
            await asyncio.wait_for(pair.connection.wait_ended(), LIMIT_S)
            assert (pair.down.forwarded, pair.up.forwarded) == (100, 0)
            assert (pair.down.received, pair.down.lost, pair.up.lost) == (200, 100, 100)

    async def test_a_cut_by_seed_comes_in_the_middle_of_what_was_sent(self) -> None:
        chaos = Chaos(3, (Fault("cut"),), every_bytes=30, spare_bytes=20, directions=("down",))
        at = Draws(chaos, 0, "down").offset
        assert at
        assert 20 < at < 100
        async with joined(chaos) as pair:
            pair.upstream.send(TEXT)
            assert await pair.client.rest() == (TEXT[:at], "fin")
            assert await pair.upstream.rest() == (b"", "fin")
            assert [strike.offset for strike in pair.down.strikes] == [at]
            assert pair.down.expected(TEXT) == TEXT[:at]
            assert pair.down.lost == 100 - at

    async def test_a_reset_is_one_for_both_ends(self) -> None:
        async with joined() as pair:
            pair.upstream.send(TEXT)
            assert await pair.client.read(100) == TEXT
            strike = await pair.strike("reset", "up")
            assert (strike.kind, strike.offset) == ("reset", 0)
            assert await pair.client.rest() == (b"", "reset")
            assert await pair.upstream.rest() == (b"", "reset")
            await asyncio.wait_for(pair.connection.wait_ended(), LIMIT_S)
            assert pair.connection.struck_by == "reset"
            with pytest.raises(UsageError, match="nothing goes down on connection 0 any more"):
                pair.strike("corrupt")

    @pytest.mark.parametrize("end", ["cut", "reset"])
    async def test_half_open_is_silence_on_both_sides_until_it_is_told(self, end: str) -> None:
        async with joined() as pair:
            pair.upstream.send(TEXT)
            assert await pair.client.read(100) == TEXT
            await pair.strike("half-open")
            much = bytes(1 << 20)
            pair.upstream.send(much)
            pair.client.send(TEXT)
            await until(lambda: (pair.down.lost, pair.up.lost) == (1 << 20, 100))
            assert (pair.down.forwarded, pair.up.forwarded) == (100, 0)
            assert pair.connection.struck_by == "half-open"
            assert not pair.connection.is_ended
            with pytest.raises(UsageError, match="nothing goes up"):
                pair.strike("stall", "up", seconds=1)
            await pair.strike(end, "up")
            how = "fin" if end == "cut" else "reset"
            assert await pair.client.rest() == (b"", how)
            assert await pair.upstream.rest() == (b"", how)

    async def test_who_gives_up_a_half_open_connection_ends_its_own_side_alone(self) -> None:
        async with joined() as pair:
            await pair.strike("half-open")
            pair.client.writer.write_eof()
            assert await pair.client.rest() == (b"", "fin")
            pair.upstream.send(TEXT)
            await until(lambda: pair.down.lost == 100)
            assert not pair.connection.is_ended
            pair.upstream.writer.write_eof()
            assert await pair.upstream.rest() == (b"", "fin")
            await asyncio.wait_for(pair.connection.wait_ended(), LIMIT_S)
            assert pair.connection.struck_by == "half-open"

    async def test_leaving_the_proxy_ends_all_and_leaves_nothing(self) -> None:
        async with listening() as (port, came):
            before = open_files()
            chaos = Chaos(1, (Fault("delay", seconds=60, span=1),), every_bytes=10)
            async with ChaosProxy("127.0.0.1", port, chaos) as proxy:
                pairs = [await join(proxy, came) for _ in range(4)]
                for pair in pairs:
                    pair.upstream.send(TEXT)
                    pair.client.send(TEXT)
                await until(lambda: all(pair.down.received == 100 for pair in pairs))
                pairs[0].strike("half-open")
                pairs[1].strike("cut")
                waiting = pairs[3].strike("duplicate", size=1000)
                pairs[2].upstream.writer.write_eof()
            assert all(connection.is_ended for connection in proxy.connections)
            assert await waiting is None
            for pair in pairs:
                assert (pair.up.waiting, pair.down.waiting) == (0, 0)
                for end, account in ((pair.client, pair.down), (pair.upstream, pair.up)):
                    got, _ = await end.rest()
                    assert got == account.expected(TEXT)
                    assert account.received == account.forwarded + account.lost
                    end.close()
                    with contextlib.suppress(ConnectionError):
                        await end.writer.wait_closed()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(proxy.host, proxy.port)
            assert leftovers() == []
            await until(lambda: open_files() <= before)


class TestEndsInSimulatedTime:
    def test_who_does_not_close_after_a_cut_is_closed_in_time(self) -> None:
        async def test(world: World) -> None:
            world.client.is_stuck = True
            world.upstream.send(TEXT)
            world.strike("cut")
            assert (world.client.end, world.upstream.end) == ("", "fin")
            await world.pass_time()
            assert (world.client.end, world.upstream.end) == ("gone", "gone")
            assert world.seam.seconds() == 1.0
            assert (world.down.forwarded, world.down.lost) == (0, 100)
            assert world.down.expected(TEXT) == world.client.got == b""

        in_world(test)

    def test_fin_waits_for_what_is_unsent(self) -> None:
        async def test(world: World) -> None:
            world.client.is_stuck = True
            world.upstream.send(TEXT)
            world.strike("cut")
            world.client.take()
            assert (world.client.got, world.client.end) == (TEXT, "fin")
            world.client.send_fin()
            world.upstream.send_fin()
            await turn()
            assert world.connection.is_ended
            assert world.seam.seconds() == 0.0

        in_world(test)

    def test_a_cut_behind_a_fin_closes_at_once(self) -> None:
        async def test(world: World) -> None:
            world.upstream.send_fin()
            await turn()
            assert (world.client.end, world.upstream.end) == ("fin", "")
            world.strike("cut", "up")
            assert (world.client.end, world.upstream.end) == ("fin", "gone")

        in_world(test)

    def test_a_reset_takes_back_what_is_unsent(self) -> None:
        async def test(world: World) -> None:
            world.client.is_stuck = True
            world.strike("duplicate", size=60)
            world.upstream.send(TEXT)
            world.client.is_stuck = False
            world.client.take()
            world.client.is_stuck = True
            assert (world.down.forwarded, world.down.repeated, world.down.lost) == (160, 60, 0)
            world.upstream.send(TEXT)
            assert (world.down.forwarded, world.down.received) == (260, 200)
            world.strike("reset")
            assert (world.down.forwarded, world.down.repeated, world.down.lost) == (160, 60, 100)
            assert world.down.expected(TEXT * 2) == world.client.got

        in_world(test)

    def test_the_end_in_the_middle_of_a_repetition_is_told_to_the_byte(self) -> None:
        async def test(world: World) -> None:
            world.strike("duplicate", size=60)
            world.strike("split", size=25)
            world.client.is_stuck = True
            world.upstream.send(TEXT)
            for _ in range(3):  # 25, 50, 60
                world.client.take()
            assert (world.down.forwarded, world.down.repeated) == (85, 25)
            world.strike("reset")
            assert world.client.got == TEXT[:60] == world.down.expected(TEXT)
            assert (world.down.forwarded, world.down.repeated, world.down.lost) == (60, 0, 40)

        in_world(test)

    def test_a_peer_that_breaks_its_connection_resets_the_other_behind_a_stall(self) -> None:
        async def test(world: World) -> None:
            world.strike("stall", seconds=2)
            world.upstream.send(TEXT)
            world.upstream.break_off()
            await turn()
            assert world.client.end == ""
            await world.pass_time()
            assert (world.client.got, world.client.end) == (TEXT, "gone")
            assert world.seam.seconds() == 2.0

        in_world(test)

    def test_a_peer_that_breaks_a_connection_after_its_fin_resets_the_other(self) -> None:
        async def test(world: World) -> None:
            world.client.send_fin()
            assert world.upstream.end == "fin"
            world.client.break_off()
            await turn()
            assert world.upstream.end == "gone"
            assert world.connection.is_ended

        in_world(test)

    @pytest.mark.parametrize("kind", ["cut", "reset", "half-open"])
    def test_it_may_come_before_upstream_is_reached(self, kind: str) -> None:
        async def main() -> None:
            seam = WireSeam()
            seam.connecting = asyncio.Event()
            async with ChaosProxy("127.0.0.1", 9, seam=seam) as proxy:
                client = seam.come()
                await turn()
                client.send(TEXT)
                proxy.strike(Fault(kind))
                seam.connecting.set()
                await turn()
                assert client.end == {"cut": "fin", "reset": "gone", "half-open": ""}[kind]
                assert len(seam.upstreams) == (kind == "half-open")
                assert proxy.connections[0].up.lost == 100
                client.send_fin() if client.end != "gone" else None
                await turn()
                assert client.end == "gone"
            assert (timers(), leftovers()) == (0, [])

        simulate(main())

    @pytest.mark.parametrize("kind", ["cut", "reset"])
    def test_it_may_come_before_the_client_has_a_socket(self, kind: str) -> None:
        async def main() -> None:
            seam = WireSeam()
            async with ChaosProxy("127.0.0.1", 9, seam=seam) as proxy:
                protocol = cast(asyncio.BufferedProtocol, seam.factory())
                proxy.strike(Fault(kind))
                wire = Wire(protocol)
                protocol.connection_made(wire)
                await turn()
                assert (wire.end, seam.upstreams) == ("gone", [])
                assert proxy.connections[0].is_ended
                assert timers() == 0

        simulate(main())

    def test_a_fin_that_meets_a_broken_connection_is_no_error(self) -> None:
        async def test(world: World) -> None:
            def fail() -> None:
                raise OSError(107, "Transport endpoint is not connected")

            world.client.write_eof = fail  # type: ignore[method-assign]
            world.upstream.send_fin()
            world.client.break_off()
            await turn()
            assert (world.upstream.end, world.connection.is_ended) == ("gone", True)

        in_world(test)

    def test_what_comes_while_it_is_left_is_closed(self) -> None:
        async def main() -> None:
            seam = WireSeam()
            seam.connecting = asyncio.Event()
            async with ChaosProxy("127.0.0.1", 9, seam=seam) as proxy:
                accepted = cast(asyncio.BufferedProtocol, seam.factory())
                opening = seam.come()
                await turn()
                leaving = asyncio.ensure_future(proxy.__aexit__(None, None, None))
                await turn()
                wire = Wire(accepted)
                accepted.connection_made(wire)
                await leaving
                late = cast(asyncio.BufferedProtocol, seam.factory())
                last = Wire(late)
                late.connection_made(last)
                await turn()
                assert (opening.end, wire.end, last.end) == ("gone", "gone", "gone")
                assert seam.upstreams == []
            assert (timers(), leftovers()) == (0, [])

        simulate(main())


# ------------------------------------------------------------------ time


class TestTime:
    def test_a_stall_holds_back_and_then_gives_all(self) -> None:
        async def test(world: World) -> None:
            strike = await world.strike("stall", seconds=3)
            assert (strike.parameter, strike.length, strike.offset) == (3, 0, 0)
            world.upstream.send(*[bytes([n]) for n in TEXT])
            world.client.send(TEXT)
            assert world.upstream.got == TEXT
            assert (world.client.got, world.down.waiting) == (b"", 100)
            await world.pass_time()
            assert world.client.got == TEXT
            assert set(world.times()) == {3000.0}

        in_world(test)

    def test_a_delay_is_added_to_each_piece_and_ends_with_its_span(self) -> None:
        async def test(world: World) -> None:
            await world.strike("delay", seconds=0.5, span=150)
            world.upstream.send(TEXT)
            await asyncio.sleep(0.25)
            world.upstream.send(TEXT)
            await asyncio.sleep(1)
            world.upstream.send(TEXT)
            await world.pass_time()
            assert world.client.got == TEXT * 3
            assert world.times() == [500, 750, 750, 1250]
            assert [len(data) for _, data in world.client.pieces] == [100, 50, 50, 100]

        in_world(test)

    def test_a_jitter_is_random_by_seed_and_keeps_the_order(self) -> None:
        found = []

        async def test(world: World) -> None:
            await world.strike("jitter", seconds=0.1)
            for n in range(100):
                world.upstream.send(bytes([n]))
                await asyncio.sleep(0.01)
            await world.pass_time()
            assert world.client.got == bytes(range(100))
            late = [at - 10 * n for n, at in enumerate(world.times())]
            assert all(0 <= ms <= 100 for ms in late)
            assert max(late) > 90
            assert len(set(late)) > 20
            found.append(late)

        for seed in (1, 1, 2):
            in_world(test, Chaos(seed))
        assert found[0] == found[1] != found[2]

    def test_a_throttle_is_never_faster_than_it_says(self) -> None:
        async def test(world: World) -> None:
            await world.strike("throttle", bytes_per_s=1000)
            world.upstream.send(bytes(1000))
            await world.pass_time()
            sent = 0
            for at, data in world.client.pieces:
                assert sent <= 1000 * at + 1e-6
                sent += len(data)
            assert (sent, len(world.client.pieces)) == (1000, 100)
            assert world.times()[-1] == 990

        in_world(test)

    def test_a_slow_drip_is_a_byte_a_send(self) -> None:
        async def test(world: World) -> None:
            await world.strike("slow-drip", seconds=0.5, span=5)
            world.upstream.send(TEXT)
            await world.pass_time()
            assert [len(data) for _, data in world.client.pieces] == [1, 1, 1, 1, 1, 95]
            assert world.times() == [0, 500, 1000, 1500, 2000, 2500]

        in_world(test)

    def test_a_split_sends_pieces_and_does_not_wait(self) -> None:
        async def test(world: World) -> None:
            strike = await world.strike("split", size=30, span=170)
            assert (strike.length, strike.parameter) == (170, 30)
            world.upstream.send(TEXT, TEXT)
            sizes = [len(data) for _, data in world.client.pieces]
            assert sizes == [30, 30, 30, 10, 30, 30, 10, 30]
            assert world.down.send_count == 8
            assert world.client.got == TEXT * 2

        in_world(test)

    def test_what_holds_together_adds_up(self) -> None:
        async def test(world: World) -> None:
            await world.strike("delay", seconds=0.1)
            await world.strike("delay", seconds=0.2)
            await world.strike("split", size=7)
            await world.strike("split", size=3)
            world.strike("duplicate", size=4)
            world.upstream.send(b"abcdef")
            await world.pass_time()
            assert [data for _, data in world.client.pieces] == [b"abc", b"d", b"abc", b"d", b"ef"]
            assert set(world.times()) == {300}

        in_world(test)

    def test_a_long_burst_gives_the_loop_its_turns(self) -> None:
        async def test(world: World) -> None:
            await world.strike("split", size=1)
            world.upstream.send(bytes(1000))
            assert len(world.client.got) == 64
            await world.pass_time()
            assert (len(world.client.got), world.seam.seconds()) == (1000, 0.0)

        in_world(test)


# ------------------------------------------------------------------ bytes


class TestBytes:
    def test_a_bit_is_flipped_in_the_next_byte(self) -> None:
        async def test(world: World) -> None:
            world.upstream.send(TEXT)
            struck = world.strike("corrupt", bit=7)
            assert not struck.done()
            world.upstream.send(TEXT)
            strike = await struck
            assert strike == world.down.strikes[0]
            assert (strike.kind, strike.offset, strike.length) == ("corrupt", 100, 1)
            assert strike.parameter == 7
            given = TEXT + bytes([TEXT[0] ^ 0x80]) + TEXT[1:]
            assert world.client.got == world.down.expected(TEXT * 2) == given

        in_world(test)

    def test_a_range_is_forwarded_twice_though_it_comes_in_pieces(self) -> None:
        async def test(world: World) -> None:
            struck = world.strike("duplicate", size=5)
            world.upstream.send(b"ab", b"cd", b"efg")
            strike = await struck
            assert (strike.offset, strike.length, strike.parameter) == (0, 5, 5)
            assert world.client.got == b"abcdeabcdefg" == world.down.expected(b"abcdefg")
            assert (world.down.forwarded, world.down.repeated, world.down.lost) == (12, 5, 0)

        in_world(test)

    def test_ranges_that_overlap_are_repeated_in_the_order_of_their_ends(self) -> None:
        async def test(world: World) -> None:
            world.strike("duplicate", size=4)
            world.upstream.send(b"a")
            world.strike("duplicate", size=2)
            world.strike("duplicate", size=3)
            world.strike("corrupt", bit=0)
            world.upstream.send(b"bcdef")
            # abcd, bc and bcd, of which b has become c: bc is whole behind c, the others behind d.
            assert world.client.got == b"acc" + b"cc" + b"d" + b"accd" + b"ccd" + b"ef"
            assert world.client.got == world.down.expected(b"abcdef")
            assert world.down.repeated == 9

        in_world(test)

    def test_a_range_in_which_the_stream_ends_is_not_repeated(self) -> None:
        async def test(world: World) -> None:
            struck = world.strike("duplicate", size=101)
            world.upstream.send(TEXT)
            world.upstream.send_fin()
            assert await struck is None
            late = world.strike("corrupt", "up")
            world.client.send_fin()
            assert await late is None
            assert world.client.got == TEXT
            assert world.down.strikes == world.up.strikes == []

        in_world(test)

    def test_nobody_has_to_wait_for_a_fault(self) -> None:
        async def test(world: World) -> None:
            for kind in ({"kind": "corrupt"}, {"kind": "duplicate", "size": 3}):
                world.strike(**kind).cancel()
            world.upstream.send(TEXT)
            assert [strike.kind for strike in world.down.strikes] == ["corrupt", "duplicate"]
            assert world.client.got == world.down.expected(TEXT)

        in_world(test)


class TestTheRoom:
    @pytest.mark.parametrize("ahead_max", [1000, 100_000])
    def test_no_more_is_read_than_may_wait(self, ahead_max: int) -> None:
        async def test(world: World) -> None:
            world.client.is_stuck = True
            world.upstream.send(*[bytes([n % 251]) * 1000 for n in range(300)])
            assert not world.upstream.is_reading
            assert world.down.received == ahead_max
            while len(world.client.got) < 300_000:
                await turn()
                world.client.take()
            assert world.client.got == b"".join(bytes([n % 251]) * 1000 for n in range(300))
            assert world.down.waiting_max == ahead_max

        in_world(test, ahead_max=ahead_max)

    def test_a_stall_stops_the_sender(self) -> None:
        async def test(world: World) -> None:
            world.strike("stall", seconds=1)
            world.upstream.send(TEXT)
            assert (world.down.received, world.upstream.is_reading) == (7, False)
            await world.pass_time()
            await turn()
            while len(world.client.got) < 100:
                await turn()
            assert (world.client.got, world.down.waiting_max) == (TEXT, 7)

        in_world(test, ahead_max=7)

    def test_what_is_repeated_comes_beside_it(self) -> None:
        async def test(world: World) -> None:
            world.strike("duplicate", size=50)
            world.client.is_stuck = True
            world.upstream.send(*[bytes([n]) for n in range(60)])
            while len(world.client.got) < 110:
                await turn()
                world.client.take()
            assert 10 < world.down.waiting_max <= 10 + 50
            assert world.client.got == world.down.expected(bytes(range(60)))

        in_world(test, ahead_max=10)

    @pytest.mark.transport
    async def test_no_more_is_read_from_a_socket(self) -> None:
        data = random.Random(2).randbytes(1 << 20)
        async with joined(ahead_max=5000) as pair:
            await pair.strike("stall", seconds=3600)
            pair.upstream.send(data)
            await until(lambda: pair.down.received == 5000)
            for _ in range(100):
                await asyncio.sleep(0)
            account = pair.down
            assert (account.received, account.waiting, account.waiting_max) == (5000, 5000, 5000)
            await pair.strike("cut")
            assert account.lost >= 5000


# ------------------------------------------------------------------ the account

ALL = (
    Fault("stall", seconds=0.002),
    Fault("delay", seconds=0.001, span=500),
    Fault("jitter", seconds=0.001, span=900),
    Fault("throttle", bytes_per_s=1e6, span=400),
    Fault("split", size=11, span=300),
    Fault("slow-drip", seconds=1e-6, span=5),
    Fault("corrupt"),
    Fault("corrupt", bit=3),
    Fault("duplicate", size=1),
    Fault("duplicate", size=700),
)
ENDS = tuple(Fault(kind) for kind in ("cut", "reset", "half-open"))


def cut_up(data: bytes, rng: random.Random) -> list[bytes]:
    pieces = []
    while data:
        n = rng.choice((1, 7, 100, 3000))
        pieces.append(data[:n])
        data = data[n:]
    return pieces


def is_right(account: Account, sent: bytes, got: bytes) -> bool:
    """Return whether an account tells exactly what was given of what was sent."""
    received = account.waiting + account.forwarded - account.repeated + account.lost
    return account.expected(sent) == got and account.received == received


class TestTheAccount:
    SEEDS = range(200)

    def run(self, seed: int, chaos: Chaos, pieces_by: int, **options: Any) -> ProxiedConnection:
        """Send bytes both ways in simulated time, and hold the account to every byte."""
        met: list[ProxiedConnection] = []

        async def test(world: World) -> None:
            rng = random.Random(seed)
            sent = {name: rng.randbytes(6000) for name in DIRECTIONS}
            rng = random.Random(pieces_by)
            pieces = {name: cut_up(data, rng) for name, data in sent.items()}
            ends = {"up": (world.client, world.upstream), "down": (world.upstream, world.client)}
            accounts = {"up": world.up, "down": world.down}
            while any(pieces.values()):
                for name, (source, sink) in ends.items():
                    if pieces[name]:
                        source.send(pieces[name].pop(0))
                    assert is_right(accounts[name], sent[name], sink.got)
                await asyncio.sleep(0.0001)
            if seed % 2:
                await world.pass_time()
            for name, (source, _) in ends.items():
                if not source.end:
                    source.send_fin()
                await world.pass_time()
                account = accounts[name]
                assert is_right(account, sent[name], ends[name][1].got)
                assert account.lost == 0 or world.connection.struck_by
                assert account.waiting == 0
            met.append(world.connection)

        in_world(test, chaos, **options)
        return met[0]

    def test_it_rebuilds_what_arrived_byte_by_byte(self) -> None:
        kinds: set[str] = set()
        for seed in self.SEEDS:
            ends = ENDS if seed % 3 == 0 else ()
            chaos = Chaos(seed, ALL * 3 + ends, every_bytes=300)
            met = self.run(seed, chaos, seed, ahead_max=(1 << 18, 2000)[seed % 2])
            kinds |= {strike.kind for strike in met.up.strikes + met.down.strikes}
        assert kinds == set(sim.FAULT_KINDS)

    def test_equal_seeds_bytes_and_pieces_have_equal_faults(self) -> None:
        for seed in range(10):
            chaos = Chaos(seed, ALL + ENDS, every_bytes=400)
            first, second = self.run(seed, chaos, 1), self.run(seed, chaos, 1)
            assert (first.up, first.down) == (second.up, second.down)
            assert first.struck_by == second.struck_by

    def test_however_the_bytes_are_cut_up_the_same_faults_strike(self) -> None:
        for seed in range(10):
            chaos = Chaos(seed, ALL, every_bytes=400)
            first, second = self.run(seed, chaos, 1), self.run(seed, chaos, 2)
            for name in DIRECTIONS:
                one, other = getattr(first, name).strikes, getattr(second, name).strikes
                assert len(one) == len(other) > 3
                assert all(a.same(b) for a, b in zip(one, other, strict=True))
        other_seed = self.run(9, Chaos(10, ALL, every_bytes=400), 1)
        assert not other_seed.up.strikes[0].same(first.up.strikes[0])
        assert not first.up.strikes[0].same(first.down.strikes[0])

    def test_it_refuses_less_than_was_received(self) -> None:
        with pytest.raises(UsageError, match="3 bytes were received, 2 are given"):
            Account(received=3).expected(b"ab")

    @pytest.mark.transport
    async def test_it_is_right_over_real_sockets(self) -> None:
        async def pass_on(sender: Peer, data: bytes, pieces: list[bytes]) -> None:
            with contextlib.suppress(OSError):
                for piece in pieces:
                    sender.send(piece)
                    await sender.writer.drain()
                    await asyncio.sleep(0)
                if not sender.writer.is_closing():
                    sender.writer.write_eof()

        async def run(seed: int, port: int, came: asyncio.Queue[Peer]) -> set[str]:
            ends = ENDS[:2] if seed % 2 else ()
            chaos = Chaos(seed, ALL * 2 + ends, every_bytes=600)
            async with ChaosProxy("127.0.0.1", port, chaos, ahead_max=3000) as proxy:
                pair = await join(proxy, came)
                rng = random.Random(seed)
                sent = {name: rng.randbytes(6000) for name in DIRECTIONS}
                *_, down, up = await asyncio.gather(
                    pass_on(pair.client, sent["up"], cut_up(sent["up"], rng)),
                    pass_on(pair.upstream, sent["down"], cut_up(sent["down"], rng)),
                    pair.client.rest(),
                    pair.upstream.rest(),
                )
                pair.client.close()
                pair.upstream.close()
                await asyncio.wait_for(pair.connection.wait_ended(), LIMIT_S)
                for name, (got, how) in {"down": down, "up": up}.items():
                    account: Account = getattr(pair.connection, name)
                    # A loop may tell a reset as FIN to one whose writing met it first.
                    if "reset" in (how, pair.connection.struck_by):
                        assert account.expected(sent[name]).startswith(got)
                    else:
                        assert is_right(account, sent[name], got)
                        assert pair.connection.struck_by or account.received == 6000
                if "reset" in (up[1], down[1]):  # one that had its FIN before notices none
                    assert pair.connection.struck_by == "reset"
                return {strike.kind for strike in pair.up.strikes + pair.down.strikes}

        async with listening() as (port, came):
            kinds = [await run(seed, port, came) for seed in self.SEEDS]
        assert set().union(*kinds) == set(sim.FAULT_KINDS) - {"half-open"}


# ------------------------------------------------------------------ TLS


class Watcher:
    """A client of a simulated venue, behind a proxy, that has subscribed the quotes of a symbol."""

    def __init__(self, server: SimServer, proxy: ChaosProxy, client: ClientConnection) -> None:
        self.proxy, self.client = proxy, client
        self.name = server.scenario.venues[-1]
        self.native = server.ready()["symbols"][self.name][0]
        self._server = server

    async def subscribe(self) -> None:
        known = venue(self.name)
        (_, text), *_ = known.subscribe([known.stream(self.native, Record.QUOTE)], 1)
        await self.client.send(text)
        assert known.understand(str(await self.client.recv())).control is Control.ACK

    def _send(self, number: int) -> None:
        quote = SimQuote("100", "1", "101", "1", 0, 0)
        self._server._venues[self.name].send(self.native, quote, number)

    async def _watch(self, number: int) -> None:
        """Let the venue send the quote of that number, and receive it."""
        self._send(number)
        receiving = asyncio.ensure_future(self.client.recv())
        strikes = self.proxy.connections[0].down.strikes
        await until(lambda: bool(receiving.done() or strikes))
        if strikes:
            for _ in range(200):  # a record whose length was changed wants up to 16 KiB more
                self._send(number)
        text = str(await asyncio.wait_for(receiving, LIMIT_S))
        ((_, _, received),) = dialect(self.name).decode(text)
        assert received is not None
        assert received.seq == number

    async def watch(self) -> tuple[int, BaseException | None]:
        """Watch until the connection breaks; return how many quotes came, each the next one, and
        what broke it."""
        for number in range(1, 200):
            try:
                await self._watch(number)
            except ConnectionClosedError as error:
                return number - 1, error.__cause__
        raise AssertionError("it was never struck")


class TestTls:
    """A client and a venue of the simulator, with the proxy between them."""

    @contextlib.asynccontextmanager
    async def watching(self, chaos: Chaos | None = None) -> AsyncIterator[Watcher]:
        scenario = Scenario(seconds=2.0, rate=600.0, symbols=("BTC/USDT", "ETH/USDT"))
        async with SimServer(scenario) as server:
            ready = server.ready()
            url = ready["venues"][scenario.venues[-1]]["url"]
            port = re.findall(r":(\d+)", url)[0]
            async with ChaosProxy("127.0.0.1", int(port), chaos) as proxy:
                context = ssl.create_default_context(cafile=ready["ca"])
                url = url.replace(port, str(proxy.port))
                client = await connect(url, ssl=context, compression=None, ping_interval=None)
                watcher = Watcher(server, proxy, client)
                await watcher.subscribe()
                yield watcher

    async def test_the_client_refuses_a_flipped_bit(self) -> None:
        async with self.watching() as watcher:
            struck = watcher.proxy.strike(Fault("corrupt", bit=0))
            count, error = await watcher.watch()
            assert (count, isinstance(error, ssl.SSLError)) == (0, True)
            assert watcher.proxy.connections[0].down.strikes == [await struck]

    @pytest.mark.parametrize("kind", ["corrupt", "duplicate"])
    async def test_it_takes_nothing_of_a_record_that_was_changed_anywhere(self, kind: str) -> None:
        for seed in range(4):
            fault = Fault(kind, size=3 if kind == "duplicate" else None)
            chaos = Chaos(seed, (fault,), 1000, spare_bytes=8000, directions=("down",))
            async with self.watching(chaos) as watcher:
                count, error = await watcher.watch()
                assert count > 10
                assert isinstance(error, ssl.SSLError)
                assert watcher.proxy.connections[0].down.strikes[0].offset >= 8000


# ------------------------------------------------------------------ refusals


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"kind": "melt"}, "unknown fault 'melt'; known are cut, reset, half-open, stall,"),
            ({"kind": "stall"}, "stall needs seconds"),
            ({"kind": "stall", "seconds": 0}, "stall: seconds is a number from 1e-06 to 3600"),
            ({"kind": "stall", "seconds": float("nan")}, "seconds is a number"),
            ({"kind": "stall", "seconds": float("inf")}, "seconds is a number"),
            ({"kind": "delay", "seconds": -1}, "seconds is a number"),
            ({"kind": "delay", "seconds": "1"}, "seconds is a number"),
            ({"kind": "delay", "seconds": 1, "span": 0}, "span is a whole number from 1"),
            ({"kind": "stall", "seconds": 1, "span": 9}, "stall takes no span"),
            ({"kind": "throttle", "seconds": 1}, "throttle takes no seconds"),
            ({"kind": "throttle", "bytes_per_s": 0.5}, "bytes_per_s is a number from 1"),
            ({"kind": "split", "size": 0}, "size is a whole number from 1"),
            ({"kind": "split", "size": True}, "size is a whole number from 1"),
            ({"kind": "duplicate", "size": 65_537}, "size is a whole number from 1 to 65536"),
            ({"kind": "duplicate", "size": 2.5}, "size is a whole number"),
            ({"kind": "corrupt", "bit": 8}, "bit is a whole number from 0 to 7"),
            ({"kind": "cut", "bit": 1}, "cut takes no bit"),
        ],
    )
    def test_an_impossible_fault(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=re.escape(words)):
            Fault(**options)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"seed": 1.5}, "seed is a whole number"),
            ({"every_bytes": 0}, "every_bytes is a number from 1"),
            ({"every_bytes": float("nan")}, "every_bytes is a number from 1"),
            ({"spare_bytes": -1}, "spare_bytes is a whole number from 0"),
            ({"faults": ("cut",)}, "faults is a tuple of Fault"),
            ({"faults": [Fault("cut")]}, "faults is a tuple of Fault"),
            ({"directions": ("left",)}, "directions is a tuple of"),
            ({"directions": "up"}, "directions is a tuple of"),
        ],
    )
    def test_an_impossible_schedule(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=re.escape(words)):
            Chaos(**options)

    @pytest.mark.parametrize(
        ("host", "port", "ahead_max"),
        [("", 1, 1), ("127.0.0.1", 0, 1), ("127.0.0.1", 65_536, 1), ("127.0.0.1", 1, 0)],
    )
    def test_an_impossible_proxy(self, host: str, port: int, ahead_max: int) -> None:
        with pytest.raises(UsageError):
            ChaosProxy(host, port, ahead_max=ahead_max)

    def test_a_strike_where_nothing_can_be_struck(self) -> None:
        async def test(world: World) -> None:
            with pytest.raises(UsageError, match="a direction is one of"):
                world.strike("cut", "left")
            world.upstream.send_fin()
            with pytest.raises(UsageError, match="nothing goes down on connection 0"):
                world.strike("corrupt", "down")
            world.strike("cut", "down")
            for kind in ("cut", "reset", "half-open"):
                with pytest.raises(UsageError, match="nothing goes up on connection 0"):
                    world.strike(kind, "up")

        in_world(test)

    async def test_a_strike_before_anybody_came_and_entering_twice(self) -> None:
        async with ChaosProxy("127.0.0.1", 9) as proxy:
            with pytest.raises(UsageError, match="no connection has come yet"):
                proxy.strike(Fault("cut"))
            with pytest.raises(UsageError, match="entered once"):
                await proxy.__aenter__()

    async def test_a_system_that_lets_it_not_listen(self) -> None:
        class Full(System):
            async def serve(self, *_: Any) -> Any:
                raise OSError(24, "Too many open files")

        with pytest.raises(HostError, match=r"cannot listen on 127\.0\.0\.1: .*Too many"):
            await ChaosProxy("127.0.0.1", 9, seam=Full()).__aenter__()
