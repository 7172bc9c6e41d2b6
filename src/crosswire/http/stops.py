"""What a venue's refusals and bans stop, and until when.

Rules:
1. A refusal stops what it is for until it ends, but for cancels; a ban stops everybody.
2. One that goes on is made neither shorter nor milder by another.
"""

from __future__ import annotations

from ..errors import LimitError
from .ledger import Stop
from .message import Kind
from .meter import Halt, Scopes
from .tariff import Call, Tariff

__all__ = ["Stops"]

NEVER_NS = 1 << 62


class Stops:
    """The stops of one limiter.

    Args:
        venue: its name, for errors.
        tariff: holds what is stopped of each scope.

    Attributes:
        until: monotonic ns; behind it nothing is stopped.
    """

    def __init__(self, venue: str, tariff: Tariff) -> None:
        self._venue = venue
        self._tariff = tariff
        self._is_left = False
        self.until = 0

    def add(self, scopes: Scopes, stop: Stop) -> Halt:
        """Stop what a refusal is for, and return that."""
        halt = self._tariff.halt_of(scopes)
        halt.until = max(halt.until, stop.until)
        if stop.is_ban:
            halt.banned_until = max(halt.banned_until, stop.until)
        halt.cause = stop.cause
        self.until = max(self.until, halt.until)
        return halt

    def is_known(self, scopes: Scopes, stop: Stop) -> bool:
        """Whether that is stopped for so long already."""
        halt = self._tariff.halt_of(scopes)
        return (halt.banned_until if stop.is_ban else halt.until) >= stop.until

    def leave(self) -> None:
        """Stop everything, for ever: the share was left."""
        self._is_left = True
        self.until = NEVER_NS

    def until_of(self, call: Call, now: int) -> int:
        """Return until when a request is stopped, 0 where it is not.

        Raises:
            LimitError: it is banned, or the share was left.
        """
        if self._is_left:
            raise self.left()
        until = 0
        for halt in call.halts:
            if now < halt.until:
                if now < halt.banned_until:
                    raise self.banned(halt, now)
                if call.kind is not Kind.CANCEL:
                    until = max(until, halt.until)
        return until

    def left_s(self, call: Call, now: int) -> float:
        """Return how long it still stops such requests, in s; 0: not at all."""
        is_cancel = call.kind is Kind.CANCEL
        ends = (halt.banned_until if is_cancel else halt.until for halt in call.halts)
        return (max([now, *ends]) - now) / 1e9

    def banned(self, halt: Halt, now: int) -> LimitError:
        """Return what somebody gets who asks while there is a ban; each gets one of their own."""
        left_s = (halt.banned_until - now) / 1e9
        text = f"{self._venue} has banned this address ({halt.cause}): for {left_s:.0f} s yet"
        return LimitError("rate-banned", text, left_s=left_s, status=418)

    def left(self) -> LimitError:
        """Return what somebody gets who asks when the share was left."""
        return LimitError("rate-left", "its Share was left", left_s=0.0)
