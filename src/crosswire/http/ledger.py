"""Who holds how much of each limit: the ledger that processes of one host share.

It is a small SQLite database in a folder in memory. A member is a process; it may let through what
it holds, and no more, and all that is held of a meter is never more than its amount.

Rules:
1. Whatever changes does so in one transaction, which a member that is killed leaves undone.
2. A member holds a lock on a file of its own for as long as it lives. What it held when it was
   gone is held on until the venue counts none of it any more.
3. A want is met whole or not at all, and the oldest first.

Everything here blocks, and belongs in a thread. Times are of the monotonic clock, which all
processes of a host have in common.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..errors import HostError, UsageError
from ..seam import lock_file, open_file

__all__ = ["Ledger", "Reply", "Stop", "Want"]

BUSY_LIMIT_S = 5.0
"""How long another member may take for a transaction, which takes it well below 1 ms."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS holdings (
    member TEXT, meter TEXT, units INTEGER, amount INTEGER, hold_ns INTEGER, gone INTEGER,
    PRIMARY KEY (member, meter)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wants (
    member TEXT, meter TEXT, units INTEGER, since INTEGER, PRIMARY KEY (member, meter))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stops (
    scope TEXT PRIMARY KEY, until INTEGER, is_ban INTEGER, cause TEXT) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Want:
    """What a member lacks.

    Attributes:
        units: that it needs to go on.
        extra: that it would take as well, so as not to ask again soon.
        amount: all that there is.
        hold_ns: how long the venue counts a unit behind its end.
    """

    units: int
    extra: int
    amount: int
    hold_ns: int


@dataclass(frozen=True)
class Stop:
    """A venue's refusal, for all members.

    Attributes:
        until: monotonic ns.
        is_ban: nobody goes.
        cause: in words.
    """

    until: int
    is_ban: bool
    cause: str


@dataclass
class Reply:
    """What an exchange with the ledger gave.

    Attributes:
        grants: meter → units that this member holds from now on, in addition.
        wanted: meter → units that others want.
        others: meter → units that others hold.
        holders: meter → members that hold of it or want it, this one among them.
        free_at: when what those who are gone held of an unmet want is free; ``None``: of none.
        stops: by scope.
    """

    grants: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    holders: dict[str, int] = field(default_factory=dict)
    free_at: int | None = None
    stops: dict[str, Stop] = field(default_factory=dict)


class Ledger:
    """One member's way to the ledger; see :mod:`crosswire.http.ledger`.

    Args:
        folder: of the ledger; nobody but this user may write to it.
        member: a name that no other member ever has.

    Raises:
        HostError: the folder is somebody else's, or cannot be used.
    """

    def __init__(self, folder: Path, member: str) -> None:
        self._folder = folder
        self._member = member
        self._data: sqlite3.Connection | None = None
        self._lock: IO[bytes] | None = None
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise HostError(f"limits cannot be shared in {folder}: {error}") from error
        except HostError:
            self.close()
            raise

    def _open(self) -> None:
        folder = self._folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = os.lstat(folder)
        if folder.is_symlink() or state.st_uid != os.getuid() or state.st_mode & 0o077:
            raise HostError(f"{folder} is not this user's own, or others may enter it")
        self._lock = open_file(self._lock_of(self._member), "xb")
        if not lock_file(self._lock) or not self._is_alive(self._member):
            raise HostError(f"the file system of {folder} knows no locks")
        self._data = sqlite3.connect(
            folder / "ledger.db", timeout=BUSY_LIMIT_S, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        self._data.execute("PRAGMA journal_mode = WAL")
        self._data.execute("PRAGMA synchronous = OFF")
        self._data.executescript(SCHEMA)

    def close(self) -> None:
        """Be gone without a word, as who is killed."""
        if self._data:
            self._data.close()
        if self._lock:
            self._lock.close()
        self._data = self._lock = None

    def exchange(
        self,
        now: int,
        held: Mapping[str, int],
        wants: Mapping[str, Want],
        stops: Mapping[str, Stop],
    ) -> Reply:
        """Give back, want, and tell of refusals.

        Args:
            now: monotonic ns.
            held: meter → units that this member holds from now on, of those that changed.
            wants: by meter.
            stops: by scope, that are new.
        """
        data = self._open_data()
        data.execute("BEGIN IMMEDIATE")
        try:
            for meter, units in held.items():
                data.execute(
                    "UPDATE holdings SET units = ? WHERE member = ? AND meter = ?",
                    (units, self._member, meter),
                )
            data.execute("DELETE FROM holdings WHERE gone + hold_ns <= ?", (now,))
            for scope, stop in stops.items():
                data.execute(
                    "INSERT INTO stops VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET "
                    "is_ban = ?3 OR (is_ban AND until > ?5), until = max(until, ?2), cause = ?4",
                    (scope, stop.until, stop.is_ban, stop.cause, now),
                )
            reply = Reply()
            self._meet(now, wants, reply)
            self._read(now, reply)
            data.execute("COMMIT")
        except BaseException:
            if data.in_transaction:  # where the disk is full, it is rolled back already
                data.execute("ROLLBACK")
            raise
        return reply

    def leave(self, now: int, held: Mapping[str, int]) -> None:
        """End the membership; what is held is held on until the venue counts none of it.

        Args:
            held: meter → units that still count.
        """
        try:
            self.exchange(now, held, {}, {})
            self._bury(now, self._member)
            self._lock_of(self._member).unlink(missing_ok=True)
        finally:
            self.close()

    def _open_data(self) -> sqlite3.Connection:
        if self._data is None:
            raise UsageError("the ledger was left")
        return self._data

    def _lock_of(self, member: str) -> Path:
        return self._folder / f"{member}.lock"

    def _meet(self, now: int, wants: Mapping[str, Want], reply: Reply) -> None:
        """Meet wants, or note them."""
        have_buried = False
        for meter, want in wants.items():
            free, first = self._free(meter, want), self._first(meter)
            if (free < want.units or first not in (None, self._member)) and not have_buried:
                have_buried = True
                self._bury_the_dead(now)
                first = self._first(meter)
            if free < want.units or first not in (None, self._member):
                self._open_data().execute(
                    "INSERT INTO wants VALUES (?1, ?2, ?3, ?4) "
                    "ON CONFLICT DO UPDATE SET units = ?3",
                    (self._member, meter, want.units + want.extra, now),
                )
                continue
            self._open_data().execute(
                "DELETE FROM wants WHERE member = ? AND meter = ?", (self._member, meter)
            )
            grant = min(free, want.units + self._extra(meter, want))
            self._open_data().execute(
                "INSERT INTO holdings VALUES (?1, ?2, ?3, ?4, ?5, NULL) "
                "ON CONFLICT DO UPDATE SET units = units + ?3, amount = ?4, hold_ns = ?5",
                (self._member, meter, grant, want.amount, want.hold_ns),
            )
            reply.grants[meter] = grant

    def _extra(self, meter: str, want: Want) -> int:
        """Return how much more than it needs the member may take: where others want, too, no more
        than up to an even share."""
        if not self._ask("SELECT 1 FROM wants WHERE meter = ?", meter):
            return want.extra
        read = self._open_data().execute
        (holders,) = read(
            "SELECT count(DISTINCT member) FROM (SELECT member FROM holdings WHERE meter = ?1 "
            "AND gone IS NULL UNION SELECT member FROM wants WHERE meter = ?1 UNION SELECT ?2)",
            (meter, self._member),
        ).fetchone()
        (mine,) = read(
            "SELECT coalesce(sum(units), 0) FROM holdings WHERE meter = ? AND member = ?",
            (meter, self._member),
        ).fetchone()
        left: int = want.amount // holders - mine - want.units
        return max(0, min(want.extra, left))

    def _free(self, meter: str, want: Want) -> int:
        """Return what nobody holds; where members differ on the amount, the least counts."""
        held, least = (
            self._open_data()
            .execute(
                "SELECT coalesce(sum(units), 0), coalesce(min(amount), ?) FROM holdings "
                "WHERE meter = ?",
                (want.amount, meter),
            )
            .fetchone()
        )
        free: int = min(want.amount, least) - held
        return free

    def _first(self, meter: str) -> object:
        """Return whose want is the oldest; ``None``: nobody's."""
        return self._ask(
            "SELECT member FROM wants WHERE meter = ? ORDER BY since, member LIMIT 1", meter
        )

    def _ask(self, query: str, meter: str) -> object:
        row = self._open_data().execute(query, (meter,)).fetchone()
        return row[0] if row else None

    def _read(self, now: int, reply: Reply) -> None:
        """Read what others hold and want, and all that is refused."""
        read = self._open_data().execute
        for meter, units in read(
            "SELECT meter, sum(units) FROM wants WHERE member != ? GROUP BY meter", (self._member,)
        ):
            reply.wanted[meter] = units
        for meter, units in read(
            "SELECT meter, sum(units) FROM holdings WHERE member != ? GROUP BY meter",
            (self._member,),
        ):
            reply.others[meter] = units
        for meter, count in read(
            "SELECT meter, count(DISTINCT member) FROM (SELECT member, meter FROM holdings WHERE "
            "gone IS NULL UNION SELECT member, meter FROM wants) GROUP BY meter"
        ):
            reply.holders[meter] = count
        row = read(
            "SELECT min(gone + hold_ns) FROM holdings WHERE gone IS NOT NULL AND units > 0 AND "
            "meter IN (SELECT meter FROM wants WHERE member = ?)",
            (self._member,),
        ).fetchone()
        reply.free_at = row[0]
        read("DELETE FROM stops WHERE until <= ?", (now,))
        for scope, until, is_ban, cause in read("SELECT scope, until, is_ban, cause FROM stops"):
            reply.stops[scope] = Stop(until, bool(is_ban), cause)

    def _bury_the_dead(self, now: int) -> None:
        """Note who has gone without a word: nobody holds its lock."""
        members = (
            self._open_data()
            .execute(
                "SELECT member FROM holdings WHERE gone IS NULL UNION SELECT member FROM wants"
            )
            .fetchall()
        )
        for (member,) in members:
            if member != self._member and not self._is_alive(member):
                self._bury(now, member)
                self._lock_of(member).unlink(missing_ok=True)

    def _is_alive(self, member: str) -> bool:
        try:
            with open_file(self._lock_of(member)) as file:
                return not lock_file(file)
        except FileNotFoundError:
            return False

    def _bury(self, now: int, member: str) -> None:
        self._open_data().execute(
            "UPDATE holdings SET gone = ? WHERE member = ? AND gone IS NULL", (now, member)
        )
        self._open_data().execute("DELETE FROM wants WHERE member = ?", (member,))
