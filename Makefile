# The contract: `make demo` sets up and runs the main job; `make test` sets up and passes the tests.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := requirements/constraints.txt
export OMP_NUM_THREADS ?= 1
export MLFLOW_DISABLE_TELEMETRY := true
export DAGSTER_HOME := $(CURDIR)/dagster_home
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo ui study rehearsal test test-deep lint external-weights clean

help: ## list the commands
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(VENV)/.installed ## install the packages into .venv

# The tested set first, by its hashes and without the resolver (minutes faster), then the project itself: that step only adds torch with the
# dependencies of whichever build this machine gets, which therefore have no hashes.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	grep -v '^torch==' $(CONSTRAINTS) > $(VENV)/tested-set.txt
	sed -n 's/ \\$$//; /^[^ #]/p' $(CONSTRAINTS) > $(VENV)/versions.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(VENV)/tested-set.txt
	$(BIN)/python -m pip install --quiet -c $(VENV)/versions.txt -e '.[test]'
	touch $@

demo: setup ## run the whole lineage on the micro world and print the results (12 to 20 minutes)
	$(BIN)/rlip demo

study: setup ## the study profile: three seeds where a claim needs them (about 75 minutes, resumable)
	$(BIN)/rlip demo --profile study

study-%: setup ## one question with three seeds, such as study-fusion (`rlip study` lists them)
	$(BIN)/rlip study $*

rehearsal: setup ## the paper's experiments at full size on stand-ins of real data, from an empty folder to a report (docs/rehearsal.md)
	$(BIN)/python -m perf.rehearsal

ui: setup ## Dagster and MLflow on localhost
	$(BIN)/rlip ui

lint: setup ## style, types, the direction of the packages and Dagster's definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dg check defs

test: setup lint ## lint and the everyday tests, on two cores, with coverage
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 --cov --cov-report=
	@echo "coverage: $$($(BIN)/coverage report --format=total) %"

test-deep: $(VENV)/.deep ## long property runs, kills, both entry points on a miniature pipeline, real S3 and PostgreSQL servers, Ray, spaCy, Triton's interpreter
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=20 -m 'deep or s3 or postgres or ray or spacy or triton'

$(VENV)/.deep: $(VENV)/.installed requirements/deep.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/deep.txt
	touch $@

external-weights: setup ## train the shipped text encoder, captioner and detector again
	$(BIN)/python -m rlip_assets.micro_world.starting_weights

clean: ## remove everything that runs made, cached results too (keeps the packages)
	for root in . profiles/*/; do (cd $$root && rm -rf data work provenance reports .dvc/cache .dvc/tmp); done
	rm -rf mlruns/mlflow.* mlruns/artifacts predictions rehearsal profiles/rehearsal*
	find dagster_home -mindepth 1 -maxdepth 1 ! -name dagster.yaml -exec rm -rf {} +
