"""The configuration file: everything it may say works, everything else is refused by name."""

from __future__ import annotations

import math
import random
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import crosswire.config
from crosswire.config import Config, PairConfig, VenueConfig, load_config, parse_config
from crosswire.errors import UsageError
from crosswire.handshake import url_shown
from crosswire.venues import venue, venue_names

WHOLE = """
[engine]
latest_only = true
advance_ms = 25

[detect]
open_net_bps = 1.5
close_net_bps = -0.5

[venues.binance]
fee_bps = 7.5
liveness_limit_s = 2
url = "wss://127.0.0.1:9443/stream"
ca_file = "ca.pem"
insecure = true
trades = true

[[pair]]
a = "binance:BTC/USDT"
b = "okx:BTC/USDT"
open_net_bps = 0.5
close_net_bps = 0.2
qty_max = 2.5
"""


def parse(text: str) -> Config:
    return parse_config(tomllib.loads(text))


def refusal(text: str) -> str:
    """Return the message with which a document is refused."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    return str(caught.value)


class TestWhatItMaySay:
    def test_every_key(self) -> None:
        config = parse(WHOLE)
        assert config.latest_only is True
        assert config.advance_ms == 25.0
        assert (config.open_net_bps, config.close_net_bps) == (1.5, -0.5)
        assert config.venues["binance"] == VenueConfig(
            "binance", 7.5, "wss://127.0.0.1:9443/stream", 2.0, "ca.pem", True, True
        )
        assert config.pairs == [
            PairConfig(("binance", "BTC/USDT"), ("okx", "BTC/USDT"), 0.5, 0.2, 2.5)
        ]

    def test_the_example_of_the_docstring_is_a_configuration(self) -> None:
        assert crosswire.config.__doc__
        config = parse(crosswire.config.__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0])
        assert config.venues["binance"].ca_file == "ca.pem"
        assert config.pairs[0].qty_max == 2.5

    def test_nothing_at_all_gives_the_defaults(self) -> None:
        config = parse("")
        assert config == Config()
        assert (config.venues, config.pairs) == ({}, [])
        assert (config.open_net_bps, config.close_net_bps) == (0.0, 0.0)
        assert (config.latest_only, config.advance_ms) == (False, 50.0)

    def test_a_venue_has_its_own_fee_and_url_by_default(self) -> None:
        for name in venue_names():
            terms = parse(f'[venues."{name}"]').venues[name]
            assert terms == VenueConfig(name, venue(name).fee_bps, venue(name).url, 5.0)
            assert terms.url.startswith("wss://")
            assert not terms.insecure

    def test_a_venue_that_only_a_pair_names_is_there_with_its_defaults(self) -> None:
        config = parse('[[pair]]\na = "okx:BTC/USDT"\nb = "binance:BTC/USDT"\n')
        assert set(config.venues) == {"okx", "binance"}
        assert config.venues["okx"].fee_bps == venue("okx").fee_bps

    def test_whole_numbers_and_floats_are_both_numbers(self) -> None:
        assert parse("[detect]\nopen_net_bps = 2").open_net_bps == 2.0
        assert parse("[detect]\nopen_net_bps = 2.0").open_net_bps == 2.0

    @pytest.mark.parametrize(
        ("key", "low", "high", "head"),
        [
            ("advance_ms", 1, 10_000, "[engine]"),
            ("open_net_bps", 0, 999_999, "[detect]"),
            ("fee_bps", -100, 500, "[venues.okx]"),
            ("liveness_limit_s", 0.001, 3600, "[venues.okx]"),
            ("data_limit_s", 0.001, 86_400, "[venues.okx]"),
        ],
    )
    def test_a_number_may_stand_at_either_end_of_its_range_and_not_beyond(
        self, key: str, low: float, high: float, head: str
    ) -> None:
        for value in (low, high):
            parse(f"{head}\n{key} = {value!r}")
        for value in (math.nextafter(low, -math.inf) if low else -5001, high * 1.001):
            assert key in refusal(f"{head}\n{key} = {value!r}")


class TestThresholds:
    PAIR = '[[pair]]\na = "binance:BTC/USDT"\nb = "okx:BTC/USDT"\n'

    def thresholds(self, detect: str, pair: str) -> tuple[float, float]:
        found = parse(f"[detect]\n{detect}\n{self.PAIR}{pair}").pairs[0]
        return found.open_net_bps, found.close_net_bps

    def test_closing_follows_opening_where_only_opening_is_given(self) -> None:
        assert self.thresholds("open_net_bps = 2", "") == (2.0, 2.0)
        assert self.thresholds("", "open_net_bps = 3") == (3.0, 3.0)

    def test_a_pair_has_the_defaults_of_detect(self) -> None:
        assert self.thresholds("open_net_bps = 2\nclose_net_bps = 1", "") == (2.0, 1.0)

    def test_a_pair_may_have_its_own(self) -> None:
        detect = "open_net_bps = 2\nclose_net_bps = 1"
        assert self.thresholds(detect, "open_net_bps = 5\nclose_net_bps = 4") == (5.0, 4.0)
        assert self.thresholds(detect, "close_net_bps = 1.5") == (2.0, 1.5)

    def test_closing_above_opening_is_refused_and_the_pair_named(self) -> None:
        text = refusal(f"{self.PAIR}{self.PAIR}open_net_bps = 1\nclose_net_bps = 2")
        assert text == "pair[2]: close_net_bps 2 is above open_net_bps 1"

    def test_closing_above_opening_in_detect_is_refused_and_detect_named(self) -> None:
        assert refusal("[detect]\nclose_net_bps = 1").startswith("detect")


TOP = "takes engine, detect, venues, pair"
ENGINE = "takes latest_only, advance_ms, spin, busy_poll_us"
DETECT = "takes open_net_bps, close_net_bps"
VENUE = (
    "takes fee_bps, url, liveness_limit_s, data_limit_s, lines, ca_file, insecure, trades, proxy, "
    "proxy_auth_env"
)
PAIR = "takes a, b, open_net_bps, close_net_bps, qty_max"


class TestStrictness:
    @pytest.mark.parametrize(
        ("text", "name", "known"),
        [
            ("bogus = 1", "bogus", f"the file {TOP}"),
            ("[engines]", "engines", f"the file {TOP}"),
            ("[engine]\nbogus = 1", "engine.bogus", f"engine {ENGINE}"),
            ("[detect]\nmin_net_bps = 1", "detect.min_net_bps", f"detect {DETECT}"),
            ("[venues.okx]\nfee = 1", "venues.okx.fee", f"venues.okx {VENUE}"),
            ("[venues.okx]\nFEE_BPS = 1", "venues.okx.FEE_BPS", f"venues.okx {VENUE}"),
            (
                '[[pair]]\na = "okx:A/B"\nb = "binance:A/B"\nqty = 1',
                "pair[1].qty",
                f"pair[1] {PAIR}",
            ),
        ],
    )
    def test_an_unknown_key_is_refused_with_its_place_and_those_that_are_known(
        self, text: str, name: str, known: str
    ) -> None:
        assert refusal(text) == f"unknown configuration key: {name}; {known}"

    def test_all_unknown_keys_of_a_table_are_named_at_once(self) -> None:
        text = refusal("[engine]\nb = 1\na = 2")
        assert text == f"unknown configuration key: engine.a, engine.b; engine {ENGINE}"

    @pytest.mark.parametrize("value", ["1", "0", '"true"', "[]", "{}", "1.0", "1979-05-27"])
    @pytest.mark.parametrize(
        ("head", "name"),
        [
            ("[engine]\nlatest_only", "engine.latest_only"),
            ("[venues.okx]\ninsecure", "venues.okx.insecure"),
            ("[venues.okx]\ntrades", "venues.okx.trades"),
        ],
    )
    def test_what_is_no_truth_value_is_refused(self, head: str, name: str, value: str) -> None:
        if value == "{}" and name.startswith("venues"):
            assert "unknown venue" in refusal(f"{head} = {value}")
            return
        assert refusal(f"{head} = {value}").startswith(f"{name}: must be true or false")

    @pytest.mark.parametrize("value", ['"1"', "true", "false", "[1]", "1979-05-27"])
    @pytest.mark.parametrize(
        ("head", "name"),
        [
            ("[engine]\nadvance_ms", "engine.advance_ms"),
            ("[detect]\nopen_net_bps", "detect.open_net_bps"),
            ("[detect]\nclose_net_bps", "detect.close_net_bps"),
            ("[venues.okx]\nfee_bps", "venues.okx.fee_bps"),
            ("[venues.okx]\nliveness_limit_s", "venues.okx.liveness_limit_s"),
            ('[[pair]]\na = "okx:A/B"\nb = "binance:A/B"\nqty_max', "pair[1].qty_max"),
        ],
    )
    def test_what_is_no_number_is_refused(self, head: str, name: str, value: str) -> None:
        assert refusal(f"{head} = {value}").startswith(f"{name}: must be a number")

    @pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300", "-1e300"])
    @pytest.mark.parametrize(
        ("head", "name"),
        [
            ("[engine]\nadvance_ms", "engine.advance_ms"),
            ("[detect]\nopen_net_bps", "detect.open_net_bps"),
            ("[venues.okx]\nfee_bps", "venues.okx.fee_bps"),
            ("[venues.okx]\nliveness_limit_s", "venues.okx.liveness_limit_s"),
            ('[[pair]]\na = "okx:A/B"\nb = "binance:A/B"\nqty_max', "pair[1].qty_max"),
        ],
    )
    def test_an_impossible_number_is_refused_with_its_range(
        self, head: str, name: str, value: str
    ) -> None:
        assert refusal(f"{head} = {value}").startswith(f"{name}: must be within ")

    @pytest.mark.parametrize("value", ["0", "-1", "0.0"])
    @pytest.mark.parametrize(
        "head",
        [
            "[engine]\nadvance_ms",
            "[venues.okx]\nliveness_limit_s",
            '[[pair]]\na = "okx:A/B"\nb = "binance:A/B"\nqty_max',
        ],
    )
    def test_nothing_or_less_is_refused_where_there_must_be_something(
        self, head: str, value: str
    ) -> None:
        assert "must be within" in refusal(f"{head} = {value}")

    @pytest.mark.parametrize("value", ["1", "true", '""', '["a"]', "[[]]"])
    @pytest.mark.parametrize("key", ["url", "ca_file"])
    def test_what_is_no_text_is_refused(self, key: str, value: str) -> None:
        if (key, value) == ("url", '["a"]'):
            value = "[1]"  # a list of addresses is one of texts
        text = refusal(f"[venues.okx]\n{key} = {value}")
        assert text.startswith(f"venues.okx.{key}: must be text")

    @pytest.mark.parametrize("value", ["0", "1", "false", "true", '""', '"x"', "[]", "[1]"])
    @pytest.mark.parametrize("key", ["engine", "detect", "venues"])
    def test_what_is_no_table_is_refused(self, key: str, value: str) -> None:
        assert refusal(f"{key} = {value}").startswith(f"{key}: must be a table")

    @pytest.mark.parametrize("value", ["0", "1", "false", '""', '"x"', "{}", '{a = "b"}'])
    def test_what_is_no_array_of_pairs_is_refused(self, value: str) -> None:
        assert refusal(f"pair = {value}").startswith("pair: must be an array")

    def test_what_is_no_pair_in_the_array_is_refused_with_its_number(self) -> None:
        good = '{a = "okx:A/B", b = "binance:A/B"}'
        assert refusal(f"pair = [{good}, 3]") == "pair[2]: must be a table"

    @pytest.mark.parametrize("value", ["1", '"x"', "true", "[1]"])
    def test_a_venue_that_is_no_table_is_refused(self, value: str) -> None:
        assert refusal(f"[venues]\nokx = {value}") == "venues.okx: must be a table"


class TestLegs:
    def pair(self, a: str, b: str = "okx:BTC/USDT") -> str:
        return f"[[pair]]\na = {a!r}\nb = {b!r}\n"

    @pytest.mark.parametrize(
        "leg",
        ["okx", "okx:", ":BTC/USDT", "okx:BTCUSDT", "BTC/USDT", "okx BTC/USDT"],
    )
    def test_what_is_no_leg_is_refused_with_its_place(self, leg: str) -> None:
        text = refusal(self.pair("binance:A/B", leg))
        assert text.startswith("pair[1].b: ")
        assert "VENUE:BASE/QUOTE" in text

    def test_an_unknown_venue_of_a_leg_is_refused_with_those_that_exist(self) -> None:
        text = refusal(self.pair("nowhere:BTC/USDT"))
        assert text.startswith("pair[1].a: unknown venue 'nowhere'")
        assert all(name in text for name in venue_names())

    @pytest.mark.parametrize("key", ["a", "b"])
    def test_a_missing_leg_is_refused(self, key: str) -> None:
        other = "b" if key == "a" else "a"
        text = refusal(f'[[pair]]\n{other} = "okx:BTC/USDT"')
        assert text.startswith(f"pair[1].{key}: is missing")

    @pytest.mark.parametrize("value", ["1", "true", '["okx:A/B"]', '""'])
    def test_a_leg_that_is_no_text_is_refused(self, value: str) -> None:
        assert refusal(f"[[pair]]\na = {value}").startswith("pair[1].a: must be text")

    def test_a_pair_of_one_leg_with_itself_is_refused(self) -> None:
        text = refusal(self.pair("okx:BTC/USDT"))
        assert text == "pair[1]: both legs are okx:BTC/USDT"

    @pytest.mark.parametrize("symbol", ["ETH/USDT", "BTC/USDC", "ETH/USDT:USDT"])
    def test_a_pair_of_different_bases_or_quotes_is_refused(self, symbol: str) -> None:
        text = refusal(self.pair("binance:BTC/USDT", f"okx:{symbol}"))
        other = symbol.partition(":")[0]
        assert text.startswith(f"pair[1]: BTC/USDT and {other} are not of one base and quote")

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_pair_of_the_same_two_legs_as_another_is_refused_with_both_numbers(
        self, turned: bool
    ) -> None:
        legs = ("binance:BTC/USDT", "okx:BTC/USDT")
        other = self.pair("okx:BTC/USDT", "binance.usdm:BTC/USDT:USDT")
        again = self.pair(*(legs[::-1] if turned else legs)) + "open_net_bps = 5\n"
        text = refusal(self.pair(*legs) + other + again)
        assert text == "pair[3]: the same two legs as pair[1]"

    def test_pairs_may_share_one_leg(self) -> None:
        others = ("okx:BTC/USDT", "binance.usdm:BTC/USDT:USDT", "okx:BTC/USDT:USDT")
        text = "".join(self.pair("binance:BTC/USDT", leg) for leg in others)
        assert len(parse(text).pairs) == 3

    def test_a_symbol_may_hold_a_colon(self) -> None:
        legs = parse(self.pair("binance.usdm:BTC/USDT:USDT")).pairs[0]
        assert legs.a == ("binance.usdm", "BTC/USDT:USDT")

    @pytest.mark.parametrize(
        "leg",
        ["binance:BTC/USDT:USDT", "binance.usdm:BTC/USDT", "binance:BTC/JPY:JPY",
         "binance.usdm:BTC/JPY", "okx:ETH/USDT:BTC"],
    )  # fmt: skip
    def test_a_symbol_of_another_market_than_the_venues_is_refused(self, leg: str) -> None:
        name, _, symbol = leg.partition(":")
        text = refusal(self.pair(leg, "okx:ETH/USDT"))
        assert text.startswith(f"pair[1].a: {name} has no {symbol}; ")

    @pytest.mark.parametrize("leg", ["binance:BTC/JPY", "binance.usdm:BTC/JPY:JPY"])
    def test_a_quote_asset_that_a_venue_does_not_tell_is_taken(self, leg: str) -> None:
        assert parse(self.pair(leg, "okx:BTC/JPY")).pairs[0].a == tuple(leg.split(":", 1))


class TestDottedNames:
    def test_quoted_and_unquoted_name_the_same_venue(self) -> None:
        quoted = parse('[venues."binance.usdm"]\nfee_bps = 3')
        dotted = parse("[venues.binance.usdm]\nfee_bps = 3")
        assert quoted == dotted
        assert list(dotted.venues) == ["binance.usdm"]
        assert dotted.venues["binance.usdm"].fee_bps == 3.0

    def test_an_exchange_and_its_market_may_both_be_there(self) -> None:
        config = parse("[venues.binance]\nfee_bps = 1\n[venues.binance.usdm]\nfee_bps = 2")
        fees = {name: terms.fee_bps for name, terms in config.venues.items()}
        assert fees == {"binance": 1.0, "binance.usdm": 2.0}

    def test_an_unknown_key_inside_is_named_with_its_place(self) -> None:
        text = refusal("[venues.binance.usdm]\nbogus = 1")
        name = "venues.binance.usdm"
        assert text == f"unknown configuration key: {name}.bogus; {name} {VENUE}"

    @pytest.mark.parametrize("name", ["nowhere", "okx.nowhere", '"OKX"'])
    def test_an_unknown_venue_is_refused_with_those_that_exist(self, name: str) -> None:
        text = refusal(f"[venues.{name}]\nfee_bps = 1")
        assert "unknown venue" in text
        assert all(known in text for known in venue_names())

    def test_one_venue_told_twice_in_two_spellings_is_refused(self) -> None:
        text = refusal('[venues."binance.usdm"]\nfee_bps = 1\n[venues.binance.usdm]\nfee_bps = 2')
        assert "binance.usdm" in text


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        ["https://x/y", "x", "wss://", "wss:///ws", "//host/ws", "wss://host:99999", "wss://host:0",
         "wss://:9443/ws", "wss://ho st/ws"],
    )  # fmt: skip
    def test_what_is_no_websocket_url_is_refused_with_what_to_write(self, url: str) -> None:
        text = refusal(f'[venues.okx]\nurl = "{url}"')
        assert text.startswith(f"venues.okx.url: {url_shown(url)!r} is no WebSocket URL: ")
        assert text.endswith("; write wss://HOST[:PORT][/PATH]")

    @pytest.mark.parametrize("url", ["ws://host/ws", "ws://10.0.0.1:80", "ws://localhost.net/"])
    @pytest.mark.parametrize("name", ["okx", "binance.usdm"])
    def test_plain_text_to_another_machine_is_refused_unless_it_is_allowed_in_words(
        self, name: str, url: str
    ) -> None:
        text = f'[venues.{name}]\nurl = "{url}"\n'
        said = (
            f"venues.{name}.url: {url_shown(url)!r} is plain text off loopback; write wss://, or "
        )
        for more in ("", "insecure = false\n"):
            assert refusal(text + more) == f"{said}insecure = true beside it"
        assert parse(f"{text}insecure = true\n").venues[name].url == url

    @pytest.mark.parametrize("url", ["ws://127.0.0.1:1/", "ws://[::1]/ws", "ws://localhost:80"])
    def test_plain_text_to_this_machine_is_taken(self, url: str) -> None:
        assert parse(f'[venues.okx]\nurl = "{url}"').venues["okx"].url == url

    @pytest.mark.parametrize("url", ["wss://host", "wss://host:9443/ws?x=1", "ws://127.0.0.1:1/"])
    def test_a_websocket_url_is_taken_as_it_stands(self, url: str) -> None:
        assert parse(f'[venues.okx]\nurl = "{url}"').venues["okx"].url == url


class TestLines:
    def test_each_line_has_its_address_in_turn(self) -> None:
        text = '[venues.okx]\nlines = 3\nurl = ["wss://a/", "wss://b/"]'
        terms = parse(text).venues["okx"]
        assert (terms.lines, terms.url, terms.other_urls) == (3, "wss://a/", ("wss://b/",))
        assert [terms.url_of(n) for n in range(3)] == ["wss://a/", "wss://b/", "wss://a/"]

    @pytest.mark.parametrize("value", ["0", "5", "-1", "1.0", "true", '"2"'])
    def test_their_number_is_one_to_four(self, value: str) -> None:
        assert refusal(f"[venues.okx]\nlines = {value}").startswith(
            "venues.okx.lines: must be 1 to 4, not "
        )

    @pytest.mark.parametrize("value", ["[]", "[1]", '["wss://a/", ""]', "1", '""'])
    def test_what_is_no_list_of_addresses_is_refused(self, value: str) -> None:
        text = refusal(f"[venues.okx]\nlines = 2\nurl = {value}")
        assert text.startswith("venues.okx.url: must be text, or a list of texts, not ")

    def test_every_address_is_judged(self) -> None:
        head = "[venues.okx]\nlines = 2\nurl = "
        assert "is no WebSocket URL" in refusal(f'{head}["wss://a/", "https://b/"]')
        assert "plain text off loopback" in refusal(f'{head}["wss://a/", "ws://b/"]')
        assert "ws://b" in refusal(f'{head}["wss://a/", "ws://b/"]')

    def test_more_addresses_than_lines_are_refused(self) -> None:
        text = refusal('[venues.okx]\nurl = ["wss://a/", "wss://b/"]')
        assert text == "venues.okx.url: 2 addresses for lines = 1; each line has one"

    def test_a_venue_without_a_key_to_merge_by_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        okx = venue("okx")
        keyless = replace(okx, layout=replace(okx.layout, merge_by=()))
        monkeypatch.setattr("crosswire.config.venue", lambda name: keyless)
        assert parse("[venues.okx]\nlines = 1").venues["okx"].lines == 1
        text = refusal("[venues.okx]\nlines = 2")
        assert text == (
            "venues.okx.lines: its messages have no key that two connections share; leave it at 1"
        )


class TestTheFile:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The authorities that the whole configuration names are in the working directory."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "ca.pem").touch()

    @pytest.mark.parametrize("name", ["gone.pem", "/gone/ca.pem", "."])
    def test_authorities_that_are_not_there_are_refused_with_file_key_and_remedy(
        self, tmp_path: Path, name: str
    ) -> None:
        path = self.write(tmp_path, f'[venues.okx]\nca_file = "{name}"\n')
        with pytest.raises(UsageError) as caught:
            load_config(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: venues.okx.ca_file: {name!r}: ")
        assert "leave the key out" in text

    def write(self, folder: Path, text: str | bytes) -> Path:
        path = folder / "crosswire.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('[venues.okx]\nurl = "ws://host/"\n', "venues.okx.url: 'ws://host' is plain text"),
            ('[[pair]]\na = "okx:A/B"\nb = "binance:A/B"\n' * 2, "pair[2]: the same two legs"),
        ],
    )
    def test_what_cannot_be_run_is_refused_with_file_and_key(
        self, tmp_path: Path, text: str, said: str
    ) -> None:
        path = self.write(tmp_path, text)
        with pytest.raises(UsageError) as caught:
            load_config(path)
        assert str(caught.value).startswith(f"{path}: {said}")

    def test_a_good_one_is_read(self, tmp_path: Path) -> None:
        assert load_config(self.write(tmp_path, WHOLE)) == parse(WHOLE)

    def test_a_missing_one_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"gone\.toml: No such file"):
            load_config(tmp_path / "gone.toml")

    def test_a_folder_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="directory"):
            load_config(tmp_path)

    def test_what_is_no_toml_is_refused_with_its_line(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"crosswire\.toml: .*line 2"):
            load_config(self.write(tmp_path, "[engine]\nadvance_ms = = 1\n"))

    def test_what_is_no_toml_is_refused_with_its_column(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"is no TOML: .*\(at line 2, column 14\)$"):
            load_config(self.write(tmp_path, "[engine]\nadvance_ms = = 1\n"))

    def test_what_is_no_utf8_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"crosswire\.toml"):
            load_config(self.write(tmp_path, b"[engine]\n# \xff\xfe\n"))

    @pytest.mark.parametrize(
        ("data", "place"),
        [
            (b"\xff", "line 1, column 1"),
            (b"# \xff", "line 1, column 3"),
            (b"[engine]\n# \xff\xfe\n", "line 2, column 3"),
            (b"\n\n\xc3", "line 3, column 1"),
        ],
    )
    def test_what_is_no_utf8_is_refused_with_its_place(
        self, tmp_path: Path, data: bytes, place: str
    ) -> None:
        path = self.write(tmp_path, data)
        with pytest.raises(UsageError) as caught:
            load_config(path)
        assert str(caught.value) == f"{path}: is not UTF-8 (at {place})"

    def test_what_is_refused_inside_is_told_with_the_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"crosswire\.toml: unknown configuration key: bogus"):
            load_config(self.write(tmp_path, "bogus = 1"))

    @pytest.mark.parametrize("seed", range(5))
    def test_a_damaged_one_is_read_or_refused_and_nothing_else(
        self, tmp_path: Path, seed: int
    ) -> None:
        rng = random.Random(seed)
        outcomes: dict[str, int] = {"read": 0, "refused": 0}
        for _ in range(300):
            data = bytearray(WHOLE.encode())
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(data))
                data[at : at + rng.randrange(3)] = bytes(rng.choices(b'"[]{}=.0-\nae#\xff', k=1))
            try:
                load_config(self.write(tmp_path, bytes(data)))
            except UsageError:
                outcomes["refused"] += 1
            else:
                outcomes["read"] += 1
        assert min(outcomes.values()) > 0


def test_a_configuration_need_not_come_from_a_file() -> None:
    data: dict[str, Any] = {"pair": [{"a": "okx:A/B", "b": "binance:A/B"}]}
    before = str(data)
    assert len(parse_config(data).pairs) == 1
    assert str(data) == before


@pytest.mark.parametrize("data", [[], None, "text", 5])
def test_what_is_no_configuration_at_all_is_refused_in_words(data: Any) -> None:
    with pytest.raises(UsageError) as caught:
        parse_config(data)
    assert str(caught.value) == "a configuration must be a table"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({5: 5}, "a configuration must have text for keys, not 5"),
        ({"engine": {None: 1, "x": 2}}, "engine: must have text for keys, not None"),
        ({"venues": {5: {}}}, "venues: must have text for keys, not 5"),
        ({"pair": [{"a": 1, 5: 5}]}, "pair[1]: must have text for keys, not 5"),
    ],
)
def test_a_key_that_is_no_text_is_refused_with_its_place(data: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_config(data)
    assert str(caught.value) == said
