"""Requests that respect the venue."""

from .batch import Batcher, Failed, Ok, ask_each
from .breaker import Breaker, BreakerState, Change, Outcome, Permit, outcome_of
from .client import Client, Sender, status_error
from .endpoint import EndpointRow, EndpointRules, EndpointState, Switch
from .endpoints import Endpoints, Use
from .limiter import Limiter, Ticket
from .message import Kind, Phases, Response
from .pool import LIMITS_S, Pool, Probe
from .prober import Prober
from .retry import Effect, Repeat, Retry, parse_retry_after, passes
from .share import Share
from .tariff import Call
from .usage import LimitEvent, LimitEventKind, LimitRow, Usage

__all__ = [
    "LIMITS_S",
    "Batcher",
    "Breaker",
    "BreakerState",
    "Call",
    "Change",
    "Client",
    "Effect",
    "EndpointRow",
    "EndpointRules",
    "EndpointState",
    "Endpoints",
    "Failed",
    "Kind",
    "LimitEvent",
    "LimitEventKind",
    "LimitRow",
    "Limiter",
    "Ok",
    "Outcome",
    "Permit",
    "Phases",
    "Pool",
    "Probe",
    "Prober",
    "Repeat",
    "Response",
    "Retry",
    "Sender",
    "Share",
    "Switch",
    "Ticket",
    "Usage",
    "Use",
    "ask_each",
    "outcome_of",
    "parse_retry_after",
    "passes",
    "status_error",
]
