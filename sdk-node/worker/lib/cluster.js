'use strict'
// Node's own, unmodified cluster child module, with this process's master behind it: the few internal messages that it sends are answered over the protocol.

const { openHandle, addressOf } = require('./listen.js')

/**
 * Node's cluster module as child. Where the master set NODE_UNIQUE_ID, Node has loaded it so; else it is loaded now, unless the app was faster:
 * then undefined is returned.
 */
function childModule(id) {
  process.env.NODE_UNIQUE_ID = String(id)
  try {
    const cluster = require('node:cluster')
    if (!cluster.isWorker) return undefined
    if (!cluster.worker) cluster._setupWorker()
    return cluster
  } finally {
    delete process.env.NODE_UNIQUE_ID
  }
}

/** The answers to the child module's messages. */
function answerer(session, readiness) {
  return function answer(message) {
    switch (message.act) {
      case 'queryServer':
        return openHandle(session, message, ({ handle, ...reply }) => respond(message, reply, handle))
      case 'listening':
        return readiness.listening(addressOf(message))
      case 'close':
        return session.close(message.key)
      case 'exitedAfterDisconnect':
        return setImmediate(respond, message, {})
      // `online` was said by the session's hello.
    }
  }
}

function respond(message, reply, handle) {
  process.emit('internalMessage', { cmd: 'NODE_CLUSTER', ack: message.seq, ...reply }, handle)
}

module.exports = { childModule, answerer }
