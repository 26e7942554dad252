'use strict'
// A plain HTTP server that names its process: under a master or Node's cluster, or on a listener that it inherited as standard input (`node hello.js` with a socket there).

const fs = require('node:fs')
const http = require('node:http')
const cluster = require('node:cluster')

const body = 'hello\n'
const headers = { 'Content-Type': 'text/plain', 'Content-Length': body.length, 'x-worker': String(process.pid) }
const server = http.createServer((request, response) => response.writeHead(200, headers).end(body))

server.listen(cluster.isWorker ? { host: '127.0.0.1', port: 0 } : { fd: 0 }, () => {
  const line = `ready ${process.pid} ${process.hrtime.bigint()} ${server.address().port}\n`
  if (process.env.BENCH_REPORTS) fs.writeFileSync(process.env.BENCH_REPORTS, line)
})
