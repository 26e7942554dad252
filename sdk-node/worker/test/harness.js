'use strict'
// Real masters, workers and connections for the tests: everything is waited for by its event, and ends with the test.

const { execFile, spawn } = require('node:child_process')
const { once, EventEmitter } = require('node:events')
const { chownSync, mkdtempSync, rmSync } = require('node:fs')
const net = require('node:net')
const { tmpdir } = require('node:os')
const { join, resolve } = require('node:path')
const readline = require('node:readline')
const { promisify } = require('node:util')
const { bounded, kill, parse } = require('../../test-support.js')

const MASTER = process.env.DUTCH_MASTER ?? join(__dirname, '../../../target/debug/dutch-master')
const SDK = join(__dirname, '..')

/** Lines that were seen, and those that will be. */
class Lines extends EventEmitter {
  #seen = []

  add(line) {
    this.#seen.push(line)
    this.emit('line', line)
  }

  get all() {
    return [...this.#seen]
  }

  /** The first line, past or future, that `matches`. */
  async find(matches, what = matches) {
    const found = this.#seen.find(matches)
    if (found) return found
    let look
    const seen = new Promise((resolve) => {
      look = (line) => matches(line) && resolve(line)
      this.on('line', look)
    })
    return bounded(seen, what)
      .catch((error) => Promise.reject(new Error(`${error.message}\nseen: ${JSON.stringify(this.#seen, null, 1)}`)))
      .finally(() => this.off('line', look))
  }
}

/** A port that was free a moment ago. */
async function freePort(host = '127.0.0.1') {
  const server = net.createServer().listen(0, host)
  await once(server, 'listening')
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

/**
 * Starts `dutch-master start [options] app`, and a process for `node app` where `master` is false; as another user where `uid` says so.
 * What apps print as JSON is in `said`, the log of the master in `log`, all else that is on stderr in `errors`.
 */
function start(t, app, { master = true, options = [], workers = 1, env = {}, nodeArgs = [], sdk = SDK, uid } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'dm-'))
  if (uid) chownSync(dir, uid, uid)
  const script = resolve(__dirname, 'apps', app)
  const common = ['-n', String(workers), '--log-format', 'json', '--log-level', 'debug', ...(sdk ? ['--node-sdk', sdk] : []), '--settle-time', '1ms']
  const [command, args] = master ? [MASTER, ['start', ...common, ...options, script]] : [process.execPath, [...nodeArgs, script]]
  const running = { dir, said: new Lines(), log: new Lines(), errors: new Lines() }
  const [pids, ends] = [new Set(), []]
  /** The same command again, after the master was killed. */
  running.startAgain = () => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: dir, uid, gid: uid, env: { ...process.env, ...env, XDG_RUNTIME_DIR: dir, NODE_TEST_CONTEXT: undefined } })
    running.child = child
    pids.add(child.pid)
    ends.push(once(child, 'close'))
    readline.createInterface({ input: child.stdout }).on('line', (line) => running.said.add(parse(line)))
    readline.createInterface({ input: child.stderr }).on('line', (line) => {
      const entry = parse(line)
      if (entry.workerPid) pids.add(entry.workerPid)
      if (entry.msg) running.log.add(entry)
      else running.errors.add(line)
    })
  }
  running.startAgain()
  t.after(async () => {
    for (const pid of pids) kill(pid)
    await Promise.all(ends)
    rmSync(dir, { recursive: true, force: true })
  })
  /** The first thing that the app says of this kind. */
  running.hears = (event) => running.said.find((line) => line.event === event, `${event} of the app`)
  /** The first log line with this message. */
  running.logs = (msg) => running.log.find((line) => line.msg === msg, `log message ${msg}`)
  running.complains = (pattern) => running.errors.find((line) => pattern.test(line), `stderr ${pattern}`)
  /** The exit code of the process that was started, once it and its output have ended. */
  running.exits = async () => (await bounded(ends.at(-1), 'its exit'))[0]
  /** A rolling restart: with one worker, it is told to go once its replacement runs. */
  running.restart = () => running.child.kill('SIGUSR2')
  running.stop = () => running.child.kill('SIGTERM')
  /** What `dutch-master status --json` says. */
  running.status = async () => JSON.parse((await promisify(execFile)(MASTER, ['status', '--json'], { env: { ...process.env, XDG_RUNTIME_DIR: dir } })).stdout)
  return running
}

/** One TCP connection, byte by byte: what a careful client sees of a server. */
class Client {
  #received = ''
  #ended
  #socket

  static async connect(t, port, options) {
    const socket = net.connect({ port, host: '127.0.0.1', ...options })
    t.after(() => socket.destroy())
    await once(socket, 'connect')
    return new Client(socket)
  }

  constructor(socket) {
    this.#socket = socket
    socket.setEncoding('latin1').on('data', (text) => {
      this.#received += text
      socket.emit('more')
    })
    this.#ended = new Promise((resolve) => {
      socket.once('end', () => resolve('end'))
      socket.once('error', (error) => resolve(error.code))
      socket.once('close', () => resolve('close'))
    })
  }

  /** How the connection ends: `end` where the server half-closes, else the code of an error. */
  get ended() {
    return bounded(this.#ended, 'the end of a connection')
  }

  send(text) {
    this.#socket.write(text)
    return this
  }

  /** Whether everything could be sent: undefined, or the error that came instead. */
  sent() {
    return new Promise((resolve) => this.#socket.write('', (error) => resolve(error?.code)))
  }

  /** The next response, which says its length or is chunked. */
  async response() {
    for (;;) {
      const response = parseResponse(this.#received)
      if (response) {
        this.#received = this.#received.slice(response.size)
        return { status: response.status, connection: response.connection, body: response.body }
      }
      await this.#more()
    }
  }

  async #more() {
    const more = once(this.#socket, 'more').then(() => undefined)
    const ended = await bounded(Promise.race([more, this.#ended]), 'more of a response')
    if (ended) throw new Error(`the connection ended (${ended}) too early; received ${JSON.stringify(this.#received)}`)
  }

  /** All that was received, once it is as long as `expected`. */
  async text(expected) {
    while (this.#received.length < expected.length) await this.#more()
    return this.#received
  }

  get socket() {
    return this.#socket
  }

  close() {
    this.#socket.destroy()
  }

  get(path) {
    return this.send(`GET ${path} HTTP/1.1\r\nHost: test\r\n\r\n`)
  }
}

/** The first response in `text`, if it is complete. */
function parseResponse(text) {
  const head = /^HTTP\/1\.1 (\d+)[^]*?\r\n\r\n/.exec(text)
  if (!head) return undefined
  const rest = text.slice(head[0].length)
  const found = { status: Number(head[1]), connection: /\r\nconnection: (.*)\r/i.exec(head[0])?.[1] }
  if (/\r\ntransfer-encoding: chunked/i.test(head[0])) {
    const chunks = /^(?:[1-9a-f][0-9a-f]*\r\n[^]*?\r\n)*?0\r\n\r\n/.exec(rest)
    return chunks && { ...found, body: chunks[0].replace(/(?:^|\r\n)[0-9a-f]+\r\n/g, '').trimEnd(), size: head[0].length + chunks[0].length }
  }
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(head[0])?.[1] ?? 0)
  if (rest.length < length) return undefined
  return { ...found, body: rest.slice(0, length), size: head[0].length + length }
}

module.exports = { start, freePort, bounded, Lines, Client, SDK }
