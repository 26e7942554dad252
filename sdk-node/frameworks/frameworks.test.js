'use strict'
// Real frameworks under the real master, with the Node that runs this: restarts under load by clients that never retry fail no request, and none of those that are open at the order to go.
// `FRAMEWORKS_ALL=1`: the heavy ones, too, and more restarts. `FRAMEWORKS_RESULTS=FILE`: a line of JSON for each is appended there.

const assert = require('node:assert/strict')
const { appendFileSync } = require('node:fs')
const { join } = require('node:path')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { bounded } = require('../test-support.js')
const { Http1Client } = require('../under-load/http1.js')
const { Load } = require('../under-load/load.js')
const { restartWithOpenRequests } = require('../under-load/restart.js')
const { launch, native } = require('../under-load/system.js')
const { frameworks } = require('./table.js')

const { FRAMEWORKS_ALL, FRAMEWORKS_RESULTS } = process.env
const RESTARTS = FRAMEWORKS_ALL ? 3 : 1

/** Requests that succeed before each restart and after the last one. */
const OK_BETWEEN = 50

/** Requests of the careful clients in each restart, at least. */
const CAREFUL = 8

/** What all of them answer to GET /. */
const HOME = /hello/

/** The most addresses that one of them has; its clients take them in turn. */
const ADDRESSES_MAX = 2

/** How soon an address that nobody serves yet is tried again. */
const RETRY_MS = 10

/** How many restarts the control may need until a request fails. */
const CONTROLS_MAX = 10

/** The framework with two workers, and a function that makes functions that make clients of it. */
async function started(t, { worker, env }) {
  const system = await launch(t, native(worker, ['--num-workers', '2']), () => env ?? {})
  await system.logs('Cluster ready')
  const opened = []
  const connecting = (clients) => (mode) => {
    const client = clients(system, mode)
    opened.push(client)
    return client
  }
  t.after(() => opened.forEach((client) => client.close()))
  return { system, connecting }
}

/** A worker counts as one that listens when its first server does; a second address may follow. */
async function isServed(client) {
  for (;;) {
    try {
      return await client.request({})
    } catch (error) {
      if (error.code !== 'ECONNREFUSED') throw error
      await sleep(RETRY_MS)
    }
  }
}

/** Load that ends with the test, however that ends. */
function loading(t, connect, how) {
  const load = new Load(connect, HOME, how)
  t.after(() => load.stop())
  return load
}

/** Tells what came of the load, and of requests of careful clients beside it, and keeps it where somebody wants that. */
function keep(t, name, { sent, refused, failures }, restarts, careful = 0) {
  const result = { name, nodeVersion: process.versions.node, restarts, requests: sent + careful, failed: failures.length, refused }
  t.diagnostic(JSON.stringify(result))
  if (FRAMEWORKS_RESULTS) appendFileSync(FRAMEWORKS_RESULTS, `${JSON.stringify(result)}\n`)
}

// Two at a time: each waits most of its time for new workers to last.
describe('frameworks', { concurrency: 2 }, () => {
  for (const framework of frameworks()) {
    const { name, clients, careful, isHeavy, isInstalled, version } = framework
    const missing = !isInstalled && `not installed: run npm ci in sdk-node/frameworks/${name}`
    // Where all were asked for, one that is not there is a failure: a matrix with holes must not pass.
    const skip = FRAMEWORKS_ALL ? false : missing || (isHeavy && 'only in make test-all')
    test(`${name} ${version ?? `of Node ${process.versions.node}`}`, { skip }, async (t) => {
      if (missing) assert.fail(missing)
      const { system, connecting } = await started(t, framework)
      for (let n = 0; n < ADDRESSES_MAX; n++) await bounded(isServed(connecting(careful)()), 'an answer at every address')
      const load = loading(t, connecting(clients))
      for (let n = 0; n < RESTARTS; n++) {
        await load.awaitOk(OK_BETWEEN)
        await restartWithOpenRequests(system, connecting(careful))
      }
      await load.awaitOk(OK_BETWEEN)
      await load.stop()
      keep(t, name, load, RESTARTS, CAREFUL * RESTARTS)
      assert.deepEqual(load.failures, [])
      assert.equal(await system.stop(), 0)
    })
  }
})

test('control: of a server that closes idle connections at once, the same clients see requests fail', async (t) => {
  const { system, connecting } = await started(t, { worker: join(__dirname, 'naive/app.js') })
  const connect = connecting((system, mode) => new Http1Client(system, mode))
  await assert.rejects(restartWithOpenRequests(system, connect), ({ code, message }) => code === 'ECONNRESET' || /a POST on a connection that was idle at the order to go/.test(message))
  system.release()
  const load = loading(t, connect, { keepAlive: 30, perRequest: 0, thinkMs: 10 })
  let restarts = 0
  for (; restarts < CONTROLS_MAX && load.failures.length === 0; restarts++) {
    await load.awaitOk(OK_BETWEEN)
    system.restart()
    await system.logs('Restart complete')
  }
  await load.stop()
  keep(t, 'control', load, restarts)
  t.diagnostic(load.failures[0])
  assert.ok(load.failures.length > 0)
})
