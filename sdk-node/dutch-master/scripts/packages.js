'use strict'
// Lays out what is published for every platform: node scripts/packages.js OUT BUILT [--incomplete].
// BUILT has `dutch-master.TRIPLE.node` and `dutch-master.TRIPLE`, addon and program, of every platform, or of some with --incomplete.

const { existsSync } = require('node:fs')
const { join, resolve } = require('node:path')
const { PLATFORMS } = require('../lib/platform.js')
const { layOutPackage, layOutPlatform } = require('./layout.js')

const [out, built] = process.argv.slice(2).filter((arg) => !arg.startsWith('--'))
if (!built) throw new Error('usage: node scripts/packages.js OUT BUILT [--incomplete]')

const natives = PLATFORMS.map((triple) => ({ triple, addon: join(built, `dutch-master.${triple}.node`), program: join(built, `dutch-master.${triple}`) }))
const missing = natives.flatMap(({ addon, program }) => [addon, program]).filter((file) => !existsSync(file))
if (missing.length > 0 && !process.argv.includes('--incomplete')) throw new Error(`missing: ${missing.map((file) => resolve(file)).join(', ')}`)

for (const { triple, ...native } of natives) {
  if (existsSync(native.addon) && existsSync(native.program)) console.log(layOutPlatform(out, triple, native))
}
console.log(layOutPackage(out))
