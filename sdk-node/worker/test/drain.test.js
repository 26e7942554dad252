'use strict'
// Draining fails no request: what each kind of connection sees when its worker is told to go.

const assert = require('node:assert/strict')
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { dirname, join } = require('node:path')
const { test } = require('node:test')
const { start, Client } = require('./harness.js')

/** A worker that runs, the port of its server, and an open connection on which nothing was asked yet. */
async function running(t, options) {
  const pool = start(t, 'http.js', options)
  const { port, pid } = await pool.hears('listening')
  const spare = await Client.connect(t, port)
  await pool.hears('connection')
  /** Tells it to go. */
  const go = async () => {
    pool.restart()
    return pool.said.find((line) => line.event === 'order' && line.pid === pid, 'the order to go')
  }
  /** It is reached over the spare connection: a new one is the replacement's. */
  const letGo = async () => assert.equal((await spare.get('/go').response()).connection, 'close')
  const exited = () => pool.said.find((line) => line.event === 'disconnect' && line.pid === pid, 'disconnect of the old worker')
  return { pool, port, pid, spare, go, letGo, exited }
}

async function asked(pool, client, path) {
  client.get(path)
  await pool.said.find(({ pathname }) => pathname === path, `the request ${path}`)
}

test('an idle keep-alive connection is served once more, and told that this was the last time', async (t) => {
  const { port, go } = await running(t, { env: { KEEP_ALIVE_MS: '60000' } })
  const client = await Client.connect(t, port)
  assert.equal((await client.get('/').response()).connection, 'keep-alive')
  assert.equal((await go()).reason, 'restart')
  const ordered = performance.now()
  const last = await client.get('/').response()
  assert.deepEqual([last.status, last.connection], [200, 'close'])
  assert.equal(await client.ended, 'end')
  assert.ok(performance.now() - ordered < 15_000, 'after the response, and not as one that rests')
})

test('an idle keep-alive connection is served once more also where the app closes its server as soon as it is to go', async (t) => {
  const { port, go, letGo, exited } = await running(t, { env: { KEEP_ALIVE_MS: '60000', CLOSE_AT_ORDER: '1' } })
  const client = await Client.connect(t, port)
  await client.get('/').response()
  await go()
  await letGo() // the app has closed it by then
  const last = await client.get('/').response()
  assert.deepEqual([last.status, last.connection], [200, 'close'])
  await exited()
})

test('an idle keep-alive connection that stays idle ends with a half-close after the grace, which counts from the order', async (t) => {
  const { port, spare, go } = await running(t, { env: { KEEP_ALIVE_MS: '2000' } })
  const client = await Client.connect(t, port)
  await client.get('/').response()
  await spare.get('/later').response() // it has been idle for a while
  await go()
  const ordered = performance.now()
  assert.equal(await client.ended, 'end')
  const lasted = performance.now() - ordered
  assert.ok(lasted > 1900 && lasted < 15_000, `the keep-alive timeout of the server, not ${lasted}`)
})

test('a request in flight is finished, and its response says close', async (t) => {
  const { pool, port, go, letGo } = await running(t)
  const client = await Client.connect(t, port)
  await asked(pool, client, '/wait')
  await go()
  await letGo()
  assert.deepEqual(await client.response(), { status: 200, connection: 'close', body: 'waited' })
  assert.equal(await client.ended, 'end')
})

test('a head that was written but not sent before the order says close', async (t) => {
  const { pool, port, go, letGo } = await running(t)
  const client = await Client.connect(t, port)
  await asked(pool, client, '/written')
  await go()
  await letGo()
  assert.deepEqual(await client.response(), { status: 200, connection: 'close', body: 'written' })
})

test('a response whose head was sent before the order is finished, and its connection then counts as idle', async (t) => {
  const { pool, port, go, letGo } = await running(t)
  const client = await Client.connect(t, port)
  await asked(pool, client, '/head-first')
  await go()
  await letGo()
  assert.equal((await client.response()).body, 'body')
  assert.deepEqual(await client.get('/').response(), { status: 200, connection: 'close', body: 'hello' })
})

test('an explicit Connection: keep-alive of the app becomes close', async (t) => {
  const { port, go } = await running(t)
  const client = await Client.connect(t, port)
  assert.equal((await client.get('/explicit').response()).connection, 'keep-alive')
  await go()
  assert.equal((await client.get('/explicit').response()).connection, 'close')
  assert.equal(await client.ended, 'end')
})

test('a connection that was accepted but has not asked anything is served', async (t) => {
  const { pool, port, go } = await running(t)
  const client = await Client.connect(t, port)
  await go()
  assert.equal((await client.get('/').response()).connection, 'close')
  assert.equal((await pool.hears('connection')).event, 'connection')
})

test('a request of which a part had come is served, even if the rest comes after the idle grace', async (t) => {
  // Without a keep-alive timeout of the server the grace is the SDK's own.
  const { port, go } = await running(t, { env: { KEEP_ALIVE_MS: '0' } })
  const [client, idle] = [await Client.connect(t, port), await Client.connect(t, port)]
  for (const each of [client, idle]) await each.get('/').response()
  client.send('POST / HTTP/1.1\r\nHost: test\r\nContent-Le')
  await go()
  assert.equal(await idle.ended, 'end')
  client.send('ngth: 8\r\n\r\nhalf')
  client.send('half')
  assert.deepEqual(await client.response(), { status: 200, connection: 'close', body: 'halfhalf' })
})

test('an answer given before the request was read completely arrives, however much is still being sent', async (t) => {
  const { port, go } = await running(t)
  const client = await Client.connect(t, port)
  await client.get('/').response()
  await go()
  client.send('POST /early HTTP/1.1\r\nHost: test\r\nContent-Length: 5000000\r\n\r\n')
  for (let n = 0; n < 50; n++) client.send('x'.repeat(100_000))
  const sent = client.sent()
  assert.deepEqual(await client.response(), { status: 200, connection: 'close', body: 'early' })
  assert.equal(await sent, undefined, 'the server reads on, so that its answer is not destroyed by a reset')
  assert.equal(await client.ended, 'end')
})

test('a request that the app reads on after it was answered is read to its end', async (t) => {
  const { pool, port, go } = await running(t)
  const client = await Client.connect(t, port)
  await client.get('/').response()
  await go()
  client.send('POST /accept HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n')
  assert.deepEqual(await client.response(), { status: 200, connection: 'close', body: 'accepted' })
  for (let n = 0; n < 10; n++) client.send('x'.repeat(100_000))
  assert.equal((await pool.hears('read')).length, 1_000_000)
  assert.equal(await client.ended, 'end')
})

test('of pipelined requests none goes unanswered: only the response to the newest says close', async (t) => {
  const { pool, port, go, letGo } = await running(t)
  const client = await Client.connect(t, port)
  client.get('/wait').get('/').get('/wait')
  await pool.said.find(({ pathname }) => pathname === '/')
  await go()
  await letGo()
  const answers = [await client.response(), await client.response(), await client.response()]
  assert.deepEqual(answers.map(({ body, connection }) => `${body} ${connection}`), ['waited keep-alive', 'hello keep-alive', 'waited close'])
})

test('new connections go to the replacement from the moment of the order', async (t) => {
  const { pool, port, pid, go, letGo } = await running(t)
  await go()
  await letGo()
  const before = pool.said.all.filter((line) => line.event === 'connection' && line.pid === pid).length
  for (let n = 0; n < 20; n++) assert.equal((await (await Client.connect(t, port)).get('/').response()).status, 200)
  assert.equal(pool.said.all.filter((line) => line.event === 'connection' && line.pid === pid).length, before)
})

test('what is still open at the announced timeout is ended, and one line says what', async (t) => {
  const { pool, port, go, exited } = await running(t, { options: ['--kill-timeout', '2s'] })
  const client = await Client.connect(t, port)
  await asked(pool, client, '/wait')
  const { leftMs } = await go()
  assert.ok(leftMs > 500 && leftMs <= 1000, `announced: the kill timeout less the margin, not ${leftMs}`)
  assert.match(await client.ended, /end|ECONNRESET|close/)
  await pool.complains(/connections that did not end in time were closed: .*1 in a request/)
  await exited()
})

test('connections that rest end with a half-close before the announced timeout, however long their grace', async (t) => {
  const { pool, port, spare, go, exited } = await running(t, { options: ['--kill-timeout', '4s'], env: { KEEP_ALIVE_MS: '60000' } })
  const idle = await Client.connect(t, port)
  await idle.get('/').response()
  await go()
  const ordered = performance.now()
  assert.deepEqual(await Promise.all([idle.ended, spare.ended]), ['end', 'end'])
  assert.ok(performance.now() - ordered > 1000, 'and not long before it')
  await exited()
  assert.ok(!pool.errors.all.some((line) => /did not end in time/.test(line)))
})

test('a client that does not close after the half-close holds nobody up', async (t) => {
  const { port, spare, go, exited } = await running(t)
  spare.close()
  const client = await Client.connect(t, port, { allowHalfOpen: true })
  await client.get('/').response()
  await go()
  const ordered = performance.now()
  await client.get('/').response()
  assert.equal(await client.ended, 'end')
  await exited()
  const lasted = performance.now() - ordered
  assert.ok(lasted > 900 && lasted < 15_000, `it lingers for a second, not ${lasted}`)
})

test('Node sees an orderly disconnect at the very end, and the worker then exits', async (t) => {
  const { pool, port, pid, go, letGo } = await running(t)
  const client = await Client.connect(t, port)
  await asked(pool, client, '/wait')
  await go()
  assert.ok(!pool.said.all.some((line) => line.pid === pid && line.event === 'disconnect'))
  await letGo()
  await client.response()
  const { connected, exitedAfterDisconnect } = await pool.said.find((line) => line.event === 'disconnect' && line.pid === pid)
  assert.deepEqual([connected, exitedAfterDisconnect], [false, true])
  assert.ok(pool.said.all.some((line) => line.pid === pid && line.event === 'close'), "the server's own 'close' came first")
  await pool.log.find((line) => line.msg === 'Worker exited' && line.workerPid === pid)
})

test('when the pool stops, connections that wait in the queue are accepted and served', async (t) => {
  const gate = join(mkdtempSync(join(tmpdir(), 'dm-gate-')), 'open')
  t.after(() => rmSync(dirname(gate), { recursive: true }))
  const { pool, port, spare } = await running(t, { env: { BLOCK_UNTIL: gate } })
  spare.close()
  pool.stop()
  await pool.hears('order')
  // The worker's loop stands still in the app's handler, the master has closed its listener.
  const waiting = await Promise.all(Array.from({ length: 50 }, () => Client.connect(t, port)))
  writeFileSync(gate, '')
  const answers = await Promise.all(waiting.map((client) => client.get('/').response()))
  assert.deepEqual(new Set(answers.map(({ status, connection }) => `${status} ${connection}`)), new Set(['200 close']))
  assert.equal(await pool.exits(), 0)
})
