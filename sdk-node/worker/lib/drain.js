'use strict'
// Draining: the worker was told to go and fails no request while it does. It stops accepting, serves open connections on, each until its next response
// says `Connection: close` or until it was idle for as long as its client may expect, and ends what remains at the deadline.

const net = require('node:net')
const { idleSockets, isUnused, kindOf } = require('./connections.js')
const { makeResponsesLast, makeResponseLast } = require('./last-response.js')
const { endGently, LINGER_MS } = require('./linger.js')
const { say } = require('./say.js')

/** How long idle connections stay where the server has no keep-alive timeout of its own. */
const IDLE_GRACE_MS = 5_000
/** How often it is looked which connections are idle. */
const SWEEP_MS = 100
/** When the pool stops: how many turns of the loop without a new connection mean that none is waiting. */
const QUIET_TURNS = 3
/** When the pool stops: the longest that connections are accepted on; without a bound a constant stream of them would never end. */
const ACCEPT_ON_MS = 1_000
/** How long before the announced timeout everything has ended: time to say so. At most a tenth of it. */
const MARGIN_MS = 250
/** The longest timer that there is; a longer one would end at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

class Drain {
  #servers
  #done
  #deadline = Infinity
  /** From then on connections that rest end, whatever is left of their grace: in peace, while there is time to linger. */
  #lastCall = Infinity
  #closed = false
  #idleSince = new WeakMap()
  #sweepTimer
  #deadlineTimer

  /** Starts to drain; `done` is called once when nothing is open any more. */
  constructor(servers, { reason, timeoutMs }, done) {
    this.#servers = servers
    this.#done = done
    const concerns = (server) => servers.has(server)
    makeResponsesLast(concerns)
    for (const [, { sockets, sessions }] of servers) {
      for (const socket of sockets) {
        this.#take(socket)
        if (socket._httpMessage) makeResponseLast(socket._httpMessage, concerns)
      }
      for (const session of sessions) session.close()
    }
    servers.on('connection', (socket) => this.#take(socket))
    servers.on('session', (session) => session.once('stream', () => session.close()))
    servers.on('change', () => this.#check())
    this.hurry(timeoutMs)
    this.#sweepLater()
    if (reason === 'stop') this.#acceptWaiting()
    else this.#stopAccepting()
  }

  /** The deadline; it only ever moves earlier. */
  hurry(timeoutMs) {
    const left = Math.max(0, timeoutMs - Math.min(MARGIN_MS, timeoutMs / 10))
    if (performance.now() + left >= this.#deadline) return
    this.#deadline = performance.now() + left
    this.#lastCall = this.#deadline - Math.min(LINGER_MS, left / 2)
    clearTimeout(this.#deadlineTimer)
    this.#deadlineTimer = setTimeout(() => this.#cut(), Math.min(left, TIMER_MAX_MS))
  }

  /** The last worker of a listener is the last who can accept what waits in its queue. */
  #acceptWaiting() {
    const until = Math.min(this.#deadline, performance.now() + ACCEPT_ON_MS)
    let quiet = 0
    this.#servers.on('connection', () => (quiet = 0))
    const turn = () => {
      if (++quiet > QUIET_TURNS || performance.now() >= until) this.#stopAccepting()
      else setImmediate(turn)
    }
    setImmediate(turn)
  }

  #stopAccepting() {
    for (const [server] of this.#servers) {
      // Not the server's own close(): that of an HTTP server ends idle connections at once, and with them requests on their way.
      if (server._handle) net.Server.prototype.close.call(server)
    }
    this.#closed = true
    setImmediate(() => this.#check()) // never before the caller knows its drain
  }

  /** Node ends an HTTP/1 connection by this after its last response; it is to end gently. */
  #take(socket) {
    const { destroySoon } = socket
    socket.destroySoon = () => {
      const request = socket.parser?.incoming
      if (!socket.parser) destroySoon.call(socket)
      // An app may answer first and read the rest of the request then.
      else if (request && !request.complete && !request._dumped) request.once('close', () => endGently(socket))
      else endGently(socket)
    }
  }

  #sweepLater() {
    // By setImmediate, so that what had arrived by now is read before anything counts as idle.
    this.#sweepTimer = setTimeout(() => setImmediate(() => this.#sweep()), SWEEP_MS)
  }

  #sweep() {
    if (!this.#done) return
    const now = performance.now()
    const lastCall = now >= this.#lastCall
    for (const [server, { sockets }] of this.#servers) {
      const grace = server.keepAliveTimeout || IDLE_GRACE_MS
      const idle = idleSockets(server, sockets)
      for (const socket of sockets) {
        if (!idle.has(socket)) this.#idleSince.delete(socket)
        else if (!this.#idleSince.has(socket)) this.#startGrace(socket, now)
        else if (now - this.#idleSince.get(socket) >= grace) endGently(socket)
        if (lastCall && (idle.has(socket) || isUnused(socket))) endGently(socket)
      }
    }
    this.#sweepLater()
  }

  #startGrace(socket, now) {
    this.#idleSince.set(socket, now)
    socket.setTimeout(0) // Node's own keep-alive timer would destroy it
  }

  #check() {
    if (this.#closed && this.#servers.open === 0) this.#finish()
  }

  /** The deadline has come. */
  #cut() {
    if (!this.#closed) this.#stopAccepting()
    const kinds = new Map()
    for (const [, { sockets }] of this.#servers) {
      for (const socket of sockets) {
        const kind = kindOf(socket)
        if (!socket.writableEnded) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
        socket.destroy()
      }
    }
    if (kinds.size > 0) say(`connections that did not end in time were closed: ${[...kinds].map(([kind, count]) => `${count} ${kind}`).join(', ')}`)
    this.#finish()
  }

  #finish() {
    const done = this.#done
    if (!done) return
    this.#done = undefined
    clearTimeout(this.#sweepTimer)
    clearTimeout(this.#deadlineTimer)
    for (const socket of this.#servers.datagramSockets) socket.close()
    done()
  }
}

module.exports = { Drain }
