"""How Binance's stream servers speak, for the local simulator.

Every message stands in the combined envelope, its keys in the order of the recordings; see
``market.py`` for raw messages. Requests are answered as web-socket-streams.md tells:

    {"method":"SUBSCRIBE","params":["btcusdt@bookTicker"],"id":1}   → {"result":null,"id":1}
    {"method":"UNSUBSCRIBE","params":["btcusdt@bookTicker"],"id":2} → {"result":null,"id":2}
    anything that is no request                                     → {"error":{..},"id":null}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ...venue import Answered, Dialect, Record, SimQuote, SimTrade, parse_object

__all__ = ["DIALECTS"]

_RECORD = {"bookTicker": Record.QUOTE, "trade": Record.TRADE}
_KIND = {
    "bookTicker": "bookTicker",
    "trade": "trade",
    "depthUpdate": "depth",
    "aggTrade": "aggTrade",
    "kline": "kline",
}
_METHODS = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


def _error(code: int, text: str, request: int | None) -> str:
    return json.dumps({"error": {"code": code, "msg": text}, "id": request}, separators=(",", ":"))


def _streams(params: Any) -> list[tuple[str, Record]] | None:
    """Return what the stream names mean; ``None`` when one of them is not served here."""
    if not isinstance(params, list) or not params:
        return None
    found = []
    for name in params:
        symbol, _, suffix = name.partition("@") if isinstance(name, str) else ("", "", "")
        if suffix not in _RECORD or not symbol or symbol != symbol.lower():
            return None
        found.append((symbol.upper(), _RECORD[suffix]))
    return found


def _fixed(units: int, digits: int) -> str:
    text = str(units).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}" if digits else text


@dataclass
class _Binance(Dialect):
    """What both markets have in common."""

    def answer(self, text: str) -> Answered:
        request = parse_object(text)
        if not request:
            return Answered([_error(3, "Invalid JSON: expected value at line 1 column 1", None)])
        number = request.get("id")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            refusal = "Invalid request: request ID must be an unsigned integer"
            return Answered([_error(2, refusal, None)])
        method = request.get("method")
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            unknown = f"Invalid request: unknown variant, expected one of {_METHODS}"
            return Answered([_error(2, unknown, number)])
        streams = _streams(request.get("params"))
        if streams is None:
            return Answered([_error(2, "Invalid request: invalid stream name", number)])
        texts = [f'{{"result":null,"id":{number}}}']
        return Answered(texts, streams) if method == "SUBSCRIBE" else Answered(texts, (), streams)

    def decode(self, text: str) -> list[tuple[str, str, SimQuote | None]]:
        """Return (kind, native symbol, quote or ``None``) of each record in a message.

        A control message, or one of an unknown kind, gives none.
        """
        message = parse_object(text)
        data = message.get("data", message)
        if not isinstance(data, dict) or "s" not in data:
            return []
        kind = _KIND.get(data.get("e", "bookTicker" if "b" in data else ""))
        if kind is None:
            return []
        if kind != "bookTicker":
            return [(kind, data["s"], None)]
        quote = SimQuote(
            data["b"], data["B"], data["a"], data["A"], int(data["u"]), int(data.get("T", 0))
        )
        return [(kind, data["s"], quote)]


class _Spot(_Binance):
    """Eight decimals, and a bookTicker without a time."""

    def decimal(self, units: int, digits: int) -> str:
        """Return ``units * 10**-digits`` as this venue writes it; ``digits`` up to 8."""
        return _fixed(units * 10 ** (8 - digits), 8)

    def quote(self, native: str, quote: SimQuote) -> str:
        return (
            f'{{"stream":"{native.lower()}@bookTicker","data":{{"u":{quote.seq},"s":"{native}",'
            f'"b":"{quote.bid}","B":"{quote.bid_qty}","a":"{quote.ask}","A":"{quote.ask_qty}"}}}}'
        )

    def trade(self, native: str, trade: SimTrade) -> str:
        maker = "true" if trade.side < 0 else "false"
        return (
            f'{{"stream":"{native.lower()}@trade","data":{{"e":"trade","E":{trade.ts_ms},'
            f'"s":"{native}","t":{trade.trade_id},"p":"{trade.price}","q":"{trade.qty}",'
            f'"T":{trade.ts_ms},"m":{maker},"M":true}}}}'
        )


class _Usdm(_Binance):
    """As many decimals as the tick has, and a time in every message."""

    def decimal(self, units: int, digits: int) -> str:
        """Return ``units * 10**-digits`` as this venue writes it."""
        return _fixed(units, digits)

    def quote(self, native: str, quote: SimQuote) -> str:
        return (
            f'{{"stream":"{native.lower()}@bookTicker","data":{{"e":"bookTicker","u":{quote.seq},'
            f'"s":"{native}","b":"{quote.bid}","B":"{quote.bid_qty}","a":"{quote.ask}",'
            f'"A":"{quote.ask_qty}","T":{quote.ts_ms},"E":{quote.ts_ms}}}}}'
        )

    def trade(self, native: str, trade: SimTrade) -> str:
        maker = "true" if trade.side < 0 else "false"
        return (
            f'{{"stream":"{native.lower()}@trade","data":{{"e":"trade","E":{trade.ts_ms},'
            f'"T":{trade.ts_ms},"s":"{native}","t":{trade.trade_id},"p":"{trade.price}",'
            f'"q":"{trade.qty}","X":"MARKET","m":{maker}}}}}'
        )


DIALECTS = (
    _Spot("binance", "/stream", qty_digits=5),
    _Usdm("binance.usdm", "/public/stream", qty_digits=3),
)
