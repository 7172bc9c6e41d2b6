"""OKX v5: best bid/offer (``bbo-tbt``), trades, subscriptions, heartbeat.

Source: OKX API v5 documentation, "Order book channel" and "Trades channel", as of 2026-07.
Raw messages:

    {"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["31774.7","0.14368878",
     "0","3"]],"bids":[["31774.6","0.3392211","0","3"]],"ts":"1654032991947","seqId":123456}]}
    {"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",
     "tradeId":"1040968613","px":"64040.2","sz":"0.00240857","side":"buy","ts":"1786538760218",
     "count":"2","source":"0","seqId":79706765242}]}

A level is price, size, "0", number of orders. A side may be empty. ``seqId`` may be absent in old
recordings and may be set back after maintenance, so quotes are applied in the order of arrival;
``ts`` rises then, too, so that both together tell which quote of two connections is newer.
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
_HEAD = {"arg.channel": _TAG, "arg.instId": _SYMBOL}

_BBO = {
    **_HEAD,
    "data[].asks": Field(Slot.ASKS, Text.ARRAY),
    "data[].asks[0][0]": Field(Slot.ASK, Text.STRING, is_required=False),
    "data[].asks[0][1]": Field(Slot.ASK_QTY, Text.STRING, is_required=False),
    "data[].bids": Field(Slot.BIDS, Text.ARRAY),
    "data[].bids[0][0]": Field(Slot.BID, Text.STRING, is_required=False),
    "data[].bids[0][1]": Field(Slot.BID_QTY, Text.STRING, is_required=False),
    "data[].ts": Field(Slot.TS_MS, Text.STRING),
    "data[].seqId": Field(Slot.SEQ, Text.NUMBER, is_required=False),
}
_TRADES = {
    **_HEAD,
    "data[].tradeId": Field(Slot.TRADE_ID, Text.STRING),
    "data[].px": Field(Slot.PRICE, Text.STRING),
    "data[].sz": Field(Slot.QTY, Text.STRING),
    "data[].side": Field(Slot.SIDE, Text.STRING),
    "data[].ts": Field(Slot.TS_MS, Text.STRING),
    "data[].count": Field(Slot.COUNT, Text.STRING, is_required=False),
    "data[].seqId": Field(Slot.SEQ, Text.NUMBER, is_required=False),
}

LAYOUT = Layout(
    messages=(
        Message("bbo-tbt", Record.QUOTE, "bbo-tbt", _BBO),
        Message("trades", Record.TRADE, "trades", _TRADES),
        Message("tickers", Record.COUNTED, "tickers", _HEAD),
        Message("books", Record.COUNTED, "books", _HEAD),
        Message("books5", Record.COUNTED, "books5", _HEAD),
        Message("books-l2-tbt", Record.COUNTED, "books-l2-tbt", _HEAD),
    ),
    control="event",
    word="pong",
    merge_by=(Slot.TS_MS, Slot.SEQ),
)

_CHANNEL = {Record.QUOTE: "bbo-tbt", Record.TRADE: "trades"}


def _stream(native: str, record: Record) -> str:
    return f"{_CHANNEL[record]}:{native}"


def _subscribe(streams: Sequence[str], request: int) -> list[tuple[str, str]]:
    """OKX acknowledges each stream by its ``arg``, so every stream awaits its own answer."""
    del request
    text = _request("subscribe", streams)
    return [(name, text if n == 0 else "") for n, name in enumerate(streams)]


def _unsubscribe(streams: Sequence[str], request: int) -> list[str]:
    del request
    return [_request("unsubscribe", streams)]


def _request(op: str, streams: Sequence[str]) -> str:
    args = [dict(zip(("channel", "instId"), name.split(":", 1), strict=True)) for name in streams]
    body = ",".join(f'{{"channel":"{a["channel"]}","instId":"{a["instId"]}"}}' for a in args)
    return f'{{"op":"{op}","args":[{body}]}}'


def _understand(text: str) -> Answer:
    """Tell acknowledgements, errors, notices and pongs apart by ``event``.

    ``{"event":"subscribe","arg":{"channel":..,"instId":..},"connId":..}`` acknowledges one
    stream; ``{"event":"error","code":"60012","msg":..}`` refuses; ``notice`` 64008 announces
    that the server will soon close.
    """
    if text == "pong":
        return Answer(Control.PONG)
    message = parse_object(text)
    arg = message.get("arg")
    arg = arg if isinstance(arg, dict) else {}
    request = f"{arg.get('channel', '')}:{arg.get('instId', '')}" if arg else ""
    match message.get("event"):
        case "subscribe":
            return Answer(Control.ACK, request)
        case "error":
            return Answer(Control.REFUSED, request, str(message.get("msg", "")))
        case "notice" if str(message.get("code")) == "64008":
            return Answer(Control.GOING_AWAY, text=text)
        case "notice" | "unsubscribe" | "channel-conn-count":
            return Answer(Control.NOTICE, request, text)
    return Answer(Control.UNKNOWN, text=text)


def _native(unified: str) -> str:
    pair, _, settle = unified.partition(":")
    return pair.replace("/", "-") + ("-SWAP" if settle else "")


def _unified(native: str) -> str | None:
    parts = native.split("-")
    if len(parts) == 2:
        return "/".join(parts)
    if len(parts) == 3 and parts[2] == "SWAP":
        settle = parts[0] if parts[1] == "USD" else parts[1]
        return f"{parts[0]}/{parts[1]}:{settle}"
    return None


VENUES = (
    Venue(
        name="okx",
        url="wss://ws.okx.com:8443/ws/v5/public",
        layout=LAYOUT,
        # The server cuts after 30 s without traffic; a text ping every 20 s keeps it open. Its 480
        # an hour limit subscriptions and logins ("Connect" of the v5 manual), not pings.
        heartbeat=Heartbeat(idle_s=20.0, text="ping", limit_s=45.0),
        stream=_stream,
        subscribe=_subscribe,
        unsubscribe=_unsubscribe,
        understand=_understand,
        native=_native,
        unified=_unified,
        fee_bps=10.0,  # spot taker, lowest tier, 2026-11
        connect_limit=(3, 1.0),  # an address, "Connect" of the v5 manual
        speaks_first=True,
    ),
)
