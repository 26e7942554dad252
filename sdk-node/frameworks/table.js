'use strict'
// The frameworks: each has an app in the folder of its name, or `worker` names what is run; `clients` are those under load, HTTP/1 where nothing else is said. `isHeavy`: only in `make test-all`.

const { existsSync } = require('node:fs')
const { join } = require('node:path')
const { Http1Client } = require('../under-load/http1.js')
const { Http2Client } = require('../under-load/http2.js')

const http1 = (where) => (system, mode) => new Http1Client({ port: system.port, ...where }, mode)
const http2 = (where) => (system, mode) => new Http2Client({ port: system.port, ...where }, mode)

/** Each client has the next of these addresses. */
function inTurn(...hosts) {
  let n = 0
  return (system, mode) => new Http1Client({ port: system.port, host: hosts[n++ % hosts.length] }, mode)
}

const FRAMEWORKS = {
  'express-4': { package: 'express' },
  'express-5': { package: 'express' },
  fastify: { package: 'fastify', clients: inTurn('127.0.0.1', '127.0.0.2'), note: 'two addresses for `localhost`' },
  koa: { package: 'koa' },
  hapi: { package: '@hapi/hapi' },
  'socket.io': { package: 'socket.io', clients: (system, mode) => new (require('./socket.io/client.js').SocketIoClient)(system, mode), careful: http1(), note: 'WebSockets under load' },
  https: { clients: http1({ secure: true }) },
  http2: { clients: http2({ secure: true }), note: 'over TLS' },
  h2c: { clients: http2() },
  nest: { package: '@nestjs/core', worker: 'app.mjs', isHeavy: true, note: 'on Express; a module' },
  next: { package: 'next', worker: '.next/standalone/server.js', env: { HOSTNAME: '127.0.0.1' }, isHeavy: true, note: 'standalone output' },
}

/** The table with everything filled in. `version` is that of the package, or undefined where it is not installed. */
function frameworks() {
  return Object.entries(FRAMEWORKS).map(([name, { package: of, worker = 'app.js', clients = http1(), careful = clients, ...rest }]) => {
    const manifest = of && join(__dirname, name, 'node_modules', of, 'package.json')
    const isInstalled = !manifest || existsSync(manifest)
    return { name, worker: join(__dirname, name, worker), clients, careful, isInstalled, version: manifest && isInstalled ? require(manifest).version : undefined, ...rest }
  })
}

module.exports = { frameworks }
