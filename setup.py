"""Build: csrc/ becomes one static library; a few thin extensions link it.

An edit of any .c or .h rebuilds the library (``obj_deps``) and every extension (``depends``), so
that two layouts of one struct can never meet in a process.
"""

from __future__ import annotations

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
INCLUDE = "src/crosswire/include"
HEADERS = sorted(str(p.relative_to(HERE)) for p in (HERE / INCLUDE).rglob("*.h"))
SOURCES = sorted(str(p.relative_to(HERE)) for p in (HERE / "csrc").glob("*.c"))
PRIVATE = sorted(str(p.relative_to(HERE)) for p in (HERE / "csrc").glob("*.h"))
MIRRORS = sorted(str(p.relative_to(HERE)) for p in (HERE / "src/crosswire").rglob("*.pxd"))

# -ffp-contract=off: the same doubles whether or not the processor has fused multiply-add.
# -fno-tree-slp-vectorize: else gcc copies four prices, just written one by one, with one wide load,
# which must wait until all four stores have left the store buffer (benchmarks.pipeline).
FLAGS = ["-O3", "-g0", "-std=c11", "-fvisibility=hidden"]
FLAGS += ["-ffp-contract=off", "-fno-tree-slp-vectorize"]
OUR_FLAGS = [*FLAGS, "-Wall", "-Wextra", "-Werror", "-fPIC"]

MODULES = ("codec", "records", "engine", "line", "connection", "wake", "tls")


class BuildExtensions(build_ext):
    """Build the library first, and keep the interpreter's own library folder out of the wheel."""

    def run(self) -> None:
        self.run_command("build_clib")
        super().run()

    def build_extensions(self) -> None:
        library = self.get_finalized_command("build_clib").build_clib
        for extension in self.extensions:
            extension.library_dirs.append(library)
        linker = self.compiler.linker_so
        self.compiler.linker_so = [a for a in linker if not a.startswith("-Wl,-rpath")]
        super().build_extensions()


def extension(name: str) -> Extension:
    return Extension(
        f"crosswire.{name}",
        [f"src/crosswire/{name}.pyx"],
        include_dirs=[INCLUDE],
        libraries=["cwcore", "z"],
        extra_compile_args=FLAGS,
        depends=[*HEADERS, *PRIVATE, *SOURCES, *MIRRORS],
    )


setup(
    libraries=[
        (
            "cwcore",
            {
                "sources": SOURCES,
                "include_dirs": [INCLUDE, "csrc"],
                "cflags": OUR_FLAGS,
                "obj_deps": {"": [*HEADERS, *PRIVATE]},
            },
        )
    ],
    ext_modules=cythonize(
        [extension(name) for name in MODULES],
        build_dir="build/cython",
        include_path=["src"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
    cmdclass={"build_ext": BuildExtensions},
)
