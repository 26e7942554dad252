'use strict'
// The errors that a user of the drop-in will meet before anything serves: one line each, which says what to do.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { cpSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')
const { test } = require('node:test')
const { triples } = require('../lib/platform.js')
const { PACKAGE, folder, isAlive, run } = require('./harness.js')

const MASTER = "require('dutch-master')({ worker: 'app.js' })"
const addons = readdirSync(PACKAGE).filter((name) => name.endsWith('.node'))

/** A folder with a master.js and a copy of the package, with the addon or without. */
function installed(t, { addon = true, version } = {}) {
  const dir = folder(t, { 'app.js': '', 'master.js': MASTER })
  const copy = join(dir, 'node_modules/dutch-master')
  rmSync(copy)
  cpSync(PACKAGE, copy, { recursive: true, filter: (path) => !/[/\\](test|src|scripts|node_modules)$|\.node$/.test(path.slice(PACKAGE.length)) })
  if (addon) for (const file of addons) symlinkSync(join(PACKAGE, file), join(copy, file))
  const manifest = join(copy, 'package.json')
  if (version) writeFileSync(manifest, JSON.stringify({ ...JSON.parse(readFileSync(manifest)), version }))
  return { dir, copy }
}

/** What `node master.js` says on standard error before it exits with 1. */
function lastWords({ dir }, nodeArgs = []) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...nodeArgs, 'master.js'], { cwd: dir, env: { ...process.env, XDG_RUNTIME_DIR: dir, NODE_TEST_CONTEXT: undefined }, encoding: 'utf8' })
  assert.deepEqual([status, stdout], [1, ''])
  return stderr
}

test('the addon was not built', (t) => {
  const line = `Error: dutch-master: the native addon cannot be loaded: none is installed for ${triples()[0]}; in a checkout run \`make addon\`, else install the package again with its optional dependencies\n`
  assert.ok(lastWords(installed(t, { addon: false })).includes(line))
})

test('the addon was built for something else', (t) => {
  const broken = installed(t, { addon: false })
  writeFileSync(join(broken.copy, addons[0]), 'not a library')
  assert.match(lastWords(broken), /Error: dutch-master: the native addon cannot be loaded: \.\/dutch-master\..*\.node: .+; in a checkout run `make addon`/)
})

test('there is no binary for this platform, neither addon nor program', (t) => {
  const elsewhere = installed(t)
  writeFileSync(join(elsewhere.dir, 'other.js'), "Object.defineProperty(process, 'arch', { value: 'riscv64' })")
  const none = /there is none for \w+-riscv64, but for linux-x64-gnu, linux-x64-musl, linux-arm64-gnu, linux-arm64-musl, darwin-x64, darwin-arm64\n/
  assert.match(lastWords(elsewhere, ['--require', './other.js']), none)
  const program = spawnSync(process.execPath, ['--require', './other.js', join(elsewhere.copy, 'lib/binary.js')], { cwd: elsewhere.dir, encoding: 'utf8' })
  assert.equal(program.status, 1)
  assert.match(program.stderr, none)
})

test('package and addon are of different versions', (t) => {
  assert.match(lastWords(installed(t, { version: '9.9.9' })), /cannot be loaded: \.\/dutch-master\..*\.node is version \d.*, this package 9\.9\.9; in a checkout run/)
})

test('the package for workers is missing', (t) => {
  const without = installed(t)
  rmSync(join(without.dir, 'node_modules/dutch-master-worker'))
  assert.match(lastWords(without), /Cluster could not be started reason="the package dutch-master-worker is not installed; install dutch-master again, or name its folder by the option `nodeSdk`"\n$/)
})

test('two copies of the package in one process: the second master of a worker is refused, and the workers of the first go with the process', async (t) => {
  const { copy } = installed(t)
  const running = run(t, `
    dutchMaster({ worker: 'serving.js', numWorkers: 1, logger: log }).on('ready', () => require(process.env.COPY)({ worker: 'serving.js', logger: log }))`, { env: { COPY: copy }, files: { 'serving.js': "require('http').createServer().listen(0, () => console.log(JSON.stringify({ event: 'up', pid: process.pid })))" } })
  const { pid } = await running.hears('up')
  const { reason } = await running.logs('Cluster could not be started')
  assert.ok(reason.includes(String(running.child.pid)), reason)
  assert.equal(await running.exits(), 1)
  assert.ok(!isAlive(pid))
})
