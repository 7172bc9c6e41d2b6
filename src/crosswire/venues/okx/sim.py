"""How OKX's public stream server speaks, for the local simulator.

Raw messages stand in ``market.py``. Requests are answered one ``arg`` at a time:

    {"op":"subscribe","args":[{"channel":"bbo-tbt","instId":"BTC-USDT"}]}
        → {"event":"subscribe","arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"connId":"a4d3ae55"}
    the same with "unsubscribe" → the same with "unsubscribe"
    ping                     → pong
    anything that is neither → {"event":"error","code":"60012","msg":..,"connId":..}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ...venue import Answered, Dialect, Record, SimQuote, SimTrade, parse_object

__all__ = ["DIALECTS"]

_RECORD = {"bbo-tbt": Record.QUOTE, "trades": Record.TRADE}
_COUNTED = ("tickers", "books", "books5", "books-l2-tbt")
_CONNECTION = "a4d3ae55"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _error(code: str, text: str) -> str:
    return _compact({"event": "error", "code": code, "msg": text, "connId": _CONNECTION})


def _level(side: Any) -> tuple[str, str]:
    return (side[0][0], side[0][1]) if side else ("0", "0")


@dataclass
class _Okx(Dialect):
    """Shortest decimals, times as text."""

    def decimal(self, units: int, digits: int) -> str:
        """Return ``units * 10**-digits`` as this venue writes it."""
        if not digits:
            return str(units)
        text = str(units).rjust(digits + 1, "0")
        return f"{text[:-digits]}.{text[-digits:]}".rstrip("0").rstrip(".")

    def quote(self, native: str, quote: SimQuote) -> str:
        return (
            f'{{"arg":{{"channel":"bbo-tbt","instId":"{native}"}},"data":[{{"asks":[["{quote.ask}",'
            f'"{quote.ask_qty}","0","3"]],"bids":[["{quote.bid}","{quote.bid_qty}","0","2"]],'
            f'"ts":"{quote.ts_ms}","seqId":{quote.seq}}}]}}'
        )

    def trade(self, native: str, trade: SimTrade) -> str:
        side = "buy" if trade.side > 0 else "sell"
        return (
            f'{{"arg":{{"channel":"trades","instId":"{native}"}},"data":[{{"instId":"{native}",'
            f'"tradeId":"{trade.trade_id}","px":"{trade.price}","sz":"{trade.qty}",'
            f'"side":"{side}","ts":"{trade.ts_ms}","count":"1","source":"0",'
            f'"seqId":{trade.trade_id}}}]}}'
        )

    def answer(self, text: str) -> Answered:
        if text == "ping":
            return Answered(["pong"])
        request = parse_object(text)
        op, args = request.get("op"), request.get("args")
        if op not in ("subscribe", "unsubscribe") or not isinstance(args, list) or not args:
            return Answered([_error("60012", f"Invalid request: {text[:200]}")])
        texts: list[str] = []
        streams: list[tuple[str, Record]] = []
        for arg in args:
            channel, native = _stream(arg)
            if channel not in _RECORD or not native:
                texts.append(_error("60018", f"Wrong URL or {_compact(arg)} doesn't exist."))
                continue
            known = {"channel": channel, "instId": native}
            texts.append(_compact({"event": op, "arg": known, "connId": _CONNECTION}))
            streams.append((native, _RECORD[channel]))
        return Answered(texts, streams) if op == "subscribe" else Answered(texts, (), streams)

    def decode(self, text: str) -> list[tuple[str, str, SimQuote | None]]:
        """Return (kind, native symbol, quote or ``None``) of each record in a message.

        A control message, or one of an unknown kind, gives none. An empty side is "0".
        """
        message = parse_object(text)
        kind, native = _stream(message.get("arg"))
        records = message.get("data")
        if "event" in message or not isinstance(records, list):
            return []
        if kind == "bbo-tbt":
            return [(kind, native, _decode_quote(record)) for record in records]
        if kind == "trades":
            return [(kind, native, None) for _ in records]
        return [(kind, native, None)] if kind in _COUNTED else []


def _stream(arg: Any) -> tuple[str, str]:
    if not isinstance(arg, dict):
        return "", ""
    channel, native = arg.get("channel", ""), arg.get("instId", "")
    return (channel, native) if isinstance(channel, str) and isinstance(native, str) else ("", "")


def _decode_quote(record: dict[str, Any]) -> SimQuote:
    bid, bid_qty = _level(record["bids"])
    ask, ask_qty = _level(record["asks"])
    return SimQuote(bid, bid_qty, ask, ask_qty, int(record.get("seqId", 0)), int(record["ts"]))


DIALECTS = (_Okx("okx", "/ws/v5/public", qty_digits=6),)
