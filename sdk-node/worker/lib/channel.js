'use strict'
// What Node's IPC channel gives a cluster worker, over the session with the master: `process.send`, `connected`, `disconnect`, `channel`.

const { say } = require('./say.js')

const JSON_MAX = 16_384 // bytes; the protocol's limit for a `message`
const HOLD_MS = 2 ** 31 - 1 // the longest timer that there is

/** The channel as `process` shows it. */
class Channel {
  #session
  #answerCluster
  /** A real channel keeps the loop alive until it is disconnected; so does this timer. */
  #hold = setInterval(() => {}, HOLD_MS)
  /** Nothing is open any more: `process.disconnect()` means what it says. */
  drained = false
  /** How many connections had not ended in time. */
  cut = 0

  /** `answerCluster` takes Node's own NODE_CLUSTER messages; `leave` is called when the app disconnects. */
  constructor(session, answerCluster, leave) {
    this.#session = session
    this.#answerCluster = answerCluster
    process.connected = true
    process.channel = { ref: () => void this.#hold.ref(), unref: () => void this.#hold.unref(), hasRef: () => this.#hold.hasRef() }
    process.send = (message, handle, options, callback) => this.#send(message, handle, [handle, options, callback].find(isFunction))
    process.disconnect = () => (this.drained ? this.disconnect() : leave('process.disconnect()'))
  }

  /** Ends the channel as Node shows it, and then says `disconnect`: the master's answer to that is SIGTERM, and the app's last words come first. */
  disconnect() {
    if (!process.connected) return
    process.connected = false
    process.channel = undefined
    clearInterval(this.#hold)
    process.nextTick(() => {
      setImmediate(() => this.#session.drained(this.cut))
      process.emit('disconnect')
    })
  }

  #send(message, handle, callback) {
    check(message)
    if (isObject(message) && typeof message.cmd === 'string' && message.cmd.startsWith('NODE_')) {
      if (message.cmd === 'NODE_CLUSTER') this.#answerCluster(message)
      return true
    }
    if (!process.connected) {
      process.nextTick(callback ?? ((error) => process.emit('error', error)), closed())
      return false
    }
    if (!this.#session.alive && this.#session.ordered) {
      // Nobody will hear it, which is no fault of the app: no 'error' event, as that would end it.
      if (callback) process.nextTick(callback, closed())
      return false
    }
    // Without an order the session keeps what is said for the master's successor.
    if (handle && !isFunction(handle)) say('process.send: the message is sent without its handle; this master takes none')
    if (isObject(message) && message.event === 'request-restart') this.#session.requestRestart(textOf(message.reason))
    else this.#sendJson(JSON.stringify(message))
    if (callback) process.nextTick(callback, null)
    return true
  }

  #sendJson(json = 'null') {
    const length = Buffer.byteLength(json)
    if (length <= JSON_MAX) this.#session.message(json)
    else say(`process.send: a message of ${length} bytes was dropped; the limit is ${JSON_MAX}`)
  }
}

/** Throws where Node does. */
function check(message) {
  if (message === undefined) throw Object.assign(new TypeError('The "message" argument must be specified'), { code: 'ERR_MISSING_ARGS' })
  if (['string', 'number', 'boolean', 'object'].includes(typeof message)) return
  const text = `The "message" argument must be one of type string, object, number, or boolean. Received type ${typeof message}`
  throw Object.assign(new TypeError(text), { code: 'ERR_INVALID_ARG_TYPE' })
}

function closed() {
  return Object.assign(new Error('Channel closed'), { code: 'ERR_IPC_CHANNEL_CLOSED' })
}

function textOf(value) {
  return typeof value === 'string' ? value : undefined
}

function isObject(value) {
  return typeof value === 'object' && value !== null
}

function isFunction(value) {
  return typeof value === 'function'
}

module.exports = { Channel }
