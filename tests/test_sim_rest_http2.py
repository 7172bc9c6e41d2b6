"""The REST server of the simulator over HTTP/2: independent clients, faults, flow control."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import InvalidBodyLengthError
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, SettingsFrame
from hypothesis import given
from hypothesis import strategies as st
from rest_client import (
    LIMIT_S,
    ORDER,
    ORDER_BODY,
    HeldSeam,
    Raw,
    Sink,
    connected,
    fed,
    over_tls,
    until,
)

from crosswire.sim import Latency, RestFault, RestServer, VenueLimit
from crosswire.sim.rest_h2 import Http2

pytestmark = pytest.mark.transport


def h2_client(ca: str, url: str) -> httpx2.AsyncClient:
    tls = ssl.create_default_context(cafile=ca)
    return httpx2.AsyncClient(http2=True, http1=True, verify=tls, base_url=url)


class TestVersions:
    @pytest.mark.parametrize("versions", [("2", "1.1"), ("1.1", "2")])
    async def test_alpn_chooses_on_one_port(self, versions: tuple[str, ...]) -> None:
        async with over_tls(*versions) as (server, ca):
            async with h2_client(ca, server.url) as client:
                both = await client.get("/time")
            tls = ssl.create_default_context(cafile=ca)
            tls.set_alpn_protocols(["http/1.1"])
            async with connected(server, tls=tls) as raw:
                assert (await raw.ask("GET /time")).status == 200
        assert both.http_version == {"2": "HTTP/2", "1.1": "HTTP/1.1"}[versions[0]]
        assert [entry.version for entry in server.account.requests] == [versions[0], "1.1"]

    async def test_who_speaks_no_version_of_it_is_turned_away(self) -> None:
        async with over_tls("2") as (server, ca):
            tls = ssl.create_default_context(cafile=ca)
            async with connected(server, tls=tls) as raw:
                with pytest.raises(OSError):  # noqa: PT011 - reset, or told as one of TLS
                    await raw.rest()
        assert (server.account.connection_count, server.account.turned_away) == (0, 1)


class TestAnIndependentClient:
    async def test_uses_the_endpoints(self) -> None:
        limit = VenueLimit("m", 100, window_s=60, used_header="x-used")
        async with (
            over_tls("2", limits=[limit]) as (server, ca),
            h2_client(ca, server.url) as client,
        ):
            quote, order, gone, depth = await asyncio.gather(
                client.get("/quote?symbol=BTCUSDT"),
                client.post("/order", json=ORDER, headers={"x-key": "k"}),
                client.get("/nowhere"),
                client.get("/depth?symbol=BTCUSDT&limit=1000"),
            )
        assert [got.status_code for got in (quote, order, gone, depth)] == [200, 200, 404, 200]
        assert quote.json()["symbol"] == "BTCUSDT"
        assert len(depth.json()["bids"]) == 1000
        assert server.venue.orders["c1"].placed_by == [
            entry.id for entry in server.account.requests if entry.method == "POST"
        ]
        assert {entry.key for entry in server.account.requests} == {"k", None}
        assert "x-used" in quote.headers
        assert server.account.connection_count == 1

    @pytest.mark.skipif(not shutil.which("curl"), reason="NOT TESTED: curl is not here")
    async def test_another_implementation_reads_what_is_sent(self) -> None:
        async with over_tls("2", "1.1") as (server, ca):
            process = await asyncio.create_subprocess_exec(
                "curl", "-sS", "--http2", "--cacert", ca, "-m", "20", "-i",
                f"{server.url}/quote?symbol=ETHUSDT",
                "--next", "-sS", "--http2", "--cacert", ca, "-m", "20", "-i",
                "--json", json.dumps(ORDER), f"{server.url}/order",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await process.communicate()
        if b"option --json" in err or b"does not support" in err:
            pytest.skip("NOT TESTED: this curl is too old")
        assert process.returncode == 0, err
        assert out.count(b"HTTP/2 200") == 2
        assert b'"symbol":"ETHUSDT"' in out
        assert server.venue.orders["c1"].placed_by == [1]

    async def test_sees_its_limit(self) -> None:
        limit = VenueLimit("m", 1, window_s=60)
        async with (
            over_tls("2", seam=HeldSeam(), limits=[limit], ban_after=1) as (server, ca),
            h2_client(ca, server.url) as client,
        ):
            statuses = [(await client.get("/time")).status_code for _ in range(4)]
        assert statuses == [200, 429, 418, 418]


class Client:
    """A client of a server in plain text whose every frame a test sees."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.is_closed = False
        self.flush()

    def flush(self) -> None:
        self.raw.send(self.h2.data_to_send())

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        """Send a request, with its whole body; return its stream."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "x")]
        self.h2.send_headers(stream, [*head, *headers.items()], end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()
        return stream

    async def read(self) -> None:
        """Read once."""
        async with asyncio.timeout(LIMIT_S):
            data = await self.raw.reader.read(1 << 16)
        self.is_closed = not data
        self.events += self.h2.receive_data(data) if data else []
        for event in self.events:
            if isinstance(event, DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                event.flow_controlled_length = 0
        self.flush()

    async def seen(self, kind: type, **terms: Any) -> Any:
        """Read until an event of a kind has come that is as said; return the first."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and all(
                    getattr(event, name) == value for name, value in terms.items()
                ):
                    return event
            assert not self.is_closed, self.events
            await self.read()

    async def answer(self, stream: int) -> tuple[int, bytes]:
        """Return status and body of an answer."""
        await self.seen(StreamEnded, stream_id=stream)
        head = await self.seen(ResponseReceived, stream_id=stream)
        return int(dict(head.headers)[":status"]), self.body(stream)

    def body(self, stream: int) -> bytes:
        return b"".join(
            event.data
            for event in self.events
            if isinstance(event, DataReceived) and event.stream_id == stream
        )

    async def end(self) -> None:
        """Read up to the end."""
        while not self.is_closed:
            await self.read()


@asynccontextmanager
async def plain(**terms: Any) -> AsyncIterator[tuple[RestServer, Client]]:
    """Serve HTTP/2 in plain text, and connect to it."""
    server = RestServer(versions=("2",), **terms)
    async with server, connected(server) as raw:
        yield server, Client(raw)


def frames_of(data: bytes) -> list[Frame]:
    """Return the frames of a stream. The library's own client reads none behind GOAWAY."""
    frames = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        frames.append(frame)
        data = data[9 + length :]
    return frames


class TestFaults:
    async def test_a_graceful_goaway_serves_earlier_streams_and_gives_later_ones_back(self) -> None:
        seam = HeldSeam()
        faults = {1: RestFault("goaway")}
        async with plain(seam=seam, faults=faults, latency=Latency(1)) as (server, client):
            first = client.request("GET", "/time")
            client.request("POST", "/order", ORDER_BODY)
            client.request("GET", "/time")
            await until(lambda: len(server.account.requests) == 3)
            seam.fire()
            frames = frames_of(await client.raw.rest())
        (goaway,) = [frame for frame in frames if isinstance(frame, GoAwayFrame)]
        assert (goaway.last_stream_id, goaway.error_code) == (first, ErrorCodes.NO_ERROR)
        behind = frames[frames.index(goaway) + 1 :]
        assert {frame.stream_id for frame in behind} == {first}
        assert [type(frame) for frame in behind] == [HeadersFrame, DataFrame, DataFrame]
        assert [(e.status, e.fault, e.is_carried_out) for e in server.account.requests] == [
            (200, None, True),
            (None, "goaway", False),
            (None, "goaway", False),
        ]
        assert server.venue.orders == {}

    async def test_a_request_that_is_given_back_takes_no_other_fault_with_it(self) -> None:
        server = RestServer(versions=("2",), seam=HeldSeam(), latency=Latency(1))
        async with server:
            async with connected(server) as raw:
                client = Client(raw)
                client.request("GET", "/time")
                await until(lambda: server.account.requests)
                server.strike(RestFault("goaway"))
                server.strike(RestFault("error"))
                client.request("GET", "/time")
                client.request("GET", "/time")
                await until(lambda: len(server.account.requests) == 3)
            server.latency = Latency()
            async with connected(server) as raw:
                client = Client(raw)
                assert (await client.answer(client.request("GET", "/time")))[0] == 500
        assert [e.fault for e in server.account.requests] == [None, "goaway", "goaway", "error"]

    async def test_an_abrupt_goaway_answers_nobody(self) -> None:
        async with plain(faults={0: RestFault("goaway-abrupt")}) as (server, client):
            stream = client.request("POST", "/order", ORDER_BODY)
            await client.end()
        (goaway,) = [e for e in client.events if isinstance(e, ConnectionTerminated)]
        assert (goaway.last_stream_id, goaway.error_code) == (stream, ErrorCodes.INTERNAL_ERROR)
        assert server.venue.orders["c1"].placed_by == [0]
        assert server.account.requests[0].status is None

    @pytest.mark.parametrize(
        ("kind", "code", "is_carried_out"),
        [
            ("refused-stream", ErrorCodes.REFUSED_STREAM, False),
            ("internal-error", ErrorCodes.INTERNAL_ERROR, True),
        ],
    )
    async def test_a_stream_is_reset_and_the_connection_goes_on(
        self, kind: str, code: ErrorCodes, is_carried_out: bool
    ) -> None:
        async with plain(faults={0: RestFault(kind)}) as (server, client):
            stream = client.request("POST", "/order", ORDER_BODY)
            reset = await client.seen(StreamReset, stream_id=stream)
            assert (await client.answer(client.request("GET", "/time")))[0] == 200
        assert reset.error_code == code
        assert bool(server.venue.orders) == is_carried_out
        assert server.account.requests[0].is_carried_out == is_carried_out

    async def test_a_stream_that_is_never_answered_leaves_the_others_alone(self) -> None:
        async with plain(faults={0: RestFault("no-answer")}) as (server, client):
            stream = client.request("GET", "/time")
            assert (await client.answer(client.request("GET", "/time")))[0] == 200
            assert [e for e in client.events if getattr(e, "stream_id", None) == stream] == []
        assert server.account.requests[0].is_carried_out

    async def test_settings_change(self) -> None:
        async with plain(faults={0: RestFault("settings", size=1)}) as (_, client):
            assert (await client.answer(client.request("GET", "/time")))[0] == 200
            await until(lambda: client.h2.remote_settings.max_concurrent_streams == 1)

    async def test_no_body_may_be_sent_while_the_window_is_shut(self) -> None:
        seam = HeldSeam()
        async with plain(seam=seam, faults={0: RestFault("no-window", seconds=3)}) as (_, client):
            await client.answer(client.request("GET", "/time"))
            assert client.h2.remote_settings.initial_window_size == 0
            stream = client.h2.get_next_available_stream_id()
            head = [(":method", "POST"), (":path", "/order"), (":scheme", "http"),
                    (":authority", "x")]  # fmt: skip
            client.h2.send_headers(stream, head)
            assert client.h2.local_flow_control_window(stream) == 0
            client.flush()
            assert seam.waiting() == [3]
            seam.fire()
            await until_window(client, stream)
            client.h2.send_data(stream, ORDER_BODY, end_stream=True)
            client.flush()
            assert (await client.answer(stream))[0] == 200

    async def test_reset_and_close(self) -> None:
        async with plain(faults={0: RestFault("close")}) as (server, client):
            client.request("GET", "/time")
            await client.end()
            for kind in ("reset", "reset-early"):
                async with connected(server) as raw:
                    struck = Client(raw)
                    server.strike(RestFault(kind))
                    struck.request("GET", "/time")
                    with pytest.raises(ConnectionResetError):
                        await struck.end()
        assert [e.is_carried_out for e in server.account.requests] == [True, True, False]

    async def test_truncate_ends_the_stream_before_its_length(self) -> None:
        async with plain(faults={0: RestFault("truncate", size=4)}) as (_, client):
            stream = client.request("GET", "/time")
            with pytest.raises(InvalidBodyLengthError) as caught:
                await client.answer(stream)
        assert caught.value.actual_length == 4 < caught.value.expected_length

    async def test_stall_and_drip(self) -> None:
        seam = HeldSeam()
        faults = {
            0: RestFault("stall", seconds=60, size=3),
            1: RestFault("drip", seconds=0.1, size=8),
        }
        async with plain(seam=seam, faults=faults) as (_, client):
            first = client.request("GET", "/time")
            await client.seen(DataReceived, stream_id=first)
            assert (client.body(first), seam.waiting()) == (b'{"t', [60])
            second = client.request("GET", "/time")
            await until(lambda: len(seam.waiting()) == 2)
            assert seam.waiting() == [60, 0.1]
            while seam.waiting():
                seam.fire()
            status, body = await client.answer(second)
            assert status == 200
            pieces = [e for e in client.events
                      if isinstance(e, DataReceived) and e.stream_id == second]  # fmt: skip
            assert [len(e.data) for e in pieces[:-2]] == [8] * (len(body) // 8)
            assert "time_ns" in json.loads((await client.answer(first))[1])

    async def test_a_big_answer_waits_for_the_window(self) -> None:
        async with plain(faults={0: RestFault("oversize", size=300_000)}) as (_, client):
            status, body = await client.answer(client.request("GET", "/time"))
        assert (status, len(body)) == (200, 300_000)

    async def test_a_long_head_goes_over_several_frames(self) -> None:
        async with plain(faults={0: RestFault("long-head", size=40_000)}) as (_, client):
            stream = client.request("GET", "/time")
            await client.answer(stream)
            head = await client.seen(ResponseReceived, stream_id=stream)
        assert len(dict(head.headers)["x-long"]) == 40_000


async def until_window(client: Client, stream: int) -> None:
    """Read until a body may be sent on a stream."""
    while client.h2.local_flow_control_window(stream) <= 0:
        await client.read()


def recorded() -> bytes:
    """Return what a client sends for three requests."""
    h2 = H2Connection(H2Configuration(client_side=True))
    h2.initiate_connection()
    body = ORDER_BODY
    for stream, method, path in ((1, "GET", "/time"), (3, "POST", "/order"), (5, "GET", "/x")):
        head = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "x")]
        h2.send_headers(stream, head, end_stream=method == "GET")
        if method == "POST":
            h2.send_data(stream, body[:30])
            h2.send_data(stream, body[30:], end_stream=True)
    return h2.data_to_send()


class TestBytes:
    def test_the_same_bytes_cut_anywhere_are_the_same_requests(self) -> None:
        stream = recorded()
        server, _ = fed(Http2, [stream], versions=("2",))
        assert [entry.status for entry in server.account.requests] == [200, 200, 404]
        for at in range(len(stream) + 1):
            again, _ = fed(Http2, [stream[:at], stream[at:]], versions=("2",))
            assert again.account.requests == server.account.requests, at

    @given(st.data())
    def test_whatever_comes_is_served_or_refused(self, data: st.DataObject) -> None:
        stream = bytearray(recorded())
        for _ in range(data.draw(st.integers(1, 4))):
            stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(stream)))
        server, sink = fed(Http2, [bytes(stream[:cut]), bytes(stream[cut:])], versions=("2",))
        assert frames_of(sink.sent)
        assert sink.is_closed or not server.account.malformed


class TestClients:
    async def test_what_is_no_http2_is_closed(self) -> None:
        server = RestServer(versions=("2",))
        async with server, connected(server) as raw:
            raw.request("GET /time")
            assert [type(frame) for frame in frames_of(await raw.rest())] == [SettingsFrame]
        assert server.account.malformed == 1

    async def test_a_frame_that_may_not_be_is_told_goaway(self) -> None:
        async with plain() as (server, client):
            client.raw.send(DataFrame(1, data=b"x").serialize())
            frames = frames_of(await client.raw.rest())
        (goaway,) = [frame for frame in frames if isinstance(frame, GoAwayFrame)]
        assert goaway.error_code == ErrorCodes.PROTOCOL_ERROR
        assert server.account.malformed == 1

    async def test_a_body_too_long_is_413(self) -> None:
        async with plain() as (server, client):
            stream = client.h2.get_next_available_stream_id()
            head = [(":method", "POST"), (":path", "/order"), (":scheme", "http"),
                    (":authority", "x")]  # fmt: skip
            client.h2.send_headers(stream, head)
            sent = 0
            while sent <= 1 << 20:
                size = min(client.h2.local_flow_control_window(stream), 16_384)
                if size > 0:
                    client.h2.send_data(stream, b"x" * size)
                    client.flush()
                    sent += size
                else:
                    await client.read()
            await client.seen(StreamReset, stream_id=stream)
            head_got = await client.seen(ResponseReceived, stream_id=stream)
        (entry,) = server.account.requests
        assert dict(head_got.headers)[":status"] == "413"
        assert (entry.status, entry.is_whole, entry.is_carried_out) == (413, False, False)

    @pytest.mark.parametrize("window", [0, 100])
    @pytest.mark.parametrize("is_ended", [True, False])
    def test_a_413_is_sent_once_whatever_comes_behind(self, is_ended: bool, window: int) -> None:
        server, sink, h2 = RestServer(versions=("2",), seam=HeldSeam()), Sink(), H2Connection()
        wire = Http2(server, 0, "127.0.0.1")
        wire.connection_made(sink)
        events: list[Event] = []

        def turn() -> None:
            wire.data_received(h2.data_to_send())
            sent, sink.sent = sink.sent, b""
            events.extend(h2.receive_data(sent))

        h2.initiate_connection()
        h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        turn()
        head = [(":method", "POST"), (":path", "/order"), (":scheme", "http"), (":authority", "x")]
        h2.send_headers(1, head)
        left = (1 << 20) + (1 if window else 50_000)
        while left:
            size = min(left, h2.local_flow_control_window(1), 16_384)
            h2.send_data(1, b"x" * size, end_stream=is_ended and size == left)
            left -= size
            turn()
        if not window:
            h2.increment_flow_control_window(100, 1)
            turn()
        (answer,) = [e for e in events if isinstance(e, ResponseReceived)]
        assert dict(answer.headers or [])[b":status"] == b"413"
        assert sum(isinstance(e, StreamEnded) for e in events) == 1
        (entry,) = server.account.requests
        assert (entry.status, entry.is_whole, entry.is_carried_out) == (413, False, False)
        assert (entry.mono_ns, server.account.malformed) == (0, 1)
        assert not sink.is_closed

    async def test_a_head_too_long_ends_the_connection(self) -> None:
        async with plain() as (server, client):
            client.h2.config.validate_outbound_headers = False
            await client.seen(RemoteSettingsChanged)
            assert client.h2.remote_settings[SettingCodes.MAX_HEADER_LIST_SIZE] == 32 << 10
            client.request("GET", "/time", x="y" * 40_000)
            await client.end()
        assert server.account.requests == []
        assert server.account.malformed == 1

    async def test_who_resets_a_stream_gets_no_answer_and_the_order_stands(self) -> None:
        seam = HeldSeam()
        async with plain(seam=seam, latency=Latency(1)) as (server, client):
            stream = client.request("POST", "/order", ORDER_BODY)
            await until(lambda: seam.waiting() == [1])
            client.h2.reset_stream(stream)
            other = client.request("GET", "/time")
            await until(lambda: seam.waiting() == [1, 1])
            seam.fire()
            seam.fire()
            assert (await client.answer(other))[0] == 200
        entry = server.account.requests[0]
        assert (entry.status, entry.is_carried_out) == (None, True)

    async def test_who_resets_a_stream_at_once_leaves_the_others_alone(self) -> None:
        async with plain(faults={2: RestFault("refused-stream")}) as (server, client):
            for _ in range(3):
                stream = client.h2.get_next_available_stream_id()
                head = [(":method", "GET"), (":path", "/time"), (":scheme", "http"),
                        (":authority", "x")]  # fmt: skip
                client.h2.send_headers(stream, head, end_stream=True)
                client.h2.reset_stream(stream)
            assert (await client.answer(client.request("GET", "/time")))[0] == 200
        entries = server.account.requests
        assert [e.is_carried_out for e in entries] == [True, True, False, True]
        assert [e.status for e in entries] == [None, None, None, 200]

    async def test_who_leaves_with_a_request_is_not_answered(self) -> None:
        async with plain() as (server, client):
            stream = client.h2.get_next_available_stream_id()
            head = [(":method", "GET"), (":path", "/time"), (":scheme", "http"),
                    (":authority", "x")]  # fmt: skip
            client.h2.send_headers(stream, head, end_stream=True)
            client.h2.close_connection()
            client.flush()
            assert DataFrame not in map(type, frames_of(await client.raw.rest()))
        (entry,) = server.account.requests
        assert (entry.is_carried_out, entry.status) == (True, None)

    async def test_an_idle_connection_is_closed_with_goaway(self) -> None:
        seam = HeldSeam()
        async with plain(seam=seam, idle_limit_s=5) as (_, client):
            stream = client.request("GET", "/time")
            await client.answer(stream)
            assert seam.waiting() == [5]
            seam.fire()
            await client.end()
        (goaway,) = [e for e in client.events if isinstance(e, ConnectionTerminated)]
        assert (goaway.last_stream_id, goaway.error_code) == (stream, ErrorCodes.NO_ERROR)
