"""A slice of ``tests/differential.py``: our codec and two others read the same streams."""

from __future__ import annotations

from collections import Counter

import pytest

differential = pytest.importorskip(
    "differential", reason="NO DIFFERENTIAL: wsproto is not here; it comes with crosswire[test]"
)

SEED = 2
COUNT = 1200


def test_random_streams_come_to_one_outcome_but_for_what_is_listed() -> None:
    for number in range(COUNT):
        differential.compare(SEED, number, Counter())


@pytest.mark.parametrize("number", [37780, 354963, 356857, 429663, 567637])
def test_streams_that_the_slow_model_judged_wrongly_once(number: int) -> None:
    differential.compare(1, number, Counter())


def test_the_slice_reads_both_roles_with_and_without_deflate_and_finds_differences() -> None:
    streams = [differential.stream_of(SEED, number) for number in range(100)]
    kinds = {(stream.is_server, stream.deflation is not None) for stream in streams}
    assert len(kinds) == 4
    shown: Counter[tuple[str, str]] = Counter()
    for number in range(0, 40 * differential.ASKED_EACH, differential.ASKED_EACH):
        differential.compare(SEED, number, shown)
    assert {name for name, _ in shown} == set(differential.PEERS)


def test_a_difference_that_is_not_listed_is_told_with_its_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(stream: object) -> object:
        outcome = differential.read_slowly(stream)
        outcome.pongs.append(b"never asked for")
        return outcome

    monkeypatch.setattr(differential, "read_ours", read)
    with pytest.raises(differential.DifferenceError, match="--seed 2 --first 7 --count 1\n"):
        differential.compare(SEED, 7, Counter())


def test_streams_are_those_of_their_seed_and_number() -> None:
    first, again, other = (differential.stream_of(SEED, n) for n in (3, 3, 4))
    assert first == again != other
