# Short verbs. Everything lives in .venv; nothing outside this folder is changed.
# PYTHON=python3.12 make test   uses another interpreter.

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check
COMMA  := ,

BUILD_INPUTS := pyproject.toml setup.py MANIFEST.in $(wildcard csrc/*.c csrc/*.h) \
                $(wildcard src/crosswire/include/crosswire/*.h) $(wildcard src/crosswire/*.pyx) \
                $(wildcard src/crosswire/*.pxd src/crosswire/kernels/*.pxd)

.PHONY: help build demo test bench compare lint types fuzz conformance coverage wheel clean
.DEFAULT_GOAL := help

help:  ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "crosswire needs Python 3.11 or later; say PYTHON=python3.12 make ..." >&2; exit 3; }
	@command -v $${CC:-cc} >/dev/null || \
	  { echo "crosswire needs a C compiler; install gcc or clang" >&2; exit 3; }
	@echo '#include <zlib.h>' | $${CC:-cc} -E -x c - >/dev/null 2>&1 || \
	  { echo "crosswire needs zlib's headers; install zlib1g-dev (zlib-devel, zlib)" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -U pip 'setuptools>=77' 'cython>=3.3,<3.4' 'numpy>=2'
	@touch $@

# $(1): extras. The stamp of one set of extras is older than the code: build again.
define INSTALL
	$(PIP) install -q --no-build-isolation -e '.[$(1)]'
	@touch $@
endef

$(VENV)/.run: $(VENV)/.python $(BUILD_INPUTS)
	@echo "building crosswire (about a minute) ..." >&2
	$(call INSTALL,sim$(COMMA)tui)
$(VENV)/.test: $(VENV)/.run
	$(call INSTALL,test)
$(VENV)/.dev: $(VENV)/.test
	$(call INSTALL,test$(COMMA)dev)
$(VENV)/.bench: $(VENV)/.run
	$(call INSTALL,test$(COMMA)bench)

build: $(VENV)/.run  ## build and install into .venv

demo: $(VENV)/.run  ## run the main job on local venues and judge it
	$(VENV)/bin/crosswire demo $(ARGS)

test: $(VENV)/.test  ## build and run every test that needs no network
	$(PY) -m pytest -q $(ARGS)

bench: $(VENV)/.bench  ## run the asv suites on this commit
	$(PY) -m asv machine --yes
	$(PY) -m asv run --quick --python=same --show-stderr $(ARGS)

compare: $(VENV)/.bench  ## crosswire beside its peers, same input, same run
	$(PY) -m benchmarks.compare $(ARGS)

lint: $(VENV)/.dev  ## ruff and cython-lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint --max-line-length 100 src/crosswire

types: $(VENV)/.dev  ## mypy, and the stubs against the compiled modules
	$(PY) -m mypy
	$(PY) -m mypy tests/typing
	$(PY) -m mypy.stubtest crosswire --ignore-unused-allowlist \
	  --allowlist tests/typing/stubtest-allowlist.txt

CODEC_PYTHON := src/crosswire/handshake.py,src/crosswire/receive/websocket.py
coverage: $(VENV)/.dev  ## lines and branches of the WebSocket codec that no test takes; needs gcc and gcov
	PYTHON=$(PY) sh tests/c/coverage.sh
	$(PY) -m coverage run --branch --data-file=build/coverage/python --include=$(CODEC_PYTHON) \
	  -m pytest -q tests/test_handshake.py tests/test_websocket.py tests/test_websocket_limits.py
	$(PY) -m coverage report --data-file=build/coverage/python -m --fail-under=100

fuzz: ## libFuzzer on every parser; FUZZ_SECONDS each (default 60); needs clang
	bash tests/c/fuzz.sh $${FUZZ_SECONDS:-60}

conformance: $(VENV)/.test  ## the Autobahn suite on the echo examples; needs Python 2.7
	$(PY) tests/conformance/run.py $(ARGS)

wheel: $(VENV)/.dev  ## a wheel in dist/
	$(PIP) wheel -q --no-deps --no-build-isolation -w dist .
	@ls dist/*.whl

# Only what the tools make, by its name and only in here: a VENV elsewhere and asv's results stay.
COMPILED := $(basename $(wildcard src/crosswire/*.pyx))
clean:  ## remove what was built, .venv and caches
	rm -rf build dist .venv src/crosswire.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis __pycache__
	rm -f $(COMPILED:%=%.c) $(foreach module,$(COMPILED),$(wildcard $(module).*.so))
	find src tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +
