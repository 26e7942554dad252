'use strict'
// When the master hears `listening`, by which a worker counts as running: with the first server that listens, or, where the app holds that back, when the app says so.

const { EventEmitter } = require('node:events')
const { say } = require('./say.js')

/** Event: `ready`, once, when it has been said. */
class Readiness extends EventEmitter {
  #session
  #held = false
  #waiting = []
  #isReady = false

  constructor(session) {
    super()
    this.#session = session
  }

  /** From now on a server that listens says nothing. */
  hold() {
    if (this.#isReady) say('holdReady() came after a server had begun to listen, and changes nothing; call it before')
    else this.#held = true
  }

  /** A server listens. */
  listening(address) {
    if (this.#held) this.#waiting.push(address)
    else this.#tell(address)
  }

  /** The app serves. */
  ready() {
    this.#held = false
    const addresses = this.#waiting.splice(0)
    if (addresses.length > 0) addresses.forEach((address) => this.#tell(address))
    else this.#tell()
  }

  #tell(address) {
    this.#session.listening(address)
    if (this.#isReady) return
    this.#isReady = true
    this.emit('ready')
  }
}

module.exports = { Readiness }
