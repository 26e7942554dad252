'use strict'
// The types say what the package does, for programs of both module systems.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { join } = require('node:path')
const { test } = require('node:test')
const { PACKAGE, run } = require('./harness.js')

test('programs that use the types compile, and the mistakes in them are found', () => {
  const tsc = spawnSync(process.execPath, [join(PACKAGE, 'node_modules/typescript/bin/tsc'), '-p', join(__dirname, 'types')], { encoding: 'utf8' })
  assert.equal(tsc.stdout + tsc.stderr, '')
  assert.equal(tsc.status, 0)
})

test('a module imports the same function as default and by name', async (t) => {
  const source = `import start, { start as byName } from 'dutch-master'
import bunyan from 'bunyan'
if (start !== byName || start.start !== start) throw new Error('they differ')
start({ worker: 'app.js', numWorkers: 1, logger: bunyan.createLogger({ name: 'master' }) })`
  const running = run(t, 'import("./master.mjs")', { files: { 'master.mjs': source } })
  await running.logs('Cluster ready')
})
