"""Read the signals that serve_signals.py serves, and print them.

CROSSWIRE_TOKEN=... python examples/read_signals.py ws://127.0.0.1:PORT [--count N]

The token goes over TLS (wss://, the certificate is verified) or over loopback, and nowhere else.

Exit: 0 N messages were read, 1 the server closed or refused, 2 wrong use, 130 Ctrl-C.
"""

import argparse
import asyncio
import os
import ssl
import sys

from crosswire import CrosswireError, UsageError
from crosswire.handshake import ClientHandshake, parse_url
from crosswire.receive import WebSocket
from crosswire.seam import System

LOOPBACK = ("127.0.0.1", "::1", "localhost")


async def read(url: str, token: str, count: int | None) -> str:
    """Print messages until ``count`` were read; return why it ended before, if it did."""
    left = count

    def on_message(socket, opcode, payload):  # a memoryview, valid during the call
        nonlocal left
        text = str(payload, "utf-8")
        print("".join(char if char.isprintable() else "?" for char in text), flush=True)
        if left is not None:
            left -= 1
            if left == 0:
                socket.close()

    handshake = ClientHandshake(url, {"Authorization": f"Bearer {token}"})
    where = parse_url(url)
    if not where.secure and where.host not in LOOPBACK:
        raise UsageError("the token would be sent in plain text off loopback; use wss://")
    context = ssl.create_default_context() if where.secure else None
    _, socket = await asyncio.get_running_loop().create_connection(
        lambda: WebSocket(handshake, System(), on_message), where.host, where.port, ssl=context
    )
    await socket.opened
    code, reason = await socket.ended
    return "" if left == 0 else f"closed by the server: {code} {reason}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the signals of a server.")
    parser.add_argument("url", help="ws://HOST:PORT, as serve_signals.py prints it, or wss://")
    parser.add_argument("--count", type=int, help="messages to read, 1 or more (default: all)")
    options = parser.parse_args()
    if options.count is not None and options.count < 1:
        parser.error("--count is 1 or more")
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
