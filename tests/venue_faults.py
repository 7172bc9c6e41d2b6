"""Orders to a simulated venue full of faults, over HTTP/1.1 and HTTP/2, and the account of both.

    python tests/venue_faults.py --requests 100000 --version 2 --seed 1

Every order has a client id of its own, in a header that the server's account keeps and in its
body. The venue's account and its book are the truth:

1. nothing is sent twice: no id comes twice, and no order stands in the book twice;
2. each request ends once, in time: with an answer, or with an error that has a name;
3. an error that says that it did not run is right: no such order stands in the book;
4. an answer that says that an order was placed names that order, which stands in the book;
5. nothing is left over: no request is out or waits at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import ssl
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from crosswire.errors import RequestError
from crosswire.http import Kind, Pool
from crosswire.seam import System
from crosswire.sim import REST_FAULT_KINDS, Latency, RestChaos, RestFault, RestServer, SimVenue

HOST = "127.0.0.1"
LIMIT_S = 0.5
AT_ONCE = 16
SHARE = 0.4
ORDER = {"symbol": "BTCUSDT", "side": "buy", "price": "1", "qty": "1"}


def faults() -> tuple[RestFault, ...]:
    """Return one of each kind that the simulator knows; the slow ones are slower than a request."""
    found = []
    for kind in REST_FAULT_KINDS:
        match kind:
            case "stall" | "no-window" | "unasked":
                found.append(RestFault(kind, seconds=1.2 * LIMIT_S if kind == "stall" else 0.02))
            case "drip":
                found.append(RestFault(kind, seconds=0.002, size=5))
            case "oversize":
                found.append(RestFault(kind, size=30_000))
            case "long-head":
                found.append(RestFault(kind, size=40_000))
            case "settings":
                found.append(RestFault(kind, size=8))
            case "bad-head":
                found += [RestFault(kind, variant=n) for n in range(6)]
            case "error":
                found += [RestFault(kind, status=500, carries_out=n == 1) for n in range(2)]
            case _:
                found.append(RestFault(kind))
    return tuple(found)


@dataclass
class Run:
    """What happened.

    Attributes:
        ends: of requests, by the fault that struck and the outcome.
        problems: what broke a rule.
    """

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    connects: int = 0
    resumed: int = 0


async def run_faults(version: str, seed: int, count: int) -> Run:
    """Send so many orders, and hold the pool to account."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    tls.set_alpn_protocols(["h2" if version == "2" else "http/1.1"])
    run, rng = Run(), random.Random(seed)
    venue = SimVenue(seed, duplicates="accept")
    outcomes: dict[str, tuple[str, bool]] = {}  # client id → (end, may have run)
    async with RestServer(
        venue.routes(), context=context, versions=(version,), seed=seed,
        chaos=RestChaos(faults(), SHARE), latency=Latency(0.0, 0.003), connections_max=64,
    ) as server:  # fmt: skip
        pool = Pool(
            f"https://{HOST}:{server.port}", System(), tls, version=version, body_max=20_000,
            connections_max=8, waiting_max=1000,
        )  # fmt: skip
        numbers = iter(range(count))

        async def ask(number: int) -> None:
            name = f"id-{number}"
            order = {**ORDER, "client_id": name}
            request = asyncio.ensure_future(
                pool.request(
                    "POST", "/order", headers=[("x-key", name)], body=json.dumps(order).encode(),
                    kind=rng.choice(list(Kind)), limit_s=LIMIT_S,
                )
            )  # fmt: skip
            if rng.random() < 0.02:
                await asyncio.sleep(rng.uniform(0.0, 0.01))
                request.cancel()
            done, _ = await asyncio.wait([request], timeout=20)
            if not done:
                run.problems.append(f"{name} did not end")
            elif request.cancelled():
                outcomes[name] = ("cancelled", True)
            elif (error := request.exception()) is None:
                outcomes[name] = judge(name, request.result().status, request.result().body)
            elif isinstance(error, RequestError):
                outcomes[name] = (error.code, error.may_have_run)
            else:
                run.problems.append(f"{name} ended with {error!r}")

        def judge(name: str, status: int, body: bytes) -> tuple[str, bool]:
            if status != 200 or not body.startswith(b"{"):
                return f"status {status}" + (" html" if status == 200 else ""), True
            if json.loads(body)["client_id"] != name:
                run.problems.append(f"{name} was given the answer {body[:80]!r}")
            return "placed", True

        async def work() -> None:
            for number in numbers:
                await ask(number)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        if pool.in_flight or pool.waiting_count:
            run.problems.append(f"{pool.in_flight} are out and {pool.waiting_count} wait")
        await pool.close()
        await asyncio.sleep(0.1)  # what was on its way has come
        account(run, server, venue, outcomes)
        run.connects, run.resumed = pool.connects, pool.resumed
    if sum(run.ends.values()) != count:
        run.problems.append(f"{sum(run.ends.values())} ends of {count}")
    return run


def account(
    run: Run, server: RestServer, venue: SimVenue, outcomes: dict[str, tuple[str, bool]]
) -> None:
    """Compare what the client was told with what the venue knows."""
    came: Counter[str] = Counter()
    struck: dict[str, str] = {}
    for entry in server.account.requests:
        came[entry.key or ""] += 1
        struck[entry.key or ""] = entry.fault or ""
    run.problems += [f"{name} came {n} times" for name, n in came.items() if n > 1]
    for name, (end, may_have_run) in outcomes.items():
        run.ends[struck.get(name, "(not seen)"), end if may_have_run else f"{end} (not run)"] += 1
        placed = len(venue.orders[name].placed_by) if name in venue.orders else 0
        if placed > 1:
            run.problems.append(f"{name} stands in the book {placed} times")
        if placed and not may_have_run:
            run.problems.append(f"{name} was told as not run ({end}), and stands in the book")
        if end == "placed" and not placed:
            run.problems.append(f"{name} was told as placed, and does not stand in the book")


def main() -> int:
    """Run it as a command, and print the ends by fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--version", choices=("1.1", "2"), default="2")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with asyncio.Runner() as runner:
        run = runner.run(run_faults(options.version, options.seed, options.requests))
    for (fault, end), count in sorted(run.ends.items()):
        print(f"{fault:16} {end:32} {count:8,}")
    print(
        f"{options.requests:,} requests over HTTP/{options.version}, {run.connects:,} connects, "
        f"{run.resumed:,} resumed, {len(run.problems)} problems, seed {options.seed}"
    )
    print("\n".join(run.problems[:20]))
    return bool(run.problems)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
