'use strict'
// What the options of listen mean in a worker, in which order things are told, and what its errors look like.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { statSync } = require('node:fs')
const net = require('node:net')
const { join } = require('node:path')
const { test } = require('node:test')
const { start, freePort, SDK } = require('./harness.js')

const [major, minor] = process.versions.node.split('.').map(Number)
const HAS_REUSE_PORT = major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12)

async function worker(t, script, options) {
  const pool = start(t, 'script.js', { ...options, env: { SCRIPT: `const http = require('http'); const server = http.createServer((req, res) => res.end('ok'));\n${script}`, SDK, ...options?.env } })
  return { pool, said: await pool.hears('facts') }
}

const textAt = async (port, host = '127.0.0.1') => (await fetch(`http://${host}:${port}/`)).text()

/** The error code of a connection, or undefined. */
async function refusal(port, host) {
  const socket = net.connect({ port, host })
  const [error] = await Promise.race([once(socket, 'connect').then(() => []), new Promise((resolve) => socket.once('error', (error) => resolve([error])))])
  socket.destroy()
  return error?.code
}

test('{port, host}: a name is looked up in the worker, and the address alone listens', async (t) => {
  const port = await freePort()
  const { said } = await worker(t, `server.listen({ port: ${port}, host: 'localhost' }, () => say('facts', server.address()))`)
  assert.ok(['127.0.0.1', '::1'].includes(said.address), said.address)
  assert.equal(await textAt(port, said.family === 'IPv6' ? '[::1]' : said.address), 'ok')
})

test('listen(callback) is a random port, and the port as text is that port', async (t) => {
  const port = await freePort()
  const { said } = await worker(t, `
    const other = http.createServer()
    server.listen(() => other.listen('${port}', '127.0.0.1', () => say('facts', { random: server.address().port, port: other.address().port })))`)
  assert.ok(said.random > 0)
  assert.equal(said.port, port)
})

test('ipv6Only leaves IPv4 to others', async (t) => {
  const port = await freePort('::')
  await worker(t, `server.listen({ port: ${port}, host: '::', ipv6Only: true }, () => say('facts'))`)
  assert.equal(await textAt(port, '[::1]'), 'ok')
  assert.equal(await refusal(port, '127.0.0.1'), 'ECONNREFUSED')
})

test("backlog is the length of the master's queue, and stays so when the worker has listened", async (t) => {
  const { pool } = await worker(t, `server.listen({ port: 0, host: '127.0.0.1', backlog: 17 }, () => say('facts'))`)
  await pool.logs('Worker listening')
  assert.deepEqual((await pool.status()).listeners.map(({ backlog }) => backlog), [17])
})

test('a signal that aborts closes the server, and the port can be had again', async (t) => {
  const port = await freePort()
  const { said } = await worker(t, `
    const controller = new AbortController()
    server.listen({ port: ${port}, host: '127.0.0.1', signal: controller.signal }, () => controller.abort())
    server.once('close', () => {
      const closed = server.listening
      http.createServer((req, res) => res.end('again')).listen(${port}, '127.0.0.1', () => say('facts', { closed }))
    })`)
  assert.equal(said.closed, false)
  assert.equal(await textAt(port), 'again')
})

test('readableAll and writableAll open the file of a Unix socket to every user', async (t) => {
  const { pool } = await worker(t, `server.listen({ path: 'web.sock', readableAll: true, writableAll: true }, () => say('facts'))`)
  assert.equal(statSync(join(pool.dir, 'web.sock')).mode & 0o666, 0o666)
})

test('exclusive: the second worker gets EADDRINUSE, as with any cluster', async (t) => {
  const port = await freePort()
  const script = `
    server.on('error', ({ code, syscall }) => say('error', { code, syscall }))
    server.listen({ port: ${port}, host: '127.0.0.1', exclusive: true }, () => say('facts'))`
  const { pool, said } = await worker(t, script, { workers: 2 })
  const { code, syscall, pid } = await pool.hears('error')
  assert.deepEqual([code, syscall, pid === said.pid], ['EADDRINUSE', 'listen', false])
})

test('reusePort: each worker has a listener of its own on the port, and counts as running', { skip: !HAS_REUSE_PORT && 'this Node has no reusePort' }, async (t) => {
  const port = await freePort()
  const { pool, said } = await worker(t, `server.listen({ port: ${port}, host: '127.0.0.1', reusePort: true }, () => say('facts'))`, { workers: 2 })
  await pool.said.find(({ event, pid }) => event === 'facts' && pid !== said.pid)
  await pool.logs('Cluster ready')
  assert.equal(await textAt(port), 'ok')
  assert.deepEqual((await pool.status()).listeners, [])
})

test('several servers of one worker are told apart, and each says listening', async (t) => {
  const [one, two] = [await freePort(), await freePort()]
  const { pool } = await worker(t, `
    const other = http.createServer((req, res) => res.end('other'))
    let left = 2
    const done = () => --left || say('facts')
    server.listen(${one}, '127.0.0.1', done)
    other.listen(${two}, '127.0.0.1', done)`)
  assert.deepEqual([await textAt(one), await textAt(two)], ['ok', 'other'])
  assert.equal((await pool.status()).listeners.length, 2)
})

test("the callback comes first, then later 'listening' handlers, and the master hears of it last", async (t) => {
  const { pool, said } = await worker(t, `
    const order = []
    server.listen(0, () => {
      order.push('callback', require('cluster').worker.state)
      for (const start = Date.now(); Date.now() - start < 200; );
    })
    order.push('returned')
    server.on('listening', () => { order.push('later handler'); setImmediate(() => say('facts', { order, state: require('cluster').worker.state })) })`)
  assert.deepEqual(said.order, ['returned', 'callback', 'online', 'later handler'])
  assert.equal(said.state, 'listening')
  await pool.logs('Worker listening')
})

test('listen while it listens throws as Node does', async (t) => {
  const { said } = await worker(t, `
    server.listen(0, () => { try { server.listen(0) } catch ({ code }) { say('facts', { code }) } })`)
  assert.equal(said.code, 'ERR_SERVER_ALREADY_LISTEN')
})

test('a server that is closed before the master has answered does not listen, and holds nothing', async (t) => {
  const port = await freePort()
  const { said } = await worker(t, `
    server.listen(${port}, () => say('listening'))
    server.close()
    const later = http.createServer((req, res) => res.end('later'))
    later.on('error', () => later.listen(${port})).on('listening', () => say('facts', { first: server.listening })).listen(0, () => later.close(() => later.listen(${port})))`)
  assert.equal(said.first, false)
  assert.equal(await textAt(port), 'later')
})

test('a port that was found by listen(0) and closed can be had by its number', async (t) => {
  const { said } = await worker(t, `
    server.listen(0, () => {
      const { port } = server.address()
      server.close(() => server.on('error', ({ code }) => say('facts', { code })).listen(port, () => say('facts', { port, found: server.address().port })))
    })`)
  assert.equal(said.found, said.port)
  assert.equal(await textAt(said.port), 'ok')
})

// The error of a bind that the master did: as if Node's own primary had.
for (const [name, address, expected] of [
  ['an address that this machine does not have is EADDRNOTAVAIL', `8000, '192.0.2.1'`, { code: 'EADDRNOTAVAIL', syscall: 'bind', address: '192.0.2.1', port: 8000 }],
  ['a directory that does not exist is ENOENT', `'/nowhere/at/all.sock'`, { code: 'ENOENT', syscall: 'bind', address: '/nowhere/at/all.sock' }],
]) {
  test(name, async (t) => {
    const { said } = await worker(t, `server.on('error', ({ code, syscall, address, port, errno }) => say('facts', { code, syscall, address, port, number: typeof errno })).listen(${address})`)
    assert.deepEqual(said, { ...said, ...expected, number: 'number' })
  })
}

test('what the user of the workers may not have is EACCES', async (t) => {
  // Nobody, where the tests run as root, who may everything.
  const uid = process.getuid() === 0 ? 65_534 : undefined
  const { said } = await worker(t, `server.on('error', ({ code, syscall, address, port }) => say('facts', { code, syscall, address, port })).listen('/usr/web.sock')`, { uid })
  assert.deepEqual(said, { ...said, code: 'EACCES', syscall: 'bind', address: '/usr/web.sock' })
})

test('a bind that failed can be tried again once the port is free', async (t) => {
  const other = net.createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address()
  const { pool } = await worker(t, `
    server.on('error', ({ code }) => { say('facts', { code }); setTimeout(() => server.listen(${port}, '127.0.0.1'), 50) })
    server.on('listening', () => say('listening'))
    server.listen(${port}, '127.0.0.1')`)
  other.close()
  await pool.hears('listening')
  assert.equal(await textAt(port), 'ok')
})
