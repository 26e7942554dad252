'use strict'
// What the tests of both packages have in common.

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

module.exports = { HANG_MS, bounded, kill, parse }
