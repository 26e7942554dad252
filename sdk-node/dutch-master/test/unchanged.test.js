'use strict'
// A master.js and an Express app as users of the original have them run as they are.

const assert = require('node:assert/strict')
const { renameSync, symlinkSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')
const { test } = require('node:test')
const { eventually, folder, get, run } = require('./harness.js')

/** master.js beside two releases, of which \`current\` is the first. */
function shop(t, { workers = 2, ...options } = {}) {
  const dir = folder(t, { 'master.js': '@master.js', 'releases/1/app.js': '@app.js', 'releases/2/app.js': '@app.js', workers: `${workers}\n` })
  symlinkSync('releases/1', join(dir, 'current'))
  return run(t, undefined, { ...options, dir })
}

function deploy({ dir }, release) {
  symlinkSync(`releases/${release}`, join(dir, 'next'))
  renameSync(join(dir, 'next'), join(dir, 'current'))
}

/** A worker that has finished gets SIGTERM at once, unless it has ended by itself before that. */
function assertEndedWell({ code, signal }) {
  assert.ok(signal === 'SIGTERM' || code === 0, `code ${code}, signal ${signal}`)
}

test('a restart follows the link that beforeFork goes to, and asks for the number of workers again', async (t) => {
  const master = shop(t)
  assert.equal((await master.logs('Cluster ready')).workers, 2)
  const { port } = await master.hears('up')
  const before = await get(port)
  assert.deepEqual(before.body, { id: before.body.id, isWorker: true, cwd: join(master.dir, 'releases/1'), colour: 'blue', attempts: '3' })
  deploy(master, 2)
  writeFileSync(join(master.dir, 'workers'), '3\n')
  master.signal('SIGUSR2')
  assert.equal((await master.logs('Restart requested')).signal, 'SIGUSR2')
  await master.logs('Restart complete')
  for (let old = 1; old <= 2; old++) await master.logs('Worker disconnected')
  assert.equal((await get(port)).body.cwd, join(master.dir, 'releases/2'))
  assert.equal(master.count('Worker listening'), 5)
  master.signal('SIGTERM')
  assert.equal((await master.logs('Shutdown requested')).signal, 'SIGTERM')
  await master.logs('Cluster shutdown cleanly')
  assert.equal(await master.exits(), 0)
})

test('the log has the wording of the original, and a child logger for what concerns one worker', async (t) => {
  const master = shop(t)
  const { name, level, numWorkers, pid } = await master.logs('Starting cluster')
  assert.deepEqual({ name, level, numWorkers, pid }, { name: 'shop-master', level: 30, numWorkers: 2, pid: master.child.pid })
  await master.logs('Cluster ready')
  master.signal('SIGUSR2')
  await master.logs('Restart complete')
  master.signal('SIGINT')
  await master.exits()
  const texts = [
    'Starting cluster', 'Creating new worker', 'Worker listening', 'Cluster ready', 'Restart requested', 'Restarting worker', 'Replacement worker available - disconnecting', 'Restart complete',
    'Worker disconnected', 'Worker exited', 'Shutdown requested', 'Cluster shutdown cleanly',
  ]
  for (const text of texts) assert.ok(master.count(text) > 0, text)
  for (const line of master.log.all.filter((line) => /^(Worker (listening|disconnected|exited)|Restarting worker|Replacement)/.test(line.msg))) {
    assert.ok(line.workerId >= 1 && line.workerPid > 1, JSON.stringify(line))
  }
  const exits = master.log.all.filter((line) => line.msg === 'Worker exited')
  assert.equal(exits.length, 4)
  for (const exit of exits) assertEndedWell(exit)
  assert.deepEqual(master.log.all.filter((line) => line.level > 30), [])
})

test('an error that a domain catches is answered, and the worker replaced while its slow request goes on', async (t) => {
  const master = shop(t, { workers: 1 })
  await master.logs('Cluster ready')
  const { port } = await master.hears('up')
  const slow = get(port, '/slow?ms=1500')
  const { id } = await master.hears('slow request')
  assert.deepEqual(await get(port, '/broken'), { status: 500, body: 'sorry' })
  assert.equal((await master.logs('Worker dying')).workerId, id)
  assert.equal((await master.log.next((line) => line.msg === 'Replacement worker available - disconnecting' && line.workerId === id, 'the order to go')).reason, 'request')
  // It accepts until the order has reached it.
  await eventually('the new worker answers', async () => (await get(port)).body.id !== id)
  assert.equal((await slow).body.id, id)
  assertEndedWell(await master.log.next((line) => line.msg === 'Worker exited' && line.workerId === id, 'its end'))
})

test('another restart signal takes the place of SIGUSR2', async (t) => {
  const master = shop(t, { env: { RESTART_SIGNAL: 'SIGHUP' } })
  await master.logs('Cluster ready')
  master.signal('SIGHUP')
  assert.equal((await master.logs('Restart requested')).signal, 'SIGHUP')
  await master.logs('Restart complete')
  master.signal('SIGUSR2')
  assert.equal(await master.exits(), 'SIGUSR2', 'nobody handles it any more')
})

test('arguments of the master and options of its node are the workers\' too', async (t) => {
  const master = run(t, "dutchMaster({ worker: 'app.js', numWorkers: '1', logger: log })", { args: ['--colour', 'red'], nodeArgs: ['--stack-size=900'] })
  const { argv, execArgv } = await master.hears('up')
  assert.deepEqual(argv, ['--colour', 'red'])
  assert.equal(execArgv[0], '--stack-size=900')
  assert.equal((await master.logs('Cluster ready')).workers, 1, 'a numeric string is a number')
})

test('an empty environment is enough, and so is a name that was left behind by a killed master', async (t) => {
  const source = "dutchMaster.start({ worker: 'app', numWorkers: 1, name: 'bare-test', orphanTimeout: 0, logger: log })"
  const first = run(t, source, { bareEnv: {} })
  await first.logs('Cluster ready')
  first.signal('SIGKILL')
  assert.equal(await first.exits(), 'SIGKILL')
  const second = run(t, undefined, { bareEnv: {}, dir: first.dir })
  await second.logs('Cluster ready')
  second.signal('SIGTERM')
  assert.equal(await second.exits(), 0)
})
