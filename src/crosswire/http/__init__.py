"""Requests that respect the venue."""

from .breaker import Breaker, BreakerState, Change, Outcome, Permit, outcome_of
from .limiter import Call, Limiter, Ticket
from .message import Kind, Phases, Response
from .retry import Effect, Repeat, Retry, parse_retry_after, passes
from .share import Share
from .usage import LimitEvent, LimitEventKind, LimitRow, Usage

__all__ = [
    "Breaker",
    "BreakerState",
    "Call",
    "Change",
    "Effect",
    "Kind",
    "LimitEvent",
    "LimitEventKind",
    "LimitRow",
    "Limiter",
    "Outcome",
    "Permit",
    "Phases",
    "Repeat",
    "Response",
    "Retry",
    "Share",
    "Ticket",
    "Usage",
    "outcome_of",
    "parse_retry_after",
    "passes",
]
