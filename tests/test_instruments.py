"""Unified symbols, legs, and which instruments may be crossed."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import pytest

from crosswire.errors import UsageError
from crosswire.instruments import Instrument, cross_pairs, parse_leg


class TestLegs:
    @pytest.mark.parametrize(
        ("text", "leg"),
        [
            ("one:BTC/USDT", ("one", "BTC/USDT")),
            ("one.swap:BTC/USDT:USDT", ("one.swap", "BTC/USDT:USDT")),
            ("one:BTC/USD:BTC", ("one", "BTC/USD:BTC")),
        ],
    )
    def test_a_leg_is_a_venue_and_a_symbol(self, text: str, leg: tuple[str, str]) -> None:
        assert parse_leg(text) == leg

    @pytest.mark.parametrize(
        "text", ["one:btc/usdt", "one:BTC/usdt", "one: BTC/USDT", "one:BTC/USDT ", "one:BTC /USDT"]
    )
    def test_a_symbol_in_another_spelling_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="in capitals and without spaces"):
            parse_leg(text)

    @pytest.mark.parametrize(
        "text", ["", ":", "one", "one:", ":BTC/USDT", "BTC/USDT", "one:BTCUSDT", "one/BTC:USDT"]
    )
    def test_anything_else_is_refused_with_the_form(self, text: str) -> None:
        with pytest.raises(UsageError, match="VENUE:BASE/QUOTE"):
            parse_leg(text)


class TestInstruments:
    def test_the_settlement_does_not_tell_asset_pairs_apart(self) -> None:
        spot = Instrument("one", "BTCUSDT", "BTC/USDT")
        swap = Instrument("one.swap", "BTCUSDT", "BTC/USDT:USDT")
        assert spot.asset_pair == swap.asset_pair == "BTC/USDT"

    def test_one_without_a_unified_symbol_has_no_asset_pair(self) -> None:
        assert Instrument("one", "X-1", None).asset_pair is None

    def test_it_is_told_by_venue_and_symbol_or_by_its_own_spelling(self) -> None:
        assert str(Instrument("one", "BTCUSDT", "BTC/USDT")) == "one:BTC/USDT"
        assert str(Instrument("one", "X-1", None)) == "one:X-1"

    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Instrument("one", "X-1", None).native = "other"  # type: ignore[misc]


class TestCrossPairs:
    BTC: ClassVar = [
        Instrument("one", "BTCUSDT", "BTC/USDT"),
        Instrument("two", "BTC-USDT", "BTC/USDT"),
        Instrument("two.swap", "BTC-USDT-SWAP", "BTC/USDT:USDT"),
    ]

    def test_every_two_venues_of_one_base_and_quote(self) -> None:
        one, two, swap = self.BTC
        assert cross_pairs(self.BTC) == [(one, two), (one, swap), (two, swap)]

    def test_the_order_given_changes_nothing(self) -> None:
        assert cross_pairs(reversed(self.BTC)) == cross_pairs(self.BTC)

    def test_other_bases_and_quotes_are_not_crossed(self) -> None:
        others = [
            Instrument("three", "ETHUSDT", "ETH/USDT"),
            Instrument("three", "BTCUSDC", "BTC/USDC"),
            Instrument("three", "?", None),
            Instrument("four", "?", None),
        ]
        assert cross_pairs(others) == []
        assert cross_pairs([*self.BTC, *others]) == cross_pairs(self.BTC)

    def test_two_instruments_of_one_venue_are_not_crossed(self) -> None:
        same = [Instrument("one", name, "BTC/USDT") for name in ("BTCUSDT", "BTCUSDT_1")]
        assert cross_pairs(same) == []
