# `make demo`, `make test` and `make quick` set everything up themselves; docs/developing.md has them as plain commands.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --constraint requirements/constraints.txt

# glibc gives a freed tensor's pages back to the system and takes new ones for the next, which can cost more than the tests.
export MALLOC_TRIM_THRESHOLD_ := 4000000000
export MALLOC_MMAP_THRESHOLD_ := 4000000000

.PHONY: demo test quick clean

demo: $(VENV)/demo
	$(BIN)/python -m lib_unetmod.playground

test: $(VENV)/test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tests/gradio_versions.py
	$(BIN)/python -m pytest -n 2 -m "not slow"

# For the daily loop: of each test the first case, without the two that go on for long by design.
quick: $(VENV)/test
	$(BIN)/python -m ruff check .
	$(BIN)/lint-imports
	$(BIN)/python tests/gradio_versions.py
	$(BIN)/python -m pytest -n 2 -m "not slow" --quick \
		--ignore tests/settings/test_fuzz.py --ignore tests/playground/test_soak.py

$(VENV)/demo: requirements/demo.txt requirements/unets.txt requirements/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "UNet Mod needs Python 3.10 or later: set PYTHON.")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements/demo.txt
	$(PIP) --no-deps --requirement requirements/unets.txt
	touch $@

$(VENV)/test: $(VENV)/demo requirements/test.txt
	$(PIP) --requirement requirements/test.txt
	touch $@

clean:
	rm -rf $(VENV) .venv-gradio-* .pytest_cache .ruff_cache
