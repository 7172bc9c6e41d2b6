"""The command line's contract: exit codes, one JSON object last on stdout, words on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

import crosswire
from crosswire.capture import Kind, RecordingWriter, read_recording
from crosswire.cli import main
from crosswire.codec import encode_frame
from crosswire.demo import DemoOptions
from crosswire.errors import UsageError
from crosswire.sim import Verdict
from crosswire.venue import SimQuote
from crosswire.venues import dialect, venue, venue_names

TS = 1_786_000_000_000_000_000


class Run:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def json(self) -> dict[str, Any]:
        """Return the object in the last line of stdout."""
        value = json.loads(self.out.splitlines()[-1])
        assert isinstance(value, dict)
        return value


def run(*arguments: str, stdin: str = "") -> Run:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(arguments)
            except SystemExit as end:
                code = int(end.code or 0)
    finally:
        sys.stdin = before
    return Run(code, out.getvalue(), err.getvalue())


def spawn(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "crosswire", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def buffering() -> dict[str, str]:
    """Return an environment in which what is printed waits for a flush, as it does by default."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}


def quote(name: str, number: int, bid: str = "100", ask: str = "101") -> str:
    """Return a quote as the venue writes it."""
    text = SimQuote(bid, "1", ask, "1", number, TS // 1_000_000)
    return dialect(name).quote(venue(name).native("BTC/USDT"), text)


@pytest.fixture
def captures(tmp_path: Path) -> dict[str, str]:
    """Write a capture per venue; the second venue's prices lie above the first one's."""
    found: dict[str, str] = {}
    for place, name in enumerate(venue_names()):
        path = tmp_path / f"{name}.jsonl"
        bid, ask = f"{100 + 5 * place}", f"{101 + 5 * place}"
        rows = [
            {"dir": "recv", "ts_ns": str(TS + 1000 * n + place), "raw": quote(name, n, bid, ask)}
            for n in range(1, 6)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found[name] = str(path)
    return found


FIRST, SECOND = venue_names()[:2]


class TestHelp:
    def test_it_names_every_command(self) -> None:
        result = run("--help")
        assert result.code == 0
        assert all(word in result.out for word in ("demo", "replay", "decode"))
        assert result.err == ""

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            ("demo", ["--seconds", "--seed", "--venues", "--faults", "--record", "--json"]),
            ("replay", ["VENUE=CAPTURE", "--config", "--fee-bps", "--min-net-bps", "--speed",
                        "--json"]),
            ("decode", ["VENUE", "FILE", "--encoding", "--schema", "--json"]),
        ],
    )  # fmt: skip
    def test_every_command_tells_its_options(self, command: str, words: list[str]) -> None:
        result = run(command, "--help")
        assert result.code == 0
        assert [word for word in words if word not in result.out] == []

    @pytest.mark.parametrize("command", ["demo", "replay", "decode"])
    def test_every_option_with_a_value_tells_its_default(self, command: str) -> None:
        words = " ".join(run(command, "--help").out.split())
        options = words.partition(" options: ")[2].replace("-c FILE, ", "").replace("-c, ", "")
        told = re.split(r" (?=-{1,2}[a-z][\w-]*(?:[ ,]|$))", options)
        valued = [text for text in told if re.match(r"--?[\w-]+ (?:[A-Z]+|\{)", text)]
        assert len(valued) >= 2
        assert [text for text in valued if "(default" not in text] == []

    def test_decode_tells_which_encodings_there_are(self) -> None:
        words = " ".join(run("decode", "--help").out.split())
        assert "json is decoded, others are refused in this version" in words

    @pytest.mark.parametrize(
        "option", [("--encoding", "msgpack"), ("--encoding", "sbe"), ("--schema", "a.xml")]
    )
    def test_what_decode_has_not_is_refused_by_its_name(self, option: tuple[str, str]) -> None:
        result = run("decode", FIRST, *option)
        named = " ".join(option) if option[0] == "--encoding" else option[0]
        words = "not in this version, which decodes json; leave it out"
        assert (result.code, result.err) == (2, f"crosswire: {named}: {words}\n")

    def test_the_version_is_told(self) -> None:
        result = run("--version")
        assert (result.code, result.out.strip()) == (0, f"crosswire {crosswire.__version__}")


class TestWrongUse:
    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("bogus",),
            ("demo", "--bogus"),
            ("demo", "--seconds", "x"),
            ("demo", "--seed", "1.5"),
            ("demo", "--loop", "trio"),
            ("demo", "--venues", ""),
            ("demo", "--venues", "nowhere,elsewhere"),
            ("demo", "--venues", FIRST),
            ("demo", "extra"),
            ("replay",),
            ("replay", "capture.jsonl"),
            ("replay", "=capture.jsonl"),
            ("replay", f"{FIRST}="),
            ("replay", "nowhere=capture.jsonl"),
            ("replay", f"{FIRST}=gone.jsonl"),
            ("replay", f"{FIRST}=gone.jsonl", "--speed", "2"),
            ("replay", f"{FIRST}=gone.jsonl", "--fee-bps", "x"),
            ("decode",),
            ("decode", "nowhere"),
            ("decode", FIRST, "gone.jsonl"),
            ("decode", FIRST, "."),
            ("decode", FIRST, "--encoding", "xml"),
            ("decode", FIRST, "--encoding", "sbe"),
            ("decode", FIRST, "--encoding", "msgpack"),
            ("decode", FIRST, "--schema", "a.xml"),
        ],
    )
    def test_it_ends_with_2_says_why_on_stderr_and_nothing_else_on_stdout(
        self, arguments: tuple[str, ...]
    ) -> None:
        for words in (arguments, (*arguments, "--json")):
            result = run(*words)
            assert result.code == 2
            if "--json" in words:
                assert len(result.out.splitlines()) == 1
                assert result.json()["error"]["kind"] == "usage"
            else:
                assert result.out == ""
            assert result.err != ""
            assert "Traceback" not in result.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--seconds", "1"),
            ("--seconds", "nan"),
            ("--seconds", "inf"),
            ("--seconds", "-5"),
            ("--faults", "bogus"),
            ("--venues", f"{FIRST},{FIRST}"),
        ],
    )
    def test_a_demo_that_cannot_be_is_wrong_use_and_not_a_broken_machine(
        self, arguments: tuple[str, ...]
    ) -> None:
        process = spawn("demo", *arguments)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 2, err
        assert out == ""
        assert "pip install" not in err
        assert "Traceback" not in err

    @pytest.mark.parametrize("seconds", ["0", "-5", "nan", "inf", "1.9", "601", "1e9"])
    def test_a_length_that_no_demo_has_is_told_with_those_it_may_have(self, seconds: str) -> None:
        result = run("demo", "--seconds", seconds)
        said = f"crosswire: a run lasts 2 to 600 seconds, not {float(seconds):g}\n"
        assert (result.code, result.out, result.err) == (2, "", said)
        assert "2 to 600" in run("demo", "--help").out

    @pytest.mark.parametrize("names", ["nowhere", "", FIRST, f"{FIRST},{FIRST}", "nowhere,other"])
    def test_venues_that_make_no_demo_are_told_with_those_that_exist(self, names: str) -> None:
        result = run("demo", "--venues", names)
        assert (result.code, result.out) == (2, "")
        assert [name for name in venue_names() if name not in result.err] == []
        assert len(result.err.splitlines()) == 1

    def test_a_record_that_cannot_be_written_is_told_before_the_simulator_starts(
        self, tmp_path: Path
    ) -> None:
        for path in (tmp_path, tmp_path / "gone" / "kept.cwrec"):
            result = run("demo", "--seconds", "2", "--record", str(path))
            assert (result.code, result.out) == (2, "")
            assert result.err.startswith(f"crosswire: {path}: ")
            assert len(result.err.splitlines()) == 1

    @pytest.mark.parametrize("names", [f"{FIRST}, {SECOND}", f" {FIRST} ,{SECOND} ,"])
    def test_spaces_beside_the_commas_of_a_demo_are_none_of_a_name(
        self, monkeypatch: pytest.MonkeyPatch, names: str
    ) -> None:
        asked: list[DemoOptions] = []

        def take(options: DemoOptions, **_: Any) -> None:
            asked.append(options)
            raise UsageError("taken")

        monkeypatch.setattr("crosswire.cli.Demo", take)
        assert run("demo", "--venues", names, "--faults", "cut, refuse").code == 2
        assert (asked[0].venues, asked[0].faults) == ((FIRST, SECOND), ("cut", "refuse"))

    @pytest.mark.parametrize("words", [(f"{FIRST}=-",), ("-",)])
    def test_a_replay_of_standard_input_is_told_to_need_a_file(self, words: tuple[str]) -> None:
        result = run("replay", *words)
        assert (result.code, result.out) == (2, "")
        assert "reads its captures twice; write standard input to a file first" in result.err

    def test_options_may_stand_among_captures_and_files(self, captures: dict[str, str]) -> None:
        one, other = (f"{name}={captures[name]}" for name in (FIRST, SECOND))
        inside, behind = (
            run("replay", one, "--fee-bps", "1.75", other, "--json"),
            run("replay", one, other, "--fee-bps", "1.75", "--json"),
        )
        assert (inside.code, inside.out) == (0, behind.out)
        first = run("decode", "--json", FIRST, captures[FIRST])
        assert run("decode", FIRST, "--json", captures[FIRST]).out == first.out

    def test_an_unknown_venue_is_told_with_those_that_exist(self) -> None:
        for arguments in (("replay", "nowhere=x"), ("demo", "--venues", "nowhere,elsewhere")):
            result = run(*arguments)
            assert all(name in result.err for name in venue_names())

    @pytest.mark.parametrize("value", ["nan", "inf", "1e9", "-1000000", "much", ""])
    @pytest.mark.parametrize(
        ("option", "within"), [("--fee-bps", "-100..500"), ("--min-net-bps", "-4999..999999")]
    )
    def test_an_impossible_fee_or_threshold_is_refused_as_in_a_configuration(
        self, captures: dict[str, str], option: str, within: str, value: str
    ) -> None:
        result = run("replay", f"{FIRST}={captures[FIRST]}", option, value)
        known = f"must be within {within}, not {value}"
        said = known if value not in ("much", "") else f"must be a number, not {value!r}"
        assert (result.code, result.out) == (2, "")
        assert result.err.splitlines()[-1] == f"crosswire: argument {option}: {said}"

    @pytest.mark.parametrize(
        ("option", "low", "high"),
        [("--fee-bps", "-100", "500"), ("--min-net-bps", "-4999", "999999")],
    )
    def test_a_fee_or_threshold_may_stand_at_either_end_of_its_range(
        self, captures: dict[str, str], option: str, low: str, high: str
    ) -> None:
        both = [f"{name}={captures[name]}" for name in (FIRST, SECOND)]
        for value in (low, high):
            assert run("replay", *both, option, value).code == 0

    def test_a_configuration_that_is_refused_ends_with_2_and_its_key(
        self, tmp_path: Path, captures: dict[str, str]
    ) -> None:
        path = tmp_path / "bad.toml"
        path.write_text("[engine]\nbogus = 1\n")
        for config, word in ((path, "engine.bogus"), (tmp_path / "gone.toml", "gone.toml")):
            result = run("replay", f"{FIRST}={captures[FIRST]}", "-c", str(config))
            assert (result.code, result.out) == (2, "")
            assert word in result.err

    def test_a_recording_torn_in_its_first_entry_is_refused_with_the_byte(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "torn.cwrec"
        with RecordingWriter(path) as writer:
            writer.write_json(Kind.OPENED, 1, TS, TS, {"venue": FIRST, "url": ""})
        path.write_bytes(path.read_bytes()[:-3])
        result = run("replay", f"{FIRST}={path}")
        assert (result.code, result.out) == (1, "")
        assert "torn entry at byte 16" in result.err

    def test_a_capture_that_is_none_ends_with_1_and_the_line(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.jsonl"
        path.write_text('{"dir":"send","raw":"x"}\nno json\n')
        result = run("replay", f"{FIRST}={path}")
        assert (result.code, result.out) == (1, "")
        assert "line 2" in result.err

    def test_an_unknown_instruction_set_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, captures: dict[str, str]
    ) -> None:
        monkeypatch.setenv("CROSSWIRE_ISA", "mmx")
        result = run("replay", f"{FIRST}={captures[FIRST]}")
        assert result.code == 2
        assert "mmx" in result.err
        assert "Traceback" not in result.err


class TestFailureAsJson:
    """``--json`` prints one object whatever happens, with the exit code that it had without."""

    def fail(self, *arguments: str) -> tuple[int, dict[str, str], str]:
        """Run with and without ``--json``; return the code, the error and stderr's last line."""
        plain, result = run(*arguments), run(*arguments, "--json")
        assert (plain.code, plain.out) == (result.code, "")
        assert len(result.out.splitlines()) == 1
        assert list(result.json()) == ["error"]
        error = result.json()["error"]
        assert list(error) == ["kind", "text"]
        assert result.err.splitlines()[-1] == f"crosswire: {error['text']}"
        return result.code, error, plain.err

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("bogus",),
            ("demo", "--seconds", "x"),
            ("demo", "--venues", "nowhere,elsewhere"),
            ("demo", "--record", "/gone/away/kept.cwrec"),
            ("replay",),
            ("replay", f"{FIRST}=gone.jsonl"),
            ("replay", "-c", "gone.toml", "/dev/null"),
            ("decode",),
            ("decode", FIRST, "gone.jsonl"),
            ("decode", FIRST, "--encoding", "sbe"),
        ],
    )
    def test_wrong_use_is_of_kind_usage(self, arguments: tuple[str, ...]) -> None:
        code, error, _ = self.fail(*arguments)
        assert (code, error["kind"]) == (2, "usage")

    def test_a_bad_file_is_of_kind_recording(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.jsonl"
        path.write_text("no json\n")
        code, error, _ = self.fail("replay", f"{FIRST}={path}")
        assert (code, error["kind"]) == (1, "recording")
        assert "line 1" in error["text"]

    def test_what_is_missing_on_the_machine_is_of_kind_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "uvloop", None)
        code, error, _ = self.fail("demo", "--seconds", "2")
        assert (code, error["kind"]) == (3, "environment")
        assert "--loop asyncio" in error["text"]

    def test_records_that_were_printed_come_before_it(self, tmp_path: Path) -> None:
        path = tmp_path / "frames.gz"
        path.write_bytes(gzip.compress(quote(FIRST, 1).encode() + b"\n")[:-4])
        result = run("decode", FIRST, str(path), "--json")
        assert result.code == 1
        first, last = (json.loads(line) for line in result.out.splitlines())
        assert (first["record"], last["error"]["kind"]) == ("quote", "recording")

    def test_an_output_that_is_full_takes_none_and_ends_with_3(self, tmp_path: Path) -> None:
        path = tmp_path / "frames"
        path.write_text(quote(FIRST, 1) + "\n")
        with open("/dev/full", "w") as full:
            process = subprocess.run(
                [sys.executable, "-m", "crosswire", "decode", FIRST, str(path), "--json"],
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, env=buffering(),
            )  # fmt: skip
        assert process.returncode == 3
        assert process.stderr == "crosswire: No space left on device\n"


class TestReplay:
    def arguments(self, captures: dict[str, str]) -> list[str]:
        return [f"{name}={path}" for name, path in captures.items()]

    def test_a_right_one_ends_with_0_and_the_contracts_object(
        self, captures: dict[str, str]
    ) -> None:
        result = run("replay", *self.arguments(captures), "--json", "--fee-bps", "1")
        assert result.code == 0
        report = result.json()
        assert {"messages", "errors", "signals", "opens", "signals_sha256", "venues"} <= set(report)
        assert len(result.out.splitlines()) == 1
        assert report["messages"] == 5 * len(captures)
        assert report["errors"] == 0
        assert report["opens"] > 0
        assert len(bytes.fromhex(report["signals_sha256"])) == 32
        assert set(report["venues"]) == set(captures)
        for place, name in enumerate(venue_names()):
            fields = report["venues"][name][venue(name).native("BTC/USDT")]
            assert set(fields) == {"counts", "top", "book"}
            assert sum(fields["counts"].values()) == 5
            assert fields["top"] == {
                "bid": 100.0 + 5 * place, "bid_qty": 1.0, "ask": 101.0 + 5 * place,
                "ask_qty": 1.0, "seq": 5,
            }  # fmt: skip
            assert fields["book"] is None

    def test_fees_and_thresholds_of_the_command_line_count(self, captures: dict[str, str]) -> None:
        def opens(*options: str) -> int:
            result = run("replay", *self.arguments(captures), "--json", *options)
            return int(result.json()["opens"])

        assert opens("--fee-bps", "0") > 0
        assert opens("--fee-bps", "499") == 0
        assert opens("--fee-bps", "0", "--min-net-bps", "4999") == 0

    def test_a_configuration_counts(self, tmp_path: Path, captures: dict[str, str]) -> None:
        path = tmp_path / "a.toml"
        symbols = {
            name: venue(name).unified(venue(name).native("BTC/USDT")) for name in venue_names()
        }
        path.write_text(
            f'[detect]\nopen_net_bps = 1\n[[pair]]\na = "{FIRST}:{symbols[FIRST]}"\n'
            f'b = "{SECOND}:{symbols[SECOND]}"\n'
        )
        result = run("replay", *self.arguments(captures), "--json", "-c", str(path))
        assert result.code == 0
        assert result.json()["opens"] == 1

    def test_bad_messages_end_with_1(self, captures: dict[str, str]) -> None:
        with open(captures[FIRST], "a") as file:
            file.write(json.dumps({"dir": "recv", "raw": '{"s":'}) + "\n")
        result = run("replay", *self.arguments(captures), "--json")
        assert result.code == 1
        assert result.json()["errors"] == 1
        assert sum(result.json()["error_names"].values()) == 1

    def test_without_json_there_are_words(self, captures: dict[str, str]) -> None:
        result = run("replay", *self.arguments(captures))
        assert result.code == 0
        assert "15 messages, 0 errors" in result.out
        assert result.err.startswith("replaying ")

    def test_the_words_part_every_count_by_thousands(self, tmp_path: Path) -> None:
        path = tmp_path / "many.jsonl"
        rows = [{"dir": "recv", "ts_ns": str(TS), "raw": "{"}] * 1234
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        lines = run("replay", f"{FIRST}={path}").out.splitlines()
        assert lines[0] == "1,234 messages, 1,234 errors, 0 opens, 0 signals"
        assert "! 1,234 x json-cut" in lines

    def test_the_words_hold_prices_in_full(self, tmp_path: Path) -> None:
        path = tmp_path / "exact.jsonl"
        row = {"dir": "recv", "ts_ns": str(TS), "raw": quote(FIRST, 1, "61828.25", "1234567.125")}
        path.write_text(json.dumps(row))
        assert ": 61828.25 / 1234567.125; " in run("replay", f"{FIRST}={path}").out

    def test_a_single_venue_is_told_to_have_no_pair(self, captures: dict[str, str]) -> None:
        result = run("replay", f"{FIRST}={captures[FIRST]}", "--json")
        assert result.code == 0
        assert result.err.splitlines()[1:] == [f"no pair to watch: {FIRST} is the only venue"]
        assert "no pair" not in run("replay", *self.arguments(captures), "--json").err

    def test_pairs_that_the_captures_do_not_hold_are_named(
        self, tmp_path: Path, captures: dict[str, str]
    ) -> None:
        path = tmp_path / "other.toml"
        path.write_text('[[pair]]\na = "binance:ETH/USDT"\nb = "okx:ETH/USDT"\n')
        result = run("replay", *self.arguments(captures), "-c", str(path))
        assert result.code == 0
        words = "the captures do not hold binance:ETH/USDT, okx:ETH/USDT"
        assert result.err.splitlines()[1:] == [f"no pair to watch: {words}"]

    def test_a_capture_of_another_venue_is_told_to_be_one(self, captures: dict[str, str]) -> None:
        path = captures[SECOND]
        words = f"warning: {path}: nothing in it is {FIRST}'s; is it another venue's?"
        for others in ((), (f"{SECOND}={path}",)):
            result = run("replay", *others, f"{FIRST}={path}", "--json")
            assert (result.code, result.json()["errors"]) == (1, 5)
            assert result.err.splitlines()[-1] == words
        assert words not in run("replay", f"{SECOND}={path}").err

    def test_that_there_is_no_instrument_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "sent.jsonl"
        path.write_text('{"dir":"send","raw":"{}"}\n')
        result = run("replay", f"{FIRST}={path}")
        assert (result.code, result.err.splitlines()[0]) == (1, "replaying no instrument")
        assert "is it another venue's?" in result.err

    @pytest.mark.parametrize("spelling", ["same", "other"])
    def test_a_capture_given_twice_for_one_venue_is_refused(
        self, captures: dict[str, str], spelling: str
    ) -> None:
        path = captures[FIRST]
        again = path if spelling == "same" else os.path.relpath(path)
        result = run("replay", f"{FIRST}={path}", f"{SECOND}={path}", f"{FIRST}={again}")
        assert (result.code, result.out) == (2, "")
        assert result.err == f"crosswire: {again}: given twice for {FIRST}\n"

    def test_speed_1_gives_the_same_signals(self, captures: dict[str, str]) -> None:
        digests = [
            run("replay", *self.arguments(captures), "--json", "--speed", speed).json()
            for speed in ("max", "1")
        ]
        assert digests[0] == digests[1]

    def test_an_interrupt_ends_with_130(self, tmp_path: Path) -> None:
        path = tmp_path / "long.jsonl"
        rows = [
            {"dir": "recv", "ts_ns": str(TS + gap), "raw": quote(FIRST, n)}
            for n, gap in enumerate((0, 3_600_000_000_000), 1)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        process = spawn("replay", f"{FIRST}={path}", "--speed", "1", "--json")
        assert process.stderr
        assert process.stderr.readline().startswith("replaying")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        # the words before the run come or not, as the signal finds it
        assert (process.returncode, err.splitlines()[-1]) == (130, "interrupted")
        error = {"kind": "interrupted", "text": "interrupted"}
        assert [json.loads(line) for line in out.splitlines()] == [{"error": error}]


class TestARecordingByItsPath:
    """A recording knows its venues; a capture of others does not."""

    def recording(self, path: Path, *names: str, has_config: bool = True) -> str:
        config = {
            "venues": list(names),
            "instruments": [
                {"id": n, "venue": name, "symbol": venue(name).native("BTC/USDT")}
                for n, name in enumerate(names)
            ],
            "pairs": [{"rule": 1, "a": 0, "b": 1}],
            "fees_bps": dict.fromkeys(names, 1.0),
            "liveness_limit_s": dict.fromkeys(names, 5.0),
            "open_net_bps": 0.0,
            "close_net_bps": 0.0,
        }
        with RecordingWriter(path) as writer:
            if has_config:
                writer.write_json(Kind.CONFIG, 0, TS, TS, config)
            for line, name in enumerate(names):
                writer.write_json(Kind.OPENED, line, TS, TS, {"venue": name, "url": ""})
                text = quote(name, 1, f"{100 + 5 * line}", f"{101 + 5 * line}")
                stamp = TS + 1000 + line
                writer.write(Kind.READ, line, stamp, stamp, encode_frame(1, text.encode()))
        return str(path)

    @pytest.mark.parametrize("has_config", [True, False])
    def test_all_venues_in_it_are_replayed(self, tmp_path: Path, has_config: bool) -> None:
        path = self.recording(tmp_path / "a.cwrec", FIRST, SECOND, has_config=has_config)
        result = run("replay", path, "--fee-bps", "1", "--json")
        asked = run("replay", f"{FIRST}={path}", f"{SECOND}={path}", "--fee-bps", "1", "--json")
        assert result.code == 0
        assert result.json() == asked.json()
        assert (result.json()["opens"], list(result.json()["venues"])) == (1, [FIRST, SECOND])
        assert "warning" not in result.err + asked.err

    @pytest.mark.parametrize("has_config", [True, False])
    def test_the_venues_that_are_left_out_are_named(self, tmp_path: Path, has_config: bool) -> None:
        path = self.recording(tmp_path / "a.cwrec", FIRST, SECOND, has_config=has_config)
        result = run("replay", f"{FIRST}={path}")
        assert result.code == 0
        words = f"warning: {path}: leaves out {SECOND}; its bare path takes all venues"
        assert words in result.err.splitlines()

    def test_a_venue_that_is_not_in_it_is_told(self, tmp_path: Path) -> None:
        path = self.recording(tmp_path / "a.cwrec", FIRST, SECOND)
        third = venue_names()[2]
        result = run("replay", f"{third}={path}", "--json")
        words = f"warning: {path}: nothing in it is {third}'s; is it another venue's?"
        assert (result.code, result.err.splitlines()[-1]) == (1, words)

    @pytest.mark.parametrize("named", [True, False])
    def test_one_given_twice_is_refused(self, tmp_path: Path, named: bool) -> None:
        path = self.recording(tmp_path / "a.cwrec", FIRST, SECOND)
        result = run("replay", path, f"{FIRST}={path}" if named else path)
        assert (result.code, result.out) == (2, "")
        assert result.err == f"crosswire: {path}: given twice for {FIRST}\n"

    @pytest.mark.parametrize("whose", ["", f"{FIRST}="])
    def test_a_packed_one_is_told_to_be_unpacked(self, tmp_path: Path, whose: str) -> None:
        path = Path(self.recording(tmp_path / "a.cwrec", FIRST, SECOND))
        packed = tmp_path / "a.cwrec.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        result = run("replay", f"{whose}{packed}")
        assert (result.code, result.out) == (2, "")
        assert result.err == f"crosswire: {packed}: a gzipped recording; gunzip it first\n"

    @pytest.mark.parametrize("whose", ["", f"{FIRST}="])
    @pytest.mark.parametrize("size", [1, 5, 8, 15])
    def test_one_that_ends_in_its_head_is_told_so(
        self, tmp_path: Path, whose: str, size: int
    ) -> None:
        path = Path(self.recording(tmp_path / "a.cwrec", FIRST, SECOND))
        path.write_bytes(path.read_bytes()[:size])
        result = run("replay", f"{whose}{path}")
        words = f"a recording that was cut in its head, at byte {size} of 16"
        assert (result.code, result.out) == (1, "")
        assert result.err == f"crosswire: {path}: {words}; nothing in it can be replayed\n"

    @pytest.mark.parametrize("whose", ["", f"{FIRST}="])
    def test_an_empty_file_is_told_so(self, tmp_path: Path, whose: str) -> None:
        path = tmp_path / "a.cwrec"
        path.touch()
        result = run("replay", f"{whose}{path}")
        assert (result.code, result.out) == (2, "")
        assert result.err == f"crosswire: {path}: nothing to replay; the file is empty\n"

    def test_a_path_may_hold_an_equals_sign_behind_a_slash(self, tmp_path: Path) -> None:
        path = self.recording(tmp_path / "day=1.cwrec", FIRST, SECOND)
        assert run("replay", path, "--json").json()["messages"] == 2

    def test_a_capture_of_others_must_say_whose_it_is(self, captures: dict[str, str]) -> None:
        result = run("replay", captures[FIRST])
        assert (result.code, result.out) == (2, "")
        assert f"VENUE={captures[FIRST]}" in result.err

    def test_a_recording_of_nothing_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.cwrec"
        with RecordingWriter(path):
            pass
        result = run("replay", str(path))
        assert (result.code, result.out) == (2, "")
        assert f"{path}: nothing to replay" in result.err


class TestATornRecording:
    """What stands before the tear was received, and is reported; that it is torn is an error."""

    def recording(self, path: Path, *names: str, count: int = 5) -> Path:
        """Write quotes that cross, in turns, as one recording of several venues."""
        with RecordingWriter(path) as writer:
            for line, name in enumerate(names):
                writer.write_json(Kind.OPENED, line, TS, TS, {"venue": name, "url": ""})
            for n in range(1, count + 1):
                for line, name in enumerate(names):
                    text = quote(name, n, f"{100 + 5 * line}", f"{101 + 5 * line}")
                    stamp = TS + 1000 * n + line
                    writer.write(Kind.READ, line, stamp, stamp, encode_frame(1, text.encode()))
        return path

    def torn(self, whole: Path) -> tuple[Path, int]:
        """Cut the last entry in its middle; return the file and where that entry began."""
        data = whole.read_bytes()
        path = whole.with_suffix(".torn")
        path.write_bytes(data[:-40])
        begins = [16]
        while begins[-1] < len(data):
            size = int.from_bytes(data[begins[-1] + 4 : begins[-1] + 8], "little")
            begins.append(begins[-1] + 32 + size + -size % 8)
        return path, begins[-2]

    def test_it_is_replayed_up_to_the_tear_and_ends_with_1(self, tmp_path: Path) -> None:
        path, at = self.torn(self.recording(tmp_path / "a.cwrec", FIRST, SECOND))
        asked = f"{FIRST}={path}", f"{SECOND}={path}"
        result = run("replay", *asked, "--fee-bps", "1", "--json")
        report = result.json()
        assert (result.code, report["torn_at"]) == (1, at)
        assert (report["messages"], report["errors"], report["opens"]) == (9, 0, 1)
        assert result.err.splitlines()[-1] == f"crosswire: {path}: torn entry at byte {at}"

    def test_the_words_tell_the_byte_too(self, tmp_path: Path) -> None:
        path, at = self.torn(self.recording(tmp_path / "a.cwrec", FIRST))
        result = run("replay", f"{FIRST}={path}")
        assert result.code == 1
        assert "4 messages, 0 errors" in result.out
        assert f"! torn at byte {at}: " in result.out

    def test_a_damaged_entry_in_the_middle_is_a_tear_as_well(self, tmp_path: Path) -> None:
        whole = self.recording(tmp_path / "a.cwrec", FIRST)
        _, at = self.torn(whole)
        data = bytearray(whole.read_bytes())
        data[at + 33] ^= 1
        whole.write_bytes(data)
        report = run("replay", f"{FIRST}={whole}", "--json").json()
        assert (report["torn_at"], report["messages"]) == (at, 4)

    def test_other_files_are_replayed_to_their_ends(self, tmp_path: Path) -> None:
        path, at = self.torn(self.recording(tmp_path / "a.cwrec", FIRST))
        other = self.recording(tmp_path / "b.cwrec", SECOND, count=8)
        report = run("replay", f"{FIRST}={path}", f"{SECOND}={other}", "--json").json()
        assert (report["torn_at"], report["messages"]) == (at, 4 + 8)

    def test_a_whole_one_is_torn_nowhere(self, tmp_path: Path) -> None:
        path = self.recording(tmp_path / "a.cwrec", FIRST)
        result = run("replay", f"{FIRST}={path}", "--json")
        assert (result.code, result.json()["torn_at"]) == (0, None)


class TestDecode:
    def test_good_frames_end_with_0_and_one_line_each(self) -> None:
        lines = "\n".join(quote(FIRST, n) for n in range(1, 4))
        result = run("decode", FIRST, stdin=lines)
        records = [json.loads(line) for line in result.out.splitlines()]
        assert result.code == 0
        assert [record["seq"] for record in records] == [1, 2, 3]
        assert {record["venue"] for record in records} == {FIRST}

    def test_json_adds_one_object_last(self) -> None:
        result = run("decode", FIRST, "--json", stdin=quote(FIRST, 1) + "\nbad\n")
        assert result.code == 1
        assert result.json() == {"records": 1, "errors": 1}
        assert len(result.out.splitlines()) == 3

    def test_a_bad_frame_ends_with_1_and_its_place(self) -> None:
        result = run("decode", FIRST, stdin=quote(FIRST, 1) + "\n\n" + quote(FIRST, 2)[:-3])
        assert result.code == 1
        error = json.loads(result.out.splitlines()[1])
        assert error["line"] == 3
        assert set(error) >= {"error", "at", "line"}

    def test_a_file_and_standard_input_give_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "frames"
        path.write_text(quote(FIRST, 1) + "\n")
        from_file = run("decode", FIRST, str(path))
        assert from_file.out == run("decode", FIRST, "-", stdin=path.read_text()).out != ""

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_recording_of_ours_is_told_to_be_replayed(self, tmp_path: Path, packed: bool) -> None:
        path = tmp_path / "a.cwrec"
        with RecordingWriter(path) as writer:
            writer.write_json(Kind.OPENED, 1, TS, TS, {"venue": FIRST, "url": ""})
        if packed:
            path.write_bytes(gzip.compress(path.read_bytes()))
        result = run("decode", FIRST, str(path))
        words = "a recording of ours; play it with crosswire replay"
        assert (result.code, result.out) == (2, "")
        assert result.err == f"crosswire: {path}: {words}\n"

    def test_an_empty_input_is_in_order(self) -> None:
        result = run("decode", FIRST)
        assert (result.code, result.out, result.err) == (0, "", "")


class TestTheProcess:
    def test_python_m_crosswire_is_the_command(self) -> None:
        process = spawn("--version")
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, f"crosswire {crosswire.__version__}\n", "")

    def test_wrong_use_ends_the_process_with_2(self) -> None:
        process = spawn("replay", "nowhere=x", "--json")
        out, err = process.communicate(timeout=30)
        assert process.returncode == 2
        assert json.loads(out)["error"]["kind"] == "usage"
        assert err.startswith("usage: crosswire")
        assert run("replay", "nowhere=x").out == ""

    def test_a_reader_that_goes_away_is_no_error(self, tmp_path: Path) -> None:
        path = tmp_path / "frames"
        path.write_text("".join(quote(FIRST, n) + "\n" for n in range(1, 5000)))
        process = spawn("decode", FIRST, str(path))
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() != ""
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        assert (process.wait(30), err) == (0, "")

    @pytest.mark.parametrize("count", [1, 5000])
    def test_an_output_that_is_full_ends_with_3_and_one_line(
        self, tmp_path: Path, count: int
    ) -> None:
        path = tmp_path / "frames"
        path.write_text("".join(quote(FIRST, n) + "\n" for n in range(count)))
        with open("/dev/full", "w") as full:
            process = subprocess.run(
                [sys.executable, "-m", "crosswire", "decode", FIRST, str(path)],
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, env=buffering(),
            )  # fmt: skip
        assert process.returncode == 3
        assert process.stderr == "crosswire: No space left on device\n"

    def test_a_reader_that_is_gone_before_the_first_line_is_no_error(self, tmp_path: Path) -> None:
        path = tmp_path / "frames"
        path.write_text(quote(FIRST, 1) + "\n")
        read, write = os.pipe()
        os.close(read)
        process = subprocess.run(
            [sys.executable, "-m", "crosswire", "decode", FIRST, str(path)],
            stdout=write, stderr=subprocess.PIPE, text=True, timeout=30,
        )  # fmt: skip
        os.close(write)
        assert (process.returncode, process.stderr) == (0, "")

    def test_importing_it_starts_and_configures_nothing(self) -> None:
        code = (
            "import logging, signal, threading, asyncio, sys\n"
            "before = signal.getsignal(signal.SIGINT), asyncio.get_event_loop_policy()\n"
            "import crosswire\n"
            "assert threading.active_count() == 1\n"
            "assert logging.getLogger().handlers == []\n"
            "assert before == (signal.getsignal(signal.SIGINT), asyncio.get_event_loop_policy())\n"
            "assert 'uvloop' not in sys.modules and 'rich' not in sys.modules\n"
            "assert 'trustme' not in sys.modules\n"
        )
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


class TestTheDemoAsACommand:
    KEYS: ClassVar = {
        "planted", "found", "missed", "false", "baits", "messages", "signals", "signals_sha256",
        "wire_to_signal_ns", "rx_to_signal_ns", "venues",
    }  # fmt: skip

    def test_a_short_one_is_right_and_prints_the_contracts_object(self, tmp_path: Path) -> None:
        record = tmp_path / "kept.cwrec"
        process = spawn(
            "demo", "--seconds", "2", "--seed", "5", "--json", "--loop", "uvloop", "--record",
            str(record),
        )  # fmt: skip
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        lines = out.splitlines()
        assert len(lines) == 1
        report = json.loads(lines[0])
        assert set(report) >= self.KEYS
        assert report["planted"] == report["found"] > 0
        assert (report["missed"], report["false"]) == (0, 0)
        for name in ("wire_to_signal_ns", "rx_to_signal_ns"):
            assert set(report[name]) == {"p50", "p99", "p99_9", "max"}
        assert set(report["venues"]) == set(venue_names())
        for fields in report["venues"].values():
            assert set(fields) == {"messages", "gaps", "reconnects", "state"}
            assert fields["state"] == "live"
        assert "simulator ready" in err
        entries = len(list(read_recording(record)))
        assert f"judging: {entries:,} entries of the recording" in err.splitlines()[-1]
        replayed = run("replay", *(f"{name}={record}" for name in venue_names()), "--json")
        assert replayed.code == 0
        for name in ("messages", "signals", "signals_sha256"):
            assert replayed.json()[name] == report[name]

    def test_one_that_is_wrong_prints_its_object_last_and_the_reasons_as_words(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = Verdict(planted=[1], missed=1, details=["missed: rule 1"])
        monkeypatch.setattr("crosswire.demo.judge", lambda *args, **options: wrong)
        result = run("demo", "--seconds", "2", "--json")
        assert (result.code, len(result.out.splitlines())) == (1, 1)
        assert result.json()["missed"] == 1
        assert "! missed: rule 1" in result.err

    def test_one_that_does_not_come_up_prints_an_object_as_well(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", "/bin/false")
        result = run("demo", "--seconds", "2", "--json")
        text = "the simulator did not start (exit code 1): it said nothing"
        error = {"kind": "environment", "text": text}
        assert (result.code, result.out) == (3, json.dumps({"error": error}) + "\n")
        assert result.err.splitlines()[-1] == f"crosswire: {text}"
        assert run("demo", "--seconds", "2").out == ""

    @pytest.mark.parametrize(
        ("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
    )
    def test_one_that_is_stopped_prints_an_object_as_well(self, number: int, word: str) -> None:
        process = spawn("demo", "--seconds", "60", "--json")
        assert process.stderr
        while not process.stderr.readline().startswith("all live"):
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 128 + number
        error = {"kind": word, "text": word}
        assert (out, err.splitlines()[-1]) == (json.dumps({"error": error}) + "\n", word)

    def test_a_choice_of_venues_is_played_and_paired_alone(self) -> None:
        result = run("demo", "--seconds", "2", "--seed", "3", "--json", "--venues",
                     f"{SECOND},{FIRST}")  # fmt: skip
        report = result.json()
        assert result.code == 0, result.err
        assert set(report["venues"]) == {FIRST, SECOND}
        assert report["planted"] == report["found"] > 0

    @pytest.mark.parametrize("is_json", [False, True])
    def test_its_piped_output_is_plain_also_where_it_is_started_from_a_terminal(
        self, is_json: bool
    ) -> None:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "crosswire", "demo", "--seconds", "2", *["--json"] * is_json],
            stdin=slave, stdout=subprocess.PIPE, stderr=slave, text=True,
            env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(slave)
        drawn = b""
        with contextlib.suppress(OSError):  # which is how a terminal ends
            while chunk := os.read(master, 1 << 16):
                drawn += chunk
        os.close(master)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0, drawn
        assert "\x1b" not in out
        assert (b"top of book" in drawn) is not is_json
        if is_json:
            assert json.loads(out)["planted"] > 0
            assert len(out.splitlines()) == 1
        else:
            assert out.startswith("planted ")

    async def test_an_interrupt_ends_it_with_130_and_its_simulator_as_well(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "crosswire", "demo", "--seconds", "60",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr
        assert process.stdout
        async with asyncio.timeout(30):
            while b"all live" not in await process.stderr.readline():
                assert process.returncode is None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        started = children.read_text().split() if children.exists() else []
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 130
        assert out == b""
        assert b"interrupted" in err
        assert b"Traceback" not in err
        for child in started:
            stat = Path(f"/proc/{child}/stat")
            assert not stat.exists() or " Z " in stat.read_text()

    MOMENTS: ClassVar = ["starting the simulator", "simulator ready", "all live", "judging"]

    def at_the_moment(self, moment: str, folder: Path) -> tuple[subprocess.Popen[str], list[str]]:
        """Start a demo as a terminal does, in a process group of its own; return it when it has
        reached a moment, with all that it has said."""
        process = spawn(
            "demo", "--seconds", "2" if moment == "judging" else "60",
            start_new_session=True, env={**os.environ, "TMPDIR": str(folder)},
        )  # fmt: skip
        assert process.stderr
        said: list[str] = []
        while not (said and said[-1].startswith(moment)):
            said.append(process.stderr.readline())
            assert said[-1], said
        return process, said

    @pytest.mark.parametrize("moment", MOMENTS)
    @pytest.mark.parametrize(
        ("number", "code", "word"),
        [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    )
    def test_a_signal_at_any_moment_ends_it_in_order_with_one_line(
        self, number: int, code: int, word: str, moment: str, tmp_path: Path
    ) -> None:
        process, said = self.at_the_moment(moment, tmp_path)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=30)
        said += err.splitlines(keepends=True)
        assert (process.returncode, out, said[-1]) == (code, "", f"{word}\n")
        starts = ("starting", "simulator ready", "all live", "judging", word)
        assert [line for line in said if not line.startswith(starts)] == []
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("moment", MOMENTS[:3])
    def test_its_simulator_does_not_outlive_it_when_it_is_killed(
        self, moment: str, tmp_path: Path
    ) -> None:
        process, _ = self.at_the_moment(moment, tmp_path)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        started: list[str] = []
        while not started:
            started = children.read_text().split()
        process.kill()
        process.wait(30)
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stderr.close()
        for child in started:
            stat = Path(f"/proc/{child}/stat")
            deadline = time.monotonic() + 30
            while stat.exists() and " Z " not in stat.read_text():
                assert time.monotonic() < deadline, "the simulator lives on"
                time.sleep(0.02)
