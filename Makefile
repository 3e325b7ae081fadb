# `make demo` and `make test` work as the first command on a fresh Debian or Ubuntu machine: every target sets up first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON_ENV := .venv/bin
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
BENCH_JSON ?=
# Tests and tools see the installed package only, whatever the caller's shell points at.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV SPARK_HOME
# Hundreds of processes start in the tests and a demonstration: each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# Spark starts its Python tasks with whatever `python3` it finds, unless told.
export PYSPARK_PYTHON := $(CURDIR)/.venv/bin/python
export PYSPARK_DRIVER_PYTHON := $(PYSPARK_PYTHON)

.PHONY: help setup demo test lint format types contracts docs bench clean

help: ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## Make .venv from uv.lock and see to Java 17 or newer
	@scripts/setup

demo: setup ## Train on private data through separate processes, and show what the host saw
	@$(PYTHON_ENV)/securemllib demo $(DEMO_ARGS)

test: setup ## Run the tests (PYTEST_ARGS="-k words" for some)
	@scripts/postgresql
	@scripts/softhsm
	@$(PYTHON_ENV)/python -m pytest --numprocesses 3 $(PYTEST_ARGS)

lint: setup ## Check format and lint rules
	@$(PYTHON_ENV)/ruff format --check .
	@$(PYTHON_ENV)/ruff check .

format: setup ## Format, and fix what ruff can fix
	@$(PYTHON_ENV)/ruff check --fix-only --quiet .
	@$(PYTHON_ENV)/ruff format .

types: setup ## Check types with mypy and pyrefly
	@$(PYTHON_ENV)/mypy
	@$(PYTHON_ENV)/pyrefly check --python-interpreter-path $(PYTHON_ENV)/python

contracts: setup ## Check who may import whom
	@$(PYTHON_ENV)/lint-imports

docs: setup ## Build the documentation, warnings are errors
	@$(PYTHON_ENV)/sphinx-build -W -n --keep-going -q -b html docs docs/_build/html
	@$(PYTHON_ENV)/sphinx-build -W -n --keep-going -q -b doctest docs docs/_build/doctest
	@echo "docs/_build/html/index.html"

bench: setup ## Compare with plaintext MLlib (BENCH_JSON=file, BENCH_ARGS=...)
	@scripts/openblas
	@$(PYTHON_ENV)/python bench/run.py $(if $(BENCH_JSON),--json "$(BENCH_JSON)") $(BENCH_ARGS)

clean: ## Remove what the targets made, except the environment
	@rm -rf docs/_build build dist bench-results demo-results .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
