"""One request on its way: checked, timed, and ended once.

Rules:
1. What a caller says is checked before anything else happens, and refused with a
   :class:`~crosswire.errors.UsageError`: nothing of it can begin a second request.
2. An exchange ends once, with an answer or an error; what comes later changes nothing.
3. An error says that the request may have run, unless none of its bytes was written, or the peer
   said that it did nothing.
"""

from __future__ import annotations

import re
from asyncio import Future
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..checks import check_type
from ..errors import RequestError, UsageError
from .message import Kind, Phases, Response

if TYPE_CHECKING:
    from .connection import Connection

__all__ = [
    "Exchange",
    "check_body",
    "check_method",
    "check_target",
    "checked_headers",
    "encode_headers",
]

_METHOD = re.compile(r"[A-Z][A-Z-]*", re.ASCII)
"""Those of HTTP in use are all in capitals, and ``get`` would be another one than ``GET``."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_TARGET = re.compile(r"/[!\"$-~]*", re.ASCII)
_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?", re.ASCII)
_OURS = frozenset(
    (
        "host", "content-length", "connection", "transfer-encoding", "keep-alive", "upgrade",
        "proxy-connection", "te", "trailer", "expect", "accept-encoding",
    )
)  # fmt: skip
_BODY_METHODS = frozenset(("POST", "PUT", "PATCH"))


def check_method(method: str) -> None:
    """Refuse what is no method, and CONNECT.

    Raises:
        UsageError: it is none.
    """
    check_type(method, str, "method")
    if not _METHOD.fullmatch(method) or method == "CONNECT":
        raise UsageError(f"{method!r} is no method of a request; they are written as GET")


def check_target(target: str) -> None:
    """Refuse what is no path with an optional query.

    Raises:
        UsageError: it is none; it is not shown, since it may hold a signature.
    """
    check_type(target, str, "target")
    if not _TARGET.fullmatch(target):
        raise UsageError(
            "a target begins with / and holds neither spaces, control characters, # nor anything "
            "that is not ASCII: encode it by percent signs"
        )


def check_body(body: bytes) -> None:
    """Refuse what is no body.

    Raises:
        UsageError: it is none.
    """
    check_type(body, bytes, "body", "json.dumps(...).encode() makes them, or bytes(...)")


def checked_headers(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return headers as they are now, for the caller's own may change before they are sent.

    Raises:
        UsageError: one is none, or is made here; its value is not shown, since it may be a key.
    """
    if not isinstance(headers, list | tuple):
        given = type(headers).__name__
        raise UsageError(f"headers must be a list of (name, value), not of type {given}")
    found = []
    for pair in headers:
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise UsageError("headers must be a list of (name, value)")
        name, value = pair
        found.append((name, value))
        check_type(name, str, "the name of a header")
        check_type(value, str, f"the value of the header {name!r}")
        if not _TOKEN.fullmatch(name):
            raise UsageError(f"{name!r} is no name of a header")
        if name.lower() in _OURS:
            raise UsageError(f"the header {name} is not the caller's to give")
        if not _VALUE.fullmatch(value):
            raise UsageError(
                f"the value of the header {name} begins or ends with a space, or holds a control "
                "character or something that is not ASCII"
            )
    return tuple(found)


def encode_headers(headers: Sequence[tuple[str, str]]) -> bytes:
    """Return the lines of an HTTP/1.1 head."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("ascii")


class Exchange:
    """A request, from its call to its end.

    Args:
        method, target, headers, body: checked.
        kind: of it.
        began: monotonic ns.
        deadline: monotonic ns, for all of it.
        future: of whoever waits.

    Attributes:
        carrier: the connection that it was given to.
        connect: ns that a connect made for it took.
        got: when it had a connection.
        sent, first: when its last byte was written, and the first of its answer came; 0: not yet.
        is_written: bytes of it may have left.
    """

    __slots__ = (
        "began", "body", "carrier", "connect", "deadline", "first", "future", "got", "headers",
        "is_written", "kind", "method", "sent", "target",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        kind: Kind,
        began: int,
        deadline: int,
        future: Future[Response],
    ) -> None:
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.kind = kind
        self.began, self.deadline = began, deadline
        self.future = future
        self.connect = self.got = self.sent = self.first = 0
        self.is_written = False
        self.carrier: Connection | None = None

    @property
    def length(self) -> int | None:
        """What Content-Length says; ``None``: the request has none."""
        return len(self.body) if self.body or self.method in _BODY_METHODS else None

    @property
    def phase(self) -> str:
        """In words, for an error."""
        if not self.got:
            return "waiting for a connection"
        if not self.sent:
            return "sending"
        return "waiting for the answer" if not self.first else "reading the answer"

    def finish(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        version: str,
        end: int,
    ) -> None:
        """End it with an answer, whose last byte came at ``end``."""
        if self.future.done():
            return
        sent = self.sent or end
        first = max(self.first, sent)
        phases = Phases(
            max(0, self.got - self.began - self.connect),
            self.connect,
            sent - self.got,
            first - sent,
            max(0, end - first),
        )
        self.future.set_result(Response(status, headers, body, phases, version))

    def fail(
        self, code: str, text: str, *, status: int | None = None, has_run: bool | None = None
    ) -> None:
        """End it with an error.

        Args:
            has_run: whether it may have; ``None``: it may once bytes were written.
        """
        if not self.future.done():
            may = self.is_written if has_run is None else has_run
            self.future.set_exception(RequestError(code, text, may_have_run=may, status=status))

    def expire(self) -> None:
        """End it at its deadline."""
        took_s = (self.deadline - self.began) / 1e9
        self.fail("http-timeout", f"not done within {took_s:.3g} s: {self.phase}")
