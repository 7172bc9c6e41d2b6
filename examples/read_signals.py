"""Read the signals that serve_signals.py serves, and print them.

CROSSWIRE_TOKEN=... python examples/read_signals.py ws://127.0.0.1:PORT [--count N]

Exit: 0 N messages were read, 1 the server closed or refused, 2 wrong use, 130 Ctrl-C.
"""

import argparse
import asyncio
import os
import sys

from crosswire import CrosswireError
from crosswire.handshake import ClientHandshake, parse_url
from crosswire.receive import WebSocket
from crosswire.seam import System


async def read(url: str, token: str, count: int | None) -> str:
    """Print messages until ``count`` were read; return why it ended before, if it did."""
    left = count

    def on_message(socket, opcode, payload):  # a memoryview, valid during the call
        nonlocal left
        print(str(payload, "utf-8"), flush=True)
        if left is not None:
            left -= 1
            if left == 0:
                socket.close()

    handshake = ClientHandshake(url, {"Authorization": f"Bearer {token}"})
    where = parse_url(url)
    _, socket = await asyncio.get_running_loop().create_connection(
        lambda: WebSocket(handshake, System(), on_message), where.host, where.port
    )
    await socket.opened
    code, reason = await socket.ended
    return "" if left == 0 else f"closed by the server: {code} {reason}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the signals of a server.")
    parser.add_argument("url", help="ws://HOST:PORT, as serve_signals.py prints it")
    parser.add_argument("--count", type=int, help="messages to read (default: all)")
    options = parser.parse_args()
    token = os.environ.get("CROSSWIRE_TOKEN")
    if not token:
        parser.error("put the server's token into CROSSWIRE_TOKEN")
    try:
        if why := asyncio.run(read(options.url, token, options.count)):
            sys.exit(why)
    except (CrosswireError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
