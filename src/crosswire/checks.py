"""What a caller gives, looked at before anything happens with it; what is wrong is named.

Words of an enumeration may be given as their text, as from a configuration. They are made words
here, at the door, once: behind it they are compared by identity, and a text would be none of them.
"""

from __future__ import annotations

from enum import StrEnum
from numbers import Integral, Real
from typing import Any, TypeVar

from .errors import UsageError

__all__ = [
    "as_word",
    "check_callable",
    "check_callables",
    "check_numbers",
    "check_type",
    "check_whole",
    "limit_ns",
]

LIMIT_MAX_S = 1e9
W = TypeVar("W", bound=StrEnum)


def as_word(words: type[W], value: object, name: str) -> W:
    """Return a word of an enumeration, that was given as itself or as its text.

    Args:
        words: of which it is one.
        value: as it was given.
        name: of the argument, for the error.

    Raises:
        UsageError: it is none of them.
    """
    if type(value) is words:
        return value
    for word in words:
        if value == word:
            return word
    raise UsageError(f"{name} is one of {', '.join(words)}, not {value!r}")


def check_type(value: object, wanted: type, name: str, remedy: str = "") -> None:
    """Refuse what is of another type; its value is not shown, since it may be a secret.

    Args:
        value: as it was given.
        wanted: its type.
        name: of the argument, for the error.
        remedy: what to write, in words.

    Raises:
        UsageError: it is of another one.
    """
    if not isinstance(value, wanted):
        text = f"{name} must be of type {wanted.__name__}, not {type(value).__name__}"
        raise UsageError(f"{text}: {remedy}" if remedy else text)


def check_callable(value: Any, name: str) -> None:
    """Refuse what cannot be called.

    Raises:
        UsageError: it cannot.
    """
    if not callable(value):
        raise UsageError(f"{name} must be a function, not of type {type(value).__name__}")


def check_callables(**hooks: Any) -> None:
    """Refuse a hook that is neither ``None`` nor can be called; its name is the keyword.

    Raises:
        UsageError: one is not.
    """
    for name, hook in hooks.items():
        if hook is not None:
            check_callable(hook, name)


def check_numbers(**values: object) -> None:
    """Refuse what is no number, as text is none; its name is the keyword.

    Raises:
        UsageError: one is none, or NaN.
    """
    for name, value in values.items():
        if not isinstance(value, Real) or value != value:
            raise UsageError(f"{name} must be a number, not {value!r}")


def check_whole(least: int, **values: object) -> None:
    """Refuse what is no whole number from ``least`` on; its name is the keyword.

    Raises:
        UsageError: one is none.
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise UsageError(f"{name} must be whole, and {least} or more, not {value!r}")


def limit_ns(limit_s: float, name: str = "limit_s") -> int:
    """Return how long something may take, in ns.

    Raises:
        UsageError: not a number, or not ``0 < limit_s < 1e9``.
    """
    if not isinstance(limit_s, Real) or not 0.0 < limit_s < LIMIT_MAX_S:
        raise UsageError(f"{name} must be in seconds, above 0 and below 1e9, not {limit_s!r}")
    return round(float(limit_s) * 1e9)
