'use strict'
// The errors that a user of the package will meet: one line each, which says what to do.

const assert = require('node:assert/strict')
const { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { test } = require('node:test')
const { fakeMaster } = require('./fake-master.js')
const { start, SDK } = require('./harness.js')

const NOWHERE = { DUTCH_MASTER_SOCKET: '/nowhere/socket', DUTCH_MASTER_TOKEN: 't', NODE_UNIQUE_ID: '1' }

/** Another copy of the package, with the addon or without. */
function copyOfThePackage(t, { addon = true, version } = {}) {
  const copy = join(mkdtempSync(join(tmpdir(), 'dm-copy-')), 'dutch-master-worker')
  t.after(() => rmSync(join(copy, '..'), { recursive: true }))
  cpSync(SDK, copy, { recursive: true, filter: (path) => !/[/\\](test|src|scripts|node_modules)$|\.node$/.test(path) })
  if (addon) for (const file of readdirSync(SDK).filter((name) => name.endsWith('.node'))) symlinkSync(join(SDK, file), join(copy, file))
  const manifest = join(copy, 'package.json')
  if (version) writeFileSync(manifest, JSON.stringify({ ...JSON.parse(readFileSync(manifest)), version }))
  return copy
}

/** The one line that a process ends with, which is to serve and cannot. */
async function lastWords(t, env, sdk = SDK, nodeArgs = []) {
  const running = start(t, 'http.js', { master: false, nodeArgs: [...nodeArgs, '--require', join(sdk, 'preload.js')], env })
  assert.equal(await running.exits(), 1)
  assert.deepEqual(running.said.all, [], 'nothing is served without the master')
  assert.equal(running.errors.all.length, 1, running.errors.all.join('\n'))
  return running.errors.all[0]
}

test('the addon was not built', async (t) => {
  const copy = copyOfThePackage(t, { addon: false })
  const line = await lastWords(t, NOWHERE, copy)
  assert.ok(line.includes(`the native addon cannot be loaded: none is installed for ${process.platform}-${process.arch}; in a checkout run \`npm run build\` in ${copy}, else install the package again with its optional dependencies`), line)
})

test('the addon was built for something else', async (t) => {
  const copy = copyOfThePackage(t, { addon: false })
  const { platformsHere } = require('../platforms.js')
  writeFileSync(join(copy, platformsHere()[0].file), 'not a library')
  assert.match(await lastWords(t, NOWHERE, copy), /cannot be loaded: \.\/dutch-master-worker\..*\.node: .*(invalid ELF header|file too short|slice is not valid).*; in a checkout run/)
})

test('there is no binary for this platform', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'dm-arch-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const other = join(dir, 'other.js')
  writeFileSync(other, `Object.defineProperty(process, 'arch', { value: 'riscv64' })`)
  const line = await lastWords(t, NOWHERE, SDK, ['--require', other])
  assert.match(line, /there is none for \w+-riscv64, but for linux-x64-gnu, linux-x64-musl, linux-arm64-gnu, linux-arm64-musl, darwin-x64, darwin-arm64$/)
})

test('the environment names a master that is not there', async (t) => {
  assert.match(await lastWords(t, NOWHERE), /cannot become a worker of the master at \/nowhere\/socket: cannot connect to the master at \/nowhere\/socket: No such file or directory/)
})

test('the environment names a master, and has no token', async (t) => {
  const { env } = await fakeMaster(t, { event: 'error', code: 'bad-token', message: 'DUTCH_MASTER_TOKEN is that of no living worker' })
  assert.match(await lastWords(t, { ...env, DUTCH_MASTER_TOKEN: '' }), /cannot become a worker .* DUTCH_MASTER_TOKEN is that of no living worker \(bad-token\)$/)
})

test('a token is used twice: while its worker lives, and for a worker that there never was', async (t) => {
  const script = `
    const copy = { ...process.env }
    require(process.env.SDK).ready()
    const { spawnSync } = require('child_process')
    const poses = (env) => { const { status, stderr } = spawnSync(process.execPath, ['-e', 'require(process.env.SDK)'], { env, encoding: 'utf8' }); return { status, lines: stderr.trim().split('\\n') } }
    say('facts', { twice: poses(copy), never: poses({ ...copy, DUTCH_MASTER_TOKEN: 'ab'.repeat(16) }) })`
  const pool = start(t, 'wrapped.sh', { env: { NODE: process.execPath, APP: join(__dirname, 'apps/script.js'), SCRIPT: script, SDK } })
  const { twice, never } = await pool.hears('facts')
  assert.deepEqual([twice.status, twice.lines.length, never.status, never.lines.length], [1, 1, 1, 1])
  assert.match(twice.lines[0], /the master refused this worker: this worker is connected already/)
  assert.match(never.lines[0], /the master refused this worker: DUTCH_MASTER_TOKEN is that of no living worker \(bad-token\)/)
})

test('the master speaks an older protocol', async (t) => {
  const { env } = await fakeMaster(t, { event: 'error', code: 'bad-version', message: 'this master speaks version 0' })
  assert.match(await lastWords(t, env), /the master refused this worker: this master speaks version 0 \(bad-version\)$/)
})

test('the master speaks a newer protocol', async (t) => {
  const { env } = await fakeMaster(t, { protocol: 2 })
  assert.match(await lastWords(t, env), /the master breaks the protocol: protocol version 2; this SDK speaks 1$/)
})

test('a master that does not answer is not waited for without end', async (t) => {
  const { env } = await fakeMaster(t, { event: 'x-nothing' })
  assert.match(await lastWords(t, env), /the master did not answer within 5 s$/)
})

test('package and addon are of different versions', async (t) => {
  const copy = copyOfThePackage(t, { version: '9.9.9' })
  assert.match(await lastWords(t, NOWHERE, copy), /cannot be loaded: \.\/dutch-master-worker\..*\.node is version \d.*, this package 9\.9\.9; in a checkout run/)
})

test('a second copy of the package is the same worker, and one line says which is used', async (t) => {
  const copy = copyOfThePackage(t, { version: '9.9.9' })
  const pool = start(t, 'script.js', { env: { SDK, COPY: copy, SCRIPT: `
    const [first, second] = [require(process.env.SDK), require(process.env.COPY)]
    require('http').createServer().listen(0, () => say('facts', { same: first === second, id: second.id }))` } })
  const facts = await pool.hears('facts')
  assert.deepEqual([facts.same, facts.id], [true, 1])
  const line = await pool.complains(/two copies/)
  assert.ok(line.endsWith(`two copies of this package are loaded: ${SDK} (${require('../package.json').version}) is the worker, ${copy} (9.9.9) does nothing; install it once`), line)
  assert.equal(pool.errors.all.length, 1)
})
