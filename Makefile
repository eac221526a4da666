# `make demo` and `make test` do all the set-up on a fresh machine with Python 3.11+ and gcc.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint hosts clean

demo: $(VENV)/ready
	$(BIN)/python examples/demo.py

test: $(VENV)/ready
	$(BIN)/pytest

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --allowlist stubtest.txt phextsync.index._coordinate phextsync.index._index phextsync.index._bytes

$(VENV)/ready: pyproject.toml $(wildcard phextsync/index/*.pyx phextsync/index/*.pxd)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info phextsync/index/*.c phextsync/index/*.so
