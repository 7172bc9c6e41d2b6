"""Whether a run proves anything: a verdict is only as good as what was received.

Rule 1: the recording's terms are the scenario's.
Rule 2: TCP keeps the order and the bytes, so what was received on a connection is a prefix, without
a hole, of what the simulator sent on it: all of it, or up to a cut what was not under way then.
Rule 3: a connection is lost where the simulator cut it and nowhere else; all that was asked for was
subscribed, and is so again at the end.
Rule 4: the engine's timer fired all the time that entries came densely, so that its process ran.
Rule 5: a plant that is not seen has a reason in the recording, which is no lost connection where
nobody breaks one; two thirds of the plants, and of the baits, could be judged, and some of each
kind; a bait that was real has a reason there as well.
Rule 6: both clocks of the recording go at one speed, and are the simulator's.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..venues import venue
from .judge import Verdict
from .oracle import Span, Truth
from .plan import Scenario, freeze_max_ns
from .recorded import config_of

__all__ = ["Connection", "Sent", "find_doubts", "load_sent", "save_sent"]

UNDER_WAY_MAX_NS = 250_000_000
"""For so long before a cut a message may have been on its way; pauses in reading are added."""
TIMER_GAPS_MAX = 25
LIVED_MIN_NS = 1_000_000_000
"""A connection that lived longer, by as much as its venue may have been frozen, is subscribed."""
KIND_MIN = 3
"""Of a kind of bait that was planned so often one at least must be judged."""
APART_MAX_NS = 2_000_000
DRIFT_MAX_PPM = 500
"""So far, and so much more in time, may a UTC clock that is being corrected be from the other."""
APART_SHARE_MAX = 0.01
"""Of the entries may lie further apart: the process may stop between the looks at both clocks."""
EARLY_MAX_NS = 1_000_000
LAG_MAX_NS = 2_000_000_000
REFERENCE_ENTRIES = 1001
STREAMS = ("quotes", "trades")


@dataclass
class Connection:
    """What a simulated venue did on one connection.

    Attributes:
        stamps: of each record in the order sent, each in a text of its own: a quote's ``seq``, 0
            for a trade.
        sums: the CRC-32 of each one's text.
        streams: how many messages were sent by stream, ``quotes`` or ``trades`` and the native
            symbol; a stream that was not subscribed is missing.
        cut_ns: UTC ns at which the simulator cut it, or 0.
    """

    stamps: array[int] = field(default_factory=lambda: array("q"))
    sums: array[int] = field(default_factory=lambda: array("I"))
    streams: dict[str, int] = field(default_factory=dict)
    cut_ns: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return all but the stamps and sums, ready for JSON."""
        return {"streams": self.streams, "cut_ns": self.cut_ns}


Sent = Mapping[str, Sequence[Connection]]
"""Connections by venue, in the order in which they were accepted."""


def save_sent(path: Path, sent: Sent) -> None:
    """Write the stamps and sums of all connections to an ``npz`` file."""
    columns: dict[str, Any] = {}
    for name, connections in sent.items():
        for number, connection in enumerate(connections):
            columns[f"{name}:{number}:stamps"] = np.asarray(connection.stamps, np.int64)
            columns[f"{name}:{number}:sums"] = np.asarray(connection.sums, np.uint32)
    with path.open("wb") as file:
        np.savez(file, **columns)


def load_sent(played: Mapping[str, Any]) -> dict[str, list[Connection]]:
    """Return what was sent, from the simulator's report and the file that it names."""
    with np.load(played["stamps"]) as columns:
        return {
            name: [
                Connection(
                    array("q", columns[f"{name}:{number}:stamps"].tobytes()),
                    array("I", columns[f"{name}:{number}:sums"].tobytes()),
                    **connection,
                )
                for number, connection in enumerate(connections)
            ]
            for name, connections in played["connections"].items()
        }


def find_doubts(
    truth: Truth,
    verdict: Verdict,
    sent: Sent,
    scenario: Scenario,
    *,
    plants: int,
    close_net_bps: float,
    advance_ns: int,
) -> list[str]:
    """Return why a run proves nothing, in words; nothing when it does.

    Args:
        truth: of the recording, under the scenario's terms.
        verdict: the judge's.
        sent: what the simulator sent.
        scenario: what it played.
        plants: how many there were.
        close_net_bps: the engine's lower threshold.
        advance_ns: how often its timer has to fire.
    """
    doubts = _check_terms(truth.config, config_of(scenario, close_net_bps))
    for name in scenario.venues:
        doubts += [f"{name}: {text}" for text in _check_venue(truth, name, sent[name], scenario)]
    if truth.timer_gap_ns > TIMER_GAPS_MAX * advance_ns:
        gap_ms, wanted_ms = truth.timer_gap_ns / 1e6, advance_ns / 1e6
        doubts.append(f"the timer did not fire for {gap_ms:.0f} ms, instead of {wanted_ms:g} ms")
    if truth.unreadable:
        count, first = len(truth.unreadable), truth.unreadable[0]
        doubts.append(f"{count} messages could not be read, the first of {first}")
    doubts += _check_clocks(truth)
    if not scenario.faults and not truth.pauses:
        doubts += [f"plant {n} left no trace: {why}" for n, why in verdict.offline.items()]
    doubts += [f"plant {n} was not seen: {why}" for n, why in verdict.unseen.items()]
    for word, judged, count in (
        ("plants", len(verdict.planted), plants),
        ("baits", len(verdict.baits_judged), verdict.baits),
    ):
        if 3 * judged < 2 * count:
            doubts.append(
                f"only {judged} of {count} {word} could be judged: this proves too little"
            )
    doubts += [f"bait {n} was real, and nothing was read late there" for n in verdict.baits_odd]
    doubts += [
        f"none of {count} baits of kind {kind} could be judged"
        for kind, (count, judged) in verdict.kinds.items()
        if count >= KIND_MIN and not judged
    ]
    return doubts


# ------------------------------------------------------------------ rule 1


def _check_terms(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    one, other = _terms(found), _terms(expected)
    return [
        f"the recording's {key} are not the scenario's: {one[key]} instead of {other[key]}"
        for key in other
        if one[key] != other[key]
    ]


def _terms(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a CONFIG entry says, in an order that does not depend on its numbers."""
    names = {i["id"]: (i["venue"], i["symbol"]) for i in config.get("instruments", ())}
    opens, closes = config.get("open_net_bps"), config.get("close_net_bps")
    pairs = [
        (
            pair["rule"],
            sorted((names[pair["a"]], names[pair["b"]])),
            pair.get("open_net_bps", opens),
            pair.get("close_net_bps", closes),
            pair.get("qty_max"),
        )
        for pair in config.get("pairs", ())
    ]
    return {
        "fees": config.get("fees_bps"),
        "liveness limits": config.get("liveness_limit_s"),
        "thresholds": (opens, closes),
        "instruments": sorted(
            (i["venue"], i["symbol"], i["multiplier"]) for i in config.get("instruments", ())
        ),
        "pairs": sorted(pairs, key=str),
    }


# ------------------------------------------------------------------ rules 2 and 3


def _check_venue(
    truth: Truth, name: str, connections: Sequence[Connection], scenario: Scenario
) -> list[str]:
    spans = [span for span in truth.spans if span.venue == name]
    if len(spans) != len(connections):
        return [f"{len(spans)} connections were recorded of {len(connections)} accepted"]
    doubts = [
        f"connection {number}: {text}"
        for number, (span, connection) in enumerate(zip(spans, connections, strict=True), start=1)
        if (text := _check_received(span, connection, truth.pauses))
    ]
    *earlier, last = connections or [Connection()]
    if not all(connection.cut_ns for connection in earlier):
        doubts.append("it was connected again though nobody had cut its connection")
    if last.cut_ns or not connections:
        doubts.append("it was not connected at the end")
    wanted = [f"{kind} {venue(name).native(s)}" for kind in STREAMS for s in scenario.symbols]
    for stream in wanted:
        if stream not in last.streams:
            doubts.append(f"{stream} were not subscribed at the end")
        elif not any(connection.streams.get(stream) for connection in connections):
            doubts.append(f"{stream} were never sent")
    for number, (span, connection) in enumerate(zip(spans, earlier, strict=False), start=1):
        lived_ns = connection.cut_ns - span.opened_ns
        lived_ns -= _overlap(truth.pauses, span.opened_ns, connection.cut_ns)
        if lived_ns > LIVED_MIN_NS + freeze_max_ns(scenario):
            doubts += [
                f"connection {number}: {stream} were not subscribed for {lived_ns / 1e6:.0f} ms"
                for stream in wanted
                if stream not in connection.streams
            ]
    return doubts


def _check_received(span: Span, connection: Connection, pauses: list[tuple[int, int]]) -> str:
    """Return what is wrong with what was received of a connection, or nothing."""
    received, sent = len(span.stamps), len(connection.stamps)
    for number in range(min(received, sent)):
        if span.stamps[number] != connection.stamps[number]:
            return f"message {number + 1} of {sent} is not the one that was sent"
        if span.sums[number] != connection.sums[number]:
            return f"message {number + 1} of {sent} has not the bytes that were sent"
    if received > sent:
        return f"{received} messages received of {sent} sent"
    if received == sent:
        return ""
    if not connection.cut_ns:
        return f"{received} messages received of {sent} sent, and nobody had cut it"
    first = next((stamp for stamp in connection.stamps[received:] if stamp), connection.cut_ns)
    under_way_ns = connection.cut_ns - first - _overlap(pauses, first, connection.cut_ns)
    if under_way_ns > UNDER_WAY_MAX_NS:
        return f"nothing was received for {under_way_ns / 1e6:.0f} ms before it was cut"
    return ""


def _overlap(pauses: list[tuple[int, int]], low: int, high: int) -> int:
    return sum(max(0, min(end, high) - max(start, low)) for start, end in pauses)


# ------------------------------------------------------------------ rule 6


def _check_clocks(truth: Truth) -> list[str]:
    doubts = []
    apart, mono = (np.frombuffer(stamps, np.int64) for stamps in truth.clocks)
    if len(apart):
        off_ns = np.abs(apart - int(np.median(apart[:REFERENCE_ENTRIES])))
        excess_ns = off_ns - APART_MAX_NS - np.abs(mono - mono[0]) * (DRIFT_MAX_PPM / 1e6)
        if np.count_nonzero(excess_ns > 0) > APART_SHARE_MAX * len(apart):
            doubts.append(
                f"the UTC and the monotonic clock came {off_ns.max() / 1e6:.0f} ms apart: "
                "one is wrong, or was set meanwhile"
            )
    if truth.lag_min_ns < -EARLY_MAX_NS:
        doubts.append(f"a quote was read {-truth.lag_min_ns / 1e6:.0f} ms before it was sent")
    if truth.lag_max_ns > LAG_MAX_NS:
        lag_ms = truth.lag_max_ns / 1e6
        doubts.append(f"a quote was read {lag_ms:.0f} ms after it was sent, gaps left out")
    return doubts
