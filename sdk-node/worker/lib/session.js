'use strict'
// The session with the master: a thin object over the addon. Requests go out by methods, what the master says comes in as events.

const { EventEmitter } = require('node:events')

/**
 * Events: `order` ({ reason, timeoutMs }), `ended` (the connection), `lost` (it ended without an order), `reconnected` (a master took this worker back),
 * `problem` ({ code, message }).
 */
class Session extends EventEmitter {
  #connection
  #asked = new Map()
  #nextSeq = 0
  /** There has been an order to go. */
  ordered = false
  /** The connection is open. */
  alive = true

  /** How often the master wants a sign of life, and how many requests a worker is to answer at most; undefined where that is not wanted. */
  heartbeatMs
  maxRequests

  /** Blocks until the master has answered; throws where it does not. */
  constructor(settings) {
    super()
    const { connect } = require('../binding.js')
    this.#connection = connect(settings, (event) => this.#heard(event))
    const { id, generation, slot, heartbeatMs, maxRequests } = this.#connection.identity()
    Object.assign(this, { id, generation, slot, heartbeatMs, maxRequests })
  }

  /** Asks for a listener; `answer` gets `{ fd, key, data }` or `{ code, message }`. */
  listen(request, answer) {
    const seq = this.#nextSeq++
    this.#asked.set(seq, answer)
    this.#connection.listen(seq, request)
  }

  listening(address) {
    this.#connection.listening(address)
  }

  close(key) {
    this.#connection.close(key)
  }

  requestRestart(reason) {
    this.#connection.requestRestart(reason)
  }

  leave(reason) {
    this.#connection.leave(reason)
  }

  message(json) {
    this.#connection.message(json)
  }

  beat() {
    this.#connection.beat()
  }

  /** `cut`: how many connections had not ended in time. */
  drained(cut) {
    this.#connection.drained(cut)
  }

  #heard(event) {
    switch (event.kind) {
      case 'listener':
      case 'refused': {
        const answer = this.#asked.get(event.seq)
        this.#asked.delete(event.seq)
        return answer(event)
      }
      case 'order':
        this.ordered = true
        return this.emit('order', event)
      case 'disconnected':
        this.alive = false
        this.emit('ended')
        if (!event.ordered) this.emit('lost')
        return
      case 'reconnected':
        this.alive = true
        return this.emit('reconnected')
      case 'error':
        return this.emit('problem', event)
    }
  }
}

module.exports = { Session }
