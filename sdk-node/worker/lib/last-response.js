'use strict'
// While draining, a response whose head is not sent yet becomes the last one of its connection, and says so: `Connection: close`.

/**
 * From now on, for connections of which `concerns(server)` is true. One hook where every head is made, put in only now, so that it costs nothing before:
 * it covers requests in flight, later ones, pipelined ones, and responses whose `writeHead` an app or a middleware wraps.
 */
function makeResponsesLast(concerns) {
  const { ServerResponse } = require('node:http')
  const store = ServerResponse.prototype._storeHeader
  ServerResponse.prototype._storeHeader = function (...args) {
    store.apply(this, args)
    if (isLast(this, concerns)) rewriteHead(this)
  }
}

/** For a response that has its head, but has not sent it. */
function makeResponseLast(response, concerns) {
  if (response._header && !response._headerSent && isLast(response, concerns)) rewriteHead(response)
}

function isLast(response, concerns) {
  const socket = response.req?.socket
  if (!socket || !concerns(socket.server) || response.statusCode < 200) return false
  // Not where a pipelined request waits behind this one: it would go unanswered.
  const newest = socket.parser?.incoming
  return !newest || newest === response.req
}

/** Whatever Node or the app has said of keeping the connection. */
function rewriteHead(response) {
  const head = response._header.replace(/^(connection|keep-alive):.*\r\n/gim, '')
  response._header = `${head.slice(0, -2)}Connection: close\r\n\r\n`
  response._last = true
}

module.exports = { makeResponsesLast, makeResponseLast }
