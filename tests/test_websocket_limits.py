"""What the peer of one WebSocket may cost: time in which it takes nothing, and work in one turn."""

from __future__ import annotations

import asyncio

import pytest
from fake_world import BINARY
from test_websocket import Clock, against_a_bare_peer, collected, ignore, roles

from crosswire.connection import Connection
from crosswire.handshake import Deflation
from crosswire.receive import WebSocket
from crosswire.receive.websocket import STALL_LIMIT_S, TURN_SIZE

pytestmark = pytest.mark.transport
__all__ = ["collected"]  # a fixture


class TestAPeerThatStopsReading:
    @roles
    async def test_it_is_cut_though_its_end_is_not_seen(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock, message_max=1 << 25) as (socket, peer):
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            socket.send(BINARY, bytes(1 << 25))
            assert socket.is_paused
            assert clock.running == [STALL_LIMIT_S]
            clock.advance(STALL_LIMIT_S - 1)
            await asyncio.sleep(0)
            assert not socket.ended.done()
            clock.advance(1)
            assert await socket.over() == (1006, "")

    @roles
    async def test_one_that_reads_slowly_is_not(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock, message_max=1 << 25) as (socket, peer):
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            socket.send(BINARY, bytes(1 << 25))
            for k in range(1, 4):
                before = socket._taken()
                peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
                async with asyncio.timeout(20):
                    while socket._taken() == before:
                        await peer.reader.read(1 << 20)
                peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
                if socket.is_paused:
                    # what is sent beside does not hide that it reads
                    socket.send(BINARY, bytes(1 << 22))
                    clock.advance(STALL_LIMIT_S)
                    assert clock.running == [(k + 1) * STALL_LIMIT_S]
            assert socket.is_paused
            clock.advance(STALL_LIMIT_S)
            assert await socket.over() == (1006, "")

    @roles
    async def test_the_limit_is_gone_when_it_has_read(self, role: str) -> None:
        clock = Clock()
        async with against_a_bare_peer(role, clock, message_max=1 << 25) as (socket, peer):
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            socket.send(BINARY, bytes(1 << 25))
            assert clock.running != []
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(20):
                while socket.is_paused:
                    await peer.reader.read(1 << 20)
            assert clock.running == []
            peer.cut("end")
            assert await socket.over() == (1006, "")

    async def test_it_may_be_without_a_limit(self) -> None:
        clock = Clock()
        async with against_a_bare_peer("server", clock, ignore, stall_limit_s=None) as both:
            socket, peer = both
            socket.pause_writing()
            assert clock.running == []
            socket.resume_writing()
            peer.cut("end")
            assert await socket.over() == (1006, "")


class TestOneReadOfMuchWork:
    @roles
    async def test_others_have_their_turn(self, role: str) -> None:
        count, size = 40, TURN_SIZE // 4
        turns: list[int] = []
        now = 0

        def keep(socket: WebSocket, opcode: int, payload: memoryview) -> None:
            assert payload == bytes(size)
            turns.append(now)

        clock = Clock()
        async with against_a_bare_peer(role, clock, keep) as (socket, peer):
            socket.connection = Connection(
                is_server=role == "server", random_bytes=bytes, deflation=Deflation()
            )
            theirs = Connection(
                is_server=role != "server", random_bytes=bytes, deflation=Deflation()
            )
            for _ in range(count):
                theirs.send(BINARY, bytes(size))
            theirs.close()
            data = theirs.data_to_send()
            assert len(data) < 65536
            window = socket.get_buffer(-1)
            window[: len(data)] = data
            socket.buffer_updated(len(data))
            assert socket._transport is not None
            assert not socket._transport.is_reading()
            while socket.connection.close_code is None:
                now += 1
                await asyncio.sleep(0)
            assert len(turns) == count
            assert max(turns.count(turn) for turn in turns) == 4
            peer.cut("end")
            assert await socket.over() == (1000, "")

    @roles
    async def test_a_connection_that_is_lost_meanwhile_hands_nothing_over(self, role: str) -> None:
        taken: list[int] = []

        def keep(socket: WebSocket, opcode: int, payload: memoryview) -> None:
            taken.append(len(payload))

        clock = Clock()
        options = {"read_size": 1 << 22}
        async with against_a_bare_peer(role, clock, keep, **options) as (socket, peer):
            data = peer.frame(BINARY, bytes(TURN_SIZE)) * 3
            window = socket.get_buffer(-1)
            window[: len(data)] = data
            socket.buffer_updated(len(data))
            assert len(taken) == 1
            assert socket._transport is not None
            socket._transport.abort()
            assert await socket.over() == (1006, "")
            await asyncio.sleep(0)
            assert len(taken) == 1

    @roles
    async def test_a_loss_that_is_told_inside_the_turn_ends_it(self, role: str) -> None:
        """asyncio and uvloop tell of it a turn later, which nothing promises."""
        taken: list[int] = []

        def keep(socket: WebSocket, opcode: int, payload: memoryview) -> None:
            taken.append(len(payload))
            assert socket._transport is not None
            socket._transport.abort()
            socket.connection_lost(None)

        async with against_a_bare_peer(role, Clock(), keep, read_size=1 << 22) as (socket, peer):
            data = peer.frame(BINARY, bytes(TURN_SIZE)) * 3
            window = socket.get_buffer(-1)
            window[: len(data)] = data
            socket.buffer_updated(len(data))
            await asyncio.sleep(0)
            assert taken == [TURN_SIZE]
            assert await socket.over() == (1006, "")

    @roles
    async def test_a_peer_that_stops_and_reads_on_meanwhile_gets_no_second_turn(
        self, role: str
    ) -> None:
        taken: list[int] = []

        def keep(socket: WebSocket, opcode: int, payload: memoryview) -> None:
            taken.append(len(payload))

        async with against_a_bare_peer(role, Clock(), keep, read_size=1 << 23) as (socket, peer):
            data = peer.frame(BINARY, bytes(TURN_SIZE)) * 5
            window = socket.get_buffer(-1)
            window[: len(data)] = data
            socket.buffer_updated(len(data))
            for turn in range(1, 6):
                assert len(taken) == turn
                socket.pause_writing()
                socket.resume_writing()
                await asyncio.sleep(0)
            peer.cut("end")
            assert await socket.over() == (1006, "")
            assert taken == [TURN_SIZE] * 5
