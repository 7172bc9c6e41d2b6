"""The upgrade in both roles: bytes of a head in, what follows it out, or a named refusal."""

from __future__ import annotations

import base64
import logging
import traceback
from http import HTTPStatus
from typing import Any

import pytest
from fake_world import accept_key, key_of, right_answer

from crosswire.errors import HandshakeError, UsageError
from crosswire.handshake import (
    HEAD_MAX,
    ClientHandshake,
    Deflation,
    ServerHandshake,
    parse_url,
    url_shown,
)

URL = "ws://127.0.0.1:8080/ws/stream?a=b"


def opened() -> tuple[ClientHandshake, bytes]:
    """Return a handshake and the request that it sent."""
    handshake = ClientHandshake(URL)
    return handshake, handshake.request()


def answer(request: bytes, *headers: bytes, accept: bytes | None = None) -> bytes:
    """Return a 101 answer with further headers."""
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + (accept or accept_key(key_of(request))),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def refused(answer_of: bytes) -> HandshakeError:
    """Return the error that an answer leads to."""
    handshake, _ = opened()
    with pytest.raises(HandshakeError) as caught:
        handshake.receive(answer_of)
    return caught.value


class TestTheRequest:
    def test_it_is_a_get_with_everything_that_rfc_6455_demands(self) -> None:
        _, request = opened()
        head, end, rest = request.partition(b"\r\n\r\n")
        assert (end, rest) == (b"\r\n\r\n", b"")
        first, *lines = head.split(b"\r\n")
        assert first == b"GET /ws/stream?a=b HTTP/1.1"
        headers = {name.lower(): value for name, _, value in (x.partition(b": ") for x in lines)}
        assert headers[b"host"] == b"127.0.0.1:8080"
        assert headers[b"upgrade"] == b"websocket"
        assert headers[b"connection"] == b"Upgrade"
        assert headers[b"sec-websocket-version"] == b"13"
        assert b"sec-websocket-extensions" not in headers

    def test_it_can_be_taken_once(self) -> None:
        handshake, request = opened()
        assert request
        assert handshake.request() == b""

    def test_every_handshake_has_a_key_of_its_own_of_16_bytes(self) -> None:
        keys = {key_of(opened()[1]) for _ in range(50)}
        assert len(keys) == 50
        assert {len(key) for key in keys} == {24}

    def test_further_headers_are_sent(self) -> None:
        request = ClientHandshake(URL, {"X-Api-Key": "k 1"}).request()
        assert b"\r\nX-Api-Key: k 1\r\n" in request

    @pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\r", "a\0b"])
    def test_a_line_break_or_nul_in_a_header_value_is_refused(self, bad: str) -> None:
        with pytest.raises(UsageError, match="line break or NUL"):
            ClientHandshake(URL, {"X-Api-Key": bad})

    @pytest.mark.parametrize("bad", ["X\r\nX-Evil", "X\n", "X\0"])
    def test_a_line_break_or_nul_in_a_header_name_is_refused(self, bad: str) -> None:
        with pytest.raises(UsageError, match="line break or NUL"):
            ClientHandshake(URL, {bad: "1"})

    @pytest.mark.parametrize(
        ("name", "value"), [("X", "\x1b[2J"), ("X", "€"), ("X Y", "1"), ("", "1")]
    )
    def test_what_is_no_header_of_ascii_is_refused(self, name: str, value: str) -> None:
        with pytest.raises(UsageError, match="no header of ASCII"):
            ClientHandshake(URL, {name: value})

    @pytest.mark.parametrize(
        "url",
        [
            "ws://127.0.0.1/a\r\nX-Evil: 1",
            "ws://127.0.0.1/a\nX-Evil: 1",
            "ws://127.0.0.1/a?b\r\n\r\nGET / HTTP/1.1",
            "ws://127.0.0.1/a\0b",
            "ws://127.0.0.1/a HTTP/1.1 b",
            "ws://127.0.0.1/a\x7f",
            "\tws://127.0.0.1/a",
        ],
    )
    def test_a_url_cannot_write_into_the_request(self, url: str) -> None:
        with pytest.raises(UsageError, match="a space or a control character"):
            ClientHandshake(url)

    @pytest.mark.parametrize(
        "url",
        ["ws://127.0.0.1:x/", "ws://127.0.0.1:70000/", "ws://127.0.0.1:0/", "ws://[::1/",
         f"wss://{'x' * 64}.example/", "wss://a..example/"],
    )  # fmt: skip
    def test_an_impossible_host_or_port_is_refused(self, url: str) -> None:
        with pytest.raises(UsageError, match="no WebSocket URL"):
            ClientHandshake(url)

    def test_a_name_without_a_password_is_sent_with_an_empty_one(self) -> None:
        request = ClientHandshake("ws://me@127.0.0.1/").request()
        assert b"Authorization: Basic " + base64.b64encode(b"me:") in request

    @pytest.mark.parametrize("url", ["http://127.0.0.1/", "127.0.0.1:80", "ws://", "", "ws:///a"])
    def test_what_is_no_websocket_url_is_refused(self, url: str) -> None:
        with pytest.raises(UsageError, match="no WebSocket URL"):
            ClientHandshake(url)


class TestTheRightAnswer:
    def test_it_opens_with_nothing_after_the_head(self) -> None:
        handshake, request = opened()
        assert handshake.receive(right_answer(request)) == b""

    def test_what_follows_the_head_is_handed_back_byte_for_byte(self) -> None:
        handshake, request = opened()
        rest = b'\x81\x05{"a"}\x89\x00\r\n\r\n\x81'
        assert handshake.receive(right_answer(request) + rest) == rest

    def test_it_may_be_cut_at_every_byte(self) -> None:
        for cut in range(1, len(right_answer(opened()[1]))):
            handshake, request = opened()
            whole = right_answer(request)
            assert handshake.receive(whole[:cut]) is None
            assert handshake.receive(whole[cut:] + b"\x89\x00") == b"\x89\x00"

    def test_it_may_come_byte_by_byte(self) -> None:
        handshake, request = opened()
        *most, last = (bytes((byte,)) for byte in right_answer(request))
        assert [handshake.receive(piece) for piece in most] == [None] * len(most)
        assert handshake.receive(last) == b""

    def test_it_may_come_as_any_kind_of_buffer(self) -> None:
        for kind in (bytes, bytearray, memoryview):
            handshake, request = opened()
            assert handshake.receive(kind(right_answer(request))) == b""

    def test_names_of_headers_may_be_in_any_case(self) -> None:
        handshake, request = opened()
        text = right_answer(request).replace(b"Upgrade: websocket", b"UPGRADE: WebSocket")
        assert handshake.receive(text) == b""


class TestTheWrongAnswer:
    def test_an_accept_key_of_another_request_is_refused(self) -> None:
        handshake, request = opened()
        with pytest.raises(HandshakeError, match="Sec-WebSocket-Accept"):
            handshake.receive(answer(request, accept=accept_key(b"x" * 24)))

    @pytest.mark.parametrize(
        "change",
        [
            (b"Sec-WebSocket-Accept", b"X-Accept"),
            (b"Upgrade: websocket", b"Upgrade: h2c"),
            (b"Connection: Upgrade", b"Connection: close"),
            (b"HTTP/1.1 101", b"HTTP/1.1 200"),
        ],
    )
    def test_an_answer_without_one_of_its_parts_is_refused(
        self, change: tuple[bytes, bytes]
    ) -> None:
        handshake, request = opened()
        with pytest.raises(HandshakeError) as caught:
            handshake.receive(right_answer(request).replace(*change))
        assert caught.value.code == "handshake-refused"

    @pytest.mark.parametrize(
        "tail",
        [
            b"Content-Length: 0\r\n\r\n",
            b"\r\n",
            b"Content-Length: 6\r\n\r\nlater\n",
            b"Content-Length: 6\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nlater\r\n0\r\n\r\n",
        ],
        ids=["empty", "no-length", "body", "body-to-come", "chunked"],
    )
    def test_a_refusal_names_its_status_with_and_without_a_body(self, tail: bytes) -> None:
        error = refused(b"HTTP/1.1 503 Service Unavailable\r\n" + tail)
        assert error.code == "handshake-refused"
        assert "503" in str(error)

    @pytest.mark.parametrize(
        ("location", "shown"),
        [
            (b"wss://elsewhere.example/way?token=secret", "to wss://elsewhere.example;"),
            (b"https://me:secret@elsewhere.example:1/", "to https://elsewhere.example:1;"),
            (b"//elsewhere.example/secret", "to elsewhere.example;"),
            (b"/secret?next=wss://secret.example", "on the same host;"),
            (b"", "on the same host;"),
            (b"wss://\x1b[2J/", "to wss://?[2J;"),
            (b"wss://" + b"x" * 2000, f"to wss://{'x' * 191};"),
        ],
    )
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_refused_by_name_and_shows_where_without_secrets(
        self, status: int, location: bytes, shown: str
    ) -> None:
        error = refused(b"HTTP/1.1 %d Found\r\nlocation: %b\r\n\r\n" % (status, location))
        assert error.code == "handshake-redirect"
        assert str(status) in str(error)
        assert shown in str(error)
        assert "secret" not in str(error)

    def test_one_that_leads_nowhere_is_an_answer_like_others(self) -> None:
        assert refused(b"HTTP/1.1 302 Found\r\n\r\n").code == "handshake-refused"

    @pytest.mark.parametrize(
        "head",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"HTTP/2 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.1 abc Switching\r\n\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nno colon here\r\n\r\n",
        ],
    )
    def test_what_is_no_http_answer_is_refused(self, head: bytes) -> None:
        assert refused(head).code == "handshake-refused"

    def test_an_extension_that_was_not_offered_is_refused(self) -> None:
        handshake, request = opened()
        with pytest.raises(HandshakeError, match="extension"):
            handshake.receive(answer(request, b"Sec-WebSocket-Extensions: permessage-deflate"))

    def test_a_subprotocol_that_was_not_offered_is_refused(self) -> None:
        handshake, request = opened()
        with pytest.raises(HandshakeError, match="subprotocol"):
            handshake.receive(answer(request, b"Sec-WebSocket-Protocol: v2"))

    def test_more_than_128_headers_are_refused(self) -> None:
        handshake, request = opened()
        with pytest.raises(HandshakeError):
            handshake.receive(answer(request, *(b"X-%d: 1" % n for n in range(126))))


class TestTheLimitOfTheHead:
    @staticmethod
    def padded(request: bytes, size: int) -> bytes:
        """Return a right answer whose head has exactly ``size`` bytes."""
        lines = [b"X-Pad-%d: " % n for n in range(4)]
        room = size - len(answer(request, *lines))
        fill = [room // 4 + (n < room % 4) for n in range(4)]
        whole = answer(request, *(x + b"p" * n for x, n in zip(lines, fill, strict=True)))
        assert len(whole) == size
        return whole

    def test_a_head_of_16_kib_is_taken(self) -> None:
        handshake, request = opened()
        assert handshake.receive(self.padded(request, HEAD_MAX)) == b""

    def test_a_head_of_more_than_16_kib_is_refused(self) -> None:
        handshake, request = opened()
        with pytest.raises(HandshakeError, match="16 KiB") as caught:
            handshake.receive(self.padded(request, HEAD_MAX + 8))
        assert caught.value.code == "handshake-head"

    @pytest.mark.parametrize("size", range(HEAD_MAX - 2, HEAD_MAX + 8))
    def test_the_limit_does_not_depend_on_where_the_head_is_cut(self, size: int) -> None:
        def taken(*cuts: int) -> bool:
            handshake, request = opened()
            whole = self.padded(request, size)
            try:
                for start, end in zip((0, *cuts), (*cuts, size), strict=True):
                    handshake.receive(whole[start:end])
            except HandshakeError:
                return False
            return True

        results = {taken(size - back) for back in range(1, 10)} | {taken()}
        assert results == {size <= HEAD_MAX}

    def test_a_head_that_never_ends_is_refused_at_the_limit(self) -> None:
        handshake, _ = opened()
        handshake.receive(b"HTTP/1.1 101 Switching Protocols\r\n")
        for _ in range((HEAD_MAX - 34) // 17):
            assert handshake.receive(b"X-Drip: 1234567\r\n") is None
        with pytest.raises(HandshakeError, match="16 KiB"):
            handshake.receive(b"X-Drip: 1234567\r\n")

    def test_a_large_frame_behind_a_small_head_is_no_large_head(self) -> None:
        handshake, request = opened()
        rest = b"\x82\x7e\xff\xff" + bytes(65535)
        assert handshake.receive(right_answer(request) + rest) == rest


# ------------------------------------------------------------------ a server's


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The pair of RFC 6455, 1.3."""
TOKEN = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
REQUEST = (
    b"GET /signals?from=7 HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUpgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


def asked(*headers: bytes, without: bytes = b"") -> bytes:
    """Return a right request with further headers, and without the one of a name."""
    first, *lines = REQUEST.rstrip().split(b"\r\n")
    kept = [line for line in lines if not without or not line.startswith(without + b":")]
    return b"\r\n".join([first, *kept, *headers]) + b"\r\n\r\n"


def status_of(answer_of: bytes) -> int:
    """Return the status of the one answer that there is, whose body is as long as it says."""
    head, end, body = answer_of.partition(b"\r\n\r\n")
    assert end
    headers = header_lines(answer_of)
    assert len(body) == int(headers.get(b"content-length", b"0"))
    version, status, _ = head.split(b" ", 2)
    assert version == b"HTTP/1.1"
    return int(status)


def header_lines(answer_of: bytes) -> dict[bytes, bytes]:
    lines = answer_of.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}


def turned_away(request: bytes, **terms: Any) -> tuple[int, HandshakeError, bytes]:
    """Return status, error and answer of a request that a server refuses."""
    handshake = ServerHandshake(**terms)
    with pytest.raises(HandshakeError) as caught:
        handshake.receive(request)
    answer_of = handshake.answer()
    assert handshake.answer() == b""
    assert handshake.deflation is None
    return status_of(answer_of), caught.value, answer_of


class TestTheRightRequest:
    def test_it_is_answered_as_rfc_6455_shows(self) -> None:
        handshake = ServerHandshake()
        assert handshake.receive(REQUEST) == b""
        answer_of = handshake.answer()
        assert answer_of.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert answer_of.endswith(b"\r\n\r\n")
        headers = header_lines(answer_of)
        assert headers[b"sec-websocket-accept"] == ACCEPT
        assert headers[b"upgrade"] == b"websocket"
        assert headers[b"connection"] == b"Upgrade"
        assert headers.keys() & {b"sec-websocket-extensions", b"sec-websocket-protocol"} == set()
        assert handshake.path == "/signals?from=7"

    def test_the_answer_can_be_taken_once(self) -> None:
        handshake = ServerHandshake()
        assert handshake.answer() == b""
        handshake.receive(REQUEST)
        assert handshake.answer()
        assert handshake.answer() == b""

    def test_it_may_be_cut_at_every_byte(self) -> None:
        for cut in range(1, len(REQUEST)):
            handshake = ServerHandshake()
            assert handshake.receive(REQUEST[:cut]) is None
            assert handshake.answer() == b""
            assert handshake.receive(REQUEST[cut:] + b"\x81\x80abcd") == b"\x81\x80abcd"
            assert status_of(handshake.answer()) == 101

    def test_it_may_come_byte_by_byte(self) -> None:
        handshake = ServerHandshake()
        *most, last = (bytes((byte,)) for byte in REQUEST)
        assert [handshake.receive(piece) for piece in most] == [None] * len(most)
        assert handshake.receive(last) == b""

    def test_what_follows_the_head_is_handed_on_byte_for_byte(self) -> None:
        rest = b"\x81\x85abcd" + b"\x09\x07\x0f\x08\x0e" + b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        assert ServerHandshake().receive(REQUEST + rest) == rest

    def test_our_client_and_our_server_agree(self) -> None:
        client, server = (
            ClientHandshake(URL, offers_deflate=True),
            ServerHandshake(takes_deflate=True),
        )
        assert server.receive(client.request()) == b""
        assert client.receive(server.answer() + b"\x89\x00") == b"\x89\x00"
        assert client.deflation == server.deflation == Deflation()


class TestWhoMayConnect:
    def test_the_right_token_opens(self) -> None:
        handshake = ServerHandshake(token=TOKEN)
        assert handshake.receive(asked(b"Authorization: Bearer " + TOKEN.encode())) == b""

    @pytest.mark.parametrize(
        "lines",
        [
            [],
            [b"Authorization: Bearer " + TOKEN[:-1].encode()],
            [b"Authorization: Bearer " + TOKEN.encode() + b"0"],
            [b"Authorization: Bearer " + TOKEN.upper().encode()],
            [b"Authorization: Bearer"],
            [b"Authorization: "],
            [b"Authorization: " + TOKEN.encode()],
            [b"Authorization: Basic " + TOKEN.encode()],
            [b"Authorization: Bearer  " + TOKEN.encode()],
            [b"Authorization: Bearer " + TOKEN.encode()] * 2,
            [b"Authorization: Bearer " + TOKEN.encode(), b"authorization: Bearer x"],
            [b"Authorization: Bearer \xe9\xff" + TOKEN.encode()],
            [b"X-Authorization: Bearer " + TOKEN.encode()],
        ],
        ids=["none", "short", "long", "case", "scheme-only", "empty", "no-scheme", "basic",
             "two-spaces", "twice", "two", "not-ascii", "other-header"],
    )  # fmt: skip
    def test_another_is_answered_with_401_and_told_nowhere(self, lines: list[bytes]) -> None:
        status, error, answer_of = turned_away(asked(*lines), token=TOKEN)
        assert (status, error.code) == (401, "handshake-refused")
        assert header_lines(answer_of)[b"www-authenticate"] == b"Bearer"
        for text in (str(error), repr(error), answer_of.decode()):
            assert TOKEN[:16] not in text.lower()
        assert error.__cause__ is None

    def test_a_token_in_a_line_that_is_no_header_is_told_nowhere(self) -> None:
        for line in (b"Authorization: Bearer \x01", b"Author ization: ", b"Authorization "):
            _, error, answer_of = turned_away(asked(line + TOKEN.encode()), token=TOKEN)
            assert TOKEN.encode() not in answer_of
            assert TOKEN not in "".join(traceback.format_exception(error))

    def test_a_server_without_room_says_503_to_who_might_have_come_in(self) -> None:
        asked_for: list[int] = []

        def has_room() -> bool:
            asked_for.append(1)
            return len(asked_for) > 1

        status, error, _ = turned_away(REQUEST, has_room=has_room)
        assert (status, error.code) == (503, "handshake-refused")
        handshake = ServerHandshake(has_room=has_room)
        assert handshake.receive(REQUEST) == b""
        assert (handshake.status, status_of(handshake.answer())) == (101, 101)
        assert len(asked_for) == 2

    @pytest.mark.parametrize(
        ("request_of", "status"),
        [
            (REQUEST, 401),
            (asked(b"Authorization: Bearer " + TOKEN.encode(), b"Origin: https://x"), 403),
            (asked(b"Authorization: Bearer " + TOKEN.encode(), without=b"Upgrade"), 426),
            (b"nonsense\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA: " + b"a" * HEAD_MAX, 431),
        ],
    )
    def test_room_is_not_asked_for_by_who_may_not_come_in(
        self, request_of: bytes, status: int
    ) -> None:
        handshake = ServerHandshake(token=TOKEN, has_room=lambda: pytest.fail("was asked"))
        assert handshake.status == 0
        with pytest.raises(HandshakeError):
            handshake.receive(request_of)
        assert handshake.status == status_of(handshake.answer()) == status

    def test_an_upgrade_can_be_refused_before_its_request_is_whole(self) -> None:
        handshake = ServerHandshake()
        assert handshake.receive(REQUEST[:40]) is None
        handshake.refuse(HTTPStatus.REQUEST_TIMEOUT)
        assert (handshake.status, status_of(handshake.answer())) == (408, 408)

    def test_a_token_in_the_url_opens_nothing(self) -> None:
        request = REQUEST.replace(b"?from=7", b"?token=" + TOKEN.encode())
        assert turned_away(request, token=TOKEN)[0] == 401

    def test_tokens_are_compared_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[tuple[bytes, bytes]] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return one == other

        monkeypatch.setattr("crosswire.handshake.hmac.compare_digest", compare)
        turned_away(asked(b"Authorization: Bearer no"), token=TOKEN)
        assert compared == [(b"Bearer no", b"Bearer " + TOKEN.encode())]

    @pytest.mark.parametrize("token", ["", "a b", "a\r\nX: 1", "a\0", "\xe9", "a\n"])
    def test_a_token_that_no_client_can_send_is_refused(self, token: str) -> None:
        with pytest.raises(UsageError, match="a token is printable ASCII") as caught:
            ServerHandshake(token=token)
        assert token == "" or token not in str(caught.value)

    @pytest.mark.parametrize(
        ("origins", "lines", "status"),
        [
            ((), [], 101),
            ((), [b"Origin: http://evil.example"], 403),
            ((), [b"Origin: null"], 403),
            ((), [b"Origin: "], 403),
            (("http://a.example",), [], 101),
            (("http://a.example",), [b"Origin: http://a.example"], 101),
            (("http://a.example", "null"), [b"Origin: null"], 101),
            (("http://a.example",), [b"Origin: https://a.example"], 403),
            (("http://a.example",), [b"Origin: http://a.example:81"], 403),
            (("http://a.example",), [b"Origin: http://a.example.evil.example"], 403),
            (("http://a.example",), [b"Origin: http://a.example"] * 2, 400),
            (("http://a.example",), [b"Origin: http://a.example\xff"], 400),
        ],
    )
    def test_a_page_may_connect_from_an_allowed_origin_alone(
        self, origins: tuple[str, ...], lines: list[bytes], status: int
    ) -> None:
        if status == 101:
            assert ServerHandshake(origins=origins).receive(asked(*lines)) == b""
        else:
            assert turned_away(asked(*lines), origins=origins)[0] == status

    @pytest.mark.parametrize(
        ("hosts", "lines", "status"),
        [
            (None, [b"Host: anything.example"], 101),
            (["127.0.0.1:9001"], [b"Host: 127.0.0.1:9001"], 101),
            (["a", "127.0.0.1:9001"], [b"Host: 127.0.0.1:9001"], 101),
            (["127.0.0.1:9001"], [b"Host: 127.0.0.1"], 403),
            (["127.0.0.1:9001"], [b"Host: rebound.example:9001"], 403),
            (["127.0.0.1:9001"], [b"Host: \xff"], 403),
            ([], [b"Host: 127.0.0.1:9001"], 403),
            (["127.0.0.1:9001"], [], 400),
            (None, [], 400),
            (["127.0.0.1:9001"], [b"Host: 127.0.0.1:9001"] * 2, 400),
            (None, [b"Host: 127.0.0.1:9001", b"host: evil.example"], 400),
        ],
    )
    def test_a_page_that_renamed_its_host_to_this_one_is_refused(
        self, hosts: list[str] | None, lines: list[bytes], status: int
    ) -> None:
        request = asked(*lines, without=b"Host")
        if status == 101:
            assert ServerHandshake(hosts=hosts).receive(request) == b""
        else:
            assert turned_away(request, hosts=hosts)[0] == status


class TestTheWrongRequest:
    @pytest.mark.parametrize(
        ("without", "lines", "status"),
        [
            (b"Upgrade", [], 426),
            (b"Upgrade", [b"Upgrade: h2c"], 426),
            (b"", [b"Upgrade: h2c"], 426),
            (b"Connection", [], 426),
            (b"Connection", [b"Connection: close"], 426),
            (b"Connection", [b"Connection: \xff"], 400),
            (b"Connection", [b"Connection: ,;,"], 400),
            (b"Upgrade", [b"Upgrade: web\xffsocket"], 400),
            (b"Sec-WebSocket-Version", [], 400),
            (b"Sec-WebSocket-Version", [b"Sec-WebSocket-Version: 12"], 426),
            (b"", [b"Sec-WebSocket-Version: 8"], 426),
            (b"", [b"Sec-WebSocket-Version: 13"], 400),
            (b"Sec-WebSocket-Key", [], 400),
            (b"", [b"Sec-WebSocket-Key: " + KEY], 400),
            (b"Sec-WebSocket-Key", [b"Sec-WebSocket-Key: "], 400),
            (b"Sec-WebSocket-Key", [b"Sec-WebSocket-Key: dGhl"], 400),
            (b"Sec-WebSocket-Key", [b"Sec-WebSocket-Key: " + KEY[:-1]], 400),
            (b"Sec-WebSocket-Key", [b"Sec-WebSocket-Key: ????????????????????????"], 400),
            (b"Sec-WebSocket-Key", [b"Sec-WebSocket-Key: \xff\xfe" + KEY], 400),
            (b"", [b"no colon here"], 400),
            (b"", [b": no name"], 400),
            (b"", [b"X Y: space in the name"], 400),
            (b"", [b"X : space behind the name"], 400),
            (b"", [b"X\xff: 1"], 400),
            (b"", [b"X: a\0b"], 400),
            (b"", [b"X: a\rb"], 400),
            (b"", [b"X: a\nY: b"], 400),
            (b"", [b"X: 1", b" folded"], 400),
        ],
    )
    def test_it_is_answered_by_its_kind_and_named(
        self, without: bytes, lines: list[bytes], status: int
    ) -> None:
        found, error, answer_of = turned_away(asked(*lines, without=without))
        assert (found, error.code) == (status, "handshake-refused")
        assert header_lines(answer_of)[b"connection"] == b"close"

    @pytest.mark.parametrize(
        "head",
        [
            b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1 x\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"\xff / HTTP/1.1\r\n\r\n",
        ],
    )
    def test_what_is_no_http_request_is_answered_with_400(self, head: bytes) -> None:
        status, error, _ = turned_away(head)
        assert status in (400, 405, 505)
        assert error.code == "handshake-refused"

    @pytest.mark.parametrize("change", [(b"GET ", b"POST "), (b"HTTP/1.1", b"HTTP/1.0")])
    def test_another_method_or_http_version_is_refused(self, change: tuple[bytes, bytes]) -> None:
        assert turned_away(REQUEST.replace(*change, 1))[0] in (400, 405, 505)

    def test_an_error_shows_what_a_peer_sent_short_and_printable(self) -> None:
        name = b"Sec-WebSocket-Key"
        for error in (
            refused(b"HTTP/1.1 503 \x1b[2J\x07" + b"x" * 8000 + b"\r\n\r\n"),
            turned_away(asked(name + b": " + b"x" * 8000, without=name))[1],
        ):
            assert str(error).isprintable()
            assert len(str(error)) < 300

    def test_a_refused_request_opens_nothing_when_more_comes(self) -> None:
        handshake = ServerHandshake(token=TOKEN)
        with pytest.raises(HandshakeError):
            handshake.receive(asked())
        assert status_of(handshake.answer()) == 401


class TestTheLimitOfARequest:
    @staticmethod
    def padded(size: int) -> bytes:
        """Return a right request whose head has exactly ``size`` bytes."""
        lines = [b"X-Pad-%d: " % n for n in range(4)]
        room = size - len(asked(*lines))
        whole = asked(*(x + b"p" * (room // 4 + (n < room % 4)) for n, x in enumerate(lines)))
        assert len(whole) == size
        return whole

    def test_a_head_of_16_kib_is_taken(self) -> None:
        assert ServerHandshake().receive(self.padded(HEAD_MAX) + b"\x89") == b"\x89"

    def test_a_longer_one_is_answered_with_431(self) -> None:
        status, error, _ = turned_away(self.padded(HEAD_MAX + 1))
        assert (status, error.code) == (431, "handshake-head")

    def test_one_that_never_ends_is_answered_with_431_at_the_limit(self) -> None:
        handshake = ServerHandshake()
        assert handshake.receive(b"GET / HTTP/1.1\r\nX: " + b"p" * (HEAD_MAX - 20)) is None
        with pytest.raises(HandshakeError, match="16 KiB"):
            handshake.receive(b"p")
        assert status_of(handshake.answer()) == 431

    def test_128_header_lines_are_taken(self) -> None:
        own = REQUEST.count(b"\r\n") - 2
        request = asked(*(b"X-%d: 1" % n for n in range(128 - own)))
        assert request.count(b"\r\n") == 130
        assert ServerHandshake().receive(request) == b""

    def test_129_header_lines_are_answered_with_431(self) -> None:
        own = REQUEST.count(b"\r\n") - 2
        status, error, _ = turned_away(asked(*(b"X-%d: 1" % n for n in range(129 - own))))
        assert (status, error.code) == (431, "handshake-head")

    @pytest.mark.parametrize(
        "request_of",
        [asked(b"X: " + b"p" * 9000), REQUEST.replace(b"from=7", b"f" * 9000)],
        ids=["header", "path"],
    )
    def test_a_line_of_more_than_8_kib_is_answered_once(self, request_of: bytes) -> None:
        status, error, _ = turned_away(request_of)
        assert status in (400, 414, 431)
        assert error.code == "handshake-refused"


# ------------------------------------------------------------------ RFC 7692


class TestDeflationThatAClientOffers:
    """7.1: what a server answers, and what it agreed on."""

    @staticmethod
    def agreed(*lines: bytes, takes_deflate: bool = True) -> tuple[bytes | None, Deflation | None]:
        handshake = ServerHandshake(takes_deflate=takes_deflate)
        offers = [b"Sec-WebSocket-Extensions: " + line for line in lines]
        assert handshake.receive(asked(*offers)) == b""
        answer_of = handshake.answer()
        assert status_of(answer_of) == 101
        return header_lines(answer_of).get(b"sec-websocket-extensions"), handshake.deflation

    @pytest.mark.parametrize(
        ("offer", "parameters", "deflation"),
        [
            (b"", set(), Deflation()),
            (b"; server_no_context_takeover", {b"server_no_context_takeover"},
             Deflation(writes_context=False)),
            (b"; client_no_context_takeover", {b"client_no_context_takeover"},
             Deflation(reads_context=False)),
            (b"; client_no_context_takeover; server_no_context_takeover",
             {b"client_no_context_takeover", b"server_no_context_takeover"},
             Deflation(reads_context=False, writes_context=False)),
            *((b"; server_max_window_bits=%d" % bits, {b"server_max_window_bits=%d" % bits},
               Deflation(write_bits=bits)) for bits in range(9, 16)),
            *((b"; client_max_window_bits=%d" % bits, {b"client_max_window_bits=%d" % bits},
               Deflation(read_bits=bits)) for bits in range(8, 16)),
            (b'; server_max_window_bits="10"', {b"server_max_window_bits=10"},
             Deflation(write_bits=10)),
            (b";server_max_window_bits=10 ;  client_max_window_bits = 9",
             {b"server_max_window_bits=10", b"client_max_window_bits=9"},
             Deflation(read_bits=9, write_bits=10)),
        ],
    )  # fmt: skip
    def test_it_is_answered_with_the_same(
        self, offer: bytes, parameters: set[bytes], deflation: Deflation
    ) -> None:
        line, found = self.agreed(b"permessage-deflate" + offer)
        assert line is not None
        name, *told = line.split(b"; ")
        assert name == b"permessage-deflate"
        assert set(told) == parameters
        assert found == deflation

    def test_an_open_window_of_the_client_may_be_answered_with_one_and_is_kept(self) -> None:
        line, found = self.agreed(b"permessage-deflate; client_max_window_bits")
        assert line is not None
        assert found is not None
        bits = line.partition(b"client_max_window_bits=")[2] or b"15"
        assert found == Deflation(read_bits=int(bits))

    def test_a_window_of_8_bits_that_zlib_cannot_write_is_not_agreed_on(self) -> None:
        assert self.agreed(b"permessage-deflate; server_max_window_bits=8") == (None, None)
        line, found = self.agreed(
            b"permessage-deflate; server_max_window_bits=8, permessage-deflate"
        )
        assert (line, found) == (b"permessage-deflate", Deflation())

    @pytest.mark.parametrize(
        "parameter",
        [
            b"unknown", b"unknown=1", b"server_max_window_bits", b"server_max_window_bits=7",
            b"server_max_window_bits=16", b"server_max_window_bits=08",
            b"server_max_window_bits=+9",
            b"server_max_window_bits=9x", b"client_max_window_bits=7", b"client_max_window_bits=16",
            b"client_max_window_bits=015", b"server_no_context_takeover=1",
            b"client_no_context_takeover=true", b"SERVER_NO_CONTEXT_TAKEOVER",
            b"server_no_context_takeover; server_no_context_takeover",
            b"client_no_context_takeover; client_no_context_takeover",
            b"server_max_window_bits=9; server_max_window_bits=9",
            b"client_max_window_bits; client_max_window_bits",
            b"client_max_window_bits=9; client_max_window_bits",
        ],
    )  # fmt: skip
    def test_an_offer_of_the_impossible_is_declined_and_the_next_one_taken(
        self, parameter: bytes
    ) -> None:
        offer = b"permessage-deflate; " + parameter
        assert self.agreed(offer) == (None, None)
        assert self.agreed(offer + b", permessage-deflate; server_max_window_bits=12") == (
            b"permessage-deflate; server_max_window_bits=12",
            Deflation(write_bits=12),
        )

    def test_of_several_offers_the_first_possible_one_is_taken(self) -> None:
        first, second = (b"permessage-deflate; server_max_window_bits=%d" % n for n in (11, 12))
        assert self.agreed(first + b", " + second) == (first, Deflation(write_bits=11))
        assert self.agreed(first, second) == (first, Deflation(write_bits=11))
        assert self.agreed(b"x-webkit-deflate-frame, " + second) == (
            second,
            Deflation(write_bits=12),
        )

    def test_a_server_that_takes_none_answers_none(self) -> None:
        assert self.agreed(b"permessage-deflate", takes_deflate=False) == (None, None)
        assert self.agreed(b"x-webkit-deflate-frame") == (None, None)

    @pytest.mark.parametrize(
        "line", [b"permessage-deflate;", b";", b"a b", b"permessage-deflate; =1"]
    )
    def test_what_is_no_list_of_offers_is_answered_with_400(self, line: bytes) -> None:
        request = asked(b"Sec-WebSocket-Extensions: " + line)
        assert turned_away(request, takes_deflate=True)[0] == 400


class TestDeflationThatAServerAnswers:
    @staticmethod
    def offered() -> tuple[ClientHandshake, bytes]:
        handshake = ClientHandshake(URL, offers_deflate=True)
        return handshake, handshake.request()

    def test_it_is_offered_with_an_open_window_of_ours(self) -> None:
        _, request = self.offered()
        offers = header_lines(request)[b"sec-websocket-extensions"]
        assert offers == b"permessage-deflate; client_max_window_bits"

    @pytest.mark.parametrize(
        ("parameters", "deflation"),
        [
            (b"", Deflation()),
            (b"; server_no_context_takeover", Deflation(reads_context=False)),
            (b"; client_no_context_takeover", Deflation(writes_context=False)),
            *((b"; server_max_window_bits=%d" % bits, Deflation(read_bits=bits))
              for bits in range(8, 16)),
            *((b"; client_max_window_bits=%d" % bits, Deflation(write_bits=bits))
              for bits in range(9, 16)),
            (b"; client_max_window_bits=9; server_max_window_bits=10; client_no_context_takeover"
             b"; server_no_context_takeover", Deflation(10, 9, False, False)),
        ],
    )  # fmt: skip
    def test_what_it_chose_is_agreed_on(self, parameters: bytes, deflation: Deflation) -> None:
        handshake, request = self.offered()
        line = b"Sec-WebSocket-Extensions: permessage-deflate" + parameters
        assert handshake.receive(answer(request, line)) == b""
        assert handshake.deflation == deflation

    def test_none_is_agreed_on_where_it_chose_none(self) -> None:
        handshake, request = self.offered()
        assert handshake.receive(answer(request)) == b""
        assert handshake.deflation is None

    @pytest.mark.parametrize(
        "line",
        [
            b"x-webkit-deflate-frame",
            b"permessage-deflate, x-webkit-deflate-frame",
            b"permessage-deflate, permessage-deflate",
            *(b"permessage-deflate; " + parameter for parameter in (
                b"unknown", b"client_max_window_bits", b"client_max_window_bits=7",
                b"client_max_window_bits=8", b"client_max_window_bits=16",
                b"server_max_window_bits", b"server_max_window_bits=7",
                b"server_max_window_bits=16", b"server_no_context_takeover=1",
                b"client_no_context_takeover; client_no_context_takeover",
                b"server_max_window_bits=9; server_max_window_bits=9")),
            b"permessage-deflate;",
            b"a b",
        ],
    )  # fmt: skip
    def test_what_was_not_offered_or_is_impossible_is_refused(self, line: bytes) -> None:
        handshake, request = self.offered()
        with pytest.raises(HandshakeError) as caught:
            handshake.receive(answer(request, b"Sec-WebSocket-Extensions: " + line))
        assert caught.value.code == "handshake-refused"
        assert handshake.deflation is None


class TestSecrets:
    """A token, a key of a venue or a password stands in no log and no error."""

    def test_the_library_logs_nothing_of_what_is_sent_and_received(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        for other in ("websockets", "websockets.client", "websockets.server"):
            caplog.set_level(logging.DEBUG, other)
        client = ClientHandshake("ws://localhost/?listenKey=SECRET", {"X-Key": "SECRET"})
        server = ServerHandshake(token="SECRET")
        with pytest.raises(HandshakeError, match="401"):
            server.receive(client.request())
        with pytest.raises(HandshakeError, match="401"):
            client.receive(server.answer())
        assert "SECRET" not in caplog.text

    @pytest.mark.parametrize(
        "url",
        [
            "ws://me:SECRET@desk.example:99999/", "ws://me:SECRET@desk.example:x/SECRET",
            "ws://me:SECRET/@desk.example/", "http://desk.example/SECRET?key=SECRET#SECRET",
            "ws://desk.example/SECRET #", "ws://me:SECRET@/?SECRET", "desk.example/SECRET",
            "ws://me:SECRET/SECRET@desk.example:0", "wss://desk.example:0?SECRET",
        ],
    )  # fmt: skip
    def test_an_error_shows_of_a_url_where_it_leads(self, url: str) -> None:
        with pytest.raises(UsageError, match="is no WebSocket URL") as caught:
            parse_url(url)
        assert "SECRET" not in str(caught.value)
        assert "desk.example" in str(caught.value) or "@/" in url

    def test_a_url_is_shown_as_far_as_it_leads(self) -> None:
        assert url_shown("wss://a.example:9443/ws/KEY?k=v#f") == "wss://a.example:9443"
        assert url_shown("a.example/KEY") == "a.example"

    def test_a_head_is_not_kept(self) -> None:
        client = ClientHandshake(URL, {"Authorization": "Bearer SECRET"})
        server = ServerHandshake(token="SECRET")
        request = client.request()
        assert server.receive(request) == b""
        assert b"SECRET" not in server._head._data

    @pytest.mark.parametrize("name", ["Host", "upgrade", "Sec-WebSocket-Key", "Connection"])
    def test_what_the_upgrade_writes_is_not_written_twice(self, name: str) -> None:
        with pytest.raises(UsageError, match="written by the upgrade"):
            ClientHandshake(URL, {name: "x"})

    def test_credentials_are_given_once(self) -> None:
        with pytest.raises(UsageError, match="given twice"):
            ClientHandshake("ws://me:x@localhost/", {"Authorization": "Bearer x"})

    @pytest.mark.parametrize("name", ["origins", "hosts"])
    def test_one_text_is_no_list(self, name: str) -> None:
        with pytest.raises(UsageError, match="are lists"):
            ServerHandshake(**{name: "desk.example"})  # type: ignore[arg-type]
