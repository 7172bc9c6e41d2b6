"""Receive engines: how bytes come from a socket into a line, or into a codec."""

from .protocol import LineProtocol
from .proxy import Proxy, parse_proxy
from .tls import Resumption, connect
from .trust import check_context
from .websocket import WebSocket

__all__ = [
    "LineProtocol",
    "Proxy",
    "Resumption",
    "WebSocket",
    "check_context",
    "connect",
    "parse_proxy",
]
