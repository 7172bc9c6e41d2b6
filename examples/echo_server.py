"""Send every message back: a peer for conformance suites.

python examples/echo_server.py --port 9001 [--read-size N] [--tls FILE]
"""

import argparse
import asyncio
import ssl

from crosswire.handshake import ServerHandshake
from crosswire.receive import WebSocket
from crosswire.seam import System

LIMITS = {"message_max": 16 << 20, "fragments_max": 1 << 17, "controls_max": 0}


class Socket(WebSocket):
    """Reads no more than ``read_size`` bytes at once."""

    read_size = 65536

    def get_buffer(self, sizehint):
        return super().get_buffer(sizehint)[: self.read_size]


def echo(socket, opcode, payload):  # the payload is valid during the call
    socket.send(opcode, payload)


def connection():
    handshake = ServerHandshake(takes_deflate=True)
    return Socket(handshake, System(), echo, **LIMITS)


async def serve(host: str, port: int, context: ssl.SSLContext | None) -> None:
    server = await asyncio.get_running_loop().create_server(connection, host, port, ssl=context)
    async with server:
        for sock in server.sockets:
            scheme = "wss" if context else "ws"
            print(f"listening on {scheme}://{host}:{sock.getsockname()[1]}", flush=True)
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="Send every message back.")
    parser.add_argument("--host", default="127.0.0.1", help="(default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=9001, help="0: any that is free (default 9001)")
    parser.add_argument("--read-size", type=int, default=65536, help="most bytes of one read")
    parser.add_argument("--tls", metavar="FILE", help="speak TLS with this key and certificate")
    options = parser.parse_args()
    if options.read_size < 1:
        parser.error("--read-size is 1 or more")
    Socket.read_size = options.read_size
    context = None
    if options.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.tls)
    try:
        asyncio.run(serve(options.host, options.port, context))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
