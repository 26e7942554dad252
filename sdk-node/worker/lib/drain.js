'use strict'
// Draining: the worker was told to go and fails no request while it does. It stops accepting, serves open connections on, each until its next response
// says `Connection: close` or until it was idle for as long as its client may expect, and ends what remains at the deadline.

const net = require('node:net')
const { idleSockets, isUnused, isUpgraded, kindOf } = require('./connections.js')
const { endSession } = require('./goaway.js')
const { makeResponsesLast, makeResponseLast } = require('./last-response.js')
const { endGently, LINGER_MS } = require('./linger.js')
const { say } = require('./say.js')

/** How long idle connections stay where the server has no keep-alive timeout of its own. */
const IDLE_GRACE_MS = 5_000
/** How often it is looked which connections are idle. */
const SWEEP_MS = 100
/** Reasons after which nobody else may be left who accepts from a shared listener. */
const LAST = ['stop', 'orphaned']
/** Where nobody else will accept: how many turns of the loop without a new connection mean that none is waiting. */
const QUIET_TURNS = 3
/** Where nobody else will accept: the longest that connections are accepted on; without a bound a constant stream of them would never end. */
const ACCEPT_ON_MS = 1_000
/** How long before the announced timeout everything has ended: time to say so. At most a tenth of it. */
const MARGIN_MS = 250
/** The longest timer that there is; a longer one would end at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

class Drain {
  #servers
  #order
  #done
  #deadline = Infinity
  /** From then on connections that rest end, whatever is left of their grace: in peace, while there is time to linger. */
  #lastCall = Infinity
  #closed = false
  /** How many connections had not ended by the deadline. */
  #late = 0
  #idleSince = new WeakMap()
  /** Upgraded connections that have been told. */
  #told = new WeakSet()
  #sweepTimer
  #deadlineTimer

  /** Starts to drain; `done` is called once when nothing is open any more, with the number of connections that had not ended in time. */
  constructor(servers, order, done) {
    this.#servers = servers
    this.#order = order
    this.#done = done
    const concerns = (server) => servers.has(server)
    makeResponsesLast(concerns)
    for (const [server, { sockets, sessions }] of servers) {
      // A server that the app closes now, as Fastify does its second one after the first, would end idle connections at once, and with them requests on their way. They end here.
      if (server.closeIdleConnections) server.closeIdleConnections = () => {}
      for (const socket of sockets) {
        this.#take(socket)
        if (socket._httpMessage) makeResponseLast(socket._httpMessage, concerns)
      }
      for (const session of sessions) endSession(session, IDLE_GRACE_MS)
    }
    servers.on('connection', (socket) => this.#take(socket))
    servers.on('session', (session) => endSession(session, IDLE_GRACE_MS))
    servers.on('change', () => this.#check())
    this.hurry(order.timeoutMs)
    this.#sweepLater()
    // The last worker of a listener is the last who can accept what waits in its queue, and of its own listeners it is the only one.
    const isLast = (own) => own || LAST.includes(order.reason)
    this.#stopAccepting((own) => !isLast(own))
    this.#whenQuiet(() => {
      this.#stopAccepting(isLast)
      this.#closed = true
      this.#check()
    })
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

  /** Calls back when no connection waits to be accepted. */
  #whenQuiet(then) {
    const until = Math.min(this.#deadline, performance.now() + ACCEPT_ON_MS)
    let quiet = 0
    this.#servers.on('connection', () => (quiet = 0))
    const turn = () => {
      if (++quiet > QUIET_TURNS || performance.now() >= until) then()
      else setImmediate(turn)
    }
    setImmediate(turn)
  }

  #stopAccepting(concerned) {
    for (const [server, { own }] of this.#servers) {
      // Not the server's own close: that of an HTTP server ends idle connections at once, and with them requests on their way.
      if (concerned(own) && server._handle) net.Server.prototype.close.call(server)
    }
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

  /** The app that took over an upgraded connection may end it in its own way; its event is the socket's, so that it needs nothing of ours. */
  #tell(socket) {
    if (this.#told.has(socket)) return
    this.#told.add(socket)
    const { reason } = this.#order
    // Later, so that what the app throws does not end up here.
    process.nextTick(() => socket.emit('draining', { reason, deadline: new Date(Date.now() + this.#deadline - performance.now()) }))
  }

  #sweepLater() {
    // By setImmediate, so that what had arrived by now is read before anything counts as idle.
    this.#sweepTimer = setTimeout(() => setImmediate(() => this.#sweep()), SWEEP_MS)
  }

  #sweep() {
    if (!this.#done) return
    const now = performance.now()
    const lastCall = now >= this.#lastCall
    for (const [server, { sockets, sessions }] of this.#servers) {
      const grace = server.keepAliveTimeout || IDLE_GRACE_MS
      const idle = idleSockets(server, sockets)
      if (lastCall) for (const session of sessions) session.close()
      for (const socket of sockets) {
        if (isUpgraded(server, socket)) this.#tell(socket)
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
    this.#stopAccepting(() => true)
    const kinds = new Map()
    for (const [server, { sockets }] of this.#servers) {
      for (const socket of sockets) {
        const kind = kindOf(server, socket)
        if (!socket.writableEnded) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
        socket.destroy()
      }
    }
    for (const count of kinds.values()) this.#late += count
    if (kinds.size > 0) say(`connections that did not end in time were closed: ${[...kinds].map(([kind, count]) => `${count} ${kind}`).join(', ')}`)
    this.#finish()
  }

  #finish() {
    const done = this.#done
    if (!done) return
    this.#done = undefined
    clearTimeout(this.#sweepTimer)
    clearTimeout(this.#deadlineTimer)
    done(this.#late)
  }
}

module.exports = { Drain }
