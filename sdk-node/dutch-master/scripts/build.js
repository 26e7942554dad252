'use strict'
// Builds the addon with cargo and puts it beside binding.js, under the name of this platform. `--debug` builds it unoptimised.

const { spawnSync } = require('node:child_process')
const { copyFileSync, renameSync } = require('node:fs')
const { join } = require('node:path')
const { triples } = require('../lib/platform.js')

const root = join(__dirname, '..')
const profile = process.argv.includes('--debug') ? [] : ['--release']
const cargo = spawnSync('cargo', ['build', ...profile, '--package', 'dutch-master-node', '--message-format', 'json-render-diagnostics'], {
  cwd: root,
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
  .find(({ target }) => target.kind.includes('cdylib') && target.name === 'dutch_master_node').filenames[0]

const addon = join(root, `dutch-master.${triples()[0]}.node`)
// By rename: a running process may have the old one mapped.
copyFileSync(library, `${addon}.new`)
renameSync(`${addon}.new`, addon)
console.log(addon)
