"""Sinks: where signals go when they leave the process."""

from .server import Reader, Server

__all__ = ["Reader", "Server"]
