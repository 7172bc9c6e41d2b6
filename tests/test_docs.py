"""The examples of the documentation run, and what it lists is what there is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conformance import ledger
from fake_world import right_answer

import crosswire
from crosswire import UsageError, load_config, parse_config
from crosswire.capture import read_jsonl
from crosswire.codec import encode_frame
from crosswire.demo import Demo, DemoOptions
from crosswire.receive.websocket import CLOSE_LIMIT_S, HANDSHAKE_LIMIT_S, STALL_LIMIT_S
from crosswire.seam import System
from crosswire.session import State
from crosswire.sim import (
    FAULT_KINDS,
    REST_FAULT_KINDS,
    Account,
    Chaos,
    ChaosProxy,
    Fault,
    RestAccount,
    RestEntry,
    RestFault,
    SimVenue,
    Strike,
)
from crosswire.sim.plan import Scenario
from crosswire.sim.server import SimServer
from crosswire.venues import venue_names

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)


def blocks() -> list[tuple[str, str]]:
    return [(page.name, code) for page in PAGES for code in BLOCK.findall(page.read_text())]


@pytest.mark.parametrize(("page", "code"), blocks())
def test_every_python_block_of_the_documentation_runs(
    monkeypatch: pytest.MonkeyPatch, page: str, code: str
) -> None:
    """A coroutine that a block would run is closed: it would connect to the venues themselves.
    The clock stands ten seconds behind a full minute, where it begins: at the turn of one, an
    answer's count belongs to either, and limits are not corrected by it."""
    assert page
    monkeypatch.setattr(asyncio, "run", lambda coroutine: coroutine.close())
    ahead_ns = 10_000_000_000 - time.time_ns() % 60_000_000_000
    monkeypatch.setattr(System, "time_ns", lambda _: time.time_ns() + ahead_ns)
    exec(compile(code, page, "exec"), {"__name__": "documentation"})


def test_the_ten_lines_print_what_the_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks()[0][1], {})
    assert re.fullmatch(r"\[1\] \[8\.08\d*\] \[1\.5\]\n", capsys.readouterr().out)


def test_the_end_of_a_demo_in_the_readme_is_as_a_demo_prints_it() -> None:
    def blank(text: str) -> str:
        return re.sub(r"[\d,.]*\d", "0", re.sub(r" +", " ", text))

    readme = (ROOT / "README.md").read_text().partition("The demo ends like this:\n\n")[2]
    shown = "\n".join(line.strip() for line in readme.partition("\n\n")[0].splitlines())
    times = dict.fromkeys(("p50", "p99", "p99_9", "max"), 0)
    numbers = dict.fromkeys(
        ("planted", "found", "missed", "false", "baits", "baits_taken", "baits_real", "messages",
         "lost", "opportunities", "signals"), 0
    )  # fmt: skip
    venues = {name: {"messages": 0, "gaps": 0, "reconnects": 0} for name in venue_names()}
    report = {
        **numbers,
        "wire_to_signal_ns": times,
        "rx_to_signal_ns": times,
        "venues": venues,
        "problems": [],
    }
    summary = Demo(DemoOptions(), say=print).summary(report)
    assert blank(shown) == blank(summary)


def test_every_link_to_a_file_of_the_project_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_error_code_of_the_kernels_is_on_the_page_of_errors() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    source = (ROOT / "csrc" / "base.c").read_text()
    names = re.findall(r'WORDS\(CW_E_\w+,\s*"([a-z0-9-]+)"', source)
    assert len(names) > 20
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_error_of_a_request_is_on_the_page_of_errors() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    sources = (ROOT / "src" / "crosswire" / "http").glob("*.py")
    used = {name for path in sources for name in re.findall(r'"(http-[a-z-]+)"', path.read_text())}
    assert used == set(re.findall(r"^\| `(http-[a-z-]+)` \|", page, re.M))


class TestThePageOfTheConfiguration:
    PAGE = (ROOT / "docs" / "configuration.md").read_text()
    SECTIONS: ClassVar = {
        "engine": ("[engine]", "[engine]"),
        "detect": ("[detect]", "[detect]"),
        "venues.okx": ("[venues.NAME]", "[venues.okx]"),
        "pair[1]": ("[[pair]]", '[[pair]]\na = "okx:A/B"\nb = "binance:A/B"'),
    }

    def rows(self, heading: str) -> dict[str, list[str]]:
        """Return the cells of the table below a heading, by its key."""
        _, found, section = self.PAGE.partition(f"## `{heading}`\n")
        assert found
        lines = section.partition("\n## ")[0].splitlines()
        cells = [
            [cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:3] == "| `"
        ]
        return {row[0].strip("`"): row[1:] for row in cells}

    def known(self, head: str) -> set[str]:
        """Return the keys that a table takes, as its refusal of another tells them."""
        with pytest.raises(UsageError) as caught:
            parse_config(tomllib.loads(f"{head}\nno_such_key = 1"))
        return set(str(caught.value).partition(" takes ")[2].split(", "))

    @pytest.mark.parametrize("name", SECTIONS)
    def test_it_lists_the_keys_that_there_are(self, name: str) -> None:
        heading, head = self.SECTIONS[name]
        assert set(self.rows(heading)) == self.known(head)

    def test_its_defaults_are_those_of_an_empty_configuration(self) -> None:
        config = parse_config({"venues": {"okx": {}}})
        for heading, terms in (
            ("[engine]", config),
            ("[detect]", config),
            ("[venues.NAME]", config.venues["okx"]),
        ):
            for key, (_, _, default, _) in self.rows(heading).items():
                if default.startswith("`") and default != "`open_net_bps`":
                    value = tomllib.loads(f"x = {default.strip('`')}")["x"]
                    assert getattr(terms, key) == value, key

    def test_its_examples_are_accepted_and_use_every_key(self) -> None:
        (text,) = re.findall(r"^```toml\n(.*?)^```", self.PAGE, re.S | re.M)
        assert len(parse_config(tomllib.loads(text)).pairs) == 2
        keys = {key for heading, _ in self.SECTIONS.values() for key in self.rows(heading)}
        assert [key for key in keys - {"insecure"} if f"\n{key} = " not in text] == []


class TestThePageOfTheCommands:
    PAGE = (ROOT / "docs" / "commands.md").read_text()

    def blocks(self, kind: str) -> list[str]:
        return re.findall(rf"^```{kind}\n(.*?)^```", self.PAGE, re.S | re.M)

    def run(self, command: str, data: str = "") -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", *shlex.split(command)]
        return subprocess.run(
            words, input=data, cwd=ROOT, capture_output=True, text=True, timeout=60
        )

    def test_a_replay_prints_the_keys_that_it_lists(self) -> None:
        done = self.run(self.blocks("console")[0].removeprefix("$ "))
        assert done.returncode == 0
        section = self.PAGE.partition("## `crosswire replay`")[2].partition("\n## ")[0]
        assert [key for key in json.loads(done.stdout) if f"`{key}`" not in section] == []

    def test_a_decode_prints_what_it_shows(self) -> None:
        command, _, data = self.blocks("console")[1].partition("\n")
        done = self.run(command.removeprefix("$ "), data)
        assert (done.returncode, done.stdout) == (1, self.blocks("jsonl")[1])

    def test_the_capture_that_it_shows_is_one(self, tmp_path: Path) -> None:
        path = tmp_path / "shown.jsonl"
        path.write_text(self.blocks("jsonl")[0])
        frames = list(read_jsonl(path))
        assert [frame.ts_ns for frame in frames] == [
            1723161256312045000, 1723161256412045001, 1723161256412045001,
        ]  # fmt: skip
        done = self.run(f"crosswire replay binance={path} --json")
        assert (done.returncode, json.loads(done.stdout)["messages"]) == (0, 3)
        done = self.run(f"crosswire decode binance {path} --json")
        last = done.stdout.splitlines()[-1]
        assert (done.returncode, json.loads(last)) == (0, {"records": 2, "errors": 0})

    def test_the_failure_that_it_shows_is_what_is_printed(self) -> None:
        done = self.run("crosswire replay -c gone.toml binance=x --json")
        assert done.returncode == 2
        assert json.loads(done.stdout) == json.loads(self.blocks("json")[0])


def test_what_a_bot_defines_it_also_runs() -> None:
    bots = [code for _, code in blocks() if "async def main" in code]
    assert bots
    assert all("\nasyncio.run(main())\n" in code for code in bots)


def test_the_error_of_a_decoded_file_is_on_the_page_of_errors() -> None:
    assert "`frame-text`" in (ROOT / "docs" / "errors.md").read_text()


class TestThePageOfTheSignals:
    PAGE = (ROOT / "docs" / "signals.md").read_text()

    def fields(self, heading: str) -> set[str]:
        """Return the names in the first column of the table below a heading."""
        _, found, table = self.PAGE.partition(f"| {heading} | meaning |\n")
        assert found
        rows = table.partition("\n\n")[0].splitlines()[1:]
        return {name for row in rows for name in re.findall(r"`(\w+)", row.split("|")[1])}

    @pytest.mark.parametrize(
        ("heading", "dtype"),
        [
            ("field of a quote", crosswire.QUOTE_DTYPE),
            ("field of a trade", crosswire.TRADE_DTYPE),
            ("field", crosswire.SIGNAL_DTYPE),
            ("field of a leg", crosswire.SIGNAL_DTYPE["legs"].base),
        ],
    )
    def test_every_field_of_a_record_is_in_its_table(self, heading: str, dtype: Any) -> None:
        assert self.fields(heading) == set(dtype.names)

    def test_every_reason_to_close_is_told(self) -> None:
        header = (ROOT / "src/crosswire/include/crosswire/signal.h").read_text()
        reasons = dict(re.findall(r"CW_CLOSE_(\w+) = (\d)", header))
        (words,) = re.findall(r"`close_reason` 1 .*?\n\n", self.PAGE, re.S)
        assert set(re.findall(r"\b\d\b", words)) == set(reasons.values()) - {reasons["NONE"]}


class TestThePageOfThePythonApi:
    PAGE = (ROOT / "docs" / "python-api.md").read_text()

    def test_every_name_of_the_package_is_on_it_or_on_the_page_of_errors(self) -> None:
        pages = self.PAGE + (ROOT / "docs" / "errors.md").read_text()
        names = [name for name in crosswire.__all__ if name != "__version__"]
        assert [name for name in names if not re.search(rf"`{name}\b", pages)] == []

    def test_every_member_of_a_runtime_is_on_it(self) -> None:
        runtime = crosswire.Runtime(parse_config({}))
        names = {name for name in (*vars(runtime), *dir(runtime)) if name[0] != "_"}
        inner = {"config", "seam", "on_opened", "on_covered", "on_lost", "on_state"}
        assert [name for name in names - inner if not re.search(rf"`{name}\b", self.PAGE)] == []

    def test_every_state_of_a_session_is_on_it(self) -> None:
        page = (ROOT / "docs" / "connections.md").read_text()
        assert [s.value for s in State if f"| `{s.value}`" not in page and
                f"`, `{s.value}` |" not in page] == []  # fmt: skip

    def test_every_option_of_the_simulator_is_on_it_with_its_default(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "crosswire.sim", "--help"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        options = set(re.findall(r"(--[a-z][a-z-]+)", done.stdout)) - {"--help"}
        rows = dict(re.findall(r"^\| `(--[a-z-]+)` \| (.*?) \|", self.PAGE, re.M))
        assert set(rows) == options
        for name in ("seconds", "seed", "min-net-bps", "liveness-limit-s", "rate"):
            told = float(rows[f"--{name}"].replace(",", ""))
            assert told == getattr(Scenario(), name.replace("-", "_")), name

    def test_a_bot_finds_offline_what_was_planted(self) -> None:
        done = subprocess.run(
            [sys.executable, "examples/offline.py", "2.5"],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        *opened, last = done.stdout.splitlines()
        counts = re.fullmatch(r"planted (\d+), opened (\d+)", last)
        assert counts
        assert int(counts[1]) > 0
        assert int(counts[2]) == len(opened) > 0
        assert all(re.fullmatch(r"buy \S+ sell \S+ \+\d+\.\d\d bps", line) for line in opened)


class TestThePageOfWebSocket:
    PAGE = (ROOT / "docs" / "websocket.md").read_text()
    ERRORS = (ROOT / "docs" / "errors.md").read_text()

    def test_its_server_and_client_talk_as_it_says(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (code,) = [code for code in BLOCK.findall(self.PAGE) if "create_server" in code]
        exec(code, {})
        assert f"It prints `{capsys.readouterr().out.strip()}`" in self.PAGE

    def test_every_limit_is_on_it_with_its_default(self) -> None:
        rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", self.PAGE, re.M))
        source = (ROOT / "src" / "crosswire" / "connection.pyx").read_text()
        signature = source.partition("def __cinit__(self, *,")[2].partition("):")[0]
        limits = dict(re.findall(r"(\w+)=(\d[\d <]*)", signature))
        limits |= {"handshake_limit_s": "10", "close_limit_s": "2", "stall_limit_s": "30"}
        assert (HANDSHAKE_LIMIT_S, CLOSE_LIMIT_S, STALL_LIMIT_S) == (10, 2, 30)
        assert {name: int(told.replace(",", "")) for name, told in rows.items()} == {
            name: eval(value) for name, value in limits.items()
        }

    def test_it_gives_each_error_the_close_code_that_the_page_of_errors_gives(self) -> None:
        told = {
            name: code
            for code, names in re.findall(r"^\| (1\d{3}) \| (.*) \|$", self.PAGE, re.M)
            for name in re.findall(r"`([a-z0-9-]+)`", names)
        }
        assert told == dict(re.findall(r"^\| `([\w-]+)` \| (\d{4}) \|", self.ERRORS, re.M))

    def test_every_option_of_the_run_is_on_it(self) -> None:
        done = subprocess.run(
            [sys.executable, "tests/conformance/run.py", "--help"],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        options = set(re.findall(r"(--[a-z-]+)", done.stdout)) - {"--help", "--limit", "--keep"}
        assert options == set(re.findall(r"^\| `(--[a-z-]+)", self.PAGE, re.M))

    def test_what_it_says_of_conformance_is_what_the_ledger_says(self) -> None:
        rows = re.findall(r"^\| (\w+): .* \| (\d+) \| (\d+) OK.* \| (\d+) OK", self.PAGE, re.M)
        told = {
            (name, int(cases), role, int(count))
            for name, cases, *counts in rows
            for role, count in zip(("client", "server"), counts, strict=True)
        }
        assert told == {
            (row["set"], row["cases"], row["role"], row["messages"]["OK"])
            for row in ledger.read()
        }  # fmt: skip


class TestThePageOfTheChaosProxy:
    PAGE = (ROOT / "docs" / "chaos.md").read_text()

    def test_its_example_prints_what_it_says(self, capsys: pytest.CaptureFixture[str]) -> None:
        exec(BLOCK.findall(self.PAGE)[0], {})
        assert f"It prints `{capsys.readouterr().out.strip()}`" in self.PAGE

    def test_every_kind_is_on_it_with_its_parameters(self) -> None:
        table = self.PAGE.partition("| kind |")[2].partition("\n\n")[0]
        rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*?) \|", table, re.M))
        assert tuple(rows) == FAULT_KINDS
        for kind, told in rows.items():
            for name in ("seconds", "bytes_per_s", "size", "bit", "span"):
                is_taken = f"takes no {name}" not in self.refusal(kind, name)
                assert is_taken == (f"`{name}`" in told), (kind, name)

    def refusal(self, kind: str, name: str) -> str:
        """Return what is said where a kind is given one parameter and no other."""
        try:
            Fault(kind, **{name: 1})  # type: ignore[arg-type]
        except UsageError as error:
            return str(error)
        return ""

    def test_every_field_of_an_account_is_on_it(self) -> None:
        names = {*vars(Account()), *Strike.__dataclass_fields__, "lost", "repeated", "expected"}
        assert [name for name in names if not re.search(rf"`(account\.)?{name}\b", self.PAGE)] == []

    def test_every_default_is_on_it(self) -> None:
        chaos = Chaos()
        assert f"`every_bytes` ({chaos.every_bytes:,})" in self.PAGE
        assert f"`spare_bytes` ({chaos.spare_bytes})" in self.PAGE
        assert f"`ahead_max` ({ChaosProxy('::1', 1).ahead_max >> 10} KiB)" in self.PAGE


class TestThePageOfTheRestServer:
    PAGE = (ROOT / "docs" / "sim-rest.md").read_text()

    def test_its_example_prints_what_it_says(self, capsys: pytest.CaptureFixture[str]) -> None:
        exec(BLOCK.findall(self.PAGE)[0], {})
        first, second, third = capsys.readouterr().out.splitlines()
        assert f"It prints `{first}`, `{second}` and `{third}`" in self.PAGE

    def test_every_kind_is_on_it_with_its_versions_parameters_and_outcome(self) -> None:
        table = self.PAGE.partition("| kind |")[2].partition("\n\n")[0]
        rows = re.findall(r"^\| `([a-z-]+)` \| (\S+) \| (.*?) \| .* \| (\w+) \|$", table, re.M)
        assert tuple(row[0] for row in rows) == REST_FAULT_KINDS
        for kind, versions, told, outcome in rows:
            names = set(re.findall(r"`(\w+)`", told))
            needed = {name: 1 for name in names if f"`{name}` (" not in told}
            fault = RestFault(kind, **needed)  # type: ignore[arg-type]
            for name in ("seconds", "size", "status", "variant"):
                is_taken = getattr(fault, name) is not None or (kind, name) == ("truncate", "size")
                assert is_taken == (name in names), (kind, name)
            suits = {"both": (True, True), "1.1": (True, False), "2": (False, True)}[versions]
            assert (fault.suits("1.1"), fault.suits("2")) == suits, kind
            assert fault.carries_out == (outcome == "yes"), kind
            if outcome == "never":
                with pytest.raises(UsageError):
                    RestFault(kind, carries_out=True)

    def test_every_field_of_the_account_is_on_it(self) -> None:
        fields = {*RestEntry.__dataclass_fields__, *vars(RestAccount())}
        assert [name for name in fields if f"`{name}`" not in self.PAGE] == []

    def test_every_endpoint_is_on_it(self) -> None:
        rows = set(re.findall(r"^\| `([A-Z]+) (/\w+)", self.PAGE, re.M))
        assert rows == set(SimVenue().routes())


def test_every_field_of_the_demos_report_is_on_its_page() -> None:
    page = (ROOT / "docs" / "demo.md").read_text()
    source = (ROOT / "src" / "crosswire" / "demo.py").read_text()
    report = source.partition("def _report(")[2].partition("def summary(")[0]
    names = re.findall(r'^            "(\w+)":', report, re.M)
    assert len(names) > 15
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_example_configuration_is_accepted() -> None:
    config = load_config(ROOT / "examples" / "config.toml")
    assert [p.open_net_bps for p in config.pairs] == [0.5, 2.0]
    assert config.venues["binance.usdm"].fee_bps == 5.0


def test_the_replay_example_prints_what_opened() -> None:
    program = ROOT / "examples" / "replay_spot_perp.py"
    out = subprocess.run(
        [sys.executable, program, "2"], capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert len(out) == 10
    assert out[-1].startswith("9 opportunities")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bot.py", ()),
        ("bot.py", ("gone.toml",)),
        ("bot.py", ("examples/config.toml", "soon")),
        ("bot.py", ("examples/config.toml", "-5")),
        ("bot.py", ("examples/config.toml", "0")),
        ("bot.py", ("examples/config.toml", "inf")),
        ("bot.py", ("/dev/null",)),
        ("replay_spot_perp.py", ("much",)),
        ("replay_spot_perp.py", ("1e9",)),
    ],
)
def test_an_example_that_is_used_wrongly_says_so(name: str, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, f"examples/{name}", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"usage: {name}")
    assert "Traceback" not in done.stderr


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A configuration of a venue that nobody serves: port 1 of this machine."""
    path = tmp_path / "nowhere.toml"
    path.write_text('[venues.okx]\nurl = "ws://127.0.0.1:1/"\n')
    return path


def test_the_bot_example_tells_which_session_is_not_live_and_why(nowhere: Path) -> None:
    done = subprocess.run(
        [sys.executable, "examples/bot.py", nowhere, "0.3"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "okx: 0 messages, 0 losses\n")
    assert done.stderr.splitlines()[-1] == "nothing was received"
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("not live after")]
    assert "okx (" in told
    assert "ConnectionRefusedError" in told
    assert "WARNING crosswire.session: okx at 127.0.0.1:1: " in done.stderr


async def test_the_bot_example_goes_on_where_one_subscription_is_refused(tmp_path: Path) -> None:
    arg = {"channel": "bbo-tbt", "instId": "BTC-USDT"}
    gone = {"channel": "bbo-tbt", "instId": "XYZ-USDT"}
    answers = {
        "okx": [
            {"event": "subscribe", "arg": arg},
            {"event": "error", "code": "60018", "msg": "doesn't exist", "arg": gone},
        ],
        "binance": [{"result": None, "id": 1}],
    }

    async def venue(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(right_answer(await reader.readuntil(b"\r\n\r\n")))
        await reader.read(1)
        for answer in answers[name]:
            writer.write(encode_frame(1, json.dumps(answer).encode()))
        await reader.read()
        writer.close()

    text = ""
    async with contextlib.AsyncExitStack() as stack:
        for name in answers:
            server = await asyncio.start_server(partial(venue, name), "127.0.0.1", 0)
            port = (await stack.enter_async_context(server)).sockets[0].getsockname()[1]
            text += f'[venues.{name}]\nurl = "ws://127.0.0.1:{port}/"\n'
        for symbol in ("BTC/USDT", "XYZ/USDT"):
            text += f'[[pair]]\na = "okx:{symbol}"\nb = "binance:{symbol}"\n'
        path = tmp_path / "refused.toml"
        path.write_text(text)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "examples/bot.py", str(path), "2",
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
    assert process.returncode == 0
    assert sorted(out.splitlines()) == [
        b"binance: 1 messages, 0 losses", b"okx: 2 messages, 0 losses"
    ]  # fmt: skip
    assert b"XYZ-USDT: " in err
    assert b"; going on with the rest\n" in err
    assert b"Traceback" not in err


def test_the_bot_example_is_interrupted_without_a_traceback(nowhere: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "examples/bot.py", nowhere],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    assert "WARNING" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


async def test_the_bot_example_runs_against_local_venues(tmp_path: Path) -> None:
    scenario = Scenario(seed=5, seconds=2.5)
    async with SimServer(scenario) as server:
        ready = server.ready()
        text = (ROOT / "examples" / "config.toml").read_text()
        for name, key in (("binance", "binance"), ("binance.usdm", "binance.usdm"), ("okx", "okx")):
            url = ready["venues"][name]["url"]
            text = text.replace(
                f"[venues.{key}]\n", f'[venues.{key}]\nurl = "{url}"\nca_file = "{ready["ca"]}"\n'
            )
        config = tmp_path / "config.toml"
        config.write_text(text)
        task = server.run()
        program = ROOT / "examples" / "bot.py"
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), str(config), "2.5", stdout=asyncio.subprocess.PIPE
        )
        await task
        out, _ = await process.communicate()
    assert process.returncode == 0
    counts = re.findall(r"^(\S+): (\d+) messages", out.decode(), re.M)
    assert [name for name, _ in counts] == ["binance", "binance.usdm", "okx"]
    assert all(int(count) > 0 for _, count in counts)
