'use strict'
// A master with its workers as a child process: its log is waited for line by line, and everything it started is gone when the test ends.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { existsSync, mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const net = require('node:net')
const { tmpdir } = require('node:os')
const { delimiter, dirname, join } = require('node:path')
const readline = require('node:readline')
const { Lines, bounded, kill, parse } = require('../test-support.js')

const SDK_NODE = join(__dirname, '..')
/** Where cargo puts what it builds. */
const DEBUG = join(SDK_NODE, '../target/debug')
const MASTER = process.env.DUTCH_MASTER ?? join(DEBUG, 'dutch-master')

/** What every master here is told, beside its worker. */
const OPTIONS = ['--log-format', 'json', '--log-level', 'debug', '--node-sdk', join(SDK_NODE, 'worker')]

/** `dutch-master start` with these options and this worker, which may have arguments. */
const native = (worker, options) => [MASTER, 'start', ...OPTIONS, ...options, ...[worker].flat()]

/** Starts `command` in a folder of its own, with the variables that `env` makes for it; workers find a free port in `PORT`, and the name of a file in `RELEASE` that they hold slow responses for. */
async function launch(t, command, env = () => ({})) {
  const dir = mkdtempSync(join(tmpdir(), 'dm-'))
  const [port, release] = [await freePort(), join(dir, 'release')]
  const environment = { ...process.env, PORT: String(port), RELEASE: release, XDG_RUNTIME_DIR: dir, NODE_TEST_CONTEXT: undefined, ...env(dir) }
  // The native master takes `node` from PATH: it has to be the one that runs this.
  environment.PATH = dirname(process.execPath) + delimiter + process.env.PATH
  const child = spawn(command[0], command.slice(1), { cwd: dir, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  const system = { child, dir, port, log: new Lines(), other: new Lines() }
  const closed = once(child, 'close')
  const pids = new Set()
  for (const stream of [child.stdout, child.stderr]) {
    readline.createInterface({ input: stream }).on('line', (text) => {
      const line = parse(text)
      if (line.workerPid) pids.add(line.workerPid)
      ;(line.msg ? system.log : system.other).add(line)
    })
  }
  t.after(async () => {
    for (const pid of [child.pid, ...pids]) kill(pid)
    await closed
    rmSync(dir, { recursive: true, force: true })
  })
  const ended = closed.then(async () => {
    await new Promise(setImmediate) // Lines that are there are found first.
    throw new Error(`it has ended; beside the log: ${system.other.all.slice(-20).map((line) => line.text ?? JSON.stringify(line)).join('\n')}`)
  })
  ended.catch(() => {})
  /** The next log line with this message that nobody has asked for. */
  system.logs = (msg, matches = () => true) => Promise.race([system.log.next((line) => line.msg === msg && matches(line), `log message ${msg}`), ended])
  system.count = (msg) => system.log.all.filter((line) => line.msg === msg).length
  /** The ids of the workers that serve, as far as the log tells. */
  system.running = () => {
    const ids = (msg) => system.log.all.filter((line) => line.msg === msg).map((line) => line.workerId)
    const gone = new Set([...ids('Replacement worker available - disconnecting'), ...ids('Worker exited')])
    return new Set(ids('Worker listening').filter((id) => !gone.has(id)))
  }
  system.restart = () => child.kill('SIGUSR2')
  /** Lets slow responses go on, or holds those that come. */
  system.release = () => writeFileSync(release, '')
  system.hold = () => existsSync(release) && rmSync(release)
  system.exits = async () => (await bounded(closed, 'its exit'))[0]
  /** Stops it; it must end well. */
  system.stop = async () => {
    child.kill('SIGTERM')
    await system.logs('Cluster shutdown cleanly')
    return system.exits()
  }
  return system
}

/** A port that was free a moment ago. */
async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

module.exports = { DEBUG, launch, native }
