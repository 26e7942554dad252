'use strict'
// Load by clients that never retry: every request sent has succeeded or failed, and each failure is kept.

const { randomBytes, randomInt } = require('node:crypto')
const { once, EventEmitter } = require('node:events')
const { setTimeout: sleep } = require('node:timers/promises')
const { bounded } = require('../test-support.js')

/** Clients that keep their connection, those that have one for each request, and the longest gap between two requests of one: some connections are idle, some requests on their way, at each order to go. */
const MODERATE = { keepAlive: 8, perRequest: 3, thinkMs: 80 }

/** How long a slow response takes. */
const SLOW_MS = 200

class Load extends EventEmitter {
  #stopped = false
  #clients = []
  sent = 0
  ok = 0
  /** Requests that an HTTP/2 server refused unprocessed, and that were repeated. */
  refused = 0
  failures = []

  /** `connect` makes a client of these options; `home` is what a GET of / answers. */
  constructor(connect, home, { keepAlive, perRequest, thinkMs } = MODERATE) {
    super()
    for (let n = 0; n < keepAlive + perRequest; n++) this.#clients.push(this.#client(connect({ keepAlive: n < keepAlive }), home, thinkMs))
  }

  async #client(client, home, thinkMs) {
    while (!this.#stopped) {
      const what = randomRequest(home)
      this.sent++
      try {
        const { status, body } = await bounded(client.request(what), 'a response')
        if (status !== 200 || !what.expects(body)) throw new Error(`status ${status}, ${body.length} bytes: ${body.toString('latin1', 0, 100)}`)
        this.ok++
      } catch (error) {
        this.failures.push(`${what.method ?? 'GET'} ${what.path}: ${error.code ?? ''} ${error.message}`)
      }
      this.emit('answer')
      await sleep(randomInt(thinkMs))
    }
    this.refused += client.refused ?? 0
    client.close()
  }

  /** Waits until so many more requests have succeeded than now: proof of load. */
  async awaitOk(more) {
    const wanted = this.ok + more
    const enough = async () => {
      while (this.ok < wanted) await once(this, 'answer')
    }
    await bounded(enough(), `${more} requests that succeed; failed: ${this.failures.slice(0, 5).join('; ')}`)
  }

  /** Lets every client finish its request. */
  async stop() {
    this.#stopped = true
    await Promise.all(this.#clients)
  }
}

/** A tenth is slow, a third has a body of 1 to 16 KiB. */
function randomRequest(home) {
  const kind = randomInt(30)
  if (kind < 3) return { path: `/slow?ms=${SLOW_MS}`, expects: (answer) => answer.includes('slow') }
  if (kind >= 13) return { path: '/', expects: (answer) => home.test(answer.toString()) }
  const body = randomBytes(randomInt(1024, 16384))
  return { method: 'POST', path: '/echo', body, expects: (answer) => answer.equals(body) }
}

module.exports = { Load }
