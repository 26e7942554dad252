'use strict'
// A response that takes its time: so many milliseconds, or until the file `RELEASE` exists.

const { existsSync } = require('node:fs')
const { setTimeout: sleep } = require('node:timers/promises')

/** How often it is looked for the file. */
const LOOK_MS = 20

module.exports = async function slow(ms) {
  if (ms) await sleep(Number(ms))
  else while (!existsSync(process.env.RELEASE)) await sleep(LOOK_MS)
  return 'slow'
}
