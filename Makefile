# Every target makes .venv and installs into it when that is needed, and only then.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test test-slow test-all bench report docs check format clean
.DELETE_ON_ERROR:

help:  ## this list
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench,report]'
	touch $@

demo: $(READY)  ## install, then the whole algorithm on pictures the project draws itself
	$(BIN)/stylebench demo

# A file a process, one thread each: the tests' tensors are too small to share.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

test: $(READY)  ## the test suite without what is slow by nature
	$(PYTEST) -m "not slow"

test-slow: $(READY)  ## the tests that are slow by nature, alone
	$(PYTEST) -m slow

test-all: $(READY)  ## the whole test suite
	$(PYTEST)

bench: $(READY)  ## the quick suites, as tables; records only with BENCH="--output FOLDER"
	failed=; \
	for suite in smoke parity iteration kernels sizes time-to-loss batch stylize; do \
	  $(BIN)/stylebench bench $$suite --quick $(BENCH) || case $$? in \
	    130) exit 130;; \
	    *) failed="$$failed $$suite";; \
	  esac; \
	done; \
	test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

docs: $(READY)  ## the guides and the API reference in site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: $(READY)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)  ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

report: $(READY)  ## the page of all results in report/, and the README's table of them
	$(BIN)/stylebench report results/ -o report/ --readme README.md
	@echo "to be seen at file://$(CURDIR)/report/index.html"

clean:  ## remove what the targets above made
	rm -rf .venv out report site .pytest_cache .mypy_cache .ruff_cache .benchmarks
