"""A request and its answer, as whoever makes the one and reads the other sees them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Kind", "Phases", "Response"]


class Kind(StrEnum):
    """What a request is for: its deadline, its lane and its breaker. The first is the most
    urgent."""

    CANCEL = "cancel"
    ORDER = "order"
    QUERY = "query"
    PUBLIC = "public"


class Phases(NamedTuple):
    """How long a request took, phase by phase, in ns of the monotonic clock.

    Attributes:
        queue: until a connection was there for it, without ``connect``.
        connect: for a connection that was opened for it; 0: one was warm.
        send: until its last byte was handed to the system, or to the TLS engine.
        first_byte: from then to the first byte of the answer.
        rest: from there to its last one.
    """

    queue: int
    connect: int
    send: int
    first_byte: int
    rest: int

    @property
    def total(self) -> int:
        """All of it, in ns."""
        return self.queue + self.connect + self.send + self.first_byte + self.rest


class Response(NamedTuple):
    """An answer, whole.

    Attributes:
        status: 200 to 599.
        headers: (name in lower case, value), in the order of arrival.
        body: as sent, without its transfer coding.
        phases: how long it took.
        version: ``"1.1"`` or ``"2"``.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    phases: Phases
    version: str

    def header(self, name: str) -> str | None:
        """Return the first header of that name, in lower case; ``None``: there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return None
