"""Faults of a connection: their kinds and parameters, when they strike, and the account of them.

Rule 1: a fault strikes one direction of one connection, in front of the byte at its offset, once
that byte has come. Offsets count the bytes that the sending end sent, from 0.
Rule 2: which faults are drawn, and for which offsets, depends on the seed, the connection's number
and the direction; neither on time nor on how the system cut the bytes into pieces.
Rule 3: what one end sent and the account of its direction give every byte that the other end was
given: bits are flipped first, then ranges are repeated, then the stream is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import UsageError
from .plan import random_source

__all__ = [
    "DIRECTIONS",
    "FAULT_KINDS",
    "FINAL_KINDS",
    "SPAN_KINDS",
    "Account",
    "Chaos",
    "Draws",
    "Fault",
    "Strike",
]

SECONDS_MAX = 3600.0
RATE_MAX = 1e12
SIZE_MAX = 1 << 16
"""Bytes of a piece of a split, and of a range that is repeated, which is held until it is whole."""
BYTES_MAX = 1 << 62

DIRECTIONS = ("up", "down")
"""From the client to the upstream server, and back."""

_TAKES: dict[str, tuple[str, ...]] = {
    "cut": (),
    "reset": (),
    "half-open": (),
    "stall": ("seconds",),
    "delay": ("seconds", "span"),
    "jitter": ("seconds", "span"),
    "throttle": ("bytes_per_s", "span"),
    "split": ("size", "span"),
    "slow-drip": ("seconds", "span"),
    "corrupt": ("bit",),
    "duplicate": ("size",),
}
_MAY_LACK = ("span", "bit")
_RANGES: dict[str, tuple[float, float]] = {
    "seconds": (1e-6, SECONDS_MAX),
    "bytes_per_s": (1.0, RATE_MAX),
    "size": (1, SIZE_MAX),
    "span": (1, BYTES_MAX),
    "bit": (0, 7),
}
_WHOLE = ("size", "span", "bit")

FAULT_KINDS = tuple(_TAKES)
FINAL_KINDS = ("cut", "reset", "half-open")
"""Nothing is forwarded behind one of these."""
SPAN_KINDS = tuple(kind for kind, names in _TAKES.items() if "span" in names)
"""These hold for a span of the stream; several may hold at once."""


def _check(what: str, name: str, value: Any, low: float, high: float, is_whole: bool) -> None:
    is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # so that nan is refused as well
        noun = "a whole number" if is_whole else "a number"
        raise UsageError(f"{what}: {name} is {noun} from {low:g} to {high:g}, not {value!r}")


@dataclass(frozen=True)
class Fault:
    """One fault. Each kind takes the parameters that its line names, and no other.

    - ``cut``: both ends are given FIN behind what was forwarded; whatever else comes is lost.
    - ``reset``: both ends are given RST (SO_LINGER 0), at once.
    - ``half-open``: nothing more is forwarded in either direction. Both sockets stay open, and what
      comes is read and lost, until the proxy stops. A peer that gives up ends its own side only.
    - ``stall``, ``seconds``: nothing is forwarded for so long, then all of it.
    - ``delay``, ``seconds``, ``span``: each byte is forwarded so long after it was read.
    - ``jitter``, ``seconds``, ``span``: the same by a random time up to that, one for each piece as
      it was read. The order is kept.
    - ``throttle``, ``bytes_per_s``, ``span``: never faster than that.
    - ``split``, ``size``, ``span``: in sends of at most so many bytes.
    - ``slow-drip``, ``seconds``, ``span``: one byte a send, so long apart.
    - ``corrupt``, ``bit``: that bit of one byte is flipped.
    - ``duplicate``, ``size``: so many bytes are forwarded twice, the second time behind the first.
      Where the stream ends sooner nothing is repeated.

    Attributes:
        kind: one of ``FAULT_KINDS``.
        seconds: 0.000001 to 3,600.
        bytes_per_s: 1 to 1e12.
        size: bytes, 1 to 65,536.
        bit: 0 (lowest) to 7; ``None``: drawn by seed.
        span: for how many bytes of the stream it holds; ``None``: until its end.

    Raises:
        UsageError: an unknown kind, or a parameter that is missing, out of range or not the kind's.
    """

    kind: str
    seconds: float | None = None
    bytes_per_s: float | None = None
    size: int | None = None
    bit: int | None = None
    span: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.kind not in _TAKES:
            raise UsageError(f"unknown fault {self.kind!r}; known are {', '.join(FAULT_KINDS)}")
        takes = _TAKES[self.kind]
        for name in _RANGES:
            if name not in takes and getattr(self, name) is not None:
                raise UsageError(f"{self.kind} takes no {name}")
        for name in takes:
            value = getattr(self, name)
            if value is not None:
                _check(self.kind, name, value, *_RANGES[name], name in _WHOLE)
            elif name not in _MAY_LACK:
                raise UsageError(f"{self.kind} needs {name}")

    @property
    def parameter(self) -> float:
        """The number that its kind takes beside a span; 0 where it takes none."""
        for name in ("seconds", "bytes_per_s", "size", "bit"):
            if (value := getattr(self, name)) is not None:
                return float(value) if name in ("seconds", "bytes_per_s") else int(value)
        return 0


@dataclass(frozen=True)
class Chaos:
    """Which faults strike by themselves, and how often.

    Attributes:
        seed: equal seeds and equal bytes give equal faults.
        faults: each is as likely as any other; name one twice to have it twice as often.
        every_bytes: mean number of bytes of one direction from one fault to the next; the gaps are
            exponential.
        spare_bytes: so many bytes at the beginning of each direction are not struck.
        directions: which are struck, of ``DIRECTIONS``.

    Raises:
        UsageError: a number out of range, an unknown direction, or what is no fault.
    """

    seed: int = 1
    faults: tuple[Fault, ...] = ()
    every_bytes: float = 65_536
    spare_bytes: int = 0
    directions: tuple[str, ...] = DIRECTIONS

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _check("chaos", "seed", self.seed, -BYTES_MAX, BYTES_MAX, is_whole=True)
        _check("chaos", "every_bytes", self.every_bytes, 1, BYTES_MAX, is_whole=False)
        _check("chaos", "spare_bytes", self.spare_bytes, 0, BYTES_MAX, is_whole=True)
        if not isinstance(self.faults, tuple) or not all(
            isinstance(fault, Fault) for fault in self.faults
        ):
            raise UsageError(f"chaos: faults is a tuple of Fault, not {self.faults!r}")
        if not isinstance(self.directions, tuple) or set(self.directions) - set(DIRECTIONS):
            raise UsageError(f"chaos: directions is a tuple of {DIRECTIONS}")


class Draws:
    """The faults of one direction of one connection, in order of their offsets, without an end.

    Attributes:
        offset: where the next one strikes; ``None`` where none ever does.
    """

    def __init__(self, chaos: Chaos, connection: int, direction: str) -> None:
        purpose = f"chaos {connection} {direction}"
        self._chaos = chaos
        self._random = random_source(chaos.seed, purpose)
        self._luck = random_source(chaos.seed, f"{purpose} jitter")
        self._bits = random_source(chaos.seed, f"{purpose} by hand")
        self.offset: int | None = None
        if chaos.faults and direction in chaos.directions:
            self.offset = chaos.spare_bytes + self._gap()

    def _gap(self) -> int:
        return int(self._random.expovariate(1 / self._chaos.every_bytes))

    def take(self) -> Fault:
        """Return the next fault, and go on to the one behind it."""
        assert self.offset is not None
        fault = self._random.choice(self._chaos.faults)
        bit = self._random.randrange(8)
        self.offset += 1 + self._gap()
        return _with_bit(fault, bit)

    def settle(self, fault: Fault) -> Fault:
        """Return a fault that was asked for by hand, with the bit that it left open."""
        return _with_bit(fault, self._bits.randrange(8))

    def luck(self) -> float:
        """Return what share of a jitter the next piece suffers, 0 to 1."""
        return self._luck.random()


def _with_bit(fault: Fault, bit: int) -> Fault:
    is_open = fault.kind == "corrupt" and fault.bit is None
    return replace(fault, bit=bit) if is_open else fault


@dataclass(frozen=True)
class Strike:
    """A fault that struck.

    Attributes:
        kind: one of ``FAULT_KINDS``.
        mono_ns: when, in monotonic ns; of a ``duplicate``, when its range was whole.
        offset: the byte of the stream in front of which it struck; of a ``corrupt`` that byte.
        length: bytes of the stream that it concerns: 1 of a ``corrupt``, those that a ``duplicate``
            repeats, the span of a kind that has one (``None``: until the end), else 0.
        parameter: seconds, bytes a second, bytes of a piece, or the bit, as its kind has it.
    """

    kind: str
    mono_ns: int
    offset: int
    length: int | None
    parameter: float

    def same(self, other: Strike) -> bool:
        """Return whether two are equal but for their time."""
        return replace(self, mono_ns=0) == replace(other, mono_ns=0)


@dataclass
class Account:
    """What happened to one direction of one connection; it is true at any moment.

    ``received == waiting + (forwarded - repeated) + lost`` always holds.

    Attributes:
        strikes: what struck, in the order of striking.
        received: bytes that were read from the sending end. What it sent beyond them never came.
        forwarded: bytes that were written to the other end's transport, repeated ones with them.
            A reset and the end of the proxy take back what the system has not taken. Where that end
            is reset, or breaks its connection, the system may drop the last of the others, too, so
            that it was given a beginning of :meth:`expected` only.
        waiting: bytes that were read and wait to be handed on.
        waiting_max: most bytes, with those to be repeated and those that the transport could not
            send, that were ever held.
        send_count: how many pieces were handed on.
    """

    strikes: list[Strike] = field(default_factory=list)
    received: int = 0
    forwarded: int = 0
    waiting: int = 0
    waiting_max: int = 0
    send_count: int = 0

    @property
    def repeated(self) -> int:
        """Bytes among ``forwarded`` that were forwarded for a second time."""
        count = before = 0
        for end, length in self._copies():
            begin = end + before
            count += min(max(self.forwarded - begin, 0), length)
            before += length
        return count

    @property
    def lost(self) -> int:
        """Bytes that were read and will never be handed on."""
        return self.received - self.waiting - (self.forwarded - self.repeated)

    def expected(self, sent: bytes) -> bytes:
        """Return every byte that the other end was given so far.

        Args:
            sent: what the sending end sent, from the beginning; ``received`` bytes or more.

        Raises:
            UsageError: it is shorter than what was received.
        """
        if len(sent) < self.received:
            raise UsageError(f"{self.received} bytes were received, {len(sent)} are given")
        data = bytearray(sent[: self.received])
        for strike in self.strikes:
            if strike.kind == "corrupt":
                data[strike.offset] ^= 1 << int(strike.parameter)
        given = bytearray()
        at = 0
        for end, length in self._copies():
            given += data[at:end] + data[end - length : end]
            at = end
        given += data[at:]
        return bytes(given[: self.forwarded])

    def _copies(self) -> Iterator[tuple[int, int]]:
        """Yield (end, length) of the ranges that were repeated, in the order of the stream."""
        ranges = [
            (strike.offset + strike.length, strike.length)
            for strike in self.strikes
            if strike.kind == "duplicate" and strike.length
        ]
        yield from sorted(ranges, key=lambda item: item[0])
