"""The line's own contract: what it refuses, whom it calls, and when it lives."""

from __future__ import annotations

from typing import Any

import pytest

from crosswire import Engine, Line, UsageError
from crosswire.codec import encode_frame
from crosswire.venues import venue

PING = encode_frame(9, b"")


def quote(seq: int) -> bytes:
    text = f'{{"u":{seq},"s":"AAAUSDT","b":"1","B":"1","a":"2","A":"1"}}'
    return encode_frame(1, text.encode())


class Feed:
    """An engine of one instrument, its line, and the sequence numbers that were seen."""

    def __init__(self) -> None:
        self.engine = Engine(instruments_max=1, pairs_max=0, signals_max=4, lines_max=2)
        self.engine.add_venue("binance", venue("binance").layout, liveness_limit_s=1.0)
        self.engine.add_instrument("binance", "AAAUSDT", fee_bps=0.0)
        self.line = Line(self.engine, "binance")
        self.seqs: list[int] = []
        self.engine.on_quotes = lambda rows: self.seqs.extend(rows["seq"].tolist())


@pytest.fixture
def feed() -> Feed:
    return Feed()


class TestMaking:
    def test_a_line_needs_an_engine_and_a_venue(self, feed: Feed) -> None:
        with pytest.raises(TypeError):
            Line.__new__(Line)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            Line(None, "binance")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="'nowhere' was not added"):
            Line(feed.engine, "nowhere")

    @pytest.mark.parametrize(
        "sizes", [{"read_size": 63}, {"read_size": 2**24 + 1}, {"message_max": 2**30 + 1}]
    )
    def test_sizes_out_of_range_are_a_usage_error(self, feed: Feed, sizes: dict[str, int]) -> None:
        with pytest.raises(UsageError, match="read_size must be"):
            Line(feed.engine, "binance", **sizes)  # type: ignore[arg-type]

    def test_a_refused_line_takes_no_place(self, feed: Feed) -> None:
        for _ in range(3):
            with pytest.raises(UsageError):
                Line(feed.engine, "binance", read_size=1)
        Line(feed.engine, "binance")
        with pytest.raises(UsageError, match="no room for another line"):
            Line(feed.engine, "binance")

    def test_an_engine_that_is_not_initialized_is_whole(self) -> None:
        with pytest.raises(UsageError, match="no instrument 0"):
            Engine.__new__(Engine).top(0)


class TestLife:
    def test_bytes_before_the_opening_are_refused(self, feed: Feed) -> None:
        with pytest.raises(UsageError, match="between open"):
            feed.line.feed(quote(1), 1, 1)
        assert (feed.line.byte_count, feed.engine.message_count) == (0, 0)
        feed.line.open(2, 2)
        feed.line.feed(quote(1), 3, 3)
        assert feed.seqs == [1]

    def test_bytes_behind_the_end_are_ignored(self, feed: Feed) -> None:
        feed.line.open(0, 0)
        feed.line.lose(1, 1)
        assert feed.line.feed(quote(1), 2, 2) == 1
        assert feed.seqs == []

    def test_more_bytes_than_the_window_has_are_refused(self, feed: Feed) -> None:
        feed.line.open(0, 0)
        window = feed.line.window()
        with pytest.raises(UsageError, match="bytes received into a window of"):
            feed.line.received(len(window) + 1, 1, 1)
        window[: len(quote(1))] = quote(1)
        feed.line.received(len(quote(1)), 1, 1)
        assert feed.seqs == [1]


class TestCallbacks:
    def test_a_recorder_that_raises_is_counted_and_nothing_else_is_lost(self, feed: Feed) -> None:
        def broken(data: bytes, ts_rx: int, mono_rx: int) -> None:
            raise OSError("no space left")

        feed.line.recorder = broken
        feed.line.open(0, 0)
        for seq in range(1, 4):
            feed.line.feed(quote(seq), seq, seq)
        assert (feed.seqs, feed.engine.callback_errors) == ([1, 2, 3], 3)

    def test_a_read_that_is_refused_is_not_recorded(self, feed: Feed) -> None:
        reads: list[bytes] = []
        refused: list[bool] = []
        feed.line.recorder = lambda data, ts_rx, mono_rx: reads.append(data)
        feed.line.open(0, 0)

        def feed_again(rows: Any) -> None:
            with pytest.raises(UsageError, match="inside one of its callbacks"):
                feed.line.feed(quote(9), 9, 9)
            refused.append(True)

        feed.engine.on_quotes = feed_again
        feed.line.feed(quote(1), 1, 1)
        feed.line.feed(quote(2), 2, 2)
        assert (reads, refused) == ([quote(1), quote(2)], [True, True])

    @pytest.mark.parametrize("end", ["lost", "closed", "broken"])
    def test_what_comes_behind_the_end_is_not_recorded(self, feed: Feed, end: str) -> None:
        reads: list[bytes] = []
        feed.line.recorder = lambda data, ts_rx, mono_rx: reads.append(data)
        feed.line.open(0, 0)
        if end == "lost":
            feed.line.lose(1, 1)
        else:
            feed.line.feed(encode_frame(8, b"") if end == "closed" else b"\xff\x00", 1, 1)
        reads.clear()
        count = feed.line.byte_count
        feed.line.window()[:3] = b"abc"
        assert feed.line.received(3, 2, 2) == 1
        assert (reads, feed.line.byte_count) == ([], count)
        feed.line.open(3, 3)
        feed.line.feed(quote(1), 4, 4)
        assert (reads, feed.seqs) == ([quote(1)], [1])

    def test_a_control_handler_that_raises_hears_the_next_frame(self, feed: Feed) -> None:
        heard: list[int] = []

        def broken(opcode: int, payload: bytes) -> None:
            heard.append(opcode)
            raise ValueError("no")

        feed.line.on_control = broken
        feed.line.open(0, 0)
        feed.line.feed(PING + PING + quote(1), 1, 1)
        assert (heard, feed.seqs, feed.engine.callback_errors) == ([9, 9], [1], 2)
