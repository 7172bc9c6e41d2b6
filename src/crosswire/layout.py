"""Compile a venue's :class:`~crosswire.venue.Layout` to the tables of the scanner."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .errors import UsageError
from .venue import Field, Layout, Message, Record, Slot

__all__ = ["CompiledLayout", "CompiledMessage", "CompiledNode", "compile_layout"]

NO_SLOT = 0xFF
EACH = 0xFFFF
KEY = 0xFFFE
_TOKEN = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d*)\]")

Step = str | int
"""A key, an index of an array, or EACH."""


@dataclass
class CompiledNode:
    """One row of ``cw_layout_node``."""

    key: bytes
    index: int
    slot: int
    child_first: int
    child_count: int


@dataclass
class CompiledMessage:
    """One row of ``cw_layout_message``."""

    tag: bytes
    record: int
    kind: int
    required: int
    any_of: int
    used: int
    text: list[int]


@dataclass
class CompiledLayout:
    """The tables, and the names of the kinds that ``kind`` counts."""

    nodes: list[CompiledNode]
    messages: list[CompiledMessage]
    each_node: int
    word: bytes
    kinds: tuple[str, ...]


@dataclass
class _Node:
    step: Step
    slot: int = NO_SLOT
    children: dict[Step, _Node] = field(default_factory=dict)
    is_envelope: bool = False


def _steps(path: str) -> list[Step]:
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _TOKEN.match(path, at)
        if not found:
            raise UsageError(f"layout path {path!r} cannot be read at character {at}")
        key, index = found.groups()
        steps.append(key if key else int(index) if index else EACH)
        at = found.end()
    return steps


def _insert(root: _Node, path: str, slot: Slot) -> None:
    node = root
    for step in _steps(path):
        node = node.children.setdefault(step, _Node(step))
    if node.slot not in (NO_SLOT, slot):
        raise UsageError(f"layout path {path!r} has two meanings")
    node.slot = slot


def _flatten(root: _Node) -> tuple[list[CompiledNode], int]:
    """Number the tree breadth first, so that children are contiguous."""
    order = [root]
    nodes: list[CompiledNode] = []
    each_node = EACH
    for node in order:
        is_key = isinstance(node.step, str)
        index = KEY if isinstance(node.step, str) else node.step
        if index == EACH:
            each_node = len(nodes)
        key = str(node.step).encode() if is_key else b""
        nodes.append(CompiledNode(key, index, node.slot, len(order), len(node.children)))
        order.extend(node.children.values())
    for node, row in zip(order, nodes, strict=True):
        if node.is_envelope:  # what may stand at the root may stand here
            row.child_first, row.child_count = nodes[0].child_first, nodes[0].child_count
    return nodes, each_node


def _bits(slots: Iterable[Slot]) -> int:
    return sum(1 << slot for slot in set(slots))


def _check_records(message: Message) -> None:
    """In a message of many records, symbol and tag are read once for all of them, and everything
    else from each."""
    inside = {EACH in _steps(path): path for path in message.fields}
    if message.record is Record.COUNTED or True not in inside:
        return
    for path, item in message.fields.items():
        if (EACH in _steps(path)) == (item.slot in (Slot.SYMBOL, Slot.TAG)):
            raise UsageError(
                f"layout path {path!r}: symbol and tag stand outside of the records in "
                f"{inside[True]!r}, all other fields inside"
            )


def _message(message: Message, kind: int) -> CompiledMessage:
    fields: list[Field] = list(message.fields.values())
    text = [0] * len(Slot)
    for item in fields:
        text[item.slot] = item.text
    return CompiledMessage(
        tag=(message.tag or "").encode(),
        record=message.record,
        kind=kind,
        required=_bits(item.slot for item in fields if item.is_required),
        any_of=_bits(message.any_of),
        used=_bits(item.slot for item in fields),
        text=text,
    )


def compile_layout(layout: Layout) -> CompiledLayout:
    """Return the tables of a layout.

    Raises:
        UsageError: a path cannot be read, has two meanings, or stands on the wrong side of an
            array of records.
    """
    root = _Node("")
    for message in layout.messages:
        _check_records(message)
        for path, item in message.fields.items():
            _insert(root, path, item.slot)
    if layout.control:
        _insert(root, layout.control, Slot.CONTROL)
    if layout.envelope:
        root.children[layout.envelope] = _Node(layout.envelope, is_envelope=True)
    nodes, each_node = _flatten(root)
    kinds = tuple(dict.fromkeys(message.kind for message in layout.messages))
    return CompiledLayout(
        nodes=nodes,
        messages=[_message(m, kinds.index(m.kind)) for m in layout.messages],
        each_node=each_node,
        word=layout.word.encode(),
        kinds=kinds,
    )
