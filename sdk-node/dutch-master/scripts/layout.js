'use strict'
// The packages as they are published, in folders: the package itself, and one for each platform with what is native. The checkout stays as it is.

const { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')
const { PLATFORMS } = require('../lib/platform.js')

const root = join(__dirname, '..')
const { private: _, devDependencies, scripts, ...manifest } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** The package in `out`, with dependencies by version in place of neighbours in the checkout, and all platforms, so that npm picks what fits where it is installed. */
function layOutPackage(out) {
  const folder = begin(out, manifest.name)
  for (const name of [...manifest.files, 'README.md']) cpSync(join(root, name), join(folder, name), { recursive: true })
  const worker = JSON.parse(readFileSync(join(root, '../worker/package.json'), 'utf8'))
  const optionalDependencies = Object.fromEntries(PLATFORMS.map((triple) => [`${manifest.name}-${triple}`, manifest.version]))
  writeJson(folder, { ...manifest, dependencies: { [worker.name]: worker.version }, optionalDependencies })
  return folder
}

/** The package of one platform in `out`: its addon and its program. */
function layOutPlatform(out, triple, { addon, program }) {
  const [os, cpu, libc] = triple.split('-')
  const { version, license, engines } = manifest
  const name = `${manifest.name}-${triple}`
  const folder = begin(out, name)
  const description = `The native part of ${manifest.name} for ${triple}`
  const files = ['dutch-master', 'dutch-master.node']
  writeJson(folder, { name, version, description, license, files, engines, os: [os], cpu: [cpu], ...(libc && { libc: [libc === 'gnu' ? 'glibc' : libc] }) })
  copyFileSync(addon, join(folder, 'dutch-master.node'))
  copyFileSync(program, join(folder, 'dutch-master'))
  chmodSync(join(folder, 'dutch-master'), 0o755)
  return folder
}

function begin(out, name) {
  const folder = join(out, name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  copyFileSync(join(root, '../../LICENSE'), join(folder, 'LICENSE'))
  return folder
}

function writeJson(folder, content) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`)
}

module.exports = { layOutPackage, layOutPlatform }
