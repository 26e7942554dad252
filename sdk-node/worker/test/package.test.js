'use strict'
// What is published is what is needed and nothing else, and works where it is installed.

const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { test } = require('node:test')
const { promisify } = require('node:util')
const { start, freePort, SDK } = require('./harness.js')
const { PLATFORMS, platformsHere } = require('../platforms.js')

const { version } = require('../package.json')
const ROOT = join(SDK, '../..')
const SOURCES = ['LICENSE', 'README.md', 'binding.js', 'index.d.mts', 'index.d.ts', 'index.js', 'index.mjs', 'package.json', 'platforms.js', 'preload.js', ...readdirSync(join(SDK, 'lib')).map((name) => `lib/${name}`)]
/** npm with nothing from outside: a test of a registry it is not. */
const OFFLINE = ['--offline', '--no-audit', '--no-fund', '--loglevel=error']

async function temporary(t) {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'dm-package-')))
  t.after(() => rmSync(dir, { recursive: true }))
  return dir
}

async function run(program, args, options) {
  return (await promisify(execFile)(program, args, { timeout: 60_000, ...options })).stdout
}

/** The file names in a tarball that `npm pack` makes of a folder, and its path. */
async function pack(folder, destination) {
  const [{ filename, files }] = JSON.parse(await run('npm', ['pack', folder, '--json', '--pack-destination', destination]))
  return { tarball: join(destination, filename), names: files.map(({ path }) => path).sort() }
}

/** An empty project into which the tarballs are installed. */
async function project(dir, tarballs) {
  const app = join(dir, 'app')
  mkdirSync(app)
  writeFileSync(join(app, 'package.json'), '{ "private": true }')
  await run('npm', ['install', ...OFFLINE, ...tarballs], { cwd: app })
  return app
}

/** The quick start of the package's README, on a free port. */
async function quickStart(t, app) {
  const [, code] = /`app\.js`:\n\n```js\n([^]*?)```/.exec(readFileSync(join(SDK, 'README.md'), 'utf8'))
  const port = await freePort()
  assert.ok(code.includes('8000'))
  writeFileSync(join(app, 'app.js'), code.replace('8000', port))
  // No --node-sdk: the master finds what the app has installed.
  const pool = start(t, join(app, 'app.js'), { sdk: null, workers: 2 })
  await pool.logs('Cluster ready')
  assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /^hello from \d+\n$/)
  pool.restart()
  await pool.logs('Restart complete')
  assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /^hello from \d+\n$/)
  const loaded = await run(process.execPath, ['-p', 'require.resolve("dutch-master-worker")'], { cwd: app })
  assert.equal(loaded.trim(), join(app, 'node_modules/dutch-master-worker/index.js'))
  pool.stop()
  assert.equal(await pool.exits(), 0)
  assert.deepEqual(pool.errors.all, [])
}

test('a checkout packs itself with the addon of this platform; the quick start of the README works with it', async (t) => {
  const dir = await temporary(t)
  const { names, tarball } = await pack(SDK, dir)
  const addons = readdirSync(SDK).filter((name) => name.endsWith('.node'))
  assert.deepEqual(names, [...SOURCES, ...addons].sort())
  await quickStart(t, await project(dir, [tarball]))
})

test('what is published: sources without an addon, the addon in a package of its platform; the quick start works with both', async (t) => {
  const dir = await temporary(t)
  await run(process.execPath, [join(SDK, 'scripts/packages.js'), dir, '--incomplete'])
  const main = await pack(join(dir, 'dutch-master-worker'), dir)
  assert.deepEqual(main.names, [...SOURCES].sort())
  const manifest = JSON.parse(readFileSync(join(dir, 'dutch-master-worker/package.json')))
  assert.deepEqual(manifest.optionalDependencies, Object.fromEntries(PLATFORMS.map((platform) => [platform.package, version])))
  assert.deepEqual([manifest.private, manifest.devDependencies, manifest.scripts], [undefined, undefined, undefined])

  const here = platformsHere().find((platform) => readdirSync(dir).includes(platform.package))
  const native = await pack(join(dir, here.package), dir)
  assert.deepEqual(native.names, ['LICENSE', 'README.md', here.file, 'package.json'].sort())
  const { os, cpu, libc, main: entry } = JSON.parse(readFileSync(join(dir, here.package, 'package.json')))
  assert.deepEqual([os, cpu, libc, entry], [[here.os], [here.cpu], here.libc && [here.libc], here.file])
  await quickStart(t, await project(dir, [main.tarball, native.tarball]))
})

test('a release in which a platform is missing is refused by name', async (t) => {
  const dir = await temporary(t)
  for (const { file } of PLATFORMS.slice(1)) writeFileSync(join(dir, file), '')
  const { stderr } = await run(process.execPath, [join(SDK, 'scripts/packages.js'), join(dir, 'out'), dir]).catch((error) => error)
  assert.ok(stderr.includes(`missing in ${dir}: ${PLATFORMS[0].file}\n`), stderr)
  assert.deepEqual(readdirSync(dir).includes('out'), false)
})

test("the SDK's README names every file of tests, and its tables none that there is not", () => {
  const readme = readFileSync(join(SDK, '../README.md'), 'utf8')
  const there = readdirSync(__dirname).filter((name) => name.endsWith('.test.js')).map((name) => name.replace('.test.js', ''))
  assert.deepEqual(there.filter((name) => !readme.includes(`\`${name}\``) && !readme.includes(`test/${name}.test.js`)), [])
  const tables = [...readme.matchAll(/\| test \|\n\|[-|]+\|\n((?:\|.*\n)+)/g)].map(([, rows]) => rows.trim().split('\n'))
  assert.equal(tables.length, 2)
  const named = tables.flat().flatMap((row) => row.split(' | ').at(-1).match(/[a-z0-9-]+/g))
  assert.deepEqual(named.filter((name) => !there.includes(name)), [])
})

test('license, workflow and lock file agree with the rest', () => {
  const read = (path) => readFileSync(join(ROOT, path), 'utf8')
  assert.equal(read('sdk-node/worker/LICENSE'), read('LICENSE'))
  const workflow = read('.github/workflows/npm.yml')
  for (const { platform, target } of PLATFORMS) assert.ok(workflow.includes(`platform: ${platform}\n`) && workflow.includes(`target: ${target}\n`), platform)
  assert.ok(!read('sdk-node/worker/package-lock.json').includes('"resolved"'))
})
