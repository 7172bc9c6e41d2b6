"""The REST server of the simulator over HTTP/1.1: endpoints, limits, faults, the account."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import Any, cast

import aiohttp
import pytest
from fake_world import leftovers
from hypothesis import given
from hypothesis import strategies as st
from rest_client import ORDER, ORDER_BODY, UTC_NS, HeldSeam, connected, fed, over_tls, until

from crosswire.errors import HostError, UsageError
from crosswire.sim import (
    Answer,
    Latency,
    RestChaos,
    RestFault,
    RestServer,
    Route,
    SimQuotes,
    SimRequest,
    SimVenue,
    VenueLimit,
    json_answer,
)
from crosswire.sim.rest_h1 import AHEAD_MAX, Http1

pytestmark = pytest.mark.transport


class TestItsEndpoints:
    async def test_an_independent_client_uses_them_over_tls(self) -> None:
        async with over_tls("1.1") as (server, ca):
            tls = ssl.create_default_context(cafile=ca)
            async with aiohttp.ClientSession(server.url) as session:

                async def ask(method: str, path: str, **terms: Any) -> Any:
                    async with session.request(method, path, ssl=tls, **terms) as got:
                        return got.status, await got.json()

                status, quote = await ask("GET", "/quote?symbol=BTCUSDT")
                assert (status, quote["symbol"]) == (200, "BTCUSDT")
                assert float(quote["bid"]) < float(quote["ask"])
                _, batch = await ask("GET", "/quotes?symbols=BTCUSDT,ETHUSDT")
                assert [item["symbol"] for item in batch] == ["BTCUSDT", "ETHUSDT"]
                assert batch[0]["ts_ns"] == batch[1]["ts_ns"]
                _, depth = await ask("GET", "/depth?symbol=BTCUSDT&limit=500")
                assert (len(depth["bids"]), len(depth["asks"])) == (500, 500)
                assert (await ask("POST", "/order", json=ORDER))[0] == 200
                assert (await ask("GET", "/order?client_id=c1"))[1]["state"] == "open"
                assert (await ask("DELETE", "/order?client_id=c1"))[1]["state"] == "cancelled"
                assert (await ask("GET", "/order?client_id=c2"))[0] == 404
                assert (await ask("DELETE", "/order?client_id=c2"))[0] == 404
        weights = [entry.weight for entry in server.account.requests]
        assert weights == [1, 2, 25, 1, 2, 1, 2, 1]
        assert server.account.connection_count == 1

    async def test_an_order_is_carried_out_once_and_the_venue_says_by_whom(self) -> None:
        async with RestServer() as server, connected(server) as client:
            assert (await client.ask("POST /order", ORDER_BODY)).status == 200
            again = await client.ask("POST /order", ORDER_BODY)
        assert (again.status, again.json) == (400, {"code": "duplicate-client-id"})
        assert server.venue.orders["c1"].placed_by == [0]
        assert [entry.is_carried_out for entry in server.account.requests] == [True, True]

    @pytest.mark.parametrize(("duplicates", "placed_by"), [("return", [0]), ("accept", [0, 1])])
    async def test_venues_differ_in_duplicates(self, duplicates: str, placed_by: list[int]) -> None:
        venue = SimVenue(duplicates=duplicates)
        async with RestServer(venue.routes()) as server, connected(server) as client:
            for _ in range(2):
                assert (await client.ask("POST /order", ORDER_BODY)).status == 200
        assert venue.orders["c1"].placed_by == placed_by

    async def test_an_order_may_come_as_a_form(self) -> None:
        form = "&".join(f"{name}={value}" for name, value in ORDER.items()).encode()
        async with RestServer() as server, connected(server) as client:
            assert (await client.ask("POST /order", form)).json["client_id"] == "c1"

    @pytest.mark.parametrize(
        ("line", "body", "status"),
        [
            ("GET /nowhere", b"", 404),
            ("PUT /time", b"", 405),
            ("GET /quote", b"", 400),
            ("GET /quote?symbol=NONE", b"", 400),
            ("GET /quotes?symbols=" + ",".join(["BTCUSDT"] * 101), b"", 400),
            ("GET /depth?symbol=BTCUSDT&limit=1001", b"", 400),
            ("GET /depth?symbol=BTCUSDT&limit=x", b"", 400),
            ("GET /depth?symbol=BTCUSDT&limit=0000100000", b"", 400),
            ("GET /depth?symbol=BTCUSDT&limit=00001" + 4400 * "0", b"", 400),
            ("POST /order", b"{nothing", 400),
            ("POST /order", b"\xff", 400),
            ("POST /order", b'{"client_id": "c1"}', 400),
        ],
    )
    async def test_a_wrong_request_is_told_so_and_the_connection_goes_on(
        self, line: str, body: bytes, status: int
    ) -> None:
        async with RestServer() as server, connected(server) as client:
            assert (await client.ask(line, body)).status == status
            assert (await client.ask("GET /time")).status == 200
        assert server.venue.orders == {}

    async def test_head_is_answered_without_a_body(self) -> None:
        async with RestServer() as server, connected(server) as client:
            client.request("HEAD /time")
            assert int((await client.answer(has_body=False)).header("content-length") or 0) > 10
            assert "time_ns" in (await client.ask("GET /time")).json

    async def test_a_handler_that_fails_is_logged_and_answered_with_500(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(request: SimRequest) -> Answer:
            raise ZeroDivisionError(request.path)

        routes = {("GET", "/"): Route(fail)}
        async with RestServer(routes) as server, connected(server) as client:
            assert (await client.ask("GET /")).status == 500
        assert "ZeroDivisionError" in caplog.text

    @pytest.mark.parametrize("route", [
        Route(lambda _: {"price": "1"}),  # type: ignore[arg-type,return-value]
        Route(lambda _: None),  # type: ignore[arg-type,return-value]
        Route(lambda _: Answer(), weight=lambda _: 1 // 0),
        Route(lambda _: Answer(), weight=lambda _: "5"),  # type: ignore[arg-type,return-value]
    ])  # fmt: skip
    async def test_what_makes_no_answer_is_logged_and_answered_with_500(
        self, route: Route, caplog: pytest.LogCaptureFixture
    ) -> None:
        routes = {("GET", "/"): route}
        async with RestServer(routes) as server, connected(server) as client:
            assert (await client.ask("GET /")).status == 500
            assert (await client.ask("GET /")).status == 500  # on the same connection
        assert "of GET / failed" in caplog.text

    async def test_a_status_without_a_name_is_sent_as_well(self) -> None:
        routes = {("GET", "/"): Route(lambda request: Answer(430, request.header("x-a").encode()))}
        async with RestServer(routes) as server, connected(server) as client:
            got = await client.ask("GET /", x_a="b")
        assert (got.status, got.body) == (430, b"b")

    async def test_an_answer_may_come_in_chunks(self) -> None:
        routes = {("GET", "/"): Route(lambda _: Answer(body=b"abcde", is_chunked=True))}
        async with RestServer(routes) as server, connected(server) as client:
            got = await client.ask("GET /")
        assert (got.header("transfer-encoding"), got.body) == ("chunked", b"abcde")


class TestItsQuotes:
    async def test_a_quote_tells_when_it_was_made_by_the_venues_clock(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, clock_skew_s=-2.5)
        async with server, connected(server) as client:
            now = (await client.ask("GET /time")).json["time_ns"]
            quote = (await client.ask("GET /quote?symbol=BTCUSDT")).json
        assert now == UTC_NS - 2_500_000_000
        assert quote["ts_ns"] == now - now % 10_000_000
        assert quote["number"] == quote["ts_ns"] // 10_000_000

    def test_equal_seeds_give_equal_quotes(self) -> None:
        one, same, other = SimQuotes(1), SimQuotes(1), SimQuotes(2)
        times = range(0, 10**10, 10**7)
        assert [one.at("A", t) for t in times] == [same.at("A", t) for t in times]
        assert [one.at("A", t) for t in times] != [other.at("A", t) for t in times]
        assert all(float(q["bid"]) < float(q["ask"]) for q in (one.at("A", t) for t in times))


class TestItsLimits:
    LIMIT = VenueLimit(
        "minute", 3, window_s=60, used_header="x-mbx-used-weight-1m", left_header="x-left"
    )

    async def test_headers_tell_the_count_and_429_when_to_come_back(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, limits=[self.LIMIT])
        async with server, connected(server) as client:
            got = [await client.ask("GET /time") for _ in range(4)]
        assert [item.status for item in got] == [200, 200, 200, 429]
        assert [item.header("x-mbx-used-weight-1m") for item in got] == ["1", "2", "3", "3"]
        assert got[3].header("x-left") == "0"
        assert got[3].header("retry-after") == str(
            -(UTC_NS // -(10**9)) // -60 * -60 - UTC_NS // 10**9
        )
        assert [entry.over for entry in server.account.requests] == [(), (), (), ("minute",)]
        assert server.account.requests[3].is_carried_out is False
        assert server.ledger.tallies["minute"].highest == 4

    async def test_who_asks_on_is_banned_by_address_and_no_other_is(self) -> None:
        server = RestServer(seam=HeldSeam(), limits=[self.LIMIT], ban_after=1, ban_s=120)
        async with server, connected(server) as client:
            statuses = [(await client.ask("GET /time")).status for _ in range(6)]
            banned = await client.ask("GET /nowhere")
            async with connected(server, "127.0.0.2") as other:
                passed = await other.ask("GET /time")
        assert statuses == [200, 200, 200, 429, 418, 418]
        assert (banned.status, banned.header("retry-after")) == (418, "120")
        assert passed.status == 200
        addresses = {entry.address for entry in server.account.requests}
        assert addresses == {"127.0.0.1", "127.0.0.2"}
        assert server.ledger.bans == [(UTC_NS, "127.0.0.1")]

    async def test_orders_are_counted_by_key_and_instrument(self) -> None:
        limit = VenueLimit("o", 1, window_s=60, per=("key", "instrument"), unit="orders")
        server = RestServer(seam=HeldSeam(), limits=[limit])
        statuses = []
        async with server, connected(server) as client:
            for who in ("k BTCUSDT", "k ETHUSDT", "j BTCUSDT", "k BTCUSDT"):
                key, symbol = who.split()
                body = json.dumps(ORDER | {"symbol": symbol, "client_id": who})
                got = await client.ask("POST /order", body.encode(), x_key=key)
                statuses.append(got.status)
        assert statuses == [200, 200, 200, 429]

    async def test_a_limit_may_refuse_in_a_body_of_its_own(self) -> None:
        text = '{"error":["EAPI:Rate limit exceeded"]}'
        limit = VenueLimit("c", 1, decay_per_s=0.33, status=200, text=text, tells_when=False)
        server = RestServer(seam=HeldSeam(), limits=[limit])
        async with server, connected(server) as client:
            await client.ask("GET /time")
            got = await client.ask("GET /time")
        assert (got.status, got.body, got.header("retry-after")) == (200, text.encode(), None)


class TestItsTime:
    async def arrivals(self, seed: int) -> list[float]:
        seam = HeldSeam()
        server = RestServer(seam=seam, seed=seed, arrival_jitter_s=0.5)
        async with server, connected(server) as client:
            delays = []
            for _ in range(5):
                client.request("GET /time")
                await until(lambda: seam.waiting())
                delays += seam.waiting()
                assert server.account.requests[-1].mono_ns == 0
                seam.now_ns += 10**8
                seam.fire()
                await client.answer()
                entry = server.account.requests[-1]
                assert entry.mono_ns == entry.head_mono_ns + 10**8 == seam.now_ns
        return delays

    async def test_a_request_is_counted_when_its_jitter_is_over_by_seed(self) -> None:
        first = await self.arrivals(1)
        assert all(0 < delay < 0.5 for delay in first)
        assert len(set(first)) == 5
        assert first == await self.arrivals(1)
        assert first != await self.arrivals(2)

    async def test_the_latency_can_be_changed_while_it_runs(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam)
        async with server, connected(server) as client:
            await client.ask("GET /time")
            server.latency = Latency(0.2, 0.1)
            client.request("GET /time")
            await until(lambda: seam.waiting())
            (delay,) = seam.waiting()
            assert 0.2 < delay < 0.3
            assert server.account.requests[1].is_carried_out
            assert server.account.requests[1].status is None
            seam.fire()
            assert (await client.answer()).status == 200

    async def test_maintenance_is_a_page_that_is_neither_counted_nor_carried_out(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, limits=[TestItsLimits.LIMIT])
        async with server, connected(server) as client:
            server.begin_maintenance(30, retry_after_s=7)
            got = await client.ask("POST /order", ORDER_BODY)
            assert (got.status, got.header("retry-after")) == (503, "7")
            assert got.header("content-type") == "text/html"
            assert server.ledger.tallies["minute"].highest == 0
            entry = server.account.requests[0]
            assert (entry.is_whole, entry.is_carried_out) == (True, False)
            assert (entry.mono_ns, entry.utc_ns) == (0, 0)
            seam.now_ns += 30 * 10**9
            assert (await client.ask("GET /time")).status == 200
            server.begin_maintenance(30)
            server.end_maintenance()
            assert (await client.ask("GET /time")).status == 200

    async def test_an_idle_connection_is_closed_and_one_at_work_is_not(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, idle_limit_s=5)
        async with server, connected(server) as client:
            assert seam.waiting() == [5]
            client.send(b"\r\nGET /time HTTP/1.1\r\n")
            await until(lambda: not seam.waiting())
            client.send(b"\r\n")
            await client.answer()
            assert seam.waiting() == [5]
            seam.fire()
            assert await client.rest() == b""

    def test_empty_lines_keep_no_connection(self) -> None:
        server, _ = fed(Http1, [b"\r\n", b"GET /time HTTP/1.1\r\n\r\n", b"\r\n"], idle_limit_s=5)
        assert cast(HeldSeam, server._seam).waiting() == [5]


STREAM = (
    b"\r\nGET /time HTTP/1.1\r\nX-Key: k\r\n\r\n"
    b"POST /order HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b"
    b"DELETE /order HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\nclient_id\r\n3\r\n=c1\r\n0\r\n\r\n"
    b"HEAD /quote?symbol=BTCUSDT HTTP/1.1\r\n\r\n"
    b"GET /nowhere HTTP/1.0\r\n\r\n" % (len(ORDER_BODY), ORDER_BODY)
)


class TestBytes:
    def test_the_same_bytes_cut_anywhere_are_the_same_requests(self) -> None:
        server, sink = fed(Http1, [STREAM])
        assert [entry.status for entry in server.account.requests] == [200, 200, 200, 200, 404]
        assert server.venue.orders["c1"].cancelled_by == [2]
        assert sink.is_closed
        for at in range(len(STREAM) + 1):
            again, sink_again = fed(Http1, [STREAM[:at], STREAM[at:]])
            assert sink_again.sent == sink.sent, at
            assert again.account.requests == server.account.requests, at
        pieces = [STREAM[at : at + 1] for at in range(len(STREAM))]
        assert fed(Http1, pieces)[1].sent == sink.sent

    @given(st.data())
    def test_whatever_comes_is_served_or_refused(self, data: st.DataObject) -> None:
        stream = bytearray(STREAM)
        for _ in range(data.draw(st.integers(1, 4))):
            stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(stream)))
        server, sink = fed(Http1, [bytes(stream[:cut]), bytes(stream[cut:])])
        assert sink.sent.startswith(b"HTTP/1.1 ") or not sink.sent
        if server.account.malformed:
            assert sink.is_closed
            assert sink.sent.count(b"HTTP/1.1 ") == 1 + sum(
                entry.is_whole for entry in server.account.requests
            )


class TestConnections:
    async def test_answers_come_in_the_order_of_requests(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, faults={0: RestFault("stall", seconds=1)})
        async with server, connected(server) as client:
            for path in ("/time", "/order?client_id=none", "/quote?symbol=BTCUSDT"):
                client.request(f"GET {path}")
            await until(lambda: [e.is_carried_out for e in server.account.requests] == [True] * 3)
            assert [entry.status for entry in server.account.requests] == [None] * 3
            seam.fire()
            got = [await client.answer() for _ in range(3)]
        assert [item.status for item in got] == [200, 404, 200]
        assert "bid" in got[2].json

    async def test_no_more_requests_are_read_than_it_keeps(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, faults={0: RestFault("stall", seconds=1)})
        request = b"GET /time HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n"
        async with server, connected(server) as client:
            client.send(request * 500)
            await until(lambda: seam.waiting())
            (wire,) = server._wires
            await until(lambda: not wire._is_reading)
            assert AHEAD_MAX < len(server.account.requests) < 500
            seam.fire()
            assert [(await client.answer()).status for _ in range(500)] == [200] * 500

    async def test_nothing_is_read_from_who_does_not_read(self) -> None:
        chaos = RestChaos((RestFault("oversize", size=1 << 20),), 1.0)
        async with RestServer(chaos=chaos) as server, connected(server) as client:
            for _ in range(50):
                client.request("GET /time")
                await client.writer.drain()
            (wire,) = server._wires
            await until(lambda: not wire._is_reading)
            for _ in range(50):
                assert len((await client.answer()).body) == 1 << 20
            assert wire._is_reading

    async def test_a_request_may_come_byte_by_byte(self) -> None:
        async with RestServer() as server, connected(server) as client:
            for byte in b"POST /order?x=1 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(ORDER_BODY):
                client.send(bytes([byte]))
                await client.writer.drain()
                await asyncio.sleep(0)
            client.send(ORDER_BODY)
            assert (await client.answer()).status == 200
        assert server.account.requests[0].target == "/order?x=1"

    async def test_an_offer_to_upgrade_is_not_taken(self) -> None:
        async with RestServer() as server, connected(server) as client:
            for _ in range(2):
                client.request("GET /time", connection="upgrade", upgrade="h2c")
            client.request("GET /nowhere")
            client.request("POST /order", ORDER_BODY, connection="upgrade", upgrade="h2c")
            assert [(await client.answer()).status for _ in range(4)] == [200, 200, 404, 400]
            assert await client.rest() == b""

    async def test_connection_close_is_honoured(self) -> None:
        async with RestServer() as server, connected(server) as client:
            got = await client.ask("GET /time", connection="close")
            assert got.header("connection") == "close"
            assert await client.rest() == b""

    async def test_more_connections_than_it_takes_are_reset(self) -> None:
        async with RestServer(connections_max=1) as server, connected(server) as client:
            await client.ask("GET /time")
            async with connected(server) as second:
                with pytest.raises(ConnectionResetError):
                    await second.rest()
            assert (await client.ask("GET /time")).status == 200
        assert (server.account.connection_count, server.account.turned_away) == (1, 1)

    async def test_it_can_refuse_and_drop_connections_and_come_back(self) -> None:
        async with RestServer() as server, connected(server) as client:
            await client.ask("GET /time")
            server.accepts = False
            server.drop_connections()
            with pytest.raises(ConnectionResetError):
                await client.rest()
            async with connected(server) as second:
                with pytest.raises(ConnectionResetError):
                    await second.rest()
            server.accepts = True
            async with connected(server) as third:
                assert (await third.ask("GET /time")).status == 200

    async def test_nothing_stays_of_it_where_it_ends_in_the_middle(self) -> None:
        seam = HeldSeam()
        server = RestServer(seam=seam, latency=Latency(1), idle_limit_s=9)
        async with server, connected(server) as client:
            client.request("GET /time")
            await until(lambda: seam.waiting()[-1:] == [1])
        assert (server.connection_count, seam.waiting(), leftovers()) == (0, [], [])
        with pytest.raises(UsageError, match="entered once"):
            await server.__aenter__()

    async def test_a_port_that_is_taken_is_told(self) -> None:
        async with RestServer() as server:
            with pytest.raises(HostError, match="cannot listen"):
                await RestServer(port=server.port).__aenter__()


class TestMalformedRequests:
    async def refused(self, *pieces: bytes) -> tuple[int, RestServer]:
        async with RestServer() as server, connected(server) as client:
            for piece in pieces:
                client.send(piece)
                await client.writer.drain()
                await asyncio.sleep(0)
            got = await client.answer()
            assert got.header("connection") == "close"
            try:
                assert await client.rest() == b""
            except ConnectionResetError:
                pass  # it is closed while some of what was sent is unread
        assert server.account.malformed == 1
        assert not any(entry.is_carried_out for entry in server.account.requests)
        return got.status, server

    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /time HTTP/9.9\r\n\r\n",
            b"GET /time HTTP/1.1\r\nno colon\r\n\r\n",
            b"POST /order HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST /order HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST /order HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ],
    )
    async def test_what_is_no_http_is_400(self, data: bytes) -> None:
        assert (await self.refused(data))[0] == 400

    async def test_a_head_too_long_is_431_in_one_piece(self) -> None:
        long = b"GET / HTTP/1.1\r\nx: " + b"y" * (32 << 10) + b"\r\n\r\n"
        status, server = await self.refused(long)
        assert (status, server.account.requests) == (431, [])

    async def test_a_head_too_long_is_431_in_pieces_without_an_end(self) -> None:
        pieces = [b"GET / HTTP/1.1\r\nx: "] + [b"y" * 4096] * 9
        assert (await self.refused(*pieces))[0] == 431

    async def test_a_head_that_is_just_short_enough_passes(self) -> None:
        async with RestServer() as server, connected(server) as client:
            assert (await client.ask("GET /time", x="y" * (31 << 10))).status == 200

    async def test_a_body_too_long_is_413(self) -> None:
        body = b"x" * ((1 << 20) + 1)
        head = b"POST /order HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (len(body) + 5)
        status, server = await self.refused(head + body)
        (entry,) = server.account.requests
        assert (status, entry.status, entry.is_whole) == (413, 413, False)

    def test_a_refusal_is_in_the_account_when_it_is_sent(self) -> None:
        bad = b"POST /order HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        pieces = [b"GET /time HTTP/1.1\r\n\r\n" + bad]
        server, sink = fed(Http1, pieces, latency=Latency(1))
        first, refused = server.account.requests
        assert (sink.sent, refused.status, refused.answered_mono_ns) == (b"", None, 0)
        seam = cast(HeldSeam, server._seam)
        seam.now_ns += 10**9
        seam.fire()
        assert (first.status, refused.status) == (200, 400)
        assert refused.answered_mono_ns == seam.now_ns
        assert (refused.is_whole, sink.is_closed) == (False, True)

    async def test_what_follows_a_body_too_long_is_not_read(self) -> None:
        body = b"x" * ((1 << 20) + 1)
        head = b"POST /order HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        status, server = await self.refused(head + body + b"GET /time HTTP/1.1\r\n\r\n")
        assert (status, len(server.account.requests)) == (413, 1)


@pytest.mark.parametrize(
    "terms",
    [
        {"versions": ()},
        {"versions": ("3",)},
        {"versions": ("1.1", "2")},
        {"arrival_jitter_s": -1},
        {"connections_max": 0},
    ],
)
def test_an_impossible_server_is_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RestServer(**terms)


def test_http2_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crosswire.sim.rest_h2", None)
    with pytest.raises(HostError, match=r"crosswire\[http2\]"):
        RestServer(versions=("2",))


def test_other_impossible_terms_are_refused() -> None:
    for make in (
        lambda: SimVenue(duplicates="maybe"),
        lambda: SimQuotes(every_s=0),
        lambda: Latency(-1),
        lambda: RestChaos((), 0.5),
        lambda: RestChaos((RestFault("html"),), 2),
    ):
        with pytest.raises(UsageError):
            make()


def test_json_is_written_without_spaces() -> None:
    assert json_answer({"a": [1, 2]}, 201) == Answer(201, b'{"a":[1,2]}')
