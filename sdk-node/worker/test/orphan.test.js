'use strict'
// A worker whose master is gone serves on; if no master comes back it drains and exits, and never holds a port for ever.

const assert = require('node:assert/strict')
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { dirname, join } = require('node:path')
const { test } = require('node:test')
const { start, Client } = require('./harness.js')

async function orphan(t, orphanTimeout, env) {
  const pool = start(t, 'http.js', { options: ['--orphan-timeout', orphanTimeout], env: { HOLD: '1', ...env } })
  const { port, pid } = await pool.hears('listening')
  await pool.logs('Worker listening')
  pool.child.kill('SIGKILL')
  await pool.complains(/connection to the master was lost; serving on/)
  return { pool, port, pid }
}

test('a worker serves on without its master, still connected as far as the app can see', async (t) => {
  const { pool, port } = await orphan(t, '60s')
  const client = await Client.connect(t, port)
  assert.deepEqual(await client.get('/').response(), { status: 200, connection: 'keep-alive', body: 'hello' })
  assert.ok(!pool.said.all.some(({ event }) => event === 'disconnect' || event === 'exit'))
})

test('what the app sends meanwhile is kept for the next master', async (t) => {
  const { pool, port } = await orphan(t, '60s')
  const client = await Client.connect(t, port)
  assert.equal((await client.get('/restart').response()).body, 'true null')
  assert.equal((await client.get('/').response()).status, 200)
  pool.startAgain()
  await pool.complains(/a master took this worker back/)
  assert.equal((await pool.logs('Worker dying')).workerId, 1)
})

test('a worker that had an order when its master died finishes and exits', async (t) => {
  const pool = start(t, 'http.js', { env: { HOLD: '1' } })
  const { port, pid } = await pool.hears('listening')
  const says = (event) => pool.said.find((line) => line.event === event && line.pid === pid, event)
  const [waiting, sender, go] = [await Client.connect(t, port), await Client.connect(t, port), await Client.connect(t, port)]
  waiting.get('/wait')
  for (const client of [sender, go]) assert.equal((await client.get('/').response()).status, 200)
  await pool.logs('Cluster ready')
  pool.restart()
  await says('order')
  pool.child.kill('SIGKILL')
  // The connection's end may reach the worker a little later.
  const sent = await sender.get('/restart').response()
  assert.ok(['true null', 'false ERR_IPC_CHANNEL_CLOSED'].includes(sent.body), sent.body)
  await go.get('/go').response()
  assert.equal((await waiting.response()).body, 'waited')
  assert.equal((await says('exit')).code, 0)
})

test('after the orphan timeout it drains, disconnects and exits 0', async (t) => {
  const { pool, port } = await orphan(t, '1s')
  const client = await Client.connect(t, port)
  client.get('/wait')
  const go = await Client.connect(t, port)
  assert.equal((await pool.hears('order')).reason, 'orphaned')
  await go.get('/go').response()
  assert.deepEqual(await client.response(), { status: 200, connection: 'close', body: 'waited' })
  await pool.hears('disconnect')
  assert.equal((await pool.hears('exit')).code, 0)
})

test('what waits in the queue when it begins to drain is served, as nobody else may be left', async (t) => {
  const gate = join(mkdtempSync(join(tmpdir(), 'dm-gate-')), 'open')
  t.after(() => rmSync(dirname(gate), { recursive: true }))
  const { pool, port } = await orphan(t, '1s', { BLOCK_UNTIL: gate })
  await pool.hears('order')
  const waiting = await Promise.all(Array.from({ length: 30 }, () => Client.connect(t, port)))
  writeFileSync(gate, '')
  const answers = await Promise.all(waiting.map((client) => client.get('/').response()))
  assert.deepEqual(new Set(answers.map(({ status, connection }) => `${status} ${connection}`)), new Set(['200 close']))
  assert.equal((await pool.hears('exit')).code, 0)
})
