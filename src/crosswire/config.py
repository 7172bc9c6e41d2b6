"""One TOML file, read strictly: unknown keys, wrong types and impossible values are refused.

    [engine]                      # optional
    latest_only = false           # hand signals over once per read
    advance_ms = 50               # how often silence is looked for
    spin = false                  # never sleep: takes a whole processor
    busy_poll_us = 0              # let the kernel look for packets that long before it sleeps

    [detect]                      # defaults of every pair
    open_net_bps = 0.0
    close_net_bps = 0.0           # default: open_net_bps, no hysteresis

    [venues.binance]              # one table per venue; all keys optional
    fee_bps = 10.0                # taker fee per side; default: the venue's public tier
    liveness_limit_s = 5.0
    data_limit_s = 60.0           # a stream without data for so long, or longer than it is used
                                  # to, is stale
    lines = 1                     # connections that carry the same streams; first arrival wins
    url = "wss://host/path"       # replaces the venue's own; a list: one for each line, in turn
    ca_file = "ca.pem"            # PEM; replaces the system's authorities
    insecure = false              # allow ws:// off loopback
    trades = false                # subscribe trades as well
    proxy = "http://host:3128"    # connect through it; default: straight
    proxy_auth_env = "NAME"       # environment variable that holds USER:PASSWORD for it

    [[pair]]
    a = "binance:BTC/USDT"
    b = "okx:BTC/USDT"
    open_net_bps = 0.5            # optional, as in [detect]
    close_net_bps = 0.2
    qty_max = 2.5                 # base units

Units stand in the names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import UsageError
from .handshake import parse_url, url_shown
from .instruments import parse_leg
from .receive import parse_proxy
from .seam import is_loopback, open_file
from .venue import Venue
from .venues import venue

__all__ = ["Config", "PairConfig", "VenueConfig", "load_config", "parse_config"]

LIVENESS_LIMIT_S = 5.0
DATA_LIMIT_S = 60.0
LINES_MAX = 4
FEE_BPS_RANGE = (-100.0, 500.0)
NET_BPS_RANGE = (-4999.0, 999_999.0)


@dataclass
class VenueConfig:
    """What one venue is run with."""

    name: str
    fee_bps: float
    url: str
    liveness_limit_s: float = LIVENESS_LIMIT_S
    ca_file: str | None = None
    insecure: bool = False
    trades: bool = False
    data_limit_s: float = DATA_LIMIT_S
    lines: int = 1
    other_urls: tuple[str, ...] = ()
    proxy: str | None = None
    proxy_auth_env: str | None = None

    def url_of(self, line: int) -> str:
        """Return where a line connects to; lines are counted from 0."""
        urls = (self.url, *self.other_urls)
        return urls[line % len(urls)]


@dataclass
class PairConfig:
    """Two legs, ``(venue, unified symbol)`` each, and their thresholds."""

    a: tuple[str, str]
    b: tuple[str, str]
    open_net_bps: float
    close_net_bps: float
    qty_max: float = float("inf")


@dataclass
class Config:
    """A whole configuration."""

    venues: dict[str, VenueConfig] = field(default_factory=dict)
    pairs: list[PairConfig] = field(default_factory=list)
    open_net_bps: float = 0.0
    close_net_bps: float = 0.0
    latest_only: bool = False
    advance_ms: float = 50.0
    spin: bool = False
    busy_poll_us: int = 0
    backoff_base_s: float = 0.1
    backoff_cap_s: float = 30.0


class _Table:
    """A TOML table that is read key by key and then must be empty."""

    def __init__(self, value: Any, path: str) -> None:
        where = f"{path}: " if path else "a configuration "
        if not isinstance(value, Mapping):
            raise UsageError(f"{where}must be a table")
        if names := [key for key in value if not isinstance(key, str)]:
            raise UsageError(f"{where}must have text for keys, not {names[0]!r}")
        self._left = dict(value)
        self._asked: list[str] = []
        self.path = path

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def take(self, key: str) -> Any:
        self._asked.append(key)
        return self._left.pop(key, None)

    def table(self, key: str) -> _Table:
        value = self.take(key)
        return _Table({} if value is None else value, self._name(key))

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str) or not value:
            raise UsageError(f"{self._name(key)}: must be text, not {value!r}")
        return value

    def urls(self, key: str, default: str) -> list[str]:
        """Read one address, or a list of them."""
        value = self.take(key)
        if value is None:
            return [default]
        urls = value if isinstance(value, list) and value else [value]
        for url in urls:
            if not isinstance(url, str) or not url:
                raise UsageError(
                    f"{self._name(key)}: must be text, or a list of texts, not {url!r}"
                )
            try:
                parse_url(url)
            except UsageError as error:
                text = f"{self._name(key)}: {error}; write wss://HOST[:PORT][/PATH]"
                raise UsageError(text) from None
        return urls

    def count(self, key: str, default: int, low: int, high: int) -> int:
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UsageError(f"{self._name(key)}: must be {low} to {high}, not {value!r}")
        return value

    def leg(self, key: str) -> tuple[str, str]:
        value = self.text(key)
        if value is None:
            raise UsageError(f"{self._name(key)}: is missing; a pair names its legs a and b")
        try:
            name, symbol = parse_leg(value)
            _check_symbol(venue(name), symbol)
        except UsageError as error:
            raise UsageError(f"{self._name(key)}: {error}") from None
        return name, symbol

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UsageError(f"{self._name(key)}: must be true or false, not {value!r}")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{self._name(key)}: must be a number, not {value!r}")
        if not low <= value <= high:
            raise UsageError(f"{self._name(key)}: must be within {low:g}..{high:g}, not {value!r}")
        return float(value)

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        value = self.number(key, default, low, high)
        if value != int(value):
            raise UsageError(f"{self._name(key)}: must be a whole number, not {value!r}")
        return int(value)

    def rest(self) -> dict[str, Any]:
        """Take all that is left."""
        left, self._left = self._left, {}
        return left

    def end(self) -> None:
        if self._left:
            names = ", ".join(self._name(key) for key in sorted(self._left))
            where = self.path or "the file"
            known = ", ".join(dict.fromkeys(self._asked))
            raise UsageError(f"unknown configuration key: {names}; {where} takes {known}")


def _check_symbol(market: Venue, symbol: str) -> None:
    """Refuse a symbol of another kind of market, such as a perpetual's at a spot market.

    A venue cannot tell every symbol from its own spelling; so a usual one of the same kind, which
    it can tell, is asked as well.
    """
    for text in (symbol, "BTC/USDT:USDT" if ":" in symbol else "BTC/USDT"):
        native = market.native(text)
        found = market.unified(native)
        if found not in (text, None):
            raise UsageError(f"{market.name} has no {symbol}; {native} is {found} there")


def _thresholds(table: _Table, open_default: float, close_default: float) -> tuple[float, float]:
    """Read both thresholds; closing follows opening where only the latter is given."""
    opens = table.number("open_net_bps", open_default, *NET_BPS_RANGE)
    fallback = close_default if opens == open_default else opens
    closes = table.number("close_net_bps", fallback, *NET_BPS_RANGE)
    if closes > opens:
        raise UsageError(f"{table.path}: close_net_bps {closes:g} is above open_net_bps {opens:g}")
    return opens, closes


def _venue(name: str, value: Any) -> VenueConfig:
    known = venue(name)
    table = _Table(value, f"venues.{name}")
    fee_bps = table.number("fee_bps", known.fee_bps, *FEE_BPS_RANGE)
    url, *others = table.urls("url", known.url)
    found = VenueConfig(
        name=name,
        fee_bps=fee_bps,
        url=url,
        other_urls=tuple(others),
        liveness_limit_s=table.number("liveness_limit_s", LIVENESS_LIMIT_S, 0.001, 3600),
        data_limit_s=table.number("data_limit_s", DATA_LIMIT_S, 0.001, 86_400),
        lines=table.count("lines", 1, 1, LINES_MAX),
        ca_file=table.text("ca_file"),
        insecure=table.flag("insecure", False),
        trades=table.flag("trades", False),
        proxy=table.text("proxy"),
        proxy_auth_env=table.text("proxy_auth_env"),
    )
    table.end()
    _check_privacy(found)
    _check_lines(found, known)
    _check_proxy(found)
    return found


def _check_privacy(terms: VenueConfig) -> None:
    """Refuse plain text to another machine, unless it is allowed in words."""
    for text in (terms.url, *terms.other_urls):
        url = parse_url(text)
        if not (url.secure or terms.insecure or is_loopback(url.host)):
            raise UsageError(
                f"venues.{terms.name}.url: {url_shown(text)!r} is plain text off loopback; "
                "write wss://, or insecure = true beside it"
            )


def _check_lines(terms: VenueConfig, market: Venue) -> None:
    """Refuse several lines where nothing tells which of their messages are the same."""
    if terms.lines > 1 and not market.layout.merge_by:
        raise UsageError(
            f"venues.{terms.name}.lines: its messages have no key that two connections share; "
            "leave it at 1"
        )
    if len(terms.other_urls) >= terms.lines:
        raise UsageError(
            f"venues.{terms.name}.url: {len(terms.other_urls) + 1} addresses for "
            f"lines = {terms.lines}; each line has one"
        )


def _check_proxy(terms: VenueConfig) -> None:
    """Refuse a proxy that cannot be taken, or credentials without one."""
    where = f"venues.{terms.name}"
    if terms.proxy is None:
        if terms.proxy_auth_env is not None:
            raise UsageError(f"{where}.proxy_auth_env: there is no proxy beside it")
        return
    try:
        parse_proxy(terms.proxy, terms.proxy_auth_env)
    except UsageError as error:
        raise UsageError(f"{where}.proxy: {error}") from None


def parse_config(data: Mapping[str, Any]) -> Config:
    """Return a configuration from a parsed TOML document.

    Raises:
        UsageError: names the key and what is wrong with it.
    """
    root = _Table(data, "")
    config = Config()
    engine = root.table("engine")
    config.latest_only = engine.flag("latest_only", False)
    config.advance_ms = engine.number("advance_ms", 50.0, 1, 10_000)
    config.spin = engine.flag("spin", False)
    config.busy_poll_us = engine.whole("busy_poll_us", 0, 0, 1_000_000)
    engine.end()
    detect = root.table("detect")
    config.open_net_bps, config.close_net_bps = _thresholds(detect, 0.0, 0.0)
    detect.end()
    for name, value in _dotted(root.table("venues").rest()):
        if name in config.venues:
            raise UsageError(f"venues: {name} is given twice, quoted and dotted")
        config.venues[name] = _venue(name, value)
    pairs = root.take("pair")
    if pairs is None:
        pairs = []
    if not isinstance(pairs, list):
        raise UsageError("pair: must be an array of tables, [[pair]]")
    for number, value in enumerate(pairs, 1):
        config.pairs.append(_pair(value, number, config))
    _check_pairs(config.pairs)
    root.end()
    return config


def _check_pairs(pairs: Sequence[PairConfig]) -> None:
    """Refuse two pairs of the same legs, in whichever order: every signal would come twice."""
    found: dict[frozenset[tuple[str, str]], int] = {}
    for number, pair in enumerate(pairs, 1):
        before = found.setdefault(frozenset((pair.a, pair.b)), number)
        if before != number:
            raise UsageError(f"pair[{number}]: the same two legs as pair[{before}]")


def _dotted(venues: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """``[venues.binance.usdm]`` and ``[venues."binance.usdm"]`` name the same venue."""
    found: list[tuple[str, Any]] = []
    for name, value in venues.items():
        inner = value if isinstance(value, Mapping) else {}
        own = {key: item for key, item in inner.items() if not isinstance(item, Mapping)}
        markets = [(f"{name}.{key}", item) for key, item in inner.items() if key not in own]
        if own or not markets:
            found.append((name, own if isinstance(value, Mapping) else value))
        found.extend(markets)
    return found


def _pair(value: Any, number: int, config: Config) -> PairConfig:
    table = _Table(value, f"pair[{number}]")
    a, b = table.leg("a"), table.leg("b")
    if a == b:
        raise UsageError(f"pair[{number}]: both legs are {a[0]}:{a[1]}")
    one, other = (symbol.partition(":")[0] for _, symbol in (a, b))
    if one != other:
        raise UsageError(
            f"pair[{number}]: {one} and {other} are not of one base and quote; their prices cannot "
            "be compared"
        )
    opens, closes = _thresholds(table, config.open_net_bps, config.close_net_bps)
    qty_max = table.number("qty_max", float("inf"), 1e-18, 1e18)
    table.end()
    for name, _ in (a, b):
        if name not in config.venues:
            config.venues[name] = _venue(name, {})
    return PairConfig(a, b, opens, closes, qty_max)


def load_config(path: str | Path) -> Config:
    """Read a configuration file.

    Raises:
        UsageError: the file cannot be read, is no TOML (with line and column), is refused, or names
            a ``ca_file`` that cannot be read.
    """
    try:
        with open_file(path, "rb") as file:
            config = parse_config(tomllib.loads(_text_of(file.read())))
        _check_ca_files(config)
        return config
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: is no TOML: {error}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _check_ca_files(config: Config) -> None:
    """Refuse a file of authorities that is not there, before anything connects."""
    for name, terms in config.venues.items():
        if terms.ca_file is None:
            continue
        try:
            open_file(terms.ca_file).close()
        except OSError as error:
            raise UsageError(
                f"venues.{name}.ca_file: {terms.ca_file!r}: {error.strerror or error}; name a PEM "
                f"file (from the working directory), or leave the key out for the system's own"
            ) from None


def _text_of(data: bytes) -> str:
    """Return the text of a file, or refuse it with the place of the first byte that is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - before.rfind(b"\n")
        raise UsageError(f"is not UTF-8 (at line {line}, column {column})") from None
