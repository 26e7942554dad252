'use strict'
// Fastify 5 on `localhost`, which has two addresses: it makes a server for each. Many systems have only one, so the name is answered here.

const dns = require('node:dns')
const fastify = require('fastify')
const slow = require('../slow.js')

const { lookup } = dns
const ADDRESSES = [{ address: '127.0.0.1', family: 4 }, { address: '127.0.0.2', family: 4 }]

dns.lookup = (name, options, callback = options) => {
  if (name !== 'localhost') return lookup(name, options, callback)
  process.nextTick(() => (options.all ? callback(null, ADDRESSES) : callback(null, ADDRESSES[0].address, 4)))
}

const app = fastify()
app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (request, body, done) => done(null, body))
app.get('/', async () => `hello from Fastify, pid ${process.pid}`)
app.get('/slow', (request) => slow(request.query.ms))
app.post('/echo', async (request) => request.body)
app.listen({ port: Number(process.env.PORT), host: 'localhost' })
