# Two commands for a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help quickstart test test-slow style notebooks clean

help:
	@echo "make quickstart   install into $(VENV), meta-train on unlabelled digits, show the result"
	@echo "make test         install into $(VENV) with the test extras, run all tests"
	@echo "make test-slow    the tests that take minutes"
	@echo "make style        format the code and check it"
	@echo "make clean        remove $(VENV) and the caches; runs/ stays"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch  # first and pinned, so that nothing else chooses another build
	$(PIP) --editable .
	touch $@

$(VENV)/.tests: $(VENV)/.installed
	$(PIP) --editable ".[tests]"
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/python -m metalit fit --config configs/quickstart.yaml
	$(BIN)/python -m metalit test --config configs/quickstart.yaml --ckpt_path best

# one thread a process: two processes of several threads each would fight for two cores
test: $(VENV)/.tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --quiet

test-slow: $(VENV)/.tests
	$(BIN)/python -m pytest -m slow

style: $(VENV)/.tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
