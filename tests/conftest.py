"""Event loops for tests marked ``transport``; instruction sets for those marked ``kernel``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable, Generator, Mapping

import pytest

from crosswire import isa_levels

_SOCKETS = pytest.StashKey[int]()

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factories() -> dict[str, LoopFactory]:
    """Return the event loops that are here, by name."""
    found: dict[str, LoopFactory] = {"asyncio": asyncio.SelectorEventLoop}
    try:
        import uvloop
    except ImportError:
        return found
    return {**found, "uvloop": uvloop.new_event_loop}


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    """Run a ``transport`` test on every loop, any other on asyncio's own."""
    del config
    known = loop_factories()
    return known if item.get_closest_marker("transport") else {"asyncio": known["asyncio"]}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a ``kernel`` test that takes ``isa`` under every level of this processor."""
    is_kernel = metafunc.definition.get_closest_marker("kernel")
    own = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if is_kernel and "isa" in metafunc.fixturenames and not any("isa" in names for names in own):
        metafunc.parametrize("isa", isa_levels())


def socket_count() -> int:
    """Return how many sockets this process has."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the list itself
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    return count


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep how many sockets there were before a test."""
    item.stash[_SOCKETS] = socket_count()
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Let a test that leaves a socket fail by itself, and not the one that meets its garbage."""
    if socket_count() > item.stash[_SOCKETS]:
        gc.collect()
        left = socket_count() - item.stash[_SOCKETS]
        assert left <= 0, f"{left} sockets are left over"
