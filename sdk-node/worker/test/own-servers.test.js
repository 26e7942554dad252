'use strict'
// Servers that bypass the master by `exclusive`, `reusePort` or a handle of the app's are drained like all others, and nobody else accepts for them.

const assert = require('node:assert/strict')
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { dirname, join } = require('node:path')
const { test } = require('node:test')
const { start, Client, SDK } = require('./harness.js')

const OWN = `
  const worker = require(process.env.SDK)
  const cluster = require('cluster')
  process.on('disconnect', () => say('disconnect'))
  const own = require('http').createServer((req, res) => {
    say('request', { url: req.url })
    if (req.url === '/wait') process.once('go', () => res.setHeader('content-length', 6).end('waited'))
    else res.setHeader('content-length', 2).end('ok')
  })
  own.on('connection', () => say('connection'))
  own.on('close', () => say('close'))
  worker.on('disconnect', () => {
    say('order')
    if (process.env.BLOCK_UNTIL) while (!require('fs').existsSync(process.env.BLOCK_UNTIL));
    setTimeout(() => process.emit('go'), 100)
  })
  require('http').createServer().listen(0, () => LISTEN)`

async function running(t, listen, env = {}) {
  const pool = start(t, 'script.js', { env: { SDK, ...env, SCRIPT: OWN.replace('LISTEN', () => listen) } })
  return { pool, ...(await pool.hears('facts')) }
}

const FACTS = `() => say('facts', { port: own.address().port })`
const EXCLUSIVE = `own.listen({ port: 0, host: '127.0.0.1', exclusive: true }, ${FACTS})`

for (const [name, listen] of [
  ['exclusive', EXCLUSIVE],
  ['a handle', `{ const { TCP, constants } = process.binding('tcp_wrap'); const handle = new TCP(constants.SERVER); handle.bind('127.0.0.1', 0); own.listen(handle, ${FACTS}) }`],
]) {
  test(`${name}: a request in flight is finished, an idle connection served once more, and then it is closed`, async (t) => {
    const { pool, port, pid } = await running(t, listen)
    const waiting = await Client.connect(t, port)
    waiting.get('/wait')
    await pool.said.find(({ url }) => url === '/wait')
    const idle = await Client.connect(t, port)
    assert.equal((await idle.get('/').response()).connection, 'keep-alive')
    pool.restart()
    await pool.said.find((line) => line.event === 'order' && line.pid === pid)
    assert.deepEqual(await waiting.response(), { status: 200, connection: 'close', body: 'waited' })
    assert.equal((await idle.get('/').response()).connection, 'close')
    assert.deepEqual([await waiting.ended, await idle.ended], ['end', 'end'])
    await pool.said.find((line) => line.event === 'close' && line.pid === pid)
    await pool.said.find((line) => line.event === 'disconnect' && line.pid === pid)
    assert.ok(!pool.errors.all.some((line) => /did not end in time/.test(line)))
  })
}

for (const [name, listen] of [
  ['exclusive', EXCLUSIVE],
  ['exclusive after the master refused', `own.once('error', () => ${EXCLUSIVE}).listen(1, '192.0.2.1')`],
]) {
  test(`${name}: what waits in its queue at the order is served, whatever the reason`, async (t) => {
    const gate = join(mkdtempSync(join(tmpdir(), 'dm-gate-')), 'open')
    t.after(() => rmSync(dirname(gate), { recursive: true }))
    const { pool, port, pid } = await running(t, listen, { BLOCK_UNTIL: gate })
    pool.restart()
    await pool.said.find((line) => line.event === 'order' && line.pid === pid)
    const waiting = await Promise.all(Array.from({ length: 30 }, () => Client.connect(t, port)))
    writeFileSync(gate, '')
    const answers = await Promise.all(waiting.map((client) => client.get('/').response()))
    assert.deepEqual(new Set(answers.map(({ status, connection }) => `${status} ${connection}`)), new Set(['200 close']))
  })
}
