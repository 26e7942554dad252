'use strict'
// Finds the native addon: by DUTCH_MASTER_NATIVE_LIBRARY_PATH, beside this file, or in the package of the platform.

const { triples } = require('./lib/platform.js')

const override = process.env.DUTCH_MASTER_NATIVE_LIBRARY_PATH
const candidates = override ? [override] : triples().flatMap((name) => [`./dutch-master.${name}.node`, `dutch-master-${name}/dutch-master.node`])

module.exports = load()

function load() {
  const broken = []
  for (const candidate of candidates) {
    try {
      return require(candidate)
    } catch (error) {
      // A file that is there but cannot be loaded is worth telling; that most candidates are missing is normal.
      if (override || error.code !== 'MODULE_NOT_FOUND') broken.push(`${candidate}: ${error.message.split('\n')[0]}`)
    }
  }
  const why = broken.length > 0 ? broken.join('; ') : `none is installed for ${triples()[0]}`
  throw new Error(`dutch-master: the native addon cannot be loaded (${why}); in a checkout run \`make addon\`, else install the package again with its optional dependencies`)
}
