"""The echo examples, the relay they speak TLS to, and what is written down of conformance runs."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from conformance import ledger
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
LIMIT_S = 30.0
MESSAGES: list[str | bytes] = ["", "zażółć gęślą jaźń €😀", bytes(range(256)), b"x" * 3000]

ALL_TOLD = ["/runCase?case=1&agent=me", *MESSAGES, "/runCase?case=2&agent=me", *MESSAGES]


@contextlib.contextmanager
def running(*command: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program of the project, and end it."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def relay(mode: str, to: int, file: Path) -> Iterator[int]:
    """Run the relay; yield its port."""
    with socket.create_server((HOST, 0)) as listener:
        port = int(listener.getsockname()[1])
    with running("tests/conformance/relay.py", mode, port, to, file):
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                break
            time.sleep(0.02)
        yield port


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return files of a server's key and certificate, and of whom to trust for it."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    identity = authority.issue_cert(HOST).private_key_and_cert_chain_pem
    identity.write_to_path(folder / "identity.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return folder / "identity.pem", folder / "authority.pem"


def port_told_by(process: subprocess.Popen[str], scheme: str) -> int:
    assert process.stdout
    found = re.fullmatch(rf"listening on {scheme}://{HOST}:(\d+)\n", process.stdout.readline())
    assert found
    return int(found[1])


def check_echo(port: int) -> None:
    with connect(f"ws://{HOST}:{port}", proxy=None) as peer:
        for message in MESSAGES:
            peer.send(message)
            assert peer.recv(LIMIT_S) == message
        peer.ping()
    assert peer.close_code == 1000


sizes = pytest.mark.parametrize("size", [65536, 1], ids=["whole", "one-byte"])


class TestTheServer:
    @sizes
    def test_it_sends_everything_back(self, size: int) -> None:
        with running("examples/echo_server.py", "--port", 0, "--read-size", size) as server:
            check_echo(port_told_by(server, "ws"))

    @sizes
    def test_it_does_so_through_a_relay_that_it_speaks_tls_to(
        self, size: int, certificates: tuple[Path, Path]
    ) -> None:
        identity, authority = certificates
        terms = ("--port", 0, "--read-size", size, "--tls", identity)
        with (
            running("examples/echo_server.py", *terms) as server,
            relay("connect", port_told_by(server, "wss"), authority) as port,
        ):
            check_echo(port)


class TestTheClient:
    @staticmethod
    @contextlib.contextmanager
    def suite(told: list[str | bytes]) -> Iterator[int]:
        """Be a suite of two cases; yield the port."""

        def case(connection: ServerConnection) -> None:
            assert connection.request
            if connection.request.path == "/getCaseCount":
                connection.send("2")
                return
            told.append(connection.request.path)
            for message in MESSAGES:
                connection.send(message)
                told.append(connection.recv(LIMIT_S))

        with serve(case, HOST, 0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield int(server.socket.getsockname()[1])
            finally:
                server.shutdown()
                thread.join()

    @sizes
    def test_it_sends_back_what_comes_case_by_case(self, size: int) -> None:
        told: list[str | bytes] = []
        with self.suite(told) as port:
            terms = (f"ws://{HOST}:{port}", "--agent", "me", "--read-size", size)
            with running("examples/echo_client.py", *terms) as client:
                assert client.communicate(timeout=LIMIT_S) == ("2 cases\n", None)
        assert told == ALL_TOLD

    @sizes
    def test_it_does_so_through_a_relay_that_it_speaks_tls_to(
        self, size: int, certificates: tuple[Path, Path]
    ) -> None:
        identity, authority = certificates
        told: list[str | bytes] = []
        with self.suite(told) as to, relay("accept", to, identity) as port:
            terms = ("--agent", "me", "--read-size", size, "--ca", authority)
            with running("examples/echo_client.py", f"wss://{HOST}:{port}", *terms) as client:
                assert client.communicate(timeout=LIMIT_S) == ("2 cases\n", None)
        assert told == ALL_TOLD

    def test_a_server_that_nobody_vouches_for_is_refused(
        self, certificates: tuple[Path, Path], tmp_path: Path
    ) -> None:
        stranger = tmp_path / "stranger.pem"
        trustme.CA().cert_pem.write_to_path(stranger)
        with self.suite([]) as to, relay("accept", to, certificates[0]) as port:
            terms = (f"wss://{HOST}:{port}", "--ca", stranger)
            with running("examples/echo_client.py", *terms) as client:
                assert "CERTIFICATE_VERIFY_FAILED" in client.communicate(timeout=LIMIT_S)[0]


@pytest.mark.parametrize("name", ["echo_server.py", "echo_client.py"])
def test_reads_of_nothing_are_refused(name: str) -> None:
    arguments = ["ws://localhost:1"] if name == "echo_client.py" else []
    done = subprocess.run(
        [sys.executable, f"examples/{name}", *arguments, "--read-size", "0"],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--read-size is 1 or more" in done.stderr


class TestTheRun:
    def test_without_python_2_7_it_says_loudly_that_nothing_was_tested(
        self, tmp_path: Path
    ) -> None:
        environment = {
            **os.environ, "PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path),
            "PYTHON27": str(tmp_path / "python2.7"), "AUTOBAHN_VENV": str(tmp_path / "suite"),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "tests/conformance/run.py", "--set", "all"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "")
        assert "*** CONFORMANCE NOT TESTED" in done.stderr
        assert "NOT RUN: set all, role both" in done.stderr

    def test_a_line_of_the_ledger_takes_the_place_of_the_one_before(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(ledger, "PATH", tmp_path / "LEDGER.json")
        run = {"set": "limits", "role": "client", "read_size": 0, "tls": False}
        verdicts = {"9.1.1": ("OK", "OK"), "9.1.2": ("FAILED", "OK")}
        for found in (verdicts, {**verdicts, "9.1.2": ("OK", "UNCLEAN")}):
            ledger.write(ledger.row_of(run, found, "a suite", "a hash"))
        ledger.write(ledger.row_of({**run, "set": "core"}, verdicts, "a suite", "a hash"))
        assert [(row["set"], row["messages"], row["ends"]) for row in ledger.read()] == [
            ("core", {"FAILED": 1, "OK": 1}, {"OK": 2}),
            ("limits", {"OK": 2}, {"OK": 1, "UNCLEAN": 1}),
        ]

    def test_the_hash_is_of_the_codec_and_its_examples(self) -> None:
        assert re.fullmatch(r"[0-9a-f]{64}", ledger.source_hash())
        for pattern in ledger.SOURCES:
            assert list(ROOT.glob(pattern)), pattern


WHOLE = {"read_size": 0, "tls": False}
RUNS = [
    *({"set": "core", "role": role, "read_size": size, "tls": tls}
      for role in ("client", "server") for tls in (False, True) for size in (0, 1)),
    *({"set": name, "role": role, **WHOLE}
      for name in ("limits", "deflate") for role in ("client", "server")),
]  # fmt: skip
CASES = {"core": 247, "limits": 54, "deflate": 216}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(map(str, run.values())))
def test_the_ledger_holds_a_run_in_which_no_case_failed(run: dict[str, Any]) -> None:
    (row,) = [row for row in ledger.read() if run.items() <= row.items()]
    assert row["cases"] == CASES[run["set"]]
    for counts in (row["messages"], row["ends"]):
        assert set(counts) <= {"OK", "INFORMATIONAL"}
        assert sum(counts.values()) == row["cases"]
