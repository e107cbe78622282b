# make demo   install what the demo needs, and run it
# make test   install everything, then all checks and all tests
# make check  formatting, types and architecture only (under a minute)
# make format rewrite the files in the house format

PYTHON := .venv/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check
.PHONY: demo test check format
.DELETE_ON_ERROR:

demo: .venv/installed-run
	.venv/bin/hotlap demo

# Compiled once, and not by each of the processes that tests start where PYTHONDONTWRITEBYTECODE is set. What `-n logical`
# means is in tests/conftest.py.
test: check
	$(PYTHON) -m compileall -q src
	$(PYTHON) -m pytest -q -n logical --dist worksteal

check: .venv/installed-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy src scripts
	$(PYTHON) -m pytest -q tests/test_architecture.py

format: .venv/installed-dev
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

# The stamps: what is newer than them has to be installed again, else nothing is. torch comes first and by itself, so
# that pip takes the build that fits the machine.
.venv/installed-python:
	python3 -m venv .venv
	touch $@

.venv/installed-torch: .venv/installed-python
	$(PIP) install torch==2.13.0
	touch $@

.venv/installed-run: .venv/installed-torch pyproject.toml constraints.txt
	$(PIP) install -q -e '.[train,report]' -c constraints.txt
	touch $@

.venv/installed-dev: .venv/installed-torch pyproject.toml constraints.txt
	$(PIP) install -q -e '.[train,report,hf,data,cma,dev]' -c constraints.txt
	touch .venv/installed-run $@
