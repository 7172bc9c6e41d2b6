"""One HTTP/1.1 connection: bytes in, answers out, through a transport that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from crosswire.errors import RequestError, UsageError
from crosswire.http.connection import Connection, Terms
from crosswire.http.exchange import Exchange, check_method, check_target, checked_headers
from crosswire.http.http1 import INFORMATIONS_MAX, Http1
from crosswire.http.message import Kind, Response
from crosswire.seam import System

HEAD_MAX, BODY_MAX = 1000, 2000


class Remembering(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_over = False
        self.was_aborted = False
        self.unsent = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.is_over = True

    def abort(self) -> None:
        self.is_over = self.was_aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Clock(System):
    """Time moves where a test says so; timers are kept for it to fire."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000
        self.timers: list[tuple[float, Callable[[], None], asyncio.TimerHandle]] = []

    def monotonic_ns(self) -> int:
        return self.now

    def later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        handle = asyncio.get_running_loop().call_later(3600, do)
        self.timers.append((seconds, do, handle))
        return handle


class World:
    """A connection, its transport and who owns it."""

    def __init__(self) -> None:
        self.clock = Clock()
        terms = Terms("http", "venue.example", (("X-Key", "k"),), HEAD_MAX, BODY_MAX)
        self.events: list[str] = []
        self.sockets = 0
        self.transport = Remembering()
        self.connection = Http1(terms, self.clock, self)
        self.connection.connection_made(self.transport)

    def on_made(self, connection: Connection) -> None:
        self.sockets += 1

    def on_lost(self, connection: Connection) -> None:
        self.sockets -= 1

    def on_free(self, connection: Connection) -> None:
        self.events.append("free")

    def on_gone(self, connection: Connection) -> None:
        self.events.append("gone")

    def ask(self, method: str = "GET", target: str = "/a", body: bytes = b"") -> Exchange:
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        now = self.clock.now
        exchange = Exchange(method, target, (), body, Kind.ORDER, now, now + 2 * 10**9, future)
        self.connection.send(exchange)
        return exchange

    def receive(self, data: bytes) -> None:
        """As a transport would, which gives nothing behind a close."""
        while data and not self.transport.is_over:
            buffer = self.connection.get_buffer(-1)
            piece, data = data[: len(buffer)], data[len(buffer) :]
            buffer[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))


def fault_of(exchange: Exchange) -> RequestError:
    error = exchange.future.exception()
    assert isinstance(error, RequestError)
    return error


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Used: 7\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\n"
    b"X-Trailer: 1\r\n\r\n"
)


async def test_its_owner_is_told_once_of_its_socket_and_once_of_the_end_of_it() -> None:
    world = World()
    world.connection.close()
    assert (world.sockets, world.events) == (1, ["gone"])
    world.connection.connection_lost(None)
    assert (world.sockets, world.events) == (0, ["gone"])


class TestARequest:
    async def test_it_is_one_write_with_its_head_and_its_body(self) -> None:
        world = World()
        exchange = world.ask("POST", "/order?a=1", b"{}")
        assert world.transport.written == [
            b"POST /order?a=1 HTTP/1.1\r\nHost: venue.example\r\nX-Key: k\r\n"
            b"Content-Length: 2\r\n\r\n{}"
        ]
        exchange.future.cancel()

    @pytest.mark.parametrize(
        ("method", "line"), [("GET", b""), ("DELETE", b""), ("PUT", b"Content-Length: 0\r\n")]
    )
    async def test_without_a_body_only_methods_that_have_one_say_its_length(
        self, method: str, line: bytes
    ) -> None:
        world = World()
        exchange = world.ask(method)
        assert world.transport.written[0].endswith(b"X-Key: k\r\n" + line + b"\r\n")
        exchange.future.cancel()

    @pytest.mark.parametrize("method", ["", "GET ", "G\r\nET", "CONNECT", "GÉT"])
    def test_a_method_that_is_none_is_refused(self, method: str) -> None:
        with pytest.raises(UsageError):
            check_method(method)

    @pytest.mark.parametrize(
        "target", ["", "a", "/a b", "/a\r\nX: y", "/a\n", "/é", "/a#b", "/\x00", "http://b/", "*"]
    )
    def test_a_target_that_is_none_is_refused(self, target: str) -> None:
        with pytest.raises(UsageError):
            check_target(target)

    @pytest.mark.parametrize(
        "header",
        [
            ("Host", "a"), ("content-length", "1"), ("Connection", "close"), ("A b", "c"),
            ("Transfer-Encoding", "chunked"), ("A", "b\r\nC: d"), ("A", "b\n"), ("A", " b"),
            ("A", "é"), ("", "a"), ("A:", "b"), ("Accept-Encoding", "gzip"), ("A", "\x00"),
        ],
    )  # fmt: skip
    def test_a_header_that_is_none_or_ours_is_refused(self, header: tuple[str, str]) -> None:
        with pytest.raises(UsageError):
            checked_headers([header])


class TestAnAnswer:
    @pytest.mark.parametrize("answer", [ANSWER, CHUNKED])
    async def test_it_is_the_same_wherever_its_bytes_are_cut(self, answer: bytes) -> None:
        for cut in range(1, len(answer)):
            world = World()
            exchange = world.ask()
            world.receive(answer[:cut])
            assert not exchange.future.done()
            world.receive(answer[cut:])
            response = exchange.future.result()
            assert (response.status, response.body, response.version) == (200, b"hello", "1.1")
            assert world.events == ["free"]
            assert world.connection.is_usable

    async def test_a_connection_carries_one_after_the_other(self) -> None:
        world = World()
        for _ in range(3):
            exchange = world.ask()
            assert not world.connection.is_usable
            for byte in ANSWER:
                world.receive(bytes([byte]))
            assert exchange.future.result().header("x-used") == "7"
        assert world.events == ["free"] * 3

    @pytest.mark.parametrize(
        "first",
        [
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        ],
    )
    async def test_informational_answers_before_it_are_skipped(self, first: bytes) -> None:
        world = World()
        exchange = world.ask()
        world.receive(first * 2 + ANSWER)
        assert exchange.future.result().headers == [("content-length", "5"), ("x-used", "7")]
        assert world.connection.is_usable

    async def test_but_not_without_end(self) -> None:
        world = World()
        exchange = world.ask()
        world.receive(b"HTTP/1.1 100 Continue\r\n\r\n" * (INFORMATIONS_MAX + 1) + ANSWER)
        assert fault_of(exchange).code == "http-malformed"
        assert world.transport.was_aborted

    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    async def test_some_have_no_body_whatever_they_say(self, status: bytes) -> None:
        world = World()
        exchange = world.ask()
        world.receive(b"HTTP/1.1 " + status + b"\r\nETag: a\r\n\r\n")
        assert exchange.future.result().body == b""
        assert world.connection.is_usable

    async def test_to_head_has_no_body_and_ends_the_connection(self) -> None:
        world = World()
        exchange = world.ask("HEAD")
        world.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        assert exchange.future.result().body == b""
        assert world.events == ["gone"]

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            ANSWER + b"x",
            ANSWER + ANSWER,
            CHUNKED + b"x",
        ],
    )
    async def test_the_connection_is_not_used_again_where_the_answer_or_what_follows_says_so(
        self, answer: bytes
    ) -> None:
        world = World()
        exchange = world.ask()
        world.receive(answer)
        assert exchange.future.result().body == b"hello"
        assert world.events == ["gone"]
        assert world.transport.is_over

    @pytest.mark.parametrize("told", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
    async def test_nor_where_one_that_has_no_body_says_that_it_has(self, told: bytes) -> None:
        world = World()
        exchange = world.ask()
        world.receive(b"HTTP/1.1 204 No Content\r\n" + told + b"\r\n\r\n")
        assert exchange.future.result().body == b""
        assert world.events == ["gone"]

    async def test_one_that_says_that_it_has_none_is_believed(self) -> None:
        world = World()
        exchange = world.ask()
        world.receive(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
        assert exchange.future.result().status == 204
        assert world.connection.is_usable

    async def test_nor_where_the_request_was_not_read_to_its_end(self) -> None:
        world = World()
        exchange = world.ask("POST", "/a", b"x" * 100)
        world.transport.unsent = 50
        world.receive(ANSWER)
        assert exchange.future.result().status == 200
        assert world.events == ["gone"]

    async def test_without_a_length_it_ends_with_the_connection(self) -> None:
        world = World()
        exchange = world.ask()
        world.receive(b"HTTP/1.1 200 OK\r\n\r\nhel")
        world.receive(b"lo")
        assert not exchange.future.done()
        world.connection.eof_received()
        assert exchange.future.result().body == b"hello"
        assert world.events == ["gone"]

    async def test_without_a_length_a_connection_that_breaks_is_no_end(self) -> None:
        world = World()
        exchange = world.ask()
        world.receive(b"HTTP/1.1 200 OK\r\n\r\nhel")
        world.connection.connection_lost(ConnectionResetError("reset"))
        assert fault_of(exchange).code == "http-truncated"

    async def test_the_servers_own_idle_limit_is_kept(self) -> None:
        world = World()
        exchange = world.ask()
        world.receive(ANSWER.replace(b"X-Used: 7", b"Keep-Alive: timeout=5, max=100"))
        assert exchange.future.result().status == 200
        assert world.connection.idle_max_ns == 5 * 10**9


HEAD = b"HTTP/1.1 200 OK\r\n"


class TestWhatIsNoAnswer:
    @pytest.mark.parametrize(
        ("code", "data"),
        [
            ("http-malformed", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            ("http-malformed", b"HTTP/2.0 200 OK\r\n\r\n"),
            ("http-malformed", b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"),
            ("http-malformed", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n"
                               b"Connection: upgrade\r\n\r\n"),
            ("http-malformed", HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
            ("http-malformed", HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
            ("http-malformed", HEAD + b"Content-Length: -1\r\n\r\n"),
            ("http-malformed", HEAD + b"Content-Length: 5, 5\r\n\r\nhello"),
            ("http-malformed", HEAD + b"Content-Length: 0x5\r\n\r\nhello"),
            ("http-malformed", HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n"),
            ("http-malformed", HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
            ("http-malformed", HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("http-malformed", HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
            ("http-malformed", HEAD + b"Transfer-Encoding: identity\r\n\r\n"),
            ("http-malformed", HEAD + b"A b: c\r\n\r\n"),
            ("http-malformed", HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
            ("http-malformed", HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"),
            ("http-malformed", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"),
            ("http-head-size", HEAD + b"A: " + b"b" * HEAD_MAX),
            ("http-head-size", HEAD + b"A: b\r\n" * HEAD_MAX + b"\r\n"),
            ("http-body-size", HEAD + b"Content-Length: %d\r\n\r\n" % (BODY_MAX + 1)),
            ("http-body-size", HEAD + b"\r\n" + b"x" * (BODY_MAX + 1)),
            ("http-body-size", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
                               + b"3e8\r\n" + b"x" * 1000 + b"\r\n3e9\r\n" + b"x" * 1001),
            ("http-encoding", HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"),
        ],
    )  # fmt: skip
    async def test_it_is_an_error_by_name_and_the_end_of_the_connection(
        self, code: str, data: bytes
    ) -> None:
        for step in (len(data), 1):
            world = World()
            exchange = world.ask()
            for at in range(0, len(data), step):
                world.receive(data[at : at + step])
            error = fault_of(exchange)
            assert (error.code, error.may_have_run) == (code, True)
            assert world.events == ["gone"]
            assert world.transport.was_aborted

    @pytest.mark.parametrize("cut", range(len(ANSWER)))
    async def test_one_that_is_cut_short_is_an_error(self, cut: int) -> None:
        for is_clean in (True, False):
            world = World()
            exchange = world.ask()
            world.receive(ANSWER[:cut])
            if is_clean:
                world.connection.eof_received()
            else:
                world.connection.connection_lost(ConnectionResetError("reset"))
            error = fault_of(exchange)
            assert error.code == ("http-truncated" if cut else "http-reset")
            assert error.may_have_run
            assert world.events == ["gone"]

    async def test_bytes_that_nobody_asked_for_end_the_connection(self) -> None:
        world = World()
        world.receive(ANSWER)
        assert world.events == ["gone"]
        assert not world.connection.is_usable


class TestTheDeadline:
    async def test_it_ends_the_request_and_the_connection_and_names_the_phase(self) -> None:
        world = World()
        exchange = world.ask()
        (seconds, fire, _), *_ = world.clock.timers
        assert seconds == 2.0
        world.clock.now += 2 * 10**9
        fire()
        error = fault_of(exchange)
        assert (error.code, error.may_have_run) == ("http-timeout", True)
        assert "waiting for the answer" in error.text
        assert world.events == ["gone"]
        assert world.transport.was_aborted

    async def test_one_timer_serves_many_requests(self) -> None:
        world = World()
        for _ in range(10):
            world.ask()
            world.receive(ANSWER)
            world.clock.now += 10**8
        assert len(world.clock.timers) == 1
        world.clock.now = 1_000 + 2 * 10**9
        exchange = world.ask()
        world.clock.timers[0][1]()
        assert not exchange.future.done()
        assert world.clock.timers[1][0] == 2.0
        exchange.future.cancel()


class TestTheEnd:
    async def test_a_request_that_is_given_up_takes_its_connection_with_it(self) -> None:
        world = World()
        exchange = world.ask()
        world.connection.cancel(exchange)
        assert world.events == ["gone"]
        assert world.transport.was_aborted

    async def test_a_close_tells_the_request_that_is_out(self) -> None:
        world = World()
        exchange = world.ask()
        world.connection.close()
        error = fault_of(exchange)
        assert (error.code, error.may_have_run) == ("http-closed", True)
        assert world.transport.was_aborted  # else what is left of its body would still be sent
        world.connection.connection_lost(None)
        assert world.events == ["gone"]

    async def test_a_close_of_one_that_is_idle_is_clean(self) -> None:
        world = World()
        world.connection.close()
        assert world.transport.is_over
        assert not world.transport.was_aborted
        assert world.events == ["gone"]
