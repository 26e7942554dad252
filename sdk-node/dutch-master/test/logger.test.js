'use strict'
// Where the log goes: to bunyan (see unchanged.test.js), pino, any logger of their shape, or to standard error.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { run } = require('./harness.js')

const master = (t, logger, more = '') => run(t, `dutchMaster({ worker: 'app.js', numWorkers: 1, settleTime: 1, ${logger} })${more}`)

test('pino gets the same lines, with child loggers', async (t) => {
  const running = master(t, "logger: require('pino')({ level: 'debug' })")
  assert.equal((await running.logs('Starting cluster')).numWorkers, 1)
  assert.equal((await running.logs('Worker spawned')).level, 20, 'a logger that shows debug lines gets them')
  const { workerId, workerPid, level } = await running.logs('Worker listening')
  assert.deepEqual([workerId, workerPid, level], [1, (await running.hears('up')).pid, 30])
  running.signal('SIGTERM')
  await running.logs('Cluster shutdown cleanly')
  assert.equal(await running.exits(), 0)
})

test('without a logger there are lines for people on standard error, and nothing of ours on standard output', async (t) => {
  const running = master(t, "logLevel: 'debug'")
  await running.complains(/^\d{4}-\d\d-\d\dT[\d:.]+Z  INFO Starting cluster numWorkers=1$/)
  await running.complains(/^\S+ DEBUG Worker spawned .*workerId=1/)
  await running.complains(/^\S+  INFO Worker listening .*workerPid=\d+/)
  running.signal('SIGTERM')
  assert.equal(await running.exits(), 0)
  assert.deepEqual(running.said.all.map(({ event }) => event), ['up'])
})

test('a logger without children or levels is enough', async (t) => {
  const running = master(t, "logger: { info: (fields, msg) => console.log(JSON.stringify({ msg, ...fields })) }")
  assert.equal((await running.logs('Worker listening')).workerId, 1)
})

test('a logger that throws ends nothing', async (t) => {
  const running = master(t, "logger: { info() { throw new Error('disk full') } }", ".on('ready', () => say('ready'))")
  await running.complains(/ERROR The logger failed reason="disk full" lost="Starting cluster"/)
  await running.hears('ready')
  running.signal('SIGTERM')
  assert.equal(await running.exits(), 0)
})

test('a log that nobody reads ends nothing', async (t) => {
  const running = master(t, "logLevel: 'info'")
  await running.hears('up')
  running.child.stderr.destroy()
  running.signal('SIGUSR2')
  await running.hears('up')
  running.signal('SIGTERM')
  assert.equal(await running.exits(), 0)
})
