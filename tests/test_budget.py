"""How many connects may begin: never more than the windows allow, whoever waits or leaves."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from itertools import pairwise

import pytest
from fake_world import FakeSeam, Peer, World, simulate

from crosswire.budget import CONNECTS_MAX, ConnectBudget
from crosswire.seam import Seam, System


def most_in(moments: list[float], span_s: float) -> int:
    """Return the most moments, in s, that lie in any half-open window, the slow way and in ns."""
    whole = [round(at * 1e9) for at in moments]
    span = round(span_s * 1e9)
    return max((sum(start <= at < start + span for at in whole) for start in whole), default=0)


class TestConnectBudget:
    def test_as_many_as_the_window_holds_begin_at_once_and_the_next_when_it_is_over(self) -> None:
        async def main() -> list[float]:
            seam, budget, begun = FakeSeam(), ConnectBudget(3, 2.0), []
            for _ in range(7):
                await budget.admit(seam, "here")
                begun.append(seam.seconds())
            return begun

        assert simulate(main()) == pytest.approx([0, 0, 0, 2, 2, 2, 4])

    def test_it_is_first_come_first_served(self) -> None:
        async def main() -> dict[int, float]:
            seam, budget, begun = FakeSeam(), ConnectBudget(2, 1.0), {}

            async def connect(number: int) -> None:
                await budget.admit(seam, "here")
                begun[number] = seam.seconds()

            await asyncio.gather(*(connect(number) for number in range(11)))
            return begun

        begun = simulate(main())
        assert [begun[n] for n in range(11)] == pytest.approx([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5])

    def test_a_place_that_is_full_holds_up_no_other(self) -> None:
        async def main() -> dict[str, float]:
            seam, budget, begun = FakeSeam(), ConnectBudget(10, 1.0), {}

            async def connect(name: str, place: str, limit: tuple[int, float] | None) -> None:
                await budget.admit(seam, place, limit)
                begun[name] = seam.seconds()

            await asyncio.gather(
                *(connect(f"slow {n}", "slow", (1, 5.0)) for n in range(4)),
                *(connect(f"fast {n}", "fast", (8, 1.0)) for n in range(6)),
            )
            return begun

        begun = simulate(main())
        assert [begun[f"slow {n}"] for n in range(4)] == pytest.approx([0, 5, 10, 15])
        assert [begun[f"fast {n}"] for n in range(6)] == [0.0] * 6

    @pytest.mark.parametrize("seed", range(40))
    def test_no_window_ever_holds_more_however_callers_come_stall_and_leave(
        self, seed: int
    ) -> None:
        async def main() -> tuple[list[float], dict[str, list[float]], int]:
            rng = random.Random(seed)
            seam = FakeSeam()
            budget = ConnectBudget(rng.randint(1, 6), rng.choice([0.5, 1.0, 3.0]))
            limits = {
                "a": None,
                "b": (rng.randint(1, 4), rng.choice([0.3, 1.0, 7.0])),
                "c": (rng.randint(1, 9), 2.0),
            }
            begun: dict[str, list[float]] = {place: [] for place in limits}
            left = 0

            async def connect(place: str, arrives_s: float, patience_s: float) -> None:
                nonlocal left
                await asyncio.sleep(arrives_s)
                try:
                    async with asyncio.timeout(patience_s):
                        await budget.admit(seam, place, limits[place])
                except TimeoutError:
                    left += 1
                else:
                    begun[place].append(seam.seconds())

            async def stall() -> None:
                """Hold the loop up, as work that takes long does."""
                for _ in range(5):
                    await asyncio.sleep(rng.uniform(0, 4))
                    asyncio.get_running_loop().now += rng.uniform(0, 3)  # type: ignore[attr-defined]

            await asyncio.gather(
                stall(),
                *(
                    connect(
                        rng.choice("abc"), rng.choice([0, rng.uniform(0, 9)]), rng.choice([1, 1e6])
                    )
                    for _ in range(60)
                ),
            )
            whole = sorted(at for moments in begun.values() for at in moments)
            assert most_in(whole, budget._all.span_ns / 1e9) <= budget._all.count
            for place, limit in limits.items():
                if limit:
                    assert most_in(begun[place], limit[1]) <= limit[0]
            return whole, begun, left

        whole, begun, left = simulate(main())
        assert len(whole) + left == 60
        assert simulate(main()) == (whole, begun, left)

    def test_whoever_leaves_gives_the_turn_back(self) -> None:
        async def main() -> float:
            seam, budget = FakeSeam(), ConnectBudget(1, 10.0)
            await budget.admit(seam, "here")
            waiting = [asyncio.ensure_future(budget.admit(seam, "here")) for _ in range(5)]
            await asyncio.sleep(1)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await budget.admit(seam, "here")
            return seam.seconds()

        assert simulate(main()) == pytest.approx(10.0)

    def test_what_is_past_is_forgotten(self) -> None:
        async def main() -> int:
            seam, budget = FakeSeam(), ConnectBudget(5, 1.0)
            for _ in range(500):
                await budget.admit(seam, "here", (2, 3.0))
            return len(budget._all.moments) + sum(len(w.moments) for w in budget._places.values())

        assert simulate(main()) < 20

    def test_threads_share_it(self) -> None:
        budget = ConnectBudget(50, 1.0)

        class Stopped(Seam):
            """A world whose time stands still until everybody waits."""

            def monotonic_ns(self) -> int:
                return 0

            async def sleep(self, seconds: float) -> None:
                raise TimeoutError

        admitted: Counter[bool] = Counter()
        lock = threading.Lock()

        def work() -> None:
            for _ in range(40):
                try:
                    asyncio.run(budget.admit(Stopped(), "here"))
                    is_admitted = True
                except TimeoutError:
                    is_admitted = False
                with lock:
                    admitted[is_admitted] += 1

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert admitted == {True: 50, False: 110}

    def test_the_real_world_has_one_for_the_process_and_a_simulated_one_its_own(self) -> None:
        assert System().connect_budget is System().connect_budget
        assert Seam().connect_budget is not Seam().connect_budget


class TestSessions:
    def test_200_streams_that_are_cut_at_once_connect_within_the_budget(self) -> None:
        async def main() -> None:
            shared = FakeSeam([Peer()])
            worlds = [World() for _ in range(200)]
            for world in worlds:
                world.seam = world.session.seam = shared
                world.start()
            for world in worlds:
                await world.reach("live")
            first = list(shared.connects)
            assert len(first) == 200
            assert most_in(first, 1.0) == CONNECTS_MAX
            assert first[-1] == pytest.approx(9.0)
            for peer in list(shared.met):
                peer.cut()
            await asyncio.sleep(0.001)
            for world in worlds:
                await world.reach("live")
            again = shared.connects[200:]
            assert len(again) == 200
            assert most_in(shared.connects, 1.0) == CONNECTS_MAX
            # nobody waits for longer than the budget makes them
            assert again[-1] - again[0] < 10.5
            assert all(b - a < 1.0 for a, b in pairwise(again))
            for world in worlds:
                await world.stop()

        simulate(main())

    def test_a_venue_that_takes_few_connects_is_given_no_more(self) -> None:
        async def main() -> None:
            shared = FakeSeam([Peer()])
            worlds = [World(connect_limit=(3, 1.0)) for _ in range(12)]
            for world in worlds:
                world.seam = world.session.seam = shared
                world.start()
            for world in worlds:
                await world.reach("live")
            assert most_in(shared.connects, 1.0) == 3
            for world in worlds:
                await world.stop()

        simulate(main())

    def test_stopping_breaks_off_the_wait(self) -> None:
        async def main() -> None:
            world = World(connect_limit=(1, 1000.0))
            await world.seam.connect_budget.admit(world.seam, "small 127.0.0.1", (1, 1000.0))
            world.start()
            await asyncio.sleep(5)
            assert world.session.state.value == "idle"
            await world.stop()
            assert world.seam.connects == []
            assert world.session.state.value == "stopped"

        simulate(main())
