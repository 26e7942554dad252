'use strict'
// The API object that apps get; its documentation is index.d.ts.

const { EventEmitter } = require('node:events')

class Worker extends EventEmitter {
  #session
  #readiness
  id = 0
  generation = 0
  slot = 0
  standalone = true

  /** Without a session it is standalone, and every call does nothing. */
  constructor(session, readiness) {
    super()
    if (!session) return
    this.#session = session
    this.#readiness = readiness
    this.id = session.id
    this.generation = session.generation
    this.slot = session.slot
    this.standalone = false
  }

  requestRestart(reason) {
    this.#session?.requestRestart(textOf(reason))
  }

  holdReady() {
    this.#readiness?.hold()
  }

  ready() {
    this.#readiness?.ready()
  }

  leave(reason) {
    this.#session?.leave(textOf(reason))
  }
}

/** A reason is for the master's log; what is none must not end the app. */
function textOf(value) {
  return value == null ? undefined : String(value)
}

module.exports = { Worker }
