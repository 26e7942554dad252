'use strict'
// beforeFork, numWorkers and workerEnvironment: when they are asked, what their answers do, and what their failures do.

const assert = require('node:assert/strict')
const { mkdirSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')
const { test } = require('node:test')
const { APP, get, isAlive, run } = require('./harness.js')

const OPTIONS = "const fs = require('fs')\nconst options = { worker: 'app.js', numWorkers: 1, settleTime: 1, logger: log }\n"
const master = (t, options, more) => run(t, `${OPTIONS}dutchMaster({ ...options, ${options} })`, more)

test('each worker starts where beforeFork was when it returned', async (t) => {
  const files = { 'a/app.js': APP, 'b/app.js': APP }
  const running = run(t, `${OPTIONS}const here = process.cwd()\nconst places = ['a', 'b']\ndutchMaster({ ...options, numWorkers: 2, beforeFork: () => process.chdir(here + '/' + places.shift()) })`, { files })
  await running.logs('Cluster ready')
  const up = [await running.hears('up'), await running.hears('up')].sort((a, b) => a.id - b.id)
  assert.deepEqual(up.map(({ cwd }) => cwd), [join(running.dir, 'a'), join(running.dir, 'b')])
})

test('what beforeFork leaves in the environment is the next worker\'s', async (t) => {
  const running = run(t, `${OPTIONS}let n = 0\ndutchMaster({ ...options, numWorkers: 2, beforeFork: () => void (process.env.X = ++n) })`)
  await running.logs('Cluster ready')
  const up = [await running.hears('up'), await running.hears('up')].sort((a, b) => a.id - b.id)
  assert.deepEqual(up.map(({ x }) => x), ['1', '2'])
})

test('promises of callbacks are waited for, each before the next is asked', async (t) => {
  const running = master(
    t,
    "numWorkers: async () => 3, async beforeFork() { say('begin'); await new Promise((resolve) => setTimeout(resolve, 30)); say('end') }",
  )
  assert.equal((await running.logs('Cluster ready')).workers, 3)
  const order = running.said.all.filter(({ event }) => event !== 'up').map(({ event }) => event)
  assert.deepEqual(order, ['begin', 'end', 'begin', 'end', 'begin', 'end'])
})

test('a beforeFork that fails once is a failed start, and the next one succeeds', async (t) => {
  const running = run(t, `${OPTIONS}let n = 0\ndutchMaster({ ...options, beforeFork: () => { if (n++ === 0) throw new TypeError('boom') } })`)
  assert.equal((await running.logs('Worker could not be started')).reason, 'beforeFork failed: boom')
  await running.logs('Cluster ready')
})

test('a beforeFork that always rejects ends the first start like any other failure', async (t) => {
  const running = master(t, "restartAttempts: 2, beforeFork: () => Promise.reject('not today')")
  assert.match((await running.logs('Cluster could not be started')).reason, /^beforeFork failed: not today$/)
  assert.equal(await running.exits(), 1)
  assert.equal(running.count('Creating new worker'), 2)
})

test('a numWorkers that fails refuses the restart, and nothing changes', async (t) => {
  const running = run(
    t,
    `${OPTIONS}let n = 0
    const master = dutchMaster({ ...options, numWorkers: async () => { if (n++ === 1) throw new Error('nobody knows'); return n } })
    master.on('ready', () => master.restart().catch(({ outcome, reason }) => { say('refused', { outcome, reason }); master.restart() }))`,
  )
  const { outcome, reason } = await running.hears('refused')
  assert.deepEqual({ outcome, reason }, { outcome: 'refused', reason: 'numWorkers failed: nobody knows' })
  assert.equal((await running.logs('Restart refused, nothing changes')).reason, reason)
  await running.logs('Restart complete')
  assert.equal(running.count('Worker listening'), 1 + 3)
})

test('a numWorkers that gives no number of workers ends the start with a line that says so', async (t) => {
  const running = master(t, 'numWorkers: () => 0')
  assert.match((await running.logs('Cluster could not be started')).reason, /^numWorkers failed: a whole number from 1/)
  assert.equal(await running.exits(), 1)
})

test('a stop while numWorkers is not known yet ends at once', async (t) => {
  const running = master(t, "numWorkers() { say('asked'); return new Promise(() => {}) }")
  await running.hears('asked')
  running.signal('SIGTERM')
  await running.logs('Cluster shutdown cleanly')
  assert.equal(await running.exits(), 0)
  assert.equal(running.count('Creating new worker'), 0)
})

test('the environment is evaluated at each restart', async (t) => {
  const running = run(t, `${OPTIONS}const workerEnvironment = { X: 1 }\ndutchMaster({ ...options, workerEnvironment }).on('ready', () => { workerEnvironment.X = true })`)
  await running.logs('Cluster ready')
  assert.equal((await running.hears('up')).x, '1')
  running.signal('SIGUSR2')
  await running.logs('Restart complete')
  assert.equal((await running.hears('up')).x, 'true')
})

test('after a restart that was given up, crashed workers come back where and as the old ones were', async (t) => {
  const source = `${OPTIONS}const here = process.cwd()
    dutchMaster({ ...options, beforeFork() { process.chdir(here + '/' + fs.readFileSync(here + '/release', 'utf8')); process.env.X = process.cwd() } })`
  const running = run(t, source, { files: { release: 'good', 'good/app.js': APP, 'bad/app.js': 'process.exit(3)' } })
  await running.logs('Cluster ready')
  const { pid, port } = await running.hears('up')
  writeFileSync(join(running.dir, 'release'), 'bad')
  running.signal('SIGUSR2')
  await running.logs('Restart given up, the old workers stay')
  process.kill(pid, 'SIGKILL')
  await running.log.next((line) => line.msg === 'Worker listening' && line.workerPid !== pid, 'a replacement')
  const { cwd, x } = (await get(port)).body
  assert.deepEqual({ cwd, x }, { cwd: join(running.dir, 'good'), x: join(running.dir, 'good') })
})

test('a program whose callbacks never return keeps its workers', async (t) => {
  const running = master(t, "beforeFork() { if (fs.existsSync('hang')) for (;;); }")
  await running.logs('Cluster ready')
  const { pid, port } = await running.hears('up')
  mkdirSync(join(running.dir, 'hang'))
  running.signal('SIGUSR2')
  await running.logs('Restart requested')
  assert.equal((await get(port)).body.pid, pid)
  assert.equal(JSON.parse(running.command('status', '--json').stdout).phase, 'restarting', 'the master itself goes on')
  assert.ok(isAlive(pid))
})
