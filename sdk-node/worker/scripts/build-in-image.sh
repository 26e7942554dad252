#!/bin/sh
# Builds the addons of both packages and the master inside an image of Node for Linux, as root: with apk (musl) or apt (glibc), and a Rust of its own. UNTESTED outside the workflow that calls it, and not run there yet.
# Run in the checkout, with the platform's name in PLATFORM and its target in CARGO_BUILD_TARGET; what was built is in the folder `built` afterwards.
set -eu
if command -v apk > /dev/null; then
  apk add --no-cache build-base rustup
  # The musl targets link the C library in by default; an addon is loaded into a process that has one.
  export RUSTFLAGS='-C target-feature=-crt-static'
else
  apt-get update && apt-get install --yes --no-install-recommends build-essential curl ca-certificates
  curl --proto '=https' --tlsv1.2 --silent --show-error --fail --output /usr/local/bin/rustup-init https://sh.rustup.rs
  chmod +x /usr/local/bin/rustup-init
fi
rustup-init -y --profile minimal
PATH="$HOME/.cargo/bin:$PATH"
sh sdk-node/worker/scripts/build-platform.sh
