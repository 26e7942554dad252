'use strict'
// Names of this platform, as its packages have them.

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
