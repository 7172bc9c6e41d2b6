"""What strangers, and readers that stop, may cost a server and everybody else in its loop."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from typing import cast

import pytest
import trustme
from fake_world import CLOSE, TEXT, leftovers, simulate
from test_server import (
    HIGH,
    MASK,
    REQUEST,
    TOKEN,
    Hall,
    Wire,
    in_hall,
    number_of,
    numbered,
    timers,
    turn,
)

from crosswire.codec import encode_frame
from crosswire.sinks import Reader, Server

# ------------------------------------------------------------------ at the door


class TestTheDoor:
    def test_a_connection_counts_from_before_its_tls_handshake(self) -> None:
        async def test(hall: Hall) -> None:
            reader = hall.read()[0]
            unmade = [cast(Reader, hall.seam.factory()) for _ in range(400)]
            assert timers() == 1 + 4
            assert len({id(reader._head.obj) for reader in unmade}) == 1
            await turn()
            assert hall.server.refused == {"crowd": 396}
            assert len(hall.server._connections) == 1 + 4
            assert hall.read()[0].status == 101
            await asyncio.sleep(11)
            assert hall.server.refused == {"crowd": 397, "cut": 3}
            assert timers() == 1
            assert reader.wire.lost_at is None

        in_hall(test, upgrades_max=4, idle_s=60)

    def test_one_that_was_given_up_in_its_tls_handshake_is_cut_behind_it(self) -> None:
        async def test(hall: Hall) -> None:
            first, _ = (cast(Reader, hall.seam.factory()) for _ in range(2))
            await turn()
            wire = Wire(first, 1, is_reading=True)
            first.connection_made(wire)
            await turn()
            assert wire.lost_at is not None
            assert hall.server.refused == {"crowd": 1}
            assert len(hall.server._connections) == 1

        in_hall(test, upgrades_max=1)

    def test_strangers_do_not_keep_readers_out(self) -> None:
        async def test(hall: Hall) -> None:
            for _ in range(20):
                for _ in range(10):
                    hall.come()
                client = hall.come()
                client.say(REQUEST)
                assert client.status == 101
                await turn()
            assert hall.server.reader_count == 20
            assert hall.server.refused == {"crowd": 20 * 10 - 7}

        in_hall(test, upgrades_max=8, idle_s=60)

    def test_where_all_others_are_in_their_end_the_newcomer_is_cut(self) -> None:
        async def test(hall: Hall) -> None:
            for client in hall.read(2):
                client.wire.is_sticky = True
                client.reader.close()
            newcomer = hall.come()
            await turn()
            assert hall.told(newcomer) == ["crowd"]
            assert newcomer.wire.lost_at is not None

        in_hall(test, upgrades_max=2)

    def test_closing_gives_up_who_is_in_a_tls_handshake(self) -> None:
        async def main() -> None:
            hall = Hall()
            await hall.server.open()
            unmade = cast(Reader, hall.seam.factory())
            await hall.server.close()
            assert hall.seam.seconds() == 0.0
            assert hall.server.refused == {"cut": 1}
            assert timers() == 0
            late = Wire(unmade, 1, is_reading=True)
            unmade.connection_made(late)
            await turn()
            assert late.lost_at == 0.0
            assert hall.come().wire.is_closing()  # accepted before, made behind the end
            await turn()
            assert hall.server.refused == {"cut": 1}
            assert (timers(), leftovers()) == (0, [])

        simulate(main())

    async def test_a_crowd_of_silent_tcp_connections_before_tls(self) -> None:
        authority = trustme.CA()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        server = Server(tls=tls, upgrades_max=2)
        async with server:
            streams = [await asyncio.open_connection(server.host, server.port) for _ in range(6)]
            async with asyncio.timeout(20):
                while server.refused != {"crowd": 4}:  # noqa: ASYNC110 - a few turns
                    await asyncio.sleep(0)
            assert len(server._connections) == 2
        assert server.refused == {"crowd": 4, "cut": 2}
        for _, writer in streams:
            writer.close()


# ------------------------------------------------------------------ slow readers


class TestCatchingUp:
    def test_what_was_kept_is_written_in_pieces_of_64_kib(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read(is_reading=False)[0]
            for n in range(1000):
                hall.publish(numbered(n))
            client.wire.is_reading = True
            before = len(client.wire.given)
            client.wire.take()
            pieces = [len(data) for data in client.wire.given[before:]]
            assert len(pieces) <= sum(pieces) / (HIGH - 1004) + 1
            assert max(pieces) <= HIGH
            assert [number_of(payload) for payload in client.texts()] == list(range(1000))

        in_hall(test)

    def test_a_message_larger_than_a_piece_goes_alone(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read(is_reading=False)[0]
            sizes = [HIGH + 1, 8, 2 * HIGH, HIGH - 12, 8, 8, 8]
            for n, size in enumerate(sizes):
                hall.publish(numbered(n, size))
            client.wire.is_reading = True
            client.wire.take()
            assert [len(payload) for payload in client.texts()] == sizes
            assert client.wire.most <= HIGH + 2 * HIGH + 10

        in_hall(test)

    def test_one_that_reads_steadily_is_not_silent_in_its_second_round(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read(is_reading=False)[0]
            for n in range(1000):
                hall.publish(numbered(n))
            await asyncio.sleep(2)
            client.wire.take(40_000)
            await asyncio.sleep(2)  # 26,000 wait for it when it is looked at
            client.wire.take(15_000)  # it is given more
            assert client.wire.get_write_buffer_size() > HIGH
            before = client.wire.get_write_buffer_size()
            for _ in range(30):
                await asyncio.sleep(2)
                client.wire.take(500)
            assert before > client.wire.get_write_buffer_size() > 26_000
            assert hall.told(client) == ["opened"]

        in_hall(test, idle_s=8, pong_limit_s=4)

    def test_any_number_of_too_slow_ones_end_though_each_end_is_published(self) -> None:
        async def test(hall: Hall) -> None:
            depths: list[int] = []

            def publish(reader: Reader, reason: str) -> None:
                depths.append(len(inspect.stack(0)))
                hall.server.publish(b"one left")

            hall.server.on_ended = publish
            clients = hall.read(400)
            for client in clients:
                client.reader.pause_writing()
            for _ in range(5):
                hall.server.publish(b"x")
            await turn()
            assert hall.server.ended == {"slow": 400}
            assert max(depths) == min(depths)
            assert all(client.close_code() == 1013 for client in clients)
            hall.server.on_ended = None

        in_hall(test, when_slow="close", backlog_count_max=4)

    def test_what_was_kept_for_one_that_ends_is_counted(self) -> None:
        async def main() -> None:
            hall = Hall()
            await hall.server.open()
            lost, told, last = hall.read(3, is_reading=False)
            for n in range(200):
                hall.server.publish(numbered(n))
                await asyncio.sleep(0)
            kept = 200 - (HIGH // 1004 + 1)
            lost.wire._lose(ConnectionResetError())
            told.reader.close()
            hall.server.publish(numbered(200))
            await hall.server.close()
            for client, count in ((lost, kept), (told, kept), (last, kept + 1)):
                assert client.reader.dropped_count == count
            assert hall.server.dropped_count == 3 * kept + 1

        simulate(main())


# ------------------------------------------------------------------ its end


class TestTheEndOfAReader:
    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            (b"\x83\x80" + MASK, "protocol"),
            (encode_frame(CLOSE, b"\x03\xe8", MASK), "peer"),
            (encode_frame(TEXT, b"hello", MASK), "message"),
        ],
    )
    def test_what_waited_while_it_did_not_read_tells_why(self, said: bytes, reason: str) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read(is_reading=False)[0]
            client.wire.is_sticky = True
            for n in range(100):
                hall.publish(numbered(n))
            client.say(said)
            assert hall.server.reader_count == 1
            client.wire.take()
            await turn()
            assert hall.told(client) == ["opened", reason]
            assert hall.server.reader_count == 0
            await asyncio.sleep(30)
            assert hall.server.ended == {reason: 1}

        in_hall(test)

    def test_one_that_ends_behind_the_back_of_its_transport_is_not_pinged(self) -> None:
        async def test(hall: Hall) -> None:
            raised: list[object] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: raised.append(context))
            client = hall.read()[0]
            client.wire.is_sticky = True
            client.wire.close()
            client.reader.connection.close()
            await asyncio.sleep(60)
            client.wire._lose(None)
            assert raised == []
            assert hall.told(client) == ["opened", "peer"]

        in_hall(test)

    def test_one_that_is_closed_by_its_codec_is_closed_by_this_side(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read()[0]
            client.reader.connection.close(1000)
            client.reader.flush()
            assert hall.told(client) == ["opened", "closed"]

        in_hall(test)

    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            (b"\x83\x80" + MASK, "protocol"),
            (encode_frame(CLOSE, b"\x03\xe8", MASK), "peer"),
            (encode_frame(TEXT, b"hello", MASK), "message"),
        ],
    )
    def test_one_that_ends_in_the_segment_of_its_upgrade_was_a_reader(
        self, said: bytes, reason: str
    ) -> None:
        async def test(hall: Hall) -> None:
            client = hall.come()
            client.say(REQUEST + said)
            assert client.status == 101
            assert hall.told(client) == ["opened", reason]
            assert hall.server.ended == {reason: 1}
            await turn()
            assert not hall.server._upgrades

        in_hall(test)

    def test_one_may_be_closed_as_it_is_opened(self) -> None:
        async def test(hall: Hall) -> None:
            hall.server.on_opened = lambda reader: reader.close(1013, "later")
            client = hall.come()
            client.say(REQUEST + encode_frame(TEXT, b"hello", MASK))
            assert client.frames() == [(CLOSE, b"\x03\xf5later")]
            assert hall.server.ended == {"closed": 1}

        in_hall(test)

    async def test_who_closes_a_server_beside_another_waits_as_well(self) -> None:
        server = Server(close_limit_s=0.2)
        await server.open()
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(REQUEST.replace(TOKEN.encode(), server.token.encode()))
        async with asyncio.timeout(20):
            while not server.reader_count:  # noqa: ASYNC110 - a few turns
                await asyncio.sleep(0)
        first = asyncio.ensure_future(server.close())
        second = asyncio.ensure_future(server.close())
        await asyncio.sleep(0)
        assert not first.done()
        second.cancel()
        third = asyncio.ensure_future(server.close())
        await asyncio.wait([first, second, third], return_when=asyncio.ALL_COMPLETED)
        assert second.cancelled()
        assert not server._connections
        assert (await first, await third) == (None, None)
        await server.close()
        writer.close()

    def test_words_for_a_gap_may_close_the_reader(self) -> None:
        async def test(hall: Hall) -> None:
            client = hall.read(is_reading=False)[0]

            def close(lost: int) -> bytes:
                client.reader.close(1013, "too many")
                return b"too late"

            hall.server._gap_text = close
            for n in range(200):
                hall.publish(numbered(n))
            client.wire.is_reading = True
            client.wire.take()
            assert client.frames()[-1] == (CLOSE, b"\x03\xf5too many")
            assert hall.told(client) == ["opened", "closed"]

        in_hall(test, backlog_count_max=10)
