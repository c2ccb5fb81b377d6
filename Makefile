# make serve     run the service on http://127.0.0.1:8000
# make test      lint, types, architecture and tests
# make test-docker   the images and the compose file, on a real engine
# make main-job, make bench   the figures of the README, from the texts in DATA
# make train     the whole training recipe on the sample of the project; RUN=… says where
# make encoder   build the shipped encoders again from their pinned weights
# Settings of the service are environment variables: see docs/operations.md.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
# The peers of the bench ask for other packages than Deja does, so they have a place of their own.
BENCH_VENV := .venv-bench
# The first Python of 3.11 or newer; PYTHON=… takes another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# Real questions to measure on; they belong to their sources and are no part of the project.
DATA ?= ../shared/data
RUN ?= runs/sample
# PyTorch's own index has builds without CUDA; a GPU user gives another, or an empty one for PyPI's.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt
PEERS_INSTALL := $(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-input

.PHONY: serve test lint train encoder openapi main-job bench clean

serve: $(VENV)/.service
	@exec $(BIN)/deja serve

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Its own phony line: images are built and run, so `make test` leaves it out.
.PHONY: test-docker
test-docker: $(VENV)/.dev
	TEST_DOCKER=1 $(BIN)/python -m pytest tests/e2e/test_docker.py

train: $(VENV)/.training
	$(BIN)/deja-train --config training/sample/config.toml --output $(RUN)

encoder: $(VENV)/.training
	$(BIN)/python -m training.export
	$(BIN)/python -m training.delta apply training/deltas/deja-en-1.safetensors --output runs/deja-en-1
	$(BIN)/python -m training.export --model runs/deja-en-1 --output app/artifacts/deja-en-1

main-job: $(VENV)/.dev
	$(BIN)/python -m benchmarks.main_job --data $(DATA)

bench: $(VENV)/.dev $(BENCH_VENV)/.peers
	$(BIN)/python -m benchmarks.bench --data $(DATA)

openapi: $(VENV)/.service
	$(BIN)/python -m app.openapi docs/openapi.json

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Deja needs Python 3.11 or newer; install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "could not make $(VENV): is Python's venv module installed?" >&2; exit 1; }

$(VENV)/.service: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the service into $(VENV) ..."
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "Installing PyTorch into $(VENV) ..."
	@{ test -n "$(TORCH_INDEX)" && $(PIP_INSTALL) --no-deps --retries 0 --timeout 15 \
		--index-url $(TORCH_INDEX) torch 2>/dev/null; } \
		|| { echo "No build of PyTorch from '$(TORCH_INDEX)': taking the one pip finds (on Linux perhaps a CUDA build of several GB) ..."; \
		$(PIP_INSTALL) torch; }
	@touch $@

$(VENV)/.training: $(VENV)/.service $(VENV)/.torch
	@echo "Installing the training package into $(VENV) ..."
	@$(PIP_INSTALL) -e '.[training]'
	@touch $@

$(VENV)/.dev: $(VENV)/.training
	@echo "Installing what the tests need into $(VENV) ..."
	@$(PIP_INSTALL) -e '.[training,dev]'
	@touch $@

$(BENCH_VENV)/.peers: benchmarks/requirements.txt | $(BIN)/python
	@echo "Installing the peers of the bench into $(BENCH_VENV) ..."
	@$(PYTHON) -m venv $(BENCH_VENV)
	@{ test -n "$(TORCH_INDEX)" && $(PEERS_INSTALL) --no-deps --retries 0 --timeout 15 \
		--index-url $(TORCH_INDEX) "$$(grep '^torch==' $<)" 2>/dev/null; } \
		|| echo "No build of PyTorch from '$(TORCH_INDEX)': taking the one pip finds ..."
	@$(PEERS_INSTALL) -r $<
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH_VENV)
