"""Orders to a simulated venue full of faults: see ``venue_faults``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from venue_faults import faults, run_faults


@pytest.mark.transport
@pytest.mark.timeout(240)
@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_no_order_is_sent_twice_and_each_ends_once(
    version: str, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    count = 1200 if version == "1.1" else 600
    with asyncio.Runner(loop_factory=loop) as runner:
        run = runner.run(run_faults(version, seed=3, count=count))
    assert run.problems == []
    assert sum(run.ends.values()) == count
    struck = {fault for fault, _ in run.ends}
    assert struck >= {fault.kind for fault in faults() if fault.suits(version)}
    assert run.resumed >= run.connects // 2 > 0
