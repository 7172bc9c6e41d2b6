"""Compare an engine's signals with the truth, event by event.

Rule 1: an opportunity (all signals of one ``opp_id``) matches an interval of the truth when its
route and events agree, and in each event every field that ``docs/signals.md`` defines. What depends
on the machine's speed is left out: ``d_decode``, ``d_book`` and ``d_detect``.
Rule 2: an interval without a match is missed, an opportunity without a match is false.
Rule 3: every message of the recording must have been counted by the engine, and no other; signals
and opportunities must be numbered from 0 and from 1 on without a hole.
Rule 4: a bait is what the truth says of it. Quotes that were received late, or in another order
than they were sent, can make a bait a real opportunity; to report that one is right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ..capture import Entry
from ..venues import venue
from .oracle import Interval, Leg, Point, Truth, find_truth
from .plan import LEAD_S, Plant

__all__ = ["Counts", "Verdict", "judge"]

Counts = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Messages by venue, native symbol and kind."""

OPEN, UPDATE, CLOSE = 1, 2, 3
"""Of docs/signals.md, and not of the engine's own names: the judge shares nothing with it."""
EDGE_TOLERANCE_BPS = 0.01
QTY_TOLERANCE = 1e-9
CROSS = 1
REASONS = {"gate": 4, "liveness": 5, "lost": 6}
BUY_MOVED, SELL_MOVED = 1, 2
AGE_MAX_US = UNKNOWN = (1 << 32) - 1
DETAILS_MAX = 12
LATE_BEFORE_NS = 2_000_000_000
"""What was read late so long before a bait may have made it real: the last quote of a leg."""

_Route = tuple[int, int, int]


@dataclass
class Verdict:
    """What became of a run.

    Attributes:
        planted: ids of plants that were received and stand in the truth.
        vanished: ids of plants of which nothing is left in the truth because reading paused while
            they stood, each with the reason: a machine too busy for a proof, and no fault.
        offline: ids of those of which nothing is left because a leg's connection was lost while
            they stood, or had not quoted it yet, each with the reason.
        unseen: ids of the other plants, each with the reason.
        found: ids of the planted ones that the engine reported exactly.
        missed: number of intervals of the truth without a match.
        false: number of opportunities without a match.
        baits: number of baits.
        baits_real: ids of those that the truth has: received so, they were real.
        baits_taken: ids of those that the engine has and the truth has not.
        baits_judged: ids of those that are not real and could have been taken: the moved quote
            was received while both legs were quoted.
        baits_odd: ids of the real ones around which nothing was read late.
        kinds: of each kind of bait, how many there were and how many of them were judged.
        lost: sum of the differences between the recording's and the engine's message counts.
        holes: where the numbers of signals, from 0, or of opportunities, from 1, do not count up.
        intervals, opportunities: how many there were.
        details: the first mismatches in words.
    """

    planted: list[int] = field(default_factory=list)
    vanished: dict[int, str] = field(default_factory=dict)
    offline: dict[int, str] = field(default_factory=dict)
    unseen: dict[int, str] = field(default_factory=dict)
    found: list[int] = field(default_factory=list)
    missed: int = 0
    false: int = 0
    baits: int = 0
    baits_real: list[int] = field(default_factory=list)
    baits_taken: list[int] = field(default_factory=list)
    baits_judged: list[int] = field(default_factory=list)
    baits_odd: list[int] = field(default_factory=list)
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    lost: int = 0
    holes: int = 0
    intervals: int = 0
    opportunities: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was missed, made up, taken or lost."""
        return self.missed == self.false == self.lost == self.holes == len(self.baits_taken) == 0


def judge(
    entries: Iterable[Entry] | Truth,
    signals: Any,
    *,
    plants: Sequence[Plant | Mapping[str, Any]] = (),
    baits: Sequence[Plant | Mapping[str, Any]] = (),
    counts: Counts,
) -> Verdict:
    """Judge an engine.

    Args:
        entries: the recording that the engine was fed, or its truth.
        signals: array of the engine's signal records, shape (n,), in order of emission.
        plants, baits: what was planted, as the simulator reports it.
        counts: the engine's own message counts.
    """
    truth = entries if isinstance(entries, Truth) else find_truth(entries)
    opportunities = _group(signals)
    matches = _match(truth, opportunities)
    verdict = Verdict(
        missed=len(truth.intervals) - len(matches),
        false=len(opportunities) - len(matches),
        baits=len(baits),
        intervals=len(truth.intervals),
        opportunities=len(opportunities),
    )
    _explain(verdict, truth, opportunities, matches)
    for item in plants:
        _judge_plant(verdict, truth, _as_dict(item), matches)
    for item in baits:
        _judge_bait(verdict, truth, _as_dict(item), opportunities)
    _judge_counts(verdict, truth, counts)
    _judge_numbers(verdict, signals)
    return verdict


def _as_dict(item: Plant | Mapping[str, Any]) -> Mapping[str, Any]:
    return item.as_dict() if isinstance(item, Plant) else item


# ------------------------------------------------------------------ opportunities


class _Opportunity:
    """All signals of one ``opp_id``, in order."""

    def __init__(self, number: int, signals: list[Any]) -> None:
        self.id = number
        self.signals = signals
        first = signals[0]
        self.route: _Route = (int(first["rule_id"]), *_leg_instruments(first))
        self.ts_open = int(first["ts_rx"])
        self.seqs_at_open = int(first["legs"][0]["book_seq"]), int(first["legs"][1]["book_seq"])

    def has_route(self, buy: int, sell: int) -> bool:
        """Return whether it buys and sells there."""
        return self.route[1:] == (buy, sell)


def _leg_instruments(signal: Any) -> tuple[int, int]:
    return int(signal["legs"][0]["instrument"]), int(signal["legs"][1]["instrument"])


def _group(signals: Any) -> list[_Opportunity]:
    groups: dict[int, list[Any]] = {}
    for signal in signals:
        groups.setdefault(int(signal["opp_id"]), []).append(signal)
    return [_Opportunity(number, group) for number, group in groups.items()]


def _difference(interval: Interval, opportunity: _Opportunity) -> str:
    """Return the first thing in which they differ, or nothing when they match."""
    if opportunity.route != (interval.rule, interval.buy, interval.sell):
        return f"route {opportunity.route}"
    events = [int(signal["event"]) for signal in opportunity.signals]
    expected = [OPEN] + [UPDATE] * (len(interval.points) - 1)
    expected += [CLOSE] if interval.close is not None else []
    points: list[Point | None] = [*interval.points]
    points += [interval.end] if interval.close is not None else []
    for number, (point, signal) in enumerate(zip(points, opportunity.signals, strict=False)):
        if point is None or events[number] != expected[number]:
            continue
        reason = _close_reason(interval) if events[number] == CLOSE else 0
        fields = _fields(interval, point, reason)
        if text := _field_difference(fields, signal):
            return f"event {number}: {text}"
    if events != expected:
        return f"events {_brief(events)} instead of {_brief(expected)}"
    return ""


def _close_reason(interval: Interval) -> int:
    """Return the number of the reason for which an interval was closed."""
    if interval.close is None or interval.end is None:
        return 0
    if interval.close.reason == "moved":
        return BUY_MOVED if interval.end.trigger_instrument == interval.buy else SELL_MOVED
    return REASONS[interval.close.reason]


def _brief(events: list[int]) -> str:
    names = "".join("?OUC"[event] if 0 < event < 4 else "?" for event in events)
    return names if len(names) <= 24 else f"{names[:12]}..{names[-4:]} ({len(names)})"


def _fields(interval: Interval, point: Point, reason: int) -> dict[str, tuple[Any, float]]:
    """Return what a signal must hold, each with the tolerance; legs are ``buy.`` and ``sell.``."""
    qty_error = QTY_TOLERANCE * point.qty
    money_error = QTY_TOLERANCE * point.notional
    return {
        "ts_rx": (point.ts_rx, 0),
        "mono_rx": (point.mono_rx, 0),
        "ts_exch": (point.ts_exch, 0),
        "ts_open": (interval.points[0].ts_rx, 0),
        "rule_id": (interval.rule, 0),
        "kind": (CROSS, 0),
        "n_legs": (2, 0),
        "close_reason": (reason, 0),
        "gates": (point.gates, 0),
        "flags": (0, 0),
        "d_publish": (UNKNOWN, 0),
        "gross_bps": (point.gross_bps, EDGE_TOLERANCE_BPS),
        "net_bps": (point.net_bps, EDGE_TOLERANCE_BPS),
        "worst_bps": (point.net_bps, EDGE_TOLERANCE_BPS),
        "ev_ref": (math.nan, 0),
        "risk_bps": (math.nan, 0),
        "qty": (point.qty, qty_error),
        "notional_ref": (point.notional, money_error),
        "profit_ref": (point.profit, money_error),
        **_leg_fields("buy", 1, interval.buy, point.buy_seq, point.buy, point, qty_error),
        **_leg_fields("sell", -1, interval.sell, point.sell_seq, point.sell, point, qty_error),
    }


def _leg_fields(
    name: str, side: int, number: int, seq: int, leg: Leg, point: Point, qty_error: float
) -> dict[str, tuple[Any, float]]:
    age_us = min(max(0, point.mono_rx - leg.mono_rx) // 1000, AGE_MAX_US)
    return {
        f"{name}.venue": (leg.venue, 0),
        f"{name}.side": (side, 0),
        f"{name}.fee_mode": (0, 0),
        f"{name}.instrument": (number, 0),
        f"{name}.vwap": (leg.limit, 0),
        f"{name}.limit": (leg.limit, 0),
        f"{name}.qty": (point.qty, qty_error),
        f"{name}.book_seq": (seq, 0),
        f"{name}.ts_exch": (leg.ts_exch, 0),
        f"{name}.age_us": (age_us, 0),
        f"{name}.lag_us": (UNKNOWN, 0),
        f"{name}.skew_us": (0, 0),
        f"{name}.skew_err_us": (UNKNOWN, 0),
    }


def _field_difference(fields: Mapping[str, tuple[Any, float]], signal: Any) -> str:
    for name, (expected, tolerance) in fields.items():
        side, _, leg_field = name.rpartition(".")
        found = signal["legs"][int(side == "sell")][leg_field] if side else signal[name]
        if not _is_equal(found.item(), expected, tolerance):
            return f"{name} {found} instead of {expected}"
    if signal["legs"][2:].tobytes().strip(b"\0"):
        return "an unused leg is not 0"
    return ""


def _is_equal(found: float, expected: float, tolerance: float) -> bool:
    if isinstance(expected, float) and math.isnan(expected):
        return math.isnan(found)
    # Not "above": what is no number must differ as well.
    return abs(found - expected) <= tolerance


def _match(truth: Truth, opportunities: list[_Opportunity]) -> dict[int, _Opportunity]:
    """Return the matching opportunity by index of the interval; each is used once."""
    waiting: dict[tuple[_Route, int], list[int]] = {}
    for index, interval in enumerate(truth.intervals):
        route = (interval.rule, interval.buy, interval.sell)
        waiting.setdefault((route, interval.points[0].ts_rx), []).append(index)
    matches: dict[int, _Opportunity] = {}
    for opportunity in opportunities:
        candidates = waiting.get((opportunity.route, opportunity.ts_open), [])
        for index in candidates:
            if not _difference(truth.intervals[index], opportunity):
                matches[index] = opportunity
                candidates.remove(index)
                break
    return matches


def _explain(
    verdict: Verdict,
    truth: Truth,
    opportunities: list[_Opportunity],
    matches: Mapping[int, _Opportunity],
) -> None:
    """Say in words what did not match, nearest in time first."""
    matched = {opportunity.id for opportunity in matches.values()}
    rest = [opportunity for opportunity in opportunities if opportunity.id not in matched]
    missed = [interval for n, interval in enumerate(truth.intervals) if n not in matches]
    for interval in missed[:DETAILS_MAX]:
        route = (interval.rule, interval.buy, interval.sell)
        start = interval.points[0].ts_rx
        name = f"missed: {_name(truth, route)} at {start}"
        same = [opportunity for opportunity in rest if opportunity.route == route]
        nearest = min(same, key=lambda item: abs(item.ts_open - start), default=None)
        what = "nothing" if nearest is None else f"{nearest.id}: {_difference(interval, nearest)}"
        verdict.details.append(f"{name}; the engine has {what}")
    for opportunity in rest[:DETAILS_MAX]:
        where = _name(truth, opportunity.route)
        verdict.details.append(f"false: {opportunity.id} {where} at {opportunity.ts_open}")


def _name(truth: Truth, route: _Route) -> str:
    rule, buy, sell = route
    legs = [truth.instruments.get(number) for number in (buy, sell)]
    words = [f"{leg.venue} {leg.symbol}" if leg else "an unknown instrument" for leg in legs]
    return f"rule {rule}, buy {words[0]}, sell {words[1]}"


# ------------------------------------------------------------------ plants, baits, counts


def _legs(truth: Truth, item: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the instrument ids of buy, sell and moved leg; -1 where there is none."""
    ids = {(known.venue, known.symbol): known.id for known in truth.instruments.values()}
    names = (item["buy"], item["sell"], item["leg"])
    buy, sell, leg = (ids.get((name, venue(name).native(item["symbol"])), -1) for name in names)
    return buy, sell, leg


def _stands(interval: Interval, buy: int, sell: int, item: Mapping[str, Any]) -> bool:
    """Return whether an interval is on a route and was opened by the item's moved quote."""
    is_on_route = (interval.buy, interval.sell) == (buy, sell)
    return is_on_route and _has_moved(item, interval.points[0].buy_seq, interval.points[0].sell_seq)


def _has_moved(item: Mapping[str, Any], buy_seq: int, sell_seq: int) -> bool:
    """Return whether of two quotes the one of the item's leg is a moved one.

    Not the newer of both: after a pause the other leg may be read first, far into the future.
    """
    seq = buy_seq if item["leg"] == item["buy"] else sell_seq
    return bool(item["seq_open"] <= seq < (item["seq_close"] or 1 << 64))


def _judge_plant(
    verdict: Verdict,
    truth: Truth,
    item: Mapping[str, Any],
    matches: Mapping[int, _Opportunity],
) -> None:
    buy, sell, leg = _legs(truth, item)
    number = item["id"]
    if not item["seq_open"]:
        verdict.unseen[number] = "it was never sent"
        return
    standing = [
        index
        for index, interval in enumerate(truth.intervals)
        if _stands(interval, buy, sell, item)
    ]
    if not standing:
        if not _are_quoted(truth, (buy, sell), item["seq_open"], item["seq_close"]):
            verdict.offline[number] = "a leg was lost while it stood, or not quoted yet"
        elif item["seq_open"] not in truth.seqs.get(leg, ()):
            verdict.unseen[number] = "its opening quote was not received"
        elif pause_ns := _pause_over(truth, item):
            verdict.vanished[number] = f"nothing was read for {pause_ns / 1e6:.0f} ms of its time"
        else:
            verdict.unseen[number] = "the other leg was not there, or not alive, while it stood"
        return
    verdict.planted.append(number)
    if all(index in matches for index in standing):
        verdict.found.append(number)
    elif len(verdict.details) < 4 * DETAILS_MAX:
        verdict.details.append(f"plant {number} stands in the truth and was not found")


def _are_quoted(truth: Truth, legs: tuple[int, int], low: int, high: int = 0) -> bool:
    """Return whether each leg was quoted on one connection from one time to another, UTC ns."""
    return all(
        any(start <= low and max(low, high) <= end for start, end in truth.quoted.get(leg, ()))
        for leg in legs
    )


def _pause_over(truth: Truth, item: Mapping[str, Any]) -> int:
    """Return the ns of the longest pause in reading while an item stood, or shortly before."""
    low, high = item["seq_open"] - round(LEAD_S * 1e9), item["seq_close"] or 1 << 64
    return max(
        (end - start for start, end in truth.pauses if start < high and low < end), default=0
    )


def _judge_bait(
    verdict: Verdict,
    truth: Truth,
    item: Mapping[str, Any],
    opportunities: list[_Opportunity],
) -> None:
    buy, sell, leg = _legs(truth, item)
    number = item["id"]
    planned, judged = verdict.kinds.get(item["kind"], (0, 0))
    verdict.kinds[item["kind"]] = planned + 1, judged
    if not item["seq_open"]:
        return
    if any(_stands(interval, buy, sell, item) for interval in truth.intervals):
        verdict.baits_real.append(number)
        low, high = item["seq_open"] - LATE_BEFORE_NS, item["seq_close"] or 1 << 64
        if not any(start < high and low < end for start, end in truth.late):
            verdict.baits_odd.append(number)
        return
    if any(
        opportunity.has_route(buy, sell) and _has_moved(item, *opportunity.seqs_at_open)
        for opportunity in opportunities
    ):
        verdict.baits_taken.append(number)
        verdict.details.append(f"bait {number} ({item['kind']}) was taken")
    is_received = item["seq_open"] in truth.seqs.get(leg, ())
    if is_received and _are_quoted(truth, (buy, sell), item["seq_open"]):
        verdict.baits_judged.append(number)
        verdict.kinds[item["kind"]] = planned + 1, judged + 1


def _judge_counts(verdict: Verdict, truth: Truth, counts: Counts) -> None:
    """Rule 3: compare message counts per venue, symbol and kind."""
    counted: Counter[tuple[str, str, str]] = Counter(
        {
            (name, symbol, kind): count
            for name, symbols in counts.items()
            for symbol, kinds in symbols.items()
            for kind, count in kinds.items()
        }
    )
    for key in sorted(truth.counts.keys() | counted.keys()):
        difference = abs(truth.counts[key] - counted[key])
        verdict.lost += difference
        if difference and len(verdict.details) < 4 * DETAILS_MAX:
            recorded = truth.counts[key]
            verdict.details.append(f"counts of {key}: {counted[key]}, the log has {recorded}")


def _judge_numbers(verdict: Verdict, signals: Any) -> None:
    """Rule 3: count the holes in the numbers of signals and of opportunities."""
    seqs = [int(signal["seq"]) for signal in signals]
    opened = [int(signal["opp_id"]) for signal in signals if signal["event"] == OPEN]
    for name, numbers, first in (("seq", seqs, 0), ("opp_id", opened, 1)):
        if numbers and numbers[0] != first:
            verdict.holes += 1
            verdict.details.append(f"the first {name} is {numbers[0]}, not {first}")
        holes = [(one, other) for one, other in pairwise(numbers) if other != one + 1]
        verdict.holes += len(holes)
        for one, other in holes[:DETAILS_MAX]:
            verdict.details.append(f"{name} {other} follows {one}")
