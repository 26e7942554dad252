'use strict'
// What an open connection is doing, as far as draining needs to know.

/** The server's list of its HTTP/1 connections, which Node keeps under a symbol; its public face, `closeIdleConnections()`, would destroy them. */
function listOf(server) {
  const symbol = Object.getOwnPropertySymbols(server).find(({ description }) => description === 'http.server.connections')
  return symbol && server[symbol]
}

/** HTTP/1 connections that wait for their next request: they had one, its response is sent, and not a byte of another has come. */
function idleSockets(server, sockets) {
  const list = listOf(server)
  const resting = list ? new Set(list.idle().map((parser) => parser.socket)) : undefined
  return new Set([...sockets].filter((socket) => socket.parser && !socket._httpMessage && (resting ? resting.has(socket) : socket.bytesRead > 0)))
}

/** An HTTP/1 connection that was accepted and has not sent a byte. */
function isUnused(socket) {
  return Boolean(socket.parser) && socket.bytesRead === 0
}

/** For the log. */
function kindOf(socket) {
  if (!socket.parser) return 'upgraded or not HTTP/1'
  return socket._httpMessage ? 'in a request' : 'waiting for a request'
}

module.exports = { idleSockets, isUnused, kindOf }
