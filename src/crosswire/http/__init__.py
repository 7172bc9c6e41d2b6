"""Requests that respect the venue."""

from .breaker import Breaker, BreakerState, Change, Outcome, Permit, outcome_of

__all__ = ["Breaker", "BreakerState", "Change", "Outcome", "Permit", "outcome_of"]
