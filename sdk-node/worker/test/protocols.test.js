'use strict'
// Draining of what is not plain HTTP/1, and of a framework.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { join } = require('node:path')
const { test } = require('node:test')
const tls = require('node:tls')
const { start, Client } = require('./harness.js')

const PEM = join(__dirname, 'apps/localhost.pem')
const WATCH = `
  process.on('disconnect', () => say('disconnect'))
  process[Symbol.for('dutch-master-worker')].on('disconnect', () => say('order'))`

async function running(t, script, options) {
  const pool = start(t, 'script.js', { ...options, env: { SCRIPT: `${WATCH}\n${script}`, PEM } })
  const { port, pid } = await pool.hears('facts')
  const go = async () => {
    pool.restart()
    await pool.said.find((line) => line.event === 'order' && line.pid === pid, 'the order')
  }
  const drained = () => pool.said.find((line) => line.event === 'disconnect' && line.pid === pid, 'disconnect')
  return { pool, port, pid, go, drained }
}

test('https: idle keep-alive connections are served once more, and a handshake that has not begun is made', async (t) => {
  const { port, go, drained } = await running(t, `
    const pem = require('fs').readFileSync(process.env.PEM)
    const server = require('https').createServer({ key: pem, cert: pem }, (req, res) => res.setHeader('content-length', 2).end('ok')).listen(0, () => say('facts', { port: server.address().port }))`)
  const secure = async (raw) => {
    const socket = tls.connect({ socket: raw, rejectUnauthorized: false })
    t.after(() => socket.destroy())
    await once(socket, 'secureConnect')
    return new Client(socket)
  }
  const client = await secure((await Client.connect(t, port)).socket)
  assert.equal((await client.get('/').response()).connection, 'keep-alive')
  const unused = await Client.connect(t, port)
  const later = await secure((await Client.connect(t, port)).socket)
  await later.get('/').response() // so the one before was accepted
  later.close()
  await go()
  assert.equal((await client.get('/').response()).connection, 'close')
  assert.equal(await client.ended, 'end')
  assert.equal((await (await secure(unused.socket)).get('/').response()).connection, 'close')
  await drained()
})

test('https: what is cut at the announced timeout is counted once', async (t) => {
  const script = `
    const pem = require('fs').readFileSync(process.env.PEM)
    const server = require('https').createServer({ key: pem, cert: pem }, () => say('request')).listen(0, () => say('facts', { port: server.address().port }))`
  const { pool, port, go, drained } = await running(t, script, { options: ['--kill-timeout', '2s'] })
  const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  t.after(() => socket.destroy())
  socket.on('error', () => {}).write('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
  await pool.hears('request')
  await go()
  await drained()
  assert.match(await pool.complains(/did not end in time/), /were closed: 1 in a request$/)
  assert.equal((await pool.logs('Worker cut connections that did not end in time')).connections, 1, 'the master knows of it')
})

test('net: a connection stays until it ends, and the app hears of the order', async (t) => {
  const { pool, port, go, drained } = await running(t, `
    const server = require('net').createServer((socket) => socket.on('data', (text) => socket.write(text))).listen(0, () => say('facts', { port: server.address().port }))`)
  const client = await Client.connect(t, port)
  assert.equal(await client.send('before').text('before'), 'before')
  await go()
  assert.equal(await client.send('after').text('beforeafter'), 'beforeafter')
  assert.ok(!pool.said.all.some(({ event }) => event === 'disconnect'))
  client.close()
  await drained()
})

test('an upgraded connection stays until it ends', async (t) => {
  const { pool, port, go, drained } = await running(t, `
    const server = require('http').createServer().listen(0, () => say('facts', { port: server.address().port }))
    server.on('upgrade', (req, socket) => { socket.write('HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n'); socket.on('data', (text) => socket.write(text)).on('end', () => socket.end()) })`)
  const client = await Client.connect(t, port)
  assert.equal((await client.send('GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n').response()).status, 101)
  await go()
  assert.equal(await client.send('still here').text('still here'), 'still here')
  assert.ok(!pool.said.all.some(({ event }) => event === 'disconnect'))
  client.close()
  await drained()
})

test('the Express example answers every request during a restart', async (t) => {
  const pool = start(t, '../../../../examples/express/app.js', { env: { PORT: '0' } })
  const { text } = await pool.said.find(({ text }) => /listens on/.test(text))
  const port = Number(/:(\d+)\//.exec(text)[1])
  const client = await Client.connect(t, port)
  const first = await client.get('/').response()
  assert.match(first.body, /worker 1/)
  const slow = await Client.connect(t, port)
  slow.get('/slow?ms=500')
  const crash = await Client.connect(t, port)
  assert.equal((await crash.get('/crash').response()).status, 500)
  assert.equal((await slow.response()).body, 'This took 500 ms\n')
  for (let answer = first; answer.connection !== 'close'; ) {
    answer = await client.send('POST /echo HTTP/1.1\r\nHost: test\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody').response()
    assert.deepEqual([answer.status, answer.body], [200, 'body'])
  }
})
