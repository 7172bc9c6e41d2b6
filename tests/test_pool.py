"""The pool over real sockets and TLS, on both loops; and a seeded run of faults."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import rest_faults
import trustme
from rest_server import HOST, OK, Request, rest_server

from crosswire.errors import RequestError, UsageError
from crosswire.http import Kind, Pool, Probe
from crosswire.http import pool as http_pool
from crosswire.http.http1 import Http1
from crosswire.http.pool import REWARM_S
from crosswire.receive.tls import ENGINES
from crosswire.seam import System

pytestmark = pytest.mark.transport


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    return context


class Watched(System):
    """Draws no delays, but keeps how long they could have been; its clock can be set ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.ceilings: list[float] = []
        self.ahead_ns = 0

    def uniform(self, low: float, high: float) -> float:
        self.ceilings.append(high)
        return low

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.ahead_ns


async def say_ok(request: Request) -> None:
    await request.send(OK)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


class TestRequests:
    async def test_a_warm_connection_carries_one_after_the_other(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async with (
            rest_server(say_ok, server_tls) as server,
            Pool(server.url, System(), tls) as pool,
        ):
            assert pool.open_count == 1
            for i in range(5):
                response = await pool.request("POST", f"/{i}", body=b"{}", kind=Kind.ORDER)
                assert (response.status, response.body) == (200, b"ok")
                assert response.phases.connect == 0 < response.phases.first_byte
            assert (server.connections, pool.connects) == (1, 1)
            assert (pool.requests, pool.answers, pool.in_flight) == (5, 5, 0)

    async def test_a_request_waits_for_its_connect_and_tells_how_long(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async with rest_server(say_ok, server_tls) as server:
            pool = Pool(server.url, System(), tls, warm=0)
            response = await pool.request("GET", "/")
            assert response.phases.connect > 0
            assert response.phases.total >= response.phases.connect
            await pool.close()

    @pytest.mark.parametrize("engine", ENGINES)
    async def test_it_is_sent_and_answered_by_every_tls_engine(
        self,
        engine: str,
        tls: ssl.SSLContext,
        server_tls: ssl.SSLContext,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("CROSSWIRE_TLS", engine)
        async with (
            rest_server(say_ok, server_tls) as server,
            Pool(server.url, System(), tls) as pool,
        ):
            for i in range(3):
                assert (await pool.request("GET", f"/{i}")).body == b"ok"
            assert server.connections == 1

    async def test_a_reconnect_resumes_the_session(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async def close(request: Request) -> None:
            await request.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

        async with rest_server(close, server_tls) as server:
            pool = Pool(server.url, System(), tls, warm=0)
            for _ in range(3):
                await pool.request("GET", "/")
            assert (pool.connects, pool.resumed, server.resumed) == (3, 2, 2)
            await pool.close()

    async def test_the_most_urgent_of_those_that_wait_goes_first(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        order: list[str] = []

        async def note(request: Request) -> None:
            order.append(request.target)
            await request.send(OK)

        async with rest_server(note, server_tls) as server:
            pool = Pool(server.url, System(), tls, warm=0, connections_max=1)
            asked = [
                pool.request("GET", f"/{kind}-{i}", kind=kind)
                for i in (1, 2)
                for kind in reversed(Kind)
            ]
            await asyncio.gather(*asked)
            assert order == [f"/{kind}-{i}" for kind in Kind for i in (1, 2)]
            assert server.connections == 1
            await pool.close()

    async def test_no_more_wait_than_may(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async with rest_server(say_ok, server_tls) as server:
            pool = Pool(server.url, System(), tls, warm=0, connections_max=1, waiting_max=2)
            ends = await asyncio.gather(
                *(pool.request("GET", f"/{i}") for i in range(4)), return_exceptions=True
            )
            refused = [end for end in ends if isinstance(end, RequestError)]
            assert [(end.code, end.may_have_run) for end in refused] == [("http-busy", False)] * 2
            assert sum(server.seen.values()) == 2
            await pool.close()

    async def test_a_redirect_is_an_answer(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async def redirect(request: Request) -> None:
            await request.send(
                b"HTTP/1.1 302 Found\r\nLocation: /b\r\nSet-Cookie: a=b\r\n"
                b"Content-Length: 0\r\n\r\n"
            )

        async with (
            rest_server(redirect, server_tls) as server,
            Pool(server.url, System(), tls) as pool,
        ):
            assert (await pool.request("GET", "/a")).status == 302
            assert server.seen == {"/a": 1}


class TestIdleConnections:
    async def test_one_that_the_server_closed_is_not_used(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async with (
            rest_server(say_ok, server_tls) as server,
            Pool(server.url, System(), tls) as pool,
        ):
            await until(lambda: bool(server.writers))
            for writer in list(server.writers):
                writer.close()
            await until(lambda: pool.connects == 2 and pool.open_count == 1)
            assert (await pool.request("GET", "/")).status == 200

    async def test_nor_one_that_is_too_old(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        class Later(System):
            ahead = 0

            def monotonic_ns(self) -> int:
                return super().monotonic_ns() + self.ahead

        async with rest_server(say_ok, server_tls) as server:
            seam = Later()
            pool = Pool(server.url, seam, tls, warm=0, idle_max_s=10.0)
            await pool.request("GET", "/")
            seam.ahead = 9 * 10**9
            await pool.request("GET", "/")
            assert pool.connects == 1
            seam.ahead += 11 * 10**9
            await pool.request("GET", "/")
            assert pool.connects == 2
            await pool.close()

    async def test_a_probe_keeps_it_in_use(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async with (
            rest_server(say_ok, server_tls) as server,
            Pool(server.url, System(), tls, idle_max_s=0.4, probe=Probe("/ping")) as pool,
        ):
            await until(lambda: server.seen["/ping"] >= 3)
            assert pool.connects == 1

    async def test_without_a_probe_it_is_replaced(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async with (
            rest_server(say_ok, server_tls) as server,
            Pool(server.url, System(), tls, idle_max_s=0.2) as pool,
        ):
            await until(lambda: pool.connects >= 3)
            assert not server.seen

    async def test_it_is_looked_after_also_where_the_start_failed(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async with rest_server(say_ok, server_tls) as server:
            pool = Pool(server.url, Watched(), tls, idle_max_s=0.1)
            pool._origin.port = 1  # nobody listens there
            with pytest.raises(RequestError, match="http-connect"):
                await pool.start()
            pool._origin.port = server.port
            await until(lambda: pool.connects >= 3)
            await pool.close()

    async def test_one_that_is_closed_is_not_started(self) -> None:
        pool = Pool(f"https://{HOST}:1", System())
        await pool.close()
        with pytest.raises(RequestError, match="http-closed"):
            await pool.start()
        assert pool.connect_failures == 0

    async def test_one_that_was_replaced_unused_is_no_failure(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        seam = Watched()
        async with (
            rest_server(say_ok, server_tls) as server,
            Pool(server.url, seam, tls, idle_max_s=0.1) as pool,
        ):
            await until(lambda: pool.connects >= 5)
            assert set(seam.ceilings) == {REWARM_S}

    async def test_one_that_the_server_let_go_after_a_while_is_no_failure(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        seam = Watched()
        async with (
            rest_server(say_ok, server_tls) as server,
            Pool(server.url, seam, tls) as pool,
        ):
            for i in range(2, 5):
                await until(lambda: len(server.writers) == 1)
                seam.ahead_ns += 6 * 10**9
                next(iter(server.writers)).close()
                await until(lambda i=i: pool.connects == i)  # type: ignore[misc]
            assert seam.ceilings == [REWARM_S] * 3

    async def test_one_that_the_server_ends_at_once_is_replaced_ever_later(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        seam = Watched()
        async with rest_server(say_ok, server_tls) as server:
            async with Pool(server.url, seam, tls) as pool:
                await until(lambda: len(server.writers) == 1)
                server.on_connect = lambda writer: writer.close()
                next(iter(server.writers)).close()
                await until(lambda: len(seam.ceilings) >= 4)
                assert pool.answers == 0
            assert seam.ceilings[:4] == [REWARM_S * 2**i for i in range(4)]


class Sockets(System):
    """Keeps the sockets that were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: list[socket.socket] = []

    async def open_socket(self, host: str, port: int) -> socket.socket:
        self.sockets.append(await super().open_socket(host, port))
        return self.sockets[-1]

    def open_count(self) -> int:
        """How many of them are open; one that a loop took over for itself counts not."""
        return sum(sock.fileno() >= 0 for sock in self.sockets)


@contextlib.asynccontextmanager
async def mute_server(server_tls: ssl.SSLContext) -> AsyncIterator[str]:
    """A server that shakes hands, and then neither reads nor ends; yields its URL."""
    serving: list[Any] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = server_tls.wrap_bio(incoming, outgoing, server_side=True)
        is_done = False
        while not is_done:
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.do_handshake()
                is_done = True
            writer.write(outgoing.read())
            if not is_done:
                incoming.write(await reader.read(1 << 14))
        await over.wait()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        try:
            yield f"https://{HOST}:{server.sockets[0].getsockname()[1]}"
        finally:
            over.set()
            await asyncio.gather(*serving)


class TestTheEnd:
    @pytest.mark.parametrize("engine", ENGINES)
    async def test_a_pool_that_is_closed_has_no_socket(
        self,
        engine: str,
        tls: ssl.SSLContext,
        server_tls: ssl.SSLContext,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("CROSSWIRE_TLS", engine)
        seam = Sockets()
        async with rest_server(say_ok, server_tls) as server:
            async with Pool(server.url, seam, tls, warm=3) as pool:
                assert (await pool.request("GET", "/")).status == 200
                assert len(seam.sockets) == 3
                if engine != "asyncio":
                    assert seam.open_count() == 3
            assert (seam.open_count(), pool._sockets) == (0, set())

    @pytest.mark.parametrize("engine", ENGINES)
    async def test_a_server_that_does_not_say_goodbye_is_waited_for_a_while(
        self,
        engine: str,
        tls: ssl.SSLContext,
        server_tls: ssl.SSLContext,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("CROSSWIRE_TLS", engine)
        monkeypatch.setattr(http_pool, "GOODBYE_S", 0.05)
        seam = Sockets()
        async with mute_server(server_tls) as url:
            async with Pool(url, seam, tls, warm=2) as pool:
                began = seam.monotonic_ns()
            assert (seam.open_count(), pool._sockets) == (0, set())
            assert seam.monotonic_ns() - began > 40_000_000
            await pool.close()  # there is nothing left to do

    async def test_a_close_that_is_cancelled_leaves_none_either(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        seam = Sockets()
        async with mute_server(server_tls) as url:
            pool = Pool(url, seam, tls, warm=2)
            await pool.start()
            closing = asyncio.ensure_future(pool.close())
            await asyncio.sleep(0.01)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await until(lambda: not pool._sockets)
            assert seam.open_count() == 0

    @pytest.mark.parametrize("engine", ENGINES)
    async def test_a_connect_that_is_given_up_as_it_ends_leaves_none_to_wait_for(
        self,
        engine: str,
        tls: ssl.SSLContext,
        server_tls: ssl.SSLContext,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("CROSSWIRE_TLS", engine)
        monkeypatch.setattr(http_pool, "GOODBYE_S", 60.0)
        usual = Http1.connection_made
        closings: list[asyncio.Future[None]] = []

        def close(self: Http1, transport: asyncio.BaseTransport) -> None:
            usual(self, transport)
            closings.append(asyncio.ensure_future(pool.close()))

        monkeypatch.setattr(Http1, "connection_made", close)
        async with rest_server(say_ok, server_tls) as server:
            pool = Pool(server.url, System(), tls)
            await pool.start()
            async with asyncio.timeout(10):
                await asyncio.gather(*closings)
            assert (len(closings), pool._sockets) == (1, set())

    async def test_another_loop_closes_no_pool_that_connects(self, tls: ssl.SSLContext) -> None:
        with socket.create_server((HOST, 0)) as listener:  # which never shakes hands
            pool = Pool(f"https://{HOST}:{listener.getsockname()[1]}", System(), tls)
            starting = asyncio.create_task(pool.start())
            await asyncio.sleep(0)

            def close_elsewhere() -> None:
                with pytest.raises(UsageError, match="another event loop"):
                    asyncio.run(asyncio.wait_for(pool.close(), 10))

            await asyncio.to_thread(close_elsewhere)
            assert not starting.done()
            await pool.close()
            await starting

    async def test_one_that_cannot_be_used_is_closed(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        tls.set_alpn_protocols(["http/1.1"])
        server_tls.set_alpn_protocols(["http/1.1"])
        seam = Sockets()
        async with rest_server(say_ok, server_tls) as server:
            pool = Pool(server.url, seam, tls, version="2", warm=0)
            with pytest.raises(RequestError, match="http-alpn"):
                await pool.request("GET", "/")
            await until(lambda: seam.open_count() == 0)
            await pool.close()


class TestFailures:
    async def test_a_connect_that_is_refused_fails_all_that_wait(self, tls: ssl.SSLContext) -> None:
        with socket.create_server((HOST, 0)) as listener:
            port = listener.getsockname()[1]
        pool = Pool(f"https://{HOST}:{port}", System(), tls, warm=0, connections_max=2)
        ends = await asyncio.gather(
            *(pool.request("GET", "/") for _ in range(9)), return_exceptions=True
        )
        assert {(type(e), getattr(e, "code", "")) for e in ends} == {(RequestError, "http-connect")}
        assert not any(e.may_have_run for e in ends if isinstance(e, RequestError))
        assert pool.connect_failures <= 2
        assert pool.errors == {"http-connect": 9}
        await pool.close()

    async def test_a_certificate_that_nobody_vouches_for_is_named(
        self, server_tls: ssl.SSLContext
    ) -> None:
        async with rest_server(say_ok, server_tls) as server:
            pool = Pool(server.url, System(), warm=0)
            with pytest.raises(RequestError) as caught:
                await pool.request("GET", "/")
            assert (caught.value.code, caught.value.may_have_run) == ("tls-authority", False)
            assert not server.seen
            await pool.close()

    async def test_a_deadline_in_the_connect_sends_nothing(self, tls: ssl.SSLContext) -> None:
        with socket.create_server((HOST, 0)) as listener:  # it never shakes hands
            port = listener.getsockname()[1]
            pool = Pool(f"https://{HOST}:{port}", System(), tls, warm=0)
            with pytest.raises(RequestError, match="waiting for a connection") as caught:
                await pool.request("GET", "/", limit_s=0.05)
            assert (caught.value.code, caught.value.may_have_run) == ("http-timeout", False)
            assert pool.waiting_count == 0
            await pool.close()

    async def test_a_caller_who_is_cancelled_takes_the_connection_with_it(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        held = asyncio.Event()

        async def hold(request: Request) -> None:
            if request.target == "/held":
                await held.wait()
            await request.send(OK)

        async with (
            rest_server(hold, server_tls) as server,
            Pool(server.url, System(), tls) as pool,
        ):
            task = asyncio.ensure_future(pool.request("GET", "/held"))
            await until(lambda: server.seen["/held"] == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            held.set()
            assert (await pool.request("GET", "/b")).body == b"ok"
            assert server.seen == {"/held": 1, "/b": 1}
            assert pool.connects == 2

    async def test_a_caller_who_is_cancelled_while_waiting_sends_nothing(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async with rest_server(say_ok, server_tls) as server:
            pool = Pool(server.url, System(), tls, warm=0, connections_max=1)
            asked = [asyncio.ensure_future(pool.request("GET", f"/{i}")) for i in range(3)]
            await asyncio.sleep(0)
            asked[1].cancel()
            ends = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(ends[1], asyncio.CancelledError)
            assert server.seen == {"/0": 1, "/2": 1}
            assert (pool.connects, pool.waiting_count) == (1, 0)
            await pool.close()

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("is_clean", [True, False])
    async def test_a_body_without_a_length_is_no_answer_over_tls(
        self,
        engine: str,
        is_clean: bool,
        tls: ssl.SSLContext,
        server_tls: ssl.SSLContext,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("CROSSWIRE_TLS", engine)

        async def answer(request: Request) -> None:
            await request.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
            if is_clean:
                request.writer.close()
            else:
                request.writer.transport.abort()  # a FIN, and no close_notify

        async with rest_server(answer, server_tls) as server:
            pool = Pool(server.url, System(), tls, warm=0)
            (end,) = await asyncio.gather(pool.request("GET", "/"), return_exceptions=True)
            assert isinstance(end, RequestError)
            assert end.code in ("http-truncated", "http-reset")
            assert end.may_have_run
            await pool.close()

    async def test_a_close_ends_all_of_them(
        self, tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        async def hold(request: Request) -> None:
            await asyncio.Event().wait()

        async with rest_server(hold, server_tls) as server:
            pool = Pool(server.url, System(), tls, connections_max=1)
            asked = [asyncio.ensure_future(pool.request("GET", f"/{i}")) for i in range(2)]
            await until(lambda: server.seen["/0"] == 1)
            await pool.close()
            ends = await asyncio.gather(*asked, return_exceptions=True)
            told = [(e.code, e.may_have_run) for e in ends if isinstance(e, RequestError)]
            assert told == [("http-closed", True), ("http-closed", False)]
            with pytest.raises(RequestError, match="http-closed"):
                await pool.request("GET", "/")


class TestWhatIsAskedFor:
    @pytest.mark.parametrize(
        "url",
        [
            "http://venue.example", "https://a:b@venue.example", "https://venue.example/api",
            "https://venue.example?a", "https://venue.example#a", "ftp://venue.example", "https://",
            "venue.example", "https://venue.example:0", "https://venue.example:99999",
            "https://a b",
        ],
    )  # fmt: skip
    async def test_a_url_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(UsageError):
            Pool(url, System())

    @pytest.mark.parametrize(
        "options",
        [
            {"warm": 9}, {"warm": -1}, {"connections_max": 0}, {"idle_max_s": 0.0},
            {"version": "3"}, {"headers": [("Host", "a")]}, {"limits_s": {Kind.ORDER: 0.0}},
            {"probe": Probe("ping")}, {"waiting_max": -1},
        ],
    )  # fmt: skip
    async def test_terms_that_cannot_be_are_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            Pool("https://venue.example", System(), **options)

    async def test_a_context_that_does_not_verify_is_refused(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with pytest.raises(UsageError, match="does not verify"):
            Pool("https://venue.example", System(), context)


class TestFaults:
    async def test_nothing_is_sent_twice_and_each_ends_once(self) -> None:
        run = await rest_faults.run_faults(seed=7, count=2000)
        assert run.problems == []
        assert {fault for fault, _ in run.ends} == set(rest_faults.FAULTS)
        assert sum(run.ends.values()) == 2000
        assert run.resumed > run.connects // 2 > 0
        codes = {end for _, end in run.ends}
        assert {"answer", "cancelled", "http-reset", "http-truncated", "http-timeout"} <= codes
