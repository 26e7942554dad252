'use strict'
// Every form of listen that Node documents for cluster workers, by the master.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const net = require('node:net')
const { join } = require('node:path')
const { test } = require('node:test')
const { start, freePort, SDK } = require('./harness.js')

async function worker(t, script, options) {
  const pool = start(t, 'script.js', { ...options, env: { SCRIPT: `const http = require('http'); const server = http.createServer((req, res) => res.end('ok'));\n${script}`, SDK, ...options?.env } })
  return { pool, said: await pool.hears('facts') }
}

test('a port on every address is dual-stack, and address() says so', async (t) => {
  const port = await freePort()
  const { said } = await worker(t, `server.listen(${port}, () => say('facts', server.address()))`)
  assert.deepEqual([said.port, said.address, said.family], [port, '::', 'IPv6'])
  for (const host of ['127.0.0.1', '[::1]']) assert.equal(await (await fetch(`http://${host}:${port}/`)).text(), 'ok')
})

test('listen is asynchronous, and says listening once', async (t) => {
  const { said } = await worker(t, `
    let times = 0
    server.on('listening', () => times++)
    server.listen(0, '127.0.0.1', () => setImmediate(() => say('facts', { times, before })))
    const before = [server.listening, server.address()]`)
  assert.deepEqual([said.times, said.before], [1, [false, null]])
})

for (const form of ['0', '', 'null']) {
  test(`listen(${form}) gives every worker the same free port`, async (t) => {
    const pool = start(t, 'script.js', { workers: 2, env: { SCRIPT: `const server = require('http').createServer().listen(${form}); server.on('listening', () => say('facts', { port: server.address().port }))` } })
    const first = await pool.hears('facts')
    const second = await pool.said.find(({ event, pid }) => event === 'facts' && pid !== first.pid)
    assert.ok(first.port > 0)
    assert.equal(second.port, first.port)
  })
}

test('two listen(0) of one worker are two ports, each shared by all workers', async (t) => {
  const script = `
    const { once } = require('events')
    const servers = [require('http').createServer().listen(0), require('net').createServer().listen(0)]
    await Promise.all(servers.map((server) => once(server, 'listening')))
    say('facts', { ports: servers.map((server) => server.address().port) })`
  const pool = start(t, 'script.js', { workers: 2, env: { SCRIPT: script } })
  const first = await pool.hears('facts')
  const second = await pool.said.find(({ event, pid }) => event === 'facts' && pid !== first.pid)
  assert.notEqual(first.ports[0], first.ports[1])
  assert.deepEqual(second.ports, first.ports)
})

test('a Unix path, relative to the directory of the worker', async (t) => {
  const { pool, said } = await worker(t, `server.listen('web.sock', () => say('facts', { address: server.address() }))`)
  assert.equal(said.address, 'web.sock')
  const socket = net.connect(join(pool.dir, 'web.sock'))
  t.after(() => socket.destroy())
  socket.write('GET / HTTP/1.0\r\n\r\n')
  assert.match(String(await once(socket, 'data')), /200 OK/)
})

test('a listener of the configuration is had by its address, whatever its name', async (t) => {
  const port = await freePort()
  const options = ['-l', `web=127.0.0.1:${port}`, '-l', 'admin=unix:admin.sock']
  for (const form of [`${port}`, `${port}, '127.0.0.1'`, `{ port: ${port}, host: 'localhost', family: 4 }`]) {
    const { pool, said } = await worker(t, `server.listen('admin.sock', () => server.close(() => server.listen(${form}, () => say('facts', server.address()))))`, { options })
    assert.deepEqual([said.address, said.port], ['127.0.0.1', port], form)
    assert.deepEqual((await pool.status()).listeners.map(({ key }) => key), ['admin', 'web'], form)
    pool.stop()
    await pool.exits()
  }
  const { said } = await worker(t, `server.on('error', ({ code }) => say('facts', { code })).listen(${port}, '0.0.0.0')`, { options })
  assert.equal(said.code, 'EADDRINUSE', 'an address that the listener is not at')
})

test('a port that another process has is an error event as Node has it', async (t) => {
  const other = net.createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.after(() => other.close())
  const { port } = other.address()
  const { said } = await worker(t, `server.on('error', ({ code, syscall, address, port, message }) => say('facts', { code, syscall, address, port, message })).listen(${port}, '127.0.0.1')`)
  assert.deepEqual(said, { ...said, code: 'EADDRINUSE', syscall: 'bind', address: '127.0.0.1', port })
})

test('a second server of the same worker on the same port is EADDRINUSE, and the first serves on', async (t) => {
  const port = await freePort()
  const { said } = await worker(t, `
    server.listen(${port}, '127.0.0.1', () => {
      http.createServer().on('error', ({ code }) => say('facts', { code })).listen(${port}, '127.0.0.1')
    })`)
  assert.equal(said.code, 'EADDRINUSE')
  assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), 'ok')
})

test('a server that was closed can listen again on its port', async (t) => {
  const port = await freePort()
  await worker(t, `
    server.listen(${port}, '127.0.0.1', () => server.close(() => server.listen(${port}, '127.0.0.1', () => say('facts'))))`)
  assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), 'ok')
})

test('a server that was closed and listens on port 0 again gets the port of the pool again', async (t) => {
  const { said } = await worker(t, `
    server.listen(0, () => {
      const first = server.address().port
      server.close(() => server.listen(0, () => say('facts', { first, second: server.address().port })))
    })`)
  assert.equal(said.second, said.first)
})

test('exclusive: true bypasses the master', async (t) => {
  const port = await freePort()
  const { pool } = await worker(t, `server.listen({ port: ${port}, host: '127.0.0.1', exclusive: true }, () => say('facts'))`)
  assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), 'ok')
  assert.ok(!pool.log.all.some(({ msg }) => msg === 'Worker listening'))
})

test('the number of a descriptor means nothing between master and worker: ENOTSUP', async (t) => {
  const { said } = await worker(t, `server.on('error', ({ code }) => say('facts', { code })).listen({ fd: 3 })`)
  assert.equal(said.code, 'ENOTSUP')
})

test('https workers share their TLS tickets: a session of one is resumed by the other', async (t) => {
  const port = await freePort()
  const script = `
    const { readFileSync } = require('fs')
    const pem = readFileSync(process.env.PEM)
    require('https').createServer({ key: pem, cert: pem, maxVersion: 'TLSv1.2' }, (req, res) => res.end(String(process.pid))).listen(${port}, '127.0.0.1', () => say('facts'))`
  const pool = start(t, 'script.js', { workers: 2, env: { SCRIPT: script, PEM: join(__dirname, 'apps/localhost.pem') } })
  const first = await pool.hears('facts')
  await pool.said.find(({ event, pid }) => event === 'facts' && pid !== first.pid)
  const tls = require('node:tls')
  const visit = (session) =>
    new Promise((resolve, reject) => {
      let text = ''
      const socket = tls.connect({ port, host: '127.0.0.1', session, rejectUnauthorized: false, maxVersion: 'TLSv1.2' }, () => socket.write('GET / HTTP/1.0\r\n\r\n'))
      socket.on('data', (more) => (text += more)).on('error', reject)
      socket.on('end', () => resolve({ pid: text.split('\r\n\r\n')[1], reused: socket.isSessionReused(), session: socket.getSession() }))
    })
  const { pid, session } = await visit()
  // The kernel chooses who accepts; sooner or later it is the other worker.
  for (let n = 0; ; n++) {
    const next = await visit(session)
    assert.equal(next.reused, true)
    if (next.pid !== pid) break
    assert.ok(n < 1000, 'the other worker never accepted')
  }
})

test('a datagram socket gets its port from the master, without a deprecation warning', async (t) => {
  const { pool, said } = await worker(t, `
    const socket = require('dgram').createSocket('udp4')
    socket.on('message', (message, { port }) => socket.send('echo ' + message, port))
    socket.bind(0, '127.0.0.1', () => say('facts', socket.address()))`)
  const client = require('node:dgram').createSocket('udp4')
  t.after(() => client.close())
  client.send('hello', said.port, '127.0.0.1')
  assert.equal(String((await once(client, 'message'))[0]), 'echo hello')
  assert.deepEqual(pool.errors.all, [])
})
