'use strict'
// Real masters for the tests: a Node process with a `master.js` in a folder of its own. Everything is waited for by its event, and ends with the test.

const { spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } = require('node:fs')
const http = require('node:http')
const { tmpdir } = require('node:os')
const { dirname, join } = require('node:path')
const readline = require('node:readline')
const { HANG_MS, Lines, bounded, kill, parse } = require('../../test-support.js')

const PACKAGE = join(__dirname, '..')
const PROGRAM = process.env.DUTCH_MASTER ?? join(PACKAGE, '../../target/debug/dutch-master')

/** Before each master's source: its log is bunyan's, on standard output. */
const PRELUDE = `const log = require('bunyan').createLogger({ name: 'master', level: 'debug' })
const dutchMaster = require('dutch-master')
const say = (event, more) => console.log(JSON.stringify({ event, ...more }))
`

/** A worker that says on standard output where it runs, and answers with it. */
const APP = `const http = require('http')
const cluster = require('cluster')
const me = () => ({ event: 'up', id: cluster.worker.id, pid: process.pid, cwd: process.cwd(), argv: process.argv.slice(2), execArgv: process.execArgv, x: process.env.X })
const server = http.createServer((request, response) => response.end(JSON.stringify(me())))
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ ...me(), port: server.address().port })))
`

const cleanups = new WeakMap()

/** What a test has to undo, the last one first: a folder goes when the master that uses it is gone. */
function after(t, undo) {
  if (!cleanups.has(t)) {
    const stack = []
    cleanups.set(t, stack)
    t.after(async () => {
      while (stack.length > 0) await stack.pop()()
    })
  }
  cleanups.get(t).push(undo)
}

/** A folder with these files; what begins with \`@\` is copied from \`apps\`. Packages are found from it as from an app that installed them. */
function folder(t, files) {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'dm-')))
  after(t, () => rmSync(dir, { recursive: true, force: true }))
  mkdirSync(join(dir, 'node_modules'))
  symlinkSync(PACKAGE, join(dir, 'node_modules/dutch-master'))
  symlinkSync(join(PACKAGE, '../worker'), join(dir, 'node_modules/dutch-master-worker'))
  for (const name of ['bunyan', 'express', 'pino']) symlinkSync(join(PACKAGE, 'node_modules', name), join(dir, 'node_modules', name))
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true })
    if (content.startsWith('@')) copyFileSync(join(__dirname, 'apps', content.slice(1)), join(dir, name))
    else writeFileSync(join(dir, name), content)
  }
  return dir
}

/**
 * Runs \`master\`, the source of a master.js after the prelude, or the file of that name. Its log is in \`log\`, other lines of standard output are in \`said\`, standard error is in \`errors\`.
 */
function run(t, master, { files = {}, args = [], nodeArgs = [], env = {}, bareEnv, dir, command = process.execPath } = {}) {
  dir ??= folder(t, { 'app.js': APP, ...(master && { 'master.js': PRELUDE + master }), ...files })
  const environment = bareEnv ?? { ...process.env, XDG_RUNTIME_DIR: dir, NODE_TEST_CONTEXT: undefined, ...env }
  const child = spawn(command, [...nodeArgs, 'master.js', ...args], { cwd: dir, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  const running = { child, dir, log: new Lines(), said: new Lines(), errors: new Lines() }
  const [exited, closed] = [once(child, 'exit'), once(child, 'close')]
  const pids = new Set()
  readline.createInterface({ input: child.stdout }).on('line', (text) => {
    const line = parse(text)
    if (line.workerPid ?? line.pid) pids.add(line.workerPid ?? line.pid)
    if (line.msg) running.log.add(line)
    else running.said.add(line)
  })
  readline.createInterface({ input: child.stderr }).on('line', (text) => running.errors.add(text))
  after(t, async () => {
    for (const pid of [child.pid, ...pids]) kill(pid)
    await closed
  })
  /** The next log line with this message. */
  running.logs = (msg) => running.log.next((line) => line.msg === msg, `log message ${msg}`)
  /** The next thing that the master or a worker says of this kind. */
  running.hears = (event) => running.said.next((line) => line.event === event, `${event} on standard output`)
  running.complains = (pattern) => running.errors.next((line) => pattern.test(line), `${pattern} on standard error`)
  running.count = (msg) => running.log.all.filter((line) => line.msg === msg).length
  running.signal = (signal) => child.kill(signal)
  /** How the process ended: its exit code, or the name of a signal. */
  running.exits = async () => {
    const [code, signal] = await bounded(exited, 'its exit')
    // Workers that it leaves behind hold on to its output.
    if (!signal) await bounded(closed, 'the end of its output')
    return code ?? signal
  }
  /** A command of the native program for this master. */
  running.command = (...words) => spawnSync(PROGRAM, words, { env: { ...process.env, XDG_RUNTIME_DIR: dir }, encoding: 'utf8', timeout: HANG_MS })
  return running
}

/** Whether a process exists and is no zombie. */
function isAlive(pid) {
  try {
    return !require('node:fs').readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}

/** Waits for what nobody tells: whether \`condition\` holds. */
async function eventually(what, condition) {
  const until = Date.now() + HANG_MS
  while (!(await condition())) {
    if (Date.now() > until) throw new Error(`never: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** The answer to a GET on a connection of its own: `{ status, body }`, the body parsed where it is JSON. */
function get(port, path = '/') {
  const answer = new Promise((resolve, reject) => {
    const request = http.get({ host: '127.0.0.1', port, path, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text) => (body += text))
      response.on('end', () => resolve({ status: response.statusCode, body: parse(body).text ?? parse(body) }))
      response.on('error', reject)
    })
    request.on('error', reject)
  })
  return bounded(answer, `an answer to ${path}`)
}

module.exports = { APP, PACKAGE, PROGRAM, bounded, eventually, folder, get, isAlive, kill, run }
