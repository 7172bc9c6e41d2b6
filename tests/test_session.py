"""One connection's life in simulated time: the table, back-off, acknowledgements, heartbeat, ends.

No socket and no real second: see ``fake_world``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_world import (
    CLOSE,
    PING,
    PONG,
    Absent,
    FakeSeam,
    Mute,
    Peer,
    Refusing,
    World,
    leftovers,
    quote_text,
    right_answer,
    simulate,
    small_venue,
    subscribe_each,
)

from crosswire.codec import encode_frame
from crosswire.engine import Engine
from crosswire.errors import UsageError
from crosswire.handshake import url_shown
from crosswire.line import Line
from crosswire.link import Event, Link, LinkTerms, State
from crosswire.session import ReconnectBackoff, Session, tls_context
from crosswire.venue import Heartbeat, Record
from crosswire.venues import venue

QUOTES = [("BTCUSDT", Record.QUOTE), ("ETHUSDT", Record.QUOTE)]


class TestTheTable:
    OPEN = ("subscribing", "syncing", "live", "stale")
    ALLOWED: ClassVar = {
        ("connecting", "connected"): "upgrading",
        ("upgrading", "upgraded"): "subscribing",
        ("subscribing", "acknowledged"): "syncing",
        ("syncing", "synced"): "live",
        ("live", "silent"): "stale",
        ("stale", "heard"): "live",
        **dict.fromkeys([(state, "relieved") for state in OPEN], "draining"),
        **dict.fromkeys(
            [(state, "ended") for state in ("connecting", "upgrading", *OPEN, "draining")], "closed"
        ),
    }

    @pytest.mark.parametrize(
        ("state", "event"),
        list(itertools.product(State, Event)),
        ids=lambda item: item.value,
    )
    def test_every_event_in_every_state_moves_as_the_table_says_or_raises(
        self, state: State, event: Event
    ) -> None:
        told: list[str] = []

        class Observer:
            def on_link_state(self, link: Link) -> None:
                told.append(link.state.value)

        async def main() -> None:
            world = World()
            terms = LinkTerms(world.venue, [], world.venue.url)
            link = Link(terms, world.line, world.seam, Observer())  # type: ignore[arg-type]
            link.state = state
            expected = self.ALLOWED.get((state.value, event.value))
            if expected is None:
                with pytest.raises(RuntimeError, match=f"small: {event.value} in {state.value}"):
                    link._move(event)
                assert link.state is state
                assert told == []
                return
            link._move(event)
            assert link.state.value == expected
            assert told == [expected]

        simulate(main())

    def test_there_are_eleven_states_and_eight_events(self) -> None:
        assert (len(State), len(Event)) == (11, 8)


class TestBackoff:
    def test_the_first_reconnect_that_was_asked_for_is_no_failure_and_the_next_ones_are(
        self,
    ) -> None:
        backoff = ReconnectBackoff(0.1, 30.0, attempts=3)
        delays = [backoff.invited_delay(lambda low, high: high) for _ in range(4)]
        assert delays == [0.1, 0.8, 1.6, 3.2]
        assert backoff.attempts == 6
        backoff.reset()
        assert [backoff.invited_delay(lambda low, high: high) for _ in range(2)] == [0.1, 0.1]


class TestConnecting:
    def test_it_goes_live_through_every_state(self) -> None:
        async def main() -> None:
            world = World()
            world.start()
            await world.reach("live")
            assert world.notes.states == [
                "connecting",
                "upgrading",
                "subscribing",
                "syncing",
                "live",
            ]
            assert world.peer.texts == ['{"request": 1, "streams": ["BTCUSDT.quote"]}']
            assert world.session.connects == 1
            assert world.peer.requested.startswith(b"GET /stream HTTP/1.1\r\n")
            assert world.seam.hosts == [("127.0.0.1", 9, None, None)]
            await world.stop()

        simulate(main())

    def test_data_in_the_read_of_the_upgrade_reaches_the_line(self) -> None:
        class Eager(Peer):
            def on_request(self) -> None:
                text = quote_text("BTCUSDT", 1, "10", "11").encode()
                self.upgrade(extra=encode_frame(1, text))

        async def main() -> None:
            world = World(Eager())
            world.start()
            await world.reach("live")
            assert world.engine.top(0).bid == 10.0
            assert world.notes.opened == [0.0]
            await world.stop()

        simulate(main())

    def test_the_answer_may_drip_in_within_ten_seconds(self) -> None:
        class Dripping(Peer):
            def on_request(self) -> None:
                answer = right_answer(self.requested)
                for n, byte in enumerate(answer):
                    self.after(9.0 * n / len(answer), self.send, bytes((byte,)))

        async def main() -> None:
            world = World(Dripping())
            world.start()
            await world.reach("live")
            assert 8.0 < world.seam.seconds() < 10.0
            await world.stop()

        simulate(main())

    def test_an_answer_that_drips_for_ever_is_given_up_after_ten_seconds(self) -> None:
        class Endless(Peer):
            def on_request(self) -> None:
                self.send(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
                for n in range(1, 40):
                    self.after(n * 0.5, self.send, b"x")

        async def main() -> None:
            world = World(Endless(), Peer())
            world.start()
            await world.reach("backing-off")
            assert world.seam.seconds() == pytest.approx(10.0, abs=0.01)
            assert world.session.last_error == "TimeoutError: still upgrading after 10 s"
            assert world.notes.lost == []
            await world.reach("live")
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("connect_s", [10.5, 3600.0])
    def test_a_connect_that_takes_longer_than_ten_seconds_is_given_up(
        self, connect_s: float
    ) -> None:
        async def main() -> None:
            slow = Peer()
            slow.connect_s = connect_s
            world = World(slow, Peer())
            world.start()
            await world.reach("backing-off")
            assert world.seam.seconds() == pytest.approx(10.0, abs=0.01)
            assert world.session.last_error == "TimeoutError: still connecting after 10 s"
            await world.reach("live")
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("kind", [Refusing, Absent])
    def test_a_server_that_refuses_1000_times_is_not_hammered_and_not_given_up(
        self, kind: type[Peer]
    ) -> None:
        async def main() -> None:
            world = World(
                *(kind() for _ in range(1000)), Peer(), backoff=ReconnectBackoff(0.1, 30.0)
            )
            world.start()
            await world.reach("live", limit_s=40_000.0)
            assert len(world.seam.connects) == 1001
            gaps = [b - a for a, b in itertools.pairwise(world.seam.connects)]
            delays = [value for _, _, value in world.seam.drawn]
            assert len(delays) == 1000
            assert gaps == pytest.approx(delays, abs=1e-3)
            ceilings = [high for _, high, _ in world.seam.drawn]
            assert ceilings[:10] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]
            assert set(ceilings[9:]) == {30.0}
            assert {low for low, _, _ in world.seam.drawn} == {0.0}
            # Full jitter spreads: the mean of 990 draws of 0..30 s lies near 15 s.
            assert sum(delays[10:]) / 990 == pytest.approx(15.0, abs=1.5)
            assert (world.session.connects, world.session.losses) == (1, 0)
            assert world.notes.lost == []
            await world.stop()
            assert leftovers() == []

        simulate(main())

    def test_what_refused_is_told_and_where(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            world = World(Refusing())
            world.start()
            await world.reach("backing-off")
            assert "503" in world.session.last_error
            where = f"{world.session.venue.name} at {world.session._host}:{world.session._port}: "
            assert where + world.session.last_error in caplog.text
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize(("healthy_s", "is_reset"), [(58.0, False), (60.0, True)])
    def test_back_off_begins_again_only_after_a_minute_of_good_health(
        self, healthy_s: float, is_reset: bool
    ) -> None:
        async def main() -> None:
            good = Peer()
            world = World(*(Refusing() for _ in range(5)), good, Refusing())
            world.start()
            await world.reach("live")
            await asyncio.sleep(healthy_s)
            good.cut()
            await world.reach("backing-off")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert world.seam.drawn[-1][1] == (0.1 if is_reset else 3.2)
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize(
        ("stage", "limit_s"), [("upgrading", 10.0), ("subscribing", 10.0), ("closing", 1.0)]
    )
    def test_every_limit_is_counted_by_the_clock_of_the_seam(
        self, stage: str, limit_s: float
    ) -> None:
        class Deaf(Peer):
            def on_text(self, text: str) -> None:
                pass

        first: Peer = {"upgrading": Mute(), "subscribing": Deaf()}.get(stage) or SlowToClose(1e6)

        async def main() -> None:
            world = World(first, Peer())
            world.seam.pace = 3.0
            world.start()
            start = 0.0
            if stage == "closing":
                await world.reach("live")
                start = world.seam.seconds()
                close(world.peer)
            await world.reach("backing-off")
            transport = world.seam.transports[0]
            while transport.lost_at is None:  # noqa: ASYNC110 - simulated time
                await asyncio.sleep(0.1)
            assert transport.lost_at - start == pytest.approx(3.0 * limit_s, abs=0.1)
            await world.stop()

        simulate(main())


class TestSubscriptions:
    def test_they_are_sent_again_after_every_reconnect(self) -> None:
        async def main() -> None:
            world = World(Peer(), Peer(), Peer(), streams=QUOTES)
            world.start()
            for _ in range(3):
                await world.reach("live")
                peer = world.peer
                assert [json.loads(text)["streams"] for text in peer.texts] == [
                    ["BTCUSDT.quote", "ETHUSDT.quote"]
                ]
                peer.cut()
                await world.reach("backing-off")
            await world.reach("live")
            assert world.session.connects == 4
            assert world.session.losses == 3
            await world.stop()

        simulate(main())

    def test_many_are_sent_in_batches_with_a_pause_between_two(self) -> None:
        sent: list[tuple[float, int]] = []

        class Counting(Peer):
            def on_text(self, text: str) -> None:
                sent.append((asyncio.get_running_loop().time(), len(json.loads(text)["streams"])))
                super().on_text(text)

        async def main() -> None:
            streams = [(f"S{n}", Record.QUOTE) for n in range(250)]
            world = World(Counting(), streams=streams, subscribe_max=100, message_gap_s=0.25)
            world.start()
            await world.reach("live")
            assert [count for _, count in sent] == [100, 100, 50]
            gaps = [b - a for (a, _), (b, _) in itertools.pairwise(sent)]
            assert gaps == pytest.approx([0.25, 0.25], abs=1e-6)
            await world.stop()

        simulate(main())

    def test_acknowledgements_during_the_pauses_do_not_make_it_live_too_soon(self) -> None:
        async def main() -> None:
            streams = [(f"S{n}", Record.QUOTE) for n in range(30)]
            world = World(streams=streams, subscribe_max=10, message_gap_s=1.0)
            world.start()
            await asyncio.sleep(1.5)
            assert len(world.peer.texts) == 2
            assert world.session.state is State.SUBSCRIBING
            await asyncio.sleep(1.0)
            assert world.notes.states[-1] == "live"
            await world.stop()

        simulate(main())

    def test_the_last_batch_must_be_acknowledged_too(self) -> None:
        class FirstOnly(Peer):
            def on_text(self, text: str) -> None:
                if len(self.texts) == 1:
                    super().on_text(text)

        async def main() -> None:
            world = World(FirstOnly(), streams=QUOTES, subscribe_max=1, message_gap_s=0.25)
            world.start()
            await asyncio.sleep(5.0)
            assert world.session.state is State.SUBSCRIBING
            await world.reach("backing-off")
            assert world.session.last_error.endswith("subscription-unanswered at byte 0: 2")
            await world.stop()

        simulate(main())

    def test_without_a_stream_it_is_live_at_once(self) -> None:
        async def main() -> None:
            world = World(streams=[])
            world.start()
            await world.reach("live")
            assert world.peer.texts == []
            await world.stop()

        simulate(main())

    def test_an_acknowledgement_that_comes_late_but_in_time_is_enough(self) -> None:
        class Late(Peer):
            def on_text(self, text: str) -> None:
                self.after(9.9, super().on_text, text)

        async def main() -> None:
            world = World(Late())
            world.start()
            await world.reach("syncing")
            assert world.seam.seconds() == pytest.approx(9.9, abs=0.01)
            await world.reach("live")
            assert world.session.late == ["1"]
            assert len(world.seam.connects) == 1
            await world.stop()

        simulate(main())

    def test_an_acknowledgement_that_never_comes_ends_the_connection_by_name(self) -> None:
        class Deaf(Peer):
            def on_text(self, text: str) -> None:
                pass

        async def main() -> None:
            world = World(Deaf(), Peer(), streams=QUOTES, subscribe=subscribe_each)
            world.start()
            await world.reach("backing-off")
            assert world.seam.seconds() == pytest.approx(10.0, abs=0.01)
            assert "subscription-unanswered" in world.session.last_error
            assert "BTCUSDT.quote, ETHUSDT.quote" in world.session.last_error
            assert len(world.notes.lost) == 1
            await world.reach("live")
            await world.stop()

        simulate(main())

    def test_one_refused_stream_of_two_is_named_and_the_other_lives(self) -> None:
        class Choosy(Peer):
            def on_text(self, text: str) -> None:
                name = json.loads(text)["request"]
                what = {"c": "no", "why": "halted"} if name.startswith("ETH") else {"c": "ack"}
                self.say(json.dumps({**what, "request": name}))

        async def main() -> None:
            world = World(Choosy(), streams=QUOTES, subscribe=subscribe_each)
            world.start()
            await world.reach("live")
            assert world.session.refused == ["ETHUSDT.quote: halted"]
            # The other stays alive however often the connection is made anew.
            for _ in range(5):
                world.peer.cut()
                await world.reach("backing-off")
                await world.reach("live")
            assert world.session.refused == ["ETHUSDT.quote: halted"]
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("subscribe", [None, subscribe_each], ids=["together", "each"])
    def test_when_every_stream_is_refused_the_connection_is_given_up(
        self, subscribe: Callable[..., Any] | None
    ) -> None:
        class Rejecting(Peer):
            def on_text(self, text: str) -> None:
                request = str(json.loads(text)["request"])
                self.say(json.dumps({"c": "no", "request": request, "why": "no such stream"}))

        async def main() -> None:
            changes: dict[str, Any] = {"subscribe": subscribe} if subscribe else {}
            world = World(Rejecting(), streams=QUOTES, **changes)
            world.start()
            await asyncio.sleep(1.0)
            assert "live" not in world.notes.states
            assert "subscription-refused" in world.session.last_error
            assert "no such stream" in world.session.last_error
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("batch", [1, 2])
    def test_a_batch_that_is_refused_whole_is_counted_with_all_its_streams(
        self, batch: int
    ) -> None:
        class Strict(Peer):
            def on_text(self, text: str) -> None:
                is_refused = len(self.texts) <= batch
                request = str(json.loads(text)["request"])
                self.say(json.dumps({"c": "no" if is_refused else "ack", "request": request}))

        async def main() -> None:
            streams = [(f"S{n}", Record.QUOTE) for n in range(6)]
            world = World(Strict(), streams=streams, subscribe_max=3, message_gap_s=0.25)
            world.start()
            await asyncio.sleep(1.0)
            assert ("live" in world.notes.states) is (batch == 1)
            assert ("subscription-refused" in world.session.last_error) is (batch == 2)
            await world.stop()

        simulate(main())

    def test_a_refusal_without_an_id_is_of_the_streams_that_its_text_names(self) -> None:
        class Wordy(Peer):
            def on_text(self, text: str) -> None:
                name = json.loads(text)["request"]
                if name == "ETHUSDT.quote":
                    self.say('{"c":"no","why":"There is no ETHUSDT.quote."}')
                else:
                    super().on_text(text)

        async def main() -> None:
            streams = [*QUOTES, ("ETHUSDT2", Record.QUOTE)]
            world = World(Wordy(), streams=streams, subscribe=subscribe_each)
            world.start()
            await world.reach("syncing", limit_s=1.0)
            assert world.session.refused == ["ETHUSDT.quote: There is no ETHUSDT.quote."]
            await world.stop()

        simulate(main())

    def test_a_refusal_without_an_id_or_a_name_is_of_the_only_one_that_is_left(self) -> None:
        class Curt(Peer):
            def on_text(self, text: str) -> None:
                if json.loads(text)["request"].startswith("ETH"):
                    self.after(0.5, self.say, '{"c":"no","why":"no"}')
                else:
                    super().on_text(text)

        async def main() -> None:
            world = World(Curt(), streams=QUOTES, subscribe=subscribe_each)
            world.start()
            await world.reach("syncing", limit_s=1.0)
            assert world.session.refused == ["ETHUSDT.quote: no"]
            await world.stop()

        simulate(main())

    def test_a_refusal_that_nobody_can_attribute_ends_the_connection_at_once_by_name(self) -> None:
        class Curt(Peer):
            def on_text(self, text: str) -> None:
                if json.loads(text)["request"].startswith("ETH"):
                    self.say('{"c":"no","why":"Invalid request: 1"}')

        async def main() -> None:
            world = World(Curt(), streams=QUOTES, subscribe=subscribe_each)
            world.start()
            await world.reach("backing-off", limit_s=1.0)
            assert "subscription-refused" in world.session.last_error
            assert "Invalid request: 1" in world.session.last_error
            await world.stop()

        simulate(main())

    def test_a_number_in_a_refusal_names_no_request(self) -> None:
        class Curt(Peer):
            def on_text(self, text: str) -> None:
                if len(self.texts) == 2:
                    self.say('{"c":"no","why":"Invalid JSON at line 1 column 2"}')

        async def main() -> None:
            world = World(Curt(), streams=QUOTES, subscribe_max=1, message_gap_s=0.25)
            world.start()
            await world.reach("backing-off", limit_s=1.0)
            assert world.session.refused == []
            assert "Invalid JSON" in world.session.last_error
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("request_id", ["", "77"])
    def test_a_refusal_of_nothing_that_was_asked_for_changes_nothing(self, request_id: str) -> None:
        async def main() -> None:
            world = World(streams=QUOTES)
            world.start()
            await world.reach("live")
            world.peer.say(json.dumps({"c": "no", "request": request_id, "why": "what?"}))
            await asyncio.sleep(20.0)
            assert world.session.state is State.LIVE
            assert (world.session.connects, world.session.refused) == (1, [])
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize(
        "words",
        [
            "Wrong URL or channel:bbo-tbt,instId:NO-WAY doesn't exist. Please use the correct URL.",
            'Wrong URL or {"channel":"bbo-tbt","instId":"NO-WAY"} doesn\'t exist.',
        ],
    )
    def test_an_okx_error_without_arg_refuses_what_it_names(self, words: str) -> None:
        okx = venue("okx")

        class Okx(Peer):
            def on_text(self, text: str) -> None:
                for arg in json.loads(text)["args"]:
                    event = {"event": "subscribe", "arg": arg}
                    if arg["instId"] == "NO-WAY":
                        event = {"event": "error", "code": "60018", "msg": words}
                    self.say(json.dumps({**event, "connId": "a4d3ae55"}))

        async def main() -> None:
            streams = [("NO-WAY", Record.QUOTE), ("BTC-USDT", Record.QUOTE)]
            changes = {name: getattr(okx, name) for name in ("stream", "subscribe", "understand")}
            world = World(Okx(), streams=streams, layout=okx.layout, **changes)
            world.start()
            await world.reach("syncing", limit_s=1.0)
            assert world.session.refused == [f"bbo-tbt:NO-WAY: {words}"]
            await world.stop()

        simulate(main())

    def test_an_answer_to_an_earlier_connections_request_acknowledges_nothing(self) -> None:
        class Confused(Peer):
            def on_text(self, text: str) -> None:
                self.say('{"c":"ack","request":"1"}')

        async def main() -> None:
            world = World(Peer(), Confused())
            world.start()
            await world.reach("live")
            world.peer.cut()
            await world.reach("subscribing")
            await asyncio.sleep(5.0)
            assert world.session.state is State.SUBSCRIBING
            await world.stop()

        simulate(main())


class TestControlFrames:
    @pytest.mark.parametrize("payload", [b"", b"1723161255343", bytes(range(125))])
    def test_a_ping_is_answered_with_the_same_payload(self, payload: bytes) -> None:
        async def main() -> None:
            world = World()
            world.start()
            await world.reach("live")
            world.peer.send(encode_frame(PING, payload))
            await asyncio.sleep(0.01)
            assert world.peer.frames == [(PONG, payload)]
            await world.stop()

        simulate(main())

    def test_pings_in_one_read_are_all_answered_in_order(self) -> None:
        async def main() -> None:
            world = World()
            world.start()
            await world.reach("live")
            world.peer.send(b"".join(encode_frame(PING, bytes((n,))) for n in range(10)))
            await asyncio.sleep(0.01)
            assert world.peer.frames == [(PONG, bytes((n,))) for n in range(10)]
            await world.stop()

        simulate(main())

    def test_a_venue_that_does_not_read_is_given_up_at_64_kib(self) -> None:
        """A pong of 125 bytes is a frame of 131: 500 of them fit and one more does not."""

        async def main() -> None:
            world = World()
            world.start()
            await world.reach("live")
            world.peer.say(quote_text("BTCUSDT", 1, "10", "11"))
            world.peer.is_reading = False
            world.peer.send(encode_frame(PING, bytes(125)) * 500)
            await asyncio.sleep(0.5)
            assert world.session.state.value == "live"
            assert world.engine.top(0).is_valid
            now = world.seam.seconds()
            world.peer.send(encode_frame(PING, bytes(125)) * 100)
            await world.reach("backing-off")
            assert world.session.last_error == (
                "VenueError: write-overrun at byte 0: the venue does not read"
            )
            assert world.session.losses == 1
            assert world.session.backoff.attempts == 1
            assert world.seam.transports[0].lost_at == now
            assert world.seam.transports[0].get_write_buffer_size() == 501 * 131
            assert not world.engine.top(0).is_valid
            await world.reach("live")
            await world.stop()
            assert leftovers() == []

        simulate(main())

    def test_what_broke_the_protocol_is_told_also_where_its_answer_is_not_read(self) -> None:
        async def main() -> None:
            world = World()
            world.start()
            await world.reach("live")
            world.peer.is_reading = False
            fill = encode_frame(PING, bytes(125)) * 500 + encode_frame(PING, b"") * 6
            world.peer.send(fill + b"\x83\x00")
            await world.reach("backing-off")
            assert "frame-opcode" in world.session.last_error
            assert world.seam.transports[0].get_write_buffer_size() > 64 << 10
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize(
        ("payload", "echo"),
        [(b"", b""), (b"\x03\xe9", b"\x03\xe9"), (b"\x03\xf4bye", b"\x03\xf4")],
    )
    def test_a_close_frame_is_echoed_and_the_session_connects_again(
        self, payload: bytes, echo: bytes
    ) -> None:
        async def main() -> None:
            world = World(Peer(), Peer())
            world.start()
            await world.reach("live")
            first = world.peer
            first.send(encode_frame(CLOSE, payload))
            await world.reach("backing-off")
            assert first.frames == [(CLOSE, echo)]
            assert "closed by the venue" in world.session.last_error
            await world.reach("live")
            assert world.peer is not first
            await world.stop()

        simulate(main())

    def test_a_venue_that_goes_away_is_left_and_found_again(self) -> None:
        async def main() -> None:
            world = World(Peer(), Peer())
            world.start()
            await world.reach("live")
            world.peer.say('{"c":"bye"}')
            await world.reach("backing-off")
            await world.reach("live")
            assert world.session.connects == 2
            assert world.notes.lost != []
            await world.stop()

        simulate(main())

    def test_a_venue_that_goes_away_is_named_as_the_cause_and_blamed_for_nothing(self) -> None:
        async def main() -> None:
            world = World(*(Refusing() for _ in range(5)), Peer(), Peer())
            world.start()
            await world.reach("live")
            world.peer.say('{"c":"bye"}')
            await world.reach("backing-off")
            await asyncio.sleep(0)
            text = 'ConnectionError: the venue asked to reconnect: {"c":"bye"}'
            assert world.session.last_error == text
            assert [reason for _, reason in world.notes.lost] == [text]
            assert world.session.backoff.attempts == 5
            await world.reach("live")
            assert world.seam.drawn[-1][:2] == (0.0, 0.1)
            # What ends next is told as what it is, and counted.
            world.peer.cut()
            await world.reach("backing-off")
            await world.reach("live")
            assert "asked" not in world.session.last_error
            assert world.seam.drawn[-1][:2] == (0.0, 3.2)
            await world.stop()

        simulate(main())

    def test_a_venue_that_sends_every_connection_away_is_not_hammered(self) -> None:
        class Unwelcoming(Peer):
            def on_text(self, text: str) -> None:
                super().on_text(text)
                self.say('{"c":"bye"}')

        async def main() -> None:
            world = World(Unwelcoming())
            world.start()
            await asyncio.sleep(600.0)
            assert [high for _, high, _ in world.seam.drawn[:4]] == [0.1, 0.1, 0.2, 0.4]
            assert len(world.seam.connects) < 100
            await world.stop()

        simulate(main())

    def test_a_notice_and_a_pong_change_nothing(self) -> None:
        async def main() -> None:
            world = World()
            world.start()
            await world.reach("live")
            world.peer.say('{"c":"note"}')
            world.peer.say("pong")
            world.peer.send(encode_frame(PONG, b"x"))
            await asyncio.sleep(1.0)
            assert world.session.state is State.LIVE
            assert world.engine.errors == {}
            assert world.peer.frames == []
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize(
        ("frame", "name"),
        [
            (encode_frame(1, b'{"c":"?"}'), "message-unknown"),
            (encode_frame(1, b'{"c":{"deep":[1,2]}}'), "message-unknown"),
            (encode_frame(2, b"\x01\x02"), "message-binary"),
        ],
    )
    def test_what_nobody_understands_is_counted_and_survived(self, frame: bytes, name: str) -> None:
        async def main() -> None:
            world = World()
            world.start()
            await world.reach("live")
            world.peer.send(frame)
            await asyncio.sleep(1.0)
            assert world.session.state is State.LIVE
            assert world.engine.errors == {name: 1}
            await world.stop()

        simulate(main())

    def test_two_frames_never_have_the_same_mask(self) -> None:
        async def main() -> None:
            world = World()
            keys: list[bytes] = []
            random_bytes = world.seam.random_bytes
            world.seam.random_bytes = lambda n: keys.append(random_bytes(n)) or keys[-1]  # type: ignore[method-assign,func-returns-value]
            world.start()
            await world.reach("live")
            for n in range(20):
                world.peer.send(encode_frame(PING, bytes((n,))))
            await asyncio.sleep(0.01)
            assert len(set(keys)) == len(keys) == 21
            await world.stop()

        simulate(main())


class TestHeartbeat:
    BEAT = Heartbeat(idle_s=20.0, text="ping", limit_s=45.0)

    def test_a_text_is_sent_when_nothing_was_heard(self) -> None:
        class Answering(Peer):
            def on_text(self, text: str) -> None:
                if text == "ping":
                    asked.append(asyncio.get_running_loop().time())
                    self.say("pong")
                else:
                    super().on_text(text)

        asked: list[float] = []

        async def main() -> None:
            world = World(Answering(), heartbeat=self.BEAT)
            world.start()
            await world.reach("live")
            await asyncio.sleep(300.0)
            assert world.session.state is State.LIVE
            assert world.session.connects == 1
            gaps = [b - a for a, b in itertools.pairwise([0.0, *asked])]
            # It looks every 5 s, so that a beat falls within 20 s and two looks more.
            assert all(20.0 <= gap <= 30.0 for gap in gaps)
            assert len(asked) >= 10
            await world.stop()

        simulate(main())

    def test_a_websocket_ping_is_sent_where_the_venue_has_no_text(self) -> None:
        async def main() -> None:
            world = World(heartbeat=Heartbeat(20.0, None, 45.0))
            world.start()
            await world.reach("live")
            await asyncio.sleep(100.0)
            assert world.session.state is State.LIVE
            assert world.session.connects == 1
            assert set(world.peer.frames) == {(PING, b"")}
            assert len(world.peer.texts) == 1
            await world.stop()

        simulate(main())

    def test_a_venue_that_speaks_is_not_asked(self) -> None:
        async def main() -> None:
            world = World(heartbeat=self.BEAT)
            world.start()
            await world.reach("live")
            for n in range(100):
                world.peer.say(quote_text("BTCUSDT", n, "1", "2"))
                await asyncio.sleep(4.0)
            assert len(world.peer.texts) == 1
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("text", ["ping", None])
    def test_a_silent_venue_is_asked_once_and_dropped_at_the_limit(self, text: str | None) -> None:
        class Dying(Peer):
            def on_frame(self, opcode: int, payload: bytes) -> None:
                pass

        async def main() -> None:
            world = World(Dying(), Peer(), heartbeat=Heartbeat(20.0, text, 45.0))
            world.start()
            await world.reach("live")
            silent = world.peer
            await world.reach("backing-off", limit_s=120.0)
            asked = len(silent.texts) - 1 + len(silent.frames)
            assert asked == 1
            assert 30.0 <= world.seam.seconds() <= 55.0
            assert "no byte for" in world.session.last_error
            assert len(world.notes.lost) == 1
            await world.reach("live")
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("text", ["ping", None])
    def test_a_quiet_venue_that_answers_never_falls_stale(self, text: str | None) -> None:
        asked: list[float] = []

        class Answering(Peer):
            def on_text(self, text: str) -> None:
                if text == "ping":
                    self.on_frame(PING, b"")
                else:
                    super().on_text(text)

            def on_frame(self, opcode: int, payload: bytes) -> None:
                if opcode == PING:
                    asked.append(asyncio.get_running_loop().time())
                    self.after(0.3, self.send, encode_frame(PONG, payload))
                else:
                    super().on_frame(opcode, payload)

        async def main() -> None:
            beat = Heartbeat(20.0, text, 45.0)
            world = World(Answering(), liveness_limit_s=5.0, heartbeat=beat)
            world.start()
            await world.reach("live")
            world.peer.say(quote_text("BTCUSDT", 1, "10", "11"))
            for _ in range(3000):
                await asyncio.sleep(0.1)
                world.engine.advance(world.seam.time_ns(), world.seam.monotonic_ns())
                assert world.engine.top(0).is_live
            gaps = [b - a for a, b in itertools.pairwise([0.0, *asked])]
            assert all(2.5 <= gap < 5.0 for gap in gaps)
            await world.stop()

        simulate(main())

    def test_a_liveness_limit_of_a_moment_sends_no_more_pings_than_venues_take(self) -> None:
        async def main() -> None:
            world = World(liveness_limit_s=0.001, heartbeat=Heartbeat(20.0, None, 45.0))
            world.start()
            await world.reach("live")
            await asyncio.sleep(100.0)
            assert 50 < len(world.peer.frames) <= 100
            await world.stop()

        simulate(main())

    def test_silence_while_subscribing_counts_as_well(self) -> None:
        class Dead(Peer):
            def on_text(self, text: str) -> None:
                pass

            def on_frame(self, opcode: int, payload: bytes) -> None:
                pass

        async def main() -> None:
            world = World(Dead(), heartbeat=Heartbeat(1.0, None, 2.0))
            world.start()
            await world.reach("backing-off")
            assert 2.0 <= world.seam.seconds() <= 3.0
            await world.stop()

        simulate(main())


def cut(peer: Peer) -> None:
    """End a connection as a broken network does."""
    peer.cut(ConnectionResetError("reset by peer"))


def drop(peer: Peer) -> None:
    """End it in the middle of a frame."""
    peer.send(encode_frame(1, quote_text("BTCUSDT", 9, "1", "2").encode())[:20])
    peer.cut()


def close(peer: Peer) -> None:
    """End it with a close frame."""
    peer.send(encode_frame(CLOSE, b"\x03\xe8"))


def break_protocol(peer: Peer) -> None:
    """Send a frame with a reserved bit."""
    peer.send(b"\xc1\x00")


def break_utf8(peer: Peer) -> None:
    """Send a text that is no UTF-8."""
    peer.send(encode_frame(1, b"\xff\xfe"))


def go_away(peer: Peer) -> None:
    """Announce the end."""
    peer.say('{"c":"bye"}')


def fall_silent(peer: Peer) -> None:
    """Never speak again."""
    peer.on_frame = lambda opcode, payload: None  # type: ignore[method-assign]


class SlowToClose(Peer):
    """Leaves a close by the client waiting, and does not end the connection itself."""

    def __init__(self, close_s: float) -> None:
        super().__init__()
        self.close_s = close_s

    def on_frame(self, opcode: int, payload: bytes) -> None:
        pass


ENDS = [cut, drop, close, break_protocol, break_utf8, go_away, fall_silent]


class TestEveryEndLosesTheLine:
    @pytest.mark.parametrize("end", ENDS)
    def test_what_stood_is_unreadable_once_a_connection_has_ended(
        self, end: Callable[[Peer], None]
    ) -> None:
        async def main() -> None:
            world = World(Peer(), Peer())
            world.start()
            await world.reach("live")
            world.peer.say(quote_text("BTCUSDT", 1, "10", "11"))
            assert world.engine.top(0).is_valid
            end(world.peer)
            await world.reach("backing-off", limit_s=90.0)
            assert not world.engine.top(0).is_valid
            assert not world.line.is_live
            assert len(world.notes.lost) == world.session.losses == 1
            assert world.session.last_error != ""
            await world.reach("live")
            assert not world.engine.top(0).is_valid
            world.peer.say(quote_text("BTCUSDT", 1, "12", "13"))
            assert world.engine.top(0).is_valid
            assert world.engine.top(0).bid == 12.0
            await world.stop()
            assert leftovers() == []

        simulate(main())

    @pytest.mark.parametrize("end", ENDS)
    def test_the_observer_is_told_the_cause_of_this_loss_and_not_of_another(
        self, end: Callable[[Peer], None]
    ) -> None:
        async def main() -> None:
            world = World(Refusing(), Peer(), Peer())
            world.start()
            await world.reach("live")
            end(world.peer)
            await world.reach("backing-off", limit_s=90.0)
            assert [reason for _, reason in world.notes.lost] == [world.session.last_error]
            assert "503" not in world.session.last_error
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("end", [close, break_protocol, break_utf8, go_away])
    @pytest.mark.parametrize(("close_s", "lost_after_s"), [(0.4, 0.4), (30.0, 1.0)])
    def test_it_is_lost_at_once_however_long_the_close_takes(
        self, end: Callable[[Peer], None], close_s: float, lost_after_s: float
    ) -> None:
        async def main() -> None:
            world = World(SlowToClose(close_s), Peer())
            world.start()
            await world.reach("live")
            world.peer.say(quote_text("BTCUSDT", 1, "10", "11"))
            transport, start = world.seam.transports[0], world.seam.seconds()
            end(world.peer)
            await world.reach("backing-off")
            assert world.seam.seconds() == start
            assert not world.line.is_live
            assert not world.engine.top(0).is_valid
            assert [at for at, _ in world.notes.lost] == [pytest.approx(start)]
            await world.reach("live")
            transport.deliver_late(encode_frame(1, quote_text("BTCUSDT", 2, "1", "2").encode()))
            assert not world.engine.top(0).is_valid, "a closing connection fed the next one's line"
            await asyncio.sleep(5.0)
            assert transport.lost_at is not None
            assert transport.lost_at - start == pytest.approx(lost_after_s)
            assert world.session.state is State.LIVE
            await world.stop()

        simulate(main())

    def test_stopping_does_not_wait_for_a_close_that_is_under_way(self) -> None:
        async def main() -> None:
            world = World(SlowToClose(30.0), Peer())
            world.start()
            await world.reach("live")
            close(world.peer)
            await world.reach("backing-off")
            start = world.seam.seconds()
            await world.stop()
            assert world.seam.transports[0].lost_at == world.seam.seconds() == start

        simulate(main())

    def test_an_open_opportunity_is_closed_when_its_line_is_lost(self) -> None:
        async def main() -> None:
            world = World(streams=QUOTES)
            events: list[int] = []
            world.engine.on_signals = lambda signals: events.extend(signals["event"].tolist())
            world.start()
            await world.reach("live")
            world.peer.say(quote_text("BTCUSDT", 1, "10", "11"))
            world.peer.say(quote_text("ETHUSDT", 1, "12", "13"))
            assert events == [1]
            world.peer.cut()
            await world.reach("backing-off")
            assert events == [1, 3]
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize(
        ("end", "code"), [(break_protocol, 1002), (break_utf8, 1007)], ids=["1002", "1007"]
    )
    def test_a_broken_protocol_is_answered_with_its_close_code(
        self, end: Callable[[Peer], None], code: int
    ) -> None:
        async def main() -> None:
            world = World(Peer(), Peer())
            world.start()
            await world.reach("live")
            first = world.peer
            end(first)
            await world.reach("backing-off")
            assert first.frames == [(CLOSE, code.to_bytes(2, "big"))]
            await world.stop()

        simulate(main())

    def test_an_observer_that_fails_keeps_nothing_readable_and_ends_nothing(self) -> None:
        async def main() -> None:
            world = World(Peer(), Peer())

            def fail(*arguments: object) -> None:
                raise OSError("the disk is full")

            world.notes.on_lost = fail  # type: ignore[method-assign]
            world.start()
            await world.reach("live")
            world.peer.say(quote_text("BTCUSDT", 1, "10", "11"))
            world.peer.cut()
            await world.reach("backing-off")
            assert not world.engine.top(0).is_valid
            assert world.session.last_error == "OSError: the disk is full"
            await world.reach("live")
            await world.stop()

        simulate(main())

    def test_a_connection_that_was_never_upgraded_loses_nothing(self) -> None:
        async def main() -> None:
            world = World(Refusing(), Absent(), Peer())
            world.start()
            await world.reach("live")
            assert world.notes.lost == []
            assert world.session.losses == 0
            await world.stop()

        simulate(main())


async def stop_and_see(world: World) -> None:
    """Stop a session; afterwards nothing of it may be left."""
    assert world.task
    await asyncio.wait_for(world.session.stop(), 5.0)
    assert world.session.state is State.STOPPED
    await asyncio.wait_for(world.task, 45.0)
    assert leftovers() == []
    assert all(transport._is_lost for transport in world.seam.transports)
    assert not world.line.is_live
    connects = len(world.seam.connects)
    await asyncio.sleep(120.0)
    assert len(world.seam.connects) == connects


class TestStop:
    def test_before_it_was_started(self) -> None:
        async def main() -> None:
            world = World()
            await world.session.stop()
            assert world.session.state is State.STOPPED
            world.start()
            await stop_and_see(world)
            assert world.seam.connects == []

        simulate(main())

    @pytest.mark.parametrize("connect_s", [0.5, 5.0, 3600.0])
    def test_while_connecting(self, connect_s: float) -> None:
        async def main() -> None:
            slow = Peer()
            slow.connect_s = connect_s
            world = World(slow)
            world.start()
            await world.reach("connecting")
            await asyncio.sleep(0.1)
            await stop_and_see(world)
            assert slow.frames == []

        simulate(main())

    def test_while_upgrading(self) -> None:
        async def main() -> None:
            world = World(Mute())
            world.start()
            await world.reach("upgrading")
            await stop_and_see(world)
            assert world.notes.lost == []

        simulate(main())

    def test_while_subscribing(self) -> None:
        class Deaf(Peer):
            def on_text(self, text: str) -> None:
                pass

        async def main() -> None:
            world = World(Deaf())
            world.start()
            await world.reach("subscribing")
            await stop_and_see(world)
            assert world.peer.frames == [(CLOSE, b"\x03\xe8")]

        simulate(main())

    def test_while_live_says_goodbye_and_loses_the_line(self) -> None:
        async def main() -> None:
            world = World()
            world.start()
            await world.reach("live")
            world.peer.say(quote_text("BTCUSDT", 1, "10", "11"))
            await stop_and_see(world)
            assert world.peer.frames == [(CLOSE, b"\x03\xe8")]
            assert not world.engine.top(0).is_valid
            assert len(world.notes.lost) == 1
            assert world.session.losses == 0

        simulate(main())

    def test_while_backing_off(self) -> None:
        async def main() -> None:
            world = World(Refusing(), backoff=ReconnectBackoff(30.0, 30.0))
            world.start()
            await world.reach("backing-off")
            start = world.seam.seconds()
            await world.session.stop()
            assert world.task
            assert world.task.done()
            assert world.seam.seconds() == start
            await stop_and_see(world)

        simulate(main())

    def test_a_peer_that_does_not_let_go_is_cut_off_after_a_second(self) -> None:
        class Stuck(Peer):
            is_stuck = True

            def on_frame(self, opcode: int, payload: bytes) -> None:
                pass

        async def main() -> None:
            world = World(Stuck())
            world.start()
            await world.reach("live")
            start = world.seam.seconds()
            await world.session.stop()
            assert world.seam.seconds() - start == pytest.approx(1.0, abs=0.01)
            await stop_and_see(world)

        simulate(main())

    def test_twice_is_allowed(self) -> None:
        async def main() -> None:
            world = World()
            world.start()
            await world.reach("live")
            await world.session.stop()
            await stop_and_see(world)
            assert world.peer.frames == [(CLOSE, b"\x03\xe8")]

        simulate(main())

    def test_at_any_moment_of_a_bad_day(self) -> None:
        async def main(seed: int) -> None:
            rng = random.Random(seed)
            world = World(*(bad_peer(rng) for _ in range(60)), seed=seed)
            world.start()
            await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 0.2), rng.uniform(0, 60.0))))
            await stop_and_see(world)

        for seed in range(150):
            simulate(main(seed))


def bad_peer(rng: random.Random) -> Peer:
    """Return a connection with a fate."""
    fate = rng.randrange(9)
    if fate == 0:
        return Refusing()
    if fate == 1:
        return Absent()
    if fate == 2:
        return Mute()

    end, at_s, answers = rng.choice(ENDS), rng.expovariate(0.2), fate != 3

    class Mortal(Peer):
        def on_request(self) -> None:
            self.after(at_s, end, self)
            if fate == 4:
                self.send(right_answer(self.requested)[:50])
            else:
                self.upgrade()

        def on_text(self, text: str) -> None:
            if answers:
                super().on_text(text)
            for n in range(rng.randrange(5)):
                self.after(rng.uniform(0, 10), self.say, quote_text("BTCUSDT", n, "10", "11"))

    mortal = Mortal()
    mortal.connect_s = rng.choice((0.0, 0.01, 0.3, 12.0))
    return mortal


class TestABadDay:
    @pytest.mark.parametrize("seed", range(20))
    def test_a_session_never_dies_and_never_hammers_and_loses_what_it_opened(
        self, seed: int
    ) -> None:
        async def main() -> tuple[list[str], list[float]]:
            rng = random.Random(seed)
            world = World(*(bad_peer(rng) for _ in range(100)), Peer(), seed=seed)
            world.start()
            while len(world.seam.connects) < 100:
                await asyncio.sleep(rng.uniform(0, 5.0))
                assert world.task
                assert not world.task.done()
                if world.session.state not in (State.SUBSCRIBING, State.SYNCING, State.LIVE):
                    assert not world.engine.top(0).is_valid
            await world.reach("live", limit_s=2000.0)
            assert world.session.connects == len(world.notes.opened)
            assert world.session.losses == len(world.notes.lost) == world.session.connects - 1
            gaps = [b - a for a, b in itertools.pairwise(world.seam.connects)]
            delays = [value for _, _, value in world.seam.drawn]
            assert all(gap >= delay - 1e-6 for gap, delay in zip(gaps, delays, strict=True))
            await world.stop()
            assert leftovers() == []
            return world.notes.states, world.seam.connects

        assert simulate(main()) == simulate(main())


class TestTheUrl:
    @staticmethod
    def session(url: str, **options: Any) -> Session:
        engine = Engine(instruments_max=1, pairs_max=1, lines_max=1, venues_max=1, signals_max=2)
        venue = small_venue()
        engine.add_venue(venue.name, venue.layout)
        return Session(
            venue, Line(engine, venue.name), [], FakeSeam(), None, url, **options  # type: ignore[arg-type]
        )  # fmt: skip

    @pytest.mark.parametrize(
        "url",
        ["ws://127.0.0.1:1/", "ws://127.9.9.9/", "ws://localhost:80/a", "ws://[::1]:8080/"],
    )
    def test_plain_text_is_allowed_on_loopback(self, url: str) -> None:
        assert self.session(url).state is State.IDLE

    @pytest.mark.parametrize(
        "url",
        [
            "ws://example.com/",
            "ws://10.0.0.1/",
            "ws://0.0.0.0/",
            "ws://[2001:db8::1]/",
            "ws://127.evil.example/",
            "ws://127.0.0.1.evil.example/",
            "ws://localhost.evil.example/",
            "ws://user@example.com/",
            "ws://127.0.0.1@example.com/",
        ],
    )
    def test_plain_text_off_loopback_is_refused_unless_it_is_asked_for_in_words(
        self, url: str
    ) -> None:
        with pytest.raises(UsageError, match="plain text off loopback"):
            self.session(url)
        assert self.session(url, insecure=True).state is State.IDLE

    def test_wss_needs_a_context(self) -> None:
        with pytest.raises(UsageError, match="TLS context"):
            self.session("wss://127.0.0.1/")
        assert self.session("wss://127.0.0.1/", tls=tls_context()).state is State.IDLE

    @pytest.mark.parametrize(
        "url",
        ["http://127.0.0.1/", "127.0.0.1", "", "ws://", "ws://127.0.0.1:99999/", "ws://[::1/",
         "ws://127.0.0.1:port/", "ws://127.0.0.1:0/", "ws://127.0.0.1/\n", "ws://127.0.0.1/a b",
         " ws://127.0.0.1/", "ws://127.0.0.1/\x7f"],
    )  # fmt: skip
    def test_what_is_no_websocket_url_is_refused(self, url: str) -> None:
        with pytest.raises(
            UsageError, match=re.escape(f"{url_shown(url)!r} is no WebSocket URL: ")
        ):
            self.session(url)

    def test_the_context_verifies_names_and_asks_for_tls_1_2(self) -> None:
        context = tls_context()
        assert context.check_hostname
        assert context.verify_mode.name == "CERT_REQUIRED"
        assert context.minimum_version.name == "TLSv1_2"

    def test_a_missing_file_of_authorities_is_a_named_error(self) -> None:
        with pytest.raises(UsageError, match=r"^nowhere\.pem: No such file or directory$"):
            tls_context("nowhere.pem")

    def test_a_file_that_holds_no_authority_is_a_named_error(self, tmp_path: Path) -> None:
        path = tmp_path / "ca.pem"
        path.write_text("no certificate\n")
        with pytest.raises(UsageError, match=rf"^{path}: .*NO_CERTIFICATE_OR_CRL_FOUND"):
            tls_context(str(path))
