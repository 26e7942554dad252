'use strict'
// The handle of a master: its thread, its log, its signals, and what the program may ask of it.

const { EventEmitter } = require('node:events')
const { logOf } = require('./log.js')
const { nodeArgs, sdk } = require('./node.js')
const { RestartError } = require('./restart-error.js')
const { Signals } = require('./signals.js')
const { Surroundings } = require('./surroundings.js')
const { size, wanted } = require('./values.js')

/** Log lines that are events as well. */
const EVENTS = {
  'Cluster ready': 'ready',
  'Worker listening': 'listening',
  'Worker exited': 'workerExit',
  'Restart complete': 'restarted',
  'Restart given up, the old workers stay': 'givenUp',
}

/** See index.d.ts. */
class Master extends EventEmitter {
  #log
  #surroundings
  #running
  #signals
  #abandon = () => this.#running.abandon()
  /** The first evaluation was answered, and the loop runs. */
  #isUp = false
  #isStopping = false
  /** The end of the master is the end of the process, unless the program itself asked for it. */
  #endsProcess = true
  #exitWith
  #exit = new Promise((resolve) => {
    this.#exitWith = resolve
  })
  /** seq → { resolve, reject } */
  #asked = new Map()
  #lastSeq = 0

  constructor(options) {
    super()
    const { start } = require('../binding.js')
    this.#log = logOf(options)
    this.#surroundings = new Surroundings(options)
    try {
      this.#running = start(settingsOf(options, this.#log.debug), (report) => this.#heard(report))
    } catch (error) {
      this.#log.write({ level: 'error', message: 'Cluster could not be started', fields: { reason: error.message } })
      setImmediate(() => this.#ended(1))
      return
    }
    this.#signals = new Signals(this.#running, options.restartSignal)
    process.on('exit', this.#abandon)
  }

  get name() {
    return this.#running?.name
  }

  get socket() {
    return this.#running?.socket
  }

  restart() {
    return this.#ask((seq) => this.#running.restart(seq))
  }

  scale(change) {
    const relative = typeof change === 'string' ? /^([+-])(\d+)$/.exec(change) : undefined
    const number = size(relative ? relative[2] : change)
    return this.#ask((seq) => this.#running.scale(seq, relative?.[1] === '-' ? -number : number, Boolean(relative)))
  }

  stop({ now = false } = {}) {
    if (typeof now !== 'boolean') wanted('true or false')
    if (this.#running && !this.#isStopping) {
      this.#isStopping = true
      this.#endsProcess = false
      this.#running.requestStop()
    }
    if (this.#running && now) this.#running.requestStop()
    return this.#exit
  }

  status() {
    const state = { phase: this.#running ? 'starting' : 'stopped', size: 0, running: 0, generation: 0, workers: [], listeners: [] }
    return this.#running && this.#isUp ? camelCase(JSON.parse(this.#running.status())) : { name: this.name, pid: process.pid, ...state }
  }

  #heard(report) {
    switch (report.kind) {
      case 'log':
        return this.#logged(report.level, report.message, JSON.parse(report.json))
      case 'before-fork':
        return this.#answer(report.seq, this.#surroundings.beforeFork())
      case 'evaluate':
        return this.#answer(report.seq, this.#surroundings.evaluate())
      case 'answer':
        return this.#answered(report.seq, JSON.parse(report.json))
      case 'exit':
        return this.#ended(report.code)
    }
  }

  #logged(level, message, fields) {
    if (message === 'Shutdown requested') this.#isStopping = true
    this.#log.write({ level, message, fields })
    if (Object.hasOwn(EVENTS, message)) this.emit(EVENTS[message], fields)
  }

  #answer(seq, answer) {
    if (typeof answer.then === 'function') return void answer.then((answer) => this.#answer(seq, answer))
    if (answer.numWorkers) this.#isUp = true
    this.#running?.answer(seq, answer)
  }

  #ask(send) {
    const answer = new Promise((resolve, reject) => {
      if (!this.#running) return reject(new RestartError({ outcome: 'stopped' }))
      const seq = ++this.#lastSeq
      this.#asked.set(seq, { resolve, reject })
      if (!send(seq)) this.#answered(seq, { outcome: 'refused', reason: 'too many requests wait' })
    })
    // Whoever does not look at the outcome has the log; it must not end the process.
    answer.catch(() => {})
    return answer
  }

  #answered(seq, answer) {
    const { resolve, reject } = this.#asked.get(seq)
    this.#asked.delete(seq)
    if (answer.outcome === 'done') resolve({ ...(answer.generation && { generation: answer.generation }), ...(answer.size && { size: answer.size }) })
    else reject(new RestartError(answer))
  }

  #ended(code) {
    this.#signals?.close()
    process.off('exit', this.#abandon)
    this.#running = undefined
    for (const seq of [...this.#asked.keys()]) this.#answered(seq, { outcome: 'stopped' })
    this.#exitWith(code)
    // Before anything that a listener does wrong.
    if (this.#endsProcess) setImmediate(() => process.exit(code))
    this.emit('exit', code)
  }
}

/** What the addon takes. */
function settingsOf({ numWorkers, beforeFork, workerEnvironment, logger, logLevel, surge, readyOn, ...options }, debug) {
  return {
    args: process.argv.slice(2),
    listen: [],
    node: process.execPath,
    nodeArgs: nodeArgs(),
    nodeSdk: options.nodeSdk ?? sdk(),
    ...options,
    ...surge,
    readyOnHello: readyOn === 'hello',
    beforeFork: beforeFork !== undefined,
    debug,
    ...serviceManager(process.env),
  }
}

/** What systemd has said to this process. */
function serviceManager({ NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID }) {
  if (!NOTIFY_SOCKET) return {}
  const isWatched = Number(WATCHDOG_USEC) > 0 && (WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === process.pid)
  return { notifySocket: NOTIFY_SOCKET, watchdogUs: isWatched ? Number(WATCHDOG_USEC) : undefined }
}

/** The keys of the protocol as JavaScript has them. */
function camelCase(value) {
  if (Array.isArray(value)) return value.map(camelCase)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, value]) => [key.replace(/_(\w)/g, (_, letter) => letter.toUpperCase()), camelCase(value)]))
}

module.exports = { Master }
