# make demo | test | slow | chaos | soak | fuzz | oracle | check | bench | bench-proxy | bench-http2 | bench-config | scale | format | clean
#
# The environment is made in .venv when it is missing or older than pyproject.toml or constraints.txt.
# ARGS goes through: make demo ARGS="--duration 30 -o json", make test ARGS="tests/unit -x".

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --constraint constraints.txt
ARGS ?=

.PHONY: demo test slow chaos soak fuzz oracle check bench bench-proxy bench-http2 bench-config scale format clean

demo: $(VENV)/.run
	@exec $(BIN)/ray-mesh demo $(ARGS)

test: $(VENV)/.dev
	@exec $(BIN)/python -m pytest -m "not slow" $(ARGS)

# What `make test` leaves out for its time.
slow: $(VENV)/.dev
	@exec $(BIN)/python -m pytest -m slow $(ARGS)

# Failures under traffic, the slow ones too; -s shows the figures of docs/failures.md. About ten minutes.
chaos: $(VENV)/.dev
	@exec $(BIN)/python -m pytest tests/chaos -s $(ARGS)

# The same requests through ours and through Envoy; intended differences are listed in tests/oracle/differences.py.
oracle: $(VENV)/.bench
	@exec $(BIN)/python -m pytest tests/oracle $(ARGS)

check: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Faults, changes and new certificates under traffic whose every body is compared; ten minutes.
soak: $(VENV)/.dev
	@exec $(BIN)/python tests/soak/soak_run.py $(ARGS)

# Each parser for 60 s, or as many as ARGS says: make fuzz ARGS=600. What breaks one is left in tests/fuzz.
fuzz: $(VENV)/.fuzz
	@for target in tests/fuzz/fuzz_*.py; do \
	  echo "$$target"; \
	  $(BIN)/python $$target -max_total_time=$(or $(ARGS),60) -artifact_prefix=tests/fuzz/ -verbosity=0 -print_final_stats=1; \
	done

bench: $(VENV)/.bench
	@exec $(BIN)/python tests/bench/run.py $(ARGS)

# The data plane beside Envoy, HAProxy and nginx: docs/performance.md. At most 20 minutes, 6 with ARGS="--quick".
bench-proxy: $(VENV)/.bench
	@exec $(BIN)/python tests/bench/run_proxy.py $(ARGS)

# HTTP/2 and gRPC beside Envoy and HAProxy; needs h2load (Debian: nghttp2-client). As long as bench-proxy.
bench-http2: $(VENV)/.bench
	@exec $(BIN)/python tests/bench/run_http2.py $(ARGS)

# Changes of configuration on their way to 2,000 proxies: docs/scale.md. At most 20 minutes, 6 with ARGS="--quick".
bench-config: $(VENV)/.dev
	@exec $(BIN)/python tests/bench/run_config.py $(ARGS)

scale: $(VENV)/.dev
	@exec $(BIN)/python tests/bench/scale.py $(ARGS)

format: $(VENV)/.dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Output goes to stderr: `make demo ARGS="-o json"` prints JSON and nothing else, also the first time.
$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ray Mesh needs Python 3.11 or newer: make PYTHON=...")'
	@echo "making $(VENV) (once)" >&2
	@"$(PYTHON)" -m venv $(VENV) >&2

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Ray Mesh into $(VENV)" >&2
	@$(INSTALL) setuptools >&2
	@$(INSTALL) --no-build-isolation --editable ".[grpc]" >&2
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing what tests and checks need into $(VENV)" >&2
	@$(INSTALL) --no-build-isolation --editable ".[test,check]" >&2
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo "installing what benchmarks need into $(VENV)" >&2
	@$(INSTALL) --no-build-isolation --editable ".[bench]" >&2
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	@echo "installing what fuzzing needs into $(VENV)" >&2
	@$(INSTALL) --no-build-isolation --editable ".[fuzz]" >&2
	@touch $@
