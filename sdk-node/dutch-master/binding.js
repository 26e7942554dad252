'use strict'
// Finds the native addon: by DUTCH_MASTER_NATIVE_LIBRARY_PATH, beside this file, or in the package of the platform.

const { triples, whyMissing } = require('./lib/platform.js')
const { version } = require('./package.json')

const override = process.env.DUTCH_MASTER_NATIVE_LIBRARY_PATH
const candidates = override ? [override] : triples().flatMap((name) => [`./dutch-master.${name}.node`, `dutch-master-${name}/dutch-master.node`])

module.exports = load()

function load() {
  const broken = []
  for (const candidate of candidates) {
    try {
      const addon = require(candidate)
      const built = addon.version?.()
      if (built === version) return addon
      broken.push(`${candidate} is version ${built}, this package ${version}`)
    } catch (error) {
      // A file that is there but cannot be loaded is worth telling; that most candidates are missing is normal.
      if (override || error.code !== 'MODULE_NOT_FOUND') broken.push(`${candidate}: ${error.message.split('\n')[0]}`)
    }
  }
  const again = 'in a checkout run `make addon`, else install the package again with its optional dependencies'
  throw new Error(`dutch-master: the native addon cannot be loaded: ${broken.length > 0 ? `${broken.join('; ')}; ${again}` : whyMissing('make addon')}`)
}
