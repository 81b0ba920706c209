# Every target sets up what it needs in .venv; nothing is installed outside of it.
PYTHON ?= python3
CHROMIUM ?= /usr/bin/chromium
BIN := .venv/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb)

.PHONY: help demo lab test test-browser docs bench check format clean

help:
	@echo "make demo   install, run the first tutorial, print what the model said before and after"
	@echo "make test   install, then lint, types, import contract, unit tests, notebooks"
	@echo "make docs   install, build the docs site into build/site; warnings are errors"
	@echo "make test-browser  install, then drive the panels in a real JupyterLab and Chromium (some minutes)"
	@echo "make lab    install, open JupyterLab on the notebooks"
	@echo "make bench  install, measure speed, what is learned and what is lost (writes benchmarks/results; an hour and a half)"
	@echo "make check  lint, types and import contract alone"
	@echo "make format write the code in the project's form"

demo: .venv/.lab
	$(BIN)/python tools/demo.py

lab: .venv/.lab
	$(BIN)/jupyter lab --notebook-dir=notebooks

test: check
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 tests $(NOTEBOOKS)

test-browser: .venv/.browser
	@test -x "$(CHROMIUM)" || { echo "There is no Chromium at $(CHROMIUM): apt install chromium, or make test-browser CHROMIUM=/path/to/it."; exit 1; }
	CHROMIUM="$(CHROMIUM)" $(BIN)/python -m pytest tests/browser

check: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify --keep-output --keep-count $(NOTEBOOKS)

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/.bench
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.knowledge
	$(BIN)/python -m benchmarks.methods
	$(BIN)/python -m benchmarks.many_rows

format: .venv/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build nbtune_adapters

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'nbtune needs Python 3.11 or later: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.lab: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[lab]"
	touch $@

.venv/.test: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[lab,test]"
	touch $@

.venv/.docs: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

.venv/.browser: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[browser]"
	touch $@

.venv/.bench: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	touch $@
