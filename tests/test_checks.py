"""What a caller gives that cannot be: each is refused by name at the door, and nothing is lost."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Sequence
from math import inf, nan
from typing import Any

import pytest
import trustme
from fake_world import FakeSeam, simulate
from rest_server import HOST, OK, Request, rest_server

from crosswire.checks import as_word, check_type, limit_ns
from crosswire.errors import CrosswireError, RequestError, UsageError
from crosswire.http import (
    Batcher,
    Breaker,
    Client,
    Effect,
    EndpointRules,
    Endpoints,
    Kind,
    Limiter,
    Pool,
    Prober,
    Response,
    Retry,
    Share,
    Ticket,
    ask_each,
)
from crosswire.http.breaker import outcome_of
from crosswire.http.exchange import Exchange
from crosswire.http.http1 import Http1
from crosswire.limits import Count, Limit, Refusal, Scope, Signal, VenueLimits
from crosswire.seam import System
from crosswire.sim import RestServer, VenueLimit
from crosswire.sim.rest_venue import Answer, Route, SimRequest, json_answer
from crosswire.venues import venue_limits

LIMITS = VenueLimits(
    "toy", "2026-11", "a test",
    (
        Limit("weight", "weight", 4, Count.ROLLING, 9.0, reserve=2),
        Limit("orders", "orders", 10, Count.ROLLING, 9.0),
    ),
    (Refusal(429),),
    {name: {"weight": 1} for name in ("GET /time", "GET /p/{id}/book", "POST /order",
                                      "DELETE /order")},
)  # fmt: skip
URL = "https://api.venue.example"
SECRET = "s3cr3t"


async def send(item: object) -> Any:
    return item


ODD: dict[str, tuple[Callable[[Limiter, FakeSeam], object], str]] = {
    "a pool without a scheme": (lambda _, s: Pool("api.venue.example", s), "write https://HOST"),
    "a pool of bytes": (lambda _, s: Pool(b"https://x.example", s), "url must be of type str"),  # type: ignore[arg-type]
    "a path": (lambda _, s: Pool(f"{URL}/v1", s), "belong in the target"),
    "a query": (lambda _, s: Pool(f"{URL}?x={SECRET}", s), "belong in the target"),
    "credentials": (lambda _, s: Pool(f"https://u:{SECRET}@x.example", s), "without a name"),
    "headers in a dict": (lambda _, s: Pool(URL, s, headers={"ab": "K"}), "list of (name"),  # type: ignore[arg-type]
    "a header alone": (lambda _, s: Pool(URL, s, headers=["abc"]), "list of (name"),  # type: ignore[list-item]
    "a limit of no kind": (lambda _, s: Pool(URL, s, limits_s={"bogus": 1}), "one of cancel"),  # type: ignore[dict-item]
    "a limit below 0": (lambda _, s: Pool(URL, s, limits_s={Kind.ORDER: -1}), "limits_s of order"),
    "a limit as text": (lambda _, s: Pool(URL, s, limits_s={Kind.ORDER: "1"}), "be in seconds"),  # type: ignore[dict-item]
    "limits in a list": (lambda _, s: Pool(URL, s, limits_s=[1.0]), "limits_s must be of type"),  # type: ignore[arg-type]
    "a probe as text": (lambda _, s: Pool(URL, s, probe="/ping"), 'Probe("/time")'),  # type: ignore[arg-type]
    "tls=True": (lambda _, s: Pool(URL, s, True), "tls must be of type SSLContext"),  # type: ignore[arg-type]
    "a limiter of a name": (lambda _, s: Limiter("binance", s), "venue_limits"),  # type: ignore[arg-type]
    "a limiter without a seam": (lambda _, s: Limiter(LIMITS, None), "seam must be of type Seam"),  # type: ignore[arg-type]
    "a word of no kind": (lambda lm, _: lm.call("GET /time", kind="bogus"), "kind is one of"),  # type: ignore[arg-type]
    "a POST without a kind": (lambda lm, _: lm.call("POST /order"), "say what it is by kind="),
    "a name without a kind": (lambda lm, _: lm.call("orders"), "say what it is by kind="),
    "a key of a number": (lambda lm, _: lm.call("GET /time", key=5), "key must be of type str"),  # type: ignore[arg-type]
    "an endpoint misspelt": (lambda lm, _: lm.call("GET /tim"), "known: GET /time"),
    "an endpoint of no form": (lambda lm, _: lm.call("xyzzy", kind=Kind.QUERY), "written as GET /"),
    "half a unit": (lambda lm, _: lm.call("GET /time", costs={"weight": 1.5}), "are whole"),  # type: ignore[dict-item]
    "an endpoint with a query": (lambda lm, _: lm.call("GET /time?x=1", kind="query"), "not known"),  # type: ignore[arg-type]
    "throttled for no time": (lambda lm, _: lm.throttled("GET /time", limit_s="1"), "be a number"),  # type: ignore[arg-type]
    "a limit without end": (lambda _, s: Pool(URL, s, limits_s={Kind.ORDER: 1e300}), "below 1e9"),
    "a pool without a seam": (lambda *_: Pool(URL, None), "seam must be of type Seam"),  # type: ignore[arg-type]
    "throttled without arguments": (lambda lm, _: lm.throttled(send), 'throttled("GET'),  # type: ignore[arg-type]
    "throttled and not async": (lambda lm, _: lm.throttled("GET /time")(lambda: 1)(), "async def"),  # type: ignore[arg-type,return-value]
    "a ticket of text": (lambda lm, _: lm.try_acquire("GET /time"), "a call is what call()"),  # type: ignore[arg-type]
    "a stop of text": (lambda lm, _: lm.stopped_s("GET /time"), "a call is what call()"),  # type: ignore[arg-type]
    "limit_s as text": (lambda lm, _: lm.acquire(lm.call("GET /time"), limit_s="5"), "be a number"),  # type: ignore[arg-type]
    "a client of a pool": (lambda lm, s: Client(Pool(URL, s), lm, s), "endpoints must be of type"),  # type: ignore[arg-type]
    "a breaker for its maker": (
        lambda lm, s: Client(places(s), lm, s, breaker=Breaker(s.monotonic_ns, "x")),  # type: ignore[arg-type]
        "breaker must be a function",
    ),
    "a client's limit of no kind": (
        lambda lm, s: Client(places(s), lm, s, limits_s={"bogus": 1}),  # type: ignore[dict-item]
        "one of cancel",
    ),
    "a breaker of a seam": (lambda _, s: Breaker(s, "x"), "clock must be a function"),  # type: ignore[arg-type]
    "a list of places": (lambda _, s: Endpoints(s.monotonic_ns, s.uniform, [URL]), "places must"),  # type: ignore[arg-type]
    "a share of a number": (lambda _, s: Share(5, s), "name must be of type str"),  # type: ignore[arg-type]
    "no effect": (lambda _, s: Retry(s).run(send, effect="bogus", limit_s=1.0), "effect is one of"),  # type: ignore[arg-type]
    "one and a half at once": (lambda _, s: ask_each([1], send, concurrency=1.5), "be whole"),  # type: ignore[arg-type]
    "nothing to call": (lambda _, s: ask_each([1], None, concurrency=1), "call must be a function"),  # type: ignore[arg-type]
    "nothing to send by": (lambda _, s: Batcher(s, None, size_max=2), "send_batch must be"),  # type: ignore[arg-type]
    "a batch of one and a half": (lambda _, s: Batcher(s, send, size_max=1.5), "be whole"),  # type: ignore[arg-type]
    "a count of no word": (lambda *_: Limit("a", "weight", 5, "rollin", 1.0), "a: count is one"),  # type: ignore[arg-type]
    "a float per second": (lambda *_: Limit("a", "weight", 5, Count.DECAYING, per_s=0.3), "Frac"),  # type: ignore[arg-type]
    "a scope of no word": (lambda *_: Refusal(429, per=("account",)), "per is one of key"),  # type: ignore[arg-type]
    "one scope alone": (lambda *_: Limit("a", "w", 5, Count.ROLLING, 1.0, per="key"), "is a tuple"),  # type: ignore[arg-type]
    "one limit of a server": (
        lambda *_: RestServer(limits=VenueLimit("a", 1, window_s=1)),  # type: ignore[arg-type]
        "limits must be of type Sequence",
    ),
    "a server's limit of the client's": (
        lambda *_: RestServer(limits=[Limit("a", "w", 5, Count.ROLLING, 1.0)]),  # type: ignore[list-item]
        "each of limits must be of type VenueLimit",
    ),
    "versions as text": (lambda *_: RestServer(versions="2"), "versions are of"),
    "a strike of text": (lambda *_: RestServer().strike("close"), "must be of type RestFault"),  # type: ignore[arg-type]
}  # fmt: skip


MAKERS: dict[str, Callable[[Limiter, FakeSeam, dict[str, Any]], object]] = {
    "pool": lambda _, s, odd: Pool(URL, s, **odd),
    "limiter": lambda _, s, odd: Limiter(LIMITS, s, **odd),
    "client": lambda lm, s, odd: Client(places(s), lm, s, **odd),
    "breaker": lambda _, s, odd: Breaker(s.monotonic_ns, "x", **odd),
    "endpoints": lambda _, s, odd: Endpoints(s.monotonic_ns, s.uniform, {"a": 1}, **odd),
    "rules": lambda _, s, odd: EndpointRules(**odd),
    "prober": lambda _, s, odd: Prober(places(s), s, send, **odd),
    "retry": lambda _, s, odd: Retry(s, **odd),
    "batcher": lambda _, s, odd: Batcher(s, send, **({"size_max": 2} | odd)),
    "ask_each": lambda _, s, odd: ask_each([1], send, **({"concurrency": 2} | odd)),
    "share": lambda _, s, odd: Share("x", s, **odd),
    "limit": lambda _, s, odd: Limit("a", "w", **({"amount": 5, "length_s": 1.0} | odd),
                                     count=Count.ROLLING),
    "refusal": lambda lm, s, odd: Refusal(**({"status": 429} | odd)),
    "call": lambda lm, s, odd: lm.call("GET /time", **odd),
    "ticket": lambda lm, s, odd: take(lm).answered(**odd),
    "outcome": lambda lm, s, odd: outcome_of(**odd),
}  # fmt: skip
ODD_VALUES: dict[str, dict[str, list[Any]]] = {
    "pool": {
        "connections_max": ["x", 0, 1.5, True], "warm": ["1", -1, None], "head_max": ["x", 0],
        "body_max": [1e6, 0], "waiting_max": ["5", -1], "idle_max_s": ["x", 0, nan, inf],
        "proxy": ["http://127.0.0.1:3128"], "resumption": [True], "version": [[], 2],
    },
    "limiter": {
        "clock_error_s": ["x", nan, -1], "transit_s": ["5", inf], "waiting_max": ["5", -1, 0.5],
        "share": ["x"], "on_event": [5],
    },
    "client": {"retry": [5, True], "code_of": [5, "x"], "limits_s": [5]},
    "breaker": {
        "failures_max": ["x", 0], "open_s": ["1", nan, 0], "open_max_s": ["1", inf],
        "probes_max": [0, 1.5], "probes_needed": [0], "on_change": [1],
    },
    "endpoints": {"rules": [{}, 5], "on_switch": [1], "on_drained": ["x"]},
    "rules": {
        "failures_max": ["x", 0, 2.5], "tau_s": ["x", 0, nan], "failure_rate_max": ["x", 1.5],
        "quarantine_max_s": ["x"],
    },
    "prober": {"limit_s": ["x", 0, inf]},
    "retry": {"base_s": ["x", 0, nan], "cap_s": ["x"], "jitter": ["none"], "on_repeat": [5]},
    "batcher": {
        "size_max": ["x", 0, True], "linger_s": ["x", -1, nan], "concurrency": [None, 0],
        "key_of": [5], "id_of_item": [5], "id_of_result": [5],
    },
    "ask_each": {"concurrency": ["x", 0, True], "stop_on": [5]},
    "share": {"folder": [5]},
    "limit": {"amount": ["10", 0, 1.5], "reserve": ["1", -1, 5], "length_s": ["x", 0, nan]},
    "refusal": {"status": ["429"], "code": [5], "wait_s": ["x", nan, -1]},
    "call": {"costs": [[1], 5], "kind": [5], "key": [None], "instrument": [5]},
    "ticket": {"status": ["200", None], "code": [5]},
    "outcome": {"status": ["x", None]},
}  # fmt: skip


def take(limiter: Limiter) -> Ticket:
    ticket = limiter.try_acquire(limiter.call("GET /time"))
    assert ticket is not None
    return ticket


def odd_values() -> Iterator[tuple[str, str, Any]]:
    for what, arguments in ODD_VALUES.items():
        for name, values in arguments.items():
            yield from ((what, name, value) for value in values)


@pytest.mark.parametrize(("what", "name", "value"), list(odd_values()))
def test_an_odd_argument_is_refused_by_its_name(what: str, name: str, value: Any) -> None:
    async def main() -> None:
        seam = FakeSeam(seed=1)
        limiter = Limiter(LIMITS, seam)
        with pytest.raises(UsageError, match=name):
            await made(lambda *given: MAKERS[what](*given, {name: value}), limiter, seam)

    simulate(main())


def places(seam: FakeSeam) -> Endpoints[Pool]:
    return Endpoints(seam.monotonic_ns, seam.uniform, {"one": Pool(URL, seam)})


async def made(make: Callable[[Limiter, FakeSeam], object], *what: Any) -> None:
    found = make(*what)
    if asyncio.iscoroutine(found):
        await found


@pytest.mark.parametrize("what", ODD)
def test_what_cannot_be_is_refused_by_name(what: str) -> None:
    make, words = ODD[what]

    async def main() -> None:
        seam = FakeSeam(seed=1)
        limiter = Limiter(LIMITS, seam)
        with pytest.raises(UsageError) as caught:
            await made(make, limiter, seam)
        assert words in str(caught.value)
        assert SECRET not in str(caught.value)

    simulate(main())


def test_words_may_be_given_as_their_text() -> None:
    limit = Limit("a", "weight", 5, "rolling", 1.0, per=["key"], signal="remaining")  # type: ignore[arg-type]
    assert limit.count is Count.ROLLING
    assert limit.per == (Scope.KEY,)
    assert limit.per[0] is Scope.KEY
    assert limit.signal is Signal.REMAINING
    assert as_word(Kind, "order", "kind") is Kind.ORDER
    assert limit_ns(0.25) == 250_000_000
    with pytest.raises(UsageError, match=r"^x must be of type int, not str: y$"):
        check_type(SECRET, int, "x", "y")


@pytest.mark.parametrize("kind", [Kind.ORDER, "order"])
def test_an_order_counts_as_one_also_where_its_kind_is_text(kind: Kind) -> None:
    async def main() -> None:
        limiter = Limiter(venue_limits("binance"), FakeSeam(seed=1))
        assert limiter.try_acquire(limiter.call("POST /api/v3/order", kind=kind, key="main"))
        used = {row.limit: row.used for row in limiter.rows()}
        assert used["orders-10s"] == 1

    simulate(main())


@pytest.mark.parametrize("kind", [Kind.CANCEL, "cancel"])
def test_the_reserve_is_a_cancels_also_where_its_kind_is_text(kind: Kind) -> None:
    async def main() -> None:
        limiter = Limiter(LIMITS, FakeSeam(seed=1))
        cancel = limiter.call("DELETE /order", kind=kind)
        tickets = [limiter.try_acquire(cancel) for _ in range(5)]
        assert [ticket is not None for ticket in tickets] == [True] * 4 + [False]

    simulate(main())


def test_what_only_reads_is_public_where_nothing_is_said() -> None:
    async def main() -> None:
        assert Limiter(LIMITS, FakeSeam(seed=1)).call("GET /time").kind is Kind.PUBLIC

    simulate(main())


def test_a_call_of_another_limiter_counts_nowhere() -> None:
    async def main() -> None:
        one, other = (Limiter(LIMITS, FakeSeam(seed=1)) for _ in range(2))
        call = one.call("GET /time")
        with pytest.raises(UsageError, match="another limiter's"):
            other.try_acquire(call)
        with pytest.raises(UsageError, match="another limiter's"):
            other.stopped_s(call)
        assert [row.used for row in one.rows()] == [0]

    simulate(main())


@pytest.mark.parametrize("effect", [Effect.ONCE, "once"])
def test_what_may_run_once_is_not_repeated(effect: Effect) -> None:
    attempts = 0

    async def fail(left_s: float) -> None:
        nonlocal attempts
        attempts += 1
        raise RequestError("http-status", "503", may_have_run=True, status=503)

    async def main() -> None:
        with pytest.raises(RequestError):
            await Retry(FakeSeam(seed=1)).run(fail, effect=effect, limit_s=5.0)

    simulate(main())
    assert attempts == 1


class Place:
    """Keeps what it was asked to send."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def request(self, method: str, target: str, **more: Any) -> Response:
        self.sent.append(f"{method} {target}")
        raise RequestError("http-status", "503", may_have_run=True, status=503)


@pytest.mark.parametrize(
    ("endpoint", "method", "target", "is_its"),
    [
        ("GET /time", "GET", "/time?x=1", True),
        ("GET /time", "POST", "/order", False),
        ("GET /time", "POST", "/time", False),
        ("GET /time", "GET", "/times", False),
        ("GET /p/{id}/book", "GET", "/p/BTC-USD/book?level=2", True),
        ("GET /p/{id}/book", "GET", "/p/BTC/USD/book", False),
        ("GET /p/{id}/book", "GET", "/p//book", False),
        ("a name of one's own", "GET", "/whatever", True),
    ],
)
@pytest.mark.parametrize("is_signed", [False, True])
def test_a_request_is_compared_with_its_call(
    endpoint: str, method: str, target: str, is_its: bool, is_signed: bool
) -> None:
    async def main() -> None:
        seam, place = FakeSeam(seed=1), Place()
        limiter = Limiter(LIMITS, seam)
        client = Client(Endpoints(seam.monotonic_ns, seam.uniform, {"one": place}), limiter, seam)
        call = limiter.call(endpoint, kind=Kind.ORDER, costs={"weight": 1})
        sent = f"{target}&signature={SECRET}" if "?" in target else f"{target}?s={SECRET}"

        def sign() -> tuple[str, Sequence[tuple[str, str]], bytes]:
            return sent, (), b""

        options: dict[str, Any] = {"sign": sign} if is_signed else {}
        with pytest.raises(CrosswireError) as caught:
            await client.request(call, method, "/unused" if is_signed else sent, **options)
        assert place.sent == ([f"{method} {sent}"] if is_its else [])
        assert isinstance(caught.value, RequestError if is_its else UsageError)
        assert SECRET not in str(caught.value)
        assert limiter.rows()[0].used == is_its

    simulate(main())


def test_a_signature_that_is_no_target_costs_nothing() -> None:
    async def main() -> None:
        seam, place = FakeSeam(seed=1), Place()
        limiter = Limiter(LIMITS, seam)
        client = Client(Endpoints(seam.monotonic_ns, seam.uniform, {"one": place}), limiter, seam)
        call = limiter.call("GET /time")
        with pytest.raises(UsageError, match="target must be of type str"):
            await client.request(call, "GET", "/time", sign=lambda: (None, (), b""))  # type: ignore[arg-type,return-value]
        assert place.sent == []
        assert limiter.rows()[0].used == 0

    simulate(main())


@pytest.mark.parametrize("call", ["GET /time", None])
def test_a_client_takes_calls_alone(call: Any) -> None:
    async def main() -> None:
        seam = FakeSeam(seed=1)
        client = Client(places(seam), Limiter(LIMITS, seam), seam)
        with pytest.raises(UsageError, match="call must be of type Call"):
            await client.request(call, "GET", "/time")

    simulate(main())


@pytest.mark.transport
class TestPools:
    @pytest.mark.parametrize("is_warm", [False, True])
    @pytest.mark.parametrize(
        ("odd", "words"),
        [
            ({"body": '{"key": "s3cr3t"}'}, "body must be of type bytes, not str"),
            ({"body": {"key": SECRET}}, "body must be of type bytes, not dict"),
            ({"body": None}, "body must be of type bytes"),
            ({"headers": {"ab": SECRET}}, "headers must be a list"),
            ({"headers": [("X-Key", 1)]}, "the value of the header 'X-Key' must be of type str"),
            ({"headers": [(b"X-Key", "a")]}, "the name of a header must be of type str"),
            ({"kind": "bogus"}, "kind is one of"),
            ({"limit_s": "1"}, "limit_s must be in seconds"),
            ({"limit_s": float("nan")}, "limit_s must be in seconds"),
            ({"method": "get"}, "they are written as GET"),
            ({"method": 5}, "method must be of type str"),
            ({"target": b"/"}, "target must be of type str"),
        ],
    )
    async def test_a_request_that_cannot_be_takes_nobodys_place(
        self, odd: dict[str, Any], words: str, is_warm: bool
    ) -> None:
        async with RestServer() as server:
            pool = Pool(server.url, System(), connections_max=1)
            if is_warm:
                assert (await pool.request("GET", "/time")).status == 200
            with pytest.raises(UsageError, match=words) as caught:
                await pool.request(**{"method": "POST", "target": "/order", **odd})
            assert SECRET not in str(caught.value)
            assert pool.waiting_count == 0
            assert (await pool.request("GET", "/time", kind="order")).status == 200  # type: ignore[arg-type]
            await pool.close()

    @pytest.mark.parametrize("is_warm", [False, True])
    async def test_a_connection_that_fails_at_sending_keeps_no_place(
        self, monkeypatch: pytest.MonkeyPatch, is_warm: bool
    ) -> None:
        async with RestServer() as server:
            pool = Pool(server.url, System(), connections_max=1)
            if is_warm:
                await pool.request("GET", "/time")
            usual = Http1.send

            def fail(self: Http1, exchange: Exchange) -> None:
                raise MemoryError("no room for it")

            monkeypatch.setattr(Http1, "send", fail)
            with pytest.raises(MemoryError):
                await pool.request("GET", "/time")
            monkeypatch.setattr(Http1, "send", usual)
            assert (await pool.request("GET", "/time")).status == 200
            assert pool.connects == 2
            assert pool.open_count == 1
            await pool.close()

    async def test_headers_that_wait_are_what_they_were(self) -> None:
        got: list[dict[str, str]] = []

        def note(request: SimRequest) -> Answer:
            got.append(dict(request.headers))
            return json_answer({})

        async with RestServer({("GET", "/"): Route(note)}) as server:
            pool = Pool(server.url, System())
            headers: Any = [["X-Key", "one"]]
            asking = asyncio.create_task(pool.request("GET", "/", headers=headers))
            await asyncio.sleep(0)  # it waits for its connection
            headers[0][1] = "two\r\nX-More: three"
            await asking
            await pool.close()
        assert got[0]["x-key"] == "one"
        assert "x-more" not in got[0]

    async def test_a_pool_serves_the_loop_that_it_began_on(self) -> None:
        async with RestServer() as server:
            pool = Pool(server.url, System())
            assert (await pool.request("GET", "/time")).status == 200

            def ask_elsewhere() -> None:
                with pytest.raises(UsageError, match="another event loop"):
                    asyncio.run(pool.request("GET", "/time"))

            await asyncio.to_thread(ask_elsewhere)
            assert (await pool.request("GET", "/time")).status == 200
            await pool.close()

    async def test_a_client_does_not_ask_a_closed_pool_again_and_again(self) -> None:
        seam = System()
        pool = Pool("http://127.0.0.1:1", seam)
        await pool.close()
        limiter = Limiter(LIMITS, seam)
        client = Client(Endpoints(seam.monotonic_ns, seam.uniform, {"one": pool}), limiter, seam)
        with pytest.raises(RequestError, match="http-closed"):
            await client.request(limiter.call("GET /time"), "GET", "/time")
        assert pool.requests == 1

    async def test_a_server_that_picked_http1_is_asked_on_many_connections_at_once(
        self,
    ) -> None:
        authority = trustme.CA()
        server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(server_tls)
        server_tls.set_alpn_protocols(["http/1.1"])
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
        tls.set_alpn_protocols(["h2", "http/1.1"])
        together = asyncio.Event()
        inside = 0

        async def hold(request: Request) -> None:
            nonlocal inside
            inside += 1
            if inside == 4:
                together.set()
            await together.wait()
            await request.send(OK)

        async with (
            rest_server(hold, server_tls) as server,
            Pool(server.url, System(), tls, version="auto") as pool,
        ):
            asked = [pool.request("GET", "/", limit_s=30.0) for _ in range(4)]
            answers = await asyncio.gather(*asked)
            assert [answer.version for answer in answers] == ["1.1"] * 4
