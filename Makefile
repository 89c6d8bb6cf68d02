# Works with Python 3.11 or newer with venv, and nothing else: what a target needs, it installs into .venv.
PYTHON3 ?= python3
ARCH ?= arm64
PYTHON ?= 3.13
CONTAINER_ENGINE ?= docker
STACK ?= jwt-kit
VENV = .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.PHONY: help demo serve test lint layer deploy clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s%s\n", $$1, $$2 }'

demo: $(VENV)/ready  ## deploy the whole kit to an emulator on this machine and walk through it
	@$(BIN)/python demo.py

serve: $(VENV)/ready  ## the same, but stay up and print the curl commands to try
	@$(BIN)/python demo.py --serve

test: $(VENV)/ready  ## run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/ready  ## ruff, mypy and cfn-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/cfn-lint template.yaml

clean:  ## remove what the other targets made
	rm -rf $(VENV) .demo layers .hypothesis .pytest_cache .mypy_cache .ruff_cache .coverage __pycache__ tests/__pycache__

$(VENV)/ready: requirements_basic_auth.txt requirements_google_auth.txt requirements_dev.txt requirements_engine.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "This needs Python 3.11 or newer: make PYTHON3=/path/to/python3.13")'
	@$(PYTHON3) -m venv $(VENV) || { echo "Python's venv module is missing (on Debian: apt install python3-venv)." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements_dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements_engine.txt
	@touch $@
