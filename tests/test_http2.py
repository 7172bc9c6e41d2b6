"""HTTP/2: a connection against a codec in server mode, byte by byte, and pools against servers."""

from __future__ import annotations

import asyncio
import random
import shutil
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import trustme
from rest_server import HOST, OK, Request, rest_server
from test_http1 import BODY_MAX, HEAD_MAX, Clock, Remembering, fault_of

from crosswire.errors import RequestError, UsageError
from crosswire.http import Pool, Response, http2
from crosswire.http.connection import Connection, Terms
from crosswire.http.exchange import Exchange
from crosswire.http.http2 import FRAMES_MAX, SILENT_MAX, STREAM_ID_MAX, Http2
from crosswire.http.message import Kind
from crosswire.seam import System

REFUSED, CANCEL, INTERNAL = 7, 8, 2


class World:
    """A connection and a server's codec, that hear each other where a test says so."""

    def __init__(self, settings: dict[int, int] | None = None, *, is_silent: bool = False) -> None:
        self.clock = Clock()
        terms = Terms("https", "venue.example", (("X-Key", "k"),), HEAD_MAX, BODY_MAX)
        self.happened: list[str] = []
        self.sockets = 0
        self.transport = Remembering()
        self.connection = Http2(terms, self.clock, self)
        self.connection.connection_made(self.transport)
        config = h2.config.H2Configuration(client_side=False, header_encoding="ascii")
        self.peer = h2.connection.H2Connection(config)
        self.peer.initiate_connection()
        if settings:
            self.peer.update_settings(settings)
        self.events: list[Any] = []
        if not is_silent:
            self.exchange()

    def on_made(self, connection: Connection) -> None:
        self.sockets += 1

    def on_lost(self, connection: Connection) -> None:
        self.sockets -= 1

    def on_free(self, connection: Connection) -> None:
        self.happened.append("free")

    def on_gone(self, connection: Connection) -> None:
        self.happened.append("gone")

    def ask(self, method: str = "GET", body: bytes = b"") -> Exchange:
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        now = self.clock.now
        exchange = Exchange(method, "/a", (), body, Kind.ORDER, now, now + 2 * 10**9, future)
        self.connection.send(exchange)
        return exchange

    def receive(self, data: bytes) -> None:
        while data and not self.transport.is_over:
            buffer = self.connection.get_buffer(-1)
            piece, data = data[: len(buffer)], data[len(buffer) :]
            buffer[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))

    def exchange(self) -> None:
        """Let both hear all that the other has said."""
        while True:
            said = b"".join(self.transport.written)
            self.transport.written.clear()
            if said:
                self.events += self.peer.receive_data(said)
            data = self.peer.data_to_send()
            if not (data or said):
                return
            self.receive(data)

    def reply(self, number: int, body: bytes = b"hello", status: str = "200") -> None:
        self.peer.send_headers(number, [(":status", status), ("x-used", "7")])
        self.peer.send_data(number, body, end_stream=True)


async def test_its_owner_is_told_once_of_its_socket_and_once_of_the_end_of_it() -> None:
    world = World()
    world.connection.close()
    assert (world.sockets, world.happened) == (1, ["gone"])
    world.connection.connection_lost(None)
    assert (world.sockets, world.happened) == (0, ["gone"])


class TestOneConnection:
    async def test_a_request_has_its_head_and_its_body(self) -> None:
        world = World()
        exchange = world.ask("POST", b"{}")
        world.exchange()
        (head,) = [e for e in world.events if isinstance(e, h2.events.RequestReceived)]
        assert head.headers == [
            (":method", "POST"), (":path", "/a"), (":scheme", "https"),
            (":authority", "venue.example"), ("x-key", "k"), ("content-length", "2"),
        ]  # fmt: skip
        data = b"".join(e.data for e in world.events if isinstance(e, h2.events.DataReceived))
        assert data == b"{}"
        world.reply(1)
        world.exchange()
        response = exchange.future.result()
        assert (response.status, response.body, response.version) == (200, b"hello", "2")
        assert response.headers == [("x-used", "7")]

    async def test_an_answer_is_the_same_wherever_its_bytes_are_cut(self) -> None:
        size = 0
        cut = 0
        while cut <= size:
            world = World()
            exchange = world.ask()
            world.exchange()
            world.reply(1)
            data = world.peer.data_to_send()
            size = len(data)
            world.receive(data[:cut])
            world.receive(data[cut:])
            assert exchange.future.result().body == b"hello"
            cut += 1
        assert size > 20

    async def test_answers_may_come_in_any_order(self) -> None:
        world = World()
        asked = [world.ask() for _ in range(3)]
        world.exchange()
        for number in (5, 1, 3):
            world.reply(number, b"%d" % number)
        world.exchange()
        assert [e.future.result().body for e in asked] == [b"1", b"3", b"5"]

    async def test_no_more_are_out_than_the_server_allows(self) -> None:
        world = World({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 2})
        asked = [world.ask(), world.ask()]
        assert not world.connection.is_usable
        world.exchange()
        world.reply(1)
        world.exchange()
        assert world.happened == ["free"]
        assert world.connection.is_usable
        assert asked[0].future.done()
        asked[1].future.cancel()

    async def test_behind_the_last_number_of_a_stream_it_ends(self) -> None:
        world = World()
        world.connection._codec.highest_outbound_stream_id = STREAM_ID_MAX - 2
        last = world.ask()
        assert not world.connection.is_usable
        world.exchange()
        assert world.happened == []
        world.reply(STREAM_ID_MAX)
        world.exchange()
        assert last.future.result().body == b"hello"
        assert world.happened == ["gone"]

    async def test_a_server_may_allow_fewer_at_any_time(self) -> None:
        world = World()
        asked = [world.ask() for _ in range(3)]
        world.exchange()
        world.peer.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        world.exchange()
        assert not world.connection.is_usable
        for number in (1, 3, 5):
            world.reply(number)
            world.exchange()
        assert world.happened == ["free"]
        assert all(exchange.future.done() for exchange in asked)

    async def test_a_large_body_waits_for_the_servers_window(self) -> None:
        world = World()
        body = bytes(range(256)) * 1000
        exchange = world.ask("POST", body)
        got = bytearray()
        assert not exchange.sent
        while not exchange.sent:
            said = b"".join(world.transport.written)
            world.transport.written.clear()
            for event in world.peer.receive_data(said):
                if isinstance(event, h2.events.DataReceived):
                    got += event.data
                    world.peer.acknowledge_received_data(event.flow_controlled_length, 1)
            world.receive(world.peer.data_to_send())
        for event in world.peer.receive_data(b"".join(world.transport.written)):
            if isinstance(event, h2.events.DataReceived):
                got += event.data
        assert bytes(got) == body
        exchange.future.cancel()

    async def test_cancelling_resets_the_stream_alone(self) -> None:
        world = World()
        first, second = world.ask(), world.ask()
        world.exchange()
        world.connection.cancel(first)
        world.exchange()
        resets = [e for e in world.events if isinstance(e, h2.events.StreamReset)]
        assert [(e.stream_id, e.error_code) for e in resets] == [(1, CANCEL)]
        world.reply(3)
        world.exchange()
        assert second.future.result().body == b"hello"

    async def test_the_deadline_ends_the_stream_alone(self) -> None:
        world = World()
        first = world.ask()
        world.clock.now += 10**9
        second = world.ask()
        world.exchange()
        world.clock.now += 10**9
        world.clock.timers[0][1]()
        assert fault_of(first).code == "http-timeout"
        world.exchange()
        world.reply(3)
        world.exchange()
        assert second.future.result().status == 200

    @pytest.mark.parametrize("is_given_up", [False, True])
    async def test_a_connection_that_is_silent_to_a_deadline_and_to_a_ping_takes_no_more(
        self, is_given_up: bool
    ) -> None:
        world = World()
        world.clock.now += 10**9
        first = world.ask()
        world.clock.now += 10**9
        second = world.ask()
        if is_given_up:
            world.connection.cancel(first)
        world.clock.now += 10**9
        world.clock.timers[-1][1]()
        if not is_given_up:
            assert fault_of(first).code == "http-timeout"
            assert world.connection.is_usable  # it may be slow: it is asked by a PING
            world.clock.now += 999_999_999
            world.clock.timers[-1][1]()
            assert world.connection.is_usable
            world.clock.now += 1
            world.clock.timers[-1][1]()
            assert fault_of(second).code == "http-timeout"
            assert world.happened == ["gone"]
            return
        assert not world.connection.is_usable
        assert world.connection.is_leaving
        world.exchange()
        world.reply(3)
        world.exchange()
        assert second.future.result().status == 200  # it was slow, after all
        assert world.happened == ["gone"]

    async def test_a_slow_server_that_answers_pings_is_kept(self) -> None:
        world = World()
        world.clock.now += 10**9
        first = world.ask()
        world.clock.now += 2 * 10**9
        world.clock.timers[-1][1]()
        assert fault_of(first).code == "http-timeout"
        world.exchange()
        world.clock.now += 10**9
        for _, call, handle in world.clock.timers[1:]:
            if not handle.cancelled():
                call()
        assert world.connection.is_usable
        assert world.happened == []

    async def test_a_connection_that_was_not_silent_outlives_a_deadline(self) -> None:
        world = World()
        world.clock.now += 10**9
        slow = world.ask()
        world.clock.now += 10**9
        quick = world.ask()
        world.exchange()
        world.reply(3)
        world.exchange()
        assert quick.future.result().status == 200
        world.clock.now += 10**9
        world.clock.timers[0][1]()
        assert fault_of(slow).code == "http-timeout"
        assert world.connection.is_usable


class TestWhatDidNotRun:
    @pytest.mark.parametrize(("code", "may"), [(REFUSED, False), (INTERNAL, True)])
    async def test_a_stream_that_was_refused(self, code: int, may: bool) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        world.peer.reset_stream(1, code)
        world.exchange()
        error = fault_of(exchange)
        assert (error.code, error.may_have_run) == ("http-stream-reset", may)
        assert world.connection.is_usable

    async def test_a_stream_behind_the_last_one_of_a_goaway(self) -> None:
        world = World()
        first, second = world.ask(), world.ask()
        world.exchange()
        world.reply(1)
        answer = world.peer.data_to_send()
        goaway = frame(7, 0, 0, (1).to_bytes(4, "big") + bytes(4))
        world.receive(goaway)
        assert (fault_of(second).code, fault_of(second).may_have_run) == ("http-goaway", False)
        assert not world.connection.is_usable
        assert world.happened == []
        world.receive(answer)
        assert first.future.result().body == b"hello"
        assert world.happened == ["gone"]

    async def test_a_goaway_and_the_last_answers_may_come_at_once(self) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        world.reply(1)
        world.receive(frame(7, 0, 0, (1).to_bytes(4, "big") + bytes(4)) + world.peer.data_to_send())
        assert exchange.future.result().body == b"hello"
        assert world.happened == ["gone"]

    async def test_a_server_that_goes_away_and_ends_leaves_it_open_what_ran(self) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        world.receive(frame(7, 0, 0, (1).to_bytes(4, "big") + bytes(4)))
        world.connection.eof_received()
        assert (fault_of(exchange).code, fault_of(exchange).may_have_run) == ("http-reset", True)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload).to_bytes(3, "big")
    return size + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class TestWhatIsNoAnswer:
    @pytest.mark.parametrize(
        "data",
        [
            frame(0, 0, 5, b"x"),
            frame(9, 4, 1, b""),
            frame(1, 4, 1, b"\xff\xff\xff\xff"),
            frame(1, 4, 2, b"\x88"),
            frame(6, 0, 0, b"123"),
            frame(4, 0, 0, b"12345"),
            frame(8, 0, 0, b"\x00\x00\x00\x00"),
            frame(5, 4, 1, b"\x00\x00\x00\x02\x88"),
            frame(1, 5, 1, b"\x88") + frame(1, 5, 1, b"\x88"),
        ],
    )
    async def test_a_server_that_breaks_http2_loses_the_connection(self, data: bytes) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        world.receive(data)
        assert fault_of(exchange).code == "http-malformed"
        assert fault_of(exchange).may_have_run

    async def test_a_server_that_speaks_something_else(self) -> None:
        for step in (1, 100):
            world = World(is_silent=True)
            exchange = world.ask()
            data = b"HTTP/1.1 400 Bad Request\r\n\r\n"
            for at in range(0, len(data), step):
                world.receive(data[at : at + step])
            assert fault_of(exchange).code == "http-malformed"

    async def test_a_frame_of_megabytes_is_not_waited_for(self) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        world.receive(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(SILENT_MAX))
        assert fault_of(exchange).code == "http-malformed"
        assert world.happened == ["gone"]

    async def test_a_body_of_another_length_than_it_says(self) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        world.peer.send_headers(1, [(":status", "200"), ("content-length", "9")])
        world.peer.send_data(1, b"hello", end_stream=True)
        world.exchange()
        assert fault_of(exchange).code == "http-malformed"

    async def test_an_answer_that_ends_with_its_head_and_says_it_has_a_body(self) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        head = [(":status", "200"), ("content-length", "5")]
        world.peer.send_headers(1, head, end_stream=True)
        world.exchange()
        error = fault_of(exchange)
        assert (error.code, error.status, error.may_have_run) == ("http-malformed", 200, True)
        assert world.connection.is_usable

    @pytest.mark.parametrize(
        ("method", "status", "length"),
        [("HEAD", "200", "5"), ("GET", "304", "5"), ("GET", "200", "0"), ("GET", "204", "0")],
    )
    async def test_an_answer_that_may_end_with_its_head(
        self, method: str, status: str, length: str
    ) -> None:
        world = World()
        exchange = world.ask(method)
        world.exchange()
        head = [(":status", status), ("content-length", length)]
        world.peer.send_headers(1, head, end_stream=True)
        world.exchange()
        assert exchange.future.result().status == int(status)

    @pytest.mark.parametrize(
        ("code", "headers", "body"),
        [
            ("http-encoding", [("content-encoding", "gzip")], b"x"),
            ("http-body-size", [], b"x" * (BODY_MAX + 1)),
        ],
    )
    async def test_an_answer_that_is_not_taken_is_reset_alone(
        self, code: str, headers: list[tuple[str, str]], body: bytes
    ) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        world.peer.send_headers(1, [(":status", "200"), *headers])
        world.peer.send_data(1, body)
        world.receive(world.peer.data_to_send())
        assert (fault_of(exchange).code, fault_of(exchange).status) == (code, 200)
        assert world.connection.is_usable

    async def test_a_head_that_is_too_long(self) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        world.peer.send_headers(1, [(":status", "200"), ("x-long", "y" * 2 * HEAD_MAX)])
        world.receive(world.peer.data_to_send())
        assert fault_of(exchange).code == "http-head-size"
        assert world.happened == ["gone"]

    async def test_a_head_without_end(self) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        world.receive(frame(1, 0, 1, b"\x88") + frame(9, 0, 1, b"") * 10_000)
        assert fault_of(exchange).code in ("http-malformed", "http-head-size")
        assert world.happened == ["gone"]

    async def test_frames_without_end_that_bring_nothing(self) -> None:
        world = World()
        exchange = world.ask()
        world.exchange()
        for _ in range(FRAMES_MAX + 2):
            world.receive(frame(6, 0, 0, b"12345678"))
        assert fault_of(exchange).code == "http-malformed"
        assert world.happened == ["gone"]

    async def test_a_ping_that_is_answered_may_be_asked_for_ever(self) -> None:
        world = World()
        for _ in range(FRAMES_MAX + 2):
            ping = asyncio.ensure_future(world.connection.ping())
            await asyncio.sleep(0)
            world.exchange()
            assert world.happened == []
            await ping
        assert world.connection.is_usable

    async def test_answers_to_pings_that_nobody_asked_for_are_counted(self) -> None:
        world = World()
        for _ in range(FRAMES_MAX + 2):
            world.receive(frame(6, 1, 0, b"12345678"))
        assert world.happened == ["gone"]

    async def test_what_came_while_it_was_idle_is_not_the_next_requests_fault(self) -> None:
        world = World()
        for _ in range(FRAMES_MAX - 10):
            world.receive(frame(6, 0, 0, b"12345678"))
        exchange = world.ask()
        for _ in range(100):
            world.receive(frame(6, 0, 0, b"12345678"))
        world.exchange()
        world.reply(1)
        world.exchange()
        assert exchange.future.result().body == b"hello"

    async def test_a_body_may_take_any_number_of_windows(self) -> None:
        world = World({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
        exchange = world.ask("POST", b"x" * 10 * FRAMES_MAX)
        world.exchange()
        while not exchange.sent:
            assert not exchange.future.done()
            world.peer.increment_flow_control_window(10, 1)
            world.peer.increment_flow_control_window(10)
            world.exchange()
        world.reply(1)
        world.exchange()
        assert exchange.future.result().body == b"hello"

    @pytest.mark.parametrize("is_clean", [True, False])
    async def test_a_connection_that_ends(self, is_clean: bool) -> None:
        world = World()
        first, second = world.ask(), world.ask()
        world.exchange()
        world.peer.send_headers(1, [(":status", "200")])
        world.exchange()
        if is_clean:
            world.connection.eof_received()
        world.connection.connection_lost(None if is_clean else ConnectionResetError())
        assert fault_of(first).code == "http-truncated"
        assert fault_of(second).code == "http-reset"
        assert world.happened == ["gone"]


# ------------------------------------------------------------------ pools


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def say_ok(request: Request) -> None:
    await request.send(OK)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


class FaultyServer(asyncio.Protocol):
    """Answers, refuses, resets, or goes away, as the target says; counts each."""

    seen: Counter[str]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        config = h2.config.H2Configuration(client_side=False, header_encoding="ascii")
        self.codec = h2.connection.H2Connection(config)
        self.codec.initiate_connection()
        self.transport.write(self.codec.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.codec.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                target = dict(event.headers)[":path"]
                self.answer(event.stream_id, target)
                if self.transport.is_closing():
                    return
        self.transport.write(self.codec.data_to_send())

    def answer(self, number: int, target: str) -> None:
        match target.split("/")[1]:
            case "refused":
                self.codec.reset_stream(number, REFUSED)
                return
            case "leaves":  # with all that are behind the stream before
                self.codec.close_connection(0, last_stream_id=max(0, number - 2))
                self.transport.write(self.codec.data_to_send())
                self.transport.close()
                return
        self.seen[target] += 1
        match target.split("/")[1]:
            case "broken":
                self.codec.reset_stream(number, INTERNAL)
            case "lost":
                self.transport.abort()
            case _:
                self.codec.send_headers(number, [(":status", "200")])
                self.codec.send_data(number, target.encode(), end_stream=True)


@pytest.mark.transport
class TestFaults:
    async def test_nothing_is_sent_twice_and_each_ends_once(
        self, authority: trustme.CA, tls: ssl.SSLContext
    ) -> None:
        server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(server_tls)
        server_tls.set_alpn_protocols(["h2"])
        tls.set_alpn_protocols(["h2"])
        seen: Counter[str] = Counter()
        kind = type("Server", (FaultyServer,), {"seen": seen})
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(kind, HOST, 0, ssl=server_tls)
        port = listener.sockets[0].getsockname()[1]
        chance = random.Random(5)
        faults = ("refused", "leaves", "broken", "lost")
        plan = [chance.choice(faults) if chance.random() < 0.2 else "ok" for _ in range(1000)]
        ends: Counter[str] = Counter()
        told_not_run: list[str] = []
        numbers = iter(range(len(plan)))
        pool = Pool(f"https://{HOST}:{port}", System(), tls, version="2")

        async def ask() -> None:
            for number in numbers:
                target = f"/{plan[number]}/{number}"
                try:
                    response = await pool.request("GET", target)
                except RequestError as error:
                    ends[error.code] += 1
                    if not error.may_have_run:
                        told_not_run.append(target)
                else:
                    ends["answer"] += 1
                    assert (response.body.decode(), seen[target]) == (target, 1)

        async with pool:
            await asyncio.gather(*(ask() for _ in range(8)))
            assert (pool.in_flight, pool.waiting_count) == (0, 0)
        listener.close()
        assert sum(ends.values()) == len(plan)
        assert max(seen.values()) == 1
        assert told_not_run
        assert [target for target in told_not_run if seen[target]] == []
        assert {"answer", "http-goaway", "http-stream-reset", "http-reset"} <= set(ends)


@pytest.mark.transport
class TestThePool:
    @pytest.mark.parametrize("offer", [None, ["http/1.1"]])
    async def test_a_server_without_http2_is_named(
        self, offer: list[str] | None, authority: trustme.CA, tls: ssl.SSLContext
    ) -> None:
        server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(server_tls)
        if offer:
            server_tls.set_alpn_protocols(offer)
        tls.set_alpn_protocols(["h2", "http/1.1"])
        async with rest_server(say_ok, server_tls) as server:
            pool = Pool(server.url, System(), tls, version="2", warm=0)
            with pytest.raises(RequestError, match="set_alpn_protocols") as caught:
                await pool.request("GET", "/")
            assert (caught.value.code, caught.value.may_have_run) == ("http-alpn", False)
            assert not server.seen
            await pool.close()
            async with Pool(server.url, System(), tls, version="auto") as pool:
                assert (await pool.request("GET", "/")).version == "1.1"

    async def test_a_connection_that_is_dead_keeps_no_place(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http2, "ANSWER_NS", 10_000_000)
        accepted = 0
        serving: list[Any] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal accepted
            accepted += 1
            is_dead = accepted == 1
            serving.append(asyncio.current_task())
            peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            peer.initiate_connection()
            writer.write(peer.data_to_send())
            while data := await reader.read(65536):
                for event in peer.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        peer.send_headers(event.stream_id, [(":status", "200")], end_stream=True)
                if not is_dead:
                    writer.write(peer.data_to_send())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, HOST, 0)
        async with server:
            url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
            pool = Pool(url, System(), version="2", connections_max=1)
            long = asyncio.create_task(pool.request("GET", "/long", limit_s=60.0))
            with pytest.raises(RequestError, match="http-timeout"):
                await pool.request("GET", "/short", limit_s=0.05)
            await until(lambda: all(connection.is_leaving for connection in pool._open))
            answer = await pool.request("DELETE", "/order", kind=Kind.CANCEL)
            assert (answer.status, accepted, long.done()) == (200, 2, False)
            await pool.close()
            with pytest.raises(RequestError, match="http-closed"):
                await long
            await asyncio.gather(*serving)

    async def test_without_the_package_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "crosswire.http.http2", raising=False)
        monkeypatch.setitem(sys.modules, "h2.config", None)
        monkeypatch.setitem(sys.modules, "h2", None)
        with pytest.raises(UsageError, match=r"crosswire\[http2\]"):
            Pool("https://venue.example", System(), version="2")

    @pytest.mark.skipif(not shutil.which("nghttpd"), reason="HTTP/2 PEER NOT TESTED: no nghttpd")
    @pytest.mark.parametrize("version", ["2", "auto"])
    async def test_it_speaks_with_nghttpd(
        self, version: str, authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path
    ) -> None:
        certificate = authority.issue_cert(HOST)
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        (tmp_path / "root").mkdir()
        body = bytes(range(256)) * 12_000
        (tmp_path / "root" / "large").write_bytes(body)
        (tmp_path / "root" / "small").write_bytes(b"ok")
        listener = await asyncio.start_server(lambda r, w: None, HOST, 0)
        port = listener.sockets[0].getsockname()[1]
        listener.close()
        await listener.wait_closed()
        process = await asyncio.create_subprocess_exec(
            "nghttpd", "-a", HOST, "-d", str(tmp_path / "root"), "--echo-upload", str(port),
            str(tmp_path / "key.pem"), str(tmp_path / "cert.pem"),
        )  # fmt: skip
        tls.set_alpn_protocols(["h2", "http/1.1"])
        try:
            pool = Pool(f"https://{HOST}:{port}", System(), tls, version=version, warm=0)
            async with asyncio.timeout(10):
                while True:
                    try:
                        response = await pool.request("GET", "/small")
                        break
                    except RequestError as error:
                        if error.code != "http-connect":
                            raise
                        await asyncio.sleep(0.01)
            assert (response.status, response.body, response.version) == (200, b"ok", "2")
            several = await asyncio.gather(*(pool.request("GET", "/small") for _ in range(200)))
            assert {r.body for r in several} == {b"ok"}
            assert (await pool.request("GET", "/large")).body == body
            echo = await pool.request("POST", "/echo", body=body)
            assert echo.body == body
            assert (await pool.request("GET", "/none")).status == 404
            assert pool.connects <= 2
            await pool.close()
        finally:
            process.terminate()
            await process.wait()
