# The two commands of the README are `make demo` and `make test`. Both first run scripts/bootstrap,
# which installs what this machine lacks and is quick when nothing is lacking.

PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help bench bootstrap demo test check lint types imports unit root compat docker-table crash soak fuzz tox format

help:            ## Show the targets
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

bootstrap:       ## Install what is lacking: Debian packages, .venv, the project with its tools
	@scripts/bootstrap

demo: bootstrap  ## Run the main job: a real container that outlives its daemon
	@$(PYTHON) -m demo

test: bootstrap check  ## Everything .ci/run demands: lint, types, imports, all tests
	@echo "==> tests: without root first, then with root, then against other projects' programs"
	@.venv/bin/pytest

check: lint types imports  ## The static checks only

lint:            ## Ruff: rules and format
	@echo "==> ruff: rules and format"
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check .

types:           ## Mypy, strict
	@echo "==> mypy --strict"
	@.venv/bin/mypy

imports:         ## The directions of imports, as contracts
	@echo "==> import-linter: who may import whom"
	@.venv/bin/lint-imports --no-cache

unit:            ## Tests that need neither root nor other projects' programs
	@.venv/bin/pytest -m "not root and not compat and not slow"

root:            ## Tests that mount, or start containers
	@.venv/bin/pytest -m "root and not compat"

compat:          ## Debian's ctr against the daemon; COMPAT_TARGET=containerd runs them on containerd itself
	@.venv/bin/pytest -m compat

docker-table: bootstrap ## Docker's features on Debian's containerd and on the supervisor, side by side
	@$(PYTHON) -m tests.docker.table

crash: bootstrap ## The long form of the crash tests: the daemon killed at every step of a task's life
	@CRASH=long .venv/bin/pytest tests/faults tests/shimv2/test_kill.py tests/compat/test_restart.py \
		tests/transfer/test_crash.py tests/docker/test_storm.py -s

SOAK_SECONDS ?= 3600
soak: bootstrap  ## Have a daemon work for SOAK_SECONDS (an hour), and see that nothing it holds grows
	@SOAK=$(SOAK_SECONDS) .venv/bin/pytest tests/soak -s

FUZZ_SECONDS ?= 300
fuzz: bootstrap  ## Look for layers that break the unpacking, for FUZZ_SECONDS (300); keeps what it finds
	@FUZZ=$(FUZZ_SECONDS) .venv/bin/pytest tests/diff/test_fuzz.py -s --timeout=0

bench: bootstrap ## Measure against Debian's containerd, in one run: records, shims, restart, collection
	@$(PYTHON) -m benchmarks.metadata --vs containerd
	@$(PYTHON) -m benchmarks.shim --vs containerd
	@$(PYTHON) -m benchmarks.restart
	@$(PYTHON) -m benchmarks.gc
	@$(PYTHON) -m benchmarks.pull --vs containerd

tox: bootstrap   ## The same checks, each in an environment of its own
	@.venv/bin/tox run

format:          ## Rewrite the code in its one format
	@.venv/bin/ruff check --fix-only --quiet .
	@.venv/bin/ruff format .
