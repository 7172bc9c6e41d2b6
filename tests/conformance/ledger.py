"""What the suite said, run by run, and of which source: ``LEDGER.json``, one line a run.

A run is told by its set, its role, the size of its reads (0: whole) and whether it went through
TLS. Its line holds how many cases got each verdict, on their messages and on their ends, and the
hash of the source that was tested.
"""

from __future__ import annotations

import collections
import hashlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATH = Path(__file__).with_name("LEDGER.json")
KERNELS = "base buffer deflate frame inflate ops ops_* receiver utf8 zlib_heap"
HEADERS = "base buffer deflate frame heap inflate ops receiver utf8"
"""What the codec runs. The ``ops_*`` hold the line's parser and the scanner as well, which no echo
peer calls; their own parts (``line_*``, ``scan_*``) and the books behind them are left out."""
SOURCES = (
    *(f"csrc/{name}.[ch]" for name in KERNELS.split()),
    *(f"src/crosswire/include/crosswire/{name}.h" for name in HEADERS.split()),
    "src/crosswire/codec.pyx",
    "src/crosswire/connection.pyx",
    "src/crosswire/handshake.py",
    "src/crosswire/receive/websocket.py",
    "examples/echo_*.py",
)
ORDER = ["set", "role", "read_size", "tls"]
SETS = ["core", "limits", "deflate"]

Verdicts = dict[str, tuple[str, str]]


def source_hash() -> str:
    """Return one hash of the names and bytes of the codec's source."""
    whole = hashlib.sha256()
    for path in sorted({path for pattern in SOURCES for path in ROOT.glob(pattern)}):
        data = path.read_bytes()
        whole.update(f"{path.relative_to(ROOT).as_posix()} {len(data)}\n".encode() + data)
    return whole.hexdigest()


def read() -> list[dict[str, Any]]:
    return json.loads(PATH.read_text()) if PATH.exists() else []


def row_of(run: dict[str, Any], verdicts: Verdicts, suite: str, source: str) -> dict[str, Any]:
    """Return the line of one run; ``run`` has the keys of ORDER."""
    counts = [collections.Counter(both) for both in zip(*verdicts.values(), strict=True)]
    return {
        **{key: run[key] for key in ORDER},
        "cases": len(verdicts),
        "messages": dict(sorted(counts[0].items())),
        "ends": dict(sorted(counts[1].items())),
        "suite": suite,
        "source": source,
    }


def write(row: dict[str, Any]) -> None:
    """Put a line in the place of the one of the same run."""
    rows = [old for old in read() if any(old[key] != row[key] for key in ORDER)]
    rows.append(row)
    rows.sort(key=lambda row: (SETS.index(row["set"]), row["role"], row["tls"], row["read_size"]))
    PATH.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
