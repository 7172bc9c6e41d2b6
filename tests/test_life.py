"""The whole table of a connection's states, walked by seed in simulated time.

A hostile venue refuses, mutes, delays, cuts, breaks, forgets streams and says farewell at random;
whatever it does, the session obeys its table, the budget and its back-off, uses nothing that it
should not, declares what it has lost, and lives again when the venue does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from fake_world import CLOSE, PING, World, leftovers, simulate
from test_budget import most_in
from test_relief import STREAMS, Quoting, leave

from crosswire.budget import CONNECTS_MAX
from crosswire.codec import encode_frame
from crosswire.link import TRANSITIONS, Event, Link, State
from crosswire.session import ReconnectBackoff
from crosswire.venue import Heartbeat, parse_object

SEEDS = 300
NATIVES = ("BTCUSDT", "ETHUSDT")
walked: Counter[tuple[State, Event]] = Counter()


class Wild(Quoting):
    """Does one thing wrong, at a time of its own, and ends after a minute at the latest."""

    KINDS = (
        "refuses", "mutes", "unacknowledged", "late", "refused", "cut", "reset", "close", "broken",
        "torn", "farewell", "dead", "silent", "one-silent", "garbage", "slow", "hasty", "good",
    )  # fmt: skip

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.kind = rng.choice(self.KINDS)
        self.when_s = rng.choice([0.0, rng.uniform(0, 2), rng.uniform(0, 30)])
        self.connect_s = rng.choice([0.0, 0.01, rng.uniform(0, 1)])
        self.close_s = rng.choice([0.0, 0.3])
        self.mends = rng.random() < 0.5
        self.is_dead = False
        if self.kind == "slow":
            self.connect_s = 12.0
        if self.kind == "hasty":  # it says farewell before it has acknowledged anything
            self.when_s = rng.uniform(0, 4)
            self.silent.add("ETHUSDT")
            self.mends = False

    def revive(self, native: str) -> None:
        if self.mends:
            super().revive(native)

    def on_request(self) -> None:
        match self.kind:
            case "refuses":
                self.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                self.cut()
            case "mutes":
                pass
            case _:
                self.upgrade()
                self.after(0.01 if self.kind == "hasty" else self.when_s, self.strike)
                self.after(60.0, self.cut)

    def on_text(self, text: str) -> None:
        request = parse_object(text).get("request")
        if self.kind == "unacknowledged" or self.is_dead:
            return
        if self.kind in ("late", "hasty") and request is not None:
            self.after(self.when_s, super().on_text, text)
        elif self.kind == "refused" and request is not None:
            self.say(json.dumps({"c": "no", "request": str(request), "why": "no"}))
        else:
            super().on_text(text)

    def on_frame(self, opcode: int, payload: bytes) -> None:
        if not (self.is_dead and opcode == PING):
            super().on_frame(opcode, payload)

    def strike(self) -> None:
        """Do it."""
        match self.kind:
            case "cut":
                self.cut()
            case "reset":
                self.cut(ConnectionResetError("reset by peer"))
            case "close":
                self.send(encode_frame(CLOSE, b"\x03\xe8"))
            case "broken":
                self.send(b"\xc1\x00")
            case "torn":
                self.send(encode_frame(1, b"x" * 50)[:20])
                self.cut()
            case "garbage":
                self.say('{"k":"q","s":"BTCUSDT","n":')
            case "farewell" | "hasty":
                self.say('{"c":"bye"}')
                self.after(20.0, self.cut)
            case "dead":
                self.is_dead = True
                self.silent |= set(NATIVES)
            case "silent":
                self.silent |= set(NATIVES)
            case "one-silent":
                self.silent.add("ETHUSDT")


@dataclass
class Life:
    """What a life left behind."""

    trace: list[tuple[float, str]] = field(default_factory=list)
    numbers: dict[int, list[int]] = field(default_factory=lambda: {0: [], 1: []})
    losses: list[Any] = field(default_factory=list)
    withheld: set[tuple[int, int]] = field(default_factory=set)


async def live(seed: int, life: Life) -> None:
    """Live by a seed, and end well."""
    rng = random.Random(seed)
    peers = [Wild(rng) for _ in range(rng.randint(3, 25))]
    world = World(
        *peers,
        Quoting(),
        seed=seed,
        streams=STREAMS,
        unsubscribe=leave,
        has_spare=rng.random() < 0.7,
        backoff=ReconnectBackoff(0.1, rng.choice([1.0, 5.0])),
        liveness_limit_s=rng.choice([2.0, 5.0]),
        data_limit_s=rng.choice([1.0, 3.0, 1e9]),
        life_s=rng.choice([float("inf"), 15.0, 60.0]),
        speaks_first=rng.random() < 0.5,
        heartbeat=Heartbeat(4.0, None, 9.0),
    )
    engine = world.engine

    def on_quotes(rows: Any) -> None:
        for row in rows:
            life.numbers[int(row["instrument"])].append(int(row["seq"]))

    engine.on_quotes = on_quotes
    world.start()
    keeping = asyncio.ensure_future(world.keep_time())
    while len(world.seam.met) <= len(peers) or world.session.state is not State.LIVE:
        await asyncio.sleep(rng.uniform(0, 1))
        assert world.task
        assert not world.task.done(), world.task
        assert not keeping.done(), keeping
        assert world.seam.seconds() < 3000, "it does not live again"
        life.trace.append((world.seam.seconds(), world.session.state.value))
        life.losses += engine.losses()
        is_open = [transport for transport in world.seam.transports if not transport.is_closing()]
        assert len(is_open) <= 1 + (world.spare is not None)
        if not any(line.is_live for line in world.session.lines):
            assert not any(engine.top(n).is_valid and engine.top(n).is_live for n in (0, 1))
    assert most_in(world.seam.connects, 1.0) <= CONNECTS_MAX
    assert all(0.0 <= value <= high for low, high, value in world.seam.drawn if low == 0.0)
    await asyncio.sleep(3)
    life.losses += [*engine.losses(), *engine.open_losses()]
    for peer in world.seam.met:
        assert isinstance(peer, Quoting)
        life.withheld |= peer.withheld
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await world.stop()
    assert leftovers() == []


def check_losses(life: Life) -> None:
    """Every number that was not received lies in a declared loss, unless the venue withheld it."""
    for instrument, numbers in life.numbers.items():
        # the first of a connection may repeat the last one of the connection before
        assert numbers == sorted(numbers), "a number went back"
        missing = set(range(numbers[0], numbers[-1] + 1)) - set(numbers)
        declared = [loss for loss in life.losses if loss.instrument == instrument]
        for number in missing - {number for which, number in life.withheld if which == instrument}:
            assert any(loss.last_seq < number < loss.first_seq for loss in declared), number


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count every step that any connection takes through the table."""
    move = Link._move

    def counting(link: Link, event: Event) -> None:
        walked[link.state, event] += 1
        move(link, event)

    monkeypatch.setattr(Link, "_move", counting)


@pytest.mark.usefixtures("watched")
class TestLives:
    @pytest.mark.parametrize("batch", range(30))
    def test_a_wild_venue_is_survived_in_every_seed(self, batch: int) -> None:
        for seed in range(batch * SEEDS // 30, (batch + 1) * SEEDS // 30):
            life = Life()
            try:
                simulate(live(seed, life))
                check_losses(life)
            except BaseException:
                print(f"seed {seed}")
                raise

    @pytest.mark.parametrize("seed", range(0, SEEDS, 30))
    def test_the_same_seed_leaves_the_same_trace(self, seed: int) -> None:
        digests = set()
        for _ in range(2):
            life = Life()
            simulate(live(seed, life))
            digests.add(
                hashlib.sha256(repr((life.trace, life.numbers, life.losses)).encode()).hexdigest()
            )
        assert len(digests) == 1

    def test_one_that_still_syncs_is_relieved(self) -> None:
        """A rare coincidence: both connections wait for a quiet instrument."""

        class Quiet(Quoting):
            ack_s = 0.0

            def on_text(self, text: str) -> None:
                self.silent.add("ETHUSDT")
                self.after(self.ack_s, super().on_text, text)

            def revive(self, native: str) -> None:
                pass

        async def main() -> None:
            first, second = Quiet(), Quiet()
            first.ack_s = 0.8
            world = World(first, second, streams=STREAMS, has_spare=True)
            world.start()
            await world.reach("subscribing")
            first.say('{"c":"bye"}')
            await world.reach("live")
            assert world.session.reliefs == 1
            await world.stop()

        simulate(main())
        assert walked[State.SYNCING, Event.RELIEVED]

    def test_every_step_of_the_table_was_taken(self) -> None:
        """Alone it has seen nothing; it walks until it has."""
        self.test_one_that_still_syncs_is_relieved()
        for seed in range(SEEDS):
            if not TRANSITIONS.keys() - walked.keys():
                break
            simulate(live(seed, Life()))
        assert walked.keys() == TRANSITIONS.keys()
