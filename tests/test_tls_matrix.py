"""What TLS refuses, by the same name under every engine on every loop; and nothing turns it off.

A server is of this machine and does one thing wrong; a session must refuse it, say what to do, and
let no byte of its request out.
"""

from __future__ import annotations

import ast
import asyncio
import datetime
import io
import re
import ssl
import tokenize
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from test_source import CYTHON, PACKAGE, PYTHON, name_of
from test_tls import HOST, Client, listening
from test_transport import Authority, authority, connected

from crosswire import parse_config
from crosswire.engine import Engine
from crosswire.errors import TlsError, UsageError
from crosswire.line import Line
from crosswire.receive import connect
from crosswire.receive.tls import ENGINES
from crosswire.receive.trust import broken, check_context, refusal
from crosswire.seam import System
from crosswire.session import Session, tls_context
from crosswire.venues import venue

_FIXTURES = (authority,)
LIMIT_S = 10.0
CODES = re.compile(r"^(?:TlsError|HandshakeError): ([a-z]+-[a-z]+)\b")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make it the engine of every session."""
    monkeypatch.setenv("CROSSWIRE_TLS", str(request.param))
    return str(request.param)


# ------------------------------------------------------------------ servers that are wrong


def days(n: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=n)


def old_tls(authority: Authority) -> ssl.SSLContext:
    """Speak TLS 1.1 and nothing newer."""
    context = authority.server(HOST)
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        speaks = _shakes_hands(context)
    except (ssl.SSLError, ValueError) as error:
        pytest.skip(f"NO TLS 1.1: this OpenSSL cannot: {error}")
    assert speaks == "TLSv1.1"
    return context


def _shakes_hands(server: ssl.SSLContext) -> str | None:
    """Return the version of a handshake with a client that takes anything."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        client.minimum_version = ssl.TLSVersion.TLSv1
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True))
    for end in ends * 4:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
    return ends[0].version()


def expired(authority: Authority) -> ssl.SSLContext:
    return authority.server(HOST, not_before=days(-20), not_after=days(-1))


def early(authority: Authority) -> ssl.SSLContext:
    return authority.server(HOST, not_before=days(1), not_after=days(20))


def strict(authority: Authority) -> ssl.SSLContext:
    """Want a certificate of the client, which TLS 1.2 tells inside the handshake."""
    context = authority.server(HOST)
    authority.authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


WRONG: dict[str, tuple[Callable[[Authority], ssl.SSLContext], str, str]] = {
    "expired": (expired, "tls-expired", "clock"),
    "not valid yet": (early, "tls-expired", "clock"),
    "another host": (lambda a: a.server("other.example"), "tls-host", "look at the host in url"),
    "another address": (lambda a: a.server("127.0.0.2"), "tls-host", "look at the host in url"),
    "self-signed": (lambda a: a.self_signed(), "tls-authority", "ca_file"),
    "a stranger's": (lambda a: a.of_a_stranger(), "tls-authority", "ca_file"),
    "TLS 1.1": (old_tls, "tls-version", "no TLS 1.2 or later"),
    "wants a certificate": (strict, "tls-refused", "said no"),
}


@asynccontextmanager
async def plain(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answer whatever comes, without TLS; ``b""`` ends the connection."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1 << 16))
        writer.write(answer)
        await writer.drain()

    async with listening(handle) as port:
        yield port, seen


@asynccontextmanager
async def over_tls(
    context: ssl.SSLContext, answer: bytes
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answer each request over TLS; where there is no handshake, say why, as asyncio does not."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        is_over = has_shaken_hands = False
        while not is_over:
            try:
                tls.do_handshake()
                has_shaken_hands = True
                if data := tls.read(1 << 16):
                    seen.append(data)
                    tls.write(answer)
                is_over = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                is_over = True
            writer.write(outgoing.read())
            if not is_over:
                data = await reader.read(1 << 16)
                incoming.write(data) if data else incoming.write_eof()
        writer.write_eof()
        await reader.read()  # or what it says is lost to a reset
        assert has_shaken_hands or not seen

    async with listening(handle) as port:
        yield port, seen


async def refused(
    port: int, ca_file: str, caplog: pytest.LogCaptureFixture, host: str = HOST
) -> tuple[str, str]:
    """Return (name, text) of the error with which a session refused a server, twice and alike."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, told: None)  # of the server's end
    async with connected(f"wss://{host}:{port}/path?token=secret", ca_file) as client:
        errors: set[str] = set()
        await client.until(lambda: "backing-off" in client.states)
        errors.add(client.session.last_error)
        await client.until(lambda: client.states.count("backing-off") >= 2)
        errors.add(client.session.last_error)
        assert client.session.connects == 0
        assert client.seqs == []
    [text] = errors
    found = CODES.match(text)
    assert found, text
    logged = [r.message for r in caplog.records if r.name == "crosswire.session"]
    assert logged
    assert all(text in line for line in logged)
    assert "secret" not in text + "".join(logged)
    return found[1], text


@pytest.mark.transport
class TestRefusals:
    @pytest.mark.parametrize("what", WRONG)
    async def test_a_server_that_is_wrong(
        self, what: str, engine: str, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        make, code, advice = WRONG[what]
        async with over_tls(make(authority), b"never") as (port, seen):
            name, text = await refused(port, authority.ca_file, caplog)
        assert (name, seen) == (code, [])
        assert advice in text

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "tls-plain"),
            (b"<html>", "tls-plain"),
            (b"", "tls-cut"),
            (b"\x15\x03\x03\x00\x02\x02\x28", "tls-refused"),
            (b"\x16\x03\x03", "tls-cut"),
        ],
        ids=["http", "text", "silence", "an alert", "a piece of a record"],
    )
    async def test_a_port_that_speaks_no_tls(
        self, answer: bytes, code: str, engine: str, authority: Authority,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        async with plain(answer) as (port, seen):
            name, text = await refused(port, authority.ca_file, caplog)
        assert name == code
        assert "look at the port" in text or code == "tls-refused"
        assert all(data.startswith(b"\x16\x03") and b"secret" not in data for data in seen)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("origin", ["same", "other", "plain text"])
    async def test_a_redirect(
        self, status: int, origin: str, engine: str, authority: Authority,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        async with plain(b"never") as (other, reached):
            place = {
                "same": "/elsewhere", "other": f"wss://{HOST}:{other}/",
                "plain text": f"http://{HOST}:{other}/",
            }[origin]  # fmt: skip
            answer = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {place}\r\n\r\n".encode()
            async with over_tls(authority.server(HOST), answer) as (port, seen):
                name, text = await refused(port, authority.ca_file, caplog)
            assert name == "handshake-redirect"
            assert f"HTTP/1.1 {status}" in text
            assert "not followed: write where it leads as url" in text
            assert reached == []
            assert len(seen) >= 2
            assert all(data.startswith(b"GET /path?token=secret HTTP/1.1\r\n") for data in seen)

    async def test_one_that_wants_a_certificate_behind_the_handshake(
        self, engine: str, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Of TLS 1.3, where a client has asked for its upgrade by then."""
        context = strict(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        async with over_tls(context, b"never") as (port, _):
            name, text = await refused(port, authority.ca_file, caplog)
        assert name == "tls-refused"
        assert "alert certificate required" in text.lower().replace("_", " ")


# ------------------------------------------------------------------ the mapping


class TestNames:
    @pytest.mark.parametrize(
        ("number", "name"),
        [
            (9, "tls-expired"), (10, "tls-expired"), (62, "tls-host"), (64, "tls-host"),
            (18, "tls-authority"), (19, "tls-authority"), (20, "tls-authority"),
            (21, "tls-authority"), (23, "tls-certificate"), (68, "tls-certificate"),
        ],
    )  # fmt: skip
    def test_of_a_certificate(self, number: int, name: str) -> None:
        error = ssl.SSLCertVerificationError(1, "x")
        error.verify_code, error.verify_message = number, "OpenSSL's\x1b words" + "x" * 1000
        named = refusal(error, "host.example")
        assert named
        assert (named.code, named.at) == (name, 0)
        assert str(named).startswith(f"{name}: the certificate for host.example: OpenSSL's? wordsx")
        assert len(str(named)) < 500

    @pytest.mark.parametrize(
        ("error", "name"),
        [
            (ConnectionResetError(), "tls-cut"),
            (BrokenPipeError(), "tls-cut"),
            (
                ConnectionAbortedError("SSL handshake is taking longer than 60.0 seconds"),
                "tls-late",
            ),
            (ssl.SSLError(1, "[SSL] anything"), "tls-broken"),
            (ssl.SSLEOFError(8, "EOF"), "tls-cut"),
        ],
    )
    def test_of_what_else_may_come(self, error: OSError, name: str) -> None:
        named = refusal(error, HOST)
        assert named
        assert named.code == name

    def test_what_is_not_of_tls_keeps_its_own(self) -> None:
        for error in (ConnectionRefusedError(), TimeoutError(), OSError(113, "No route to host")):
            assert refusal(error, HOST) is None

    def test_what_breaks_a_connection(self) -> None:
        error = ssl.SSLError(1, "[SSL] decryption failed or bad record mac")
        assert broken(error).code == "tls-broken"
        assert "bad record mac" in str(broken(error))

    def test_each_is_in_the_documentation(self) -> None:
        root = Path(__file__).resolve().parents[1]
        source = (PACKAGE / "receive" / "trust.py").read_text()
        names = set(re.findall(r'"((?:tls)-[a-z]+)"', source))
        assert len(names) == 10
        told = set(re.findall(r"^\| `(tls-[a-z]+)`", (root / "docs/errors.md").read_text(), re.M))
        assert names == told


# ------------------------------------------------------------------ nothing turns it off


def lax(**changes: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name, value in changes.items():
        setattr(context, name, value)
    return context


LAX = {
    "no name": {"check_hostname": False},
    "no certificate": {"check_hostname": False, "verify_mode": ssl.CERT_NONE},
    "certificate if any": {"check_hostname": False, "verify_mode": ssl.CERT_OPTIONAL},
}


def words_of(path: Path) -> set[str]:
    """Return every name of a source file, and every text that could be one: keys, options."""
    text = path.read_text()
    if path.suffix == ".py":
        words = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                words.add(token.string)
            elif token.type == tokenize.STRING and re.fullmatch(r"\W*[\w-]+\W*", token.string):
                words.add(token.string.strip("\"'-").replace("-", "_"))
        return words
    return set(
        re.findall(r"[A-Za-z_]\w*", re.sub(r"#[^\n]*|\"\"\".*?\"\"\"", "", text, flags=re.S))
    )


SOURCES = [*PYTHON, *CYTHON, *sorted(PACKAGE.rglob("*.pyi"))]
READ_ONLY = {"verify_mode", "verify_code", "verify_message", "SSLCertVerificationError"}
SWITCH = re.compile(r"(?:^|_)(?:un)?verif(?:y|ied|ication)(?:_|$)|insecure_tls|tls_insecure", re.I)
BANNED = {
    "CERT_NONE", "CERT_OPTIONAL", "_create_unverified_context", "_create_stdlib_context",
    "_create_default_https_context", "SSL_VERIFY_NONE", "SSL_set_verify", "SSL_CTX_set_verify",
    "wrap_socket", "keylog_filename", "getproxies", "trust_env",
}  # fmt: skip


class TestNothingTurnsItOff:
    def test_words_are_really_read(self) -> None:
        assert "verify_mode" in words_of(PACKAGE / "receive" / "trust.py")
        assert "SSL_read_ex" in words_of(PACKAGE / "tls.pyx")
        assert "ca_file" in words_of(PACKAGE / "config.py")
        for word in ("verify", "no_verify", "verify_tls", "ssl_verification", "unverified"):
            assert SWITCH.search(word)

    @pytest.mark.parametrize("path", SOURCES, ids=name_of)
    def test_there_is_no_switch_and_no_name_of_one(self, path: Path) -> None:
        words = words_of(path) - READ_ONLY
        assert {word for word in words if SWITCH.search(word)} == set()
        assert words & BANNED == set()

    @pytest.mark.parametrize("path", PYTHON, ids=name_of)
    def test_no_module_changes_what_a_context_verifies(self, path: Path) -> None:
        names = {"check_hostname", "verify_mode", "verify_flags", "hostname_checks_common_name"}
        changed = [
            node.lineno
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
            and node.attr in names
            and isinstance(node.ctx, ast.Store)
        ]
        assert changed == []
        assert "setattr" not in words_of(path)

    def test_no_key_of_the_configuration_is_one(self) -> None:
        for key in ("verify", "verify_tls", "ssl_verify", "check_hostname", "tls_insecure"):
            with pytest.raises(UsageError, match="unknown configuration key"):
                parse_config({"venues": {"binance": {key: False}}})

    def test_a_context_of_the_package_verifies_whatever_the_environment_says(
        self, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
        for context in (tls_context(), tls_context(authority.ca_file)):
            assert context.verify_mode is ssl.CERT_REQUIRED
            assert context.check_hostname
            assert context.minimum_version == ssl.TLSVersion.TLSv1_2
            check_context(context, "venue.example")

    @pytest.mark.parametrize("how", LAX)
    @pytest.mark.parametrize("host", ["venue.example", "192.0.2.1", "2001:db8::1"])
    async def test_a_context_that_takes_anything_is_refused_off_loopback(
        self, how: str, host: str
    ) -> None:
        context = lax(**LAX[how])
        with pytest.raises(UsageError, match=f"for {host} does not verify"):
            await connect(System(), Client, host, 443, context)
        market = venue("binance")
        engine = Engine(instruments_max=1, pairs_max=1, lines_max=1, venues_max=1, signals_max=1)
        engine.add_venue(market.name, market.layout)
        url = f"wss://[{host}]/" if ":" in host else f"wss://{host}/"
        observer: Any = None
        with pytest.raises(UsageError, match="does not verify"):
            Session(market, Line(engine, market.name), [], System(), observer, url, context)

    @pytest.mark.parametrize("how", LAX)
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
    def test_one_is_taken_on_loopback(self, how: str, host: str) -> None:
        check_context(lax(**LAX[how]), host)

    def test_errors_are_of_the_package(self) -> None:
        error = TlsError("tls-host", "words")
        assert (error.code, error.text, str(error)) == ("tls-host", "words", "tls-host: words")
