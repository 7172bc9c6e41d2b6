"""Compare an engine's signals with the truth, event by event.

Rule 1: an opportunity (all signals of one ``opp_id``) matches an interval of the truth when route,
events, receipt times, book versions, edges and sizes agree, each of them.
Rule 2: an interval without a match is missed, an opportunity without a match is false.
Rule 3: every message of the recording must have been counted by the engine, and no other.
Rule 4: a bait is what the truth says of it. Quotes that were received late, or in another order
than they were sent, can make a bait a real opportunity; to report that one is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..capture import Entry
from ..venues import venue
from .oracle import Interval, Point, Truth, find_truth
from .plan import LEAD_S, Plant

__all__ = ["Counts", "Verdict", "judge"]

Counts = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Messages by venue, native symbol and kind."""

OPEN, UPDATE, CLOSE = 1, 2, 3
EDGE_TOLERANCE_BPS = 0.01
QTY_TOLERANCE = 1e-9
DETAILS_MAX = 12

_Route = tuple[int, int, int]


@dataclass
class Verdict:
    """What became of a run.

    Attributes:
        planted: ids of plants that were received and stand in the truth.
        vanished: ids of plants of which nothing is left in the truth because reading paused while
            they stood, each with the reason: a machine too busy for a proof, and no fault.
        unseen: ids of the other plants, each with the reason.
        found: ids of the planted ones that the engine reported exactly.
        missed: number of intervals of the truth without a match.
        false: number of opportunities without a match.
        baits: number of baits.
        baits_taken: ids of baits on whose route the truth or the engine has an opportunity.
        baits_in_truth: those of them that the truth has: received so, they were real.
        lost: sum of the differences between the recording's and the engine's message counts.
        intervals, opportunities: how many there were.
        reaction_ns: for each found plant whose time is known, from sending the opening quote to
            the time at which the opportunity was seen.
        details: the first mismatches in words.
    """

    planted: list[int] = field(default_factory=list)
    vanished: dict[int, str] = field(default_factory=dict)
    unseen: dict[int, str] = field(default_factory=dict)
    found: list[int] = field(default_factory=list)
    missed: int = 0
    false: int = 0
    baits: int = 0
    baits_taken: list[int] = field(default_factory=list)
    baits_in_truth: list[int] = field(default_factory=list)
    lost: int = 0
    intervals: int = 0
    opportunities: int = 0
    reaction_ns: dict[int, int] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)

    @property
    def baits_fallen_for(self) -> list[int]:
        """Ids of the baits that the engine took and that were none of the truth's."""
        in_truth = set(self.baits_in_truth)
        return [number for number in self.baits_taken if number not in in_truth]

    @property
    def ok(self) -> bool:
        """Whether nothing was missed, made up or lost."""
        return self.missed == self.false == self.lost == 0


def judge(
    entries: Iterable[Entry] | Truth,
    signals: Any,
    *,
    plants: Sequence[Plant | Mapping[str, Any]] = (),
    baits: Sequence[Plant | Mapping[str, Any]] = (),
    counts: Counts,
    opportunities_seen_at: Mapping[int, int] | None = None,
) -> Verdict:
    """Judge an engine.

    Args:
        entries: the recording that the engine was fed, or its truth.
        signals: array of the engine's signal records, shape (n,), in order of emission.
        plants, baits: what was planted, as the simulator reports it.
        counts: the engine's own message counts.
        opportunities_seen_at: ``opp_id`` to the UTC ns at which the consumer had its OPEN.
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
        _judge_plant(verdict, truth, _as_dict(item), matches, opportunities_seen_at or {})
    for item in baits:
        _judge_bait(verdict, truth, _as_dict(item), opportunities)
    _judge_counts(verdict, truth, counts)
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
    for number, (point, signal) in enumerate(
        zip(interval.points, opportunity.signals, strict=False)
    ):
        if events[number] == expected[number] and (text := _point_difference(point, signal)):
            return f"event {number}: {text}"
    if events != expected:
        return f"events {_brief(events)} instead of {_brief(expected)}"
    for number, signal in enumerate(opportunity.signals):
        if text := _form_difference(signal, opportunity.route):
            return f"event {number}: {text}"
    if interval.close is not None:
        ts_rx = int(opportunity.signals[-1]["ts_rx"])
        if ts_rx != interval.close.ts_rx:
            return f"CLOSE at {ts_rx} instead of {interval.close.ts_rx}"
    return ""


def _brief(events: list[int]) -> str:
    names = "".join("?OUC"[event] if 0 < event < 4 else "?" for event in events)
    return names if len(names) <= 24 else f"{names[:12]}..{names[-4:]} ({len(names)})"


def _form_difference(signal: Any, route: _Route) -> str:
    """Check what every signal of an opportunity must say."""
    sides = int(signal["legs"][0]["side"]), int(signal["legs"][1]["side"])
    if sides != (1, -1):
        return f"sides {sides} instead of (1, -1)"
    found = (int(signal["rule_id"]), *_leg_instruments(signal))
    return f"route {found} instead of {route}" if found != route else ""


def _point_difference(point: Point, signal: Any) -> str:
    for name, value in (
        ("ts_rx", int(signal["ts_rx"])),
        ("buy_seq", int(signal["legs"][0]["book_seq"])),
        ("sell_seq", int(signal["legs"][1]["book_seq"])),
    ):
        if value != getattr(point, name):
            return f"{name} {value} instead of {getattr(point, name)}"
    for name in ("net_bps", "gross_bps"):
        value_bps = float(signal[name])
        # Not "above": an edge that is no number must differ as well.
        if not abs(value_bps - getattr(point, name)) <= EDGE_TOLERANCE_BPS:
            return f"{name} {value_bps} instead of {getattr(point, name)}"
    qty = float(signal["qty"])
    if not abs(qty - point.qty) <= QTY_TOLERANCE * abs(point.qty):
        return f"qty {qty} instead of {point.qty}"
    return ""


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
    seen_at: Mapping[int, int],
) -> None:
    buy, sell, leg = _legs(truth, item)
    number = item["id"]
    if not item["seq_open"]:
        verdict.unseen[number] = "it was never sent"
        return
    if item["seq_open"] not in truth.seqs.get(leg, ()):
        verdict.unseen[number] = "its opening quote was not received"
        return
    standing = [
        index
        for index, interval in enumerate(truth.intervals)
        if _stands(interval, buy, sell, item)
    ]
    if not standing:
        if pause_ns := _pause_over(truth, item):
            verdict.vanished[number] = f"nothing was read for {pause_ns / 1e6:.0f} ms of its time"
        else:
            verdict.unseen[number] = "the other leg was not there, or not alive, while it stood"
        return
    verdict.planted.append(number)
    if all(index in matches for index in standing):
        verdict.found.append(number)
        seen = seen_at.get(matches[standing[0]].id)
        if seen is not None:
            verdict.reaction_ns[number] = seen - item["seq_open"]
    elif len(verdict.details) < 4 * DETAILS_MAX:
        verdict.details.append(f"plant {number} stands in the truth and was not found")


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
    buy, sell, _ = _legs(truth, item)
    if not item["seq_open"]:
        return
    in_truth = any(_stands(interval, buy, sell, item) for interval in truth.intervals)
    in_engine = any(
        opportunity.has_route(buy, sell) and _has_moved(item, *opportunity.seqs_at_open)
        for opportunity in opportunities
    )
    if in_truth:
        verdict.baits_in_truth.append(item["id"])
    if in_truth or in_engine:
        verdict.baits_taken.append(item["id"])
    if in_engine and not in_truth:
        verdict.details.append(f"bait {item['id']} ({item['kind']}) was taken")


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
