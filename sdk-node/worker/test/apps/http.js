'use strict'
// A plain HTTP server. What it prints is what the tests wait for.

const http = require('node:http')

const say = (event, facts) => console.log(JSON.stringify({ event, pid: process.pid, ...facts }))

const server = http.createServer(async (req, res) => {
  const { pathname, searchParams } = new URL(req.url, 'http://test')
  say('request', { pathname })
  let length = 0
  switch (pathname) {
    case '/wait': // until POST /go
      return process.once('go', () => respond(res, 'waited'))
    case '/go':
      process.emit('go')
      return respond(res, 'gone')
    case '/head-first': // the head now, the body at POST /go
      res.writeHead(200, { 'content-length': 4 }).write('bo')
      return process.once('go', () => res.end('dy'))
    case '/explicit':
      res.setHeader('Connection', 'keep-alive')
      return respond(res, 'explicit')
    case '/written': // writeHead is called at once, and nothing is sent before /go
      res.writeHead(200, { 'content-length': 7 })
      return process.once('go', () => res.end('written'))
    case '/later': // in one and a half seconds
      return setTimeout(respond, 1500, res, 'later')
    case '/accept': // answers first, and reads the body then
      respond(res, 'accepted')
      return req.on('data', (chunk) => (length += chunk.length)).on('end', () => say('read', { length }))
    case '/early': // answers without reading the body
      return respond(res, 'early')
    case '/restart': {
      const sent = process.send({ event: 'request-restart', reason: searchParams.get('reason') }, (error) => respond(res, `${sent} ${error?.code ?? error}`))
      return
    }
    case '/leave':
      require('node:cluster').worker.disconnect()
      return respond(res, 'leaving')
    case '/disconnect':
      process.disconnect()
      return respond(res, 'disconnecting')
    default: {
      let body = ''
      for await (const chunk of req) body += chunk
      respond(res, body || 'hello')
    }
  }
})

if (process.env.KEEP_ALIVE_MS) server.keepAliveTimeout = Number(process.env.KEEP_ALIVE_MS)

// The worker object, which the preload has left here; apps require it by name.
process[Symbol.for('dutch-master-worker')]?.on('disconnect', ({ reason, deadline }) => {
  say('order', { reason, leftMs: deadline - Date.now() })
  if (process.env.CLOSE_AT_ORDER) setImmediate(() => server.close())
  if (process.env.BLOCK_UNTIL) while (!require('node:fs').existsSync(process.env.BLOCK_UNTIL));
})
if (process.env.HOLD) setInterval(() => {}, 60_000) // as a database client would

server.on('connection', () => say('connection'))
server.on('close', () => say('close'))
process.on('disconnect', () => say('disconnect', { connected: process.connected, exitedAfterDisconnect: require('node:cluster').worker?.exitedAfterDisconnect }))
process.on('exit', (code) => say('exit', { code }))
server.listen(process.env.PORT ?? 0, process.env.HOST, () => say('listening', { port: server.address().port, id: require('node:cluster').worker?.id }))

function respond(res, text) {
  res.setHeader('content-length', Buffer.byteLength(text))
  res.end(text)
}
