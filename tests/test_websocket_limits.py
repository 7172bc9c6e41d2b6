"""What the peer of one WebSocket may cost: time in which it takes nothing, and work in one turn."""

from __future__ import annotations

import asyncio

import pytest
from fake_world import BINARY
from test_websocket import Clock, against_a_bare_peer, collected, ignore, roles

from crosswire.receive.websocket import STALL_LIMIT_S

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
