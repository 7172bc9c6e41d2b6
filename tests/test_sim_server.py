"""The simulated venues over real TLS sockets on the loopback address."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

import crosswire
from crosswire.seam import System
from crosswire.sim import Plan, Scenario, make_plan
from crosswire.sim.plan import Cut, Freeze
from crosswire.sim.server import SimServer
from crosswire.venue import Record, SimQuote
from crosswire.venues import dialect, venue, venue_names

SYMBOLS = ("BTC/USDT", "ETH/USDT")
SOURCE = Path(crosswire.__file__).parents[1]


def scenario(**changes: Any) -> Scenario:
    options: dict[str, Any] = {"seconds": 2.0, "rate": 600.0, "symbols": SYMBOLS}
    return Scenario(**{**options, **changes})


def quiet(server: SimServer, **changes: Any) -> None:
    """Give a server a plan in which only what the test names happens."""
    server.plan = Plan(**{"plants": [], "baits": [], "freezes": [], "cuts": [], **changes})


async def open_client(ready: dict[str, Any], name: str, **options: Any) -> ClientConnection:
    context = ssl.create_default_context(cafile=ready["ca"])
    url = ready["venues"][name]["url"]
    return await connect(url, ssl=context, compression=None, ping_interval=None, **options)


async def subscribe(client: ClientConnection, ready: dict[str, Any], name: str) -> int:
    """Subscribe quotes and trades of all symbols; return how many acknowledgements came."""
    known = venue(name)
    wanted = [(symbol, kind) for symbol in ready["symbols"][name] for kind in Record if kind]
    requests = known.subscribe([known.stream(*item) for item in wanted], 1)
    for _, text in requests:
        if text:
            await client.send(text)
    for _ in requests:
        text = str(await client.recv())
        assert known.understand(text).control.value == "ack"
    return len(requests)


async def read_all(client: ClientConnection) -> AsyncIterator[tuple[int, str]]:
    """Yield (receipt time in UTC ns, text) until nothing has come for half a second."""
    while True:
        try:
            text = await asyncio.wait_for(client.recv(), 0.5)
        except TimeoutError:
            return
        yield time.time_ns(), str(text)


async def test_every_venue_acknowledges_and_streams() -> None:
    async with SimServer(scenario()) as server:
        ready = server.ready()
        assert json.loads(json.dumps(ready)) == ready
        assert os.stat(Path(ready["ca"]).parent).st_mode & 0o077 == 0
        clients = {name: await open_client(ready, name) for name in venue_names()}
        for name, client in clients.items():
            assert await subscribe(client, ready, name) >= 1
        run = asyncio.create_task(server.run())
        received = {name: await collect(clients[name], name) for name in clients}
        await run
        sent = server.done()["sent"]
        for name, kinds in received.items():
            assert kinds == sent[name]
            await clients[name].close()
        assert sum(kinds["quotes"] for kinds in sent.values()) > 900
        for item in server.plan.plants:
            assert 0 < item.seq_open < item.seq_close
    assert not Path(ready["ca"]).exists()


async def collect(client: ClientConnection, name: str) -> dict[str, int]:
    """Count what one client receives; quotes carry rising stamps of the wall clock."""
    counts = {"quotes": 0, "trades": 0}
    last = 0
    spoken = dialect(name)
    async for received, text in read_all(client):
        for _, _, quote in spoken.decode(text):
            counts["trades" if quote is None else "quotes"] += 1
            if quote is not None:
                assert last < quote.seq <= received
                last = quote.seq
    return counts


async def test_only_what_was_subscribed_is_sent() -> None:
    async with SimServer(scenario()) as server:
        quiet(server)
        ready = server.ready()
        name = "okx"
        client = await open_client(ready, name)
        await client.send('{"op":"subscribe","args":[{"channel":"trades","instId":"ETH-USDT"}]}')
        await client.recv()
        run = asyncio.create_task(server.run())
        kinds = {
            (kind, symbol)
            async for _, text in read_all(client)
            for kind, symbol, _ in dialect(name).decode(text)
        }
        await run
        assert kinds == {("trades", "ETH-USDT")}
        assert server.done()["sent"]["binance"] == {"quotes": 0, "trades": 0}


async def test_a_text_ping_and_another_path_are_answered() -> None:
    async with SimServer(scenario()) as server:
        ready = server.ready()
        client = await open_client(ready, "okx")
        await client.send("ping")
        assert await client.recv() == "pong"
        await client.close()
        ready["venues"]["okx"]["url"] += "/elsewhere"
        with pytest.raises(InvalidStatus) as caught:
            await open_client(ready, "okx")
        assert caught.value.response.status_code == 404


async def test_a_cut_comes_inside_a_frame_and_ten_connects_are_refused() -> None:
    async with SimServer(scenario()) as server:
        quiet(server, cuts=[Cut("binance", 500_000_000, 10)])
        ready = server.ready()
        client = await open_client(ready, "binance")
        await subscribe(client, ready, "binance")
        run = asyncio.create_task(server.run())
        with pytest.raises(ConnectionClosedError):
            async for _ in read_all(client):
                pass
        for _ in range(10):
            with pytest.raises(InvalidStatus, match="503"):
                await open_client(ready, "binance")
        client = await open_client(ready, "binance")
        await subscribe(client, ready, "binance")
        assert (await collect(client, "binance"))["quotes"] > 0
        await run


async def test_a_frozen_venue_answers_no_ping() -> None:
    async with SimServer(scenario()) as server:
        bait = server.plan.plants[0]
        bait.t_open, bait.t_close, bait.leg = 800_000_000, 900_000_000, "okx"
        bait.buy, bait.sell, bait.kind = "binance", "okx", "frozen_leg"
        freeze = Freeze("binance", 300_000_000, 1_200_000_000, bait)
        quiet(server, freezes=[freeze])
        ready = server.ready()
        client = await open_client(ready, "binance")
        await subscribe(client, ready, "binance")
        run = asyncio.create_task(server.run())
        await asyncio.sleep(0.5)
        pong = await client.ping()
        stamps = [
            quote.seq
            async for _, text in read_all_past(client)
            for _, _, quote in dialect("binance").decode(text)
            if isinstance(quote, SimQuote)
        ]
        gaps = [later - earlier for earlier, later in pairwise(stamps)]
        assert 0.88e9 < max(gaps) < 1.1e9
        assert await asyncio.wait_for(pong, 1) > 0.5
        await run


async def open_deaf_client(server: SimServer, ready: dict[str, Any], name: str) -> ClientConnection:
    """Return a client that reads nothing unless it is told to, between small socket buffers."""
    _, _, port = ready["venues"][name]["url"].partition("127.0.0.1:")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", int(port.partition("/")[0])))
    client = await open_client(ready, name, sock=sock)
    await subscribe(client, ready, name)
    (connection,) = server._venues[name]._connections
    own = connection.transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return client


class TestAClientThatDoesNotRead:
    QUOTE = SimQuote("100", "1", "101", "1", 0, 0)

    async def fill(self, server: SimServer, name: str, limit: int) -> tuple[int, int]:
        """Send quotes until there is a backlog of ``limit`` bytes or the client was cut off; return
        how many were sent and the greatest backlog."""
        one = server._venues[name]
        native = venue(name).native(SYMBOLS[0])
        (connection,) = one._connections
        backlog = sent = 0
        while not one.cut_off and backlog < limit:
            sent += 1
            assert sent < 100_000
            one.send(native, self.QUOTE, sent)
            backlog = max(backlog, connection.transport.get_write_buffer_size())
            await asyncio.sleep(0)
        return sent, backlog

    async def test_it_is_cut_off_before_its_backlog_grows_and_that_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit = 1 << 16
        monkeypatch.setattr("crosswire.sim.server.BACKLOG_MAX", limit)
        async with SimServer(scenario()) as server:
            ready = server.ready()
            client = await open_deaf_client(server, ready, "okx")
            sent, backlog = await self.fill(server, "okx", 1 << 30)
            assert limit < backlog < limit + 1024
            assert server.done()["cut_off"] == {**dict.fromkeys(venue_names(), 0), "okx": 1}
            server._venues["okx"].send("BTC-USDT", self.QUOTE, sent + 1)
            for _ in range(sent):
                await asyncio.wait_for(client.recv(), 5)
            with pytest.raises(ConnectionClosedError, match=r"1008 .*does not read"):
                await client.recv()
            assert server.done()["sent"]["okx"]["quotes"] == sent

    @pytest.mark.parametrize(("left", "times"), [(0, 0), (1, 1)])
    async def test_32_mib_may_be_left_unread(
        self, left: int, times: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with SimServer(scenario()) as server:
            ready = server.ready()
            client = await open_client(ready, "okx")
            await subscribe(client, ready, "okx")
            one = server._venues["okx"]
            (connection,) = one._connections
            size = (32 << 20) + left
            with monkeypatch.context() as patch:
                patch.setattr(type(connection.transport), "get_write_buffer_size", lambda _: size)
                one.send("BTC-USDT", self.QUOTE, 1)
            assert one.cut_off == times
            await client.close()

    async def test_it_is_dropped_when_it_still_does_not_read(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("crosswire.sim.server.BACKLOG_MAX", 1 << 16)
        monkeypatch.setattr("crosswire.sim.server.CUT_OFF_GRACE_S", 0.05)
        async with SimServer(scenario()) as server:
            client = await open_deaf_client(server, server.ready(), "okx")
            (connection,) = server._venues["okx"]._connections
            await self.fill(server, "okx", 1 << 30)
            await asyncio.wait_for(connection.wait_closed(), 5)
            assert connection.transport.get_write_buffer_size() == 0
            client.transport.abort()

    async def test_it_does_not_keep_the_server_from_stopping(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("crosswire.sim.server.CLOSE_LIMIT_S", 0.1)
        async with asyncio.timeout(20):
            async with SimServer(scenario()) as server:
                client = await open_deaf_client(server, server.ready(), "okx")
                await self.fill(server, "okx", 1 << 18)
            client.transport.abort()


class Clock(System):
    """Time that passes only in sleeps, and jumps once: the machine was busy.

    Args:
        jump_at, jump: ns of monotonic time; where it jumps, and by how much.
    """

    def __init__(self, jump_at: int, jump: int) -> None:
        self._now = 0
        self._jump_at, self._jump = jump_at, jump

    def monotonic_ns(self) -> int:
        return self._now

    def time_ns(self) -> int:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += round(seconds * 1e9)
        if self._now >= self._jump_at:
            self._now, self._jump = self._now + self._jump, 0
        await asyncio.sleep(0)


@pytest.mark.parametrize("jump_ms", [0, 15, 300, 5_000])
async def test_a_busy_machine_makes_no_silence_shorter(
    jump_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = scenario(seconds=6.0, rate=50.0)
    freeze = make_plan(options).freezes[0]
    clock = Clock(freeze.t_freeze - 100_000_000, jump_ms * 1_000_000)
    frozen_at: list[int] = []
    async with SimServer(options, clock) as server:
        venue_server = server._venues[freeze.venue]
        monkeypatch.setattr(venue_server, "freeze", lambda: frozen_at.append(clock.monotonic_ns()))
        await server.run()
        bait = server.plan.freezes[0].bait
        silence_s = (bait.seq_open - frozen_at[0]) / 1e9
        planned_s = (freeze.bait.t_open - freeze.t_freeze) / 1e9
        assert silence_s >= planned_s > options.liveness_limit_s
        postponed_ms = server.postponed_ns / 1e6
    assert postponed_ms == pytest.approx(
        max(0, jump_ms - 100), abs=20
    )  # from the jump to the freeze


async def read_all_past(client: ClientConnection) -> AsyncIterator[tuple[int, str]]:
    """Yield like ``read_all``, over a silence of up to a second."""
    while True:
        try:
            text = await asyncio.wait_for(client.recv(), 1.0)
        except TimeoutError:
            return
        yield time.time_ns(), str(text)


class TestCommand:
    async def start(self, *arguments: str, path: str = "") -> asyncio.subprocess.Process:
        environment = {**os.environ, "PYTHONPATH": f"{path or SOURCE}:{SOURCE}"}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "crosswire.sim", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            limit=1 << 22,
        )

    async def line(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None
        value: dict[str, Any] = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        return value

    async def test_it_says_ready_plays_and_leaves_with_its_input(self) -> None:
        process = await self.start(
            *("--seconds", "2", "--seed", "4", "--rate", "600", "--venues", "binance,okx"),
            *("--fees-bps", "binance=7.5", "okx=8"),
        )
        ready = await self.line(process)
        assert ready["ready"] is True
        assert ready["symbols"]["okx"][0] == "BTC-USDT"
        client = await open_client(ready, "binance")
        await subscribe(client, ready, "binance")
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        received = await collect(client, "binance")
        done = await self.line(process)
        assert done["sent"]["binance"] == received
        assert len(done["plants"]) == len(done["baits"]) == 3
        assert all(item["seq_open"] < item["seq_close"] for item in done["plants"])
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert not Path(ready["ca"]).exists()

    @pytest.mark.parametrize("is_started", [False, True])
    async def test_the_end_of_its_input_ends_it(self, is_started: bool) -> None:
        process = await self.start("--seconds", "60")
        ready = await self.line(process)
        assert process.stdin is not None
        if is_started:
            process.stdin.write(b"go\n")
            await asyncio.sleep(0.2)
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert not Path(ready["ca"]).exists()

    def test_the_end_of_its_input_ends_it_also_where_its_loop_hangs(self) -> None:
        code = (
            "import time, crosswire.sim.__main__ as command, crosswire.sim.server as server\n"
            "command.END_LIMIT_S = 0.05\n"
            "server.make_plan = lambda scenario: time.sleep(60)\n"
            "command.main([])\n"
        )
        process = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, timeout=30)
        assert process.returncode == 1

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    async def test_a_signal_ends_it_quietly(self, number: int, status: int) -> None:
        process = await self.start("--seconds", "60")
        ready = await self.line(process)
        process.send_signal(number)
        _, errors = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == status
        assert errors == b""
        assert not Path(ready["ca"]).exists()

    async def test_without_its_extra_it_says_so_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "trustme.py").write_text("raise ModuleNotFoundError('No module named trustme')")
        process = await self.start("--seconds", "60", path=str(tmp_path))
        output, errors = await asyncio.wait_for(process.communicate(), 10)
        assert (process.returncode, output) == (3, b"")
        said = b"crosswire.sim: No module named trustme: pip install 'crosswire[sim]'\n"
        assert errors == said

    async def test_a_wrong_argument_is_told_in_one_line(self) -> None:
        process = await self.start("--venues", "elsewhere,okx")
        output, errors = await asyncio.wait_for(process.communicate(), 10)
        assert (process.returncode, output) == (2, b"")
        assert errors.startswith(b"crosswire.sim: unknown venue 'elsewhere'")
