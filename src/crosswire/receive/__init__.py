"""Receive engines: how bytes come from a socket into a line, or into a codec."""

from .protocol import LineProtocol
from .tls import Resumption, connect
from .trust import check_context
from .websocket import WebSocket

__all__ = ["LineProtocol", "Resumption", "WebSocket", "check_context", "connect"]
