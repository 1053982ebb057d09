# Two commands matter: `make demo` and `make test`. Both set up .venv from uv.lock first; nothing else is needed
# but Python 3.11+, git and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(VENV)/.uv/bin/uv
EXTRAS := --extra demo --extra archive
# Three processes, on two cores: most tests wait for servers. A file stays in one process, and tests/conftest.py has an
# order for them: the one of pytest-xdist begins with files of many tests, so that the longest, of one or two, come last.
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder
# Python compiles what is imported anyway, the first time; compiling all packages makes that time shorter, and setup longer.
COMPILE ?= --compile-bytecode

# Where it is set, each of the hundreds of processes that tests start compiles anew all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo fast pure fresh test test-compiled lint types contracts bench simulate docs site dist sbom release-check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Ratchet needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PYTHON) -m venv $(VENV)/.uv
	@$(VENV)/.uv/bin/pip install -q --disable-pip-version-check 'uv>=0.9.8'

$(VENV)/.ready: $(UV) uv.lock pyproject.toml
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync -q --frozen $(COMPILE) $(EXTRAS)
	@touch $@

# The demo needs no test tools: it starts sooner without them.
$(VENV)/.demo: $(UV) uv.lock pyproject.toml
	@test -e $(VENV)/.ready || UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync -q --frozen --compile-bytecode --no-default-groups --extra demo
	@$(BIN)/python -m compileall -q proxy policies
	@touch $@

setup: $(VENV)/.ready  ## create .venv from the lock file
	@$(BIN)/python -m compileall -q proxy policies

demo: $(VENV)/.demo fresh  ## watch a model improve itself (about a minute)
	@$(BIN)/ratchet demo $(DEMO_ARGS)

fast: setup  ## compile the hot path in place (needs a C compiler); again after each change of it, `make pure` undoes it
	@$(BIN)/python hatch_build.py

pure: setup  ## let the hot path run from its sources again
	@$(BIN)/python hatch_build.py remove

# What is compiled in place would hide a change of its source. (The tests look for themselves, however they are started.)
fresh:
	@for made in $$(find proxy policies -name '*.so'); do \
	  source=$${made%%.*}.py; test ! $$source -nt $$made || \
	  { echo "$$source has changed since it was compiled: run \`make fast\`, or \`make pure\`"; exit 1; }; done

test: setup  ## the whole test suite
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-compiled: setup  ## the hot path's tests on compiled code, in a copy of the checkout (needs a C compiler)
	@$(BIN)/python -m tests.harness.compiled

lint: setup  ## style, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(UV) lock --check --offline --quiet || { echo "uv.lock is not what pyproject.toml asks for: run $(UV) lock"; exit 1; }

bench: setup fresh  ## benchmarks beside nginx, and queries over a million records; needs nginx, wrk, PostgreSQL and two idle cores
	@$(BIN)/python -m tests.bench.gateway
	@$(BIN)/python -m tests.bench.system
	@$(BIN)/python -m tests.bench.priority
	@$(BIN)/python -m tests.bench.ingest
	@$(BIN)/python -m tests.bench.store --records 1000000 --queries
	@$(BIN)/python -m tests.bench.decisions
	@$(BIN)/python -m tests.bench.startup
	@$(BIN)/python -m tests.bench.library

simulate: setup  ## error rates of the decision rules, the long version
	@$(BIN)/python -m tests.simulation --runs 200 --write
	@$(BIN)/python -m tests.simulation --runs 200 --sooner --write

docs: setup  ## regenerate the reference pages and config.example.toml
	@$(BIN)/python -m proxy.config.document
	@$(BIN)/python -m proxy.cli.document
	@$(BIN)/python -m dashboards.build
	@$(BIN)/python -m tests.harness.lifecycle_page
	@$(BIN)/python -m tests.harness.records_page
	@$(BIN)/python -m tests.harness.status_page

# The time in the site's map is that of the last change, so that the same sources make the same bytes.
site: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1577836800)
site: export NO_MKDOCS_2_WARNING = 1
site: setup  ## the documentation as a site, in site/; it needs no server: open site/index.html
	@$(BIN)/python -m mkdocs build --strict

dist: setup  ## wheel and source archive, in dist/: the same sources make the same bytes; RATCHET_COMPILE=1 adds a compiled wheel
	@$(BIN)/python -m tests.harness.release dist

sbom: setup  ## what a server installs, as CycloneDX, in dist/
	@$(BIN)/python -m tests.harness.release sbom

release-check: lint test dist sbom site  ## everything that stands before a tag
	@$(BIN)/python -m tests.harness.release check

clean:  ## remove the virtual environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache htmlcov dist site
