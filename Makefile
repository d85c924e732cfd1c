# `make run` and `make test` are all that a newcomer needs; `make help` lists the rest.

PYTHON ?= python3
BIN := .venv/bin
SHELL := bash
INSTALLED := .venv/installed
# A worker for each processor; the last ones take tests over from those that have more left to do.
PYTEST := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=worksteal

.PHONY: help run test quick check store study compare results ui bench docs lock

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# The environment: made where there is none, updated in place when a lock changes, and never emptied, for it may be
# somebody else's. What pip says is shortened to the large downloads, so that a first `make` shows what it waits for.
VERSION := import sys; print("%d.%d" % sys.version_info[:2])
NAMES := grep -ohE '^[a-z0-9][a-z0-9._-]*' requirements.txt requirements-dev.txt | sort -u
SHORTENED := while read -r line; do case "$$line" in \
	(Downloading*" MB)"|"Using cached"*" MB)") echo "  $$line";; (Installing*) echo "  unpacking them";; esac; done
fail = { echo "error: $(1)" >&2; exit 1; }

$(INSTALLED): requirements.txt requirements-dev.txt
	@case "$$($(PYTHON) -c '$(VERSION)')" in 3.1[0-3]) ;; *) \
		$(call fail,$(PYTHON) is not Python 3.10 to 3.13; choose one with make PYTHON=python3.11);; esac
	@test ! -L .venv || $(call fail,.venv is a symbolic link and what it points to is left alone; remove the link)
	@test ! -e .venv || test "$$($(BIN)/python -c '$(VERSION)' 2>&1)" = "$$($(PYTHON) -c '$(VERSION)')" || \
		$(call fail,.venv is not an environment of $(PYTHON) and is left alone; remove it or choose its Python with make PYTHON=...)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@echo "installing $$(($$($(NAMES) | wc -l))) packages into .venv; TensorFlow is the largest download (about 600 MB):"
	@set -o pipefail; PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --progress-bar off \
		--requirement requirements.txt --requirement requirements-dev.txt | $(SHORTENED)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . # the command `variations`
	@touch $@

run: store ## one run, by the command to use from then on
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -P optimizer=adam --env-manager local

test: $(INSTALLED) ## all tests
	$(PYTEST)

quick: $(INSTALLED) ## the tests that are not slow: two minutes at most
	$(PYTEST) -m "not slow"

check: $(INSTALLED) ## format, lint, types, all tests, and how much of pipeline/ they cover
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
		$(PYTEST) --cov

store: $(INSTALLED) ## the tracking store, made before several runs start at once
	$(BIN)/python -m pipeline.store

study: store ## the published study over five seeds, and its report in comparison/
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e study -P study=published --env-manager local
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e compare -P study=published --env-manager local

compare: $(INSTALLED) ## the table and the report of the runs made so far, in comparison/
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e compare --env-manager local

results: store ## the three studies over five seeds, and the reports in results/, which are committed
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e study -P study=published --env-manager local
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e study -P study=controlled -P aa_test=true --env-manager local
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e study -P study=tuned --env-manager local
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e compare -P study=published -P out=results --env-manager local
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e compare -P study=controlled -P out=results/controlled --env-manager local
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e compare -P study=tuned -P out=results/tuned --env-manager local

ui: $(INSTALLED) ## the MLflow UI on http://127.0.0.1:5000
	$(BIN)/mlflow ui

bench: $(INSTALLED) ## speed and memory, as ratios measured side by side
	$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.study
	$(BIN)/python -m benchmarks.compare
	$(BIN)/python -m benchmarks.cluster

docs: $(INSTALLED) ## the tables of README.md and docs/, made of the code and of results/
	$(BIN)/python -m docs.generate

lock: $(INSTALLED) ## write the lock files anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --custom-compile-command 'make lock' \
		--extra train pyproject.toml --output-file requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --custom-compile-command 'make lock' \
		--constraint requirements.txt --extra dev pyproject.toml --output-file requirements-dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --custom-compile-command 'make lock' \
		--constraint requirements.txt --extra bench pyproject.toml --output-file benchmarks/requirements.txt
