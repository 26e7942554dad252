'use strict'
// The Node worker of the parity suite, which knows nothing of a master; `tests/src/bin/parity-worker.rs` is the same in Rust.

const { closeSync, existsSync, openSync } = require('node:fs')
const http = require('node:http')
const cluster = require('node:cluster')

const { FAIL_ONCE, PORT, RELEASE, START_MS } = process.env

/** How often it is looked whether a slow response may go on. */
const LOOK_MS = 20

// Of all workers that start at the same time one makes the file.
if (FAIL_ONCE && isFirst()) process.exit(1)

const routes = {
  'GET /': (request, response) => response.end(`worker ${cluster.worker?.id ?? 0}, pid ${process.pid}`),
  'GET /slow': slow,
  'POST /echo': (request, response) => request.pipe(response),
  'POST /restart': (request, response) => {
    for (let n = 0; n < Number(query(request, 'times') ?? 1); n++) process.send({ event: 'request-restart', reason: 'asked for' })
    response.end()
  },
  'POST /crash': () => process.exit(7),
}

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost')
  routes[`${request.method} ${pathname}`](request, response)
})
setTimeout(() => server.listen(Number(PORT), '127.0.0.1'), Number(START_MS ?? 0))

function slow(request, response) {
  const ms = query(request, 'ms')
  const look = () => (ms || existsSync(RELEASE) ? response.end('slow') : setTimeout(look, LOOK_MS))
  setTimeout(look, Number(ms ?? 0))
}

function query(request, name) {
  return new URL(request.url, 'http://localhost').searchParams.get(name)
}

function isFirst() {
  try {
    closeSync(openSync(FAIL_ONCE, 'wx'))
    return true
  } catch {
    return false
  }
}
