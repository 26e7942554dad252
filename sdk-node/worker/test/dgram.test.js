'use strict'
// Datagram sockets are shared by the pool, as cluster shares them.

const assert = require('node:assert/strict')
const dgram = require('node:dgram')
const { once } = require('node:events')
const { test } = require('node:test')
const { start } = require('./harness.js')

const ECHO = `
  socket.on('message', (message, { port, address }) => socket.send('echo ' + message, port, address))
  socket.on('error', ({ code, syscall, address, port }) => say('error', { code, syscall, address, port }))
  process[Symbol.for('dutch-master-worker')].ready()`

/** Workers that bind a datagram socket and say where. */
function echo(t, type, bind, options) {
  return start(t, 'script.js', { ...options, env: { SCRIPT: `const socket = require('dgram').createSocket('${type}')\n${ECHO}\nsocket.bind(${bind}, () => say('facts', socket.address()))` } })
}

async function answer(t, type, port, host) {
  const client = dgram.createSocket(type)
  t.after(() => client.close())
  client.send('hello', port, host)
  return String((await once(client, 'message'))[0])
}

for (const [type, host] of [['udp4', '127.0.0.1'], ['udp6', '::1']]) {
  test(`${type}: every worker has the same random port, and who reads first answers`, async (t) => {
    const pool = echo(t, type, `0, '${host}'`, { workers: 2 })
    const first = await pool.hears('facts')
    const second = await pool.said.find(({ event, pid }) => event === 'facts' && pid !== first.pid)
    assert.equal(second.port, first.port)
    assert.equal(await answer(t, type, first.port, host), 'echo hello')
    assert.deepEqual(pool.errors.all, [])
  })
}

test('a port that another process has is an error event as Node has it', async (t) => {
  const other = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(other, 'listening')
  t.after(() => other.close())
  const { port } = other.address()
  const pool = echo(t, 'udp4', `${port}, '127.0.0.1'`)
  const said = await pool.hears('error')
  assert.deepEqual(said, { ...said, code: 'EADDRINUSE', syscall: 'bind', address: '127.0.0.1', port })
})

test('exclusive bypasses the master: the second worker gets EADDRINUSE', async (t) => {
  const free = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(free, 'listening')
  const { port } = free.address()
  await new Promise((resolve) => free.close(resolve))
  const pool = echo(t, 'udp4', `{ port: ${port}, address: '127.0.0.1', exclusive: true }`, { workers: 2 })
  assert.equal((await pool.hears('error')).code, 'EADDRINUSE')
  assert.equal((await pool.hears('facts')).port, port)
})

test('a socket that was closed can be bound again, and is closed when the worker goes', async (t) => {
  const pool = start(t, 'script.js', { env: { SCRIPT: `
    const dgram = require('dgram')
    const first = dgram.createSocket('udp4').bind(0, '127.0.0.1', () => {
      const { port } = first.address()
      first.close(() => {
        const second = dgram.createSocket('udp4').bind(port, '127.0.0.1', () => say('facts', { same: second.address().port === port }))
        second.on('close', () => say('close'))
      })
    })` } })
  assert.equal((await pool.hears('facts')).same, true)
  pool.stop()
  await pool.hears('close')
  assert.equal(await pool.exits(), 0)
})
