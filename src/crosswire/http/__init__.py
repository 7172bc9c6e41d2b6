"""Requests that respect the venue."""

from .breaker import Breaker, BreakerState, Change, Outcome, Permit, outcome_of
from .message import Kind, Phases, Response
from .retry import Effect, Repeat, Retry, parse_retry_after, passes

__all__ = [
    "Breaker",
    "BreakerState",
    "Change",
    "Effect",
    "Kind",
    "Outcome",
    "Permit",
    "Phases",
    "Repeat",
    "Response",
    "Retry",
    "outcome_of",
    "parse_retry_after",
    "passes",
]
