"""Faults of a REST server: their kinds, which request each strikes, and what becomes of an answer.

Rule 1: a fault strikes one request. What is drawn depends on the seed and the request's number
alone, not on time.
Rule 2: the account says of each request that was struck whether it was carried out all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import UsageError
from .plan import random_source
from .rest_venue import Answer

__all__ = [
    "EARLY_KINDS",
    "REST_FAULT_KINDS",
    "Latency",
    "Luck",
    "RestChaos",
    "RestFault",
    "changed",
    "page",
]

SECONDS_MAX = 3600.0
SIZE_MAX = 64 << 20
BAD_HEADS = 6
"""Ways in which a head can be wrong: see ``rest_h1``."""

BOTH, ONE, TWO = ("1.1", "2"), ("1.1",), ("2",)

_KINDS: dict[str, tuple[tuple[str, ...], bool, tuple[str, ...]]] = {
    "reset-early": (BOTH, False, ()),
    "reset": (BOTH, True, ()),
    "close": (BOTH, True, ()),
    "truncate": (BOTH, True, ("size",)),
    "oversize": (BOTH, True, ("size",)),
    "drip": (BOTH, True, ("seconds", "size")),
    "stall": (BOTH, True, ("seconds", "size")),
    "html": (BOTH, False, ()),
    "error": (BOTH, False, ("status",)),
    "redirect": (BOTH, False, ("status",)),
    "bad-encoding": (BOTH, True, ()),
    "long-head": (BOTH, True, ("size",)),
    "bad-head": (ONE, True, ("variant",)),
    "bad-chunk": (ONE, True, ()),
    "twice": (ONE, True, ()),
    "unasked": (ONE, True, ("seconds",)),
    "last": (ONE, True, ()),
    "goaway": (TWO, False, ()),
    "goaway-abrupt": (TWO, True, ()),
    "refused-stream": (TWO, False, ()),
    "internal-error": (TWO, True, ()),
    "no-answer": (TWO, True, ()),
    "settings": (TWO, True, ("size",)),
    "no-window": (TWO, True, ("seconds",)),
}
"""Each kind: the versions that know it, whether the request is carried out, its parameters."""

REST_FAULT_KINDS = tuple(_KINDS)
EARLY_KINDS = ("reset-early", "goaway", "refused-stream")
"""These strike as soon as a head is read; such a request is never carried out."""

_DEFAULTS: dict[tuple[str, str], float | None] = {
    ("truncate", "size"): None,
    ("oversize", "size"): 8 << 20,
    ("drip", "seconds"): 0.001,
    ("drip", "size"): 1,
    ("stall", "size"): 0,
    ("error", "status"): 500,
    ("redirect", "status"): 302,
    ("long-head", "size"): 1 << 17,
    ("bad-head", "variant"): 0,
    ("unasked", "seconds"): 0.0,
}
_RANGES: dict[str, tuple[float, float]] = {
    "seconds": (0.0, SECONDS_MAX),
    "size": (0, SIZE_MAX),
    "status": (300, 599),
    "variant": (0, BAD_HEADS - 1),
}


@dataclass(frozen=True)
class RestFault:
    """One fault. Each kind takes the parameters that its line names, and no other; a bracket gives
    what one is where it is left out.

    In both versions:

    - ``reset-early``: the connection is reset (RST) once the head is read, before the rest is.
    - ``reset``, ``close``: the same, or FIN, behind the whole request, in place of an answer.
    - ``truncate``, ``size`` [half]: so many bytes of the body come, then FIN; the head promises
      all. In HTTP/2 the stream ends there.
    - ``oversize``, ``size`` [8 MiB]: the body is so long, of spaces.
    - ``drip``, ``seconds`` [0.001], ``size`` [1]: so many bytes a send, so long apart.
    - ``stall``, ``seconds``, ``size`` [0]: so many bytes of the answer, then nothing for so long.
      HTTP/2 counts the body's alone and sends its head with the first of them.
    - ``html``: a page, with status 200.
    - ``error``, ``status`` [500]: a page.
    - ``redirect``, ``status`` [302]: to ``/elsewhere``.
    - ``bad-encoding``: the head says gzip, and the body is none.
    - ``long-head``, ``size`` [128 KiB]: a header so long.

    In HTTP/1.1:

    - ``bad-head``, ``variant`` [0]: 0 a status line that is none, 1 a status that is no number, 2 a
      header without a colon, 3 two lengths that differ, 4 a length and chunks, 5 a length below 0.
    - ``bad-chunk``: a chunk's size is no number.
    - ``twice``: the answer comes twice, in one send.
    - ``unasked``, ``seconds`` [0]: so long behind the answer comes a 408 that nobody asked for.
    - ``last``: the answer says ``Connection: close``, and FIN follows.

    In HTTP/2:

    - ``goaway``: GOAWAY without an error, which gives this stream and later ones back. Earlier ones
      are answered, then the connection is closed.
    - ``goaway-abrupt``: GOAWAY with an error in place of an answer, and FIN.
    - ``refused-stream``: RST_STREAM (REFUSED_STREAM) once the head is read.
    - ``internal-error``: RST_STREAM (INTERNAL_ERROR) in place of an answer.
    - ``no-answer``: the stream is never answered.
    - ``settings``, ``size``: from here on only so many streams may be open at once.
    - ``no-window``, ``seconds``: for so long no body may be sent to the server.

    Attributes:
        kind: one of ``REST_FAULT_KINDS``.
        seconds: 0 to 3,600.
        size: bytes, or streams; 0 to 64 MiB.
        status: 300 to 599.
        variant: 0 to 5.
        carries_out: whether the request is carried out all the same; ``None``: as its kind has it.
            Those that strike a head never are.

    Raises:
        UsageError: an unknown kind, or a parameter that is missing, out of range or not the kind's.
    """

    kind: str
    seconds: float | None = None
    size: int | None = None
    status: int | None = None
    variant: int | None = None
    carries_out: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be, and fill in what was left out."""
        if self.kind not in _KINDS:
            known = ", ".join(REST_FAULT_KINDS)
            raise UsageError(f"unknown fault {self.kind!r}; known are {known}")
        _, carries_out, takes = _KINDS[self.kind]
        for name, (low, high) in _RANGES.items():
            value: Any = getattr(self, name)
            if name not in takes:
                if value is not None:
                    raise UsageError(f"{self.kind} takes no {name}")
                continue
            if value is None:
                if (self.kind, name) not in _DEFAULTS:
                    raise UsageError(f"{self.kind} needs {name}")
                value = _DEFAULTS[self.kind, name]
                object.__setattr__(self, name, value)
            is_open = (self.kind, name) == ("truncate", "size") and value is None
            is_number = isinstance(
                value, int | float if name == "seconds" else int
            ) and not isinstance(value, bool)
            if not is_open and not (is_number and low <= value <= high):
                text = f"{self.kind}: {name} is {low:g} to {high:g}, not {value!r}"
                raise UsageError(text)
        if self.seconds is not None:
            object.__setattr__(self, "seconds", float(self.seconds))
        if self.kind == "drip" and not self.size:
            raise UsageError("drip: size is 1 or more")
        if self.carries_out is None:
            object.__setattr__(self, "carries_out", carries_out)
        elif self.carries_out and self.kind in EARLY_KINDS:
            raise UsageError(f"a request that {self.kind} strikes is never carried out")

    def suits(self, version: str) -> bool:
        """Return whether a version of HTTP knows it."""
        return version in _KINDS[self.kind][0]


@dataclass(frozen=True)
class RestChaos:
    """Which faults strike by themselves, and how often.

    Attributes:
        faults: each is as likely as any other that the request's version knows.
        share: of the requests that are struck, 0 to 1.

    Raises:
        UsageError: ``share`` is out of range, or there is no fault.
    """

    faults: tuple[RestFault, ...]
    share: float

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0 <= self.share <= 1 or not self.faults:
            raise UsageError("chaos needs faults, and a share of 0 to 1")


@dataclass(frozen=True)
class Latency:
    """How long an answer takes, beside what it takes to make: ``fixed_s`` and up to ``jitter_s``
    more, uniformly, by seed and request.

    Raises:
        UsageError: not 0 to 3,600.
    """

    fixed_s: float = 0.0
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not (0 <= self.fixed_s <= SECONDS_MAX and 0 <= self.jitter_s <= SECONDS_MAX):
            raise UsageError(f"a latency is 0 to {SECONDS_MAX:g} s")


class Luck:
    """What is drawn for one request; the same in each run of a seed.

    Attributes:
        arrival: share of the arrival jitter, 0 to 1.
        answer: share of the latency's jitter, 0 to 1.
    """

    def __init__(self, seed: int, request: int) -> None:
        draws = random_source(seed, f"rest {request}")
        self.arrival, self.answer, self._fault, self._kind = (draws.random() for _ in range(4))

    def fault(self, chaos: RestChaos, version: str) -> RestFault | None:
        """Return the fault that strikes, or ``None``."""
        if self._fault >= chaos.share:
            return None
        known = [fault for fault in chaos.faults if fault.suits(version)]
        return known[int(self._kind * len(known))] if known else None


PAGE = b"<!DOCTYPE html><html><head><title>%s</title></head><body>%s</body></html>\n"


def page(status: int, text: str) -> Answer:
    """Return a page in HTML, as what stands before a venue sends."""
    body = PAGE % (text.encode(), text.encode())
    return Answer(status, body, content_type="text/html")


def changed(answer: Answer, fault: RestFault | None) -> Answer:
    """Return the answer that a fault leaves; one that changes only how it is sent leaves it."""
    match fault:
        case RestFault(kind="html"):
            return replace(page(200, "Please wait"), headers=answer.headers)
        case RestFault(kind="error", status=int(status)):
            return replace(page(status, "Something went wrong"), headers=answer.headers)
        case RestFault(kind="redirect", status=int(status)):
            return Answer(status, headers=(*answer.headers, ("location", "/elsewhere")))
        case RestFault(kind="bad-encoding"):
            return replace(answer, headers=(*answer.headers, ("content-encoding", "gzip")))
        case RestFault(kind="long-head", size=int(size)):
            return replace(answer, headers=(*answer.headers, ("x-long", "x" * size)))
        case RestFault(kind="oversize", size=int(size)):
            return replace(answer, body=b" " * size)
    return answer
