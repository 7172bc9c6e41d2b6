"""Faults of the REST server over HTTP/1.1, byte by byte, and which request each strikes."""

from __future__ import annotations

from typing import Any, cast

import pytest
from rest_client import ORDER_BODY, HeldSeam, connected, fed

from crosswire.errors import UsageError
from crosswire.sim import (
    REST_FAULT_KINDS,
    Answer,
    RestChaos,
    RestFault,
    RestServer,
    Route,
    VenueLimit,
)
from crosswire.sim.rest_h1 import Http1

pytestmark = pytest.mark.transport


def same(raw: bytes) -> None:
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")


class TestFaults:
    async def struck(
        self, fault: RestFault, line: str = "POST /order", body: bytes = ORDER_BODY
    ) -> tuple[bytes, RestServer]:
        """Return all bytes of a connection whose one request was struck."""
        async with RestServer() as server:
            server.strike(fault)
            async with connected(server) as client:
                client.request(line, body, connection="close")
                raw = await client.rest()
        (entry,) = server.account.requests
        assert entry.fault == fault.kind
        assert bool(server.venue.orders) == entry.is_carried_out == fault.carries_out
        return raw, server

    @pytest.mark.parametrize("carries_out", [True, False])
    @pytest.mark.parametrize("kind", ["reset", "close"])
    async def test_the_account_tells_whether_what_was_not_answered_was_carried_out(
        self, kind: str, carries_out: bool
    ) -> None:
        fault = RestFault(kind, carries_out=carries_out)
        async with RestServer() as server:
            server.strike(fault)
            async with connected(server) as client:
                client.request("POST /order", ORDER_BODY)
                if kind == "reset":
                    with pytest.raises(ConnectionResetError):
                        await client.rest()
                else:
                    assert await client.rest() == b""
        (entry,) = server.account.requests
        assert (entry.is_whole, entry.status, entry.fault) == (True, None, kind)
        assert entry.is_carried_out == carries_out == bool(server.venue.orders)
        assert entry.answered_mono_ns == 0

    @pytest.mark.parametrize(("body", "is_whole"), [(ORDER_BODY, False), (b"", True)])
    async def test_reset_early_comes_before_the_body_is_read(
        self, body: bytes, is_whole: bool
    ) -> None:
        server = RestServer(faults={0: RestFault("reset-early")})
        async with server, connected(server) as client:
            client.request("POST /order", body)
            with pytest.raises(ConnectionResetError):
                await client.rest()
        (entry,) = server.account.requests
        assert (entry.is_whole, entry.is_carried_out, entry.mono_ns) == (is_whole, False, 0)

    def test_reset_early_leaves_what_was_whole_before_it(self) -> None:
        data = b"GET /time HTTP/1.1\r\n\r\n" * 3
        for cut in (0, len(data) // 3, len(data) // 2):
            server, sink = fed(
                Http1, [data[:cut], data[cut:]], faults={1: RestFault("reset-early")}
            )
            first, struck = server.account.requests
            assert (first.is_whole, first.is_carried_out, first.status) == (True, True, 200)
            assert (struck.is_carried_out, struck.mono_ns, struck.status) == (False, 0, None)
            same(sink.sent)
            assert sink.is_closed

    def test_what_is_read_with_the_end_of_its_connection_is_whole(self) -> None:
        data = b"GET /time HTTP/1.1\r\n\r\n" * 2
        server, sink = fed(Http1, [data], faults={0: RestFault("close")})
        behind = server.account.requests[1]
        assert (behind.is_whole, behind.is_carried_out, behind.mono_ns) == (True, False, 0)
        assert (sink.sent, sink.is_closed) == (b"", True)

    @pytest.mark.parametrize(
        ("fault", "is_answered"),
        [
            (RestFault("stall", seconds=3, size=9), [False, True]),
            (RestFault("stall", seconds=3), [False, True]),
            (RestFault("drip", seconds=3, size=60), [False, False, True]),
            (RestFault("unasked", seconds=3), [True, True]),
            (RestFault("truncate", size=3), [True]),
            (RestFault("last"), [True]),
        ],
    )
    def test_it_is_answered_when_the_last_byte_of_its_answer_is_written(
        self, fault: RestFault, is_answered: list[bool]
    ) -> None:
        routes = {("GET", "/"): Route(lambda _: Answer(body=b"x" * 20))}
        server, sink = fed(Http1, [b"GET / HTTP/1.1\r\n\r\n"], routes=routes, faults={0: fault})
        (entry,) = server.account.requests
        seam = cast(HeldSeam, server._seam)
        begun_ns, told = seam.now_ns, [entry.answered_mono_ns != 0]
        while seam.waiting():
            seam.now_ns += 3 * 10**9
            seam.fire()
            told.append(entry.answered_mono_ns != 0)
        assert told == is_answered
        assert entry.answered_mono_ns == begun_ns + 3 * 10**9 * told.index(True)
        same(sink.sent)

    async def test_truncate(self) -> None:
        raw, _ = await self.struck(RestFault("truncate", size=7))
        head, _, body = raw.partition(b"\r\n\r\n")
        assert body == b'{"clien'
        assert b"content-length: 7\r\n" not in head

    async def test_truncate_of_nothing_still_promises_something(self) -> None:
        routes = {("GET", "/"): Route(lambda _: Answer())}
        server = RestServer(routes, faults={0: RestFault("truncate")})
        async with server, connected(server) as client:
            client.request("GET /")
            assert b"content-length: 1\r\n" in await client.rest()

    async def test_oversize(self) -> None:
        raw, _ = await self.struck(RestFault("oversize", size=3 << 20))
        assert len(raw.partition(b"\r\n\r\n")[2]) == 3 << 20

    async def test_html(self) -> None:
        raw, _ = await self.struck(RestFault("html"))
        same(raw)
        assert b"text/html" in raw
        assert b"<!DOCTYPE html>" in raw

    async def test_error(self) -> None:
        raw, _ = await self.struck(RestFault("error", status=502, carries_out=True))
        assert raw.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert b"<!DOCTYPE html>" in raw

    async def test_redirect(self) -> None:
        raw, _ = await self.struck(RestFault("redirect", status=307))
        assert raw.startswith(b"HTTP/1.1 307 ")
        assert b"location: /elsewhere\r\n" in raw

    async def test_bad_encoding(self) -> None:
        raw, _ = await self.struck(RestFault("bad-encoding"))
        assert b"content-encoding: gzip\r\n" in raw
        assert b'{"client_id"' in raw

    async def test_long_head(self) -> None:
        raw, _ = await self.struck(RestFault("long-head"))
        assert len(raw.partition(b"\r\n\r\n")[0]) > 128 << 10

    @pytest.mark.parametrize(
        ("variant", "sign"),
        [(0, b"HELLO"), (1, b"2x0"), (2, b"no colon"), (3, b": 3"), (4, b"chunked"), (5, b"-2")],
    )
    async def test_bad_head(self, variant: int, sign: bytes) -> None:
        raw, _ = await self.struck(RestFault("bad-head", variant=variant))
        assert sign in raw

    async def test_bad_chunk(self) -> None:
        raw, _ = await self.struck(RestFault("bad-chunk"))
        assert raw.endswith(b"\r\n\r\n2\r\n{}\r\nzz\r\n{}\r\n")

    async def test_twice(self) -> None:
        raw, server = await self.struck(RestFault("twice"))
        assert raw[: len(raw) // 2] == raw[len(raw) // 2 :]
        assert server.venue.orders["c1"].placed_by == [0]

    async def test_last(self) -> None:
        server = RestServer(faults={0: RestFault("last")})
        async with server, connected(server) as client:
            assert (await client.ask("GET /time")).header("connection") == "close"
            assert await client.rest() == b""

    async def test_unasked_comes_on_an_idle_connection(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, faults={0: RestFault("unasked", seconds=2)})
        async with server, connected(server) as client:
            assert (await client.ask("GET /time")).status == 200
            assert seam.waiting() == [2]
            seam.fire()
            assert (await client.answer()).status == 408
            assert await client.rest() == b""

    async def test_drip(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, faults={0: RestFault("drip", seconds=0.1, size=10)})
        async with server, connected(server) as client:
            client.request("GET /time")
            got, waits = b"", 0
            while not got.endswith(b"}"):
                got += await client.reader.read(100)  # never more than one piece is there
                assert len(got) <= 10 * (waits + 1)
                if seam.waiting():
                    assert seam.waiting() == [0.1]
                    waits += 1
                    seam.fire()
        same(got)
        assert waits == -(-len(got) // 10) - 1

    async def test_stall(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, faults={0: RestFault("stall", seconds=60, size=20)})
        async with server, connected(server) as client:
            client.request("GET /time")
            begin = await client.reader.readexactly(20)
            assert seam.waiting() == [60]
            seam.fire()
            same(begin + await client.reader.readuntil(b"}"))


class TestWhichRequestIsStruck:
    async def test_the_next_ones_that_suit(self) -> None:
        async with RestServer() as server, connected(server) as client:
            server.strike(RestFault("error"), 2, method="GET", path="/time")
            server.strike(RestFault("goaway"))
            lines = ["GET /quote?symbol=BTCUSDT", "GET /time?x", "GET /time", "GET /time"]
            statuses = [(await client.ask(line)).status for line in lines]
        assert statuses == [200, 500, 500, 200]

    async def test_by_number(self) -> None:
        faults = {1: RestFault("error", status=503), 2: RestFault("goaway")}
        async with RestServer(faults=faults) as server, connected(server) as client:
            statuses = [(await client.ask("GET /time")).status for _ in range(3)]
        assert statuses == [200, 503, 200]

    async def by_seed(self, seed: int) -> list[str | None]:
        faults = (RestFault("error"), RestFault("html"), RestFault("refused-stream"))
        chaos = RestChaos(faults, 0.3)
        async with RestServer(seed=seed, chaos=chaos) as server, connected(server) as client:
            for _ in range(200):
                await client.ask("GET /time")
        return [entry.fault for entry in server.account.requests]

    async def test_by_seed(self) -> None:
        first = await self.by_seed(3)
        assert {"error", "html", None} == set(first)
        assert 30 < sum(kind is not None for kind in first) < 90
        assert first == await self.by_seed(3)
        assert first != await self.by_seed(4)

    async def test_who_is_refused_is_not_carried_out_whatever_the_fault(self) -> None:
        limit = VenueLimit("m", 1, window_s=60, unit="requests")
        faults = {1: RestFault("last")}
        server = RestServer(seam=HeldSeam(), limits=[limit], faults=faults)
        async with server, connected(server) as client:
            await client.ask("GET /time")
            assert (await client.ask("POST /order", ORDER_BODY)).status == 429
        assert server.venue.orders == {}


@pytest.mark.parametrize(
    "terms",
    [
        {"kind": "flood"},
        {"kind": "html", "size": 1},
        {"kind": "stall"},
        {"kind": "stall", "seconds": -1},
        {"kind": "stall", "seconds": float("nan")},
        {"kind": "error", "status": 200},
        {"kind": "error", "status": 500.5},
        {"kind": "drip", "size": 0},
        {"kind": "bad-head", "variant": 6},
        {"kind": "reset-early", "carries_out": True},
        {"kind": "settings"},
        {"kind": "settings", "size": True},
    ],
)
def test_an_impossible_fault_is_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RestFault(**terms)


@pytest.mark.parametrize("kind", REST_FAULT_KINDS)
def test_every_kind_is_told_what_it_is(kind: str) -> None:
    assert f"``{kind}``" in (RestFault.__doc__ or "")
