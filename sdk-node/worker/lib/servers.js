'use strict'
// Every server of this process that listens, and its open connections.

const { EventEmitter } = require('node:events')

/**
 * Events: `connection` (socket: one more was accepted), `session` (an HTTP/2 session began), `change` (a connection or a server is gone).
 */
class Servers extends EventEmitter {
  /** net.Server → { sockets, sessions, own } */
  #servers = new Map()

  /** Adds a server that begins to listen. `own`: its listener is not the master's but this worker's alone. */
  add(server, { own }) {
    const known = this.#servers.get(server)
    if (known) known.own = own
    else this.#watch(server, { sockets: new Set(), sessions: new Set(), own })
  }

  #watch(server, connections) {
    this.#servers.set(server, connections)
    const accept = (socket) => {
      this.#addTo(connections.sockets, socket)
      this.emit('connection', socket)
    }
    // Over TLS the socket that requests come on takes the place of the one that was accepted.
    const secure = (socket) => {
      connections.sockets.delete(socket._parent)
      accept(socket)
    }
    const session = (session) => {
      this.#addTo(connections.sessions, session)
      this.emit('session', session)
    }
    server.on('connection', accept).on('secureConnection', secure).on('session', session)
    server.once('close', () => {
      server.off('connection', accept).off('secureConnection', secure).off('session', session)
      this.#servers.delete(server)
      this.emit('change')
    })
  }

  has(server) {
    return this.#servers.has(server)
  }

  /** Entries [server, { sockets, sessions, own }]. */
  [Symbol.iterator]() {
    return this.#servers[Symbol.iterator]()
  }

  /** Connections that are open. */
  get open() {
    let open = 0
    for (const { sockets } of this.#servers.values()) open += sockets.size
    return open
  }

  #addTo(set, object) {
    set.add(object)
    object.once('close', () => {
      set.delete(object)
      this.emit('change')
    })
  }
}

module.exports = { Servers }
