# The two commands that matter are `make demo` and `make test`. Both need cargo and Go, and nothing else.

.PHONY: demo test check crds build compare faults fuzz bench mutants

# Everything is built in one go, so that cargo's features and target directory are the same for all.
build:
	@echo "== Building (a few minutes the first time)"
	cargo build --locked --workspace --bins

# The scenario, end to end. KEEP=1 stays up until Ctrl-C; CLUSTER=current uses your kubeconfig.
demo: build
	@target/debug/demo

# The API server first, since it takes longest and says how far it is.
test:
	@echo "== Building (a few minutes the first time)"
	cargo build --locked --package control-plane
	@target/debug/control-plane ensure >/dev/null
	@echo "== Building and running the tests"
	cargo test --locked --workspace

# What CI checks besides the tests.
check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo deny --all-features check bans licenses sources

# The CRDs in crds/, after a change of src/api/.
crds:
	cargo run --locked --quiet -- crds --out crds

# Schedules against the slow model: SCHEDULE_CASES random rules, from SCHEDULE_SEED on. Optimised, for long runs.
SCHEDULE_CASES ?= 10000000
compare:
	SCHEDULE_CASES=$(SCHEDULE_CASES) cargo test --locked --release --package coupon-operator --test schedule -- --nocapture agreement

# Each call of a run at each position, and DOUBTS faults of the endpoint: an hour or so. FAULTS_SEED repeats one.
DOUBTS ?= 10000
faults:
	FAULTS=all DOUBTS=$(DOUBTS) cargo test --locked --package coupon-operator --test faults -- --nocapture

# Each fuzz target for FUZZ_SECONDS.
fuzz:
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),20) tests/fuzz.sh

# Figures, on the release binary.
bench:
	cargo bench --locked --package coupon-operator

# What decides, with each of its mutants: hours. Needs `cargo install cargo-mutants`. Fewer lives of a campaign and fewer
# calendars, since each mutant is tried with all tests.
mutants:
	CAMPAIGN_LIVES=60 SCHEDULE_CASES=1500 cargo mutants --package coupon-operator
