'use strict'
// What `start(options)` does: checks the options and makes the master.

const { isMainThread } = require('node:worker_threads')
const { Master } = require('./master.js')
const { check } = require('./options.js')

/** Starts a master in this process; see index.d.ts. */
exports.start = function start(options) {
  // Signals and the working directory belong to the main thread.
  if (!isMainThread) throw new Error('dutch-master: a master runs in the main thread, not in a worker thread')
  return new Master(check(options))
}
