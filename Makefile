# Two commands from a fresh machine: `make demo` and `make test`. They need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
SERVES := .venv/.serves
READY := .venv/.ready
PORT ?= 8000
DATA_DIR ?= .markonce/demo
WORKERS ?= 3
GOLDENS := tests/test_architecture.py tests/contract/test_golden_contracts.py tests/contract/test_schema_sql.py tests/read/test_compile.py tests/api/oauth/test_token_answers.py

.DEFAULT_GOAL := help
.PHONY: help demo test check contracts bench faults attack conformance locks operations clean

help:  ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# What serves, with the embedded PostgreSQL; the tools of the tests and checks come on top of it
$(SERVES): requirements-embedded.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed; name it: make PYTHON=python3.12 …'; exit 1; }
	@echo 'Setting up .venv (once)…'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-embedded.lock
	@touch $@

$(READY): requirements-dev.lock | $(SERVES)
	@echo 'Adding the tools of the tests to .venv…'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@ $(SERVES)

demo: $(SERVES)  ## a fictional trust on an embedded PostgreSQL, served on 127.0.0.1 (PORT=8000 DATA_DIR=.markonce/demo)
	@exec $(BIN)/python -m api demo --port $(PORT) --data-dir $(DATA_DIR) --parent $$PPID

# The tests start many programs, each of which would otherwise compile the code again
test: export PYTHONDONTWRITEBYTECODE =
test: check  ## everything CI runs: the checks, then the suite
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -q

check: $(READY)  ## formatting, lint, types, import rules, committed contracts
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .venv/lint-imports.txt || { cat .venv/lint-imports.txt; exit 1; }
	@$(BIN)/python -m api contracts --check

contracts: $(READY)  ## write openapi.json, schema.graphql, expected/, docs/schema.sql and the map of docs/architecture.md again, to review as a diff
	@$(BIN)/python -m api contracts
	@MARKONCE_ACCEPT=1 $(BIN)/python -m pytest -q -k golden $(GOLDENS)
	@git status --short openapi api/graphql expected docs

bench: $(READY)  ## measure both interfaces beside ordinary servers and PostgreSQL itself, or beside another commit (ARGS="--workload R1 --rounds 3", --against REV, --functions, --profile R1, --full, --scale 10)
	@$(BIN)/python -m tests.bench $(ARGS)

faults: $(READY)  ## kills, cuts, freezes and refusals under load: what was acknowledged is there (ARGS="kills --count 40", --small, --seed 7)
	@$(BIN)/python -m tests.faults $(ARGS)

attack: $(READY)  ## all of what the suite does a part of: 5,000 requests for rows of other tenants against each check alone, 300 random questions to both interfaces, 300 trusts whose aggregates are solved
	@MARKONCE_FULL=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup tests/attack tests/protection tests/read/test_rows_read.py $$(grep -rlE 'choose_(size|some)\(' tests --include='test_*.py') $(ARGS)

conformance: $(READY)  ## suites and generated clients of others, against a demonstration (needs Node)
	@bash tests/conformance/run

locks: $(READY)  ## compile the five locks from pyproject.toml again, with the versions that they have (needs uv)
	@bash tests/operations/compile_locks

operations: $(READY)  ## follow docs/operating.md line by line: the lean install, a DBA's roles, TLS, PostgreSQL 15 and the embedded one; try a pooler, replicas and several servers; then the drills: an upgrade under load, the container, a restore to a moment, two shards (needs Debian's postgresql-15, prometheus, pgbouncer, haproxy)
	@bash tests/operations/check_rules
	@$(BIN)/python -m pytest -q tests/operations/check_*.py
	@$(BIN)/python -m tests.operations $(ARGS)

clean:  ## remove the virtual environment and the demonstration's data
	@rm -rf .venv .markonce
