# Everything here needs git, make and Python 3.11 or later; the rest is installed into .venv.

PYTHON ?= python3
JOBS   ?= 3
VENV   := .venv
BIN    := $(VENV)/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
           --build-constraint constraints.txt

# Where it is set, every start of Python compiles all of its modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check bench docs lock clean

help:  ## Show this
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/'

demo: $(VENV)/.local  ## The whole wheel through the crash of 2008, in ./demo, in two minutes
	@PATH="$(CURDIR)/$(BIN):$$PATH" python examples/the_whole_wheel.py demo

test: $(VENV)/.test $(VENV)/.airflow  ## All tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: $(VENV)/.test  ## Lint, formatting, types, the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test  ## Who re-runs what after an edit, and what it costs
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

docs: $(VENV)/.local  ## Write the pages again that follow from the code: the map, charkha.toml
	$(BIN)/python docs/generate.py

lock: $(VENV)/.uv  ## Resolve constraints.txt again, to the newest versions that fit
	{ sed -n 1p constraints.txt; printf 'hatchling\nuv\n' | $(BIN)/uv pip compile --quiet \
	  --all-extras --no-header --no-annotate pyproject.toml -; } > $(VENV)/constraints.new
	mv $(VENV)/constraints.new constraints.txt
	{ sed -n 1p constraints-airflow.txt; printf '%s\n' 'apache-airflow>=3.3,<3.4' \
	  apache-airflow-providers-docker apache-airflow-providers-cncf-kubernetes | $(BIN)/uv pip compile \
	  --quiet --no-header --no-annotate -; } > $(VENV)/constraints.new
	mv $(VENV)/constraints.new constraints-airflow.txt

clean:  ## Remove what was installed and the demo
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later, please: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	@touch $@

$(VENV)/.local: pyproject.toml constraints.txt | $(VENV)/.uv
	$(INSTALL) --editable '.[local]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/.uv
	$(INSTALL) --editable '.[test,check]'
	@touch $@ $(VENV)/.local

# A service and no dependency: its libraries want other versions than ours.
$(VENV)/.airflow: constraints-airflow.txt | $(VENV)/.uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/airflow
	$(BIN)/uv pip install --quiet --python $(VENV)/airflow/bin/python --requirements constraints-airflow.txt
	@touch $@
