# SPDX-License-Identifier: Apache-2.0
# The only entry point: `make help` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
STAMP := .venv/.built
SOURCES := $(shell find rust -name '*.rs' -o -name 'Cargo.toml') Cargo.toml Cargo.lock pyproject.toml
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2

.PHONY: help setup system-packages demo test test-rust test-python test-long guest-kernel check lint bench fuzz docs gramine-manifest fmt clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

setup: system-packages $(STAMP) ## install all that is needed and build .venv/bin/strongroom

system-packages:
	@scripts/install-system-packages

$(STAMP): $(SOURCES) scripts/build
	@scripts/build
	@touch $(STAMP)

demo: setup ## make a volume, put a file system with real files on it, prove that it is all there
	@$(BIN)/python demo/demo.py

test: setup test-rust test-python ## run every test: unit, vectors, interop, hostile, system (without test-long)

test-rust:
	cargo test --workspace --exclude strongroom-py --release --quiet

# Side by side, as tests/conftest.py groups them; what measures time comes afterwards, with the machine to itself.
test-python: guest-kernel
	$(PYTEST) -n $(WORKERS) --dist loadscope --no-loadscope-reorder -m 'not alone and not long'
	$(PYTEST) -m alone

test-long: guest-kernel ## run the tests that do more of the same, for minutes
	$(PYTEST) -m long

# A stock kernel that has what the machine's own may lack: unpacked into a cache, never installed.
guest-kernel:
	@$(BIN)/python tests/system/guest/kernel.py

lint: setup ## formatters, linters, types, import rules, stub check, generated documents
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --release --quiet -- -D warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest strongroom._core
	$(BIN)/python scripts/man_page.py --check
	$(BIN)/python scripts/cli_reference.py --check
	$(BIN)/python scripts/exit_codes.py --check
	scripts/check-rules

check: lint test ## the whole gate, as CI runs it

# Of ARGS, --quick leaves docs/performance.md as it is; with --only, round trips to a TPM are left out.
bench: setup guest-kernel ## measure on this machine, side by side with other tools: make bench ARGS='--only nbd'
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python bench/run.py $(ARGS)
	$(if $(filter --quick --only,$(ARGS)),,$(BIN)/python bench/tpm_round_trip.py --keep)
	$(if $(filter --quick,$(ARGS)),,$(BIN)/python bench/report.py)

# Ten million exchanges take a quarter of an hour. New inputs stay in build/.
fuzz: RUNS ?= 10000000
fuzz: ## fuzz the gate in front of the TPM: make fuzz RUNS=10000000; needs cargo-fuzz
	@mkdir -p build/fuzz
	cd rust/tpm && RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(CURDIR)/build/fuzz-target cargo fuzz run --release exchange \
	  ../../build/fuzz fuzz/corpus/exchange -- -runs=$(RUNS) -max_len=4600 -print_final_stats=1

docs: $(STAMP) ## regenerate the man page and the reference from the command line itself
	$(BIN)/python scripts/man_page.py
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/exit_codes.py

gramine-manifest: $(STAMP) ## fill in Gramine's manifest: make gramine-manifest IMAGE=/srv/vault.img
	$(BIN)/python scripts/gramine_manifest.py --image $(or $(IMAGE),$(error name the image: IMAGE=/srv/vault.img)) $(if $(HEADER),--header $(HEADER))

fmt: $(STAMP) ## format everything
	cargo fmt --all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix-only

clean: ## remove what was built
	rm -rf .venv target build
