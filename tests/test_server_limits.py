"""What strangers, and readers that stop, may cost a server and everybody else in its loop."""

from __future__ import annotations

from test_server import HIGH, Hall, in_hall, number_of, numbered

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
