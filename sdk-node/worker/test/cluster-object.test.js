'use strict'
// `cluster.worker` and `process` behave as those of a cluster worker, from the first line of the app to its last.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { start } = require('./harness.js')

const SERVE = `require('http').createServer((req, res) => res.end()).listen(0, () => say('listening'))`

async function worker(t, script) {
  const pool = start(t, 'script.js', { env: { SCRIPT: `const cluster = require('cluster')\n${script}\n${SERVE}` } })
  await pool.hears('listening')
  return pool
}

test('worker.process is process, and nothing has been said of going before the order', async (t) => {
  const pool = await worker(t, `
    const { worker } = cluster
    say('facts', { process: worker.process === process, exitedAfterDisconnect: worker.exitedAfterDisconnect === undefined, isMaster: cluster.isMaster, connected: worker.isConnected(), state: worker.state, send: typeof worker.send })`)
  const facts = await pool.hears('facts')
  assert.deepEqual(facts, { ...facts, process: true, exitedAfterDisconnect: true, isMaster: false, connected: true, state: 'online', send: 'function' })
})

test("at the end 'disconnect' of process and worker come once each, with everything that they promise", async (t) => {
  const pool = await worker(t, `
    const seen = []
    process[Symbol.for('dutch-master-worker')].on('disconnect', () => seen.push(['order', process.connected, cluster.worker.isConnected(), cluster.worker.exitedAfterDisconnect]))
    const note = (who) => seen.push([who, process.connected, cluster.worker.isConnected(), cluster.worker.exitedAfterDisconnect])
    cluster.worker.on('disconnect', () => note('worker'))
    process.on('disconnect', () => note('process'))
    process.on('SIGTERM', () => { say('facts', { seen }); process.exit() })
    setInterval(() => {}, 60_000)`)
  pool.restart()
  const { seen } = await pool.hears('facts')
  assert.deepEqual(new Set(seen.map(String)), new Set(['order,true,true,true', 'worker,false,false,true', 'process,false,false,true']))
  assert.equal(seen.length, 3)
})

test('process.disconnect() and worker.disconnect() any number of times are one departure and no error', async (t) => {
  const pool = await worker(t, `
    let times = 0
    process.on('disconnect', () => {
      times++
      process.disconnect()
      cluster.worker.disconnect()
      setTimeout(() => say('facts', { times, same }), 50)
    })
    let same
    setTimeout(() => {
      process.disconnect()
      same = cluster.worker.disconnect() === cluster.worker
      process.disconnect()
    }, 50)
    process.on('SIGTERM', () => {})
    setTimeout(() => {}, 60_000)
    process.on('error', (error) => say('error', { message: error.message }))`)
  const { times, same } = await pool.hears('facts')
  assert.deepEqual([times, same], [1, true])
  assert.ok(!pool.said.all.some(({ event }) => event === 'error'))
  assert.equal(pool.log.all.filter(({ msg }) => msg === 'Creating new worker').length, 2)
})

test('worker.kill() drains and exits 0, and the worker is replaced', async (t) => {
  const pool = await worker(t, `setTimeout(() => { if (cluster.worker.id === 1) cluster.worker.kill() }, 50)`)
  const exited = await pool.logs('Worker exited')
  assert.deepEqual([exited.workerId, exited.code, exited.signal ?? null], [1, 0, null])
  await pool.log.find(({ msg, workerId }) => msg === 'Worker listening' && workerId === 2)
})

test('a handle that is sent along is left out, with a line that says so', async (t) => {
  const pool = await worker(t, `
    const server = require('net').createServer()
    say('facts', { sent: process.send({ event: 'other' }, server) })`)
  assert.equal((await pool.hears('facts')).sent, true)
  await pool.complains(/without its handle/)
})
