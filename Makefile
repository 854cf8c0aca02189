# Each target is one or two plain commands; README.md prints those of demo and test for machines without make.
#   make demo                 install, train a small GPT on stories (two minutes), generate three
#   make test                 install with the developer's tools, run the default tests
# PIP_FLAGS goes to pip. By default, tools/torch_index.py finds out whether the machine needs CUDA; `make demo PIP_FLAGS=` is plain pip.

PYTHON    ?= python3
PIP_FLAGS ?= $(shell $(BIN)/python tools/torch_index.py)
RUN       ?= runs/quickstart
BIN       := .venv/bin
PIP       = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_FLAGS)

# The programs of an environment contain its path, so they do not work in a moved folder.
OTHER_FOLDERS = $(shell grep -s '^command = ' .venv/pyvenv.cfg | grep -cvF "$$(pwd -P)/.venv")
ifneq (,$(filter-out clean help,$(MAKECMDGOALS)))
ifneq (0,$(OTHER_FOLDERS))
$(error this folder was moved or copied after .venv was made; run `make clean`, then this again)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-timing test-avx2 test-machines test-versions test-arm64 learn slides lessons docs bench check clean

help:            ## what make can do
	@awk -F ' *## ' '/^[a-z0-9-]+:.*##/ { sub(":.*", "", $$1); printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed  ## train a small GPT on stories, then generate three
	$(BIN)/llm-scratch train quickstart --out $(RUN)
	$(BIN)/llm-scratch generate $(RUN) "The story of Anna" "The tale of Tom, Mia and the kite" "The story of Leo" --max-tokens 180 --temperature 0.7 --seed 1
	@printf '\nFor the other commands of README, first:  source .venv/bin/activate\nSee inside the model that you trained:     $(BIN)/llm-scratch play $(RUN)\n'
	@$(BIN)/llm-scratch play $(RUN) --offer

setup: .venv/installed-dev  ## install everything: the package, the lessons and the developer's tools

test: setup      ## the default tests
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: setup  ## the tests of long sizes
	$(BIN)/python -m pytest -m slow --timeout 3600

test-machines: setup  ## the main commands on simulated machines: Windows, Macs, old processors, containers
	$(BIN)/python -m pytest -m machines -n 2 --dist loadgroup tests/machines

# limits the libraries to AVX2, as on processors without AVX-512
AVX2 := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 FBGEMM_ENABLE_INSTRUCTIONS=AVX2
PRODUCT_TESTS := tests/hardware tests/model/test_packed.py tests/model/test_quantized.py tests/model/test_quantized_kernels.py \
	tests/model/test_kernel_choice.py tests/model/test_fast_linear.py tests/generation/test_dtype.py tests/training/test_precision.py \
	tests/architecture/test_equivalence.py tests/architecture/test_shapes.py

test-avx2: setup  ## the tests of matrix products, limited to AVX2
	$(AVX2) $(BIN)/python -m pytest -n 2 --dist loadfile $(PRODUCT_TESTS)

test-timing: setup  ## the tests that a clock decides, one after the other on a machine that is otherwise idle
	$(BIN)/python -m pytest -m "timing and not slow"

test-versions: .venv/bin/python  ## other releases of Python, torch and NumPy; needs uv from PyPI
	$(BIN)/python -m pip install --disable-pip-version-check uv
	$(BIN)/python tools/version_matrix.py

test-arm64: .venv/bin/python  ## the main commands on 64-bit ARM, emulated by QEMU from Debian
	$(BIN)/python -m pip install --disable-pip-version-check uv
	$(BIN)/python tools/version_matrix.py --arm

check: setup     ## format, lint, types
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/mypy

learn: .venv/installed-lessons  ## open the course: lesson 0 in Jupyter
	$(BIN)/jupyter lab notebook/step0.ipynb

slides: .venv/installed-lessons  ## slides of the lessons, one HTML file each
	$(BIN)/python lessons/slides.py

lessons: setup   ## make and execute the notebooks from lessons/step*_*.py, with drawings and glossary
	$(BIN)/python lessons/build.py

docs: .venv/installed-docs  ## the site of lessons, guides and API: build/site/index.html
	$(BIN)/python docs/website/build.py

BENCHMARKS = converge decode families ideas operations plan playground prepare scale snapshots startup tokenizer train waiting_threads

bench: setup     ## the benchmarks of a CPU, with their defaults
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:           ## remove what make installed; runs/ stays
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.11 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e .
	@touch $@

.venv/installed-lessons: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[lessons]" jupyterlab
	@touch $@ .venv/installed

.venv/installed-docs: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[docs]"
	@touch $@ .venv/installed

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[dev]"
	@touch $@ .venv/installed
