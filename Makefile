# `make` alone lists the targets. Each works on a fresh machine: it sets up .venv itself if it is missing.

PYTHON ?= python3
# Not by the PATH alone: what pyenv puts there runs nothing by itself.
PYTHON2 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/2.7.18/bin/python2.7 $(addsuffix /python2.7,$(subst :, ,$(PATH)))))
VENV := .venv
BIN := $(VENV)/bin
AUTOBAHN := $(VENV)/autobahn
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-long soak soak-short conformance autobahn check fmt bench build clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run  ## the main job: mock server with live traffic, io process, two workers, until Ctrl-C
	@exec $(BIN)/rig run --workers 2

test: $(VENV)/.dev  ## every test that takes less than two seconds, in parallel
	$(BIN)/python -m pytest

test-slow: $(VENV)/.dev  ## the tests that take up to ten seconds each
	$(BIN)/python -m pytest -m 'slow and not long'

test-long: $(VENV)/.dev  ## the tests that take longer
	$(BIN)/python -m pytest -m long --timeout 600

soak-short: $(VENV)/.dev  ## every proof of docs/reliability.md, a few rounds each: some minutes
	$(BIN)/python -m pytest -m soak -n 2 --timeout 600

soak: $(VENV)/.dev  ## the proofs at full length, one after the other: about a quarter of an hour; writes the table of docs/reliability.md
	rm -f .soak.jsonl
	RIG_SOAK=long RIG_RELIABILITY=$(CURDIR)/.soak.jsonl $(BIN)/python -m pytest -m soak -n 0 --timeout 3600
	$(BIN)/python -m tests.reliability.report .soak.jsonl docs/reliability.md

conformance: $(VENV)/.dev  ## rig's client against a Phoenix server (URL=wss://host/socket), or else against the mock server
	RIG_CONFORMANCE_URL='$(URL)' $(BIN)/python -m pytest tests/conformance/any_server -n 0 --verbose

autobahn: $(VENV)/.dev $(AUTOBAHN)/.ready  ## RFC 6455 against the Autobahn|Testsuite (needs Python 2.7); writes tests/conformance/AUTOBAHN.md
	$(BIN)/python -m tests.conformance.autobahn $(AUTOBAHN)/bin/wstest

check: $(VENV)/.dev  ## style, types, layers; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(VENV)/.dev  ## put the style right
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.bench  ## throughput and latency beside other clients; writes bench/results.json and the chart
	$(BIN)/python -m bench

build: $(VENV)/.dev  ## wheel and sdist, in dist/
	$(BIN)/python -m build

clean:  ## remove .venv and what tools leave behind
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/node_modules

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rig needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "venv failed: install it (on Debian: apt install python3-venv)"; rm -rf $(VENV); exit 1; }

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.bench: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[bench]'
	@touch $@ $(VENV)/.run

$(AUTOBAHN)/.ready: $(VENV)/bin/python tests/conformance/autobahn/requirements.txt
	@'$(PYTHON2)' -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null || { echo "the Autobahn|Testsuite needs" \
		"Python 2.7: install it (with pyenv: pyenv install 2.7.18), or name it: make autobahn PYTHON2=/path/to/python2.7"; exit 1; }
	rm -rf $(AUTOBAHN) && $(PYTHON) -m venv $(AUTOBAHN)/tool
	$(AUTOBAHN)/tool/bin/python -m pip install --quiet --disable-pip-version-check 'virtualenv<20.22'  # the last for Python 2.7
	$(AUTOBAHN)/tool/bin/virtualenv --quiet --no-download --python '$(PYTHON2)' $(AUTOBAHN)
	$(AUTOBAHN)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/conformance/autobahn/requirements.txt
	@touch $@
