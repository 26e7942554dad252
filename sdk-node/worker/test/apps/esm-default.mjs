// An app of modules that nobody preloaded anything for: it imports the package, and `cluster` as a whole.

import sdk from '../../index.mjs'
import cluster from 'node:cluster'
import { createServer } from 'node:http'

const server = createServer((req, res) => res.end('esm')).listen(0, () => {
  console.log(JSON.stringify({ event: 'listening', pid: process.pid, port: server.address().port, isWorker: cluster.isWorker, workerId: cluster.worker.id, id: sdk.id }))
})
