'use strict'
// When a worker counts as running: by its first server, or when the app says so.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { start, SDK, Client } = require('./harness.js')

const listening = ({ msg }) => msg === 'Worker listening'

function app(t, script, options) {
  return start(t, 'script.js', { ...options, env: { SCRIPT: `const worker = require(process.env.SDK)\nconst server = require('http').createServer((req, res) => res.end('ok'))\n${script}`, SDK } })
}

test('after holdReady() a server that listens says nothing until ready()', async (t) => {
  const pool = app(t, `
    worker.holdReady()
    server.listen(0, () => say('listening', { port: server.address().port }))
    process.once('go', () => worker.ready())
    server.on('request', ({ url }) => url === '/go' && process.emit('go'))`)
  const { port } = await pool.hears('listening')
  const client = await Client.connect(t, port)
  await client.get('/').response() // a round trip later the master would have heard of it
  assert.equal((await pool.status()).workers[0].state, 'starting')
  assert.ok(!pool.log.all.some(listening))
  await client.get('/go').response()
  await pool.log.find(listening)
  assert.equal((await pool.status()).workers[0].state, 'running')
})

test('a worker that never becomes ready is given up after the start timeout', async (t) => {
  const pool = app(t, `worker.holdReady(); server.listen(0, () => say('listening'))`, { options: ['--start-timeout', '1s', '--restart-attempts', '1'] })
  await pool.hears('listening')
  assert.equal(await pool.exits(), 1)
  assert.ok(!pool.log.all.some(listening))
})

test('a worker without a server is running when it says ready(), and not before; saying it again changes nothing', async (t) => {
  const pool = app(t, `
    worker.requestRestart(undefined)
    process.once('disconnect', () => say('disconnect'))
    setTimeout(() => { worker.ready(); worker.ready(); say('ready') }, 100)`)
  await pool.hears('ready')
  await pool.log.find(listening)
  assert.equal(pool.log.all.filter(({ msg, workerId }) => msg === 'Worker listening' && workerId === 1).length, 1)
  pool.stop()
  await pool.hears('disconnect')
  assert.equal(await pool.exits(), 0)
})

test('holdReady() that comes too late says so', async (t) => {
  const pool = app(t, `server.listen(0, () => setImmediate(() => worker.holdReady()))`)
  await pool.log.find(listening)
  await pool.complains(/holdReady\(\) came after a server had begun to listen/)
})

test('a reason that is no text does not end the app', async (t) => {
  const pool = app(t, `
    server.listen(0, () => setImmediate(() => { worker.requestRestart({ odd: true }); worker.requestRestart(7); say('asked') }))`)
  await pool.hears('asked')
  await pool.log.find(({ msg, workerId }) => msg === 'Worker listening' && workerId === 2, 'a replacement')
})
