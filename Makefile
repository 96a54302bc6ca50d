# The one door: the same commands here and in CI. Checks never change files; `make fix` does.
#
#   make run      first use sets up .venv, then the demo: three servers, kill -9, nothing lost
#   make test     lint, types, import contracts, then every test
#   make help     the rest

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up
LOG    := $(VENV)/set-up.log
PATHS  := $(wildcard src tests examples benchmarks)
FRONT  := tests/process tests/cli tests/chaos tests/benchmarks tests/test_docs.py
RANDOM := tests/simulation tests/canaries tests/raft/core tests/testing
HEART  := src/copycat/raft/core/*,src/copycat/raft/machine/*,src/copycat/io/storage/*

.DEFAULT_GOAL := help
.PHONY: help run test lint types contracts pytest parts coverage heart mutants canaries fuzz fix bench simulate chaos calls clean

help:
	@echo 'make run         the demo (sets up .venv on first use)'
	@echo 'make test        lint, types, contracts, all tests'
	@echo 'make lint        ruff: rules and format      make types      mypy, strict'
	@echo 'make contracts   which room imports which    make pytest     tests alone (ARGS="-k map")'
	@echo 'make coverage    tests with branch coverage  make fix        let ruff change files; generated pages'
	@echo 'make bench       measures this machine       make clean      remove .venv and caches'
	@echo 'make simulate    clusters under faults, in virtual time (SEED=7: that one again; ARGS="--seeds 2000")'
	@echo 'make canaries    mistakes made on purpose: does the simulator find each? (ARGS="--only vote"; some minutes)'
	@echo 'make chaos       real servers and clients, under faults from outside (ARGS="--seconds 60")'
	@echo 'make heart       core, machine and storage:  make mutants    would their tests notice a mistake?'
	@echo '                 95 % of their branches                      docs/how-to/run-the-mutation-tests.md'
	@echo 'make fuzz        what reads bytes from outside, with atheris (ARGS="--seconds 3600 --only segment")'

run: $(STAMP)
	@$(BIN)/copycat demo

test: $(STAMP)
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory contracts
	@$(MAKE) --no-print-directory parts

lint: $(STAMP)
	@$(BIN)/ruff check --quiet $(PATHS)
	@$(BIN)/ruff format --check --quiet $(PATHS) || \
	    { $(BIN)/ruff format --check $(PATHS); echo 'format: run make fix'; exit 1; }

types: $(STAMP)
	@$(BIN)/mypy

contracts: $(STAMP)
	@$(BIN)/lint-imports --no-logo --no-cache

pytest: $(STAMP)
	@$(BIN)/python -m pytest $(ARGS)

# Every test, in three parts at once: those that start processes wait much, and are in front, for there they can be
# interrupted.
parts: $(STAMP)
	@$(BIN)/python -m pytest $(addprefix --ignore=,$(FRONT) $(RANDOM)) $(ARGS) > $(VENV)/tests.log 2>&1 & beside=$$!; \
	    $(BIN)/python -m pytest $(RANDOM) $(ARGS) > $(VENV)/random.log 2>&1 & random=$$!; \
	    $(BIN)/python -m pytest $(FRONT) $(ARGS); front=$$?; \
	    wait $$random; random=$$?; wait $$beside; beside=$$?; \
	    cat $(VENV)/random.log $(VENV)/tests.log; exit $$((front | random | beside))

coverage: $(STAMP)
	@$(BIN)/coverage run -m pytest $(ARGS) && $(BIN)/coverage report

# The rooms everything rests on, by what their own tests spell out: the random ones reach everything anyway.
heart: $(STAMP)
	@$(BIN)/coverage run -m pytest -q --ignore=tests/raft/core/test_random_faults.py \
	    tests/raft/core tests/raft/machine tests/io/storage tests/resource
	@$(BIN)/coverage report --include='$(HEART)' --fail-under=95

mutants: $(VENV)/.mutants
	@$(BIN)/python tests/mutation/mutants.py $(ARGS)

# Asked for by hand only: thirty packages that nothing else needs.
$(VENV)/.mutants: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'cosmic-ray>=8' && touch $@

fuzz: $(VENV)/.fuzz
	@$(BIN)/python -m tests.fuzz.with_atheris $(ARGS)

# Asked for by hand only: a compiled library of libFuzzer that nothing else needs.
$(VENV)/.fuzz: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=3' && touch $@

fix: $(STAMP)
	@$(BIN)/ruff check --fix $(PATHS); $(BIN)/ruff format $(PATHS)
	@$(BIN)/python -m tests.paper.table

# ARGS="--help" lists what can be measured; without ARGS puts and gets are, for some minutes.
bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

# SEED=7 runs one seed again; without it ARGS says how many.
simulate: $(STAMP)
	@$(BIN)/copycat simulate $(if $(SEED),--seed $(SEED)) $(ARGS)

# Each mistake is searched for three times, two at a time; writes docs/reference/canaries.md.
canaries: $(STAMP)
	@PYTHONPATH=src $(BIN)/python -m tests.canaries.table $(ARGS)

chaos: $(STAMP)
	@$(BIN)/copycat chaos $(ARGS)

# A server that is killed at, or fails in, each system call on its way to the disk in turn. Some minutes; needs strace.
calls: $(STAMP)
	@$(BIN)/python -m pytest -q tests/process/test_crash_at_calls.py --every-call $(ARGS)

clean:
	@rm -rf $(VENV) .set-up.log build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .import_linter_cache .coverage htmlcov
	@find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Remade when what it is made from changes. Set-up says one line; its log is printed only when it fails.
$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Copycat needs Python 3.11 or later; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	    echo "Name another with: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@printf ' setting up .venv (first time only) ............ '
	@{ $(PYTHON) -m venv $(VENV) \
	    && $(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.lock \
	    && $(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . ; } \
	    > .set-up.log 2>&1 || { echo failed; cat .set-up.log >&2; exit 1; }
	@mv .set-up.log $(LOG) && touch $@ && echo done
