'use strict'
// The options of `start`: every name, how its value is read, and the refusal of what is wrong before anything is started.

const { resolve } = require('node:path')
const values = require('./values.js')

const text = (value) => (typeof value === 'string' && value !== '' ? value : values.wanted('a string'))
const path = (value) => resolve(text(value))
const texts = (value) => (Array.isArray(value) ? value.map(String) : values.wanted('an array of strings'))
const flag = (value) => (typeof value === 'boolean' ? value : values.wanted('true or false'))
const callback = (value) => (typeof value === 'function' ? value : values.wanted('a function'))
const one = (...words) => (value) => (words.includes(value) ? value : values.wanted(words.map((word) => `"${word}"`).join(' or ')))

/** Every option. A value is read once, here; functions are called later, again and again. */
const READ = {
  worker: text,
  numWorkers: (value) => (typeof value === 'function' ? value : values.size(value)),
  beforeFork: callback,
  workerEnvironment: (value) => (typeof value === 'object' && !Array.isArray(value) ? value : values.wanted('an object')),
  restartSignal: values.signal,
  logger: (value) => (typeof value.info === 'function' ? value : values.wanted('a logger with `info`, `warn` and `error`, such as one of bunyan or pino,')),
  logLevel: one('trace', 'debug', 'info', 'warn', 'error'),
  args: texts,
  listen: (value) => [value].flat().map(values.listener),
  dir: path,
  user: values.account,
  group: values.account,
  groups: (value) => (Array.isArray(value) ? value.map(values.account) : values.wanted('an array of names or numbers')),
  umask: values.mode,
  limit: texts,
  noNewPrivs: flag,
  startTimeout: values.positiveTime,
  killTimeout: values.positiveTime,
  settleTime: values.time,
  orphanTimeout: values.limit,
  surge: values.surge,
  restartAttempts: values.count,
  maxLifetime: values.lifetime,
  maxMemory: values.memory,
  maxRequests: values.requests,
  heartbeat: values.heartbeat,
  keepTrying: flag,
  readyOn: one('listening', 'hello'),
  name: text,
  socket: path,
  pidFile: path,
  nodeArgs: texts,
  nodeSdk: path,
}

/** The options with their values read; what is undefined or null counts as left out. Throws a TypeError that names the option. */
function check(options) {
  if (typeof options !== 'object' || options === null) throw new TypeError('dutch-master: an object of options is wanted, with at least `worker`')
  const read = {}
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(READ, name)) throw new TypeError(`dutch-master: there is no option \`${name}\`${suggestion(name)}`)
    if (value === undefined || value === null) continue
    try {
      read[name] = READ[name](value)
    } catch (error) {
      throw new TypeError(`dutch-master: option \`${name}\`: ${error.message}`, { cause: error })
    }
  }
  if (!read.worker) throw new TypeError('dutch-master: the option `worker` is missing: the script that the workers run')
  return { numWorkers: 2, workerEnvironment: {}, restartSignal: 'SIGUSR2', logLevel: 'info', ...read }
}

/** Most edits after which a name is still taken for a slip. */
const EDITS_MAX = 3

function suggestion(name) {
  const plain = (text) => text.toLowerCase().replaceAll(/[-_]/g, '')
  const nearest = Object.keys(READ)
    .map((known) => [edits(plain(name), plain(known)), known])
    .sort(([a], [b]) => a - b)[0]
  return nearest[0] <= EDITS_MAX ? `; did you mean \`${nearest[1]}\`?` : `; these are known: ${Object.keys(READ).join(', ')}`
}

/** How many letters have to be changed, added or left out to come from one to the other. */
function edits(from, to) {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (const [i, letter] of [...from].entries()) {
    const next = [i + 1]
    for (let j = 0; j < to.length; j++) next.push(Math.min(row[j] + (letter === to[j] ? 0 : 1), row[j + 1] + 1, next[j] + 1))
    row = next
  }
  return row.at(-1)
}

module.exports = { check, NAMES: Object.keys(READ) }
