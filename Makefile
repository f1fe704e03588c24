# Everything here works on a machine that has only python3 (3.11 or newer) and make.
#
#   make demo    a ladder of techniques on a bundled case, in minutes, without a GPU or a network
#   make test    the tests
#   make check   lint, format, types, layers, figures of the documents
#   make bench   speed against the peers (needs the data, see bench/README.md)
#   make clean   remove what the others made
#
# A Linux machine without a GPU: PyTorch's default wheels for Linux bring CUDA along (some GB).
# Point pip at the CPU wheels first, as PyTorch's install page says (PIP_EXTRA_INDEX_URL).

PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
PYTEST_ARGS ?= -q -n auto
BENCH_ARGS ?=

BIN := $(VENV)/bin
INSTALL = -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
GROUND := pyproject.toml constraints.txt

# One thread per test process: the processes already fill the cores.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check format bench coverage clean

help:
	@sed -n '3,7s/^# *//p' Makefile

demo: $(VENV)/.run
	@test -f demo/task.yaml || $(BIN)/savile init hard_routing --out demo
	@$(BIN)/savile run demo/task.yaml --out demo/run

test: $(VENV)/.test
	@$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS)

coverage: $(VENV)/.test
	@$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS) --cov

check: $(VENV)/.dev $(VENV)/.test
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/mypy
	@$(TEST_ENV) $(BIN)/python -m pytest -q tests/test_layers.py tests/test_repository.py

format: $(VENV)/.dev
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

bench: $(BENCH_VENV)/.bench
	@$(BENCH_VENV)/bin/python bench/startup.py $(BENCH_ARGS)
	@$(BENCH_VENV)/bin/python bench/training.py $(BENCH_ARGS)
	@$(BENCH_VENV)/bin/python bench/evaluation.py $(BENCH_ARGS)
	@$(BENCH_VENV)/bin/python bench/table.py

clean:
	rm -rf $(VENV) $(BENCH_VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp stands for one finished installation; a second call finds it and starts at once.
# torch comes first and alone, so that nothing that depends on it can pull another build of it.
%/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "savile needs Python 3.11 or newer; found $$($(PYTHON) --version). Set PYTHON=..."; exit 4; }
	@test -x $*/bin/python || $(PYTHON) -m venv $*
	@echo "installing into $* (once, a few minutes)"
	@$*/bin/python $(INSTALL) torch
	@touch $@

%/.run: %/.torch $(GROUND)
	@$*/bin/python $(INSTALL) --editable .
	@touch $@

%/.test: %/.run $(GROUND)
	@$*/bin/python $(INSTALL) --editable '.[test]'
	@touch $@

%/.dev: %/.run $(GROUND)
	@$*/bin/python $(INSTALL) --editable '.[dev]'
	@touch $@

%/.bench: %/.run bench/requirements.txt
	@$*/bin/python $(INSTALL) --requirement bench/requirements.txt
	@touch $@

.PRECIOUS: %/.torch %/.run %/.test %/.dev %/.bench
