'use strict'
// Finds the native addon: by NAPI_RS_NATIVE_LIBRARY_PATH, beside this file, or in the package of the platform.

const { version } = require('./package.json')
const { PLATFORMS, platformsHere } = require('./platforms.js')

const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH

module.exports = load()

function load() {
  const here = platformsHere()
  const candidates = override ? [override] : [...here.map(({ file }) => `./${file}`), ...here.map((platform) => platform.package)]
  const broken = []
  for (const candidate of candidates) {
    try {
      const addon = require(candidate)
      if (addon.version() === version) return addon
      broken.push(`${candidate} is version ${addon.version()}, this package ${version}`)
    } catch (error) {
      // A file that is there but cannot be loaded is worth telling; that most candidates are missing is normal.
      if (override || error.code !== 'MODULE_NOT_FOUND') broken.push(`${candidate}: ${error.message.split('\n')[0]}`)
    }
  }
  throw new Error(`the native addon cannot be loaded: ${why(candidates, broken)}`)
}

/** What is wrong, and what to do. */
function why(candidates, broken) {
  const platform = `${process.platform}-${process.arch}`
  if (candidates.length === 0) return `there is none for ${platform}, but for ${PLATFORMS.map((known) => known.platform).join(', ')}`
  const problem = broken.length > 0 ? broken.join('; ') : `none is installed for ${platform}`
  return `${problem}; in a checkout run \`npm run build\` in ${__dirname}, else install the package again with its optional dependencies`
}
