'use strict'
// Lays out what is published: the package itself, and one for each platform with its addon, which the package names as optional dependencies. The checkout stays as it is.
// node scripts/packages.js OUT [ADDONS] [--incomplete]: from the .node files in ADDONS (default: this package); every platform has to be there, unless --incomplete.

const { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { join, resolve } = require('node:path')
const { PLATFORMS } = require('../platforms.js')

const root = join(__dirname, '..')
const [out, addons = root] = process.argv.slice(2).filter((arg) => !arg.startsWith('--'))
if (!out) throw new Error('usage: node scripts/packages.js OUT [ADDONS] [--incomplete]')

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const { name, version, license, engines } = manifest

const found = PLATFORMS.filter(({ file }) => existsSync(join(addons, file)))
const missing = PLATFORMS.filter((platform) => !found.includes(platform))
if (missing.length > 0 && !process.argv.includes('--incomplete')) throw new Error(`missing in ${resolve(addons)}: ${missing.map(({ file }) => file).join(', ')}`)

for (const platform of found) {
  const { os, cpu, libc, file } = platform
  const folder = begin(platform.package)
  const description = `The native addon of ${name} for ${platform.platform}`
  writeJson(folder, { name: platform.package, version, description, license, main: file, files: [file], engines, os: [os], cpu: [cpu], ...(libc && { libc: [libc] }) })
  writeFileSync(join(folder, 'README.md'), `# ${platform.package}\n\n${description}. It is installed by that package; there is nothing else to do with it.\n`)
  cpSync(join(addons, file), join(folder, file))
}

const folder = begin(name)
const files = manifest.files.filter((file) => file !== '*.node')
for (const file of [...files, 'README.md']) cpSync(join(root, file), join(folder, file), { recursive: true })
const { private: _, devDependencies, scripts, ...published } = manifest
// All of them, so that npm picks what fits where it is installed.
const optionalDependencies = Object.fromEntries(PLATFORMS.map((platform) => [platform.package, version]))
writeJson(folder, { ...published, files, optionalDependencies })

function begin(packageName) {
  const folder = join(out, packageName)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  console.log(folder)
  return folder
}

function writeJson(folder, content) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`)
}
