"""The upgrade: bytes of an answer in, what follows the head out, or a named refusal."""

from __future__ import annotations

import base64

import pytest
from fake_world import accept_key, key_of, right_answer

from crosswire.errors import HandshakeError, UsageError
from crosswire.handshake import HEAD_MAX, ClientHandshake

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

    def test_a_redirect_is_refused_and_not_followed(self) -> None:
        error = refused(
            b"HTTP/1.1 302 Found\r\nLocation: wss://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"
        )
        assert error.code == "handshake-refused"
        assert "302" in str(error)

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
