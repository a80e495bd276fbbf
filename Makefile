# What there is to do with Tandem. Works from any folder: make -C path/to/tandem run

ROOT := $(dir $(realpath $(lastword $(MAKEFILE_LIST))))
PROFILE := $(if $(RELEASE),--release)
# Programs are started from here, not by `cargo run`: for one package alone it builds what that needs with other features, and
# what it sets makes a cargo within build once more what looks at it.
export CARGO_TARGET_DIR ?= $(ROOT)target
DEBUG := $(CARGO_TARGET_DIR)/debug
OPTIMISED := $(CARGO_TARGET_DIR)/release
# What is shipped. Its `tandem` has no wrong variants; that of the whole workspace, which tests start, has. Both come to lie in one
# place, so each use has links of its own: `make run` and `make test` do not change each other's programs.
SHIPPED := -p tandem-api -p stripe-sim -p tandem-local --bins
programs_for = mkdir -p "$(2)/for-$(1)" && ln -f "$(2)/tandem" "$(2)/stripe-sim" "$(2)/tandem-local" "$(2)/for-$(1)"
BUILT := $(if $(RELEASE),$(OPTIMISED),$(DEBUG))
SHELL := /bin/sh
.DEFAULT_GOAL := help
SEEDS := $(shell date +%s)000..
HOURS := 1
RUNS := 20
SECONDS := 60
HISTORIES := 1000000
.PHONY: help run test test-often soak model bench lint fuzz fmt clean
MAKEFLAGS += --no-print-directory

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' "$(ROOT)Makefile"

run: ## Start PostgreSQL, nats-server, a local Stripe and Tandem (RELEASE=1: optimised; STRIPE_SECRET_KEY: Stripe itself)
	@cd "$(ROOT)" && deploy/bootstrap
	@cd "$(ROOT)" && cargo build $(PROFILE) $(SHIPPED)
	@$(call programs_for,run,$(BUILT))
	@cd "$(ROOT)" && exec "$(BUILT)/for-run/tandem-local" run

test: lint ## Check everything: lint, then every test on real servers
	cd "$(ROOT)" && deploy/bootstrap
	cd "$(ROOT)" && cargo build $(SHIPPED)
	cd "$(ROOT)" && cargo build --workspace --bins
	@$(call programs_for,tests,$(DEBUG))
	cd "$(ROOT)" && "$(DEBUG)/for-tests/tandem-local" test -- cargo test --workspace

test-often: ## Run all tests again and again while other programs keep the machine busy (RUNS=20; SEED=7; FILTER=backup::)
	@cd "$(ROOT)" && deploy/bootstrap
	@cd "$(ROOT)" && cargo build --workspace --bins && cargo test --workspace --no-run
	@$(call programs_for,tests,$(DEBUG))
	@cd "$(ROOT)" && tests/often $(RUNS) $(FILTER)

soak: ## Play new random histories of edits and faults on both sides (HOURS=1; SEEDS=17 or SEEDS=100..200: those)
	@cd "$(ROOT)" && deploy/bootstrap
	@cd "$(ROOT)" && cargo build --workspace --bins
	@$(call programs_for,tests,$(DEBUG))
	@cd "$(ROOT)" && TANDEM_TEST_SEEDS=$(SEEDS) TANDEM_TEST_HOURS=$(HOURS) "$(DEBUG)/for-tests/tandem-local" test -- \
		cargo test --workspace --test tandem -- --nocapture new_seeds

model: ## Play random histories without servers, on a model of Stripe, network and database (HISTORIES=1000000)
	@cd "$(ROOT)" && TANDEM_TEST_MODEL_SEEDS=$${TANDEM_TEST_MODEL_SEEDS:-0..$(HISTORIES)} \
		cargo test --workspace --lib -- --nocapture model::histories

bench: ## Measure speed against the bare parts, on an optimised build (ARGS="...": options of tandem-bench)
	@cd "$(ROOT)" && deploy/bootstrap
	@cd "$(ROOT)" && cargo build --release -p tandem-api -p stripe-sim -p tandem-local -p tandem-bench --bins
	@cd "$(ROOT)" && tests/isolated "$(OPTIMISED)/tandem-bench" $(ARGS)

lint: ## Check format, lints, docs, and dependencies if cargo-deny is installed
	cd "$(ROOT)" && cargo fmt --all --check
	cd "$(ROOT)" && tests/shared
	cd "$(ROOT)" && cargo clippy --workspace --all-targets -- -D warnings
	cd "$(ROOT)" && RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
	cd "$(ROOT)" && if cargo deny --version >/dev/null 2>&1; then cargo deny check; \
		else echo 'cargo-deny is not installed: dependencies were not checked'; fi

fuzz: ## Send anything to each place where anything may come in (SECONDS=60 for each); needs a nightly compiler
	@cd "$(ROOT)" && fuzz/run $(SECONDS)

fmt: ## Format the code
	cd "$(ROOT)" && cargo fmt --all

clean: ## Remove what was built and installed; the data of `make run` stays in .tandem/data
	cd "$(ROOT)" && cargo clean && rm -rf .tandem/tools
