'use strict'
// Hapi.

const hapi = require('@hapi/hapi')
const slow = require('../slow.js')

const server = hapi.server({ port: Number(process.env.PORT), host: '127.0.0.1' })
server.route([
  { method: 'GET', path: '/', handler: () => `hello from Hapi, pid ${process.pid}` },
  { method: 'GET', path: '/slow', handler: (request) => slow(request.query.ms) },
  { method: 'POST', path: '/echo', options: { payload: { parse: false, output: 'data' } }, handler: (request) => request.payload },
])
server.start()
