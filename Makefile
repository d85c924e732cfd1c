# `make run` and `make test` are all that a newcomer needs; `make help` lists the rest.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# A worker for each processor; the last ones take tests over from those that have more left to do.
PYTEST := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=worksteal

.PHONY: help run test quick check store study compare results ui bench lock

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# The environment: made anew when a lock changes.
$(INSTALLED): requirements.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; assert (3, 10) <= sys.version_info < (3, 14), f"Python {sys.version.split()[0]} found; 3.10 to 3.13 needed: make PYTHON=python3.11"'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --requirement requirements-dev.txt
	touch $@

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

results: store ## both studies over five seeds, and the reports in results/, which are committed
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e study -P study=published --env-manager local
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e study -P study=controlled -P a_a=true --env-manager local
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e compare -P study=published -P out=results --env-manager local
	PATH="$(CURDIR)/$(BIN):$$PATH" mlflow run . -e compare -P study=controlled -P out=results/controlled --env-manager local

ui: $(INSTALLED) ## the MLflow UI on http://127.0.0.1:5000
	$(BIN)/mlflow ui

bench: $(INSTALLED) ## speed and memory, as ratios measured side by side
	$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.study
	$(BIN)/python -m benchmarks.compare

lock: $(INSTALLED) ## write the lock files anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --custom-compile-command 'make lock' \
		pyproject.toml --output-file requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --custom-compile-command 'make lock' \
		--constraint requirements.txt --extra dev pyproject.toml --output-file requirements-dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --custom-compile-command 'make lock' \
		--constraint requirements.txt --extra bench pyproject.toml --output-file benchmarks/requirements.txt
