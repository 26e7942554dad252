'use strict'
// For an app that had loaded `cluster` before it required this package, so that Node has the module of a primary: its object is turned into a worker's.

const { openHandle, addressOf } = require('./listen.js')

/** Turns the primary's module object into a child's. */
function turnIntoChild(session, readiness) {
  const cluster = require('node:cluster')
  const worker = new cluster.Worker({ id: session.id, process, state: 'online' })
  const getServer = (server, options, callback) => open(session, readiness, worker, server, options, callback)
  Object.assign(cluster, { isWorker: true, isPrimary: false, isMaster: false, worker, _getServer: getServer })
  require('node:module').syncBuiltinESMExports()
  process.once('disconnect', () => {
    worker.emit('disconnect')
    if (!worker.exitedAfterDisconnect) process.exit(0)
  })
  return cluster
}

let nextIndex = 0

/** What the child module does in `_getServer`. */
function open(session, readiness, worker, server, options, callback) {
  const path = options.port < 0 && typeof options.address === 'string'
  const address = path ? require('node:path').resolve(options.address) : options.address
  const query = { ...options, address, index: options.port === 0 ? nextIndex++ : 0, data: server._getServerData?.() ?? null }
  openHandle(session, query, ({ errno, key, data, handle }) => {
    server._setServerData?.(data)
    if (errno) return callback(errno, null)
    const close = handle.close
    handle.close = function (...args) {
      session.close(key)
      return close.apply(this, args)
    }
    callback(0, handle)
  })
  server.once('listening', () => {
    worker.state = 'listening'
    readiness.listening(addressOf({ ...query, port: server.address()?.port ?? query.port }))
  })
}

module.exports = { turnIntoChild }
