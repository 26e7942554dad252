'use strict'
// process.send and its companions behave as those of a cluster worker.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { start, Client, SDK } = require('./harness.js')

async function worker(t, script) {
  const pool = start(t, 'script.js', { env: { SCRIPT: `${script}\nrequire('http').createServer().listen(0, () => say('listening'))`, SDK } })
  await pool.hears('listening')
  return pool
}

test("{event: 'request-restart'} gets one replacement, however often it is sent", async (t) => {
  const pool = start(t, 'http.js')
  const { port, pid } = await pool.hears('listening')
  const client = await Client.connect(t, port)
  for (const reason of ['why', 'again', 'and-again']) assert.equal((await client.get(`/restart?reason=${reason}`).response()).body, 'true null')
  const order = await pool.hears('order')
  assert.deepEqual([order.pid, order.reason], [pid, 'request'])
  client.close()
  await pool.log.find((line) => line.msg === 'Worker exited' && line.workerPid === pid)
  assert.equal(pool.log.all.filter(({ msg }) => msg === 'Creating new worker').length, 2)
})

test('everything else reaches the master as a message, null and odd things included', async (t) => {
  const pool = await worker(t, `
    const returned = [null, 'ready', 7, true, { event: 'other' }, ['a']].map((message) => process.send(message))
    say('facts', { returned })`)
  assert.deepEqual((await pool.hears('facts')).returned, Array(6).fill(true))
  await pool.log.find((line) => JSON.stringify(line).includes('other'), 'a log line of the message')
  assert.ok(!pool.log.all.some(({ msg }) => msg === 'Worker exited'))
})

test('the callback is called later, without an error, wherever it stands among the arguments', async (t) => {
  const pool = await worker(t, `
    const order = []
    process.send('a', (error) => order.push(['first', error]))
    process.send('b', undefined, (error) => order.push(['second', error]))
    process.send('c', undefined, {}, (error) => order.push(['third', error]))
    order.push('now')
    setImmediate(() => say('facts', { order }))`)
  assert.deepEqual((await pool.hears('facts')).order, ['now', ['first', null], ['second', null], ['third', null]])
})

test('what Node refuses to send is refused in the same way', async (t) => {
  const pool = await worker(t, `
    const codes = [() => process.send(), () => process.send(() => {}), () => process.send(Symbol('x'))].map((send) => { try { send() } catch (error) { return error.code } })
    say('facts', { codes })`)
  assert.deepEqual((await pool.hears('facts')).codes, ['ERR_MISSING_ARGS', 'ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_TYPE'])
})

test('a message above the limit is dropped with a warning, and the worker serves on', async (t) => {
  const pool = await worker(t, `say('facts', { sent: process.send('x'.repeat(20000)) })`)
  assert.equal((await pool.hears('facts')).sent, true)
  await pool.complains(/message of 20002 bytes was dropped/)
})

test('after the disconnect send fails as Node says: false, and ERR_IPC_CHANNEL_CLOSED', async (t) => {
  const pool = await worker(t, `
    process.once('disconnect', () => {
      const returned = process.send('late', (error) => say('facts', { returned, code: error.code, connected: process.connected, channel: process.channel === undefined }))
    })
    setTimeout(() => require('cluster').worker.disconnect(), 50)`)
  const facts = await pool.hears('facts')
  assert.deepEqual([facts.returned, facts.code, facts.connected, facts.channel], [false, 'ERR_IPC_CHANNEL_CLOSED', false, true])
})

test("the app's last words in its 'disconnect' handler come before the SIGTERM", async (t) => {
  const pool = await worker(t, `
    process.on('disconnect', () => {
      for (const start = Date.now(); Date.now() - start < 300; );
      say('words')
    })
    setTimeout(() => require('cluster').worker.disconnect(), 50)`)
  await pool.hears('words')
})

for (const [path, name] of [
  ['/leave', 'cluster.worker.disconnect()'],
  ['/disconnect', 'process.disconnect()'],
]) {
  test(`${name} ends the worker's service without failing a request, and it is replaced`, async (t) => {
    const pool = start(t, 'http.js')
    const { port, pid } = await pool.hears('listening')
    const waiting = await Client.connect(t, port)
    waiting.get('/wait')
    await pool.said.find(({ pathname }) => pathname === '/wait')
    const go = await Client.connect(t, port)
    await pool.said.find(() => pool.said.all.filter(({ event }) => event === 'connection').length === 2)
    const leaving = await Client.connect(t, port)
    await leaving.get(path).response()
    assert.deepEqual([(await pool.hears('order')).reason], ['leaving'])
    await pool.said.find((line) => line.event === 'listening' && line.pid !== pid, 'a replacement')
    go.get('/go')
    leaving.close()
    assert.deepEqual(await waiting.response(), { status: 200, connection: 'close', body: 'waited' })
    assert.equal((await go.response()).connection, 'close')
    await pool.log.find((line) => line.msg === 'Worker exited' && line.workerPid === pid)
  })
}
