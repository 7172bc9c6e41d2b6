"""Receive engines: from a socket into a Line. They see only a Line."""

from .protocol import LineProtocol

__all__ = ["LineProtocol"]
