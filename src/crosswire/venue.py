"""The words a venue is written in: its messages, its subscriptions, its heartbeat, its dialect.

A venue declares where its messages hold symbol, prices, sizes, ids and times; one compiled
scanner runs that declaration. Nothing here knows a venue by name.

Paths name a place in a JSON message: ``data.b`` is key ``b`` in the object at key ``data``;
``asks[0][1]`` is element 1 of element 0 of the array at ``asks``; ``data[].ts`` is key ``ts`` of
every element of the array at ``data``, one record per element. Symbol and tag of such a message
stand outside of the elements, everything else inside.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "Answer",
    "Answered",
    "Control",
    "Dialect",
    "Field",
    "Heartbeat",
    "Layout",
    "Message",
    "Record",
    "SimQuote",
    "SimTrade",
    "Slot",
    "Text",
    "Venue",
    "parse_object",
]


class Slot(enum.IntEnum):
    """What a field of a message means; the numbers are ``cw_slot`` in ``layout.h``."""

    SYMBOL = 0
    SEQ = 1
    BID = 2
    BID_QTY = 3
    ASK = 4
    ASK_QTY = 5
    TS_MS = 6
    TRADE_ID = 7
    PRICE = 8
    QTY = 9
    SIDE = 10
    """Aggressor's side as text: ``buy`` or ``sell`` in any case."""
    BUYER_IS_MAKER = 11
    """``true`` when the buyer was the maker, so that the aggressor sold."""
    COUNT = 12
    TRADE_KIND = 13
    """Text; ``MARKET`` is an ordinary trade, anything else (insurance fund, ADL) is kind 1."""
    TAG = 14
    """Text that tells the kinds of message apart; see ``Message.when``."""
    BIDS = 15
    ASKS = 16
    CONTROL = 17
    """A key whose presence makes the message a control message, whatever else it holds."""


class Text(enum.IntEnum):
    """How a field stands in the JSON text; the numbers are ``cw_text`` in ``layout.h``."""

    STRING = 1
    NUMBER = 2
    BOOL = 3
    ARRAY = 4


class Record(enum.IntEnum):
    """What a message becomes; the numbers are ``cw_record_kind`` in ``layout.h``."""

    COUNTED = 0
    """It is counted for its symbol and not decoded further."""
    QUOTE = 1
    TRADE = 2


class Field(NamedTuple):
    """One field: what it means and how it stands in the text."""

    slot: Slot
    text: Text
    is_required: bool = True


@dataclass(frozen=True)
class Message:
    """One kind of message of a venue.

    Attributes:
        kind: the venue's own word for it, under which it is counted.
        record: what it becomes.
        tag: the text that must stand in the TAG slot; ``None``: the TAG key must be absent.
        fields: path to field.
        any_of: for a message without a tag, slots of which one must be present for the message
            to be taken for this kind at all.
    """

    kind: str
    record: Record
    tag: str | None
    fields: Mapping[str, Field]
    any_of: tuple[Slot, ...] = ()


@dataclass(frozen=True)
class Layout:
    """All kinds of message of one venue, over one tree of keys.

    Attributes:
        messages: the kinds, tried in this order; none: text is checked to be UTF-8, counted and
            otherwise passed by.
        envelope: key under which the whole message may also stand, or ``None``.
        control: key whose presence makes it a control message, whatever else it holds.
        word: a message that is no JSON and yet in order, such as a text ``pong``.
        seq_is_rising: a quote whose ``seq`` is not above the last one of its instrument on the
            same connection is dropped and counted, never applied.
        merge_by: what tells quotes of one instrument apart and only rises, the same on every
            connection, so that several may carry the same streams: (SEQ,) or (TS_MS, SEQ); none:
            they may not.
    """

    messages: tuple[Message, ...]
    envelope: str | None = None
    control: str | None = None
    word: str = ""
    seq_is_rising: bool = False
    merge_by: tuple[Slot, ...] = ()


class Control(enum.Enum):
    """What a message that carries no data means for the connection."""

    ACK = "ack"
    REFUSED = "refused"
    PONG = "pong"
    NOTICE = "notice"
    GOING_AWAY = "going-away"
    UNKNOWN = "unknown"


class Answer(NamedTuple):
    """A control message, understood: ``request`` is the id or stream it answers, if it says so."""

    control: Control
    request: str = ""
    text: str = ""


@dataclass(frozen=True)
class Heartbeat:
    """What keeps a venue's connection open.

    Attributes:
        idle_s: after so many seconds without a byte received, ``text`` is sent; sooner where the
            engine's liveness limit is short.
        text: the message to send; ``None`` sends a WebSocket ping.
        limit_s: without a byte for so long, the connection is taken for dead.
        answer_s: or without one for so long after it was asked for one.
    """

    idle_s: float
    text: str | None
    limit_s: float
    answer_s: float = 10.0


@dataclass(frozen=True)
class Venue:
    """One market of one exchange.

    Attributes:
        name: ``EXCHANGE`` or ``EXCHANGE.MARKET``.
        url: where its public stream is.
        layout: its messages.
        heartbeat: what keeps it open.
        stream: (native symbol, record) → the stream's name as ``subscribe`` wants it.
        subscribe: (stream names, request id) → the texts to send.
        understand: text of a message that is no data → what it means.
        native: unified symbol → the venue's spelling.
        unified: the venue's spelling → unified symbol, or ``None`` where it cannot be told.
        fee_bps: default taker fee in basis points, before any configuration; dated in the folder.
        unsubscribe: (stream names, request id) → the texts to send, before a stream that fell
            silent is subscribed again; ``None``: it is subscribed again without.
        subscribe_max: most streams in one subscribe message.
        message_gap_s: least time between two messages to the venue.
        connect_limit: (count, seconds): most connects that it takes from one address.
        life_s: age at which it ends every connection.
        speaks_first: a new subscription is answered with what stands, however quiet the stream.
    """

    name: str
    url: str
    layout: Layout
    heartbeat: Heartbeat
    stream: Callable[[str, Record], str]
    subscribe: Callable[[Sequence[str], int], Sequence[tuple[str, str]]]
    understand: Callable[[str], Answer]
    native: Callable[[str], str]
    unified: Callable[[str], str | None]
    fee_bps: float
    unsubscribe: Callable[[Sequence[str], int], Sequence[str]] | None = None
    subscribe_max: int = 100
    message_gap_s: float = 0.25
    connect_limit: tuple[int, float] | None = None
    life_s: float = math.inf
    speaks_first: bool = False


# ------------------------------------------------------------------ the simulator's side


class SimQuote(NamedTuple):
    """A best bid and offer to be put in a frame. Prices and sizes are decimal text."""

    bid: str
    bid_qty: str
    ask: str
    ask_qty: str
    seq: int
    ts_ms: int


class SimTrade(NamedTuple):
    """A trade to be put in a frame. ``side`` is the aggressor's, +1 buy or -1 sell."""

    price: str
    qty: str
    side: int
    trade_id: int
    ts_ms: int


class Answered(NamedTuple):
    """What a client's message was answered with.

    Attributes:
        texts: to send back, in order.
        opened, closed: (native symbol, record) of the streams that it has subscribed, and left.
    """

    texts: list[str]
    opened: Sequence[tuple[str, Record]] = ()
    closed: Sequence[tuple[str, Record]] = ()


@dataclass
class Dialect:
    """How a venue's server speaks, for the local simulator. Subclass per venue.

    Attributes:
        venue: the venue's name.
        path: path of the URL that it serves.
        qty_digits: decimals of its sizes.
    """

    venue: str
    path: str
    qty_digits: int

    def decimal(self, units: int, digits: int) -> str:
        """Return ``units * 10**-digits`` as the venue writes it."""
        raise NotImplementedError

    def quote(self, native: str, quote: SimQuote) -> str:
        """Return the text of one quote message."""
        raise NotImplementedError

    def trade(self, native: str, trade: SimTrade) -> str:
        """Return the text of one trade message."""
        raise NotImplementedError

    def answer(self, text: str) -> Answered:
        """Answer a client's message."""
        raise NotImplementedError

    def decode(self, text: str) -> list[tuple[str, str, SimQuote | None]]:
        """Return (kind, native symbol, quote or ``None``) of each record in a message, by plain
        means: the oracle reads messages with it."""
        raise NotImplementedError


def parse_object(text: str) -> dict[str, Any]:
    """Return ``text`` as a JSON object, or an empty one when it is not an object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
