'use strict'
// Makes the packages as they are published: `node scripts/pack.js FOLDER` puts a tarball of this one, of this platform's and of the SDK into FOLDER.
// Needed beforehand: the addons of both packages, and the program in target/release, or target/debug with `--debug`.

const { execFileSync } = require('node:child_process')
const { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join, resolve } = require('node:path')
const { triples } = require('../lib/platform.js')

/** The platforms that there are packages for. */
const PLATFORMS = ['darwin-arm64', 'darwin-x64', 'linux-arm64-gnu', 'linux-arm64-musl', 'linux-x64-gnu', 'linux-x64-musl']

const root = join(__dirname, '..')
const [folder] = process.argv.slice(2).filter((arg) => arg !== '--debug')
if (!folder) throw new Error('pack.js: a folder for the tarballs is wanted')
const out = resolve(folder)
const profile = process.argv.includes('--debug') ? 'debug' : 'release'
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const stage = mkdtempSync(join(tmpdir(), 'dm-pack-'))
try {
  mkdirSync(out, { recursive: true })
  for (const source of [main(), platform(triples()[0]), join(root, '../worker')]) {
    execFileSync('npm', ['pack', '--silent', '--pack-destination', out], { cwd: source, stdio: ['ignore', 'inherit', 'inherit'] })
  }
} finally {
  rmSync(stage, { recursive: true })
}

/** This package, with dependencies by version in place of neighbours in the checkout. */
function main() {
  const target = join(stage, 'main')
  for (const name of [...manifest.files, 'README.md']) cpSync(join(root, name), join(target, name), { recursive: true })
  copyFileSync(join(root, '../../LICENSE'), join(target, 'LICENSE'))
  const { devDependencies, scripts, ...published } = manifest
  const { version } = JSON.parse(readFileSync(join(root, '../worker/package.json'), 'utf8'))
  published.dependencies = { 'dutch-master-worker': version }
  published.optionalDependencies = Object.fromEntries(PLATFORMS.map((name) => [`dutch-master-${name}`, manifest.version]))
  writeFileSync(join(target, 'package.json'), `${JSON.stringify(published, null, 2)}\n`)
  return target
}

/** What is native: the addon and the program. */
function platform(triple) {
  const target = join(stage, triple)
  mkdirSync(target)
  const [os, cpu, libc] = triple.split('-')
  const { version, license, engines } = manifest
  const own = { name: `dutch-master-${triple}`, version, description: `The native part of dutch-master for ${triple}`, license, private: true, engines, os: [os], cpu: [cpu] }
  if (libc) own.libc = [libc === 'gnu' ? 'glibc' : libc]
  own.files = ['dutch-master', 'dutch-master.node']
  writeFileSync(join(target, 'package.json'), `${JSON.stringify(own, null, 2)}\n`)
  copyFileSync(join(root, '../../LICENSE'), join(target, 'LICENSE'))
  copyFileSync(join(root, `dutch-master.${triple}.node`), join(target, 'dutch-master.node'))
  copyFileSync(join(root, '../../target', profile, 'dutch-master'), join(target, 'dutch-master'))
  chmodSync(join(target, 'dutch-master'), 0o755)
  return target
}
