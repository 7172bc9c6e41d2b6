"""A client of one venue, in simulated time: what each of its parts is told of each attempt."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fake_world import FakeSeam, simulate

from crosswire.errors import BreakerOpenError, LimitError, RequestError, UsageError
from crosswire.http import (
    BreakerState,
    Client,
    EndpointRules,
    Endpoints,
    Kind,
    Limiter,
    Outcome,
    Phases,
    Response,
    status_error,
)
from crosswire.limits import Count, Limit, Refusal, VenueLimits

LIMITS = VenueLimits(
    "toy", "2026-11", "a test",
    (Limit("requests", "requests", 10, Count.ROLLING, 1.0),),
    (Refusal(418, is_ban=True, wait_s=60.0), Refusal(429, wait_s=2.0),
     Refusal(None, "slow", wait_s=3.0)),
)  # fmt: skip

Reply = int | RequestError | UsageError | tuple[int, Sequence[tuple[str, str]], bytes]


def lost(code: str = "http-reset", *, may_have_run: bool = True) -> RequestError:
    return RequestError(code, "as the test says", may_have_run=may_have_run)


class Place:
    """Answers as it is told, in turn; the last reply is repeated."""

    def __init__(self, seam: FakeSeam, *replies: Reply, took_s: float = 0.01) -> None:
        self.sent: list[tuple[float, str, str, bytes]] = []
        self._seam, self._took_s = seam, took_s
        self._replies = itertools.chain(replies, itertools.repeat(replies[-1]))

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        kind: Kind = Kind.PUBLIC,
        limit_s: float | None = None,
    ) -> Response:
        assert limit_s is not None
        assert limit_s > 0
        self.sent.append((self._seam.seconds(), method, target, body))
        await asyncio.sleep(self._took_s)
        reply = next(self._replies)
        if isinstance(reply, RequestError | UsageError):
            raise reply
        status, lines, text = reply if isinstance(reply, tuple) else (reply, (), b"{}")
        return Response(status, lines, text, Phases(0, 0, 0, 0, 0), "1.1")


class World:
    def __init__(self, *replies: Reply, code_of: Callable[[Response], Any] | None = None,
                 rules: EndpointRules | None = None,
                 **places: Sequence[Reply]) -> None:  # fmt: skip
        self.seam = FakeSeam(seed=1)
        self.limiter = Limiter(LIMITS, self.seam, transit_s=1.0)
        self.places = {"one": Place(self.seam, *replies)} if replies else {}
        self.places |= {name: Place(self.seam, *told) for name, told in places.items()}
        self.endpoints: Endpoints[Any] = Endpoints(
            self.seam.monotonic_ns, self.seam.uniform, self.places, rules
        )
        self.client = Client(self.endpoints, self.limiter, self.seam, code_of=code_of)

    async def ask(self, kind: Kind = Kind.QUERY, **options: Any) -> Response:
        call = self.limiter.call("GET /", kind=kind)
        return await self.client.request(call, "GET", "/", **options)

    @property
    def sent(self) -> list[tuple[float, str, str, bytes]]:
        return self.places["one"].sent

    def used(self) -> int:
        return self.limiter.rows()[0].used


def play(world: Callable[[], World], do: Callable[[World], Any]) -> Any:
    async def main() -> Any:
        return await do(world())

    return simulate(main())


@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.QUERY, Kind.PUBLIC])
def test_what_may_be_asked_twice_is(kind: Kind) -> None:
    async def do(world: World) -> None:
        assert (await world.ask(kind)).status == 200
        assert len(world.sent) == 3
        assert world.used() == 3  # each attempt counts

    play(lambda: World(lost(), 503, 200), do)


@pytest.mark.parametrize("reply", [lost(), lost(may_have_run=False), 503, 429, 408, 302, 400])
def test_an_order_is_sent_once_whatever_comes_back(reply: Reply) -> None:
    async def do(world: World) -> None:
        with pytest.raises(RequestError):
            await world.ask(Kind.ORDER)
        assert len(world.sent) == 1

    play(lambda: World(reply, 200), do)


@pytest.mark.parametrize(
    ("status", "may_have_run"),
    [(301, True), (400, False), (401, False), (403, False), (404, False), (408, True), (409, True),
     (418, False), (422, False), (429, False), (500, True), (502, True), (503, True), (504, True)],
)  # fmt: skip
def test_a_status_says_whether_it_may_have_been_carried_out(
    status: int, may_have_run: bool
) -> None:
    async def do(world: World) -> None:
        with pytest.raises(RequestError) as caught:
            await world.ask(Kind.ORDER)
        assert (caught.value.code, caught.value.status) == ("http-status", status)
        assert caught.value.may_have_run is may_have_run

    play(lambda: World(status), do)


def test_what_an_earlier_attempt_may_have_done_is_not_forgotten() -> None:
    async def do(world: World) -> None:
        with pytest.raises(RequestError) as caught:
            await world.ask(Kind.CANCEL)
        assert caught.value.status == 404
        assert caught.value.may_have_run

    play(lambda: World(lost(), 404), do)


def test_a_breaker_that_opens_between_attempts_does_not_hide_that_one_may_have_run() -> None:
    async def do(world: World) -> None:
        breaker = world.client.breakers[Kind.CANCEL]
        for _ in range(4):
            breaker.ask().done(Outcome.FAILURE)
        with pytest.raises(RequestError) as caught:
            await world.ask(Kind.CANCEL)
        assert breaker.state is BreakerState.OPEN
        assert (caught.value.code, caught.value.may_have_run) == ("http-reset", True)
        assert isinstance(caught.value.__cause__, BreakerOpenError)
        assert len(world.sent) == 1

    play(lambda: World(lost(), 200), do)


def test_what_was_not_sent_does_not_count() -> None:
    async def do(world: World) -> None:
        with pytest.raises(RequestError):
            await world.ask(Kind.ORDER)
        assert world.used() == 0
        assert world.limiter.usage.unsent == 1

    play(lambda: World(lost("http-connect", may_have_run=False)), do)


def test_the_breaker_of_its_kind_opens_and_what_it_refuses_costs_nothing() -> None:
    async def do(world: World) -> None:
        for _ in range(5):
            with pytest.raises(RequestError):
                await world.ask(Kind.ORDER)
        await asyncio.sleep(0.5)
        used = world.used()
        with pytest.raises(BreakerOpenError):
            await world.ask(Kind.ORDER)
        assert world.client.breakers[Kind.ORDER].state is BreakerState.OPEN
        assert world.client.breakers[Kind.CANCEL].state is BreakerState.CLOSED
        assert (world.used(), len(world.sent)) == (used, 5)

    play(lambda: World(502, rules=EndpointRules(failures_max=9)), do)


def test_the_pools_own_refusals_say_nothing_of_the_venue() -> None:
    async def do(world: World) -> None:
        for _ in range(9):
            with pytest.raises(RequestError):
                await world.ask(Kind.ORDER)
        assert world.client.breakers[Kind.ORDER].state is BreakerState.CLOSED
        assert world.endpoints.current == "one"

    play(lambda: World(lost("http-busy", may_have_run=False)), do)


def test_the_next_request_goes_elsewhere_when_an_endpoint_fails() -> None:
    async def do(world: World) -> None:
        for _ in range(3):
            with pytest.raises(RequestError):
                await world.ask(Kind.ORDER)
        assert (await world.ask(Kind.ORDER)).status == 200
        assert [len(place.sent) for place in world.places.values()] == [3, 1]

    play(lambda: World(first=[lost()], second=[200], rules=EndpointRules(failures_max=3)), do)


def test_a_429_is_waited_out_and_told_to_the_limiter() -> None:
    async def do(world: World) -> None:
        assert (await world.ask()).status == 200
        first, second = (at for at, *_ in world.sent)
        assert second - first >= 7.0
        assert world.limiter.usage.refusals == 1

    play(lambda: World((429, [("retry-after", "7")], b""), 200), do)


def test_a_ban_ends_it_at_once_and_what_comes_after_is_not_sent() -> None:
    async def do(world: World) -> None:
        with pytest.raises(RequestError) as caught:
            await world.ask()
        assert caught.value.status == 418
        with pytest.raises(LimitError, match="rate-banned"):
            await world.ask()
        assert len(world.sent) == 1

    play(lambda: World(418, 200), do)


def test_a_refusal_in_a_body_is_told_to_the_limiter() -> None:
    async def do(world: World) -> None:
        assert (await world.ask()).body == b"slow"
        await world.ask()
        first, second = (at for at, *_ in world.sent)
        assert 3.0 <= second - first < 3.1

    play(lambda: World((200, (), b"slow"), 200,
                       code_of=lambda r: "slow" if r.body == b"slow" else ""), do)  # fmt: skip


def test_it_is_signed_anew_for_each_attempt_and_what_signing_raises_costs_nothing() -> None:
    async def do(world: World) -> None:
        count = itertools.count()

        def sign() -> tuple[str, Sequence[tuple[str, str]], bytes]:
            return f"/?{next(count)}", (), b"signed"

        await world.ask(sign=sign)
        assert [(target, body) for _, _, target, body in world.sent] == [
            ("/?0", b"signed"), ("/?1", b"signed"),
        ]  # fmt: skip

        def fail() -> tuple[str, Sequence[tuple[str, str]], bytes]:
            raise ValueError("no key")

        used = world.used()
        with pytest.raises(ValueError, match="no key"):
            await world.ask(sign=fail)
        assert world.used() == used
        assert world.client.breakers[Kind.QUERY].probes_out == 0
        assert world.endpoints.snapshot()[0].calls_out == 0

    play(lambda: World(503, 200), do)


def test_one_deadline_holds_for_all_attempts() -> None:
    async def do(world: World) -> None:
        with pytest.raises(RequestError):
            await world.ask(limit_s=2.0)
        assert world.seam.seconds() <= 2.0
        assert len(world.sent) >= 2

    play(lambda: World(503), do)


def test_what_comes_behind_its_deadline_was_not_sent_and_costs_nothing() -> None:
    async def do(world: World) -> None:
        def sign() -> tuple[str, Sequence[tuple[str, str]], bytes]:
            asyncio.get_running_loop().now += 3.0  # type: ignore[attr-defined]
            return "/", (), b""

        with pytest.raises(RequestError) as caught:
            await world.ask(Kind.ORDER, sign=sign, limit_s=2.0)
        assert (caught.value.code, caught.value.may_have_run) == ("http-timeout", False)
        assert (world.sent, world.used(), world.limiter.usage.unsent) == ([], 0, 1)

    play(lambda: World(200), do)


def test_what_cannot_be_sent_costs_nothing() -> None:
    async def do(world: World) -> None:
        with pytest.raises(UsageError):
            await world.ask(Kind.ORDER)
        assert (world.used(), world.limiter.usage.unsent) == (0, 1)

    play(lambda: World(UsageError("a header with a line feed")), do)


@pytest.mark.parametrize("status", [418, 429])
def test_what_reading_a_code_raises_hides_no_refusal(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def do(world: World) -> None:
        with pytest.raises(RequestError, match=str(status)):
            await world.ask(kind=Kind.ORDER)
        call = world.limiter.call("GET /")
        assert world.limiter.stopped_s(call) == 7.0
        assert world.limiter.usage.lost == 0

    def code_of(response: Response) -> str:
        return str(json.loads(response.body)["code"])

    play(lambda: World((status, [("retry-after", "7")], b"<html>"), code_of=code_of), do)
    assert "code_of failed at an answer" in caplog.text


def test_an_answer_may_have_no_code(caplog: pytest.LogCaptureFixture) -> None:
    async def do(world: World) -> None:
        assert (await world.ask(kind=Kind.ORDER)).status == 200

    play(lambda: World((200, [], b"{}"), code_of=lambda r: json.loads(r.body).get("code")), do)
    assert caplog.text == ""


@pytest.mark.parametrize("code_of", [lambda r: json.loads(r.body)["code"], lambda r: -1003])
def test_what_reading_a_code_raises_costs_no_answer(
    code_of: Callable[[Response], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def do(world: World) -> None:
        response = await world.ask(kind=Kind.ORDER)
        assert (response.status, response.body) == (200, b"[]")
        assert (world.limiter.usage.lost, world.limiter.rows()[0].out) == (0, 0)

    play(lambda: World((200, [], b"[]"), code_of=code_of), do)
    assert "code_of failed at an answer of HTTP 200" in caplog.text


def test_a_caller_who_leaves_says_nothing_and_keeps_no_place() -> None:
    async def do(world: World) -> None:
        task = asyncio.ensure_future(world.ask())
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.limiter.usage.lost == 1
        assert world.client.breakers[Kind.QUERY].failures == 0
        assert world.endpoints.snapshot()[0].calls_out == 0

    play(lambda: World(200), do)


def test_status_errors() -> None:
    def answer(status: int, *headers: tuple[str, str]) -> Response:
        return Response(status, headers, b"<html>" * 100, Phases(0, 0, 0, 0, 0), "1.1")

    assert status_error(answer(200), 0) is None
    assert status_error(answer(204), 0) is None
    error = status_error(answer(503, ("retry-after", "Thu, 01 Jan 1970 00:01:00 GMT")), 10**10)
    assert error
    assert error.retry_after_s == 50.0
    assert len(str(error)) < 300
    assert (status_error(answer(503), 0) or error).retry_after_s is None
