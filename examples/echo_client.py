"""Send every message of a server back, case by case, as conformance suites want it.

python examples/echo_client.py ws://127.0.0.1:9001 [--agent NAME] [--read-size N] [--ca FILE]

The server is asked at /getCaseCount how many cases it has; each is one connection to /runCase.
"""

import argparse
import asyncio
import ssl

from crosswire.handshake import ClientHandshake, parse_url
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


async def connect(url: str, on_message, ca_file: str | None) -> Socket:
    """Connect and upgrade; the result is open."""
    handshake = ClientHandshake(url, offers_deflate=True)
    where = parse_url(url)
    _, socket = await asyncio.get_running_loop().create_connection(
        lambda: Socket(handshake, System(), on_message, **LIMITS),
        where.host,
        where.port,
        ssl=ssl.create_default_context(cafile=ca_file) if where.secure else None,
    )
    await socket.opened
    return socket


async def run(url: str, agent: str, ca_file: str | None) -> int:
    counts = []
    socket = await connect(
        f"{url}/getCaseCount", lambda s, o, payload: counts.append(int(bytes(payload))), ca_file
    )
    await socket.ended
    for case in range(1, counts[0] + 1):
        socket = await connect(f"{url}/runCase?case={case}&agent={agent}", echo, ca_file)
        await socket.ended
    return counts[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Send every message of a server back.")
    parser.add_argument("url", help="ws://HOST:PORT or wss://HOST:PORT of the server")
    parser.add_argument("--agent", default="crosswire", help="name in the report")
    parser.add_argument("--read-size", type=int, default=65536, help="most bytes of one read")
    parser.add_argument("--ca", metavar="FILE", help="whom to trust (default: as the system does)")
    options = parser.parse_args()
    if options.read_size < 1:
        parser.error("--read-size is 1 or more")
    Socket.read_size = options.read_size
    print(f"{asyncio.run(run(options.url.rstrip('/'), options.agent, options.ca))} cases")


if __name__ == "__main__":
    main()
