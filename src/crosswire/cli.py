"""The command line: ``crosswire demo``, ``replay``, ``decode``.

Every command takes ``--json`` (one JSON object as the last line of stdout; words go to stderr).
Where a command fails it is ``{"error": {"kind", "text"}}``, also where its words are wrong.
Exit: 0 done and right, 1 ran and found something wrong, 2 usage or configuration, 3 environment,
130 interrupted, 143 terminated (the demo, which ends its simulator first).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from . import __version__
from .capture.decode import Decoder
from .capture.jsonl import unpacked_lines
from .capture.recording import MAGIC, create_file
from .capture.replay import Replay, Step
from .config import FEE_BPS_RANGE, NET_BPS_RANGE, load_config
from .demo import Demo, DemoOptions
from .errors import HostError, RecordingError, UsageError, VenueError
from .rest_bench import RestBench
from .seam import System, open_file
from .sim.faults import FAULT_KINDS
from .sim.plan import SECONDS_MAX, SECONDS_MIN
from .trial import Trial
from .venues import venue, venue_names

__all__ = ["main"]

OK, WRONG, USAGE, ENVIRONMENT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
ENCODINGS = ("json", "msgpack", "sbe", "fixed")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------ demo


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="run the main job on local venues and judge it",
        description="Start simulated venues on loopback (TLS, real wire formats, planted "
        "arbitrage), run the engine on them, and compare every signal with the truth.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help=f"length, {SECONDS_MIN:g} to {SECONDS_MAX:g} (default 20)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of prices and plants (default 1)")
    parser.add_argument(
        "--venues",
        default=",".join(venue_names()),
        help="two or more by commas (default: all, %(default)s)",
    )
    parser.add_argument(
        "--faults",
        default="",
        help="cut, refuse or both, by commas: break connections (default: none)",
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="keep the recording there (default: not kept)"
    )
    parser.add_argument("--no-view", action="store_true", help="do not draw while it runs")
    _add_loop(parser)
    parser.set_defaults(run=_demo)


def _add_loop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--loop",
        choices=("uvloop", "asyncio"),
        default="uvloop",
        help="the event loop (default uvloop)",
    )


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        raise HostError("uvloop is missing; use --loop asyncio") from None
    return uvloop.new_event_loop


async def _until_terminated(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Do the work; SIGTERM cancels it, so that it puts its house in order, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _play(work: Callable[[], Coroutine[Any, Any, dict[str, Any]]], loop: str) -> dict[str, Any]:
    with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
        return runner.run(_until_terminated(work()))


def _split(text: str) -> tuple[str, ...]:
    return tuple(name for word in text.split(",") if (name := word.strip()))


def _demo(options: argparse.Namespace) -> int:
    demo = Demo(
        DemoOptions(
            seconds=options.seconds,
            seed=options.seed,
            venues=_split(options.venues),
            faults=_split(options.faults),
            has_view=sys.stderr.isatty() and not options.no_view and not options.json,
            record=options.record,
        ),
        say=_say,
    )
    if options.record:  # a place that cannot be written is told before anything runs
        create_file(options.record).close()
    report = _play(demo.run, options.loop)
    if options.json:
        for text in demo.problems:
            _say(f"! {text}")
        print(json.dumps(report))
    else:
        print(demo.summary(report))
    return OK if demo.is_right else WRONG


# ------------------------------------------------------------------ replay


def _capture(text: str) -> tuple[str | None, str]:
    """Split VENUE=FILE; a bare path has no venue, also one that holds ``=`` behind a ``/``."""
    name, equals, path = text.partition("=")
    if "-" in (text, path):
        words = "a replay reads its captures twice; write standard input to a file first"
        raise argparse.ArgumentTypeError(f"{text!r}: {words}")
    if "/" in name or (name and not equals):
        return None, text
    if not (name and path):
        raise argparse.ArgumentTypeError(f"{text!r}: write VENUE=FILE, or the path of a recording")
    try:
        venue(name)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name, path


def _within(low: float, high: float) -> Callable[[str], float]:
    """Return what reads an option as the configuration reads its key: a number in that range."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be within {low:g}..{high:g}, not {text}")
        return value

    return number


def _add_replay(commands: Any) -> None:
    parser = commands.add_parser(
        "replay",
        help="play recordings or captures through the engine",
        description="Play captures (JSON lines, maybe gzip) or our own recordings through the "
        "engine, in the order of their stamps. The same capture gives the same signals.",
    )
    parser.add_argument(
        "captures",
        nargs="+",
        type=_capture,
        metavar="VENUE=CAPTURE|RECORDING",
        help="a capture and whose it is, or one venue of a recording of ours; a recording's bare "
        "path takes all venues in it",
    )
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="pairs, fees and thresholds as TOML (default: the recording's own; else every two "
        "venues of one base and quote are paired)",
    )
    parser.add_argument(
        "--fee-bps",
        type=_within(*FEE_BPS_RANGE),
        metavar="X",
        help="taker fee per side of every venue, in basis points (default: the configuration's, "
        "else each venue's public tier)",
    )
    parser.add_argument(
        "--min-net-bps",
        type=_within(*NET_BPS_RANGE),
        metavar="Y",
        help="opening threshold of every pair, net of fees (default: the configuration's, else 0)",
    )
    parser.add_argument(
        "--speed", choices=("max", "1"), default="max", help="1: as it happened (default max)"
    )
    parser.set_defaults(run=_replay)


def _pace(seam: System) -> Callable[[Step], None]:
    """Wait before each step until as much time has passed as in the capture."""
    first: list[int] = []

    def wait(step: Step) -> None:
        if not first:
            first.extend((step.ts_rx, seam.monotonic_ns()))
        due = first[1] + step.ts_rx - first[0]
        seam.wait_until(due)

    return wait


def _replay(options: argparse.Namespace) -> int:
    replay = Replay(
        options.captures,
        config=load_config(options.config) if options.config else None,
        fee_bps=options.fee_bps,
        open_net_bps=options.min_net_bps,
    )
    _say(f"replaying {', '.join(str(i) for i in replay.instruments) or 'no instrument'}")
    for path, names in replay.omitted().items():
        _say(f"warning: {path}: leaves out {', '.join(names)}; its bare path takes all venues")
    if replay.why_no_pair:
        _say(f"no pair to watch: {replay.why_no_pair}")
    _run_to_the_end(replay, _pace(System()) if options.speed == "1" else None)
    strange = replay.strange()
    for name, file in strange:
        _say(f"warning: {file}: nothing in it is {name}'s; is it another venue's?")
    report = replay.report()
    if options.json:
        print(json.dumps(report))
    else:
        print(_replay_summary(report))
    return WRONG if report["errors"] or replay.tears or strange else OK


def _run_to_the_end(replay: Replay, on_step: Callable[[Step], None] | None) -> None:
    """Replay everything; a torn recording ends at its tear, and what came before is reported."""
    try:
        replay.run(on_step=on_step)
    except RecordingError as error:
        if not replay.tears:
            raise
        _say(f"crosswire: {error}")


def _replay_summary(report: dict[str, Any]) -> str:
    """Put a report in words. Counts have thousands separators; prices and places in a file are as
    they would be typed."""
    lines = [
        f"{report['messages']:,} messages, {report['errors']:,} errors, {report['opens']:,} opens, "
        f"{report['signals']:,} signals",
        f"signals sha256 {report['signals_sha256']}",
    ]
    if report["torn_at"] is not None:
        lines.append(f"! torn at byte {report['torn_at']}: this is what stands before it")
    lines += [f"! {count:,} x {name}" for name, count in report["error_names"].items()]
    for name, symbols in report["venues"].items():
        for symbol, fields in symbols.items():
            counts = ", ".join(f"{kind} {n:,}" for kind, n in fields["counts"].items())
            top = fields["top"]
            price = f"{top['bid']!r} / {top['ask']!r}" if top else "no quote"
            lines.append(f"{name} {symbol}: {price}; {counts}")
    return "\n".join(lines)


# ------------------------------------------------------------------ decode


def _add_decode(commands: Any) -> None:
    parser = commands.add_parser(
        "decode",
        help="decode frames to records, one JSON line each",
        description="Read one frame a line, as text or as an object with raw, b64 or hex, and "
        "print one JSON line per record. A bad frame prints its error and position, and the next "
        "is read. The input may be gzip.",
    )
    names = venue_names()
    parser.add_argument("venue", choices=names, metavar="VENUE", help=f"one of {', '.join(names)}")
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="- is standard input (default -)"
    )
    parser.add_argument(
        "--encoding",
        choices=ENCODINGS,
        default="json",
        help="of the frames; json is decoded, others are refused in this version (default json)",
    )
    parser.add_argument(
        "--schema",
        type=Path,
        metavar="XML",
        help="of the sbe encoding, which is refused in this version (default: none)",
    )
    parser.set_defaults(run=_decode)


@contextlib.contextmanager
def _input_lines(name: str) -> Iterator[Iterable[str | bytes]]:
    """Lend the lines of a file, plain or gzip, as bytes: what they are is for the decoder to say.
    A text that stands in for standard input is lent as it is."""
    if name == "-":
        binary = getattr(sys.stdin, "buffer", None)
        yield sys.stdin if binary is None else _frames(binary, "standard input")
        return
    try:
        file: IO[bytes] = open_file(name, "rb")
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from None
    with file:
        yield _frames(file, name)


def _frames(file: IO[bytes], name: str) -> Iterator[bytes]:
    """Yield the lines of a file, unless it is a recording of ours: that holds reads, not frames."""
    for number, line in enumerate(unpacked_lines(file, name)):
        if not number and line.startswith(MAGIC):
            raise UsageError(f"{name}: a recording of ours; play it with crosswire replay")
        yield line


def _decode(options: argparse.Namespace) -> int:
    if options.encoding != "json" or options.schema:
        asked = "--schema" if options.encoding == "json" else f"--encoding {options.encoding}"
        raise UsageError(f"{asked}: not in this version, which decodes json; leave it out")
    decoder = Decoder(venue(options.venue))
    records = 0
    with _input_lines(options.file) as lines:
        for line in decoder.decode(lines):
            print(line)
            records += 1
    if options.json:
        print(json.dumps({"records": records - decoder.errors, "errors": decoder.errors}))
    return WRONG if decoder.errors else OK


# ------------------------------------------------------------------ chaos


def _add_chaos(commands: Any) -> None:
    parser = commands.add_parser(
        "chaos",
        help="try a configuration against faults on local venues",
        description="Run local venues, put a chaos proxy in front of each line of a configuration, "
        "strike one kind of fault after the other, and print what became of each: about a minute "
        "and a half for all of them with the usual limits.",
    )
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", required=True, help="the configuration"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the prices (default 1)")
    parser.add_argument(
        "--faults",
        default=",".join(FAULT_KINDS),
        help="by commas, in this order (default: all, %(default)s)",
    )
    _add_loop(parser)
    parser.set_defaults(run=_chaos)


def _chaos(options: argparse.Namespace) -> int:
    trial = Trial(
        load_config(options.config),
        seed=options.seed,
        kinds=_split(options.faults),
        say=_say,
    )
    report = _play(trial.run, options.loop)
    if options.json:
        for text in trial.problems:
            _say(f"! {text}")
        print(json.dumps(report))
    else:
        print(trial.summary())
    return WRONG if trial.problems else OK


# ------------------------------------------------------------------ bench


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure on local venues: REST against streams",
        description="rest: fetch the quotes of a local venue by one request for each symbol, by "
        "one for all, and by a stream, and print side by side what each costs and how old its "
        "data are.",
    )
    parser.add_argument("what", choices=["rest"], help="what to measure")
    parser.add_argument(
        "--seconds",
        type=_within(3.0, 300.0),
        default=15.0,
        help="of all three ways together, 3 to 300 (default 15); about 5 more go to starting a "
        "venue and to rests in between",
    )
    parser.add_argument("--symbols", type=int, default=3, help="how many, 1 to 4 (default 3)")
    parser.add_argument("--seed", type=int, default=1, help="of the prices (default 1)")
    _add_loop(parser)
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    bench = RestBench(seconds=options.seconds, symbols=options.symbols, seed=options.seed, say=_say)
    report = _play(bench.run, options.loop)
    print(json.dumps(report) if options.json else bench.summary())
    if report["refused"]:
        _say(f"! the venue refused {report['refused']} requests")
    return WRONG if report["refused"] else OK


# ------------------------------------------------------------------ main


class _Parser(argparse.ArgumentParser):
    """Leaves it to :func:`main` to tell wrong use, as every other failure."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(message)


def _parse(words: list[str]) -> argparse.Namespace:
    """Return the options; those of a command may stand among its captures and files."""
    parser = _Parser(prog="crosswire", description="Exchange market data to arbitrage signals.")
    parser.add_argument("--version", action="version", version=f"crosswire {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_demo, _add_replay, _add_decode, _add_chaos, _add_bench):
        add(commands)
    for command in set(commands.choices.values()):
        command.add_argument("--json", action="store_true", help="one JSON object, last on stdout")
        command.add_argument("-v", "--verbose", action="store_true", help="log more to stderr")
    if words and words[0] in commands.choices:
        return commands.choices[words[0]].parse_intermixed_args(words[1:])
    return parser.parse_args(words)


def _words_of(error: OSError) -> str:
    """Return in one line what the system refused, and at which file where it has a name."""
    text = error.strerror or str(error) or type(error).__name__
    return text if error.filename is None else f"{error.filename}: {text}"


def _flush() -> None:
    """Write out what was printed, so that an output that takes no more fails here, where it is
    told in words, and not when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            sys.stdout.close()  # or the interpreter tries again
        raise


def _set_up_logging(is_verbose: bool) -> None:
    level = logging.INFO if is_verbose else logging.ERROR
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


def _run(options: argparse.Namespace) -> int:
    """Run the command and write out what it printed, also where it raises."""
    try:
        return int(options.run(options))
    finally:
        _flush()


_FAILURES: tuple[tuple[type[BaseException], str, int], ...] = (
    (UsageError, "usage", USAGE),
    (RecordingError, "recording", WRONG),
    (HostError, "environment", ENVIRONMENT),
    (OSError, "environment", ENVIRONMENT),
    (VenueError, "venue", WRONG),
    (KeyboardInterrupt, "interrupted", INTERRUPTED),
    (asyncio.CancelledError, "terminated", TERMINATED),
)
"""What ends a command, as ``--json`` names it, and its exit code."""


def _end_of(error: BaseException, is_json: bool) -> int:
    """Tell a failure, in words on stderr and with ``--json`` as the last line of stdout; return
    its exit code."""
    kind, code = next((kind, code) for cls, kind, code in _FAILURES if isinstance(error, cls))
    text = _words_of(error) if isinstance(error, OSError) else str(error) or kind
    _say(text if code in (INTERRUPTED, TERMINATED) else f"crosswire: {text}")
    if is_json:
        # An output that takes no more was told on stderr; closed, it takes nothing.
        with contextlib.suppress(OSError, ValueError):
            print(json.dumps({"error": {"kind": kind, "text": text}}))
            _flush()
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    is_json = "--json" in words  # known before the words are understood: wrong use is told in it
    try:
        options = _parse(words)
        is_json = options.json
        _set_up_logging(options.verbose)
        return _run(options)
    except BrokenPipeError:
        return OK
    except tuple(cls for cls, _, _ in _FAILURES) as error:
        return _end_of(error, is_json)
