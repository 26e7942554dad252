'use strict'
// `node cluster.js N rr|none`: hello.js under Node's own cluster, to compare with.

const cluster = require('node:cluster')
const path = require('node:path')

const [count, policy] = process.argv.slice(2)
cluster.schedulingPolicy = policy === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR
cluster.setupPrimary({ exec: path.join(__dirname, 'hello.js'), args: [] })
for (let n = 0; n < Number(count); n++) cluster.fork()
