'use strict'
// What was wrong with the original must not come back: a test for each of its known faults.

const assert = require('node:assert/strict')
const { unlinkSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')
const { test } = require('node:test')
const { APP, get, kill, run } = require('./harness.js')

/** A master of the app with these options after the usual ones. */
const master = (t, options, more) => run(t, `const options = { worker: 'app.js', numWorkers: 1, settleTime: 1, logger: log }\ndutchMaster({ ...options, ${options} })`, more)

test('fault: after any restart a stop took 10 s and exited 1', async (t) => {
  const running = master(t, 'numWorkers: 2')
  await running.logs('Cluster ready')
  running.signal('SIGUSR2')
  await running.logs('Restart complete')
  running.signal('SIGTERM')
  assert.equal(await running.exits(), 0)
  const at = (msg) => Date.parse(running.log.all.find((line) => line.msg === msg).time)
  // No worker has anything to finish. Generous: the fault took all of its 10 s.
  assert.ok(at('Cluster shutdown cleanly') - at('Shutdown requested') < 9_000)
})

test('fault: the kill timeout was 5 s, not the documented 30', async (t) => {
  const app = APP + "require('dutch-master-worker').on('disconnect', ({ deadline }) => console.log(JSON.stringify({ event: 'order', left: deadline - Date.now() })))\n"
  const running = master(t, '', { files: { 'app.js': app } })
  await running.logs('Cluster ready')
  running.signal('SIGTERM')
  // Workers are told a tenth less, so that SIGTERM has time to work before SIGKILL.
  const { left } = await running.hears('order')
  assert.ok(left > 20_000 && left <= 27_000, `${left} ms`)
  assert.equal(await running.exits(), 0)
})

test('fault: its hard kill was only another SIGTERM', async (t) => {
  const app = "process.on('SIGTERM', () => console.log(JSON.stringify({ event: 'ignores SIGTERM' })))\nsetInterval(() => {}, 1e6)\n" + APP
  const running = master(t, 'killTimeout: 400', { files: { 'app.js': app } })
  await running.logs('Cluster ready')
  running.signal('SIGTERM')
  await running.hears('ignores SIGTERM')
  assert.equal((await running.logs('Worker exited')).signal, 'SIGKILL')
  assert.equal(await running.exits(), 1, 'a worker had to be killed')
})

test('fault: a replacement that never listened blocked every later restart', async (t) => {
  const running = master(t, "startTimeout: '60s'")
  await running.logs('Cluster ready')
  const { port } = await running.hears('up')
  writeFileSync(join(running.dir, 'app.js'), 'console.log(JSON.stringify({ event: "stuck" })); setInterval(() => {}, 1e6)')
  running.signal('SIGUSR2')
  await running.hears('stuck')
  writeFileSync(join(running.dir, 'app.js'), APP)
  running.signal('SIGUSR2')
  assert.equal((await running.logs('Restart superseded')).generation, 2)
  assert.equal((await running.logs('Restart complete')).generation, 3)
  await running.log.next((line) => line.msg === 'Worker disconnected' && line.workerId === 1, 'the end of the old one')
  assert.ok((await get(port)).body.id > 2)
})

test('fault: a restart signal while starting restarted nothing', async (t) => {
  const running = master(t, 'numWorkers: 2')
  await running.logs('Starting cluster')
  running.signal('SIGUSR2')
  const { generation } = await running.logs('Restart complete')
  assert.equal(generation, 2)
  running.signal('SIGTERM')
  await running.exits()
  assert.equal(running.log.all.filter((line) => line.msg === 'Worker listening' && line.generation === 2).length, 2)
})

test('fault: a stop while starting started new workers', async (t) => {
  const running = master(t, 'numWorkers: 2', { files: { 'app.js': 'setTimeout(() => {}, 1e6)' } })
  await running.logs('Creating new worker')
  await running.logs('Creating new worker')
  running.signal('SIGTERM')
  assert.equal(await running.exits(), 0)
  assert.equal(running.count('Creating new worker'), 2)
})

test('fault: crash loops without backoff', async (t) => {
  const running = master(t, 'numWorkers: 2, keepTrying: true', { files: { 'app.js': 'process.exit(7)' } })
  const delays = []
  while (delays.length < 3) delays.push((await running.logs('Waiting before the next start')).delayMs)
  assert.ok(delays.every((delay) => delay >= 500), `${delays} ms`)
  // Two at once, two more without delay, then one at a time after each wait.
  assert.ok(running.count('Creating new worker') <= 4 + delays.length, `${running.count('Creating new worker')} forks`)
  assert.equal((await running.logs('Worker exited')).code, 7)
})

test('fault: a worker killed under load was never replaced', async (t) => {
  const running = master(t, '')
  await running.logs('Cluster ready')
  const { pid, port } = await running.hears('up')
  let done = false
  const answers = []
  const load = Array.from({ length: 20 }, async () => {
    while (!done) answers.push(await get(port).catch((error) => error.code))
  })
  kill(pid, 'SIGKILL')
  const { workerId } = await running.log.next((line) => line.msg === 'Worker listening' && line.workerId > 1, 'a replacement')
  assert.equal((await get(port)).body.id, workerId)
  done = true
  await Promise.all(load)
  assert.ok(!answers.includes('ECONNREFUSED'))
})

test('fault: an exception in beforeFork ended the master', async (t) => {
  const running = master(t, "beforeFork() { if (require('fs').existsSync('broken')) throw new Error('no such release') }")
  await running.logs('Cluster ready')
  const { port } = await running.hears('up')
  writeFileSync(join(running.dir, 'broken'), '')
  running.signal('SIGUSR2')
  assert.equal((await running.logs('Worker could not be started')).reason, 'beforeFork failed: no such release')
  assert.match((await running.logs('Restart given up, the old workers stay')).reason, /no such release/)
  assert.equal((await get(port)).body.id, 1)
  unlinkSync(join(running.dir, 'broken'))
  running.signal('SIGUSR2')
  await running.logs('Restart complete')
})

test('fault: a spawn failure ended the master', async (t) => {
  const running = master(t, "workerEnvironment: { get X() { return require('fs').existsSync('broken') ? 'a\\0b' : 'ab' } }")
  await running.logs('Cluster ready')
  writeFileSync(join(running.dir, 'broken'), '')
  running.signal('SIGUSR2')
  assert.match((await running.logs('Worker could not be started')).reason, /nul byte/)
  await running.logs('Restart given up, the old workers stay')
  unlinkSync(join(running.dir, 'broken'))
  running.signal('SIGUSR2')
  await running.logs('Restart complete')
})

test('fault: one odd message from a worker ended the master', async (t) => {
  const odd = "for (const message of [null, 0, '', [], { event: null }, { event: 'constructor' }, { cmd: 'x' }]) process.send(message)\n"
  const running = master(t, '', { files: { 'app.js': odd + APP } })
  await running.logs('Cluster ready')
  for (let i = 0; i < 7; i++) await running.logs('Message from worker')
  running.signal('SIGTERM')
  assert.equal(await running.exits(), 0)
})
