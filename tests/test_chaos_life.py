"""Sessions over real sockets and through faults, and redundant lines: see ``chaos_life``."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import numpy as np
import pytest
from chaos_life import leftovers, torment
from fake_world import LAYOUT, quote_text

from crosswire.codec import encode_frame
from crosswire.engine import Engine
from crosswire.line import Line
from crosswire.sim import FAULT_KINDS

FAULTS = 2000


def problems_of(faults: int, sessions: int, seed: int, lines: int = 1) -> tuple[list[str], int]:
    """Let sessions suffer; returns what broke a rule, and how many losses there were."""
    before = leftovers()
    found = asyncio.run(torment(faults, sessions, seed, lines))
    assert leftovers() == before
    struck: Counter[str] = sum((outcome.struck for outcome in found), Counter())
    assert sum(struck.values()) == faults
    assert set(struck) == set(FAULT_KINDS)
    assert all(outcome.received for outcome in found)
    problems = [problem for outcome in found for problem in outcome.problems]
    return problems, sum(outcome.losses for outcome in found)


@pytest.mark.timeout(600)
def test_whatever_strikes_what_is_lost_is_declared_and_nothing_else_is() -> None:
    problems, losses = problems_of(FAULTS, 40, seed=4)
    assert problems == []
    assert losses > FAULTS / 10


@pytest.mark.timeout(600)
def test_two_lines_lose_nothing_while_one_of_them_lives() -> None:
    problems, losses = problems_of(300, 30, seed=5, lines=2)
    assert problems == []
    assert losses == 0


@pytest.mark.parametrize("seed", range(5))
def test_two_lines_are_younger_in_the_tail_than_the_better_of_them(seed: int) -> None:
    """In simulated time: a quote each ms, each line late by a few ms and now and then by far more;
    the age of what stands in the top, looked at each 100 us."""
    rng = random.Random(seed)
    count = 20_000
    arrivals: list[list[int]] = []
    for _ in range(2):
        late, at = 0.0, []
        for number in range(count):
            late = max(0.0, late - 1e6)
            if rng.random() < 0.002:
                late = rng.uniform(5e6, 60e6)
            sent = number * 10**6
            at.append(max(at[-1] if at else 0, sent + round(3e6 + rng.expovariate(1e-6) + late)))
        arrivals.append(at)

    def ages(lines: list[int]) -> np.ndarray:
        engine = Engine(instruments_max=1, pairs_max=0, lines_max=2, venues_max=1, signals_max=2)
        engine.add_venue("small", LAYOUT)
        engine.add_instrument("small", "BTCUSDT", fee_bps=0.0)
        members = [Line(engine, "small", group=1) for _ in lines]
        for line in members:
            line.open(1, 1)
        steps = sorted(
            (at, which, number)
            for which in range(len(lines))
            for number, at in enumerate(arrivals[lines[which]])
        )
        found, place = [], 0
        for look in range(100 * 10**6, count * 10**6, 10**5):
            while place < len(steps) and steps[place][0] <= look:
                at, which, number = steps[place]
                text = quote_text("BTCUSDT", number + 1, "1", "2")
                members[which].feed(encode_frame(1, text.encode()), at + 2, at + 2)
                place += 1
            found.append(look - (engine.top(0).seq - 1) * 10**6)
        return np.asarray(found)

    both, one, other = (np.quantile(ages(lines), 0.999) for lines in ([0, 1], [0], [1]))
    assert both < min(one, other)
