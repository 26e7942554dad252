'use strict'
// One rolling restart, seen by careful clients whose connections are with one old worker: a POST in flight, a slow response, and an idle keep-alive connection.

const assert = require('node:assert/strict')
const { randomBytes } = require('node:crypto')
const { setTimeout: sleep } = require('node:timers/promises')
const { bounded } = require('../test-support.js')

/** How often a connection that shall be idle later is used until then: more often than servers let one be idle. */
const KEEP_MS = 500

/** How many connections are tried until all are with one worker. */
const TRIES_MAX = 200

/** How many restarts there are at most until a connection was idle in time: a machine that is busy may let the order to go come first. */
const RESTARTS_MAX = 5

/**
 * Restarts `system`; `connect` makes a client, and a GET of / answers with the worker's pid. The order to go must come a while after the first new worker listens (`--settle-time`), so that the idle connection is idle by then.
 * Done when every old worker is gone. Returns how many restarts it took until that connection was idle in time.
 */
async function restartWithOpenRequests(system, connect) {
  for (let restarts = 1; restarts <= RESTARTS_MAX; restarts++) if (await restartOnce(system, connect)) return restarts
  assert.fail(`${RESTARTS_MAX} restarts, and each time the order to go came before the connection was idle`)
}

/** Returns whether there was an idle connection at the order to go. */
async function restartOnce(system, connect) {
  const [posting, waiting, idle, witness] = await withOneWorker(connect, 4)
  const old = system.running()
  system.hold()
  const body = randomBytes(4096)
  let goOn
  const paused = new Promise((resolve) => (goOn = resolve))
  const post = posting.request({ method: 'POST', path: '/echo', body, paused })
  const slow = waiting.request({ path: '/slow' })
  // Awaited below; until then no failure of theirs is one that nobody handles.
  for (const early of [post, slow]) early.catch(() => {})
  system.restart()
  const until = kept([idle, witness])
  await system.logs('Worker listening', ({ workerId }) => !old.has(workerId))
  const wasIdle = await until.idle()
  for (const _ of old) await system.logs('Replacement worker available - disconnecting', ({ workerId }) => old.has(workerId))
  await bounded(ordered(witness), 'the order has reached the worker')
  const next = await bounded(idle.request({ method: 'POST', path: '/echo', body }), 'an answer on the idle connection')
  assert.deepEqual([next.status, next.reused || !wasIdle, next.body.equals(body)], [200, true, true], 'a POST on a connection that was idle at the order to go')
  goOn()
  const posted = await bounded(post, 'an answer to the POST in flight')
  assert.deepEqual([posted.status, posted.reused, posted.body.equals(body)], [200, true, true], 'a POST whose second half is sent after the order to go')
  system.release()
  const slept = await bounded(slow, 'the slow response')
  assert.deepEqual([slept.status, slept.reused, slept.body.includes('slow')], [200, true, true], 'a response that ends after the order to go')
  for (const client of [posting, waiting, idle, witness]) client.close()
  for (const _ of old) {
    const exit = await system.logs('Worker exited', ({ workerId }) => old.has(workerId))
    assert.notEqual(exit.signal, 'SIGKILL', 'an old worker ends in time')
  }
  return wasIdle
}

/** So many clients with open connections to the same worker. */
async function withOneWorker(connect, count) {
  const clients = []
  let worker
  for (let tries = 0; clients.length < count; tries++) {
    assert.ok(tries < TRIES_MAX, `${TRIES_MAX} connections, and not ${count} of them are with worker ${worker}`)
    const client = connect({ keepAlive: true })
    const { status, body } = await bounded(client.request({}), 'an answer')
    assert.equal(status, 200)
    const [, pid] = /pid (\d+)/.exec(body)
    worker ??= pid
    if (pid === worker) clients.push(client)
    else client.close()
  }
  return clients
}

/** Asks until the worker says that it will not answer on this connection again, or has ended it. */
async function ordered(witness) {
  for (;;) {
    const { reused, last } = await witness.request({})
    if (last || !reused) return
  }
}

/** Uses connections now and then until `idle()`, which tells whether they can be used again. */
function kept(clients) {
  const over = new AbortController()
  const using = (async () => {
    let responses = []
    while (!over.signal.aborted) {
      responses = await Promise.all(clients.map((client) => client.request({})))
      await sleep(KEEP_MS, undefined, { signal: over.signal }).catch(() => {})
    }
    return responses.every(({ last }) => !last)
  })()
  using.catch(() => {})
  return {
    idle() {
      over.abort()
      return using
    },
  }
}

module.exports = { restartWithOpenRequests }
