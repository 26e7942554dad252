'use strict'
// What `start` returns: promises, status and events; and what the ends of the process mean to its workers.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { APP, eventually, folder, get, isAlive, run } = require('./harness.js')
const { execFileSync } = require('node:child_process')

const OPTIONS = "const options = { worker: 'app.js', numWorkers: 1, settleTime: 1, logger: log }\n"

test('restart, scale and stop are promises of their outcome', async (t) => {
  const running = run(
    t,
    `${OPTIONS}const master = dutchMaster(options)
    master.once('ready', async () => {
      say('restarted', await master.restart())
      say('scaled', await master.scale(3))
      say('scaled', await master.scale('-2'))
      say('stopped', { code: await master.stop(), status: master.status() })
      await master.restart().catch(({ name, outcome }) => say('too late', { name, outcome }))
    })`,
  )
  assert.equal((await running.hears('restarted')).generation, 2)
  assert.equal((await running.hears('scaled')).size, 3)
  assert.equal((await running.hears('scaled')).size, 1)
  const { code, status } = await running.hears('stopped')
  assert.deepEqual([code, status.phase, status.workers], [0, 'stopped', []])
  const { name, outcome } = await running.hears('too late')
  assert.deepEqual({ name, outcome }, { name: 'RestartError', outcome: 'stopped' })
  assert.equal(await running.exits(), 0, 'nothing keeps the process')
})

test('a restart that fails rejects with its outcome, and whoever does not look is not ended by it', async (t) => {
  const running = run(
    t,
    `${OPTIONS}let broken = false
    const master = dutchMaster({ ...options, restartAttempts: 1, beforeFork() { if (broken) throw new Error('no') } })
    master.once('ready', async () => {
      broken = true
      const first = master.restart()
      await new Promise((resolve) => master.once('givenUp', resolve))
      await first.catch(({ outcome, reason }) => say('given up', { outcome, reason }))
      master.restart()
      master.once('givenUp', () => setTimeout(() => say('alive'), 50))
    })`,
  )
  const { outcome, reason } = await running.hears('given up')
  assert.equal(outcome, 'given-up')
  assert.match(reason, /beforeFork failed: no/)
  await running.hears('alive')
})

test('a program may stop its master and go on', async (t) => {
  const running = run(t, `${OPTIONS}const master = dutchMaster(options)\nmaster.on('ready', () => master.stop())\nmaster.on('exit', (code) => setTimeout(() => { say('after', { code }); process.exitCode = 5 }, 50))`)
  assert.equal((await running.hears('after')).code, 0)
  assert.equal(await running.exits(), 5)
})

test('status tells of the pool, its workers and listeners', async (t) => {
  const running = run(t, `${OPTIONS}const master = dutchMaster({ ...options, name: 'shop' })\nsay('status', { early: master.status() })\nmaster.once('ready', () => say('status', { status: master.status(), name: master.name, socket: master.socket }))`)
  const { early } = await running.hears('status')
  assert.deepEqual([early.phase, early.running], ['starting', 0])
  const { status, name, socket } = await running.hears('status')
  assert.equal(name, 'shop')
  assert.match(socket, /\/dutch-master\/shop\.sock$/)
  assert.equal(status.pid, running.child.pid)
  assert.deepEqual([status.phase, status.size, status.running, status.generation], ['serving', 1, 1, 1])
  const [worker] = status.workers
  assert.deepEqual([worker.id, worker.state, typeof worker.pid, typeof worker.ageMs], [1, 'running', 'number', 'number'])
  assert.equal(status.listeners[0].address.kind, 'tcp')
})

test('the commands of the native program find it', async (t) => {
  const running = run(t, `${OPTIONS}dutchMaster({ ...options, name: 'shop' })`)
  await running.logs('Cluster ready')
  assert.equal(JSON.parse(running.command('status', '--json').stdout).name, 'shop')
  assert.equal(running.command('restart').status, 0)
  assert.equal((await running.logs('Restart complete')).generation, 2)
  assert.equal(running.command('reload').status, 0, 'options are code: a reload is a restart')
  assert.equal((await running.logs('Restart complete')).generation, 3)
  assert.equal(running.command('stop').status, 0)
  assert.equal(await running.exits(), 0)
})

test('a master within Node is not upgraded, and the command says why', async (t) => {
  const running = run(t, `${OPTIONS}dutchMaster(options)`)
  await running.logs('Cluster ready')
  const refused = running.command('upgrade')
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /nothing changes: this master is part of another program/)
  assert.equal(running.command('stop').status, 0)
  assert.equal(await running.exits(), 0)
})

test('signals: SIGTTIN and SIGTTOU change the size, SIGHUP restarts, a second SIGINT stops at once', async (t) => {
  const app = "process.on('SIGTERM', () => {})\n" + APP
  const running = run(t, `${OPTIONS}dutchMaster(options)`, { files: { 'app.js': app } })
  await running.logs('Cluster ready')
  running.signal('SIGTTIN')
  assert.equal((await running.logs('Pool scaled')).workers, 2)
  running.signal('SIGTTOU')
  assert.equal((await running.logs('Pool scaled')).workers, 1)
  running.signal('SIGHUP')
  assert.equal((await running.logs('Restart requested')).signal, 'SIGHUP')
  await running.logs('Restart complete')
  running.signal('SIGINT')
  await running.logs('Shutdown requested')
  running.signal('SIGINT')
  assert.equal(await running.exits(), 1, 'a worker that ignores SIGTERM is killed without waiting for its timeout')
})

for (const [how, source, code] of [
  ['process.exit', 'process.exit(4)', 4],
  ['an exception that nobody catches', "throw new Error('a bug of the program')", 1],
]) {
  test(`workers get SIGTERM when the process ends by ${how}`, async (t) => {
    const app = "process.on('SIGTERM', () => { console.log(JSON.stringify({ event: 'last words' })); process.exit() })\n" + APP
    const running = run(t, `${OPTIONS}const master = dutchMaster({ ...options, name: 'ending' })\nmaster.once('ready', () => { say('socket', { path: master.socket }); ${source} })`, { files: { 'app.js': app } })
    const { path } = await running.hears('socket')
    await running.hears('last words')
    assert.equal(await running.exits(), code)
    assert.ok(!require('node:fs').existsSync(path), 'nothing is left behind')
  })
}

test('a master that is killed leaves its workers serving', async (t) => {
  const running = run(t, `${OPTIONS}dutchMaster(options)`)
  await running.logs('Cluster ready')
  const { pid, port } = await running.hears('up')
  running.signal('SIGKILL')
  assert.equal(await running.exits(), 'SIGKILL')
  assert.equal((await get(port)).body.pid, pid)
  await eventually('the worker has noticed', () => running.errors.all.some((line) => line.includes('lost')))
  assert.equal((await get(port)).body.pid, pid)
  assert.ok(isAlive(pid))
})

test('a name that is taken ends the second master with a line that names the first', async (t) => {
  const first = run(t, `${OPTIONS}dutchMaster({ ...options, name: 'same' })`)
  await first.logs('Cluster ready')
  const second = run(t, undefined, { dir: first.dir })
  assert.match((await second.logs('Cluster could not be started')).reason, new RegExp(`${first.child.pid}`))
  assert.equal(await second.exits(), 1)
})

test('what is wrong with the call is thrown before anything is started', (t) => {
  const dir = folder(t, { 'app.js': APP })
  const call = (options, before = '') => {
    const source = `${before}; try { require('dutch-master')(${options}) } catch (error) { console.log(error.name + ': ' + error.message) }`
    return execFileSync(process.execPath, ['-e', source], { cwd: dir, encoding: 'utf8' }).trim()
  }
  assert.equal(call("{ worker: 'app.js', numworker: 3 }"), 'TypeError: dutch-master: there is no option `numworker`; did you mean `numWorkers`?')
  assert.match(call('{}'), /^TypeError: dutch-master: the option `worker` is missing/)
  assert.match(call("{ worker: 'app.js', restartSignal: 'SIGKILL' }"), /option `restartSignal`: one of SIGHUP, .* is wanted/)
})
