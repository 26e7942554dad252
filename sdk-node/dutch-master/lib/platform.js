'use strict'
// Names of this platform, as its packages have them.

/** The platforms that there are packages for. */
exports.PLATFORMS = ['linux-x64-gnu', 'linux-x64-musl', 'linux-arm64-gnu', 'linux-arm64-musl', 'darwin-x64', 'darwin-arm64']

/** Why there is nothing native for this platform, and what to do; `build` is what builds it in a checkout. */
exports.whyMissing = function whyMissing(build) {
  const here = exports.triples()
  if (!here.some((triple) => exports.PLATFORMS.includes(triple))) return `there is none for ${process.platform}-${process.arch}, but for ${exports.PLATFORMS.join(', ')}`
  return `none is installed for ${here[0]}; in a checkout run \`${build}\`, else install the package again with its optional dependencies`
}

/** The likeliest first: on Linux a process tells which C library it runs with. */
exports.triples = function triples() {
  const platform = `${process.platform}-${process.arch}`
  if (process.platform !== 'linux') return [platform]
  return hasGlibc() ? [`${platform}-gnu`, `${platform}-musl`] : [`${platform}-musl`, `${platform}-gnu`]
}

function hasGlibc() {
  const before = process.report.excludeNetwork
  // Otherwise the report looks up the name of every peer that this process is connected to.
  process.report.excludeNetwork = true
  try {
    return process.report.getReport().header.glibcVersionRuntime !== undefined
  } finally {
    process.report.excludeNetwork = before
  }
}
