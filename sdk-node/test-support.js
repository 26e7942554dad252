'use strict'
// What the tests of both packages, and the suites over both, have in common.

const { EventEmitter, once } = require('node:events')

/** No test takes as long on a busy machine, unless something hangs. */
const HANG_MS = 30_000

/** `promise`, or an error where it takes so long that something hangs. */
function bounded(promise, what) {
  let timer
  const hang = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`never happened: ${what}`)), HANG_MS)
  })
  return Promise.race([promise, hang]).finally(() => clearTimeout(timer))
}

/** A line as the JSON that it is, or as `text`. */
function parse(text) {
  try {
    return Object(JSON.parse(text))
  } catch {
    return { text }
  }
}

/** Whether there was a process to be signalled. */
function kill(pid, signal = 'SIGKILL') {
  try {
    process.kill(pid, signal)
    return true
  } catch {
    return false
  }
}

/** Lines that were seen, and those that will be; each is found once. */
class Lines extends EventEmitter {
  all = []
  #found = new Set()

  add(line) {
    this.all.push(line)
    this.emit('line')
  }

  /** The next line, past or future, that `matches` and was not found before. */
  async next(matches, what) {
    const look = () => this.all.find((line) => !this.#found.has(line) && matches(line))
    const found = async () => {
      while (!look()) await once(this, 'line')
      return look()
    }
    const line = await bounded(found(), what).catch((error) => Promise.reject(new Error(`${error.message}\nseen: ${this.all.map((line) => JSON.stringify(line)).join('\n')}`)))
    this.#found.add(line)
    return line
  }
}

module.exports = { HANG_MS, Lines, bounded, kill, parse }
