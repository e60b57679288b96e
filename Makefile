# Every target does its own set-up: a fresh machine needs Python >= 3.12 and nothing else.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test e2e partners check lint types coverage bench clean

help: ## Show the targets
	@grep -E '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /\1\t/' | expand -t 12

$(STAMP): pyproject.toml scripts/find-python
	@python=$$(scripts/find-python) && { test -x $(BIN)/python || "$$python" -m venv $(VENV); }
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(STAMP) ## Make the development environment in .venv

demo: $(STAMP) ## See a real MCP conversation through mitmproxy, with a tape on disk
	@$(BIN)/shadowcat demo

# What runs pytest; `coverage` puts its own program here. PYTEST is for further arguments, such as -n 2.
RUN ?= $(BIN)/python
PYTEST ?=

test: $(STAMP) ## Run the tests (partners that are not installed are skipped with a reason; see e2e)
	@$(RUN) -m pytest $(PYTEST)

partners: $(STAMP) ## Fetch the real partners: the other SDK line, npm servers, the MCP Inspector
	@$(BIN)/python -m tests.e2e.partners

e2e: partners ## Run the end-to-end tests; a missing partner is a failure
	@SHADOWCAT_REQUIRE_PARTNERS=1 $(BIN)/python -m pytest tests/e2e

check: lint types test ## Lint, types and tests

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy

coverage: $(STAMP) ## Run the tests with coverage; fails under 95 % of the core
	@$(BIN)/coverage erase
	@$(MAKE) --no-print-directory test RUN='$(BIN)/coverage run'
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --include='shadowcat_core/*' --fail-under=95

bench: $(STAMP) ## Print every figure beside its peers (under 5 minutes)
	@$(BIN)/python -m benches

clean: ## Remove what the targets made
	rm -rf $(VENV) .partners .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* dist
