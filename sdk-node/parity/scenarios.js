'use strict'
// What every kind of system does alike: `options` of the master and `env` of the workers, then `run` with a system that was just started, and a function that makes clients.

const assert = require('node:assert/strict')
const { join } = require('node:path')
const { bounded } = require('../test-support.js')
const { Load } = require('../under-load/load.js')
const { restartWithOpenRequests } = require('../under-load/restart.js')

/** What GET / answers: the worker's id and pid. */
const HOME = /^worker \d+, pid \d+$/

/** Requests that succeed before and after what happens under load. */
const OK_BETWEEN = 50

/** Slower than a worker needs to start, and long enough to be seen. */
const SLOW_START_MS = 1_000

const SCENARIOS = {
  'start: the first workers are 1 and 2, and share the port': {
    async run({ system, connect }) {
      assert.equal((await system.logs('Starting cluster')).numWorkers, 2)
      assert.equal((await system.logs('Cluster ready')).workers, 2)
      const seen = new Set()
      while (seen.size < 2) seen.add(await whoAnswers(connect))
      assert.deepEqual([...seen].sort(), [1, 2])
      assert.equal(await system.stop(), 0)
    },
  },

  'restart under load: no request fails, also those that are open at the order to go': {
    options: { settleTime: 2_000 },
    async run({ system, connect }) {
      await system.logs('Cluster ready')
      await underLoad(connect, async (load) => {
        const restarts = await restartWithOpenRequests(system, connect)
        await load.awaitOk(OK_BETWEEN)
        await system.logs('Restart complete', ({ generation }) => generation === 1 + restarts)
        assert.deepEqual([...system.running()].sort((a, b) => a - b), [2 * restarts + 1, 2 * restarts + 2])
      })
      assert.equal(await system.stop(), 0)
    },
  },

  'request-restart with a long request open: it completes, while the replacement serves': {
    options: { numWorkers: 1 },
    async run({ system, connect }) {
      await system.logs('Cluster ready')
      const long = connect({ keepAlive: true })
      let isOpen = true
      const answer = bounded(long.request({ path: '/slow' }), 'the long response').finally(() => (isOpen = false))
      assert.equal((await connect({ keepAlive: false }).request({ method: 'POST', path: '/restart' })).status, 200)
      assert.equal((await system.logs('Worker dying')).workerId, 1)
      assert.equal((await system.logs('Replacement worker available - disconnecting')).reason, 'request')
      // An old worker accepts until the order has reached it.
      while ((await whoAnswers(connect)) !== 2);
      assert.ok(isOpen, 'the long request is still open')
      system.release()
      assert.equal((await answer).body.toString(), 'slow')
      assert.equal((await system.logs('Worker exited')).workerId, 1)
      assert.equal(await system.stop(), 0)
    },
  },

  'three request-restarts in a row: one replacement each, however often it is asked for': {
    options: { numWorkers: 1 },
    async run({ system, connect }) {
      await system.logs('Cluster ready')
      for (let id = 1; id <= 3; id++) {
        await connect({ keepAlive: false }).request({ method: 'POST', path: '/restart?times=3' })
        assert.equal((await system.logs('Worker dying')).workerId, id)
        await system.logs('Worker exited', ({ workerId }) => workerId === id)
      }
      assert.deepEqual([...system.running()], [4])
      assert.equal(system.count('Creating new worker'), 1 + 3)
      assert.equal(await system.stop(), 0)
    },
  },

  'crash: replaced at once, and connections that nobody had accepted are served': {
    async run({ system, connect }) {
      await system.logs('Cluster ready')
      const crashing = connect({ keepAlive: false })
      await assert.rejects(crashing.request({ method: 'POST', path: '/crash' }), { code: 'ECONNRESET' })
      const exit = await system.logs('Worker exited')
      assert.equal(exit.code, 7)
      await Promise.all(Array.from({ length: 20 }, () => whoAnswers(connect)))
      assert.equal((await system.logs('Worker listening', ({ workerId }) => workerId === 3)).workerId, 3)
      assert.equal(system.running().size, 2)
      assert.equal(await system.stop(), 0)
    },
  },

  'crash of the only worker: connections wait for its replacement': {
    options: { numWorkers: 1 },
    env: () => ({ START_MS: String(SLOW_START_MS) }),
    async run({ system, connect }) {
      await system.logs('Cluster ready')
      await assert.rejects(connect({ keepAlive: false }).request({ method: 'POST', path: '/crash' }), { code: 'ECONNRESET' })
      await system.logs('Worker exited')
      assert.deepEqual(await Promise.all([1, 2, 3, 4, 5].map(() => whoAnswers(connect))), [2, 2, 2, 2, 2])
      assert.equal(await system.stop(), 0)
    },
  },

  'slow start: no worker is told to go before its replacement serves': {
    env: () => ({ START_MS: String(SLOW_START_MS) }),
    async run({ system, connect }) {
      await system.logs('Cluster ready')
      await underLoad(connect, async (load) => {
        system.restart()
        await system.logs('Restart complete')
        for (let n = 0; n < 2; n++) await system.logs('Worker exited')
        await load.awaitOk(OK_BETWEEN)
      })
      assert.ok(leastRunning(system.log.all) >= 2)
      assert.equal(await system.stop(), 0)
    },
  },

  'first start fails once: it is tried again': {
    env: (dir) => ({ FAIL_ONCE: join(dir, 'failed') }),
    async run({ system, connect }) {
      assert.equal((await system.logs('Worker exited')).code, 1)
      await system.logs('Cluster ready')
      assert.equal(system.count('Creating new worker'), 3)
      await whoAnswers(connect)
      assert.equal(await system.stop(), 0)
    },
  },

  'stop: what is open is finished, what is new is refused': {
    async run({ system, connect }) {
      await system.logs('Cluster ready')
      const long = connect({ keepAlive: true })
      const answer = bounded(long.request({ path: '/slow' }), 'the long response')
      await whoAnswers(connect)
      const stopped = system.stop()
      await system.logs('Shutdown requested')
      await refused(connect)
      system.release()
      assert.equal((await answer).body.toString(), 'slow')
      assert.equal(await stopped, 0)
      for (const exit of system.log.all.filter(({ msg }) => msg === 'Worker exited')) assert.notEqual(exit.signal, 'SIGKILL')
    },
  },
}

/** Load from before `run` until after it: no request fails. */
async function underLoad(connect, run) {
  const load = new Load(connect, HOME)
  try {
    await load.awaitOk(OK_BETWEEN)
    await run(load)
  } finally {
    await load.stop()
  }
  assert.deepEqual(load.failures, [])
  assert.equal(load.ok, load.sent)
}

/** The id of the worker that answers on a new connection. */
async function whoAnswers(connect) {
  const client = connect({ keepAlive: false })
  const { status, body } = await bounded(client.request({}), 'an answer')
  assert.equal(status, 200)
  return Number(/^worker (\d+)/.exec(body)[1])
}

/** Waits until new connections are refused: workers close their copies of the listener one after the other, and one that comes while the last does so is reset. */
async function refused(connect) {
  for (let code; code !== 'ECONNREFUSED'; ) {
    code = await whoAnswers(connect).then(() => undefined, (error) => error.code)
    assert.ok([undefined, 'ECONNREFUSED', 'ECONNRESET'].includes(code), code)
  }
}

/** The fewest workers that served after the pool was complete, as the log tells. */
function leastRunning(log) {
  let [running, least] = [0, Infinity]
  let isComplete = false
  for (const { msg } of log) {
    if (msg === 'Worker listening') running++
    if (msg === 'Replacement worker available - disconnecting') running--
    isComplete ||= msg === 'Cluster ready'
    if (isComplete) least = Math.min(least, running)
  }
  return least
}

module.exports = { SCENARIOS }
