'use strict'
// The packages as they would be published: what is in them, and the README's quick start with them in an empty project elsewhere.

const assert = require('node:assert/strict')
const { execFileSync, spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { after, before, test } = require('node:test')
const readline = require('node:readline')
const { triples } = require('../lib/platform.js')
const { PACKAGE, PROGRAM, bounded, eventually, get, kill } = require('./harness.js')

let dir
let environment

before(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'dm-install-')))
  environment = { ...process.env, XDG_RUNTIME_DIR: dir, NODE_TEST_CONTEXT: undefined, PORT: '0' }
  execFileSync(process.execPath, [join(PACKAGE, 'scripts/pack.js'), join(dir, 'tarballs'), '--debug'], { stdio: 'ignore' })
  writeFileSync(join(dir, 'package.json'), '{}')
  const tarballs = readdirSync(join(dir, 'tarballs')).map((name) => `./tarballs/${name}`)
  execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', '--silent', ...tarballs], { cwd: dir })
  const readme = readFileSync(join(PACKAGE, 'README.md'), 'utf8')
  for (const [, name, source] of readme.matchAll(/```js\n\/\/ (\w+\.js)\n([^]*?)```/g)) writeFileSync(join(dir, name), source)
})

after(() => rmSync(dir, { recursive: true, force: true }))

const contents = (name) => execFileSync('tar', ['-tzf', join(dir, 'tarballs', name)], { encoding: 'utf8' }).trim().split('\n').map((path) => path.replace('package/', '')).sort()

/** The port that the pool listens on, by the installed command. */
const port = () => JSON.parse(execFileSync('npx', ['--offline', 'dutch-master', 'status', '--json'], { cwd: dir, env: environment, encoding: 'utf8' })).listeners[0].address.port

test('a tarball has what it needs and nothing else', () => {
  const { version } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8'))
  const lib = readdirSync(join(PACKAGE, 'lib')).map((name) => `lib/${name}`)
  assert.deepEqual(contents(`dutch-master-${version}.tgz`), ['LICENSE', 'README.md', 'bin/dutch-master', 'binding.js', 'index.d.mts', 'index.d.ts', 'index.js', 'index.mjs', ...lib, 'package.json'].sort())
  const native = readdirSync(join(dir, 'tarballs')).find((name) => /^dutch-master-(linux|darwin)/.test(name))
  assert.deepEqual(contents(native), ['LICENSE', 'dutch-master', 'dutch-master.node', 'package.json'])
  const installed = JSON.parse(readFileSync(join(dir, 'node_modules/dutch-master/package.json'), 'utf8'))
  assert.deepEqual(Object.keys(installed.dependencies), ['dutch-master-worker'])
  assert.equal(installed.devDependencies, undefined)
  assert.doesNotMatch(JSON.stringify(installed.dependencies), /file:/)
})

for (const [what, command, args] of [
  ['the master.js of the quick start', process.execPath, ['master.js']],
  ['the command that the package brings', 'node_modules/.bin/dutch-master', ['start', 'app.js']],
]) {
  test(`installed elsewhere, ${what} runs the app`, async () => {
    const child = spawn(command, args, { cwd: dir, env: environment, stdio: ['ignore', 'ignore', 'pipe'] })
    const exited = once(child, 'exit')
    try {
      const lines = []
      const ready = new Promise((resolve) => readline.createInterface({ input: child.stderr }).on('line', (line) => (lines.push(line), line.includes('Cluster ready') && resolve())))
      await bounded(Promise.race([ready, exited.then(() => Promise.reject(new Error(lines.join('\n'))))]), 'Cluster ready')
      const before = (await get(port())).body
      assert.match(before, /^Hello from process \d+\n$/)
      execFileSync('npx', ['--offline', 'dutch-master', 'restart'], { cwd: dir, env: environment, stdio: 'ignore' })
      const now = port()
      await eventually('another process answers', async () => (await get(now)).body !== before)
      child.kill('SIGTERM')
      assert.deepEqual(await bounded(exited, 'its exit'), [0, null])
    } finally {
      kill(child.pid)
    }
  })
}

test('what is published is laid out from what was built for each platform, and nothing is published without one of them', () => {
  const [triple] = triples()
  const [built, out] = [join(dir, 'built'), join(dir, 'published')]
  mkdirSync(built)
  copyFileSync(join(PACKAGE, `dutch-master.${triple}.node`), join(built, `dutch-master.${triple}.node`))
  copyFileSync(PROGRAM, join(built, `dutch-master.${triple}`))
  const layOut = (...words) => spawnSync(process.execPath, [join(PACKAGE, 'scripts/packages.js'), out, built, ...words], { encoding: 'utf8' })
  const missing = layOut()
  assert.equal(missing.status, 1)
  assert.match(missing.stderr, /missing: .*dutch-master\.linux-arm64-musl\.node/)
  assert.equal(layOut('--incomplete').status, 0)
  assert.deepEqual(readdirSync(out).sort(), ['dutch-master', `dutch-master-${triple}`])
  const [main, native] = ['dutch-master', `dutch-master-${triple}`].map((name) => JSON.parse(readFileSync(join(out, name, 'package.json'), 'utf8')))
  assert.equal(main.private, undefined)
  assert.equal(Object.keys(main.optionalDependencies).length, 6)
  assert.deepEqual([native.os, native.cpu, native.files], [[process.platform], [process.arch], ['dutch-master', 'dutch-master.node']])
})

test('a platform without a package gets a line that says so', () => {
  const native = readdirSync(join(dir, 'node_modules')).find((name) => /^dutch-master-(linux|darwin)/.test(name))
  assert.ok(statSync(join(dir, 'node_modules', native, 'dutch-master')).mode & 0o100)
  rmSync(join(dir, 'node_modules', native), { recursive: true })
  const failing = (command, args) => {
    try {
      execFileSync(command, args, { cwd: dir, env: environment, stdio: 'pipe', encoding: 'utf8' })
    } catch (error) {
      return error.stderr
    }
    return assert.fail('it ran')
  }
  assert.match(failing(process.execPath, ['master.js']), /the native addon cannot be loaded: none is installed for /)
  assert.match(failing('node_modules/.bin/dutch-master', ['status']), /^dutch-master: the native program cannot be found: none is installed for /)
})
