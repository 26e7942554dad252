'use strict'
// The three kinds of system that must behave alike: whose workers, under which master. Options have the names of the drop-in; durations are milliseconds.

const { join } = require('node:path')
const { DEBUG, launch, native } = require('../under-load/system.js')

const APPS = join(__dirname, 'apps')

const KINDS = {
  'Rust SDK under the native master': (t, options, env) => launch(t, native(join(DEBUG, 'parity-worker'), words(options)), env),
  'Node SDK under the native master': (t, options, env) => launch(t, native(join(APPS, 'app.js'), words(options)), env),
  'drop-in master.js with a Node app': (t, options, env) => launch(t, [process.execPath, join(APPS, 'master.js')], (dir) => ({ ...env?.(dir), MASTER_OPTIONS: JSON.stringify(options) })),
}

/** `{ settleTime: 1 }` as the command line has it. */
function words(options) {
  return Object.entries(options).flatMap(([name, value]) => {
    const option = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
    return [option, /Time(out)?$/.test(name) ? `${value}ms` : String(value)]
  })
}

module.exports = { KINDS }
