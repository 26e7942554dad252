'use strict'
// A worker that is not preloaded, because a wrapper starts node: `require('dutch-master-worker')` does the same.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { join } = require('node:path')
const { test } = require('node:test')
const { start, Client, SDK } = require('./harness.js')

const SERVE = `
  process.on('disconnect', () => say('disconnect', { exitedAfterDisconnect: cluster.worker.exitedAfterDisconnect }))
  cluster.worker.on('disconnect', () => say('worker disconnect'))
  const server = require('http').createServer((req, res) => res.end(String(process.pid)))
  server.listen(0, () => say('facts', { isWorker: cluster.isWorker, isPrimary: cluster.isPrimary, id: cluster.worker.id, api: worker.id, port: server.address().port }))`

function wrapped(t, script, app = 'script.js') {
  return start(t, 'wrapped.sh', { env: { NODE: process.execPath, APP: join(__dirname, 'apps', app), SCRIPT: script, SDK } })
}

for (const [name, script] of [
  ['required first', `const worker = require(process.env.SDK); const cluster = require('cluster'); ${SERVE}`],
  ['required after cluster', `const cluster = require('cluster'); const worker = require(process.env.SDK); ${SERVE}`],
]) {
  test(`${name}, it makes the process a cluster worker that serves, is replaced and drains`, async (t) => {
    const pool = wrapped(t, script)
    const said = await pool.hears('facts')
    assert.deepEqual(said, { ...said, isWorker: true, isPrimary: false, id: 1, api: 1 })
    const client = await Client.connect(t, said.port)
    assert.equal((await client.get('/').response()).body, String(said.pid))
    pool.restart()
    await pool.said.find(({ event, pid }) => event === 'facts' && pid !== said.pid, 'the replacement')
    let answer
    do answer = await client.get('/').response()
    while (answer.connection !== 'close')
    assert.equal(answer.body, String(said.pid))
    await pool.said.find(({ event, pid }) => event === 'disconnect' && pid === said.pid, 'disconnect')
    assert.equal((await pool.said.find(({ event, pid }) => event === 'disconnect' && pid === said.pid)).exitedAfterDisconnect, true)
    await pool.said.find(({ event, pid }) => event === 'worker disconnect' && pid === said.pid, 'disconnect of cluster.worker')
    await pool.log.find((line) => line.msg === 'Worker exited')
  })
}

test('required after cluster, it says what is better, and every form of listen works', async (t) => {
  const pool = wrapped(t, `
    const cluster = require('cluster')
    require(process.env.SDK)
    const { once } = require('events')
    const servers = [require('http').createServer().listen(0), require('net').createServer().listen(0), require('net').createServer().listen('late.sock')]
    await Promise.all(servers.map((server) => once(server, 'listening')))
    const port = servers[0].address().port
    require('net').createServer().on('error', ({ code }) => say('facts', { code })).listen(port)`)
  assert.equal((await pool.hears('facts')).code, 'EADDRINUSE')
  await pool.complains(/cluster.* was loaded before/)
})

test('an app of modules that imports the package is a worker', async (t) => {
  const pool = wrapped(t, '', 'esm-default.mjs')
  const said = await pool.hears('listening')
  assert.deepEqual([said.isWorker, said.workerId, said.id], [true, 1, 1])
  assert.equal(await (await fetch(`http://127.0.0.1:${said.port}/`)).text(), 'esm')
})

test('a second process or thread with the same environment does not become the worker too', async (t) => {
  const pool = wrapped(t, `
    const copy = { ...process.env }
    require(process.env.SDK).ready()
    const thread = new (require('worker_threads').Worker)('require("worker_threads").parentPort.postMessage(require(process.env.SDK).standalone)', { eval: true, env: copy })
    thread.once('message', (standalone) => say('thread', { standalone }))
    const child = require('child_process').spawn(process.execPath, ['-e', 'require(process.env.SDK); setTimeout(() => {}, 60000)'], { env: copy, stdio: ['ignore', 'ignore', 'pipe'] })
    let errors = ''
    child.stderr.on('data', (text) => errors += text)
    child.on('close', (code) => say('child', { code, errors }))`)
  assert.equal((await pool.hears('thread')).standalone, true)
  const { code, errors } = await pool.hears('child')
  assert.equal(code, 1)
  assert.match(errors, /cannot become a worker/)
})
