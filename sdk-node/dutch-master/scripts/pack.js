'use strict'
// Makes the packages as they are published, for this platform: `node scripts/pack.js FOLDER` puts a tarball of this one, of this platform's and of the SDK into FOLDER.
// Needed beforehand: the addons of both packages, and the program in target/release, or target/debug with `--debug`.

const { execFileSync } = require('node:child_process')
const { mkdirSync, mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join, resolve } = require('node:path')
const { triples } = require('../lib/platform.js')
const { layOutPackage, layOutPlatform } = require('./layout.js')

const root = join(__dirname, '..')
const [folder] = process.argv.slice(2).filter((arg) => arg !== '--debug')
if (!folder) throw new Error('pack.js: a folder for the tarballs is wanted')
const out = resolve(folder)
const profile = process.argv.includes('--debug') ? 'debug' : 'release'
const [here] = triples()
const native = { addon: join(root, `dutch-master.${here}.node`), program: join(root, '../../target', profile, 'dutch-master') }
const stage = mkdtempSync(join(tmpdir(), 'dm-pack-'))
try {
  mkdirSync(out, { recursive: true })
  for (const source of [layOutPackage(stage), layOutPlatform(stage, here, native), join(root, '../worker')]) {
    execFileSync('npm', ['pack', '--silent', '--pack-destination', out], { cwd: source, stdio: ['ignore', 'inherit', 'inherit'] })
  }
} finally {
  rmSync(stage, { recursive: true })
}
