"""Sessions over real sockets through chaos proxies, and the proof that what they lost is declared.

A small venue over TLS numbers its quotes, the same on every connection, one each ``TICK_S``.
Every session reaches it through a proxy of its own, which strikes one fault after the other, by
seed. At the end every number is accounted for.

    python tests/chaos_life.py --faults 100000 --sessions 40 --seed 1

Rule 1: every number that was not received lies in a declared loss, and each such loss holds one.
Rule 2: what is received is what was sent: a quote says its own number in all of its fields.
Rule 3: no signal uses a quote older than the limits of silence.
Rule 4: behind the last fault all live again; no task, descriptor or thread is left over.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import trustme
from fake_world import TEXT, right_answer, small_venue

from crosswire.budget import ConnectBudget
from crosswire.codec import encode_frame, mask, read_header
from crosswire.engine import Engine
from crosswire.errors import UsageError
from crosswire.instruments import Pair
from crosswire.line import Line
from crosswire.seam import System
from crosswire.session import ReconnectBackoff, Session, State
from crosswire.sim import ChaosProxy, Fault
from crosswire.venue import Heartbeat, Record, parse_object

TICK_S = 0.005
PING_S = 2.0
"""How often the venue asks a client for a sign of life."""
GONE_S = 10.0
"""How long the venue waits for one, as venues do: else it would send everything to thousands of
half-open connections in the end."""
LIVENESS_LIMIT_S = 1.0
DATA_LIMIT_S = 0.5
FELT_S = 0.5
LAG_MAX = 15
"""Numbers that a line which is well may be behind."""
NUMBER = re.compile(rb'"n":(\d+),"b":')
QUOTE_MAX = 30
"""Bytes that hold no whole ``NUMBER`` with what it is followed by."""
LATE_S = 0.1
"""How often time is let pass and looked at, at the latest."""


class Unhurried(System):
    """The real world, where the sessions of a run do not wait for each other to connect."""

    connect_budget = ConnectBudget(1_000_000)


class _Numbered(asyncio.Protocol):
    """The venue's side of a connection."""

    def __init__(self, server: NumberedServer) -> None:
        self._server = server
        self._data = b""
        self._is_upgraded = False
        self.heard_s = asyncio.get_running_loop().time()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard_s = asyncio.get_running_loop().time()
        self._data += data
        if not self._is_upgraded:
            if b"\r\n\r\n" not in self._data:
                return
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            self._is_upgraded = True
            self.transport.write(right_answer(head))
        self._take_frames()

    def _take_frames(self) -> None:
        while (header := read_header(self._data, is_server=True)) is not None:
            opcode, _, head_len, length, key = header
            if len(self._data) < head_len + length:
                return
            payload = bytearray(self._data[head_len : head_len + length])
            self._data = self._data[head_len + length :]
            assert key is not None
            mask(payload, key)
            self._take(opcode, bytes(payload))

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self.transport.write(encode_frame(10, payload))
        elif opcode == 8:
            self.transport.write(encode_frame(8, payload[:2]))
            self.transport.close()
        elif opcode == TEXT:
            request = parse_object(payload.decode()).get("request")
            answer = json.dumps({"c": "ack", "request": str(request)})
            self.transport.write(encode_frame(TEXT, answer.encode()))
            self._server.listeners.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.listeners.discard(self)


class NumberedServer:
    """A venue of one instrument, whose quote number n says n in every field.

    Attributes:
        number: of the newest quote.
        is_quoting: the numbers go on.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.listeners: set[_Numbered] = set()
        self.number = 0
        self.is_quoting = True
        self.port = 0

    async def __aenter__(self) -> NumberedServer:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Numbered(self), "127.0.0.1", 0, ssl=self._context, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._task = asyncio.create_task(self._quote())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._server.close()
        for listener in list(self.listeners):
            listener.transport.abort()
        await self._server.wait_closed()

    async def _quote(self) -> None:
        loop = asyncio.get_running_loop()
        ping_at_s = loop.time() + PING_S
        while True:
            await asyncio.sleep(TICK_S)
            if not self.is_quoting:
                continue
            self.number += 1
            frames = encode_frame(TEXT, quote_of(self.number).encode())
            now_s = loop.time()
            if now_s >= ping_at_s:
                ping_at_s = now_s + PING_S
                frames += encode_frame(9, b"")
            for listener in self.listeners:
                is_slow = listener.transport.get_write_buffer_size() > 1 << 20
                if is_slow or now_s - listener.heard_s > GONE_S:
                    listener.transport.abort()
                else:
                    listener.transport.write(frames)


def quote_of(number: int) -> str:
    """Return the text of a quote that says its number in all of its fields."""
    return (
        f'{{"k":"q","s":"BTCUSDT","n":{number},"b":"{number}","B":"{number}",'
        f'"a":"{number}.5","A":"{number}"}}'
    )


def draw_fault(rng: random.Random) -> Fault:
    """Draw a fault, of any kind, that ends or is ended in good time."""
    kind = rng.choice(
        ["cut", "reset", "half-open", "stall", "delay", "jitter", "throttle", "split", "slow-drip",
         "corrupt", "duplicate"]
    )  # fmt: skip
    match kind:
        case "stall":
            return Fault(kind, seconds=rng.uniform(0.05, 2.0))
        case "delay" | "jitter":
            return Fault(kind, seconds=rng.uniform(0.01, 0.3), span=rng.randint(1, 20_000))
        case "throttle":
            return Fault(kind, bytes_per_s=rng.uniform(5e3, 1e6), span=rng.randint(1, 20_000))
        case "split":
            return Fault(kind, size=rng.randint(1, 50), span=rng.randint(1, 20_000))
        case "slow-drip":
            return Fault(kind, seconds=rng.uniform(0.0001, 0.002), span=rng.randint(1, 500))
        case "duplicate":
            return Fault(kind, size=rng.randint(1, 300))
        case _:
            return Fault(kind)


@dataclass
class Outcome:
    """What became of it all.

    Attributes:
        struck: faults by kind.
        problems: what broke a rule, in words.
        live_again_s: from each fault that ended a connection to the next that is live.
        seen_s: from the last data before a stall to the session's being stale, less the limit.
    """

    struck: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    live_again_s: list[float] = field(default_factory=list)
    seen_s: list[float] = field(default_factory=list)
    losses: int = 0
    lost_numbers: int = 0
    received: int = 0
    ends: Counter[str] = field(default_factory=Counter)


class Victim:
    """One session behind its proxy, with an engine of its own.

    Args:
        seed: of its faults.
        lines: how many sessions carry the same stream, each behind a proxy of its own.
    """

    def __init__(self, seed: int, server: NumberedServer, context: ssl.SSLContext,
                 lines: int = 1) -> None:  # fmt: skip
        self._rng = random.Random(seed)
        self._seam = Unhurried()
        self.outcome = Outcome()
        self._numbers: list[int] = []
        self._losses: list[Any] = []
        self._last_mono = self._live_mono = 0
        self._longest_s = 0.0
        self._is_cut = True
        self._late: set[int] = set()
        self._newest: dict[int, int] = {}
        self._server = server
        self.proxies = [ChaosProxy("127.0.0.1", server.port) for _ in range(lines)]
        self._context = context
        self._lines = lines

    # ---- what it is told

    def on_quotes(self, rows: Any) -> None:
        rows = rows[rows["instrument"] == 0]
        if not len(rows):
            return
        now = self._seam.monotonic_ns()
        silent_s = (now - self._last_mono) / 1e9
        if not self._is_cut and silent_s < LIVENESS_LIMIT_S:
            self._longest_s = max(self._longest_s, silent_s)
        self._last_mono, self._is_cut = now, False
        numbers = rows["seq"]
        self._numbers.extend(numbers.tolist())
        as_sent = (
            (rows["bid"] == numbers) & (rows["bid_qty"] == numbers)
            & (rows["ask"] == numbers + 0.5) & (rows["ask_qty"] == numbers)
        )  # fmt: skip
        if not as_sent.all():
            self.outcome.problems.append(f"altered: {rows[~as_sent]}")

    def on_signals(self, rows: Any) -> None:
        legs = rows["legs"][rows["event"] != 3][:, :2]
        oldest_s = legs["age_us"][legs["instrument"] == 0].max(initial=0) / 1e6
        if oldest_s > self._limit_s() + LATE_S:
            self.outcome.problems.append(f"a signal of data {oldest_s} s old")

    def _limit_s(self) -> float:
        """Return how long the quotes may be silent: the data limit, or four times the longest gap
        of a connection that lived, below the limit of the connection itself."""
        return min(max(DATA_LIMIT_S, 4 * self._longest_s), LIVENESS_LIMIT_S)

    def on_opened(self, session: Session, line: Line, ts: int, mono: int) -> None:
        pass

    def on_covered(self, session: Session, line: Line, ts: int, mono: int) -> None:
        pass

    def on_lost(self, session: Session, line: Line, ts: int, mono: int, reason: str) -> None:
        self._is_cut = True
        self.outcome.ends[reason.partition(":")[0]] += 1

    def on_state(self, session: Session) -> None:
        now = self._seam.monotonic_ns()
        if session.state is State.LIVE:
            self._live_mono = now
        elif session.state is State.STALE:
            silent_s = (now - max(self._last_mono, self._live_mono)) / 1e9
            self.outcome.seen_s.append(silent_s - self._limit_s())

    # ---- what it goes through

    async def go_through(self, faults: int) -> Outcome:
        """Suffer so many faults, and tell what became of it."""
        venue = small_venue(heartbeat=Heartbeat(0.5, None, 1.5))
        engine = Engine(instruments_max=2, pairs_max=1, lines_max=4, venues_max=2, signals_max=64)
        engine.add_venue(
            venue.name, venue.layout, liveness_limit_s=LIVENESS_LIMIT_S, data_limit_s=DATA_LIMIT_S
        )
        engine.add_instrument(venue.name, "BTCUSDT", fee_bps=0.0)
        engine.on_quotes, engine.on_signals = self.on_quotes, self.on_signals
        self._add_steady(engine)
        async with contextlib.AsyncExitStack() as stack:
            sessions = []
            for proxy in self.proxies:
                await stack.enter_async_context(proxy)
                line = Line(engine, venue.name, group=1)
                if self._lines > 1:
                    line.recorder = self._keep(line.id)
                sessions.append(
                    Session(
                        venue, line, [("BTCUSDT", Record.QUOTE)], self._seam, self,
                        f"wss://127.0.0.1:{proxy.port}/", self._context,
                        backoff=ReconnectBackoff(0.1, 0.4), liveness_limit_s=LIVENESS_LIMIT_S,
                        has_twins=True,
                    )
                )  # fmt: skip
            tasks = [asyncio.create_task(session.run()) for session in sessions]
            tasks.append(asyncio.create_task(self._keep_time(engine, sessions)))
            try:
                await self._suffer(sessions, faults)
                await self._finish(engine, sessions)
            finally:
                await asyncio.gather(*(session.stop() for session in sessions))
                tasks[-1].cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
        self.outcome.problems += [repr(e) for e in ends if isinstance(e, Exception)]
        self._account(engine)
        return self.outcome

    def _keep(self, line: int) -> Callable[[bytes, int, int], None]:
        """Return what keeps what a line receives: a quote that comes behind a newer one of another
        line is not handed over."""
        rest = [b""]

        def keep(data: bytes, ts: int, mono: int) -> None:
            whole = rest[0] + data
            found = [int(number) for number in NUMBER.findall(whole)]
            self._late.update(found)
            self._newest[line] = max([self._newest.get(line, 0), *found])
            rest[0] = whole[-QUOTE_MAX:]

        return keep

    def _add_steady(self, engine: Engine) -> None:
        """Give the engine a leg that is always there, so that every quote makes a signal."""
        venue = small_venue("steady")
        engine.add_venue(venue.name, venue.layout, liveness_limit_s=3600.0)
        engine.add_instrument(venue.name, "BTCUSDT", fee_bps=0.0)
        engine.set_pairs([Pair(1, 0, 1)])
        self._steady = Line(engine, venue.name)
        self._steady.open(self._seam.time_ns(), self._seam.monotonic_ns())

    async def _keep_time(self, engine: Engine, sessions: list[Session]) -> None:
        number = 0
        while True:
            await self._seam.sleep(LATE_S / 5)
            ts, mono = self._seam.time_ns(), self._seam.monotonic_ns()
            number += 1
            text = f'{{"k":"q","s":"BTCUSDT","n":{number},"b":"0.1","B":"1","a":"0.2","A":"1"}}'
            self._steady.feed(encode_frame(TEXT, text.encode()), ts, mono)
            engine.advance(ts, mono)
            stale = engine.stale_instruments()
            for session in sessions:
                session.look(stale)
            self._losses += engine.losses()

    async def _suffer(self, sessions: list[Session], faults: int) -> None:
        await self._until_live(sessions)
        for _ in range(faults):
            which = self._rng.randrange(len(sessions))
            if len(sessions) > 1:
                # one of them must live, and carry everything: the others first
                await self._until_covering([s for n, s in enumerate(sessions) if n != which])
            await self._until_live([sessions[which]])
            await self._seam.sleep(self._rng.uniform(0, 0.05))
            fault = draw_fault(self._rng)
            connects, start = sessions[which].connects, self._seam.monotonic_ns()
            await self._strike(which, fault)
            self.outcome.struck[fault.kind] += 1
            await self._seam.sleep(self._rng.uniform(0, 0.1))
            if self._lines > 1:  # before it is judged, what it does must be felt
                await self._seam.sleep(FELT_S)
            await self._until_live([sessions[which]])
            if fault.kind in ("cut", "reset") and sessions[which].connects > connects:
                took_s = (self._seam.monotonic_ns() - start) / 1e9
                self.outcome.live_again_s.append(took_s)

    async def _strike(self, which: int, fault: Fault) -> None:
        """Strike the newest connection, or the next where that one is just ending."""
        for _ in range(1000):
            try:
                self.proxies[which].strike(fault)
            except UsageError:
                await self._seam.sleep(0.01)
            else:
                return
        raise TimeoutError("there is no connection to strike")

    async def _until_covering(self, sessions: list[Session]) -> None:
        await self._until_live(sessions)
        for _ in range(6000):
            if all(self._is_well(session) for session in sessions):
                return
            await self._seam.sleep(0.01)
        raise TimeoutError("not covering within a minute")

    def _is_well(self, session: Session) -> bool:
        """Whether a line carries everything, and brings what is new."""
        newest = self._newest.get(session.line.id, 0)
        return session.line.is_covering and self._server.number - newest < LAG_MAX

    async def _until_live(self, sessions: list[Session]) -> None:
        deadline = self._seam.monotonic_ns() + 60 * 10**9
        while not all(s.state is State.LIVE for s in sessions):
            await self._seam.sleep(0.002)
            if self._seam.monotonic_ns() > deadline:
                told = [(s.state.value, s.last_error) for s in sessions]
                raise TimeoutError(f"not live within a minute: {told}")

    async def _finish(self, engine: Engine, sessions: list[Session]) -> None:
        """Let what is under way arrive: a connection that is live may still be held up."""
        await self._until_live(sessions)
        enough = self._server.number + 1
        for _ in range(3000):
            if self._numbers and self._numbers[-1] >= enough and not engine.open_losses():
                return
            await self._seam.sleep(0.01)
        self.outcome.problems.append("it does not live again behind the last fault")

    # ---- the account

    def _account(self, engine: Engine) -> None:
        out = self.outcome
        self._losses += engine.losses()
        numbers = np.asarray(self._numbers)
        if (np.diff(numbers) <= 0).any():
            out.problems.append("a number came twice, or went back")
        missing = np.setdiff1d(np.arange(numbers[0], numbers[-1] + 1), numbers)
        missing = np.setdiff1d(missing, np.asarray(sorted(self._late), np.int64))
        if self._lines > 1 and self._losses:
            out.problems.append(f"a gap though another line lived: {self._losses}")
        is_declared = np.zeros(len(missing), bool)
        for loss in self._losses:
            inside = (missing > loss.last_seq) & (missing < loss.first_seq)
            is_declared |= inside
            if not inside.any():
                out.problems.append(f"a loss that holds nothing: {loss}")
        if not is_declared.all():
            out.problems.append(f"lost, and not declared: {missing[~is_declared][:10]}")
        out.losses, out.lost_numbers, out.received = len(self._losses), len(missing), len(numbers)


async def torment(
    faults: int,
    sessions: int,
    seed: int,
    lines: int = 1,
    *,
    tell: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """Let so many sessions suffer so many faults in all, and return what became of each.

    Args:
        tell: is told every 10 s how many faults have struck.
    """

    async def tell_on(victims: list[Victim]) -> None:
        while tell:
            await asyncio.sleep(10.0)
            tell(sum(victim.outcome.struck.total() for victim in victims))

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with NumberedServer(context) as server:
        victims = [Victim(seed * 1_000_003 + n, server, trusting, lines) for n in range(sessions)]
        share = [faults // sessions + (n < faults % sessions) for n in range(sessions)]
        telling = asyncio.create_task(tell_on(victims))
        try:
            return await asyncio.gather(
                *(victim.go_through(count) for victim, count in zip(victims, share, strict=True))
            )
        finally:
            telling.cancel()


def leftovers() -> dict[str, int]:
    """Return what a run may leave behind: descriptors and threads."""
    return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": threading.active_count()}


def main() -> int:
    """Run it as a command, with progress, and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--lines", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()

    def tell(struck: int) -> None:
        took = time.monotonic() - started
        print(f"\r{struck:,} of {options.faults:,} faults, {took:,.0f} s", end="", file=sys.stderr)

    found = asyncio.run(
        torment(options.faults, options.sessions, options.seed, options.lines, tell=tell)
    )
    print(file=sys.stderr)
    problems = [problem for outcome in found for problem in outcome.problems]
    again = sorted(s for outcome in found for s in outcome.live_again_s)
    seen = sorted(s for outcome in found for s in outcome.seen_s)
    print(
        json.dumps(
            {
                "seconds": round(time.monotonic() - started),
                "faults": sum((outcome.struck for outcome in found), Counter()),
                "ends": sum((outcome.ends for outcome in found), Counter()),
                "received": sum(outcome.received for outcome in found),
                "lost": sum(outcome.lost_numbers for outcome in found),
                "losses": sum(outcome.losses for outcome in found),
                "live_again_s": {q: again[int(len(again) * q)] for q in (0.5, 0.99) if again},
                "stale_seen_s": {q: seen[int(len(seen) * q)] for q in (0.5, 0.99) if seen},
                "problems": problems[:20],
            }
        )
    )
    return bool(problems)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
