"""Requests that respect the venue."""

from .breaker import Breaker, BreakerState, Change, Outcome, Permit, outcome_of
from .retry import Effect, Repeat, Retry, parse_retry_after, passes

__all__ = [
    "Breaker",
    "BreakerState",
    "Change",
    "Effect",
    "Outcome",
    "Permit",
    "Repeat",
    "Retry",
    "outcome_of",
    "parse_retry_after",
    "passes",
]
