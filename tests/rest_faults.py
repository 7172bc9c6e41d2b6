"""A seeded run of faults over real sockets and TLS: `python tests/rest_faults.py --requests N`.

Every request has an id in its target. The server counts what it read of each, then does what the
seed says: it answers, or breaks the answer or the connection in one of the ways of ``FAULTS``. Held
to account is the pool:

1. nothing is sent twice: no id is read twice;
2. each request ends once, in time: with the answer that is its own, or an error;
3. an error that says the request did not run is right: the server never read all of it;
4. nothing is left over: no request is out or waits at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import sys
from collections import Counter
from dataclasses import dataclass, field

import trustme
from rest_server import HOST, Request, rest_server

from crosswire.errors import RequestError
from crosswire.http import Kind, Pool
from crosswire.seam import System, reset_on_close

LIMIT_S = 0.15
"""Of a request; the slow faults are slower."""
AT_ONCE = 16
FAULTS = (
    "none", "reset-before", "reset-inside", "close-before", "close-after", "cut-body", "long-body",
    "bad-chunk", "cut-chunk", "two-lengths", "garbage", "html", "big-head", "big-body", "drip",
    "silent", "doubled", "early-hints", "switching", "gzip", "cancelled", "refuse-connect",
)  # fmt: skip
NONE_SHARE = 0.6
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer_to(target: str) -> bytes:
    body = target.encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@dataclass
class Run:
    """What happened.

    Attributes:
        ends: of requests, by fault and outcome.
        problems: what broke a rule.
    """

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    connects: int = 0
    resumed: int = 0


class Faulty:
    """The server's side: does what the target asks for, which is how the seed reaches it."""

    async def answer(self, request: Request) -> None:
        fault = request.target.split("/")[1]
        right = answer_to(request.target)
        half = right[: len(right) - 3]
        match fault:
            case "reset-before":
                request.reset()
            case "reset-inside":
                await request.send(half)
                request.reset()
            case "close-before":
                request.writer.close()
            case "close-after":
                await request.send(right)
                request.writer.close()
            case "cut-body":
                await request.send(half)
                request.writer.close()
            case "long-body":
                await request.send(right + b"HTTP/1.1 200 OK\r\n")
            case "bad-chunk":
                await request.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd"
                )
            case "cut-chunk":
                await request.send(CHUNKED + b"9\r\nab")
                request.writer.close()
            case "two-lengths":
                await request.send(right.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n", 1))
            case "garbage":
                await request.send(b"\x00\x01\x02garbage\r\n\r\n")
            case "html":
                page = b"<html>" + request.target.encode()
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
                await request.send(head % len(page) + page)
            case "big-head":
                await request.send(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000 + b"\r\n\r\n")
            case "big-body":
                await request.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 80_000)
            case "drip":
                for byte in right[:40]:
                    await request.send(bytes([byte]))
                    await asyncio.sleep(LIMIT_S / 10)
            case "silent" | "cancelled":
                await asyncio.sleep(2 * LIMIT_S)
                await request.send(right)
            case "doubled":
                await request.send(right + right)
            case "early-hints":
                await request.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + right)
            case "switching":
                await request.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
            case "gzip":
                await request.send(right.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1))
            case _:
                await request.send(right)


ANSWERED = {"none", "close-after", "long-body", "html", "doubled", "early-hints", "refuse-connect"}
"""Faults after which an answer is right; it may also be missing for the fault of a neighbour."""


async def run_faults(seed: int, count: int) -> Run:
    """Make the requests, and judge their ends."""
    chance = random.Random(seed)
    plan = ["none" if chance.random() < NONE_SHARE else chance.choice(FAULTS) for _ in range(count)]
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(server_tls)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    run = Run()
    refusals = 0

    def end_at_once(writer: asyncio.StreamWriter) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            reset_on_close(writer.transport)
            writer.transport.abort()

    async with rest_server(Faulty().answer, server_tls) as server:
        server.on_connect = end_at_once
        pool = Pool(server.url, System(), tls, body_max=50_000, connections_max=8)
        numbers = iter(range(count))

        async def ask() -> None:
            nonlocal refusals
            for number in numbers:
                fault = plan[number]
                target = f"/{fault}/{number}"
                if fault == "refuse-connect":
                    refusals = 1
                kind = list(Kind)[number % 4]
                task = asyncio.ensure_future(
                    pool.request("POST", target, body=b"{}", kind=kind, limit_s=LIMIT_S)
                )
                if fault == "cancelled":
                    await asyncio.wait([task], timeout=LIMIT_S / 3)
                    task.cancel()
                done, _ = await asyncio.wait([task], timeout=20)
                if not done:
                    run.problems.append(f"{target} did not end")
                    continue
                judge(number, fault, target, task)

        def judge(number: int, fault: str, target: str, task: asyncio.Task) -> None:
            seen = server.seen[target]
            if task.cancelled():
                run.ends[fault, "cancelled"] += 1
                if fault != "cancelled":
                    run.problems.append(f"{target} was cancelled")
                return
            error = task.exception()
            if error is None:
                response = task.result()
                run.ends[fault, "answer"] += 1
                own = target.encode() in (response.body, response.body.removeprefix(b"<html>"))
                if not own or fault not in ANSWERED or seen != 1:
                    run.problems.append(f"{target} was answered with {response.body[:60]!r}")
            elif isinstance(error, RequestError):
                run.ends[fault, f"{error.code}{'' if error.may_have_run else ' (not run)'}"] += 1
                if not error.may_have_run:
                    refused.append(target)
            else:
                run.problems.append(f"{target} ended with {error!r}")

        refused: list[str] = []
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        if pool.in_flight or pool.waiting_count:
            run.problems.append(f"{pool.in_flight} are out and {pool.waiting_count} wait")
        await pool.close()
        await asyncio.sleep(2 * LIMIT_S)  # what was still on its way has come
        run.problems += [f"{name} was read {n} times" for name, n in server.seen.items() if n > 1]
        run.problems += [f"{name} ran, and was told as not run" for name in refused
                         if server.seen[name]]  # fmt: skip
        if sum(run.ends.values()) != count:
            run.problems.append(f"{sum(run.ends.values())} ends of {count}")
        run.connects, run.resumed = pool.connects, pool.resumed
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description="Make requests of a server full of faults.")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with asyncio.Runner() as runner:
        run = runner.run(run_faults(options.seed, options.requests))
    for (fault, end), count in sorted(run.ends.items()):
        print(f"{fault:16} {end:32} {count:8,}")
    print(f"{options.requests:,} requests, {run.connects:,} connects, {run.resumed:,} resumed, "
          f"{len(run.problems)} problems, seed {options.seed}")  # fmt: skip
    for problem in run.problems[:20]:
        print(problem)
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main())
