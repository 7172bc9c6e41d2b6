"""Properties of the source: floors, the one seam, names, purity of the C core."""

from __future__ import annotations

import ast
import importlib
import io
import re
import shutil
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

import crosswire

PACKAGE = Path(crosswire.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
INCLUDE = PACKAGE / "include" / "crosswire"
PYTHON = sorted(PACKAGE.rglob("*.py"))
CYTHON = sorted(PACKAGE.glob("*.pyx"))
C_FILES = sorted(CSRC.glob("*.[ch]")) + sorted(INCLUDE.glob("*.h"))
EXCHANGES = sorted(path.parent.name for path in (PACKAGE / "venues").glob("*/__init__.py"))


def name_of(path: Path) -> str:
    """Return a file's place in the package: ``venues/okx/market.py``."""
    return path.relative_to(PACKAGE).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


# ------------------------------------------------------------------ floors

FLOORS = [
    {"budget", "checks", "errors", "seam"},
    {"backoff", "instruments", "limits", "venue"},
    {"venues", "layout"},
    {"kernels", "codec", "records", "engine", "line", "tls", "wake"},
    {"config", "connection", "handshake", "http", "link", "receive", "session"},
    {"capture", "sim", "sinks", "watch"},
    {"runtime", "demo", "rest_bench", "trial", "cli", "__main__", "__init__"},
]
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
VENUE_WORDS = {"venue", "instruments", "limits", "errors"}


def imports_of(path: Path) -> Iterator[str]:
    """Yield what a module imports from this package, as dotted names below it."""
    here = ["crosswire", *path.relative_to(PACKAGE).with_suffix("").parts]
    if path.suffix == ".pyx":
        pattern = r"^\s*(?:from\s+(\.\w+|crosswire[\w.]*)\s+c?import|c?import\s+(crosswire[\w.]*))"
        for found in re.finditer(pattern, path.read_text(), re.MULTILINE):
            yield (found[1] or found[2]).removeprefix("crosswire").lstrip(".")
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [module] if node.module else [f"{module}.{a.name}" for a in node.names]
        else:
            continue
        for name in names:
            if name == "crosswire" or name.startswith("crosswire."):
                yield name.removeprefix("crosswire").lstrip(".") or "__init__"


def floor_of(name: str) -> int:
    top = name.partition(".")[0]
    return FLOOR_OF.get(top, FLOOR_OF["__init__"])


class TestFloors:
    def test_every_module_has_a_floor(self) -> None:
        tops = {name_of(path).partition("/")[0].partition(".")[0] for path in PYTHON + CYTHON}
        assert tops - FLOOR_OF.keys() == set()

    def test_imports_are_really_read(self) -> None:
        assert "capture" in set(imports_of(PACKAGE / "runtime.py"))
        assert "errors" in set(imports_of(PACKAGE / "engine.pyx"))
        assert "kernels.base" in set(imports_of(PACKAGE / "engine.pyx"))
        assert "venue" in set(imports_of(next((PACKAGE / "venues").glob("*/market.py"))))
        assert "capture" in set(imports_of(PACKAGE / "sim" / "judge.py"))

    @pytest.mark.parametrize("path", PYTHON + CYTHON, ids=name_of)
    def test_a_module_knows_only_its_own_floor_and_those_below(self, path: Path) -> None:
        own = FLOOR_OF[name_of(path).partition("/")[0].partition(".")[0]]
        above = [name for name in imports_of(path) if floor_of(name) > own]
        assert above == []

    @pytest.mark.parametrize("path", sorted((PACKAGE / "venues").glob("*/*.py")), ids=name_of)
    def test_a_venue_imports_only_the_plain_words(self, path: Path) -> None:
        own = f"venues.{path.parent.name}"
        names = [name for name in imports_of(path) if not name.startswith(own)]
        assert set(names) <= VENUE_WORDS
        outside = {
            alias.name if isinstance(node, ast.Import) else str(node.module)
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0)
            for alias in node.names
        }
        assert outside <= {
            "__future__",
            "collections.abc",
            "dataclasses",
            "fractions",
            "json",
            "typing",
            "re",
        }

    def test_a_c_kernel_knows_neither_line_nor_engine(self) -> None:
        for path in C_FILES:
            if path.stem in ("line", "line_body", "engine", "merge", "watch"):
                continue
            included = set(re.findall(r'#include "(?:crosswire/)?(\w+)\.h"', path.read_text()))
            assert included & {"line", "engine"} == set(), path.name
        assert "line" not in set(
            re.findall(r'#include "(?:crosswire/)?(\w+)\.h"', (CSRC / "engine.c").read_text())
        )


# ------------------------------------------------------------------ one folder per venue


def code_words(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of a Python file's names and strings, without comments and docstrings."""
    text = path.read_text()
    docstrings = {
        node.body[0].lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node) is not None
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_docstring = token.type == tokenize.STRING and token.start[0] in docstrings
        if token.type in (tokenize.NAME, tokenize.STRING) and not is_docstring:
            yield token.start[0], token.string


class TestOneFolderPerVenue:
    # "gate" is what holds a signal back as well: of that venue only longer names can be told.
    NAMES: ClassVar = ["gate(?:io|[.]futures)" if name == "gate" else name for name in EXCHANGES]
    PATTERN = re.compile("|".join(NAMES), re.IGNORECASE)

    @pytest.mark.parametrize(
        "path", [p for p in PYTHON if not name_of(p).startswith("venues/")], ids=name_of
    )
    def test_nothing_outside_its_folder_names_a_venue(self, path: Path) -> None:
        named = [line for line, word in code_words(path) if self.PATTERN.search(word)]
        assert named == []

    def test_neither_does_the_compiled_code_nor_the_build(self) -> None:
        for path in [*C_FILES, *CYTHON, *PACKAGE.rglob("*.pxd"), ROOT / "setup.py"]:
            text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
            assert not self.PATTERN.search(text), path.name


# ------------------------------------------------------------------ the seam

BANNED = {"time", "random", "secrets", "socket", "select", "tempfile", "subprocess", "threading",
          "datetime", "signal", "shutil", "fcntl"}  # fmt: skip
BANNED_CALLS = {
    "open", "asyncio.sleep", "asyncio.open_connection", "asyncio.start_server", "os.open",
    "os.read", "os.write", "os.urandom", "os.times", "uuid.uuid4", "asyncio.timeout",
    "asyncio.timeout_at", "asyncio.wait_for", "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
}  # fmt: skip
BANNED_METHODS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "create_connection", "create_server",
    "sock_connect", "call_later", "call_at",
}  # fmt: skip
ALLOWED = {
    # The seam itself.
    "seam.py": {"*"},
    # Threads that connect share one budget, and so a lock.
    "budget.py": {"threading"},
    # The only place where the simulator makes its seeded randomness.
    "sim/plan.py": {"random"},
    # A simulated venue's process: its standard input and its processor time.
    "sim/__main__.py": {"os.read", "threading"},
    # Throw-away certificates live in a folder that goes with the run; so does its recording.
    "sim/certs.py": {"tempfile"},
    # It starts the simulator, a process of its own, and gives that its time to begin and to end.
    "sim/process.py": {"asyncio.create_subprocess_exec", "asyncio.timeout"},
    # The recording of a run, which goes with it.
    "demo.py": {"tempfile"},
    # The view is a process of its own, fed through a pipe that never blocks.
    "watch/view.py": {"subprocess", "os.write"},
}


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` of a name or an attribute of one, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def outside_world(path: Path) -> set[str]:
    """Return which doors to the outside a module calls."""
    tree = tree_of(path)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module in BANNED:
            found.add(str(node.module))
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        if name.partition(".")[0] in BANNED and "." in name:
            found.add(name.partition(".")[0])
        elif name in BANNED_CALLS:
            found.add(name)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in BANNED_METHODS:
            found.add(node.func.attr)
    return found


class TestTheSeam:
    @pytest.mark.parametrize("path", PYTHON, ids=name_of)
    def test_time_randomness_sockets_and_files_come_through_it(self, path: Path) -> None:
        allowed = ALLOWED.get(name_of(path), set())
        assert "*" in allowed or outside_world(path) - allowed == set()

    def test_every_exception_is_still_needed(self) -> None:
        for name, allowed in ALLOWED.items():
            assert "*" in allowed or allowed <= outside_world(PACKAGE / name)

    def test_randomness_of_the_simulator_is_made_in_one_function(self) -> None:
        calls = re.findall(r"random\.Random\(", (PACKAGE / "sim" / "plan.py").read_text())
        assert len(calls) == 1

    def test_the_clocks_of_the_system_are_read_in_two_compiled_functions(self) -> None:
        for path in CYTHON:
            text = path.read_text()
            calls = len(re.findall(r"clock_gettime\(", text))
            assert calls == (1 if path.name in ("engine.pyx", "wake.pyx") else 0)
            assert not re.search(r"^\s*c?import (time|random|socket)\b", text, re.MULTILINE)


# ------------------------------------------------------------------ Python


def dotted_module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class TestPython:
    @pytest.mark.parametrize("path", PYTHON, ids=name_of)
    def test_it_parses_and_its_first_line_says_what_it_is(self, path: Path) -> None:
        assert ast.get_docstring(tree_of(path))

    @pytest.mark.parametrize("path", PYTHON, ids=name_of)
    def test_no_except_is_bare(self, path: Path) -> None:
        handlers = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.ExceptHandler)]
        assert [node.lineno for node in handlers if node.type is None] == []

    def test_no_except_is_bare_in_cython_either(self) -> None:
        for path in CYTHON:
            assert not re.search(r"^\s*except\s*:", path.read_text(), re.MULTILINE), path.name

    @pytest.mark.parametrize(
        "path",
        [p for p in PYTHON + CYTHON if p.name not in ("__main__.py",)],
        ids=name_of,
    )
    def test_all_is_complete_and_sorted(self, path: Path) -> None:
        module = importlib.import_module(dotted_module(path))
        text = path.read_text()
        if "__all__" not in text:
            public = re.findall(
                r"^(?:class|def|cdef class|async def) ([a-z]\w*)", text, re.M | re.I
            )
            assert public == []
            return
        names = list(module.__all__)
        assert len(names) == len(set(names))
        assert [name for name in names if not hasattr(module, name)] == []
        pattern = r"^(?:class|def|cdef class|async def) ([A-Za-z]\w*)"
        defined = re.findall(pattern, text, re.MULTILINE)
        assert set(defined) - set(names) == set()
        by_kind = sorted(names, key=lambda n: (not n.isupper(), not n[:1].isupper(), n))
        assert names in (sorted(names), by_kind)

    @pytest.mark.parametrize("path", CYTHON, ids=name_of)
    def test_every_compiled_module_has_a_stub_with_its_public_names(self, path: Path) -> None:
        stub = path.with_suffix(".pyi")
        assert stub.exists()
        module = importlib.import_module(dotted_module(path))
        told = {
            node.target.id if isinstance(node, ast.AnnAssign) else node.name  # type: ignore[union-attr]
            for node in tree_of(stub).body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AnnAssign)
        }
        assert set(module.__all__) - told == set()

    def test_every_exception_is_had_from_the_package_itself(self) -> None:
        names = set(crosswire.errors.__all__)
        assert names <= set(crosswire.__all__)
        assert all(getattr(crosswire, name) is getattr(crosswire.errors, name) for name in names)

    def test_the_reason_of_a_skip_names_no_place_outside_the_project(self) -> None:
        for path in sorted((ROOT / "tests").glob("*.py")):
            reasons = re.findall(r"(?:skip\(|reason=)\s*f?\"[^\"]*\"", path.read_text())
            assert [text for text in reasons if "shared" in text.lower()] == [], path.name

    def test_types_are_shipped(self) -> None:
        assert (PACKAGE / "py.typed").exists()

    def test_the_headers_are_where_get_include_says(self) -> None:
        assert (Path(crosswire.get_include()) / "crosswire" / "engine.h").exists()


class TestMakeClean:
    MADE = (
        "build/cython/engine.c", "dist/a.whl", ".venv/bin/python", "src/crosswire.egg-info/a",
        "src/crosswire/engine.c", "src/crosswire/engine.cpython-311-x86_64-linux-gnu.so",
        "src/crosswire/__pycache__/cli.pyc", "src/crosswire/sim/__pycache__/plan.pyc",
        "tests/__pycache__/a.pyc", "__pycache__/setup.pyc", ".pytest_cache/a", ".mypy_cache/a",
        ".ruff_cache/a", ".hypothesis/a",
    )  # fmt: skip
    KEPT = (
        "Makefile", "src/crosswire/engine.pyx", "src/crosswire/cli.py", "src/crosswire/mine.c",
        "src/crosswire/mine.so", "csrc/engine.c", "csrc/mine.o", "tests/test_a.py", "my/env/a",
        "examples/mine.toml", "mine.cwrec", ".asv/results/a.json", "benchmarks/a.py",
    )  # fmt: skip

    @pytest.mark.skipif(not shutil.which("make"), reason="CLEAN NOT TESTED: make is not here")
    def test_it_removes_what_was_made_and_nothing_else(self, tmp_path: Path) -> None:
        for name in (*self.MADE, *self.KEPT):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        shutil.copy(ROOT / "Makefile", tmp_path)
        subprocess.run(["make", "-s", "clean", "VENV=my/env"], cwd=tmp_path, check=True, timeout=30)
        left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
        assert left == set(self.KEPT)


# ------------------------------------------------------------------ C


needs_csrc = pytest.mark.skipif(not CSRC.exists(), reason="the C sources are not here")


@needs_csrc
class TestTheCore:
    HEADERS: ClassVar = {"assert.h", "emmintrin.h", "float.h", "immintrin.h", "limits.h", "math.h",
               "stddef.h", "stdint.h", "string.h", "stdalign.h", "stdbool.h", "zlib.h"}  # fmt: skip

    def test_it_includes_neither_python_nor_input_output_nor_a_clock(self) -> None:
        included = {
            name
            for path in C_FILES
            for name in re.findall(r"#\s*include\s*<([^>]+)>", path.read_text())
        }
        assert included - self.HEADERS == set()
        assert included & {"Python.h", "stdio.h", "time.h", "stdlib.h"} == set()

    def test_zlib_is_seen_by_what_compresses_alone(self) -> None:
        with_zlib = {path.name for path in C_FILES if "<zlib.h>" in path.read_text()}
        assert with_zlib == {"zlib_heap.h"}
        users = {path.name for path in C_FILES if '"zlib_heap.h"' in path.read_text()}
        assert users == {"inflate.c", "deflate.c"}

    def test_it_calls_no_allocator_and_no_clock(self) -> None:
        banned = r"\b(malloc|calloc|realloc|free|printf|fopen|clock_gettime|time|rand|getenv)\s*\("
        for path in C_FILES:
            text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
            assert not re.search(banned, text), path.name

    def test_every_kernel_has_its_header_and_its_mirror(self) -> None:
        mirrors = {path.stem for path in (PACKAGE / "kernels").glob("*.pxd")} - {"__init__"}
        headers = {path.stem for path in INCLUDE.glob("*.h")}
        assert mirrors == headers
        sources = {path.stem for path in CSRC.glob("*.c")}
        assert {name for name in sources if not name.startswith("ops_")} <= headers

    def test_it_has_no_mutable_globals(self, tmp_path: Path) -> None:
        compiler, nm = shutil.which("gcc") or shutil.which("cc"), shutil.which("nm")
        if not compiler or not nm:
            pytest.skip("a C compiler and nm are needed to look at the objects")
        objects = []
        running = []
        for path in sorted(CSRC.glob("*.c")):
            objects.append(tmp_path / f"{path.stem}.o")
            # Without -fPIC a table of pointers is as constant as it is written.
            command = [compiler, "-std=c11", "-O0", "-fno-pic", f"-I{INCLUDE.parent}",
                       f"-I{CSRC}", "-c", str(path), "-o", str(objects[-1])]  # fmt: skip
            running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        for process in running:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        listed = subprocess.run(
            [nm, *map(str, objects)], capture_output=True, text=True, check=True
        ).stdout
        assert " T cw_line_feed" in listed
        mutable = [line for line in listed.splitlines() if re.search(r" [bBdDgGsSC] ", line)]
        assert mutable == []
