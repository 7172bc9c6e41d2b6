"""Carry bytes between a side that speaks TLS and one that speaks plain text.

python tests/conformance/relay.py accept PORT TO IDENTITY    TLS at PORT, plain text on to port TO
python tests/conformance/relay.py connect PORT TO AUTHORITY  plain text at PORT, TLS on to port TO

IDENTITY is a file of a key and its certificate, AUTHORITY one of whom to trust. All is loopback.
In the request of an upgrade TO stands for PORT: a server refuses what is meant for another port.
Where one side ends its stream, so does the other; where one breaks it, the other is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

HOST = "127.0.0.1"
READ_SIZE = 65536


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction to its end, and hand that end on."""
    try:
        while data := await reader.read(READ_SIZE):
            writer.write(data)
            await writer.drain()
    except OSError:
        writer.transport.abort()
        return
    if writer.can_write_eof():
        with contextlib.suppress(OSError):  # it may be broken by now
            writer.write_eof()
    else:  # TLS ends both directions at once
        writer.close()


async def relay(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    try:
        await asyncio.gather(carry(near[0], far[1]), carry(far[0], near[1]))
    finally:
        for _, writer in (near, far):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def serve(mode: str, port: int, to: int, file: str) -> None:
    inward = outward = None
    if mode == "accept":
        inward = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        inward.load_cert_chain(file)
    else:
        outward = ssl.create_default_context(cafile=file)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            far = await asyncio.open_connection(HOST, to, ssl=outward)
        except (OSError, asyncio.IncompleteReadError) as error:
            print(f"no upgrade at port {port}: {error}", flush=True)
            writer.transport.abort()
            return
        far[1].write(head.replace(f"{HOST}:{port}\r\n".encode(), f"{HOST}:{to}\r\n".encode()))
        await relay((reader, writer), far)

    server = await asyncio.start_server(take, HOST, port, ssl=inward)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    mode, port, to, file = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(mode, int(port), int(to), file))
