"""A configuration at work: one engine, a session per venue, and a timer that finds silence."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from math import isfinite
from pathlib import Path
from typing import Any

from .capture import Kind, RecordingWriter
from .config import Config, VenueConfig
from .engine import Engine
from .errors import MessageError, RecordingError, SubscriptionError, UsageError
from .handshake import url_shown
from .instruments import Instrument, Loss, Pair
from .line import Line
from .receive import parse_proxy
from .seam import Seam, System
from .session import ReconnectBackoff, Session, State, tls_context
from .venue import Record, Venue
from .venues import venue
from .wake import Spin

__all__ = ["Runtime", "build_engine"]

_log = logging.getLogger("crosswire.runtime")

SPARED_LINES_MAX = 2
"""With more lines than that none has a spare: four carry the same streams at most, and where three
do, two carry on while one is made anew."""
ERRORS_LOGGED = 10
"""Message errors of one name and venue that are each logged; behind them every power of ten is."""


def build_engine(
    config: Config, venue_of: Callable[[str], Venue] = venue, **options: Any
) -> tuple[Engine, list[Instrument]]:
    """Return an engine that holds the venues, instruments and pairs of a configuration, and its
    instruments in the order of their ids.

    Args:
        config: the configuration.
        venue_of: where venues come from.
        options: for :class:`~crosswire.engine.Engine`.
    """
    engine = Engine(latest_only=config.latest_only, **options)
    ids: dict[tuple[str, str], int] = {}
    instruments: list[Instrument] = []
    for name, terms in config.venues.items():
        engine.add_venue(
            name,
            venue_of(name).layout,
            fee_bps=terms.fee_bps,
            liveness_limit_s=terms.liveness_limit_s,
            data_limit_s=terms.data_limit_s,
        )
    for pair in config.pairs:
        for name, symbol in (pair.a, pair.b):
            if (name, symbol) not in ids:
                native = venue_of(name).native(symbol)
                fee_bps = config.venues[name].fee_bps
                ids[name, symbol] = engine.add_instrument(name, native, fee_bps=fee_bps)
                instruments.append(Instrument(name, native, symbol))
    engine.set_pairs(
        [
            Pair(rule, ids[p.a], ids[p.b], p.open_net_bps, p.close_net_bps, p.qty_max)
            for rule, p in enumerate(config.pairs, 1)
        ]
    )
    return engine, instruments


class Runtime:
    """Runs a configuration inside the caller's loop.

    Use it as ``async with Runtime(config) as runtime:``, once; leaving stops everything. Set
    ``runtime.engine.on_signals`` (and ``on_quotes``, ``on_trades``) before entering.

    Args:
        config: what to run.
        seam: clock, randomness, network; by default the real ones, with the configuration's
            ``busy_poll_us``, which is the business of a seam that is given.
        record: a file that takes every read, opening, loss and timer firing, in one total order;
            entering creates it, see :class:`~crosswire.capture.RecordingWriter`.
        venue_of: where venues come from.

    Attributes:
        sessions: by venue name; those of a venue's other lines as ``NAME/2`` and so on.
        on_state_changed: called with a session whose state has changed. What it raises is logged
            and counted, and changes nothing else.
        on_message_error: called with the session and the
            :class:`~crosswire.errors.MessageError` of a message that was lost, by the timer, so at
            most ``advance_ms`` later. Of more than 16 of one venue in that time the last are told;
            ``session.line.error_count`` counts all. What it raises is treated likewise.
        on_loss: called with a :class:`~crosswire.instruments.Loss`, a stretch of a stream that may
            lack something, by the timer once it has ended; those that last are
            ``engine.open_losses()``. What it raises is treated likewise.
        callback_errors: how often the three raised; ``engine.callback_errors`` counts the engine's.
        recording_error: why the recording stopped before the run did, or ``None``. It stops for
            good, is logged once as an error, and changes nothing else.
    """

    on_state_changed: Callable[[Session], None] | None = None
    on_message_error: Callable[[Session, MessageError], None] | None = None
    on_loss: Callable[[Loss], None] | None = None

    def __init__(
        self,
        config: Config,
        *,
        seam: Seam | None = None,
        record: str | Path | None = None,
        venue_of: Callable[[str], Venue] = venue,
    ) -> None:
        self.config = config
        self.seam = seam or System(busy_poll_us=config.busy_poll_us)
        self.callback_errors = 0
        self.engine, self.instruments = build_engine(config, venue_of, is_timed=True)
        self._writer = RecordingWriter(record) if record else None
        self._tasks: list[asyncio.Task[None]] = []
        self._spin = Spin()
        self._is_used = False
        self._all_live = asyncio.Event()
        self._message_errors: Counter[tuple[str, str]] = Counter()
        self.sessions: dict[str, Session] = {}
        for group, (name, terms) in enumerate(config.venues.items(), 1):
            for number in range(terms.lines):
                key = f"{name}/{number + 1}" if number else name
                self.sessions[key] = self._session(venue_of(name), terms, number, group)
        self._note_live()

    def _session(self, market: Venue, terms: VenueConfig, number: int, group: int) -> Session:
        """Return what keeps one line of a venue; where its data can be merged, with a spare."""
        can_merge = bool(market.layout.merge_by)
        group = group if can_merge else 0
        place = number if can_merge else None
        line = Line(self.engine, market.name, group=group, place=place)
        spare = None
        if can_merge and terms.lines <= SPARED_LINES_MAX:
            spare = Line(self.engine, market.name, group=group, place=place)
        url = terms.url_of(number)
        natives = [i.native for i in self.instruments if i.venue == market.name]
        records = [Record.QUOTE, Record.TRADE] if terms.trades else [Record.QUOTE]
        return Session(
            venue=market,
            line=line,
            spare=spare,
            has_twins=can_merge,
            streams=[(native, record) for native in natives for record in records],
            seam=self.seam,
            observer=self,
            url=url,
            tls=tls_context(terms.ca_file) if url.startswith("wss:") else None,
            insecure=terms.insecure,
            backoff=ReconnectBackoff(self.config.backoff_base_s, self.config.backoff_cap_s),
            liveness_limit_s=terms.liveness_limit_s,
            proxy=parse_proxy(terms.proxy, terms.proxy_auth_env) if terms.proxy else None,
        )

    def _lines(self) -> list[tuple[Session, Line]]:
        """Return every line with its session, in the order of their ids."""
        return [(session, line) for session in self.sessions.values() for line in session.lines]

    @property
    def recording_error(self) -> RecordingError | None:
        return self._writer.error if self._writer else None

    # ---- what sessions tell

    def on_opened(self, session: Session, line: Line, ts: int, mono: int) -> None:
        if self._writer:
            what: dict[str, Any] = {"venue": session.venue.name, "url": url_shown(session.url)}
            if line.group:
                what["group"] = line.group
            self._writer.write_json(Kind.OPENED, line.id, ts, mono, what)

    def on_covered(self, session: Session, line: Line, ts: int, mono: int) -> None:
        if self._writer:
            self._writer.write(Kind.COVERED, line.id, ts, mono)

    def on_lost(self, session: Session, line: Line, ts: int, mono: int, reason: str) -> None:
        if self._writer:
            self._writer.write_json(Kind.LOST, line.id, ts, mono, {"reason": reason})

    def on_state(self, session: Session) -> None:
        self._note_live()
        self._tell("on_state_changed", self.on_state_changed, session)

    def _tell(self, what: str, callback: Callable[..., None] | None, *about: object) -> None:
        """Call back; what that raises is logged and counted."""
        if not callback:
            return
        try:
            callback(*about)
        except Exception:
            self.callback_errors += 1
            named = about[0].venue.name if isinstance(about[0], Session) else about[0]
            _log.exception("%s raised for %s", what, named)

    def _note_live(self) -> None:
        if all(s.state is State.LIVE for s in self.sessions.values()):
            self._all_live.set()
        else:
            self._all_live.clear()

    # ---- life

    async def wait_live(self, limit_s: float) -> None:
        """Wait until every session is live; after a loss, until they are again.

        Raises:
            TimeoutError: not all were within ``limit_s``; the message names the others.
            SubscriptionError: all are live, but some of their requests were refused, and are named
                here: pairs with a leg in one of them give no signals. Everything else runs; catch
                this to go on with it. :attr:`Session.refused` lists them one by one.
        """
        try:
            async with self.seam.timeout(limit_s):
                await self._all_live.wait()
        except TimeoutError:
            late = [
                f"{name} ({s.state.value}; {s.last_error or 'no error'})"
                for name, s in self.sessions.items()
                if s.state is not State.LIVE
            ]
            raise TimeoutError(f"not live after {limit_s:g} s: {', '.join(late)}") from None
        refused = [f"{name} {what}" for name, s in self.sessions.items() for what in s.refused]
        if refused:
            raise SubscriptionError("subscription-refused", 0, "; ".join(refused))

    async def __aenter__(self) -> Runtime:
        """Start every session and the timer.

        Raises:
            UsageError: it was entered or closed before, or the recording cannot be begun.
        """
        if self._is_used:
            raise UsageError("a Runtime is entered once; make another one")
        if self._writer:
            self._open_recording(self._writer)
        self._is_used = True
        self._tasks = [
            self._start(f"session of {name}", s.run()) for name, s in self.sessions.items()
        ]
        self._tasks.append(self._start("timer", self._keep_time()))
        if self.config.spin:
            self._spin.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop every session and the timer, and close the recording, whatever of that fails.

        Calling twice is allowed. When this is cancelled no venue is said goodbye to any more, but
        all of it has ended nevertheless.

        Raises:
            Exception: the first that the stop of a session, a session or the timer ended with;
                each was logged when it came.
        """
        self._is_used = True
        self._spin.stop()
        ends: list[object] = []
        try:
            stops = [self._start(f"stop of {name}", s.stop()) for name, s in self.sessions.items()]
            ends += await asyncio.gather(*stops, return_exceptions=True)
        finally:
            try:
                for task in self._tasks:
                    task.cancel()
                ends += await asyncio.gather(*self._tasks, return_exceptions=True)
                self._tasks = []
            finally:
                self._tell_message_errors()
                self._tell_losses()
                await self._close_recording()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    def _open_recording(self, writer: RecordingWriter) -> None:
        writer.open()
        ts, mono = self.seam.time_ns(), self.seam.monotonic_ns()
        writer.write_json(Kind.CONFIG, 0, ts, mono, self.describe())
        for _, line in self._lines():
            line.recorder = _recorder(writer, line.id)

    async def _close_recording(self) -> None:
        if not self._writer:
            return
        for _, line in self._lines():
            line.recorder = None
        self._writer.end()  # so that it closes even if the wait for that is cancelled
        await self.seam.in_thread(self._writer.close)

    @staticmethod
    def _start(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the caller; what it raises is logged when it does."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_log_end)
        return task

    async def _keep_time(self) -> None:
        while True:
            await self.seam.sleep(self.config.advance_ms / 1000)
            ts, mono = self.seam.time_ns(), self.seam.monotonic_ns()
            if self._writer:
                self._writer.write(Kind.TICK, 0, ts, mono)
            self.engine.advance(ts, mono)
            stale = self.engine.stale_instruments()
            for session in self.sessions.values():
                session.look(stale)
            self._tell_message_errors()
            self._tell_losses()

    def _tell_message_errors(self) -> None:
        """Log and hand over the messages that were lost since the last call."""
        for session, line in self._lines():
            for error in line.message_errors():
                self._log_message_error(session, line, error)
                self._tell("on_message_error", self.on_message_error, session, error)

    def _tell_losses(self) -> None:
        """Log and hand over the losses that have ended since the last call."""
        for loss in self.engine.losses():
            venue_name, native = self.engine.instruments[loss.instrument]
            what = (venue_name, native, loss.record.name.lower(), loss.cause)
            lasted_s = (loss.first_good_ts - loss.last_good_ts) / 1e9
            _log.info("%s: %s: %ss may be missing (%s), for %.3f s", *what, lasted_s)
            self._tell("on_loss", self.on_loss, loss)

    def _log_message_error(self, session: Session, line: Line, error: MessageError) -> None:
        """Log a lost message, unless so many of its kind came that the log would drown."""
        name = session.venue.name
        self._message_errors[name, error.code] += 1
        count = self._message_errors[name, error.code]
        if count > ERRORS_LOGGED and str(count).strip("0") != "1":
            return
        about = error.instrument
        symbol = "no known symbol" if about is None else self.engine.instruments[about][1]
        _log.warning(
            "%s: message %d, of %s, was lost: %s (number %d of this name; %d lost in all)",
            name,
            error.message,
            symbol,
            error,
            count,
            line.error_count,
        )

    def kernel_to_read_ns(self) -> dict[str, dict[str, int]]:
        """Return :meth:`Session.kernel_to_read_ns` of every venue, by its name."""
        return {name: session.kernel_to_read_ns() for name, session in self.sessions.items()}

    def describe(self) -> dict[str, Any]:
        """Return the directory and the terms that are in force, as a recording holds them.

        Venues and instruments are numbered from 0 in the order given; a replay numbers them so.
        """
        ids = {(i.venue, i.symbol): n for n, i in enumerate(self.instruments)}
        return {
            "venues": list(self.config.venues),
            "lines": [{"venue": s.venue.name, "group": line.group} for s, line in self._lines()],
            "instruments": [
                {"id": n, "venue": i.venue, "symbol": i.native, "multiplier": 1.0}
                for n, i in enumerate(self.instruments)
            ],
            "pairs": [
                {
                    "rule": rule,
                    "a": ids[p.a],
                    "b": ids[p.b],
                    "open_net_bps": p.open_net_bps,
                    "close_net_bps": p.close_net_bps,
                    "qty_max": p.qty_max if isfinite(p.qty_max) else None,
                }
                for rule, p in enumerate(self.config.pairs, 1)
            ],
            "fees_bps": {name: v.fee_bps for name, v in self.config.venues.items()},
            "open_net_bps": self.config.open_net_bps,
            "close_net_bps": self.config.close_net_bps,
            "liveness_limit_s": {n: v.liveness_limit_s for n, v in self.config.venues.items()},
            "data_limit_s": {n: v.data_limit_s for n, v in self.config.venues.items()},
        }


def _recorder(writer: RecordingWriter, line_id: int) -> Callable[[bytes, int, int], None]:
    """Return what a line tells its reads to."""

    def record(data: bytes, ts_rx: int, mono_rx: int) -> None:
        writer.write(Kind.READ, line_id, ts_rx, mono_rx, data)

    return record


def _log_end(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log.error("%s failed", task.get_name(), exc_info=error)
