# The two commands of the README are `make run` and `make test`; `make help` lists the rest.
# Needed beforehand: Rust, Node 20 or newer with npm, make, a C compiler.

PORT ?= 8000
CARGO ?= cargo
MASTER := target/release/dutch-master
ADDON := sdk-node/worker
DROPIN := sdk-node/dutch-master
EXPRESS := examples/express

.PHONY: help run build addon express test lint fmt test-rust test-node test-real test-kit load bench chaos model clean

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

test-node: addon express $(ADDON)/node_modules/.package-lock.json $(DROPIN)/node_modules/.package-lock.json ## the npm packages, against the real master, and installed from their tarballs
	$(CARGO) build --locked -p dutch-master
	cd $(ADDON) && npm test --silent
	cd $(DROPIN) && npm test --silent

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

model: ## let the model checker visit every state of pools up to 2, and the first millions of a pool of 3 (half an hour)
	MODEL_STATES=0 $(CARGO) test --release -p dutch-master --test core model -- --nocapture

clean: ## remove what was built
	$(CARGO) clean
	rm -rf $(EXPRESS)/node_modules $(ADDON)/node_modules $(DROPIN)/node_modules $(ADDON)/*.node $(DROPIN)/*.node
