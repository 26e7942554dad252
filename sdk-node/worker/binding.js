'use strict'
// Finds the native addon: by NAPI_RS_NATIVE_LIBRARY_PATH, beside this file, or in the package of the platform.

const platform = `${process.platform}-${process.arch}`
const flavours = process.platform === 'linux' ? [`${platform}-gnu`, `${platform}-musl`] : [platform]
const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
const candidates = override ? [override] : [...flavours.map((name) => `./dutch-master-worker.${name}.node`), ...flavours.map((name) => `dutch-master-worker-${name}`)]

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
  const why = broken.length > 0 ? broken.join('; ') : `none is installed for ${platform}`
  throw new Error(`the native addon cannot be loaded (${why}); in a checkout run \`npm run build\` in ${__dirname}, else install the package again with its optional dependencies`)
}
