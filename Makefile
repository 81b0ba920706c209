# Every target sets up what it needs in .venv; nothing is installed outside of it.
PYTHON ?= python3
CHROMIUM ?= /usr/bin/chromium
BIN := .venv/bin
COLAB_BIN := .venv-colab/bin
LLAMA_CPP_PYTHON := $(shell sed -n 's/^llama-cpp-python==//p' constraints.txt)
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
# Two processes of one thread each: most tests are many small steps, which a second thread does not speed up.
PYTEST := -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder \
	--nbval-lax --nbval-current-env --nbval-cell-timeout=900 --nbval-kernel-startup-timeout=300
# What depends on the versions of IPython, ipykernel, transformers, PEFT, datasets and pandas, in about ten minutes.
COLAB_TESTS := $(addprefix tests/test_,import.py options.py magics.py kernel.py terminal.py adapters.py store.py formats.py loading.py \
	families.py teaching.py::test_the_proof_of_one_fact teaching.py::test_another_process_answers_as_before \
	exporting.py::test_a_merged_model_answers_alike_in_plain_transformers) notebooks/01_teach_one_fact.ipynb notebooks/03_your_own_data.ipynb

.PHONY: help demo lab test test-browser test-colab docs notebooks bench check format clean

help:
	@echo "make demo   install, run the first tutorial, print what the model said before and after"
	@echo "make test   install, then lint, types, import contract, unit tests, notebooks"
	@echo "make test-colab  the same at the versions of Colab, in .venv-colab: what depends on them, and two notebooks"
	@echo "make docs   install, build the docs site into build/site; warnings are errors"
	@echo "make test-browser  install, then drive the panels in a real JupyterLab and Chromium (some minutes)"
	@echo "make lab    install, open JupyterLab on the notebooks"
	@echo "make bench  install, measure speed, what is learned and what is lost (writes benchmarks/results; some two and a half hours)"
	@echo "make check  lint, types and import contract only"
	@echo "make notebooks  run the notebooks again and keep their output (some minutes)"
	@echo "make format write the code in the project's form"

demo: .venv/.lab
	$(BIN)/python tools/demo.py

lab: .venv/.lab
	$(BIN)/jupyter lab --notebook-dir=notebooks

test test-colab: export OMP_NUM_THREADS = 1

# The notebooks take longest, so they come first: both processes end together.
test: export LLAMA_CPP = $(CURDIR)/.venv/llama.cpp
test: check .venv/.llama.cpp
	$(BIN)/python $(PYTEST) $(NOTEBOOKS) tests

test-browser: .venv/.browser
	@test -x "$(CHROMIUM)" || { echo "There is no Chromium at $(CHROMIUM): apt install chromium, or make test-browser CHROMIUM=/path/to/it."; exit 1; }
	CHROMIUM="$(CHROMIUM)" $(BIN)/python -m pytest tests/browser

test-colab: .venv-colab/.test
	PYDEVD_DISABLE_FILE_VALIDATION=1 $(COLAB_BIN)/python $(PYTEST) $(COLAB_TESTS)

check: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify --keep-output --keep-count $(NOTEBOOKS)

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: .venv/.bench
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.knowledge --reference-every 10
	$(BIN)/python -m benchmarks.methods
	$(BIN)/python -m benchmarks.many_rows

notebooks: .venv/.test
	$(BIN)/python -m tools.notebooks
	$(BIN)/nbstripout --keep-output --keep-count $(NOTEBOOKS)

format: .venv/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-colab build

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'nbtune needs Python 3.11 or later: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

# Each environment is the package with the extras of its name.
EXTRAS_test := lab,test,check
.venv/.%: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(or $(EXTRAS_$*),$*)]"
	touch $@

# llama.cpp's own converter to GGUF is in the source of its Python package, and in no package that is built.
.venv/.llama.cpp: .venv/.test constraints.txt
	rm -rf build/llama.cpp .venv/llama.cpp && mkdir -p .venv/llama.cpp
	$(BIN)/python -m pip download --quiet --constraint constraints.txt --no-deps --no-binary llama-cpp-python --dest build/llama.cpp llama-cpp-python
	tar -xzf build/llama.cpp/*.tar.gz -C .venv/llama.cpp --strip-components=3 $(addprefix llama_cpp_python-$(LLAMA_CPP_PYTHON)/vendor/llama.cpp/, \
		convert_hf_to_gguf.py conversion gguf-py)
	rm -r build/llama.cpp
	touch $@

.venv-colab/.test: pyproject.toml constraints-colab.txt
	$(PYTHON) -m venv .venv-colab
	$(COLAB_BIN)/python -m pip install --quiet --upgrade pip
	$(COLAB_BIN)/python -m pip install --quiet --constraint constraints-colab.txt --editable ".[test]" ipywidgets
	touch $@
