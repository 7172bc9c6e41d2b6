"""Event loops for tests marked ``transport``; instruction sets for those marked ``kernel``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from crosswire import isa_levels

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
