"""Proxies: those of the environment have no effect, and one that is named is a tunnel, no more."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from test_tls import HOST, Client, Peer, authority, context, hold, listening, world

from crosswire import Runtime, parse_config
from crosswire.errors import ProxyError, TlsError, UsageError
from crosswire.receive import Proxy, connect, parse_proxy
from crosswire.receive import proxy as receive_proxy
from crosswire.receive.tls import ENGINES
from crosswire.seam import Seam, System

_FIXTURES = (authority, context, world)
LIMIT_S = 10.0
SECRET = "user:pass word"
VARIABLES = [f"{scheme}_proxy" for scheme in ("http", "https", "ws", "wss", "all", "socks")]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Tunnel:
    """A proxy that connects, whatever it is asked for, to one port of this machine."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.heads: list[bytes] = []
        self.seen = bytearray()  # what went up through it

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        up_reader, up_writer = await asyncio.open_connection(HOST, self.target)
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(1 << 16):
                    if sink is up_writer:
                        self.seen += data
                    sink.write(data)
                    await sink.drain()
            finally:
                sink.close()

        pumps = asyncio.gather(
            pump(reader, up_writer), pump(up_reader, writer), return_exceptions=True
        )
        try:
            await pumps
        finally:
            up_writer.transport.abort()


@asynccontextmanager
async def tunnel_to(port: int) -> AsyncIterator[tuple[Tunnel, Proxy]]:
    tunnel = Tunnel(port)
    async with listening(tunnel.handle) as own:
        yield tunnel, parse_proxy(f"http://{HOST}:{own}")


@asynccontextmanager
async def answering(
    answer: bytes, *, stays: bool = False
) -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    """Be a proxy that gives the same answer to all, and ends, or stays."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        if stays:
            await reader.read()

    async with listening(handle) as port:
        yield parse_proxy(f"http://{HOST}:{port}"), heads


async def greet(peer: Peer) -> None:
    await peer.put(peer.records(b"hello"))
    await hold(peer)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ------------------------------------------------------------------ the environment


@pytest.mark.transport
async def test_those_of_the_environment_have_no_effect(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def trap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1

    async with listening(trap) as port, world(greet) as w:
        for name in VARIABLES:
            monkeypatch.setenv(name, f"http://{HOST}:{port}")
            monkeypatch.setenv(name.upper(), f"http://{HOST}:{port}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        client = await w.client()
        await client.until(lambda: client.got == b"hello")
        client.transport.abort()
        await client.lost
        _, plain = await connect(System(), Client, HOST, w.port, None)
        assert isinstance(plain, Client)
        plain.transport.abort()
        await plain.lost
        assert asked == 0


# ------------------------------------------------------------------ a tunnel


@pytest.mark.transport
class TestTunnels:
    async def test_tls_goes_through_and_is_verified_for_the_venue(
        self, world: Any, engine: str
    ) -> None:
        async with world(greet) as w, tunnel_to(w.port) as (tunnel, proxy):
            for _ in range(2):
                _, client = await connect(
                    System(), Client, HOST, 7443, w.context, w.resumption, engine, proxy
                )
                assert isinstance(client, Client)
                await client.until(lambda client=client: client.got == b"hello")
                client.transport.close()
                await asyncio.wait_for(client.lost, LIMIT_S)
            assert w.resumption.ssl_object.session_reused
            head = b"CONNECT 127.0.0.1:7443 HTTP/1.1\r\nHost: 127.0.0.1:7443\r\n\r\n"
            assert tunnel.heads == [head, head]
            assert tunnel.seen.startswith(b"\x16\x03")
            with pytest.raises(TlsError, match="tls-host: "):
                await connect(
                    System(), Client, "venue.example", 443, w.context, None, engine, proxy
                )
            assert tunnel.heads[-1].startswith(b"CONNECT venue.example:443 HTTP/1.1\r\n")

    async def test_plain_text_goes_through(self) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(100))
            await writer.drain()

        async with listening(echo) as port, tunnel_to(port) as (_, proxy):
            _, client = await connect(System(), Client, "::1", 80, None, proxy=proxy)
            assert isinstance(client, Client)
            client.transport.write(b"over and out")
            await client.until(lambda: client.got == b"over and out")
            client.transport.abort()
            await client.lost

    async def test_credentials_are_of_the_environment_and_are_shown_nowhere(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_PROXY_AUTH", SECRET)
        async with answering(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as (at, heads):
            proxy = Proxy(at.host, at.port, "MY_PROXY_AUTH")
            with pytest.raises(ProxyError, match=r"proxy-refused: .*407.*proxy_auth_env") as caught:
                await connect(System(), Client, "venue.example", 80, None, proxy=proxy)
        encoded = base64.b64encode(SECRET.encode())
        assert b"\r\nProxy-Authorization: Basic " + encoded + b"\r\n" in heads[0]
        for shown in (str(caught.value), repr(caught.value), repr(proxy), str(caught.traceback)):
            assert "pass word" not in shown
            assert encoded.decode() not in shown

    @pytest.mark.parametrize(
        ("answer", "code", "words"),
        [
            (b"HTTP/1.1 403 No\x1b way\r\n\r\n", "proxy-refused", "403 No? way; it must allow"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", "proxy-refused", "302 Found"),
            (b"HTTP/1.1 101 Switching\r\n\r\n", "proxy-refused", "101"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "proxy-refused", "speaks no HTTP"),
            (b"HTTP/1.1 200 OK\r\n\r\nmore", "proxy-refused", "bytes behind its answer"),
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000, "proxy-head", "above 16 KiB"),
            (b"HTTP/1.1 200 OK\r\n", "proxy-cut", "ended the connection before an answer"),
            (b"", "proxy-cut", "before an answer"),
        ],
        ids=["403", "302", "101", "no HTTP", "more", "long", "half", "nothing"],
    )
    async def test_one_that_gives_no_tunnel_is_named_and_leaves_no_socket(
        self, answer: bytes, code: str, words: str, engine: str, context: ssl.SSLContext
    ) -> None:
        async with answering(answer, stays=code == "proxy-head") as (proxy, heads):
            before = descriptors()
            with pytest.raises(ProxyError) as caught:
                await connect(System(), Client, "venue.example", 443, context, None, engine, proxy)
            assert caught.value.code == code
            assert words in str(caught.value)
            assert len(heads) == 1
            await asyncio.sleep(0)
            assert descriptors() <= before + 1  # the proxy's own end

    async def test_one_that_never_answers_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receive_proxy, "PROXY_LIMIT_S", 0.05)
        async with answering(b"HTTP/1.1 200 OK\r\n", stays=True) as (proxy, _):
            with pytest.raises(ProxyError, match="proxy-late: "):
                await connect(System(), Client, "venue.example", 80, None, proxy=proxy)

    async def test_one_that_is_not_there_is_told(self) -> None:
        async with answering(b"") as (proxy, _):
            pass
        with pytest.raises(ProxyError, match=r"proxy-unreachable: 127\.0\.0\.1:"):
            await connect(System(), Client, "venue.example", 80, None, proxy=proxy)

    async def test_a_limit_outside_holds_and_is_not_taken_for_its_own(self) -> None:
        async with answering(b"", stays=True) as (proxy, _):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await connect(System(), Client, "venue.example", 80, None, proxy=proxy)

    @pytest.mark.parametrize("host", ["a\r\nX: y", "a b", "a\0"])
    async def test_a_host_cannot_write_into_the_request(self, host: str) -> None:
        async with answering(b"") as (proxy, heads):
            with pytest.raises((UsageError, UnicodeError)):
                await connect(System(), Client, host, 80, None, proxy=proxy)
            assert heads == []


# ------------------------------------------------------------------ what may be named


class TestNames:
    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("https://proxy.example:3128", "https is not spoken"),
            ("socks5://proxy.example:1080", "socks5 is not spoken"),
            ("socks5h://proxy.example:1080", "socks5h is not spoken"),
            ("socks4://proxy.example:1080", "socks4 is not spoken"),
            ("http://me:secret@proxy.example:3128", "it holds credentials; put USER:PASSWORD"),
            ("http://secret@proxy.example:3128", "it holds credentials"),
            ("http://proxy.example", "write http://HOST:PORT"),
            ("http://proxy.example:0", "write http://HOST:PORT"),
            ("http://proxy.example:99999", "its host or port cannot be"),
            ("http://:3128", "write http://HOST:PORT"),
            ("http://proxy.example:3128/secret", "write http://HOST:PORT"),
            ("http://proxy.example:3128?secret", "write http://HOST:PORT"),
            ("http://proxy example:3128", "write http://HOST:PORT"),
            ("http://[::1:3128", "its host or port cannot be"),
            ("proxy.example:3128", "write http://HOST:PORT"),
            ("ws://proxy.example:3128", "write http://HOST:PORT"),
        ],
    )
    def test_what_cannot_be_taken_is_refused_without_its_secrets(
        self, url: str, words: str
    ) -> None:
        with pytest.raises(UsageError) as caught:
            parse_config({"venues": {"okx": {"proxy": url}}})
        text = str(caught.value)
        assert text.startswith("venues.okx.proxy: ")
        assert words in text
        assert "secret" not in text

    @pytest.mark.parametrize(
        ("url", "host"),
        [
            ("http://proxy.example:3128", "proxy.example"),
            ("http://127.0.0.1:3128/", "127.0.0.1"),
            ("http://[::1]:3128", "::1"),
            ("HTTP://Proxy.Example:3128", "proxy.example"),
        ],
    )
    def test_what_can_be_taken(self, url: str, host: str) -> None:
        assert parse_proxy(url, "NAME") == Proxy(host, 3128, "NAME")

    def test_credentials_without_a_proxy_are_refused(self) -> None:
        with pytest.raises(UsageError, match=r"venues\.okx\.proxy_auth_env: there is no proxy"):
            parse_config({"venues": {"okx": {"proxy_auth_env": "NAME"}}})

    @pytest.mark.parametrize("value", [None, "", "no-colon-secret"])
    def test_credentials_that_are_not_there_are_found_out_before_anything_connects(
        self, value: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MY_PROXY_AUTH", raising=False)
        if value is not None:
            monkeypatch.setenv("MY_PROXY_AUTH", value)
        terms = {"proxy": "http://127.0.0.1:3128", "proxy_auth_env": "MY_PROXY_AUTH"}
        config = parse_config({"venues": {"okx": terms}})

        async def make() -> None:
            with pytest.raises(UsageError, match="MY_PROXY_AUTH must hold USER:PASSWORD") as caught:
                Runtime(config)
            assert "secret" not in str(caught.value)

        asyncio.run(make())

    async def test_a_session_connects_through_the_one_of_its_venue(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_PROXY_AUTH", SECRET)
        async with answering(b"HTTP/1.1 403 Forbidden\r\n\r\n") as (proxy, heads):
            terms = {
                "url": "wss://venue.example/path", "proxy_auth_env": "MY_PROXY_AUTH",
                "proxy": f"http://{proxy.host}:{proxy.port}",
            }  # fmt: skip
            runtime = Runtime(parse_config({"venues": {"okx": terms}}))
            session = runtime.sessions["okx"]
            failed = asyncio.Event()
            monkeypatch.setattr(
                runtime, "on_state", lambda session: session.last_error and failed.set()
            )
            task = asyncio.ensure_future(session.run())
            await asyncio.wait_for(failed.wait(), LIMIT_S)
            await session.stop()
            await task
        assert session.last_error.startswith("ProxyError: proxy-refused: 127.0.0.1:")
        assert "pass word" not in session.last_error
        assert heads[0].startswith(b"CONNECT venue.example:443 HTTP/1.1\r\n")

    async def test_a_simulated_world_has_none(self) -> None:
        with pytest.raises(UsageError, match="a proxy needs a seam with sockets"):
            await connect(Seam(), Client, "x", 1, None, proxy=Proxy("y", 2))
