'use strict'
// Who the process is under a master, and that nobody else poses as it.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { start, SDK } = require('./harness.js')

async function saidBy(t, script, options) {
  const pool = start(t, 'script.js', { env: { SCRIPT: `${script}\nrequire('http').createServer().listen(0)`, SDK, ...options?.env }, ...options?.rest })
  return { pool, said: await pool.hears('facts') }
}

test('Node itself says that this is a cluster worker, with the id from the master', async (t) => {
  const script = `
    const cluster = require('cluster')
    const worker = require(process.env.SDK)
    say('facts', { isWorker: cluster.isWorker, isPrimary: cluster.isPrimary, id: cluster.worker.id, connected: process.connected, isConnected: cluster.worker.isConnected(), api: worker.id, generation: worker.generation, slot: worker.slot, standalone: worker.standalone })`
  const { said } = await saidBy(t, script)
  assert.deepEqual(said, { ...said, isWorker: true, isPrimary: false, id: 1, connected: true, isConnected: true, api: 1, generation: 1, slot: 0, standalone: false })
})

test('an app of modules imports it all by name', async (t) => {
  const pool = start(t, 'esm.mjs')
  const said = await pool.hears('listening')
  assert.deepEqual(said, { ...said, isWorker: true, workerId: 1, id: 1, generation: 1, slot: 0, standalone: false, functions: true, same: true })
  assert.equal(await (await fetch(`http://127.0.0.1:${said.port}/`)).text(), 'esm')
})

test('no child process, fork or thread inherits what it takes to pose as the worker', async (t) => {
  const script = `
    const child = "JSON.stringify([Object.keys(process.env).filter((name) => /^DUTCH_MASTER_(SOCKET|TOKEN|WORKER_ID|SLOT)$|NODE_UNIQUE_ID/.test(name)), require('cluster').isWorker])"
    const { execFileSync } = require('child_process')
    const { Worker } = require('worker_threads')
    const spawned = execFileSync(process.execPath, [...process.execArgv, '-p', child], { encoding: 'utf8' }).trim()
    const thread = new Worker('require("worker_threads").parentPort.postMessage([' + child + ', require(process.env.SDK).standalone])', { eval: true })
    thread.once('message', (message) => say('facts', { spawned, thread: message }))`
  const { said } = await saidBy(t, script)
  assert.equal(said.spawned, '[[],false]')
  const [thread, standalone] = said.thread
  assert.deepEqual([JSON.parse(thread)[0], standalone], [[], true])
})

test('two copies of the package in one process are one worker', async (t) => {
  const script = `
    const first = require(process.env.SDK)
    for (const path of Object.keys(require.cache)) if (path.startsWith(process.env.SDK)) delete require.cache[path]
    say('facts', { same: require(process.env.SDK) === first })`
  const { said } = await saidBy(t, script)
  assert.equal(said.same, true)
})

test('the process lives as long as the master wants it, though nothing else keeps it', async (t) => {
  const pool = start(t, 'script.js', { env: { SCRIPT: "process.on('exit', () => say('exit')); say('facts'); require(process.env.SDK).ready()", SDK } })
  await pool.hears('facts')
  await pool.logs('Worker listening')
  assert.ok(!pool.said.all.some(({ event }) => event === 'exit'))
  pool.stop()
  assert.equal(await pool.exits(), 0)
})
