"""Limits that processes share: the ledger, members in simulated time, and real processes."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from fake_world import FakeSeam, simulate

from crosswire.errors import HostError, LimitError, UsageError
from crosswire.http import Kind, Limiter, Share
from crosswire.http.ledger import Ledger, Stop, Want
from crosswire.limits import Count, Limit, Refusal, VenueLimits
from crosswire.seam import System

S = 10**9
ROLLING = Limit("all", "requests", 100, Count.ROLLING, 1.0)
CALENDAR = Limit("all", "requests", 100, Count.CALENDAR, 1.0)
DECAYING = Limit("all", "requests", 50, Count.DECAYING, per_s=Fraction(50))
REFUSALS = (Refusal(418, is_ban=True, wait_s=30.0), Refusal(429, wait_s=2.0))


def limits_of(*limits: Limit) -> VenueLimits:
    return VenueLimits("toy", "2026-11", "a test", limits, REFUSALS)


def want(units: int, extra: int = 0, amount: int = 100) -> Want:
    return Want(units, extra, amount, hold_ns=S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "toy"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def member(folder: Path) -> Iterator[Callable[[str], Ledger]]:
    """Make members that are gone behind the test."""
    ledgers: list[Ledger] = []

    def make(name: str) -> Ledger:
        ledgers.append(Ledger(folder, name))
        return ledgers[-1]

    yield make
    for ledger in ledgers:
        ledger.close()


Make = Callable[[str], Ledger]


class TestTheLedger:
    def test_what_all_hold_is_never_more_than_there_is(self, member: Make) -> None:
        one, two = member("one"), member("two")
        assert one.exchange(0, {}, {"m": want(60)}, {}).grants == {"m": 60}
        assert two.exchange(0, {}, {"m": want(41)}, {}).grants == {}
        assert two.exchange(0, {}, {"m": want(40)}, {}).grants == {"m": 40}
        reply = one.exchange(0, {}, {"m": want(1)}, {})
        assert (reply.grants, reply.others, reply.holders) == ({}, {"m": 40}, {"m": 2})

    def test_a_want_takes_more_than_it_needs_where_nobody_else_wants(self, member: Make) -> None:
        one = member("one")
        assert one.exchange(0, {}, {"m": want(10, 80)}, {}).grants == {"m": 90}
        assert one.exchange(0, {}, {"m": want(1, 80)}, {}).grants == {"m": 10}

    def test_the_oldest_want_is_met_first(self, member: Make) -> None:
        one, two, three = (member(name) for name in ("one", "two", "three"))
        one.exchange(0, {}, {"m": want(100)}, {})
        assert two.exchange(1, {}, {"m": want(30)}, {}).grants == {}
        assert three.exchange(2, {}, {"m": want(1)}, {}).grants == {}
        assert one.exchange(3, {"m": 75}, {}, {}).wanted == {"m": 31}
        assert three.exchange(4, {}, {"m": want(1)}, {}).grants == {}
        assert two.exchange(5, {}, {"m": want(25)}, {}).grants == {"m": 25}
        one.exchange(6, {"m": 74}, {}, {})
        assert three.exchange(7, {}, {"m": want(1)}, {}).grants == {"m": 1}

    def test_who_left_holds_on_until_nothing_of_it_counts(self, member: Make) -> None:
        one, two = member("one"), member("two")
        one.exchange(0, {}, {"m": want(100)}, {})
        one.leave(5, {"m": 70})
        assert two.exchange(5, {}, {"m": want(30)}, {}).grants == {"m": 30}
        reply = two.exchange(6, {}, {"m": want(1)}, {})
        assert (reply.grants, reply.free_at) == ({}, 5 + S)
        assert two.exchange(5 + S, {}, {"m": want(70)}, {}).grants == {"m": 70}

    def test_who_is_gone_without_a_word_is_found_out_when_something_is_lacking(
        self, folder: Path, member: Make
    ) -> None:
        one, two = member("one"), member("two")
        one.exchange(0, {}, {"m": want(100)}, {})
        assert two.exchange(0, {}, {"m": want(1)}, {}).free_at is None
        one.close()
        assert two.exchange(7, {}, {"m": want(1)}, {}).free_at == 7 + S
        assert two.exchange(6 + S, {}, {"m": want(1)}, {}).grants == {}
        assert two.exchange(7 + S, {}, {"m": want(1)}, {}).grants == {"m": 1}
        assert sorted(path.name for path in folder.glob("*.lock")) == ["two.lock"]

    def test_who_is_gone_without_a_word_holds_up_nobody_who_wants_what_is_free(
        self, member: Make
    ) -> None:
        one, two, three = (member(name) for name in ("one", "two", "three"))
        one.exchange(0, {}, {"m": want(100)}, {})
        assert two.exchange(1, {}, {"m": want(50)}, {}).grants == {}
        two.close()
        one.exchange(2, {"m": 0}, {}, {})
        assert three.exchange(3, {}, {"m": want(10)}, {}).grants == {"m": 10}

    def test_a_refusal_is_told_to_all_and_never_made_shorter_or_milder(self, member: Make) -> None:
        one, two = member("one"), member("two")
        one.exchange(0, {}, {}, {"a": Stop(50, True, "HTTP 418")})
        two.exchange(10, {}, {}, {"a": Stop(40, False, "HTTP 429")})
        assert one.exchange(20, {}, {}, {}).stops == {"a": Stop(50, True, "HTTP 429")}
        assert one.exchange(50, {}, {}, {}).stops == {}
        one.exchange(60, {}, {}, {"a": Stop(70, False, "HTTP 429")})
        assert two.exchange(61, {}, {}, {}).stops == {"a": Stop(70, False, "HTTP 429")}

    def test_where_members_differ_on_the_amount_the_least_counts(self, member: Make) -> None:
        one, two = member("one"), member("two")
        one.exchange(0, {}, {"m": want(5, amount=10)}, {})
        assert two.exchange(0, {}, {"m": want(6, amount=100)}, {}).grants == {}
        assert two.exchange(0, {}, {"m": want(5, amount=100)}, {}).grants == {"m": 5}

    def test_a_folder_that_others_may_enter_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "open"
        folder.mkdir(mode=0o755)
        with pytest.raises(HostError, match="not this user's own"):
            Ledger(folder, "one")
        link = tmp_path / "link"
        link.symlink_to(tmp_path)
        with pytest.raises(HostError, match="not this user's own"):
            Ledger(link, "one")

    def test_a_file_that_is_no_ledger_is_refused_by_name(self, folder: Path) -> None:
        (folder / "ledger.db").write_bytes(b"nothing of the kind" * 100)
        with pytest.raises(HostError, match="cannot be shared in"):
            Ledger(folder, "one")

    def test_what_a_full_disk_refuses_is_raised_and_leaves_nothing(self, member: Make) -> None:
        one, two = member("one"), member("two")
        one.exchange(0, {}, {"m": want(1)}, {})
        pages = one._open_data().execute("PRAGMA page_count").fetchone()[0]
        one._open_data().execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            one.exchange(0, {"m": 0}, {"m" * 10**6: want(1)}, {})
        assert two.exchange(0, {}, {}, {}).others == {"m": 1}
        assert one.exchange(0, {"m": 0}, {"n": want(1)}, {}).grants == {"n": 1}


# ------------------------------------------------------------------ members, in simulated time


class Neighbour(FakeSeam):
    """Seams that nudge each other, a loop turn later."""

    def __init__(self, seed: int, hearers: list[Callable[[], None]]) -> None:
        super().__init__(seed=seed)
        self._hearers = hearers

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        await asyncio.sleep(self._random.uniform(0.0, 0.001))
        return work()

    def open_nudge(self, folder: Path, name: str, on_nudge: Callable[[], None]) -> Any:
        hearers = self._hearers
        hearers.append(on_nudge)

        class Fake:
            def send(self) -> None:
                for hear in hearers:
                    if hear is not on_nudge:
                        asyncio.get_running_loop().call_soon(hear)

            def close(self) -> None:
                hearers.remove(on_nudge)

        return Fake()


class Member:
    """One process's limiter, and callers of it."""

    def __init__(self, limiter: Limiter, seam: FakeSeam, sent: list[tuple[int, int, int]]) -> None:
        self.limiter, self.seam, self.sent = limiter, seam, sent
        self.call = limiter.call("GET /")
        self.passed = 0

    async def ask(self, seconds: float, pause_s: float, rng: random.Random, weight: int) -> None:
        """Send one request after the other."""
        call = self.limiter.call("GET /", costs={"requests": weight})
        end = self.seam.seconds() + seconds
        while (left := end - self.seam.seconds()) > 0:
            try:
                ticket = await self.limiter.acquire(call, limit_s=left)
            except LimitError:
                return
            start = self.seam.monotonic_ns()
            await asyncio.sleep(rng.uniform(0.001, 0.004))
            if rng.random() < 0.02:
                ticket.lost()
            else:
                ticket.answered()
            self.passed += weight
            self.sent.append((start, self.seam.monotonic_ns(), weight))
            await asyncio.sleep(rng.uniform(0.0, 2 * pause_s))


def most_of(limit: Limit, sent: list[tuple[int, int, int]], ahead_ns: int) -> float:
    """Return the most that a venue ever counted, where each request arrived as it was sent."""
    events = sorted((start, weight) for start, _, weight in sent)
    most = 0.0
    if limit.count is Count.DECAYING:
        level, last = Fraction(0), 0
        for at, weight in events:
            level = max(Fraction(0), level - limit.per_s * (at - last) / S) + weight
            last, most = at, max(most, float(level))
        return most
    counts: dict[int, int] = {}
    for n, (at, weight) in enumerate(events):
        if limit.count is Count.CALENDAR:
            ordinal = (at + ahead_ns) // round(limit.length_s * S)
            counts[ordinal] = counts.get(ordinal, 0) + weight
            most = max(most, counts[ordinal])
        else:
            since = at - round(limit.length_s * S)
            inside = sum(w for a, w in events[max(0, n - 2 * limit.amount) : n + 1] if a > since)
            most = max(most, inside)
    return most


def run_members(
    folder: Path, limit: Limit, seed: int, askers: list[tuple[int, float, int]], seconds: float
) -> tuple[list[Member], float]:
    """Let members ask: (callers, pause between requests, weight) of each."""
    rng = random.Random(seed)
    sent: list[tuple[int, int, int]] = []

    async def main() -> tuple[list[Member], float]:
        hearers: list[Callable[[], None]] = []
        members, tasks, shares = [], [], []
        for number, (callers, pause_s, weight) in enumerate(askers):
            seam = Neighbour(seed * 100 + number, hearers)
            share = Share("toy", seam, folder=folder)
            await share.__aenter__()
            shares.append(share)
            limiter = Limiter(
                limits_of(limit), seam, transit_s=0.1, clock_error_s=0.01, share=share
            )
            member = Member(limiter, seam, sent)
            members.append(member)
            tasks += [member.ask(seconds, pause_s, rng, weight) for _ in range(callers)]
        await asyncio.gather(*tasks)
        for share in shares:
            await share.__aexit__(None, None, None)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []
        ahead_ns = seam.time_ns() - seam.monotonic_ns()
        return members, most_of(limit, sent, ahead_ns)

    return simulate(main())


class TestMembers:
    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("limit", [ROLLING, CALENDAR, DECAYING], ids=lambda x: x.count.value)
    def test_together_they_never_pass_a_limit_and_use_it(
        self, tmp_path: Path, limit: Limit, seed: int
    ) -> None:
        rng = random.Random(seed)
        askers = [(rng.randint(1, 30), rng.choice([0.0, 0.01, 0.05]), rng.choice([1, 1, 3, 7]))
                  for _ in range(rng.randint(2, 4))] + [(40, 0.0, 1)]  # fmt: skip
        members, most = run_members(tmp_path, limit, seed, askers, 6.0)
        assert most <= limit.amount
        rate = limit.amount / limit.length_s if limit.length_s else float(limit.per_s)
        assert sum(member.passed for member in members) >= 0.9 * rate * 6.0
        assert all(member.passed for member in members)

    def test_each_gets_an_even_share_where_all_want_everything(self, tmp_path: Path) -> None:
        members, most = run_members(tmp_path, ROLLING, 3, [(30, 0.0, 1)] * 4, 20.0)
        assert most <= 100
        assert all(20 * 25 * 0.8 <= member.passed <= 20 * 25 * 1.2 for member in members)

    def test_who_wants_little_is_hardly_held_up_by_who_wants_everything(
        self, tmp_path: Path
    ) -> None:
        askers = [(40, 0.0, 1), (40, 0.0, 1), (1, 0.1, 1)]
        members, most = run_members(tmp_path, ROLLING, 5, askers, 30.0)
        assert most <= 100
        assert members[2].passed >= 0.75 * 30.0 / 0.1025

    def test_a_ban_stops_all_members(self, tmp_path: Path) -> None:
        async def main() -> None:
            hearers: list[Callable[[], None]] = []
            limiters = []
            shares = [Share("toy", Neighbour(n, hearers), folder=tmp_path) for n in range(3)]
            for share in shares:
                await share.__aenter__()
                limiters.append(Limiter(limits_of(ROLLING), share._seam, share=share))
            calls = [limiter.call("GET /") for limiter in limiters]
            (await limiters[0].acquire(calls[0])).answered(418, [("retry-after", "60")])
            await asyncio.sleep(0.1)
            for limiter, call in zip(limiters, calls, strict=True):
                with pytest.raises(LimitError, match="rate-banned") as caught:
                    await limiter.acquire(call)
                assert 59.0 < caught.value.left_s <= 60.0
                assert limiter.stopped_s(call) == caught.value.left_s
            await asyncio.sleep(60.0)
            for limiter, call in zip(limiters, calls, strict=True):
                (await limiter.acquire(call)).answered()
            for share in shares:
                await share.__aexit__(None, None, None)

        simulate(main())

    def test_a_429_of_one_stops_the_others_but_for_cancels(self, tmp_path: Path) -> None:
        async def main() -> None:
            hearers: list[Callable[[], None]] = []
            shares = [Share("toy", Neighbour(n, hearers), folder=tmp_path) for n in range(2)]
            one, two = [
                Limiter(limits_of(ROLLING), share._seam, share=await share.__aenter__())
                for share in shares
            ]
            (await one.acquire(one.call("GET /"))).answered(429)
            await asyncio.sleep(0.1)
            with pytest.raises(LimitError, match="rate-limited"):
                await two.acquire(two.call("GET /"), limit_s=1.0)
            (await two.acquire(two.call("GET /", kind=Kind.CANCEL), limit_s=1.0)).answered()
            (await two.acquire(two.call("GET /"), limit_s=1.0)).answered()
            for share in shares:
                await share.__aexit__(None, None, None)

        simulate(main())

    def test_what_the_ledger_did_not_take_is_told_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As where its disk is full for a while."""

        async def main() -> None:
            hearers: list[Callable[[], None]] = []
            shares = [Share("toy", Neighbour(n, hearers), folder=tmp_path) for n in range(2)]
            one, two = [
                Limiter(limits_of(ROLLING), share._seam, share=await share.__aenter__())
                for share in shares
            ]
            whole = two.call("GET /", costs={"requests": 100})
            (await one.acquire(one.call("GET /"), limit_s=1.0)).answered()

            def refuse(*_: Any) -> Any:
                raise sqlite3.OperationalError("database or disk is full")

            with monkeypatch.context() as patch:
                patch.setattr(Ledger, "exchange", refuse)
                waiting = asyncio.ensure_future(two.acquire(whole, limit_s=60.0))
                await asyncio.sleep(10.0)
                assert not waiting.done()
                (await one.acquire(one.call("GET /"), limit_s=0.0)).answered(429)
                await asyncio.sleep(1.0)
            (await waiting).answered()
            assert two.stopped_s(whole) == 0.0
            for share in shares:
                await share.__aexit__(None, None, None)

        simulate(main())
        told = [record for record in caplog.records if record.name.endswith("share")]
        assert [record.exc_info is not None for record in told] == [True, True]  # each once

    def test_a_ban_that_was_not_told_yet_is_no_milder_for_a_429_behind_it(
        self, tmp_path: Path
    ) -> None:
        async def main() -> None:
            hearers: list[Callable[[], None]] = []
            shares = [Share("toy", Neighbour(n, hearers), folder=tmp_path) for n in range(2)]
            one, two = [
                Limiter(limits_of(ROLLING), share._seam, share=await share.__aenter__())
                for share in shares
            ]
            tickets = [await one.acquire(one.call("GET /")) for _ in range(2)]
            tickets[0].answered(418)
            tickets[1].answered(429)
            await asyncio.sleep(0.1)
            with pytest.raises(LimitError, match="rate-banned") as caught:
                await two.acquire(two.call("GET /"))
            assert caught.value.left_s > 29.0
            for share in shares:
                await share.__aexit__(None, None, None)

        simulate(main())

    def test_who_is_cancelled_while_it_leaves_leaves_all_the_same(self, tmp_path: Path) -> None:
        async def main() -> None:
            hearers: list[Callable[[], None]] = []
            share = Share("toy", Neighbour(1, hearers), folder=tmp_path)
            limiter = Limiter(
                limits_of(ROLLING), share._seam, transit_s=0.1, share=await share.__aenter__()
            )
            (await limiter.acquire(limiter.call("GET /", costs={"requests": 100}))).answered()
            leaving = asyncio.ensure_future(share.__aexit__(None, None, None))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert hearers == []
            await asyncio.sleep(1.2)
            async with Share("toy", Neighbour(2, hearers), folder=tmp_path) as other:
                limiter = Limiter(limits_of(ROLLING), other._seam, share=other)
                whole = limiter.call("GET /", costs={"requests": 100})
                (await limiter.acquire(whole, limit_s=0.1)).answered()

        simulate(main())

    def test_who_cannot_be_nudged_is_no_member(self, tmp_path: Path) -> None:
        class Deaf(FakeSeam):
            def open_nudge(self, folder: Path, name: str, on_nudge: Callable[[], None]) -> Any:
                raise OSError("AF_UNIX path too long")

        async def main() -> None:
            share = Share("toy", Deaf(), folder=tmp_path)
            with pytest.raises(HostError, match="too long"):
                await share.__aenter__()
            with pytest.raises(UsageError, match="to be entered"):
                Limiter(limits_of(ROLLING), share._seam, share=share)

        simulate(main())

    def test_who_only_tries_is_given_what_is_lacking_a_little_later(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with Share("toy", Neighbour(1, []), folder=tmp_path) as share:
                limiter = Limiter(limits_of(ROLLING), share._seam, share=share)
                call = limiter.call("GET /")
                assert limiter.try_acquire(call) is None
                await asyncio.sleep(0.01)
                ticket = limiter.try_acquire(call)
                assert ticket is not None
                ticket.answered()

        simulate(main())

    def test_a_ban_until_the_year_9999_is_told_to_all(self, tmp_path: Path) -> None:
        async def main() -> None:
            hearers: list[Callable[[], None]] = []
            shares = [Share("toy", Neighbour(n, hearers), folder=tmp_path) for n in range(2)]
            one, two = [
                Limiter(limits_of(ROLLING), share._seam, share=await share.__aenter__())
                for share in shares
            ]
            until = [("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")]
            (await one.acquire(one.call("GET /"))).answered(418, until)
            await asyncio.sleep(0.1)
            with pytest.raises(LimitError, match="rate-banned"):
                await two.acquire(two.call("GET /"), limit_s=1.0)
            for share in shares:
                await share.__aexit__(None, None, None)

        simulate(main())

    def test_an_exchange_that_is_cancelled_before_it_begins_is_begun_anew(
        self, tmp_path: Path
    ) -> None:
        async def main() -> None:
            async with Share("toy", Neighbour(1, []), folder=tmp_path) as share:
                limiter = Limiter(limits_of(ROLLING), share._seam, share=share)
                call = limiter.call("GET /")
                assert limiter.try_acquire(call) is None
                assert share._task
                share._task.cancel()
                await asyncio.sleep(0.01)
                (await limiter.acquire(call, limit_s=1.0)).answered()

        simulate(main())

    def test_an_exchange_that_is_cancelled_loses_nothing_and_meets_no_other(
        self, tmp_path: Path
    ) -> None:
        """As where a program cancels all of its tasks: SQLite crashes where two threads use one
        connection."""
        running, most = 0, 0

        def slow(work: Callable[[], Any]) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            begun.set()
            go_on.wait(10.0)
            result = work()
            running -= 1
            return result

        async def main() -> None:
            nonlocal real
            async with Share("toy", System(), folder=tmp_path) as share:
                limiter = Limiter(limits_of(ROLLING), share._seam, share=share)
                ledger = share._ledger
                assert ledger
                real = ledger.exchange
                ledger.exchange = lambda *told: slow(lambda: real(*told))  # type: ignore[method-assign]
                whole = limiter.call("GET /", costs={"requests": 100})
                assert limiter.try_acquire(whole) is None
                assert await asyncio.to_thread(begun.wait, 10.0)
                assert share._task
                share._task.cancel()
                await asyncio.wait([share._task])
                waiting = asyncio.ensure_future(limiter.acquire(whole, limit_s=10.0))
                await asyncio.sleep(0)
                go_on.set()
                (await waiting).answered()

        real: Any = None
        begun, go_on = threading.Event(), threading.Event()
        asyncio.run(main())
        assert most == 1

    def test_a_limiter_whose_share_was_left_lets_nothing_through(self, tmp_path: Path) -> None:
        async def main() -> None:
            share = Share("toy", Neighbour(1, []), folder=tmp_path)
            async with share:
                limiter = Limiter(limits_of(ROLLING), share._seam, share=share)
                call = limiter.call("GET /")
                many = limiter.call("GET /", costs={"requests": 100})
                (await limiter.acquire(call)).answered()
                waiting = asyncio.ensure_future(limiter.acquire(many))
                await asyncio.sleep(0.01)
                assert not waiting.done()
            with pytest.raises(LimitError, match="rate-left"):
                await waiting
            with pytest.raises(LimitError, match="rate-left"):
                limiter.try_acquire(call)
            with pytest.raises(LimitError, match="rate-left"):
                await limiter.acquire(call)
            assert limiter.waiting == 0

        simulate(main())

    def test_misuse_is_named(self, tmp_path: Path) -> None:
        async def main() -> None:
            seam = Neighbour(1, [])
            share = Share("toy", seam, folder=tmp_path)
            with pytest.raises(UsageError, match="to be entered"):
                Limiter(limits_of(ROLLING), seam, share=share)
            async with share:
                Limiter(limits_of(ROLLING), seam, share=share)
                with pytest.raises(UsageError, match="for one limiter"):
                    Limiter(limits_of(ROLLING), seam, share=share)

        simulate(main())
        for name in ("../up", "", "A", "a" * 41, "a/b"):
            with pytest.raises(UsageError, match="up to 40"):
                Share(name, FakeSeam())


# ------------------------------------------------------------------ processes

CHILD = """
import asyncio, json, sys
from pathlib import Path
from crosswire.http import Limiter, Share
from crosswire.limits import Count, Limit, VenueLimits
from crosswire.seam import System

async def main(folder, seconds, name):
    seam = System()
    limits = VenueLimits("toy", "", "", (Limit("all", "requests", 100, Count.ROLLING, 1.0),), ())
    sent = open(name, "w")  # closed with the process
    async with Share("toy", seam, folder=Path(folder)) as share:
        limiter = Limiter(limits, seam, transit_s=0.1, share=share)
        call = limiter.call("GET /")
        print("ready", flush=True)
        end = seam.monotonic_ns() + round(seconds * 1e9)
        async def ask():
            while seam.monotonic_ns() < end:
                ticket = await limiter.acquire(call)
                print(seam.monotonic_ns(), file=sent, flush=True)
                await asyncio.sleep(0.001)
                ticket.answered()
        await asyncio.gather(*(ask() for _ in range(8)))

asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3]))
"""


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Callable[[str, float], subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def start(name: str, seconds: float) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(seconds), str(tmp_path / name)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(child)
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        return child

    yield start
    for child in running:
        child.kill()
        child.communicate()


def test_processes_never_pass_a_limit_together_also_when_one_is_killed(
    tmp_path: Path, children: Callable[[str, float], subprocess.Popen[str]]
) -> None:
    """Two share for a second, one of them is killed; a third comes, and there is room for it again
    once what the killed one held is over."""
    one, two = children("one", 4.0), children("two", 60.0)
    while len((tmp_path / "two").read_text().splitlines()) < 20:
        assert two.poll() is None
    two.send_signal(signal.SIGKILL)
    two.wait()
    three = children("three", 2.0)
    assert one.wait(30) == three.wait(30) == 0
    sent = {
        name: sorted(int(line) for line in (tmp_path / name).read_text().split("\n")[:-1])
        for name in ("one", "two", "three")
    }
    assert all(len(stamps) >= 20 for stamps in sent.values()), json.dumps(
        {name: len(stamps) for name, stamps in sent.items()}
    )
    every = sorted(stamp for stamps in sent.values() for stamp in stamps)
    assert max(n + 1 - sum(s <= at - S for s in every) for n, at in enumerate(every)) <= 100
