"""A configuration under faults, on local venues: what is refused, what is told, what is found."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosswire import SIGNAL_DTYPE, Runtime, UsageError, parse_config
from crosswire.cli import main
from crosswire.sim import FAULT_KINDS
from crosswire.trial import Trial

PAIR = {"a": "binance:BTC/USDT", "b": "okx:BTC/USDT"}
TOML = '[venues.binance]\nlines = 2\n[[pair]]\na = "binance:BTC/USDT"\nb = "okx:BTC/USDT"\n'


def test_what_cannot_be_tried_is_refused() -> None:
    with pytest.raises(UsageError, match="has no pair"):
        Trial(parse_config({}))
    with pytest.raises(UsageError, match="unknown fault 'flood'; known are cut, "):
        Trial(parse_config({"pair": [PAIR]}), kinds=("cut", "flood"))
    with pytest.raises(UsageError, match="no fault is named; known are cut, "):
        Trial(parse_config({"pair": [PAIR]}), kinds=())
    slow = {"okx": {"liveness_limit_s": 3600}}
    with pytest.raises(UsageError, match=r"venues\.okx\.liveness_limit_s = 3600 .* 600 s are the"):
        Trial(parse_config({"pair": [PAIR], "venues": slow}), kinds=("stall",))


def test_a_signal_of_an_old_quote_is_held_against_its_own_venues_limit() -> None:
    limits = {"binance": {"liveness_limit_s": 1.0}, "okx": {"liveness_limit_s": 5.0}}
    config = parse_config({"pair": [PAIR], "venues": limits})
    for ages_s, old in (((1.2, 5.2), 0), ((1.4, 0.0), 1), ((0.0, 5.4), 1), ((0.0, 1.4), 0)):
        trial = Trial(config)
        runtime = Runtime(config)
        trial._limits_us = trial._limits_of(runtime)
        rows = np.zeros(1, SIGNAL_DTYPE)
        for leg, (name, age_s) in enumerate(zip(("binance", "okx"), ages_s, strict=True)):
            (number,) = [n for n, i in enumerate(runtime.instruments) if i.venue == name]
            rows["legs"]["instrument"][0, leg] = number
            rows["legs"]["age_us"][0, leg] = age_s * 1e6
        trial._on_signals(rows)
        assert trial._old == old


@pytest.mark.timeout(120)
def test_a_venue_of_no_pair_is_left_out_and_an_error_that_comes_twice_is_told_twice() -> None:
    pair = {"a": "binance:BTC/USDT", "b": "binance.usdm:BTC/USDT:USDT"}
    trial = Trial(parse_config({"pair": [pair], "venues": {"okx": {}}}), kinds=("cut", "cut"))
    asyncio.run(trial.run())
    assert {o.venue for o in trial.outcomes} == {"binance", "binance.usdm"}
    assert len(trial.outcomes) == 4
    assert all(o.error == "ConnectionError: cut by the venue" for o in trial.outcomes)
    assert trial.problems == []


def test_every_kind_of_fault_has_a_time_of_its_own() -> None:
    trial = Trial(parse_config({"pair": [PAIR]}))
    assert [slot.fault.kind for slot, _ in trial._slots] == list(FAULT_KINDS)
    assert all(seconds >= 5.0 for _, seconds in trial._slots)


@pytest.mark.timeout(120)
def test_a_right_engine_declares_what_it_lost_and_lives_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    code = main(
        ["chaos", "-c", str(path), "--faults", "cut,corrupt", "--loop", "asyncio", "--json"]
    )
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (code, report["problems"]) == (0, [])
    outcomes = {(o["fault"], o["venue"]): o for o in report["outcomes"]}
    assert list(outcomes) == [(f, v) for f in ("cut", "corrupt") for v in ("binance", "okx")]
    for (fault, _), outcome in outcomes.items():
        assert outcome["seen"] == "backing-off"
        assert 0 <= outcome["seen_after_s"] <= outcome["live_after_s"] < 5
        assert outcome["missing"] == outcome["declared"]
        assert ("TlsError" in outcome["error"]) == (fault == "corrupt")


@pytest.mark.timeout(120)
def test_one_that_loses_in_silence_is_found_out() -> None:
    class Forgetful(Trial):
        def _on_quotes(self, rows: Any) -> None:
            super()._on_quotes(rows[rows["seq"] % 10 != 0])

    trial = Forgetful(parse_config({"pair": [PAIR]}), kinds=("split",))
    asyncio.run(trial.run())
    assert [o.seen for o in trial.outcomes] == ["", ""]
    assert {problem.partition(":")[0] for problem in trial.problems} == {"binance", "okx"}
    assert all("lost and not declared, by split" in problem for problem in trial.problems)
    assert "not felt" in trial.summary()
    assert trial.summary().count("\n! ") == 2
