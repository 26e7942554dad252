'use strict'
// Connections that do not end by themselves: the app is told until when, and what it leaves open is counted by kind.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { start, Client, SDK } = require('./harness.js')

const UPGRADE = 'GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
const SERVE = `
  const worker = require(process.env.SDK)
  process.on('disconnect', () => say('disconnect'))
  worker.on('disconnect', ({ reason, deadline }) => say('order', { reason, leftMs: deadline - Date.now() }))
  const http = require('http').createServer((req, res) => {
    say('request', { url: req.url })
    if (req.url === '/events') res.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: 1\\n\\n')
  })
  http.on('upgrade', (req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n')
    socket.on('error', () => {})
    say('upgraded')
    if (process.env.POLITE) socket.on('draining', ({ reason, deadline }) => { say('draining', { reason, leftMs: deadline - Date.now() }); socket.end('bye') })
  })
  const net = require('net').createServer((socket) => { socket.on('error', () => {}); say('connected') })
  http.listen(0, () => net.listen(0, () => say('facts', { port: http.address().port, plain: net.address().port })))`

async function running(t, { env, options } = {}) {
  const pool = start(t, 'script.js', { options, env: { SDK, ...env, SCRIPT: SERVE } })
  const { port, plain, pid } = await pool.hears('facts')
  const go = async () => {
    pool.restart()
    return pool.said.find((line) => line.event === 'order' && line.pid === pid, 'the order')
  }
  const drained = () => pool.said.find((line) => line.event === 'disconnect' && line.pid === pid, 'disconnect')
  return { pool, port, plain, go, drained }
}

test("an upgraded socket gets 'draining' with reason and deadline, and the app ends it in its own way", async (t) => {
  const { pool, port, go, drained } = await running(t, { env: { POLITE: '1' } })
  const client = await Client.connect(t, port)
  assert.equal((await client.send(UPGRADE).response()).status, 101)
  await go()
  const { reason, leftMs } = await pool.hears('draining')
  assert.equal(reason, 'restart')
  assert.ok(leftMs > 20_000 && leftMs <= 27_000, `within the announced timeout, not ${leftMs}`)
  assert.equal(await client.text('bye'), 'bye')
  assert.equal(await client.ended, 'end')
  await drained()
  assert.equal(pool.said.all.filter(({ event }) => event === 'draining').length, 1)
})

test('one that is upgraded after the order is told as well', async (t) => {
  const { pool, port, go, drained } = await running(t, { env: { POLITE: '1' } })
  const client = await Client.connect(t, port)
  await (await Client.connect(t, port)).send(UPGRADE).response() // so the one before was accepted
  await go()
  assert.equal((await client.send(UPGRADE).response()).status, 101)
  assert.equal(await client.text('bye'), 'bye')
  await drained()
  assert.equal(pool.said.all.filter(({ event }) => event === 'draining').length, 2)
})

test('what is left at the announced timeout is counted by kind in one line', async (t) => {
  const { pool, port, plain, go, drained } = await running(t, { options: ['--kill-timeout', '2s'] })
  const connect = () => Client.connect(t, port)
  const [events, request, raw] = [await connect(), await connect(), await Client.connect(t, plain)]
  for (let n = 0; n < 2; n++) assert.equal((await (await connect()).send(UPGRADE).response()).status, 101)
  events.get('/events')
  request.get('/never')
  await pool.hears('connected')
  for (const path of ['/events', '/never']) await pool.said.find(({ url }) => url === path)
  await go()
  await drained()
  const line = await pool.complains(/did not end in time/)
  const kinds = line.split('were closed: ')[1].split(', ').sort()
  assert.deepEqual(kinds, ['1 in a request', '1 not HTTP', '1 streaming events', '2 upgraded (such as WebSocket)'])
  await Promise.all([events, request, raw].map((client) => client.ended))
})
