'use strict'
// Makes this process the master's worker where it can be one, and hands out the one worker object.

const { join } = require('node:path')
const { isMainThread } = require('node:worker_threads')
const { version } = require('../package.json')
const { say } = require('./say.js')
const { Worker } = require('./worker.js')

/** Shared by every copy of this package in the process, so that one connects and the others get the same object. */
const INSTANCE = Symbol.for('dutch-master-worker')
const VARIABLES = ['DUTCH_MASTER_SOCKET', 'DUTCH_MASTER_TOKEN', 'DUTCH_MASTER_WORKER_ID', 'DUTCH_MASTER_SLOT']
/** Optional features of the protocol: `resume` is the session's, for the others see heartbeat.js and max-requests.js. */
const FEATURES = ['resume', 'heartbeat', 'max-requests']
/** How long Node's cluster child may take to disconnect when nothing of it is open. */
const FINISH_MS = 1_000

/** Which copy of the package made the process a worker. */
const COPY = Symbol.for('dutch-master-worker.copy')

function attach() {
  const copy = { directory: join(__dirname, '..'), version }
  if (!process[INSTANCE]) Object.defineProperty(process, INSTANCE, { value: Object.defineProperty(create(), COPY, { value: copy }) })
  const worker = process[INSTANCE]
  const used = worker[COPY]
  if (!worker.standalone && used?.directory !== copy.directory) {
    say(`two copies of this package are loaded: ${used?.directory} (${used?.version}) is the worker, ${copy.directory} (${version}) does nothing; install it once`)
  }
  return worker
}

function create() {
  const settings = takeSettings()
  if (!settings) return new Worker()
  if (process.send) {
    say('this process has another parent, which it speaks to by IPC; it does not become a worker of dutch-master')
    return new Worker()
  }
  try {
    return connect(settings)
  } catch (error) {
    // Serving on without the master would look like success, and `listen` would hang.
    say(`cannot become a worker of the master at ${settings.socket}: ${error.message}`)
    process.exit(1)
  }
}

/** What the environment says; taken out of it, so that no child of this process poses as the worker. */
function takeSettings() {
  if (!isMainThread || !process.env.DUTCH_MASTER_SOCKET) return undefined
  const [socket, token] = VARIABLES.map((name) => process.env[name])
  for (const name of VARIABLES) delete process.env[name]
  return { socket, token: token ?? '', sdk: `node/${version}`, features: FEATURES }
}

function connect(settings) {
  const { Session } = require('./session.js')
  const { Channel } = require('./channel.js')
  const { Servers } = require('./servers.js')
  const { Readiness } = require('./readiness.js')
  const { childModule, answerer } = require('./cluster.js')
  const { watchListen } = require('./watch-listen.js')

  const session = new Session(settings)
  const servers = new Servers()
  const readiness = new Readiness(session)
  const worker = new Worker(session, readiness)
  const channel = new Channel(session, answerer(session, readiness), (reason) => session.leave(reason))
  const child = childModule(session.id)
  const cluster = child ?? require('./late-cluster.js').turnIntoChild(session, readiness)
  if (!child) say('`cluster` was loaded before this package; require it first, or let the master preload it')

  watchListen(cluster, servers, (server) => readiness.listening(addressOf(server.address())))
  require('./max-requests.js').limitRequests(session, servers)
  readiness.once('ready', () => require('./heartbeat.js').startHeartbeat(session))
  cluster.worker.disconnect = function () {
    this.state = 'disconnecting'
    this.exitedAfterDisconnect = true
    session.leave('cluster.worker.disconnect()')
    return this
  }

  let drain
  session.on('order', (order) => {
    if (drain) return drain.hurry(order.timeoutMs)
    cluster.worker.exitedAfterDisconnect = true
    const { Drain } = require('./drain.js')
    drain = new Drain(servers, order, finish)
    worker.emit('disconnect', { reason: order.reason, deadline: new Date(Date.now() + order.timeoutMs) })
  })
  session.on('lost', () => say('the connection to the master was lost; serving on'))
  session.on('reconnected', () => say('a master took this worker back'))
  session.on('problem', ({ code, message }) => say(`the master reports: ${message} (${code})`))
  return worker

  /** Nothing is open any more; `cut` connections had not ended in time. Node's own disconnect comes last, and calls `process.disconnect()`. */
  function finish(cut) {
    channel.drained = true
    channel.cut = cut
    if (child) process.emit('internalMessage', { cmd: 'NODE_CLUSTER', act: 'disconnect' })
    else channel.disconnect()
    setTimeout(() => channel.disconnect(), FINISH_MS).unref()
    process.once('disconnect', () => {
      // Nobody is there to send the SIGTERM that ends a worker.
      if (!session.alive) setImmediate(() => process.exit(0))
      else session.once('ended', () => setTimeout(() => process.exit(0), FINISH_MS).unref())
    })
  }
}

/** What Node says of a server, in the words of the protocol. */
function addressOf({ address, port }) {
  return { kind: 'tcp', host: address, port }
}

module.exports = { attach }
