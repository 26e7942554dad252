'use strict'
// HTTP/2: a session is told to go away before it ends, so that no request is lost between.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const http2 = require('node:http2')
const net = require('node:net')
const { join } = require('node:path')
const { test } = require('node:test')
const tls = require('node:tls')
const { start, bounded, Client } = require('./harness.js')

const PEM = join(__dirname, 'apps/localhost.pem')
const SERVE = `
  process.on('disconnect', () => say('disconnect'))
  process[Symbol.for('dutch-master-worker')].on('disconnect', () => say('order'))
  const answer = (req, res) => {
    say('request', { url: req.url })
    if (req.url === '/wait') return process.once('go', () => res.end('waited'))
    if (req.url === '/go') process.emit('go')
    res.end('ok')
  }`
const PLAIN = `${SERVE}\nconst server = require('http2').createServer(answer).listen(0, () => say('facts', { port: server.address().port }))`
const SECURE = `${SERVE}
  const pem = require('fs').readFileSync(process.env.PEM)
  const server = require('http2').createSecureServer({ key: pem, cert: pem, allowHTTP1: true }, answer).listen(0, () => say('facts', { port: server.address().port }))`

async function running(t, script, options) {
  const pool = start(t, 'script.js', { ...options, env: { SCRIPT: script, PEM } })
  const { port, pid } = await pool.hears('facts')
  const go = async () => {
    pool.restart()
    await pool.said.find((line) => line.event === 'order' && line.pid === pid, 'the order')
  }
  const drained = () => pool.said.find((line) => line.event === 'disconnect' && line.pid === pid, 'disconnect')
  return { pool, port, go, drained }
}

async function connect(t, url, options) {
  const session = http2.connect(url, { rejectUnauthorized: false, ...options })
  t.after(() => session.destroy())
  await once(session, 'remoteSettings')
  return session
}

function get(session, path = '/') {
  const answer = (async () => {
    const stream = session.request({ ':path': path })
    const [headers] = await once(stream, 'response')
    let text = ''
    for await (const chunk of stream) text += chunk
    return `${headers[':status']} ${text}`
  })()
  return bounded(answer, `an answer to ${path}`)
}

/** A way to the server that keeps back what the server says, from `hold` to `release`. */
async function slowWay(t, port) {
  let client, server
  const way = net.createServer((socket) => {
    client = socket.on('error', () => {})
    server = net.connect(port, '127.0.0.1').on('error', () => {})
    client.pipe(server)
    server.pipe(client)
  })
  way.listen(0, '127.0.0.1')
  await once(way, 'listening')
  t.after(() => [way, client, server].forEach((each) => (each.destroy ?? each.close).call(each)))
  return { port: way.address().port, hold: () => server.unpipe(client), release: () => server.pipe(client) }
}

test('a session with open streams is told to go away at once, and its streams are finished', async (t) => {
  const { pool, port, go, drained } = await running(t, PLAIN)
  const [session, other] = [await connect(t, `http://127.0.0.1:${port}`), await connect(t, `http://127.0.0.1:${port}`)]
  const open = get(session, '/wait')
  await pool.said.find(({ url }) => url === '/wait')
  const goaway = once(session, 'goaway')
  await go()
  assert.equal((await bounded(goaway, 'GOAWAY'))[0], 0)
  assert.equal(await get(other, '/go'), '200 ok')
  assert.equal(await open, '200 waited')
  await drained()
})

test('a request that crosses the GOAWAY is refused unprocessed, so that its client may repeat it', async (t) => {
  const { pool, port, go } = await running(t, PLAIN)
  const way = await slowWay(t, port)
  const session = await connect(t, `http://127.0.0.1:${way.port}`)
  get(session, '/wait').catch(() => {}) // it ends with the test
  await pool.said.find(({ url }) => url === '/wait')
  way.hold()
  await go()
  // The worker has said it, and this client does not know yet.
  const late = session.request({ ':path': '/late' }).on('error', () => {})
  way.release()
  await bounded(new Promise((resolve) => late.once('close', resolve)), 'the end of the late stream')
  assert.equal(late.rstCode, http2.constants.NGHTTP2_REFUSED_STREAM)
  assert.ok(!pool.said.all.some(({ url }) => url === '/late'))
})

for (const [name, before] of [['has not asked for anything yet', 0], ['rests', 1]]) {
  test(`a session that ${name} is served once more, and hears then that this was the last time`, async (t) => {
    const { port, go, drained } = await running(t, PLAIN)
    const session = await connect(t, `http://127.0.0.1:${port}`)
    for (let n = 0; n < before; n++) assert.equal(await get(session), '200 ok')
    await go()
    let told = false
    session.once('goaway', () => (told = true))
    assert.equal(await get(session), '200 ok')
    assert.ok(told, 'before the response, so that nothing else is asked for')
    await bounded(once(session, 'close'), 'its end')
    await drained()
  })
}

test('a session that goes on resting is closed by the worker, without an error', async (t) => {
  // So that it is the grace that ends it, and not the timeout.
  const { port, go, drained } = await running(t, SECURE, { options: ['--kill-timeout', '300s'] })
  const session = await connect(t, `https://127.0.0.1:${port}`)
  assert.equal(await get(session), '200 ok')
  session.on('error', (error) => assert.fail(error))
  await go()
  await bounded(once(session, 'close'), 'its end')
  await drained()
})

test('HTTP/1 on the same port is drained as elsewhere', async (t) => {
  const { port, go, drained } = await running(t, SECURE)
  const [idle, unused] = await Promise.all([0, 1].map(async () => {
    const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] })
    t.after(() => socket.destroy())
    await once(socket, 'secureConnect')
    return new Client(socket)
  }))
  assert.equal((await idle.get('/').response()).body, 'ok')
  await go()
  for (const client of [idle, unused]) {
    assert.deepEqual(await client.get('/').response(), { status: 200, connection: 'close', body: 'ok' })
    assert.equal(await client.ended, 'end')
  }
  await drained()
})

test('a stream that does not end holds its session until the announced timeout, and is counted as HTTP/2', async (t) => {
  const { pool, port, go, drained } = await running(t, SECURE, { options: ['--kill-timeout', '2s'] })
  const session = await connect(t, `https://127.0.0.1:${port}`)
  session.on('error', () => {})
  session.request({ ':path': '/wait' }).on('error', () => {})
  await pool.said.find(({ url }) => url === '/wait')
  await go()
  await drained()
  assert.match(await pool.complains(/did not end in time/), /were closed: 1 HTTP\/2$/)
})
