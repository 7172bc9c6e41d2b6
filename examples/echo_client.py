"""Send every message of a server back, case by case, as conformance suites want it.

python examples/echo_client.py ws://127.0.0.1:9001 [--agent NAME]

The server is asked at /getCaseCount how many cases it has; each is one connection to /runCase.
"""

import argparse
import asyncio

from crosswire.handshake import ClientHandshake, parse_url
from crosswire.receive import WebSocket
from crosswire.seam import System

LIMITS = {"message_max": 16 << 20, "fragments_max": 1 << 17, "controls_max": 0}


async def connect(url: str, on_message) -> WebSocket:
    """Connect and upgrade; the result is open."""
    handshake = ClientHandshake(url, offers_deflate=True)
    where = parse_url(url)
    _, socket = await asyncio.get_running_loop().create_connection(
        lambda: WebSocket(handshake, System(), on_message, **LIMITS),
        where.host,
        where.port,
    )
    await socket.opened
    return socket


async def run(url: str, agent: str) -> int:
    counts = []
    socket = await connect(
        f"{url}/getCaseCount", lambda s, o, payload: counts.append(int(bytes(payload)))
    )
    await socket.ended
    for case in range(1, counts[0] + 1):
        socket = await connect(
            f"{url}/runCase?case={case}&agent={agent}",
            lambda socket, opcode, payload: socket.send(opcode, payload),
        )
        await socket.ended
    return counts[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Send every message of a server back.")
    parser.add_argument("url", help="ws://HOST:PORT of the server")
    parser.add_argument("--agent", default="crosswire", help="name in the report")
    options = parser.parse_args()
    print(f"{asyncio.run(run(options.url.rstrip('/'), options.agent))} cases")


if __name__ == "__main__":
    main()
