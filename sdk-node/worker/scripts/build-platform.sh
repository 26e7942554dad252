#!/bin/sh
# Builds what is native in the npm packages for one platform, and puts it into the folder `built` under its name there: `PLATFORM=linux-x64-gnu sh sdk-node/worker/scripts/build-platform.sh` in the checkout; CARGO_BUILD_TARGET may name a target.
set -eu
(cd sdk-node/worker && npm run build && node -p "require('./binding.js').version()")
(cd sdk-node/dutch-master && npm run build && node -p "require('./binding.js').version()")
cargo build --release --locked -p dutch-master
mkdir -p built
cp sdk-node/worker/*.node sdk-node/dutch-master/*.node built/
cp "target/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release/dutch-master" "built/dutch-master.$PLATFORM"
