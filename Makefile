# Each target sets up .venv when it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench bench-transfer format clean

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/ready
	$(BIN)/graft demo --out demo --force

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready
	$(BIN)/python -m benchmarks.main_job
	$(BIN)/python -m benchmarks.training fashion lenet
	$(BIN)/python -m benchmarks.training speed

# PEERS names a Python that has fastai too: benchmarks/README.md. Hours; `run` measures one way, `--missing` goes on.
bench-transfer: .venv/ready
	PEERS=$(PEERS) $(BIN)/python -m benchmarks.transfer all --missing

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build demo
