'use strict'
// `node cluster.js N rr|none SCRIPT`: the script under Node's own cluster, to compare with. SIGUSR2: one after the other is replaced, as Node's documentation shows it: the old one disconnects when the new one listens, and is killed if it is still there after 2 s, since clients that keep a connection busy keep it there for ever.

const cluster = require('node:cluster')
const { once } = require('node:events')

const KILL_MS = 2_000

const [count, policy, exec] = process.argv.slice(2)
cluster.schedulingPolicy = policy === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR
cluster.setupPrimary({ exec, args: [] })
for (let n = 0; n < Number(count); n++) cluster.fork()

let restarts = Promise.resolve()
process.on('SIGUSR2', () => (restarts = restarts.then(restart)))

async function restart() {
  for (const old of Object.values(cluster.workers)) {
    await once(cluster.fork(), 'listening')
    const kill = setTimeout(() => old.kill(), KILL_MS)
    old.disconnect()
    await once(old, 'exit')
    clearTimeout(kill)
  }
}
