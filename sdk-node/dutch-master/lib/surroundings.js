'use strict'
// Where and with which environment workers start, and the program's callbacks that may change both. An answer is `{ error }`, or all that the master asked for.

const { statSync } = require('node:fs')
const { isAbsolute } = require('node:path')
const { size } = require('./values.js')

class Surroundings {
  #options
  #start = process.cwd()
  #shown = shownDirectory(process.cwd())

  constructor(options) {
    this.#options = options
  }

  /** Before a worker: `beforeFork`, and what holds when it returns. */
  beforeFork() {
    return called('beforeFork', this.#options.beforeFork, () => this.#now())
  }

  /** Before a generation: its size as well. */
  evaluate() {
    const { numWorkers } = this.#options
    const evaluate = typeof numWorkers === 'function' ? numWorkers : () => numWorkers
    return called('numWorkers', evaluate, (result) => ({ numWorkers: size(result), ...this.#now() }))
  }

  #now() {
    const directory = process.cwd()
    const environment = { ...process.env }
    for (const [name, value] of Object.entries(this.#options.workerEnvironment)) {
      if (value !== undefined) environment[name] = String(value)
    }
    // The link through which the program was started is followed, unless the program went elsewhere.
    return { directory: directory === this.#start ? this.#shown : directory, environment }
  }
}

/** Calls a function of the program. What it leaves is looked at as soon as it returns, or its promise is fulfilled. */
function called(name, callback, then) {
  const failed = (error) => ({ error: `${name} failed: ${error?.message ?? error}` })
  try {
    const result = callback()
    return typeof result?.then === 'function' ? Promise.resolve(result).then(then).catch(failed) : then(result)
  } catch (error) {
    return failed(error)
  }
}

/** The working directory with its links, as the shell shows it. */
function shownDirectory(real) {
  const shown = process.env.PWD
  try {
    const [a, b] = [statSync(real), statSync(shown)]
    return isAbsolute(shown) && a.dev === b.dev && a.ino === b.ino ? shown : real
  } catch {
    return real
  }
}

module.exports = { Surroundings }
