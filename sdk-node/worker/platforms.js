'use strict'
// The platforms that there are binaries for: each is an npm package of its own, named after it, and what npm and cargo call it.

const { name } = require('./package.json')

const PLATFORMS = [
  { platform: 'linux-x64-gnu', target: 'x86_64-unknown-linux-gnu', os: 'linux', cpu: 'x64', libc: 'glibc' },
  { platform: 'linux-x64-musl', target: 'x86_64-unknown-linux-musl', os: 'linux', cpu: 'x64', libc: 'musl' },
  { platform: 'linux-arm64-gnu', target: 'aarch64-unknown-linux-gnu', os: 'linux', cpu: 'arm64', libc: 'glibc' },
  { platform: 'linux-arm64-musl', target: 'aarch64-unknown-linux-musl', os: 'linux', cpu: 'arm64', libc: 'musl' },
  { platform: 'darwin-x64', target: 'x86_64-apple-darwin', os: 'darwin', cpu: 'x64' },
  { platform: 'darwin-arm64', target: 'aarch64-apple-darwin', os: 'darwin', cpu: 'arm64' },
].map((platform) => ({ ...platform, package: `${name}-${platform.platform}`, file: `${name}.${platform.platform}.node` }))

/** Those that this process can load: on Linux one for each libc, of which npm installs the one that fits. */
function platformsHere() {
  return PLATFORMS.filter(({ os, cpu }) => os === process.platform && cpu === process.arch)
}

module.exports = { PLATFORMS, platformsHere }
