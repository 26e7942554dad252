'use strict'
// The master's log lines: to the program's logger, those about one worker to a child of it; without a logger, lines for people on standard error.

const { writeSync } = require('node:fs')

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error']
const COLOURS = { error: 31, warn: 33, info: 32, debug: 34 }

/** A log of `{ level, message, fields }`. */
function logOf({ logger, logLevel }) {
  return logger ? new LoggerLog(logger) : new PrettyLog(logLevel)
}

/** Over any logger of bunyan's shape. */
class LoggerLog {
  #logger
  /** workerId → the child logger of a worker that has a process */
  #children = new Map()

  constructor(logger) {
    this.#logger = logger
    this.debug = wantsDebug(logger)
  }

  write({ level, message, fields }) {
    const { workerId, workerPid, ...rest } = fields
    const isOfProcess = workerId !== undefined && workerPid !== undefined
    try {
      // A worker that has no process yet is known by its id alone.
      const logger = isOfProcess ? this.#childOf(workerId, workerPid) : this.#logger
      const all = isOfProcess && logger !== this.#logger ? rest : fields
      const method = [level, 'warn', 'info'].find((name) => typeof logger[name] === 'function')
      if (level !== 'debug' || method === 'debug') logger[method](all, message)
    } catch (error) {
      // The log is no reason to end.
      new PrettyLog('info').write({ level: 'error', message: 'The logger failed', fields: { reason: String(error?.message ?? error), lost: message } })
    }
    if (message === 'Worker exited') this.#children.delete(workerId)
  }

  #childOf(workerId, workerPid) {
    if (typeof this.#logger.child !== 'function') return this.#logger
    if (!this.#children.has(workerId)) this.#children.set(workerId, this.#logger.child({ workerId, workerPid }))
    return this.#children.get(workerId)
  }
}

/** Whether a logger of bunyan (`level()`) or pino (`isLevelEnabled`) shows lines of level debug. */
function wantsDebug(logger) {
  if (typeof logger.isLevelEnabled === 'function') return logger.isLevelEnabled('debug')
  return typeof logger.level === 'function' && logger.level() <= 20
}

/** As the program `dutch-master` logs: time, level, message, fields. */
class PrettyLog {
  #least

  constructor(least) {
    this.#least = LEVELS.indexOf(least)
    this.debug = this.#least <= LEVELS.indexOf('debug')
  }

  write({ level, message, fields }) {
    if (LEVELS.indexOf(level) < this.#least) return
    const paint = process.stderr.isTTY && !process.env.NO_COLOR ? (code, text) => `\x1b[${code}m${text}\x1b[0m` : (code, text) => text
    const shown = Object.entries(fields).map(([name, value]) => ` ${paint(2, `${name}=`)}${word(value)}`)
    const line = `${paint(2, new Date().toISOString())} ${paint(COLOURS[level], level.toUpperCase().padStart(5))} ${paint(1, message)}${shown.join('')}\n`
    try {
      // Not by the stream: its errors would be events that end the process when nobody reads the log.
      writeSync(2, line)
    } catch {
      // Nobody reads it.
    }
  }
}

function word(value) {
  return typeof value === 'string' && /^[^\s"=\p{Cc}]+$/u.test(value) ? value : JSON.stringify(value)
}

module.exports = { logOf }
