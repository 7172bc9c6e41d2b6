"""Replay: captures and recordings through the same engine, in one total order, by their stamps.

The engine's time moves only by the stamps, so the same capture gives the same signals, however
its reads are cut and whatever the instruction set. Several files have one time, which is UTC.
Where a capture ends its venue no longer speaks: its connection is lost at its last stamp.

One recording of our own is replayed as it was lived: venues, lines, instruments and pairs have the
numbers of its CONFIG entry, and its terms hold where no others are given. Anything else is
numbered in the order of appearance.

A recording that was cut by a crash is replayed up to its tear. A file whose first entry cannot be
read has nothing to replay and is refused.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import heapq
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..codec import encode_frame
from ..config import Config, PairConfig, VenueConfig
from ..engine import Engine
from ..errors import RecordingError, UsageError
from ..instruments import Instrument, Pair, cross_pairs
from ..line import Line
from ..records import SIGNAL_DTYPE, SignalEvent
from ..seam import open_file
from ..venue import Control
from ..venues import venue
from .directory import Directory, instrument_of, read_directory
from .jsonl import GZIP_MAGIC, read_jsonl
from .recording import MAGIC, Entry, Kind, read_recording

__all__ = ["Replay", "SignalDigest", "Step", "Tear", "steps_of"]


Cut = Callable[[bytes], Iterable[bytes]]

HEAD_SIZE = 16
"""Bytes that a recording begins with, before its first entry."""
LINES_PER_FILE = 64
"""Room for the lines of one file: as many as the engine that recorded it has by default."""
LINES_LIMIT = 65534
GROUP_MAX = 65535
FILE_SHIFT = 16
"""A recording numbers its lines in 16 bits; the place of the file stands above them."""


class Step(NamedTuple):
    """One thing that happened: what, on which venue's line, when, and its bytes."""

    ts_rx: int
    mono_rx: int
    kind: Kind
    venue: str
    line: int
    payload: bytes
    group: int = 0
    """Of an opening: the group of the line, in its file."""


class Tear(NamedTuple):
    """Where a recording cannot be read on: its path, the byte offset of that entry, and why."""

    path: str
    at: int
    text: str


OnTear = Callable[[Tear], object]


def _ignore(tear: Tear) -> None:
    """Take a tear as an end, where it is told elsewhere."""


def _head_of(path: str | Path) -> bytes:
    try:
        with open_file(path, "rb") as file:
            return bytes(file.read(HEAD_SIZE))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None


def _is_recording(path: str | Path) -> bool:
    return _head_of(path).startswith(MAGIC)


def _is_packed_recording(path: str | Path) -> bool:
    with open_file(path, "rb") as file, contextlib.suppress(OSError, EOFError, zlib.error):
        return gzip.GzipFile(fileobj=file).read(len(MAGIC)) == MAGIC
    return False


def _check_file(path: str | Path) -> None:
    """Refuse a file whose first bytes tell that it cannot be replayed.

    Raises:
        UsageError: it is not there, empty, or a recording that was packed.
        RecordingError: it is a recording that ends in its head.
    """
    head = _head_of(path)
    if not head:
        raise UsageError(f"{path}: nothing to replay; the file is empty")
    if head.startswith(GZIP_MAGIC) and _is_packed_recording(path):
        raise UsageError(f"{path}: a gzipped recording; gunzip it first")
    if len(head) < HEAD_SIZE and MAGIC.startswith(head[: len(MAGIC)]):
        words = f"a recording that was cut in its head, at byte {len(head)} of {HEAD_SIZE}"
        raise RecordingError(f"{path}: {words}; nothing in it can be replayed")


def _check_doubles(captures: Iterable[tuple[str, str | Path]]) -> None:
    """Refuse a file that is given twice for one venue: each of its messages would come twice."""
    found: set[tuple[str, Path]] = set()
    for name, path in captures:
        item = name, Path(path).resolve()
        if item in found:
            raise UsageError(f"{path}: given twice for {name}")
        found.add(item)


def _venues_in(path: str | Path) -> list[str]:
    """Return the venues that a recording holds: those of its CONFIG entry where it begins with
    one, else those that were opened, for which it is read once."""
    directory = read_directory(path)
    if directory:
        return list(directory.config.venues)
    opened = (e for e in _entries(path, _ignore) if e.kind is Kind.OPENED)
    return list(dict.fromkeys(_opened_venue(path, entry) for entry in opened))


def _with_venues(name: str | None, path: str | Path) -> list[tuple[str, str | Path]]:
    """Return (venue name, path) of a capture; of a recording without a name for each venue in it.

    Raises:
        UsageError: a capture of others does not tell whose it is, or a recording is empty.
    """
    _check_file(path)
    if name is not None:
        return [(name, path)]
    if not _is_recording(path):
        raise UsageError(f"{path}: is no recording of ours; say whose it is: VENUE={path}")
    found = [(name, path) for name in _venues_in(path)]
    if not found:
        raise UsageError(f"{path}: nothing to replay; it holds no venue")
    return found


def _entries(path: str | Path, on_tear: OnTear | None) -> Iterator[Entry]:
    """Yield the entries of a recording up to its end, or up to its tear, of which ``on_tear`` is
    told; without it, and where nothing stands before the tear, the error is raised."""
    is_empty = True
    try:
        for entry in read_recording(path):
            is_empty = False
            yield entry
    except RecordingError as error:
        if on_tear is None or is_empty or error.at is None:
            raise
        on_tear(Tear(str(path), error.at, str(error)))


def _opened_venue(path: str | Path, entry: Entry) -> str:
    """Return the venue that an OPENED entry names."""
    try:
        return str(entry.json()["venue"])
    except (ValueError, LookupError, TypeError, RecursionError):
        text = f"{path}: line {entry.line} is opened without the name of a venue"
        raise RecordingError(text) from None


def _opened_group(path: str | Path, entry: Entry) -> int:
    """Return the group that an OPENED entry names; 0, alone, where it names none."""
    group = entry.json().get("group", 0)
    if not isinstance(group, int) or not 0 <= group <= GROUP_MAX:
        text = f"{path}: line {entry.line} is opened in the impossible group {group!r}"
        raise RecordingError(text)
    return group


def _recorded_steps(path: str | Path, venues: set[str], on_tear: OnTear | None) -> Iterator[Step]:
    names: dict[int, str] = {}
    for entry in _entries(path, on_tear):
        group = 0
        if entry.kind is Kind.OPENED:
            names[entry.line] = _opened_venue(path, entry)
            group = _opened_group(path, entry)
        if entry.kind is Kind.CONFIG:
            continue
        name = "" if entry.kind is Kind.TICK else names.get(entry.line, "")
        if entry.kind is Kind.TICK or name in venues:
            yield Step(
                entry.ts_rx, entry.mono_rx, entry.kind, name, entry.line, entry.payload, group
            )


def _lines_apart(steps: Iterator[Step], place: int) -> Iterator[Step]:
    """Give the lines of a file numbers that no other file has: the end of one is not theirs."""
    return (step._replace(line=step.line | place << FILE_SHIFT) for step in steps)


def _in_utc(steps: Iterator[Step]) -> Iterator[Step]:
    """Give a file's monotonic stamps the one origin that all files share: its first stamp in UTC.
    From there on they go by the file's own monotonic clock."""
    offset: int | None = None
    for step in steps:
        if offset is None:
            offset = step.ts_rx - step.mono_rx
        yield step._replace(mono_rx=step.mono_rx + offset)


def _captured_steps(path: str | Path, name: str) -> Iterator[Step]:
    ts: int | None = None
    for frame in read_jsonl(path):
        if ts is None:
            yield Step(frame.ts_ns, frame.ts_ns, Kind.OPENED, name, 0, b"")
        ts = frame.ts_ns
        yield Step(ts, ts, Kind.READ, name, 0, encode_frame(frame.opcode, frame.payload))
    if ts is not None:
        yield Step(ts, ts, Kind.LOST, name, 0, b"")


def steps_of(
    captures: Iterable[tuple[str, str | Path]], on_tear: OnTear | None = None
) -> Iterator[Step]:
    """Yield what happened in all captures, in the order of their stamps; captures of equal stamps
    come in the order given. A recording of several venues keeps its own order. Every file has lines
    of its own, also where two of them are of one venue. Monotonic stamps are the recording's own
    where it is the only file; of several, whose clocks know nothing of each other, they count from
    the UTC of each file's first step.

    Args:
        captures: (venue name, path) of each.
        on_tear: is told where a recording cannot be read on, which ends it; others go on. Without
            it a tear is raised.

    Raises:
        RecordingError: a file cannot be read.
    """
    recordings: dict[str, set[str]] = {}
    streams: list[Iterator[Step]] = []
    for name, path in captures:
        if _is_recording(path):
            recordings.setdefault(str(path), set()).add(name)
        else:
            streams.append(_captured_steps(path, name))
    streams.extend(_recorded_steps(*item, on_tear) for item in recordings.items())
    if len(streams) > 1:
        streams = [_in_utc(steps) for steps in streams]
    apart = (_lines_apart(steps, place) for place, steps in enumerate(streams))
    return heapq.merge(*apart, key=lambda step: step.ts_rx)


class SignalDigest:
    """SHA-256 over signal records, with what depends on the machine's speed zeroed."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0
        self.opens = 0

    def add(self, signals: np.ndarray[Any, np.dtype[np.void]]) -> None:
        """Take signals, an array of SIGNAL_DTYPE, shape (n,)."""
        rows = signals.copy()
        for name in ("mono_rx", "d_decode", "d_book", "d_detect", "d_publish"):
            rows[name] = 0
        self._hash.update(rows.tobytes())
        self.count += len(rows)
        self.opens += int((rows["event"] == SignalEvent.OPEN).sum())

    def hexdigest(self) -> str:
        """Return the digest of all signals so far."""
        return self._hash.hexdigest()


class Replay:
    """Captures, replayed through one engine.

    Args:
        captures: (venue name, path) of each capture or recording; without a name, ``None``, all
            venues of a recording.
        config: pairs, fees and thresholds, instead of a recording's own; without pairs, every two
            instruments of one base and quote at different venues are paired.
        fee_bps: taker fee per side of every venue, instead of the configuration's.
        open_net_bps: opening threshold of every pair, instead of the configuration's.
        isa: instruction-set level.

    Attributes:
        engine: the engine; set ``on_quotes`` and ``on_trades`` before :meth:`run`.
        on_signals: called with every batch of signals.
        tears: where recordings could not be read on, once they have been run.
    """

    def __init__(
        self,
        captures: Iterable[tuple[str | None, str | Path]],
        *,
        config: Config | None = None,
        fee_bps: float | None = None,
        open_net_bps: float | None = None,
        isa: str | None = None,
    ) -> None:
        self.captures = [item for pair in captures for item in _with_venues(*pair)]
        if not self.captures:
            raise UsageError("nothing to replay")
        _check_doubles(self.captures)
        self._fee_bps = fee_bps
        self._open_net_bps = open_net_bps
        self._unknown: Counter[tuple[str, int]] = Counter()
        self._groups: dict[tuple[int, int], int] = {}
        self.names = list(dict.fromkeys(name for name, _ in self.captures))
        self._directory = self._find_directory()
        self._recorded_pairs: list[Pair] | None = None
        if config is None and self._directory:
            config, self._recorded_pairs = self._directory.config, self._directory.pairs
        self._config = config or Config()
        if self._directory:
            self.instruments = self._directory.instruments
        else:
            self.instruments = self._find_instruments()
        self.engine = self._build(isa)
        self.digest = SignalDigest()
        self.tears: list[Tear] = []
        self.on_signals: Callable[[np.ndarray[Any, np.dtype[np.void]]], None] | None = None
        self.engine.on_signals = self._take_signals
        self._lines: dict[tuple[str, int], Line] = {}
        if self._directory:
            self._make_lines(self._directory)

    # ---- directory

    def _fee_of(self, name: str) -> float:
        if self._fee_bps is not None:
            return self._fee_bps
        return self._terms_of(name).fee_bps

    def _terms_of(self, name: str) -> VenueConfig:
        market = venue(name)
        default = VenueConfig(name, market.fee_bps, market.url)
        return self._config.venues.get(name, default)

    def _data_limit_of(self, name: str) -> float:
        """Return the limit of the recording, where its terms hold, else that of the configuration:
        a capture by itself tells none."""
        if self._directory is not None and self._config is self._directory.config:
            return self._directory.data_limits_s.get(name, inf)
        terms = self._config.venues.get(name)
        return terms.data_limit_s if terms else inf

    def _find_directory(self) -> Directory | None:
        """Return the directory of the recording, if everything is one recording."""
        paths = {str(path) for _, path in self.captures}
        path = paths.pop()
        return None if paths or not _is_recording(path) else read_directory(path)

    def omitted(self) -> dict[str, list[str]]:
        """Return the venues that recordings hold and that were not asked for, by path."""
        asked: dict[str, set[str]] = {}
        for name, path in self.captures:
            asked.setdefault(str(path), set()).add(name)
        left = {
            path: [name for name in _venues_in(path) if name not in names]
            for path, names in asked.items()
            if _is_recording(path)
        }
        return {path: names for path, names in left.items() if names}

    def strange(self) -> list[tuple[str, str | Path]]:
        """Return (venue name, path) of each capture or recording that held nothing which its venue
        sends, once they have been run."""
        heard = {
            key[1] >> FILE_SHIFT
            for key, line in self._lines.items()
            if line.message_count > line.error_count + self._unknown[key]
        }
        captured = [item for item in self.captures if not _is_recording(item[1])]
        found = [item for place, item in enumerate(captured) if place not in heard]
        recorded = [item for item in self.captures if item not in captured]
        return found + [(name, path) for name, path in recorded if name not in _venues_in(path)]

    @property
    def _lines_max(self) -> int:
        return min(LINES_PER_FILE * len(self.captures), LINES_LIMIT)

    def _add_venues(self, engine: Engine) -> None:
        recorded = self._directory.config.venues if self._directory else ()
        for name in dict.fromkeys((*recorded, *self.names)):
            engine.add_venue(
                name,
                venue(name).layout,
                fee_bps=self._fee_of(name),
                liveness_limit_s=self._terms_of(name).liveness_limit_s,
                data_limit_s=self._data_limit_of(name),
            )

    def _find_instruments(self) -> list[Instrument]:
        """Read the captures once to learn which symbols they hold."""
        engine = Engine(takes_unknown=True, signals_max=2, pairs_max=1, lines_max=self._lines_max)
        self._add_venues(engine)
        lines: dict[tuple[str, int], Line] = {}
        for step in steps_of(self.captures, _ignore):
            self._apply(engine, lines, step)
        self._unknown.clear()
        return [instrument_of(name, native) for name, native in engine.instruments]

    def _pairs(self, ids: Mapping[tuple[str, str], int]) -> list[Pair]:
        pairs = self._recorded_pairs
        if pairs is None:
            pairs = self._pairs_of_config(ids)
        opens = self._open_net_bps
        if opens is None:
            return pairs
        return [Pair(p.rule_id, p.a, p.b, opens, opens, p.qty_max) for p in pairs]

    def _pairs_of_config(self, ids: Mapping[tuple[str, str], int]) -> list[Pair]:
        found: list[Pair] = []
        for a, b, terms in self._named_pairs() or self._all_pairs():
            if (a.venue, a.native) in ids and (b.venue, b.native) in ids:
                one, other = ids[a.venue, a.native], ids[b.venue, b.native]
                opens, closes = terms.open_net_bps, terms.close_net_bps
                found.append(Pair(len(found) + 1, one, other, opens, closes, terms.qty_max))
        return found

    def _named_pairs(self) -> list[tuple[Instrument, Instrument, PairConfig]]:
        def leg(name: str, symbol: str) -> Instrument:
            return Instrument(name, venue(name).native(symbol), symbol)

        return [(leg(*pair.a), leg(*pair.b), pair) for pair in self._config.pairs]

    def _all_pairs(self) -> list[tuple[Instrument, Instrument, PairConfig]]:
        opens, closes = self._config.open_net_bps, self._config.close_net_bps
        terms = PairConfig(("", ""), ("", ""), opens, closes)
        return [(a, b, terms) for a, b in cross_pairs(self.instruments)]

    def _build(self, isa: str | None) -> Engine:
        engine = Engine(
            isa=isa,
            instruments_max=max(16, len(self.instruments)),
            lines_max=self._lines_max,
        )
        self._add_venues(engine)
        multipliers = [1.0] * len(self.instruments)
        if self._directory:
            multipliers = self._directory.multipliers
        ids = {
            (i.venue, i.native): engine.add_instrument(
                i.venue, i.native, fee_bps=self._fee_of(i.venue), multiplier=multiplier
            )
            for i, multiplier in zip(self.instruments, multipliers, strict=True)
        }
        pairs = self._pairs(ids)
        self._pair_count = len(pairs)
        engine.set_pairs(pairs)
        return engine

    @property
    def why_no_pair(self) -> str | None:
        """Why nothing can be found, in words; ``None`` where there is a pair to watch."""
        if self._pair_count:
            return None
        if self._recorded_pairs is not None:
            return "the recording has none"
        if self._config.pairs:
            legs = [":".join(leg) for pair in self._config.pairs for leg in (pair.a, pair.b)]
            held = {str(instrument) for instrument in self.instruments}
            missing = ", ".join(leg for leg in dict.fromkeys(legs) if leg not in held)
            return f"the captures do not hold {missing}"
        if len(self.names) < 2:
            return f"{self.names[0]} is the only venue"
        return "no two instruments of one base and quote at different venues"

    # ---- running

    def _take_signals(self, signals: np.ndarray[Any, np.dtype[np.void]]) -> None:
        assert signals.dtype == SIGNAL_DTYPE
        self.digest.add(signals)
        if self.on_signals:
            self.on_signals(signals)

    def _make_lines(self, directory: Directory) -> None:
        """Make the lines in the order in which the engine that was recorded had them, whichever was
        opened first: lines that fall silent together are closed in the order of their numbers."""
        for number, (name, group) in enumerate(directory.lines):
            self._line_of(self.engine, self._lines, name, number, group)

    def _group_of(self, number: int, group: int) -> int:
        """Give a group of a file a number that no other file's has."""
        if not group:
            return 0
        return self._groups.setdefault((number >> FILE_SHIFT, group), len(self._groups) + 1)

    def _line_of(
        self,
        engine: Engine,
        lines: dict[tuple[str, int], Line],
        name: str,
        number: int,
        group: int = 0,
    ) -> Line:
        line = lines.get((name, number))
        if line is None:
            line = Line(engine, name, group=self._group_of(number, group))
            lines[name, number] = line
            line.on_control = self._control_of(line, name, number)
        return line

    def _apply(
        self,
        engine: Engine,
        lines: dict[tuple[str, int], Line],
        step: Step,
        cut: Cut | None = None,
    ) -> None:
        if step.kind is Kind.TICK:
            engine.advance(step.ts_rx, step.mono_rx)
            return
        line = self._line_of(engine, lines, step.venue, step.line, step.group)
        if step.kind is Kind.OPENED:
            if line.group != self._group_of(step.line, step.group):
                number = step.line & (1 << FILE_SHIFT) - 1
                text = f"line {number} of {step.venue} is opened in group {step.group}"
                raise RecordingError(f"{text}, which its CONFIG entry does not say")
            line.open(step.ts_rx, step.mono_rx)
        elif step.kind is Kind.COVERED:
            line.cover(step.ts_rx, step.mono_rx)
        elif step.kind is Kind.LOST:
            line.lose(step.ts_rx, step.mono_rx)
        elif step.kind is Kind.READ:
            for piece in cut(step.payload) if cut else (step.payload,):
                line.feed(piece, step.ts_rx, step.mono_rx)

    def _control_of(self, line: Line, name: str, number: int) -> Callable[[int, bytes], None]:
        understand = venue(name).understand

        def on_control(opcode: int, payload: bytes) -> None:
            if opcode == 1 and understand(payload.decode()).control is Control.UNKNOWN:
                line.reject()
                self._unknown[name, number] += 1

        return on_control

    def run(self, on_step: Callable[[Step], None] | None = None, cut: Cut | None = None) -> None:
        """Replay everything.

        Args:
            on_step: called before each step, for pacing and progress.
            cut: how to cut a read into pieces; the result is the same whatever it does.

        Raises:
            RecordingError: a file cannot be read. Where a recording is torn, everything before
                the tear has been replayed, and :meth:`report` tells it.
        """
        for step in steps_of(self.captures, self.tears.append):
            if on_step:
                on_step(step)
            self._apply(self.engine, self._lines, step, cut)
        if self.tears:
            raise RecordingError("; ".join(tear.text for tear in self.tears))

    def report(self) -> dict[str, Any]:
        """Return the result as ``crosswire replay --json`` prints it."""
        venues: dict[str, dict[str, Any]] = {name: {} for name in self.names}
        for number, (name, native) in enumerate(self.engine.instruments):
            if name not in venues:
                continue  # recorded, but not asked for
            top = self.engine.top(number)
            has_top = top.quotes > 0
            venues[name][native] = {
                "counts": self.engine.counts(number),
                "top": {
                    "bid": top.bid,
                    "bid_qty": top.bid_qty,
                    "ask": top.ask,
                    "ask_qty": top.ask_qty,
                    "seq": top.seq,
                }
                if has_top
                else None,
                "book": None,
            }
        errors = self.engine.errors
        return {
            "messages": self.engine.message_count,
            "errors": sum(errors.values()),
            "error_names": errors,
            "signals": self.digest.count,
            "opens": self.digest.opens,
            "signals_sha256": self.digest.hexdigest(),
            "torn_at": self.tears[0].at if self.tears else None,
            "venues": venues,
        }
