'use strict'
// Every scenario on every kind of system, with the Node that runs this: whatever the SDK and wherever the master lives, the same is seen from outside.

const { describe, test } = require('node:test')
const { Http1Client } = require('../under-load/http1.js')
const { KINDS } = require('./kinds.js')
const { SCENARIOS } = require('./scenarios.js')

/** Where scenarios say nothing else: old workers go as soon as new ones listen. */
const OPTIONS = { numWorkers: 2, settleTime: 1 }

for (const [kind, start] of Object.entries(KINDS)) {
  describe(kind, () => {
    for (const [scenario, { options, env, run }] of Object.entries(SCENARIOS)) {
      test(scenario, async (t) => {
        const system = await start(t, { ...OPTIONS, ...options }, env)
        const clients = []
        t.after(() => clients.forEach((client) => client.close()))
        const connect = (mode) => {
          const client = new Http1Client(system, mode)
          clients.push(client)
          return client
        }
        await run({ system, connect })
      })
    }
  })
}
