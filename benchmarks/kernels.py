"""Loops in C around single kernels, built on demand: what a kernel costs where kernels call it."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FLAGS = "-O3 -std=c11 -ffp-contract=off -fno-tree-slp-vectorize -fvisibility=hidden -shared -fPIC"
"""As setup.py builds the kernels."""


class MissingCompilerError(Exception):
    """There is no C compiler."""


def build(sources: Sequence[Path]) -> ctypes.CDLL:
    """Compile sources, with the kernels' headers at hand, and load what that gives.

    Raises:
        MissingCompilerError: there is no compiler.
    """
    compiler = os.environ.get("CC", "cc").split()
    if shutil.which(compiler[0]) is None:
        raise MissingCompilerError(f"rows in C need a C compiler; {compiler[0]} is not there")
    includes = [f"-I{ROOT / 'src' / 'crosswire' / 'include'}", f"-I{ROOT / 'csrc'}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "built.so"
        command = [*compiler, *FLAGS.split(), *includes, *map(str, sources), "-lz", "-lm"]
        subprocess.run([*command, "-o", str(path)], check=True)
        return ctypes.CDLL(str(path))


@functools.cache
def library() -> ctypes.CDLL:
    """Build ``kernels.c`` with the kernels, and load it.

    Raises:
        MissingCompilerError: there is none.
    """
    found = build([ROOT / "benchmarks" / "kernels.c", *sorted((ROOT / "csrc").glob("*.c"))])
    for name in ("walk_headers", "copy_blocks", "unmask_blocks", "check_ascii", "inflate_messages"):
        getattr(found, name).restype = ctypes.c_size_t
    return found


def _of(data: bytearray) -> tuple[ctypes.Array[ctypes.c_char], ctypes.c_size_t]:
    return (ctypes.c_char * len(data)).from_buffer(data), ctypes.c_size_t(len(data))


def _job(name: str, expected: int, *arguments: Any) -> Callable[[], None]:
    """Return a call of a loop with ready-made arguments, which checks what the loop returns."""
    loop = getattr(library(), name)

    def run() -> None:
        found = loop(*arguments)
        if found != expected:
            raise RuntimeError(f"{name}: {found} bytes instead of {expected}")

    return run


def walk_headers(frames: bytearray, payloads: int, times: int) -> Callable[[], None]:
    """Return a job that reads all frame headers, ``times`` times."""
    return _job("walk_headers", times * payloads, ctypes.c_size_t(times), *_of(frames))


def copy_blocks(data: bytearray, size: int, times: int) -> Callable[[], None]:
    """Return a job that copies ``size`` bytes at a time to the same place."""
    target = (ctypes.c_char * size)()
    whole = len(data) // size * size
    t, n = ctypes.c_size_t(times), ctypes.c_size_t(size)
    return _job("copy_blocks", times * whole, t, *_of(data), n, target)


def unmask_blocks(data: bytearray, size: int, times: int) -> Callable[[], None]:
    """Return a job that unmasks ``size`` bytes at a time in place."""
    whole = len(data) // size * size
    t, n = ctypes.c_size_t(times), ctypes.c_size_t(size)
    return _job("unmask_blocks", times * whole, t, *_of(data), n)


def check_ascii(data: bytearray, size: int, times: int) -> Callable[[], None]:
    """Return a job that looks for a high bit in ASCII, ``size`` bytes at a time."""
    whole = len(data) // size * size
    t, n = ctypes.c_size_t(times), ctypes.c_size_t(size)
    return _job("check_ascii", times * whole, t, *_of(data), n)


def inflate_messages(
    messages: Sequence[bytes], expected: int, *, keeps_context: bool
) -> Callable[[], None]:
    """Return a job that reads compressed messages, ``expected`` bytes of text, with one stream."""
    data = bytearray(b"".join(struct.pack("=I", len(m)) + m for m in messages))
    return _job("inflate_messages", expected, *_of(data), ctypes.c_int(keeps_context))
