'use strict'
// Under systemd with `Type=notify`, whose side is played here: the master in a Node process says how it goes, and the workers see nothing of it.

const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const readline = require('node:readline')
const { test } = require('node:test')
const { Lines } = require('../../test-support.js')
const { APP, folder, kill, run } = require('./harness.js')

/** Node has no datagrams of Unix: what arrives is written line by line, after a line that says that it listens. */
const MANAGER = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("listening", flush=True)
while True: print(s.recv(65536).decode(), flush=True)`

const skip = spawnSync('python3', ['--version']).status !== 0 && 'python3 plays systemd'

/** A folder with an app, and a service manager beside it. */
async function manager(t) {
  const dir = folder(t, { 'app.js': APP, 'master.js': `require('dutch-master')({ worker: 'app.js', settleTime: 0, logger: require('bunyan').createLogger({ name: 'master' }) })` })
  const socket = join(dir, 'notify')
  const child = spawn('python3', ['-c', MANAGER, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => kill(child.pid))
  const said = new Lines()
  readline.createInterface({ input: child.stdout }).on('line', (line) => said.add({ text: line }))
  const says = (text) => said.next((line) => line.text.startsWith(text), text)
  await says('listening')
  return { dir, socket, said, says }
}

test('systemd hears when the workers serve, of a reload, and of the stop; workers know nothing of systemd', { skip }, async (t) => {
  const { dir, socket, said, says } = await manager(t)
  const running = run(t, undefined, { dir, env: { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '60000000', LISTEN_FDS: '0' } })
  const { pid } = await running.hears('up')
  await says('READY=1')
  await says('STATUS=2 of 2 workers serve, generation 1')
  assert.doesNotMatch(readFileSync(`/proc/${pid}/environ`, 'utf8'), /NOTIFY_SOCKET|WATCHDOG_|LISTEN_/)
  running.signal('SIGHUP')
  await says('RELOADING=1')
  await says('MONOTONIC_USEC=')
  await says('READY=1')
  running.signal('SIGTERM')
  await says('STOPPING=1')
  assert.equal(await running.exits(), 0)
  // The next process could not take them back.
  assert.ok(!said.all.some((line) => line.text.startsWith('FDSTORE')), JSON.stringify(said.all))
})

test('the watchdog is told where it watches this process, and nobody else', { skip }, async (t) => {
  const watched = await manager(t)
  const running = run(t, undefined, { dir: watched.dir, env: { NOTIFY_SOCKET: watched.socket, WATCHDOG_USEC: '50000' } })
  for (let n = 0; n < 3; n++) await watched.says('WATCHDOG=1')
  running.signal('SIGTERM')
  assert.equal(await running.exits(), 0)

  const unwatched = await manager(t)
  const other = run(t, undefined, { dir: unwatched.dir, env: { NOTIFY_SOCKET: unwatched.socket, WATCHDOG_USEC: '1', WATCHDOG_PID: '1' } })
  await unwatched.says('READY=1')
  other.signal('SIGTERM')
  await unwatched.says('STOPPING=1')
  assert.equal(await other.exits(), 0)
  assert.ok(!unwatched.said.all.some((line) => line.text.startsWith('WATCHDOG')))
})
