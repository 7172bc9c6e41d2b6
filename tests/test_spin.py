"""Spinning on every event loop, the kernel's stamps, and what a kernel refuses."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from fake_world import MONO_START, TS_START, FakeSeam, accept_key, key_of, leftovers

import crosswire
from crosswire import Runtime, Spin, UsageError, parse_config
from crosswire.codec import encode_frame
from crosswire.engine import Engine
from crosswire.handshake import ClientHandshake
from crosswire.line import Line
from crosswire.receive import LineProtocol, connect
from crosswire.seam import System
from crosswire.session import tls_context
from crosswire.sim import Scenario
from crosswire.sim.process import Simulator
from crosswire.venues import venue
from crosswire.wake import KernelDelay

HOST = "127.0.0.1"
LIMIT_S = 10.0
QUOTE = b'{"u":7,"s":"BTCUSDT","b":"61837.63","B":"3.7","a":"61837.64","A":"1.5"}'


@pytest.mark.transport
class TestSpin:
    async def test_the_loop_turns_while_it_spins_and_no_longer(self) -> None:
        spin = Spin()
        assert not spin.is_spinning
        with spin:
            assert spin.is_spinning
            await asyncio.sleep(0.05)
        turned = spin.turns
        assert turned > 10  # without it, a sleep takes the loop a turn or two
        assert not spin.is_spinning
        await asyncio.sleep(0.05)
        assert spin.turns == turned

    async def test_tasks_timers_and_other_threads_go_on(self) -> None:
        order: list[str] = []
        fired = asyncio.Event()

        async def count() -> None:
            for _ in range(1000):
                await asyncio.sleep(0)
            order.append("task")

        with Spin():
            asyncio.get_running_loop().call_later(0.02, fired.set)
            await asyncio.gather(count(), asyncio.to_thread(order.append, "thread"))
            await asyncio.wait_for(fired.wait(), LIMIT_S)
        assert sorted(order) == ["task", "thread"]

    async def test_what_a_socket_brings_is_read(self) -> None:
        ours, other = socket.socketpair()
        with ours, other, Spin():
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, other.send, b"x")
            async with asyncio.timeout(LIMIT_S):
                assert await loop.sock_recv(ours, 1) == b"x"

    async def test_started_and_stopped_twice_is_once(self) -> None:
        spin = Spin()
        spin.stop()
        spin.start()
        spin.start()
        await asyncio.sleep(0)
        spin.stop()
        spin.stop()
        turned = spin.turns
        await asyncio.sleep(0.01)
        assert spin.turns == turned
        spin.start()
        await asyncio.sleep(0.01)
        assert spin.turns > turned
        spin.stop()

    async def test_one_stops_and_another_goes_on(self) -> None:
        with Spin() as outer:
            with Spin() as inner:
                await asyncio.sleep(0.01)
            assert inner.turns
            turned = outer.turns
            await asyncio.sleep(0.01)
            assert outer.turns > turned

    async def test_it_leaves_nothing_behind(self) -> None:
        class User:
            spin = Spin()

        user = User()
        with user.spin:
            await asyncio.sleep(0.01)
        assert leftovers() == []
        seen = weakref.ref(User)
        del user, User
        await asyncio.sleep(0.01)  # a handle that was cancelled has its turn
        gc.collect()
        assert seen() is None

    async def test_it_ends_where_its_block_fails(self) -> None:
        spin = Spin()
        with pytest.raises(TimeoutError), spin:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        assert not spin.is_spinning

    def test_it_needs_a_running_loop(self) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            Spin().start()

    def test_it_is_had_from_the_package(self) -> None:
        assert crosswire.Spin is Spin


# ------------------------------------------------------------------ configuration


class TestConfiguration:
    def test_it_sleeps_by_default(self) -> None:
        config = parse_config({})
        assert (config.spin, config.busy_poll_us) == (False, 0)

    def test_both_are_read(self) -> None:
        config = parse_config({"engine": {"spin": True, "busy_poll_us": 50}})
        assert (config.spin, config.busy_poll_us) == (True, 50)

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("spin", 1, "must be true or false"),
            ("busy_poll_us", 1.5, "must be a whole number"),
            ("busy_poll_us", -1, "must be within 0..1e"),
            ("busy_poll_us", True, "must be a number"),
        ],
    )
    def test_others_are_refused(self, key: str, value: Any, words: str) -> None:
        with pytest.raises(UsageError, match=words):
            parse_config({"engine": {key: value}})


@pytest.mark.transport
class TestRuntime:
    @pytest.mark.parametrize("spins", [False, True])
    async def test_a_runtime_on_local_venues_spins_if_it_is_told_to(self, spins: bool) -> None:
        names = ("binance", "okx")
        scenario = Scenario(seed=5, seconds=2.0, venues=names, symbols=("BTC/USDT",))
        async with Simulator(scenario, print) as simulator:
            terms = {
                name: {"url": simulator.ready["venues"][name]["url"],
                       "ca_file": simulator.ready["ca"]}
                for name in names
            }  # fmt: skip
            legs = dict(zip("ab", (f"{name}:BTC/USDT" for name in names), strict=True))
            config = {"engine": {"spin": spins}, "venues": terms, "pair": [legs]}
            runtime = Runtime(parse_config(config))
            before = asyncio.all_tasks()
            async with runtime:
                assert runtime._spin.is_spinning == spins
                await runtime.wait_live(LIMIT_S)
                simulator.go()
                await simulator.done()
            assert not runtime._spin.is_spinning
            assert (runtime._spin.turns > 1000) == spins
            assert asyncio.all_tasks() - before == set()
            assert runtime.engine.message_count > 100
            assert runtime.engine.errors == {}
            for name, found in runtime.kernel_to_read_ns().items():
                assert found == runtime.sessions[name].kernel_to_read_ns()
                assert found["p50"] <= found["p99"] <= found["p99_9"] <= found["max"]

    async def test_it_stops_where_the_body_is_cancelled(self) -> None:
        runtime = Runtime(parse_config({"engine": {"spin": True}}))

        entered = asyncio.Event()

        async def use() -> None:
            async with runtime:
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(use())
        await asyncio.wait_for(entered.wait(), LIMIT_S)
        assert runtime._spin.is_spinning
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not runtime._spin.is_spinning


# ------------------------------------------------------------------ stamps


class Sink(asyncio.BufferedProtocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(1 << 16))
        self.got = bytearray()
        self.changed = asyncio.Event()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes]
        self.changed.set()

    async def until(self, size: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.got) < size:
                self.changed.clear()
                await self.changed.wait()


class Unstamped(System):
    """A system whose kernel stamps no packets."""

    def ask_receive_stamps(self, sock: socket.socket) -> bool:
        return False


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context and one that trusts it."""
    authority = trustme.CA()
    path: Path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(server)
    return server, tls_context(str(path))


@pytest.fixture
def stamping() -> Iterator[None]:
    """Have the kernel stamp what comes, which it begins to do a while after it was asked first."""
    listener = socket.create_server((HOST, 0))
    ours = socket.create_connection(listener.getsockname(), LIMIT_S)
    other, _ = listener.accept()
    with listener, ours, other:
        assert System().ask_receive_stamps(ours)
        until = time.monotonic() + LIMIT_S
        is_stamped = False
        while not is_stamped:
            assert time.monotonic() < until, "the kernel stamps nothing"
            other.send(b"x")
            is_stamped = bool(ours.recvmsg(1, 128)[1])
        yield


@asynccontextmanager
async def connection(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None,
    seam: System,
    engine: str | None = None,
    delay: KernelDelay | None = None,
) -> AsyncIterator[tuple[Any, Sink, asyncio.StreamWriter]]:
    """Connect to a server; yield the client's transport and protocol, and the server's end."""
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer)

    server_tls, client_tls = contexts or (None, None)
    async with await asyncio.start_server(accept, HOST, 0, ssl=server_tls) as server:
        port = server.sockets[0].getsockname()[1]
        transport, sink = await connect(
            seam, Sink, HOST, port, client_tls, None, engine, delay=delay
        )
        assert isinstance(sink, Sink)
        writer = await accepted
        try:
            yield transport, sink, writer
        finally:
            transport.abort()
            writer.transport.abort()
            await asyncio.sleep(0)


@pytest.mark.transport
@pytest.mark.usefixtures("stamping")
class TestKernelStamps:
    @pytest.mark.parametrize("engine", ["direct", "public"])
    async def test_a_read_lay_in_the_kernel_no_longer_than_since_it_was_sent(
        self, contexts: Any, engine: str
    ) -> None:
        async with connection(contexts, System(), engine) as (transport, sink, writer):
            asked = 0
            for n in range(1, 101):
                began = time.time_ns()
                writer.write(bytes(100))
                await sink.until(100 * n)
                asked = max(asked, time.time_ns() - began)
            found = transport.get_extra_info("kernel_to_read")
            assert found["count"] >= 100 // 7
            assert 0 < found["p50"] <= found["p99"] <= found["max"] <= asked

    @pytest.mark.parametrize("engine", ["direct", "public"])
    async def test_a_read_that_waited_is_told_to_have_waited(
        self, contexts: Any, engine: str
    ) -> None:
        async with connection(contexts, System(), engine) as (transport, sink, writer):
            for n in range(1, 15):  # twice as many as it takes for one to be counted
                sent = asyncio.Event()
                loop = asyncio.get_running_loop()
                transport.pause_reading()
                writer.write(b"x")
                loop.call_later(0.02, sent.set)
                await sent.wait()
                transport.resume_reading()
                await sink.until(n)
            found = transport.get_extra_info("kernel_to_read")
            assert found["max"] >= 10_000_000

    @pytest.mark.parametrize("engine", ["direct", "public"])
    async def test_a_burst_arrives_whole(self, contexts: Any, engine: str) -> None:
        data = bytes(range(256)) * (1 << 14)
        async with connection(contexts, System(), engine) as (transport, sink, writer):
            writer.write(data)
            await sink.until(len(data))
            assert bytes(sink.got) == data
            assert transport.get_extra_info("kernel_to_read")["count"] > 0

    @pytest.mark.parametrize("engine", ["direct", "public"])
    async def test_where_the_kernel_stamps_nothing_all_else_works(
        self, contexts: Any, engine: str
    ) -> None:
        async with connection(contexts, Unstamped(), engine) as (transport, sink, writer):
            writer.write(bytes(1 << 20))
            await sink.until(1 << 20)
            assert transport.get_extra_info("kernel_to_read") is None
            assert transport.get_extra_info("kernel_to_read", "none") == "none"

    async def test_the_loops_own_transports_tell_none(self, contexts: Any) -> None:
        for tls in (contexts, None):
            async with connection(tls, System(), "asyncio") as (transport, sink, writer):
                writer.write(b"x")
                await sink.until(1)
                assert transport.get_extra_info("kernel_to_read") is None

    async def test_a_count_goes_on_from_connection_to_connection(self, contexts: Any) -> None:
        delay = KernelDelay()
        assert set(delay.quantiles_ns().values()) == {0}
        counts = []
        for _ in range(2):
            async with connection(contexts, System(), "direct", delay) as (_, sink, writer):
                writer.write(b"x")
                await sink.until(1)
            counts.append(delay.quantiles_ns()["count"])
        assert 0 < counts[0] < counts[1]

    async def test_a_refusal_is_no_failure(self) -> None:
        with socket.socket() as sock:
            assert System().ask_receive_stamps(sock)
        assert not System().ask_receive_stamps(sock)  # it is closed


# ------------------------------------------------------------------ busy polling


@pytest.mark.transport
class TestBusyPolling:
    @staticmethod
    async def opened(system: System) -> socket.socket:
        async with await asyncio.start_server(lambda r, w: w.close(), HOST, 0) as server:
            return await system.open_socket(HOST, server.sockets[0].getsockname()[1])

    async def test_the_kernel_is_asked_or_its_refusal_is_told_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        system = System(busy_poll_us=50)
        with caplog.at_level(logging.WARNING, "crosswire.seam"):
            for _ in range(2):
                with await self.opened(system) as sock:
                    polled = sock.getsockopt(socket.SOL_SOCKET, 46)
        told = [record.message for record in caplog.records]
        if polled == 50:
            assert told == []
        else:
            [text] = told
            assert text.startswith("the kernel refuses busy_poll_us = 50: ")

    async def test_a_refusal_ends_nothing(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("crosswire.seam.SO_BUSY_POLL", 9999)  # no kernel knows it
        system = System(busy_poll_us=50)
        with caplog.at_level(logging.WARNING, "crosswire.seam"):
            for _ in range(2):
                (await self.opened(system)).close()
        [text] = [record.message for record in caplog.records]
        assert "connections go on without" in text

    async def test_nobody_is_asked_by_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("crosswire.seam.SO_BUSY_POLL", 9999)
        (await self.opened(System())).close()


# ------------------------------------------------------------------ the stamps of a line's reads


class Still(System):
    """A system whose clocks stand still."""

    def time_ns(self) -> int:
        return TS_START

    def monotonic_ns(self) -> int:
        return MONO_START


class TestStampsOfReads:
    @staticmethod
    async def stamps_of(seam: Any) -> list[tuple[bytes, int, int]]:
        """Return what a recorder is told of one read behind the upgrade."""
        engine = Engine()
        engine.add_venue("binance", venue("binance").layout)
        btc = engine.add_instrument("binance", "BTCUSDT", fee_bps=1.0)
        line = Line(engine, "binance")
        handshake = ClientHandshake(f"ws://{HOST}/")
        protocol = LineProtocol(line, handshake, seam, lambda ts, mono: None, 1.0)
        answer = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(key_of(handshake.request())).decode()}\r\n\r\n"
        )
        found: list[tuple[bytes, int, int]] = []
        line.recorder = lambda *read: found.append(read)
        for data in (answer.encode(), encode_frame(1, QUOTE)):
            room = protocol.get_buffer(-1)
            room[: len(data)] = data
            protocol.buffer_updated(len(data))
        assert engine.top(btc).bid == 61837.63
        protocol.abort()
        return found

    async def test_they_are_the_systems(self) -> None:
        began = time.time_ns(), time.monotonic_ns()
        [(data, ts_rx, mono_rx)] = await self.stamps_of(System())
        assert data == encode_frame(1, QUOTE)
        assert began[0] <= ts_rx <= time.time_ns()
        assert began[1] <= mono_rx <= time.monotonic_ns()

    async def test_a_seam_of_its_own_time_is_asked_for_it(self) -> None:
        assert System().has_system_clocks
        assert not FakeSeam().has_system_clocks
        assert not Still().has_system_clocks
        [(_, ts_rx, mono_rx)] = await self.stamps_of(Still())
        assert (ts_rx, mono_rx) == (TS_START, MONO_START)
