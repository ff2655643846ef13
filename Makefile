# make test is what decides. Everything else is a convenience.

CARGO ?= cargo
TOOLS := $(CURDIR)/target/tools/bin
export PATH := $(TOOLS):$(PATH)

.PHONY: test setup lint fmt bench deb image chart rules deny fuzz clean

test: setup
	$(CARGO) test --locked --no-fail-fast

setup:
	scripts/setup-tests

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

fmt:
	$(CARGO) fmt

bench:
	$(CARGO) bench --locked

deb: setup
	$(CARGO) deb --locked

image:
	docker build -t watchpost .

chart: setup
	for values in charts/watchpost/ci/*-values.yaml; do \
	  helm lint charts/watchpost --strict --kube-version 1.31.0 -f $$values || exit 1; done

rules:
	promtool check rules charts/watchpost/rules/*.yml
	promtool test rules charts/watchpost/rules/tests/*.yml

# cargo install cargo-deny --locked
deny:
	$(CARGO) deny check

# Every reader of foreign bytes for a minute each. rustup toolchain install nightly; cargo install cargo-fuzz --locked
fuzz:
	for target in $$(ls fuzz/fuzz_targets | sed 's/\.rs$$//'); do \
	  $(CARGO) +nightly fuzz run -s none $$target -- -max_total_time=60 -max_len=8192 || exit 1; done

clean:
	$(CARGO) clean
