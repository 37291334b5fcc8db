# One way in: every target makes the environment it needs. `make demo` or `make test` alone is enough.
# Versions: constraints.txt pins them all, for `setup`; `make lock` remakes it. pyproject.toml holds the
# ranges, of which `make test-newest` tries the newest. Another Python beside the first:
# `make test PYTHON=python3.13 VENV=.venv-3.13`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Small models run faster on one thread a process than on many.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Tests start many processes; each would compile all our modules again.
unexport PYTHONDONTWRITEBYTECODE

# CPU seconds that `make test` may take, all processes together; 0 reports them and sets no limit. Two
# workers on the two threads of one core take nearly twice the CPU seconds of one worker.
CPU_BUDGET ?= 0

.PHONY: setup lock demo demo-real source-given test test-newest test-all check fix release-check bench mutations bench-peers clean
setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; set PYTHON=..."'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

lock:
	test -x .venv-lock/bin/uv || $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --upgrade uv
	UV=$(CURDIR)/.venv-lock/bin/uv .ci/lock

demo: setup
	$(BIN)/python -m examples.demo

# The demo with a real model, on rows of your own: `make demo-real SOURCE=alpaca.jsonl`, with PAIRS=FILE if you have any.
THREADS ?= $(shell getconf _NPROCESSORS_ONLN)
demo-real: source-given setup
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m examples.demo_real "$(SOURCE)" $(if $(PAIRS),--pairs "$(PAIRS)")

source-given:
	@test -n "$(SOURCE)" || { echo "demo-real: give SOURCE=FILE, instruction rows such as Alpaca's, or a hub name such as tatsu-lab/alpaca (CC BY-NC 4.0)" >&2; exit 2; }

test: setup
	$(BIN)/python -m tests.cpu_budget $(CPU_BUDGET) -q -n 2 --dist loadfile

# In an environment of its own, updated each time; a new release that breaks something fails here first.
test-newest:
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[dev]'
	.venv-newest/bin/python -m pytest -q -n 2 --dist loadfile

test-all: setup
	$(BIN)/python -m pytest -q -m ''

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The sdist and the wheel, their contents, and a tour of both in an empty environment; mypy as on Windows.
release-check: setup
	$(BIN)/mypy --platform win32 -p siftune
	$(BIN)/python -m tests.release_check

bench: setup
	$(BIN)/python -m benchmarks

# The libraries that the benchmarks compare with, in an environment of their own; the benchmarks run
# without those that are not installed.
bench-peers:
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet -r benchmarks/peers/requirements.txt

# Puts the classic bugs back one at a time and runs the tests on each: tests/oracles/KILLS.md.
mutations: setup
	$(BIN)/python -m tests.oracles.mutations

clean:
	rm -rf $(VENV) .venv-lock .venv-newest .venv-peers build *.egg-info .mypy_cache .ruff_cache .pytest_cache
