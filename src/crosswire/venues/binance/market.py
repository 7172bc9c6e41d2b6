"""Binance spot and USD-M futures: best bid/offer, trades, subscriptions, heartbeat.

Source: binance-spot-api-docs, ``web-socket-streams.md``, and the USD-M page "WebSocket Market
Streams", as of 2026-07. Raw messages:

    {"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000",
     "B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}
    {"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30",
     "A":"2.510","T":1723161256313,"E":1723161256313}
    {"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000",
     "q":"0.02000000","T":1723161255342,"m":true,"M":true}

Spot's bookTicker has neither an event name nor a time; the futures' one has both. A message
stands bare (``/ws/<stream>``) or inside ``data`` (``/stream?streams=``). ``u`` only rises, and is
the same on every connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...venue import (
    Answer,
    Control,
    Field,
    Heartbeat,
    Layout,
    Message,
    Record,
    Slot,
    Text,
    Venue,
    parse_object,
)

__all__ = ["VENUES"]

_TAG = Field(Slot.TAG, Text.STRING)
_SYMBOL = Field(Slot.SYMBOL, Text.STRING)

_SPOT_QUOTE = {
    "u": Field(Slot.SEQ, Text.NUMBER),
    "s": _SYMBOL,
    "b": Field(Slot.BID, Text.STRING),
    "B": Field(Slot.BID_QTY, Text.STRING),
    "a": Field(Slot.ASK, Text.STRING),
    "A": Field(Slot.ASK_QTY, Text.STRING),
}
_FUTURES_QUOTE = {"e": _TAG, **_SPOT_QUOTE, "T": Field(Slot.TS_MS, Text.NUMBER)}
_TRADE = {
    "e": _TAG,
    "s": _SYMBOL,
    "t": Field(Slot.TRADE_ID, Text.NUMBER),
    "p": Field(Slot.PRICE, Text.STRING),
    "q": Field(Slot.QTY, Text.STRING),
    "T": Field(Slot.TS_MS, Text.NUMBER),
    "m": Field(Slot.BUYER_IS_MAKER, Text.BOOL),
}
# X is the order type behind a futures trade; only MARKET ones met the public book.
_FUTURES_TRADE = {**_TRADE, "X": Field(Slot.TRADE_KIND, Text.STRING, is_required=False)}
_COUNTED = {"e": _TAG, "s": _SYMBOL}


def _counted(kind: str, tag: str) -> Message:
    return Message(kind, Record.COUNTED, tag, _COUNTED)


_COUNTED_KINDS = (
    _counted("depth", "depthUpdate"),
    _counted("aggTrade", "aggTrade"),
    _counted("kline", "kline"),
)

SPOT_LAYOUT = Layout(
    messages=(
        Message(
            "bookTicker",
            Record.QUOTE,
            None,
            _SPOT_QUOTE,
            any_of=(Slot.BID, Slot.BID_QTY, Slot.ASK, Slot.ASK_QTY),
        ),
        Message("trade", Record.TRADE, "trade", _TRADE),
        *_COUNTED_KINDS,
    ),
    envelope="data",
    seq_is_rising=True,
    merge_by=(Slot.SEQ,),
)

USDM_LAYOUT = Layout(
    messages=(
        Message("bookTicker", Record.QUOTE, "bookTicker", _FUTURES_QUOTE),
        Message("trade", Record.TRADE, "trade", _FUTURES_TRADE),
        *_COUNTED_KINDS,
    ),
    envelope="data",
    seq_is_rising=True,
    merge_by=(Slot.SEQ,),
)

_STREAM = {Record.QUOTE: "bookTicker", Record.TRADE: "trade"}


def _stream(native: str, record: Record) -> str:
    return f"{native.lower()}@{_STREAM[record]}"


def _subscribe(streams: Sequence[str], request: int) -> list[tuple[str, str]]:
    params = ",".join(f'"{name}"' for name in streams)
    text = f'{{"method":"SUBSCRIBE","params":[{params}],"id":{request}}}'
    return [(str(request), text)]


def _unsubscribe(streams: Sequence[str], request: int) -> list[str]:
    params = ",".join(f'"{name}"' for name in streams)
    return [f'{{"method":"UNSUBSCRIBE","params":[{params}],"id":{request}}}']


def _understand(text: str) -> Answer:
    """Tell an acknowledgement from an error and from a notice.

    ``{"result":null,"id":1}`` acknowledges; ``{"code":2,"msg":"..","id":1}`` or the same inside
    ``error`` refuses; ``{"e":"serverShutdown"}`` announces the end of the connection.
    """
    message = parse_object(text)
    data = message.get("data")
    event = data if isinstance(data, dict) else message
    if event.get("e") == "serverShutdown":
        return Answer(Control.GOING_AWAY, text=text)
    refusal = message.get("error", message)
    number = message.get("id")  # null where the request could not be read
    request = "" if number is None else str(number)
    if isinstance(refusal, dict) and "code" in refusal and "msg" in refusal:
        return Answer(Control.REFUSED, request, str(refusal["msg"]))
    if "id" in message and message.get("result", "") is None:
        return Answer(Control.ACK, request)
    return Answer(Control.UNKNOWN, text=text)


_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL")


def _native(unified: str) -> str:
    return unified.partition(":")[0].replace("/", "")


def _unified(native: str) -> str | None:
    for quote in _QUOTES:
        if native.endswith(quote) and len(native) > len(quote):
            return f"{native[: -len(quote)]}/{quote}"
    return None


def _unified_usdm(native: str) -> str | None:
    pair = None if "_" in native else _unified(native)
    return pair and f"{pair}:{pair.partition('/')[2]}"


VENUES = (
    Venue(
        name="binance",
        url="wss://stream.binance.com:9443/stream",
        layout=SPOT_LAYOUT,
        # The server pings every 20 s, so silence for a minute is no longer a quiet market. It takes
        # 5 messages a second, PING, PONG and JSON counted ("WebSocket Limits" of the spot streams).
        heartbeat=Heartbeat(idle_s=30.0, text=None, limit_s=60.0),
        stream=_stream,
        subscribe=_subscribe,
        unsubscribe=_unsubscribe,
        understand=_understand,
        native=_native,
        unified=_unified,
        fee_bps=10.0,  # spot taker, no discount, 2026-11
        connect_limit=(300, 300.0),  # an address, "WebSocket Limits"
        life_s=86_400.0,
    ),
    Venue(
        name="binance.usdm",
        url="wss://fstream.binance.com/public/stream",
        layout=USDM_LAYOUT,
        # The server pings every 3 min only; our own ping shortens what silence can hide. It takes
        # 10 messages a second ("Connect" of the USD-M streams).
        heartbeat=Heartbeat(idle_s=20.0, text=None, limit_s=60.0),
        stream=_stream,
        subscribe=_subscribe,
        unsubscribe=_unsubscribe,
        understand=_understand,
        native=_native,
        unified=_unified_usdm,
        fee_bps=5.0,  # USD-M taker, no discount, 2026-11
        life_s=86_400.0,
    ),
)
