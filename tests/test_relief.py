"""Silence and replacement in simulated time: what falls stale, and how a connection is relieved.

No socket and no real second: see ``fake_world``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_world import Peer, Refusing, World, leftovers, quote_text, simulate

from crosswire.venue import Record, parse_object

STREAMS = (("BTCUSDT", Record.QUOTE), ("ETHUSDT", Record.QUOTE))


class Quoting(Peer):
    """A venue that quotes every instrument every 100 ms, numbered the same on every connection.

    Attributes:
        silent: instruments of which it says nothing more.
        lag_s: how much later this connection brings everything.
        unsubscribed: what it was asked to stop.
        withheld: (instrument, number) that it did not say, being silent.
    """

    lag_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.silent: set[str] = set()
        self.unsubscribed: list[str] = []
        self.withheld: set[tuple[int, int]] = set()
        self._is_quoting = False

    def on_text(self, text: str) -> None:
        message = parse_object(text)
        if "leave" in message:
            self.unsubscribed += message["leave"]
            return
        super().on_text(text)
        for name in message.get("streams", []):
            self.revive(name.partition(".")[0])
        if not self._is_quoting:
            self._is_quoting = True
            self._next()

    def revive(self, native: str) -> None:
        """What subscribing again does; override for a venue that does not mend."""
        self.silent.discard(native)

    def _next(self) -> None:
        if not self.is_open:
            return
        now = asyncio.get_running_loop().time()
        number = round(now * 10)
        for instrument, native in enumerate(("BTCUSDT", "ETHUSDT")):
            if native in self.silent:
                self.withheld.add((instrument, number))
            else:
                self.after(self.lag_s, self.say, quote_text(native, number, "10", "11"))
        self.after((number + 1) / 10 - now, self._next)


class Stubborn(Quoting):
    """Stays silent, however it is asked."""

    def revive(self, native: str) -> None:
        pass


def leave(streams: Any, request: int) -> list[str]:
    """Return the small venue's request to stop streams."""
    return [json.dumps({"leave": list(streams)})]


def quoting_world(*peers: Peer, **options: Any) -> World:
    """Return a world of two streams that is kept in time."""
    options = {"streams": STREAMS, "unsubscribe": leave, **options}
    world = World(*peers, **options)
    world.start()
    return world


async def run(world: World, seconds: float) -> None:
    """Let a world go on for so long, its engine's time with it."""
    keeping = asyncio.ensure_future(world.keep_time())
    await asyncio.sleep(seconds)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


class TestSyncing:
    def test_it_is_live_as_soon_as_every_stream_has_quoted(self) -> None:
        async def main() -> None:
            world = quoting_world(Quoting())
            await world.reach("live")
            assert world.seam.seconds() < 0.2
            assert all(world.engine.top(n).is_valid for n in (0, 1))
            await world.stop()

        simulate(main())

    def test_a_quiet_instrument_holds_it_up_for_a_second(self) -> None:
        async def main() -> None:
            peer = Stubborn()
            peer.silent.add("ETHUSDT")
            world = quoting_world(peer)
            await world.reach("syncing")
            start = world.seam.seconds()
            await world.reach("live")
            assert world.seam.seconds() - start == pytest.approx(1.0, abs=0.05)
            assert [world.engine.top(n).is_valid for n in (0, 1)] == [True, False]
            await world.stop()

        simulate(main())


class TestAStreamThatFallsSilent:
    @pytest.mark.parametrize("speaks_first", [False, True])
    def test_it_is_stale_in_time_subscribed_again_and_live_again(self, speaks_first: bool) -> None:
        async def main() -> None:
            peer = Quoting()
            world = quoting_world(peer, data_limit_s=3.0, speaks_first=speaks_first)
            await world.reach("live")
            await run(world, 5)
            peer.silent.add("ETHUSDT")
            start = world.seam.seconds()
            stale = world.notes.next("stale")
            live = world.notes.next("live")
            keeping = asyncio.ensure_future(world.keep_time())
            await stale
            assert 2.9 <= world.seam.seconds() - start <= 3.1
            assert not world.engine.top(1).is_live or world.engine.top(1).is_stale
            assert world.engine.top(0).is_valid
            await live
            assert peer.unsubscribed == ["ETHUSDT.quote"]
            assert json.loads(peer.texts[-1])["streams"] == ["ETHUSDT.quote"]
            await asyncio.sleep(20)
            keeping.cancel()
            assert world.session.state.value == "live"
            assert (world.session.connects, world.session.losses) == (1, 0)
            await world.stop()
            assert leftovers() == [] or leftovers() == [str(keeping)]

        simulate(main())

    def test_where_a_subscription_is_answered_with_what_stands_more_silence_ends_it(self) -> None:
        async def main() -> None:
            peer = Stubborn()
            world = quoting_world(peer, Quoting(), data_limit_s=3.0, speaks_first=True)
            await world.reach("live")
            await run(world, 5)
            peer.silent.add("ETHUSDT")
            start = world.seam.seconds()
            await run(world, 20)
            assert world.session.losses == 1
            assert "stream-stale" in world.session.last_error
            assert "ETHUSDT" in world.session.last_error
            [(lost_at, _)] = world.notes.lost
            assert lost_at - start == pytest.approx(3.0 + 0.25 + 10.0, abs=0.5)
            assert world.session.state.value == "live"
            await world.stop()

        simulate(main())

    def test_elsewhere_one_quiet_instrument_ends_nothing_and_all_of_them_do(self) -> None:
        async def main() -> None:
            peer = Stubborn()
            world = quoting_world(peer, Quoting(), data_limit_s=3.0)
            await world.reach("live")
            await run(world, 5)
            peer.silent.add("ETHUSDT")
            await run(world, 100)
            assert (world.session.losses, world.session.state.value) == (0, "stale")
            peer.silent.add("BTCUSDT")
            await run(world, 40)
            assert world.session.losses == 1
            assert "stream-stale" in world.session.last_error
            assert world.session.state.value == "live"
            await world.stop()

        simulate(main())

    def test_one_that_falls_silent_again_is_subscribed_again_each_time(self) -> None:
        async def main() -> None:
            peer = Quoting()
            world = quoting_world(peer, data_limit_s=3.0)
            await world.reach("live")
            for times in (1, 2):  # its limit grows with what it is used to
                await run(world, 40)
                peer.silent.add("ETHUSDT")
                await run(world, 20)
                assert peer.unsubscribed == ["ETHUSDT.quote"] * times
                assert world.session.state.value == "live"
            assert world.session.losses == 0
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("has_spare", [False, True])
    def test_a_quiet_one_that_is_answered_with_what_stands_is_not_dropped(
        self, has_spare: bool
    ) -> None:
        class Standing(Peer):
            """Says what stands when it is subscribed, and nothing else."""

            def on_text(self, text: str) -> None:
                super().on_text(text)
                for name in parse_object(text).get("streams", []):
                    self.say(quote_text(name.partition(".")[0], 7, "10", "11"))

        async def main() -> None:
            world = quoting_world(
                Standing(), data_limit_s=15.0, speaks_first=True, has_spare=has_spare
            )
            await world.reach("live")
            await run(world, 300)
            assert world.session.losses == 0
            assert world.session.last_error == ""
            await world.stop()

        simulate(main())

    def test_pings_that_are_answered_are_no_data(self) -> None:
        async def main() -> None:
            peer = Stubborn()
            world = quoting_world(peer, Quoting(), data_limit_s=3.0, liveness_limit_s=2.0)
            await world.reach("live")
            await run(world, 5)
            peer.silent |= {"BTCUSDT", "ETHUSDT"}
            await run(world, 8)
            assert peer.frames != []
            assert world.line.is_live
            assert world.session.state.value == "stale"
            assert not any(world.engine.top(n).is_live and not world.engine.top(n).is_stale
                           for n in (0, 1))  # fmt: skip
            await world.stop()

        simulate(main())

    def test_no_signal_is_made_of_a_stale_top(self) -> None:
        async def main() -> None:
            peer = Stubborn()
            world = quoting_world(peer, data_limit_s=3.0)
            events: list[tuple[int, int]] = []
            world.engine.on_signals = lambda rows: events.extend(
                zip(rows["event"].tolist(), rows["close_reason"].tolist(), strict=True)
            )
            await world.reach("live")
            peer.silent |= {"BTCUSDT", "ETHUSDT"}
            await asyncio.sleep(0.2)
            peer.say(quote_text("BTCUSDT", 10_000, "10", "11"))
            peer.say(quote_text("ETHUSDT", 10_000, "12", "13"))
            assert events == [(1, 0)]
            await asyncio.sleep(3.01)  # no timer: the read itself finds it
            peer.say(quote_text("BTCUSDT", 10_001, "10", "11.5"))
            assert events[1:] == [(3, 7)]
            await world.stop()

        simulate(main())


class TestRelief:
    @pytest.mark.parametrize("reason", ["farewell", "age"])
    def test_the_next_connection_takes_over_before_the_old_one_ends(self, reason: str) -> None:
        async def main() -> None:
            first, second = Quoting(), Quoting()
            life_s = 100.0 if reason == "age" else float("inf")
            world = quoting_world(first, second, Quoting(), has_spare=True, life_s=life_s)
            await world.reach("live")
            seen: list[bool] = []

            def look(rows: Any) -> None:
                seen.append(all(world.engine.top(n).is_valid for n in (0, 1)))

            await run(world, 2)
            world.engine.on_quotes = look
            if reason == "farewell":
                first.say('{"c":"bye"}')
                await run(world, 5)
            else:
                await run(world, 99)
                assert 90.0 <= world.seam.connects[1] <= 97.1
            assert world.session.reliefs == 1
            assert (world.session.connects, world.session.losses) == (2, 0)
            assert first.frames[-1] == (8, b"\x03\xe8")
            assert not first.is_open
            assert second.is_open
            assert world.session.state.value == "live"
            assert world.notes.states.count("live") == 1
            assert set(seen) == {True}
            assert world.engine.losses() == []
            assert world.engine.open_losses() == []
            await world.stop()
            assert leftovers() == []

        simulate(main())

    def test_every_number_comes_at_most_once_and_in_order(self) -> None:
        async def main() -> None:
            peers = [Quoting() for _ in range(4)]
            peers[1].lag_s = 0.25
            peers[2].lag_s = 0.05
            world = quoting_world(*peers, has_spare=True)
            numbers: list[int] = []
            world.engine.on_quotes = lambda rows: numbers.extend(
                rows["seq"][rows["instrument"] == 0].tolist()
            )
            await world.reach("live")
            for peer in peers[:3]:
                await run(world, 2)
                peer.say('{"c":"bye"}')
                await run(world, 4)
            assert world.session.reliefs == 3
            # a quote that comes behind a newer one is true no more, and counted
            assert numbers == sorted(set(numbers))
            assert len(numbers) >= numbers[-1] - numbers[0] - 3
            assert world.engine.losses() == world.engine.open_losses() == []
            assert all(line.duplicates for line in world.session.lines)
            await world.stop()

        simulate(main())

    def test_an_old_connection_that_ends_too_soon_leaves_its_place_to_the_new_one(self) -> None:
        class Slow(Quoting):
            connect_s = 3.0

        async def main() -> None:
            first, second = Quoting(), Slow()
            world = quoting_world(first, second, has_spare=True)
            await world.reach("live")
            await run(world, 2)
            first.say('{"c":"bye"}')
            await run(world, 1)
            first.cut()
            await run(world, 0.1)
            assert world.session.state.value == "connecting"
            assert not world.engine.top(0).is_valid
            await run(world, 4)
            assert world.session.state.value == "live"
            assert world.seam.met == [first, second]
            assert (world.session.reliefs, world.session.losses) == (0, 1)
            await world.stop()
            assert leftovers() == []

        simulate(main())

    def test_one_that_cannot_be_made_is_tried_again_while_the_old_one_lasts(self) -> None:
        async def main() -> None:
            first = Quoting()
            world = quoting_world(first, *(Refusing() for _ in range(5)), Quoting(), has_spare=True)
            await world.reach("live")
            await run(world, 2)
            first.say('{"c":"bye"}')
            await run(world, 30)
            assert world.session.reliefs == 1
            assert len(world.seam.connects) == 7
            assert world.session.losses == 0
            ceilings = [high for _, high, _ in world.seam.drawn]
            assert ceilings == [0.1, 0.1, 0.2, 0.4, 0.8, 1.6]
            await world.stop()

        simulate(main())

    def test_one_that_is_refused_more_does_not_take_over(self) -> None:
        class Half(Quoting):
            def on_text(self, text: str) -> None:
                request = parse_object(text).get("request")
                if request == "ETHUSDT.quote":
                    self.say(json.dumps({"c": "no", "request": request, "why": "no"}))
                else:
                    super().on_text(text)

        def each(streams: Any, request: int) -> Iterator[tuple[str, str]]:
            for name in streams:
                yield name, json.dumps({"request": name, "streams": [name]})

        async def main() -> None:
            first, half, third = Quoting(), Half(), Quoting()
            world = quoting_world(
                first, half, third, has_spare=True, subscribe=lambda *a: list(each(*a))
            )
            await world.reach("live")
            await run(world, 2)
            first.say('{"c":"bye"}')
            await run(world, 10)
            assert not half.is_open
            assert third.is_open
            assert world.session.reliefs == 1
            assert world.session.refused == []
            assert world.engine.losses() == []
            await world.stop()

        simulate(main())

    @pytest.mark.parametrize("answer", ["ack", "no"])
    def test_an_answer_that_comes_while_it_drains_changes_nothing(self, answer: str) -> None:
        class Late(Quoting):
            def on_text(self, text: str) -> None:
                request = parse_object(text).get("request")
                said = json.dumps({"c": answer, "request": str(request), "why": "no"})
                self.after(1.5, self.say, said)

            def on_frame(self, opcode: int, payload: bytes) -> None:
                if opcode != 9:  # it drains until the limit
                    super().on_frame(opcode, payload)

        async def main() -> None:
            first, second = Late(), Quoting()
            world = quoting_world(first, second, has_spare=True)
            await world.reach("subscribing")
            first.say('{"c":"bye"}')
            await run(world, 5)
            assert world.session.reliefs == 1
            assert (world.session.state.value, world.session.last_error) == ("live", "")
            assert (world.session.connects, world.session.losses) == (2, 0)
            await world.stop()
            assert leftovers() == []

        simulate(main())

    def test_stopping_ends_both(self) -> None:
        async def main() -> None:
            for wait_s in (0.0, 0.05, 0.5, 1.0, 1.2, 1.5, 2.5):
                first, second = Quoting(), Quoting()
                world = quoting_world(first, second, has_spare=True)
                await world.reach("live")
                await run(world, 2)
                first.say('{"c":"bye"}')
                await run(world, wait_s)
                await world.stop()
                assert leftovers() == []
                assert not first.is_open
                assert not second.is_open
                assert world.session.state.value == "stopped"
                assert not world.engine.top(0).is_valid

        simulate(main())

    def test_a_connection_that_lasted_is_relieved_by_the_shortest_delay(self) -> None:
        async def main() -> None:
            world = quoting_world(Quoting(), has_spare=True)
            await world.reach("live")
            for _ in range(5):
                await run(world, 70)
                world.peer.say('{"c":"bye"}')
                await run(world, 5)
            assert world.session.reliefs == 5
            assert {high for _, high, _ in world.seam.drawn} == {0.1}
            await world.stop()

        simulate(main())

    def test_no_connect_begins_behind_a_stop(self) -> None:
        class Lasting(Quoting):
            close_s = 0.9

            def on_frame(self, opcode: int, payload: bytes) -> None:
                pass

        async def main() -> None:
            for seed in range(5):
                world = quoting_world(Lasting(), Quoting(), has_spare=True, seed=seed)
                await world.reach("live")
                await run(world, 2)
                world.peer.say('{"c":"bye"}')
                await world.stop()
                assert len(world.seam.connects) == 1
                assert leftovers() == []

        simulate(main())

    def test_without_a_spare_line_it_leaves_before_it_comes_back(self) -> None:
        async def main() -> None:
            first = Quoting()
            world = quoting_world(first, Quoting())
            await world.reach("live")
            first.say('{"c":"bye"}')
            await world.reach("backing-off")
            assert not world.engine.top(0).is_valid
            await world.reach("live")
            assert world.session.reliefs == 0
            await world.stop()

        simulate(main())
