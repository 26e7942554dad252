# The two commands of the README are `make run` and `make test`; `make help` lists the rest.
# Needed beforehand: Rust, Node 20 or newer with npm, make, a C compiler.

PORT ?= 8000
CARGO ?= cargo
MASTER := target/release/dutch-master
ADDON := sdk-node/worker
DROPIN := sdk-node/dutch-master
EXPRESS := examples/express
FRAMEWORKS := sdk-node/frameworks
LIGHT := express-4 express-5 fastify koa hapi socket.io
HEAVY := nest next
PM2 := tests/workers/pm2
NPM_CI := npm ci --no-audit --no-fund --loglevel=error
installed = $(foreach name,$(1),$(FRAMEWORKS)/$(name)/node_modules/.package-lock.json)

.PHONY: help audit run build addon express test lint fmt test-rust test-node test-real test-kit test-all load bench bench-node chaos model fuzz fuzz-keep clean

help: ## list what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: build ## build everything, then run two workers of examples/express/app.js on 127.0.0.1:$(PORT)
	@printf '%s\n' '' \
	  'Serving http://127.0.0.1:$(PORT)/ with two workers. In another terminal, in this folder:' \
	  '  curl http://127.0.0.1:$(PORT)/             # which worker answers?' \
	  '  $(MASTER) status        # the pool at a glance' \
	  '  $(MASTER) restart       # replace every worker; no request fails' \
	  '  $(MASTER) scale 4       # four workers instead of two' \
	  '  curl http://127.0.0.1:$(PORT)/crash        # the app asks to be replaced: see the log here' \
	  'Ctrl-C stops it gracefully.' ''
	@exec $(MASTER) start --name express-$(PORT) --num-workers 2 --env PORT=$(PORT) $(EXPRESS)/app.js

build: addon express ## build the master, the Node addon and the examples (release)
	$(CARGO) build --release --locked -p dutch-master -p dutch-master-example-axum

addon: ## build the addons of the npm packages dutch-master-worker and dutch-master
	cd $(ADDON) && npm run --silent build
	cd $(DROPIN) && npm run --silent build

express: $(EXPRESS)/node_modules/.package-lock.json

$(EXPRESS)/node_modules/.package-lock.json: $(EXPRESS)/package.json $(EXPRESS)/package-lock.json
	cd $(EXPRESS) && npm ci --no-audit --no-fund --loglevel=error

test: lint build test-rust test-node test-real ## build and test everything

lint: ## formatting and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## format the Rust code
	$(CARGO) fmt --all

test-rust: ## unit, property, model, vector and document tests
	$(CARGO) test --workspace --exclude dutch-master-tests --locked
	$(CARGO) build --workspace --all-targets --locked

$(ADDON)/node_modules/.package-lock.json: $(ADDON)/package.json $(ADDON)/package-lock.json
	cd $(ADDON) && npm ci --no-audit --no-fund --loglevel=error

$(DROPIN)/node_modules/.package-lock.json: $(DROPIN)/package.json $(DROPIN)/package-lock.json
	cd $(DROPIN) && npm ci --omit=optional --no-audit --no-fund --loglevel=error

$(FRAMEWORKS)/%/node_modules/.package-lock.json: $(FRAMEWORKS)/%/package.json $(FRAMEWORKS)/%/package-lock.json
	cd $(@D)/.. && $(NPM_CI)

$(FRAMEWORKS)/next/.next/standalone/server.js: $(call installed,next) $(wildcard $(FRAMEWORKS)/next/*.js $(FRAMEWORKS)/next/app/*.js $(FRAMEWORKS)/next/app/*/*.js)
	cd $(FRAMEWORKS)/next && NEXT_TELEMETRY_DISABLED=1 npx next build

$(PM2)/node_modules/.package-lock.json: $(PM2)/package.json $(PM2)/package-lock.json
	cd $(PM2) && $(NPM_CI)

test-node: addon express $(ADDON)/node_modules/.package-lock.json $(DROPIN)/node_modules/.package-lock.json $(call installed,$(LIGHT)) ## the npm packages, against the real master, and installed from their tarballs; the SDKs and the drop-in alike; frameworks under restarts
	$(CARGO) build --locked -p dutch-master -p dutch-master-tests --bin dutch-master --bin parity-worker
	cd $(ADDON) && npm test --silent
	cd $(DROPIN) && npm test --silent
	node --test sdk-node/parity/*.test.js $(FRAMEWORKS)/*.test.js

test-all: test $(call installed,$(HEAVY)) $(FRAMEWORKS)/next/.next/standalone/server.js ## the same, and the Node packages and every framework on Node 20, 22, 24 and 26 (half an hour; writes docs/frameworks.md)
	node sdk-node/under-load/nodes.js --test $(ADDON)/test/*.test.js $(DROPIN)/test/*.test.js sdk-node/parity/*.test.js
	node $(FRAMEWORKS)/matrix.js

test-real: addon express ## real processes: the promises of the README
	$(CARGO) build --workspace --bins --locked
	$(CARGO) test -p dutch-master-tests --locked

test-kit: addon express ## the conformance kit on the SDKs and on the examples in other languages (part of test-real)
	$(CARGO) build --workspace --bins --locked
	$(CARGO) test -p dutch-master-tests --locked --test conformance

load: addon express ## the load test at length: 20 rolling restarts each, and the control that shows failures (ten minutes)
	$(CARGO) build --workspace --bins --locked
	target/debug/load 20 50

bench: addon express ## measure against an inherited listener and Node's cluster (fifteen minutes; BENCH_QUICK=1: two)
	$(CARGO) build --release --locked -p dutch-master -p dutch-master-tests
	target/release/bench

chaos: addon express ## three minutes of chaos (CHAOS="--seconds 600 --seed 7 --workers express" for others)
	$(CARGO) build --workspace --bins --locked
	target/debug/chaos $(CHAOS)

bench-node: addon $(PM2)/node_modules/.package-lock.json ## compare with Node's cluster and pm2: requests, memory, start, failures in restarts (half an hour; BENCH_QUICK=1: three minutes)
	$(CARGO) build --release --locked -p dutch-master -p dutch-master-tests
	target/release/bench hosts-node hosts-node-start hosts-node-restarts

model: ## let the model checker visit every state of pools up to 2, and the first millions of a pool of 3 (a quarter of an hour)
	MODEL_EVENTS=0 $(CARGO) test --release -p dutch-master --test core model -- --nocapture --test-threads=1

audit: ## licences, sources and known faults of dependencies, as far as they can be looked at here
	@CARGO=$(CARGO) .ci/audit

FUZZ_SECONDS ?= 60
FUZZ := target/fuzz

fuzz: ## let a fuzzer make up inputs for the decoder and for a whole master, FUZZ_SECONDS=60 each (needs a C++ compiler)
	$(CARGO) run --locked --quiet -p dutch-master-fuzz --bin fuzz-seeds $(FUZZ)/seeds
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/fuzz/instrument $(CARGO) build --locked -p dutch-master-fuzz --features engine --bin fuzz-decoder --bin fuzz-master
	for target in decoder master; do \
	  mkdir -p $(FUZZ)/found/$$target $(FUZZ)/run && chmod 700 $(FUZZ)/run && \
	  XDG_RUNTIME_DIR=$(CURDIR)/$(FUZZ)/run target/debug/fuzz-$$target -max_total_time=$(FUZZ_SECONDS) -timeout=30 -max_len=8192 -handle_term=0 -print_final_stats=1 \
	    -artifact_prefix=$(FUZZ)/broken-$$target- $(FUZZ)/found/$$target fuzz/corpus/$$target $(FUZZ)/seeds/$$target || exit 1; \
	done

fuzz-keep: ## after `make fuzz`: keep the found inputs that reach more than the vectors, the sessions and those kept before
	for target in decoder master; do \
	  rm -rf $(FUZZ)/all && cp -r $(FUZZ)/seeds/$$target $(FUZZ)/all && cp fuzz/corpus/$$target/* $(FUZZ)/all 2>/dev/null; ls $(FUZZ)/all > $(FUZZ)/before; \
	  XDG_RUNTIME_DIR=$(CURDIR)/$(FUZZ)/run target/debug/fuzz-$$target -merge=1 -use_counters=0 -use_cmp=0 -handle_term=0 $(FUZZ)/all $(FUZZ)/found/$$target || exit 1; \
	  for input in $$(ls $(FUZZ)/all | grep -vxFf $(FUZZ)/before); do cp $(FUZZ)/all/$$input fuzz/corpus/$$target; done; \
	done

clean: ## remove what was built
	$(CARGO) clean
	rm -rf $(EXPRESS)/node_modules $(ADDON)/node_modules $(DROPIN)/node_modules $(FRAMEWORKS)/*/node_modules $(FRAMEWORKS)/next/.next $(PM2)/node_modules $(ADDON)/*.node $(DROPIN)/*.node
