# `make demo`, `make test`, `make quick` and `make test-oldest` set everything up themselves; docs/developing.md has them as plain commands.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
PIP := $(BIN)/python $(INSTALL) --constraint requirements/constraints.txt
OLDEST := .venv-oldest

# glibc gives a freed tensor's pages back to the system and takes new ones for the next, which can cost more than the tests.
export MALLOC_TRIM_THRESHOLD_ := 4000000000
export MALLOC_MMAP_THRESHOLD_ := 4000000000

.PHONY: demo test quick test-oldest clean

demo: $(VENV)/demo
	$(BIN)/python -m lib_unetmod.playground

test: $(VENV)/test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tests/gradio_versions.py
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# For the daily loop: of each test of the library one case, without what takes seconds.
quick: $(VENV)/test
	$(BIN)/python -m ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not long" --quick tests/core tests/parts tests/methods \
		tests/settings tests/webui

# On the oldest that users have; what needs something newer is skipped, and says what.
test-oldest: $(OLDEST)/test
	$(OLDEST)/bin/python -m pytest -n 2 -m "not slow"

$(VENV)/demo: requirements/demo.txt requirements/unets.txt requirements/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "UNet Mod needs Python 3.10 or later: set PYTHON.")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements/demo.txt
	$(PIP) --no-deps --requirement requirements/unets.txt
	touch $@

$(VENV)/test: $(VENV)/demo requirements/test.txt
	$(PIP) --requirement requirements/test.txt
	touch $@

$(OLDEST)/test: requirements/oldest.txt requirements/unets.txt tests/gradio-3.41.2.txt
	@for python in $(PYTHON) python3.10 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.10*/bin/python; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null \
			&& exec "$$python" -m venv --clear $(OLDEST); \
	done; echo "make test-oldest needs Python 3.10: install python3.10, or set PYTHON." >&2; exit 1
	$(OLDEST)/bin/python $(INSTALL) --no-deps --requirement requirements/oldest.txt --requirement requirements/unets.txt
	$(OLDEST)/bin/python $(INSTALL) torch  # is there, but not the libraries of CUDA that its build on Linux asks for
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) .venv-gradio-* .pytest_cache .ruff_cache
