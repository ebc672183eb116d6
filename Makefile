# Every target sets up what it needs: Python 3.11 or 3.12 and make are all that a fresh machine must have.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup run sync test test-all test-slurm test-chaos conformance check format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,imagenet]'
	touch $@

setup: $(INSTALLED)  ## create .venv with the pinned versions

run: setup  ## run the quickstart sweep (4 minutes on 2 cores) and say where its page is
	$(BIN)/python run.py -m +sweeps=quickstart

sync: setup  ## upload the offline W&B runs of outputs/, one by one
	$(BIN)/python -m runner.sync

test: setup  ## run the tests (about 14 minutes on 2 cores)
	$(BIN)/python -m pytest

test-all: setup  ## run the slow tests too (root, a C compiler)
	$(BIN)/python -m pytest -m "not slurm and not gpu"

test-slurm: setup  ## run the tests on a real SLURM of three nodes (root; the Debian packages that README names)
	$(BIN)/python -m pytest -m slurm tests/slurm

test-chaos: setup  ## kill, stop, fill up and close under running sweeps, 36 schedules (root, a C compiler; 30 minutes)
	$(BIN)/python -m pytest -m slow tests/chaos

conformance: setup  ## what every plug-in must do, one line a property; NAME=topk or NAME=attack=topk for one of them
	$(BIN)/python -m pytest tests/conformance -vv --plugin "$(NAME)"

check: setup  ## format, lint, types and import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and caches; the store under outputs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
