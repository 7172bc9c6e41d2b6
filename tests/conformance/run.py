"""Run the Autobahn test suite against the echo examples, and tell what it found.

python tests/conformance/run.py [--set core] [--role both] [--read-size 1] [--tls] [--ledger]

The suite needs Python 2.7, which is looked for as $PYTHON27, python2.7 and among the versions of
pyenv. It is installed once, from the package index that pip is set up for, into $AUTOBAHN_VENV or
build/conformance/suite; where it is there, it is used as it is. Without both, nothing is run, which
is said loudly, and the exit is 0.

Exit: 0 no case failed, 1 a case failed or was not run, 2 the run itself went wrong.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import ledger
import trustme
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
AGENT = "crosswire"
SUITE = "autobahntestsuite==25.10.1"
VIRTUALENV = "virtualenv==20.21.1"  # the last that makes environments of Python 2.7
SETS = {
    "core": (["*"], ["9.*", "12.*", "13.*"]),
    "limits": (["9.*"], []),
    "deflate": (["12.*", "13.*"], []),
}
VERDICTS = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED")
ENDS_WRONG = {"FAILED", "WRONG CODE", "UNCLEAN"}
KEPT = ROOT / "build" / "conformance" / "reports"
START_LIMIT_S = 30.0
PROGRESS_S = 10.0


class BrokenRunError(Exception):
    """The run cannot go on; the message says why."""


# ------------------------------------------------------------------ the suite


def python27() -> str | None:
    """Return a Python 2.7 that runs, or ``None``."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    versions = sorted(pyenv.glob("versions/2.7*/bin/python2.7"))
    for candidate in (os.environ.get("PYTHON27"), "python2.7", *map(str, versions)):
        path = shutil.which(candidate) if candidate else None
        if path and is_python27(path):
            return path
    return None


def is_python27(path: str) -> bool:
    command = [path, "-c", "import sys; assert sys.version_info[:2] == (2, 7)"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def wstest() -> Path | None:
    """Return the suite's program, which is installed where it is not; ``None`` where it cannot."""
    folder = Path(os.environ.get("AUTOBAHN_VENV") or ROOT / "build" / "conformance" / "suite")
    program = folder.resolve() / "bin" / "wstest"
    if program.exists():
        return program
    python = python27()
    if python is None:
        return None
    say(f"installing {SUITE} (about a minute) ...")
    tool = ROOT / "build" / "conformance" / "tool"
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(tool)],
        [str(tool / "bin" / "pip"), "install", "-q", VIRTUALENV],
        [str(tool / "bin" / "virtualenv"), "-q", "-p", python, str(folder)],
        [str(folder / "bin" / "pip"), "install", "-q", SUITE],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokenRunError(f"{' '.join(command)}\n{done.stdout}{done.stderr}".rstrip())
    return program


def version_of(program: Path) -> str:
    done = subprocess.run([program, "-a"], capture_output=True, text=True, check=True)
    found = re.search(r"AutobahnTestSuite (\S+)", done.stdout)
    return f"autobahntestsuite=={found[1]}" if found else "unknown"


# ------------------------------------------------------------------ processes


@contextlib.contextmanager
def running(command: list[str], folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in a file, and end it."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env=environment
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a process listens."""
    deadline = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.1)
    raise BrokenRunError(f"nothing listens on port {port}:\n{tail_of(log)}")


def tail_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Run:
    """One set against one example."""

    def __init__(self, program: Path, name: str, role: str, options: argparse.Namespace) -> None:
        self.program = program
        self.set = name
        self.role = role
        self.read_size: int = options.read_size
        self.has_tls: bool = options.tls
        self.limit_s: float = options.limit
        words = [name, role]
        words += [f"reads of {self.read_size} B"] if self.read_size else []
        words += ["TLS"] if self.has_tls else []
        self.label = ", ".join(words)
        self.folder = Path(options.keep).resolve() / re.sub(r"[ ,]+", "-", self.label)
        self.suite_log = self.folder / "suite.log"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def cases(self) -> ledger.Verdicts:
        """Run all cases; return the verdict on the messages, and on the end, of each."""
        suite, ours = free_ports(2)
        with contextlib.ExitStack() as stack:
            if self.has_tls:
                authority = trustme.CA()
                identity = authority.issue_cert(HOST).private_key_and_cert_chain_pem
                identity.write_to_path(self.folder / "identity.pem")
                authority.cert_pem.write_to_path(self.folder / "authority.pem")
            (self.test_client if self.role == "client" else self.test_server)(stack, suite, ours)
        index = self.folder / "report" / "index.json"
        if not index.exists():
            raise BrokenRunError(f"the suite wrote no report:\n{tail_of(self.suite_log)}")
        told = json.loads(index.read_text()).get(AGENT, {})
        return {case: (one["behavior"], one["behaviorClose"]) for case, one in told.items()}

    def test_client(self, stack: contextlib.ExitStack, suite: int, ours: int) -> None:
        """The suite serves at one port; with TLS our client goes through a relay at the other."""
        self.write_spec({"url": f"ws://{HOST}:{suite}"})
        server = self.start(stack, "suite", [str(self.program), "-m", "fuzzingserver", "-s",
                                             "spec.json", "--webport", "0"])  # fmt: skip
        wait_for(suite, server, self.suite_log)
        arguments = [f"ws://{HOST}:{suite}", "--agent", AGENT]
        if self.has_tls:
            self.start_relay(stack, "accept", ours, suite, "identity.pem")
            arguments[0] = f"wss://{HOST}:{ours}"
            arguments += ["--ca", str(self.folder / "authority.pem")]
        client = self.start(stack, "ours", self.example("echo_client.py", *arguments))
        if self.watch(client):
            say(f"the client ended with {client.returncode}:\n{tail_of(self.folder / 'ours.log')}")
        with connect(f"ws://{HOST}:{suite}/updateReports?agent={AGENT}", proxy=None) as asked:
            for _ in asked:  # its end says that they are written
                pass

    def test_server(self, stack: contextlib.ExitStack, suite: int, ours: int) -> None:
        """We serve at one port; with TLS the suite's client goes through a relay at the other."""
        arguments = ["--port", str(ours)]
        if self.has_tls:
            arguments += ["--tls", str(self.folder / "identity.pem")]
        server = self.start(stack, "ours", self.example("echo_server.py", *arguments))
        wait_for(ours, server, self.folder / "ours.log")
        if self.has_tls:
            self.start_relay(stack, "connect", suite, ours, "authority.pem")
        url = f"ws://{HOST}:{suite if self.has_tls else ours}"
        self.write_spec({"servers": [{"agent": AGENT, "url": url}]})
        client = self.start(stack, "suite", [str(self.program), "-m", "fuzzingclient", "-s",
                                             "spec.json"])  # fmt: skip
        self.watch(client)

    def write_spec(self, own: dict[str, object]) -> None:
        cases, without = SETS[self.set]
        terms = {"outdir": "report", "cases": cases, "exclude-cases": without,
                 "exclude-agent-cases": {}}  # fmt: skip
        (self.folder / "spec.json").write_text(json.dumps({**own, **terms}))

    def start(
        self, stack: contextlib.ExitStack, name: str, command: list[str]
    ) -> subprocess.Popen[bytes]:
        return stack.enter_context(running(command, self.folder, self.folder / f"{name}.log"))

    def start_relay(
        self, stack: contextlib.ExitStack, mode: str, port: int, to: int, file: str
    ) -> None:
        program = Path(__file__).with_name("relay.py")
        command = [sys.executable, str(program), mode, str(port), str(to), file]
        wait_for(port, self.start(stack, "relay", command), self.folder / "relay.log")

    def example(self, name: str, *arguments: str) -> list[str]:
        command = [sys.executable, str(ROOT / "examples" / name), *arguments]
        return [*command, "--read-size", str(self.read_size)] if self.read_size else command

    def watch(self, process: subprocess.Popen[bytes]) -> int | None:
        """Wait for the end of a process, and tell meanwhile how far the suite is."""
        deadline = time.monotonic() + self.limit_s
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(PROGRESS_S)
            say(f"  {self.label}: {self.begun()} of {self.case_count()} cases begun")
        say(f"  {self.label}: not over within {self.limit_s:g} s")
        return None

    def begun(self) -> int:
        return self.suite_log.read_text(errors="replace").count("Running test case ID")

    def case_count(self) -> int:
        found = re.search(r"will run (\d+) test cases", self.suite_log.read_text(errors="replace"))
        if found is None:
            raise BrokenRunError(f"the suite did not start:\n{tail_of(self.suite_log)}")
        return int(found[1])


# ------------------------------------------------------------------ the result


def tell(run: Run, verdicts: ledger.Verdicts, seconds: float) -> bool:
    """Print one row of the table and what is wrong; return whether nothing has failed."""
    count = run.case_count()
    counts = collections.Counter(messages for messages, _ in verdicts.values())
    cells = "".join(f"{counts[verdict]:>15}" for verdict in VERDICTS)
    print(f"{run.label:<36}{cells}{count - len(verdicts):>10}{seconds:>8.0f} s", flush=True)
    for case, (messages, end) in verdicts.items():
        if messages not in ("OK", "INFORMATIONAL") or end in ENDS_WRONG:
            print(f"  {case}: {messages}, its end {end}")
    has_failed = any("FAILED" in both for both in verdicts.values())
    return not has_failed and counts.keys() <= set(VERDICTS) and len(verdicts) == count


def run_all(program: Path, options: argparse.Namespace) -> int:
    names = list(SETS) if options.set == "all" else [options.set]
    roles = ["client", "server"] if options.role == "both" else [options.role]
    print(" " * 36 + "".join(f"{verdict:>15}" for verdict in VERDICTS) + f"{'missing':>10}")
    is_right = True
    for name in names:
        for role in roles:
            started, source = time.monotonic(), ledger.source_hash()
            run = Run(program, name, role, options)
            verdicts = run.cases()
            is_right &= tell(run, verdicts, time.monotonic() - started)
            if options.ledger and verdicts:
                key = {"set": name, "role": role, "read_size": run.read_size, "tls": run.has_tls}
                ledger.write(ledger.row_of(key, verdicts, version_of(program), source))
    return 0 if is_right else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run the Autobahn test suite against the echo examples.",
        epilog="core: all but 9, 12 and 13; limits: 9; deflate: 12 and 13.",
    )
    parser.add_argument("--set", choices=[*SETS, "all"], default="core", help="(default core)")
    parser.add_argument("--role", choices=["client", "server", "both"], default="both",
                        help="of the example (default both)")  # fmt: skip
    parser.add_argument("--read-size", type=int, default=0, metavar="N",
                        help="most bytes of the example's reads; 0: all there are")  # fmt: skip
    parser.add_argument("--tls", action="store_true", help="the example speaks TLS, to a relay")
    parser.add_argument("--ledger", action="store_true", help="write what was found to LEDGER.json")
    parser.add_argument("--limit", type=float, default=7200.0, metavar="SECONDS",
                        help="for one set and role (default 7200)")  # fmt: skip
    parser.add_argument("--keep", default=KEPT, metavar="FOLDER", help="for reports and logs")
    options = parser.parse_args()
    program = wstest()
    if program is None:
        say(
            "\n*** CONFORMANCE NOT TESTED: the Autobahn test suite needs Python 2.7, and there is\n"
            f"*** none here (set PYTHON27). NOT RUN: set {options.set}, role {options.role}.\n"
        )
        return 0
    return run_all(program, options)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is ended
    try:
        sys.exit(main())
    except (BrokenRunError, subprocess.SubprocessError, WebSocketException, OSError) as error:
        say(f"conformance: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
