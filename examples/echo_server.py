"""Send every message back: a peer for conformance suites.

python examples/echo_server.py --port 9001
"""

import argparse
import asyncio

from crosswire.handshake import ServerHandshake
from crosswire.receive import WebSocket
from crosswire.seam import System

LIMITS = {"message_max": 16 << 20, "fragments_max": 1 << 17, "controls_max": 0}


def echo(socket, opcode, payload):  # the payload is valid during the call
    socket.send(opcode, payload)


def connection():
    handshake = ServerHandshake(takes_deflate=True)
    return WebSocket(handshake, System(), echo, **LIMITS)


async def serve(host: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(connection, host, port)
    async with server:
        for sock in server.sockets:
            print(f"listening on ws://{host}:{sock.getsockname()[1]}", flush=True)
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="Send every message back.")
    parser.add_argument("--host", default="127.0.0.1", help="(default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=9001, help="0: any that is free (default 9001)")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.host, options.port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
