"""The C tests of ``tests/c``, one case a program: built once with gcc and its sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "tests" / "c"
TESTS = sorted(path.stem for path in HERE.glob("test_*.c"))
TARGETS = sorted(path.stem for path in HERE.glob("fuzz_*.c") if path.stem != "fuzz_main")
FUZZ_RUNS = 3000


def why_not(folder: Path) -> str | None:
    """Return what is missing to build C with the sanitizers, or ``None``."""
    compiler = os.environ.get("CC", "gcc")
    if not shutil.which(compiler):
        return f"no C compiler: {compiler} is not in PATH"
    probe = folder / "probe.c"
    probe.write_text("#include <zlib.h>\nint main(void) { return !zlibVersion(); }\n")
    command = [compiler, "-fsanitize=address,undefined", str(probe), "-lz", "-o"]
    command.append(str(folder / "probe"))
    build = subprocess.run(command, capture_output=True, text=True, check=False)
    if build.returncode:
        return f"{compiler} cannot link the sanitizers and zlib: {build.stderr.strip()[-300:]}"
    if subprocess.run([str(folder / "probe")], check=False).returncode:
        return f"programs of {compiler} with the sanitizers do not run here"
    return None


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build every program; return the folder where they are."""
    folder = tmp_path_factory.mktemp("ctests")
    reason = why_not(folder)
    if reason:
        pytest.skip(f"C KERNELS NOT TESTED: {reason}")
    command = [str(HERE / "run.sh"), str(folder), "build"]
    build = subprocess.run(command, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stderr[-4000:]
    return folder


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "ok " in done.stdout


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", TESTS)
def test_c_program_passes(programs: Path, name: str) -> None:
    run(str(programs / name))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", TARGETS)
def test_fuzz_target_finds_nothing_near_its_corpus(programs: Path, name: str) -> None:
    corpus = HERE / "corpus" / name.removeprefix("fuzz_")
    run(str(programs / name), f"-runs={FUZZ_RUNS}", "-seed=1", str(corpus))
