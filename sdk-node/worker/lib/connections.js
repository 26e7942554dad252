'use strict'
// What an open connection is doing, as far as draining needs to know.

const http = require('node:http')

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

/** A connection that was HTTP/1 and is the app's own since an upgrade, such as a WebSocket, or a CONNECT. Node takes the parser away then. */
function isUpgraded(server, socket) {
  return socket.parser === null && !socket.destroyed && isHttp1(server, socket)
}

/** For the log. */
function kindOf(server, socket) {
  if (speaksHttp2(server, socket)) return 'HTTP/2'
  if (server.setSecureContext && !socket.encrypted) return 'in a TLS handshake'
  if (isUpgraded(server, socket)) return 'upgraded (such as WebSocket)'
  if (!socket.parser) return 'not HTTP'
  if (!socket._httpMessage) return 'waiting for a request'
  return /^content-type: *text\/event-stream/im.test(socket._httpMessage._header) ? 'streaming events' : 'in a request'
}

function speaksHttp2(server, socket) {
  return socket.alpnProtocol === 'h2' || (isHttp2(server) && !socket.encrypted && !server.setSecureContext)
}

function isHttp1(server, socket) {
  return server instanceof http.Server || server instanceof require('node:https').Server || (isHttp2(server) && !speaksHttp2(server, socket))
}

/** Node exports no class for it. */
function isHttp2(server) {
  return typeof server.updateSettings === 'function'
}

module.exports = { idleSockets, isUnused, isUpgraded, kindOf }
