# Every target sets up what it needs; a fresh machine only needs make and Python 3.11 or 3.12.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH_VENV := .venv-bench
BENCH_INSTALLED := $(BENCH_VENV)/.installed
NETWORK ?= small_cnn
WORKERS ?= 2
CHAOS_SHARE ?= 1/1

.DEFAULT_GOAL := help
.PHONY: help setup run sync test test-all test-slurm test-chaos conformance bench bench-check check format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,imagenet]'
	touch $@

setup: $(INSTALLED)  ## create .venv with the pinned versions

run: setup  ## run the quickstart sweep (under 5 minutes on 2 cores) and print the path of its page
	$(BIN)/python run.py -m +sweeps=quickstart

sync: setup  ## upload the offline W&B runs of outputs/, one by one
	$(BIN)/python -m runner.sync

test: setup  ## run the tests in WORKERS processes (about 13 minutes with 2)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-all: setup  ## run the slow tests too (root, a C compiler)
	$(BIN)/python -m pytest -m "not slurm and not gpu"

test-slurm: setup  ## run the tests on a real SLURM of three nodes (root; the Debian packages that docs/slurm.md names)
	$(BIN)/python -m pytest -m slurm tests/slurm

test-chaos: setup  ## disturb running sweeps: kills, signals, full and read-only disks (root, a C compiler; 30 minutes; CHAOS_SHARE=1/3: 10)
	CHAOS_SHARE=$(CHAOS_SHARE) $(BIN)/python -m pytest -m slow tests/chaos

conformance: setup  ## test what every plug-in must do, one line per property; NAME=topk or NAME=attack=topk for one plug-in
	$(BIN)/python -m pytest tests/conformance -vv --plugin "$(NAME)"

$(BENCH_INSTALLED): pyproject.toml constraints.txt benchmarks/requirements.txt
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	touch $@

bench: $(BENCH_INSTALLED)  ## measure speed against peers (long; CASE=topk_saliency: one case; NETWORK=resnet20); benchmarks/README.md
	$(BENCH_VENV)/bin/python -m benchmarks run $(CASE) --network $(NETWORK)

bench-check: $(BENCH_INSTALLED)  ## measure again and fail if a figure is worse than in the last file of this machine
	$(BENCH_VENV)/bin/python -m benchmarks check $(CASE) --network $(NETWORK)

check: setup  ## check format, lint, types and import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv, .venv-bench and caches; the store under outputs/ stays
	rm -rf $(VENV) $(BENCH_VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
