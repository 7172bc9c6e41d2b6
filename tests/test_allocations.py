"""Nothing allocates between a read and the ring: counted beneath a living interpreter.

``tests/c/test_alloc.c`` holds it for the kernels alone, over a million messages.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMPS = 2  # integers of the clocks, one pair a read


def test_a_line_adds_nothing_to_what_loop_and_tls_allocate_but_its_stamps() -> None:
    command = [sys.executable, "-m", "benchmarks.allocations", "--json"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = {row["name"]: row for row in json.loads(told.stdout)["rows"]}
    assert round(rows.pop("no loop")["ours"], 2) == 0
    assert len(rows) == 4
    for row in rows.values():
        assert row["counting"] > 0
        assert row["ours"] - row["counting"] <= STAMPS + 0.05, row
