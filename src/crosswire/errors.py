"""Exceptions: the type says whose fault it was.

:class:`VenueError` is theirs (what arrived on a socket), :class:`UsageError` is ours (what the
caller or the configuration said), :class:`RecordingError` is a file's.
"""

from __future__ import annotations

__all__ = [
    "BreakerOpenError",
    "CrosswireError",
    "HandshakeError",
    "HostError",
    "LimitError",
    "MessageError",
    "ProxyError",
    "RecordingError",
    "RequestError",
    "SubscriptionError",
    "TlsError",
    "UsageError",
    "VenueError",
]


class CrosswireError(Exception):
    """Base of everything this package raises on purpose."""


class UsageError(CrosswireError):
    """The caller or the configuration asked for something that cannot be done."""


class HostError(CrosswireError):
    """Something outside is missing or did not start; the message says what to do."""


class RecordingError(CrosswireError):
    """A recording or capture file cannot be read; the message says at which byte or line.

    Attributes:
        at: byte offset of a recording from which on it cannot be read, or ``None``.
    """

    def __init__(self, text: str, at: int | None = None) -> None:
        super().__init__(text)
        self.at = at


class VenueError(CrosswireError):
    """A venue sent something wrong.

    Attributes:
        code: the error's name, as in ``docs/errors.md``.
        at: byte offset of the fault in the message or stream.
        text: what is wrong, in words; empty where the code says it all.
    """

    def __init__(self, code: str, at: int = 0, text: str = "") -> None:
        super().__init__(f"{code} at byte {at}" + (f": {text}" if text else ""))
        self.code = code
        self.at = at
        self.text = text


class MessageError(VenueError):
    """A message that was lost to an error.

    Attributes:
        code: the error's name.
        at: byte offset in the message.
        message: ordinal of the message on its line, from 0.
        instrument: id, or ``None`` where it cannot be told.
    """

    def __init__(self, code: str, at: int, message: int, instrument: int | None, text: str) -> None:
        super().__init__(code, at, text)
        self.message = message
        self.instrument = instrument


class HandshakeError(VenueError):
    """The WebSocket upgrade was refused or was not an upgrade."""


class _WayError(VenueError):
    """Something on the way to a venue, where there is no position to tell."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, 0, text)
        self.args = (f"{code}: {text}",)


class TlsError(_WayError):
    """TLS with a venue was refused or broke; the text says what to do."""


class ProxyError(_WayError):
    """A proxy that was asked for gave no way to a venue; the text says what to do."""


class SubscriptionError(VenueError):
    """A venue refused a subscription, or did not acknowledge it in time."""


class BreakerOpenError(_WayError):
    """A request was not sent: what it is for has failed too often, and is left alone.

    Attributes:
        name: the breaker's.
        left_s: until somebody is let through, in s; 0: as soon as a probe that is out has ended.
    """

    def __init__(self, name: str, left_s: float) -> None:
        text = f"for {left_s:.3g} s yet" if left_s else "its probes are out"
        super().__init__("breaker-open", f"{name}: {text}")
        self.name = name
        self.left_s = left_s


class RequestError(_WayError):
    """A request ended without an answer that is one.

    Attributes:
        may_have_run: whether the venue may have carried it out, or still may: false only where it
            was not sent, or was refused.
        status: of the answer; ``None``: there was none.
        retry_after_s: how long the venue wants to be left alone, in s; ``None``: it did not say.
    """

    def __init__(
        self,
        code: str,
        text: str,
        *,
        may_have_run: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, text)
        self.may_have_run = may_have_run
        self.status = status
        self.retry_after_s = retry_after_s


class LimitError(RequestError):
    """A request was not sent, for its venue's limits do not let it through in time.

    Attributes:
        left_s: until a ban ends, in s; 0: it was no ban.
    """

    def __init__(self, code: str, text: str, *, left_s: float, status: int | None = None) -> None:
        super().__init__(
            code, text, may_have_run=False, status=status, retry_after_s=left_s or None
        )
        self.left_s = left_s
