# SPDX-License-Identifier: Apache-2.0
# Each target sets up in .venv what it needs; nothing has to be installed or sourced before.
#   make demo ARGS="--episodes 2"     ARGS is passed on to the program behind the target
#   make PYTHON=python3.12 test       another interpreter, 3.11 or newer
PYTHON ?= python3
ARGS ?=
SECONDS ?= 60
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench sanitize fuzz fuzz-execution lint lock clean

help:
	@echo "make demo    run the simulated demonstration; watch it in the browser"
	@echo "make test    run the tests"
	@echo "make bench   run the benchmark and write its report"
	@echo "make sanitize  run the C++ core under the address and undefined-behaviour sanitizers"
	@echo "make fuzz    feed the control law random bytes under the sanitizers; SECONDS=600"
	@echo "make fuzz-execution  play chunks, leases and clocks in disorder; goes on where it left off"
	@echo "make lint    check style, types, formatting and import boundaries"
	@echo "make setup   only set up .venv, which the others do by themselves"
	@echo "make clean   remove .venv and everything that was built"
	@echo 'Options go in ARGS, for example: make demo ARGS="--episodes 2"'

setup:
	@$(PYTHON) tools/setup.py

demo: setup
	@$(BIN)/vla-ros demo $(ARGS)

test: setup
	@$(BIN)/python -m pytest $(ARGS)

bench: setup
	@$(BIN)/vla-ros bench $(ARGS)

sanitize: setup
	@$(BIN)/python tools/core_checks.py exercise

fuzz: setup
	@$(BIN)/python tools/core_checks.py fuzz --seconds $(SECONDS)

fuzz-execution: setup
	@$(BIN)/python test/sim/fuzz_execution.py --seconds $(SECONDS)

lint: setup
	@tools/lint.sh

lock:
	@tools/lock.sh

clean:
	rm -rf .venv build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
