"""``crosswire bench rest``: what it prints, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from crosswire.sim.rest_side import ALL_WEIGHT, ONE_WEIGHT, WEIGHT_PER_S


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "crosswire", "bench", *words],
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip


def test_the_three_ways_are_told_and_the_venue_refuses_nothing() -> None:
    done = run("rest", "--seconds", "3", "--symbols", "2", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["symbols"], told["refused"], told["weight_per_s"]) == (2, 0, WEIGHT_PER_S)
    single, batched, streamed = told["ways"]
    assert [way["name"] for way in told["ways"]] == ["single", "batched", "streamed"]
    assert single["weight"] == ONE_WEIGHT * single["requests"]
    assert batched["weight"] == ALL_WEIGHT * batched["requests"]
    for way in (single, batched):
        assert 0 < way["weight"] <= WEIGHT_PER_S * (way["seconds"] + 1)
        assert 0 < way["updates"] <= 2 * way["requests"]
    assert (streamed["requests"], streamed["weight"]) == (1, 0)
    assert streamed["updates"] > 0
    for way in told["ways"]:
        assert way["payload"] > 50 * way["updates"]
        for what in ("age_ms", "latency_ms"):
            assert 0 < way[what]["p50"] <= way[what]["p99"]


def test_the_table_is_for_people() -> None:
    done = run("rest", "--seconds", "3")
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[:2] == ["requests/s", "weight/s"]
    assert [row.split()[0] for row in rows] == ["single", "batched", "streamed"]
    assert "single: 1 s" in done.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [(["rest", "--symbols", "0"], "--symbols"), (["rest", "--seconds", "1"], "within 3..300"),
     (["ticks"], "invalid choice"), ([], "required")],
)  # fmt: skip
def test_wrong_use_is_told(words: list[str], what: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert what in done.stderr
