'use strict'
// A listen query of Node's cluster child becomes a `listen` of the protocol, and the descriptor that comes back a handle of Node's.

const net = require('node:net')
const { chmodSync, closeSync, statSync } = require('node:fs')
const { errno } = require('node:os').constants
const { say } = require('./say.js')

const IPV6_ONLY = 1 // UV_TCP_IPV6ONLY and UV_UDP_IPV6ONLY

/** What the master refuses for reasons that have no errno name. */
const CODES = { forbidden: 'EACCES', limit: 'EMFILE', stopping: 'ECANCELED', 'timed-out': 'ETIMEDOUT', disconnected: 'ENOTCONN', 'unknown-name': 'EADDRNOTAVAIL' }

/**
 * Asks the master for the listener of a query `{ address, port, addressType, fd, flags, backlog, index, data }`.
 * `answer` gets `{ errno: 0, key, data, handle }` or `{ errno, data }`, errno negative as Node has it.
 */
function openHandle(session, query, answer) {
  const refuse = (code) => answer({ errno: errnoOf(code), data: query.data })
  // The number of a descriptor of the master, which has none to give away by number.
  if (typeof query.fd === 'number' && query.fd >= 0) return setImmediate(refuse, 'ENOTSUP')
  session.listen(requestOf(query), (reply) => {
    if (reply.kind === 'refused') {
      if (!(reply.code in errno)) say(`listening on ${query.address ?? '*'}:${query.port} was refused: ${reply.message}`)
      return refuse(reply.code)
    }
    // It came after the order to go: nobody may start to accept now, and the master hears that it is not held.
    if (session.ordered) {
      closeSync(reply.fd)
      return session.close(reply.key)
    }
    const handle = handleOf(query.addressType, reply.fd)
    if (typeof handle === 'number') {
      session.close(reply.key)
      return answer({ errno: handle, data: query.data })
    }
    const refused = permit(query)
    if (refused) {
      handle.close()
      session.close(reply.key)
      return answer({ errno: refused, data: query.data })
    }
    answer({ errno: 0, key: reply.key, data: parse(reply.data), handle })
  })
}

function requestOf({ address, port, addressType, flags, backlog, index, data }) {
  const options = { backlog: backlog > 0 ? backlog : undefined, data: data == null ? undefined : JSON.stringify(data) }
  if (addressType === -1) return { kind: 'unix', path: address, ...options }
  return {
    kind: String(addressType).startsWith('udp') ? 'udp' : 'tcp',
    host: address ?? undefined,
    port: port ?? 0,
    ipv6Only: Boolean(flags & IPV6_ONLY),
    index, // it means something for port 0 alone
    ...options,
  }
}

/** The address that `listening` reports. */
function addressOf({ address, port, addressType }) {
  if (addressType === -1) return { kind: 'unix', path: address }
  return { kind: String(addressType).startsWith('udp') ? 'udp' : 'tcp', host: address ?? undefined, port: port ?? undefined }
}

/** The handle for a descriptor, or an errno as Node has it. */
function handleOf(addressType, fd) {
  if (addressType !== 'udp4' && addressType !== 'udp6') return net._createServerHandle(null, null, null, fd)
  // Node makes a handle with each datagram socket, and has no other way to one: this socket gives its away before anybody uses it.
  const socket = require('node:dgram').createSocket(addressType)
  const state = socket[Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol')]
  const { handle } = state
  state.handle = null
  const error = handle.open(fd)
  if (error) handle.close()
  return error || handle
}

/** `readableAll` and `writableAll`: the socket's file is for every user. Returns an errno where that fails. */
function permit({ addressType, address, readableAll, writableAll }) {
  const more = (readableAll ? 0o444 : 0) | (writableAll ? 0o222 : 0)
  if (addressType !== -1 || more === 0) return 0
  try {
    chmodSync(address, statSync(address).mode | more)
    return 0
  } catch (error) {
    return error.errno
  }
}

function errnoOf(code) {
  return -(errno[code] ?? errno[CODES[code]] ?? errno.EINVAL)
}

function parse(data) {
  return data == null ? null : JSON.parse(data)
}

module.exports = { openHandle, addressOf }
