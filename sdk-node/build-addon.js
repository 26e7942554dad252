'use strict'
// Builds an addon of this folder with cargo and puts it into its package. `--debug` on the command line builds it unoptimised.

const { spawnSync } = require('node:child_process')
const { copyFileSync, renameSync } = require('node:fs')

/** Builds the cargo package of this name, and copies its library to `addon`. Ends the process if cargo fails. */
function buildAddon(name, addon) {
  const profile = process.argv.includes('--debug') ? [] : ['--release']
  const cargo = spawnSync('cargo', ['build', ...profile, '--package', name, '--message-format', 'json-render-diagnostics'], {
    cwd: __dirname,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (cargo.error) throw cargo.error
  if (cargo.status !== 0) process.exit(cargo.status ?? 1)

  const library = cargo.stdout
    .split('\n')
    .filter((line) => line.includes('"compiler-artifact"'))
    .map((line) => JSON.parse(line))
    .find(({ target }) => target.kind.includes('cdylib') && target.name === name.replaceAll('-', '_')).filenames[0]

  // By rename: a running process may have the old one mapped.
  copyFileSync(library, `${addon}.new`)
  renameSync(`${addon}.new`, addon)
  console.log(addon)
}

module.exports = { buildAddon }
