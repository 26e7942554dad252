'use strict'
// Socket.IO over the transport WebSocket. When this worker is told to go, its clients are asked to come again when they have nothing open; that is what the event `draining` is for.

const cluster = require('node:cluster')
const http = require('node:http')
const { Server } = require('socket.io')
const handler = require('../handler.js')
const slow = require('../slow.js')

const server = http.createServer(handler('Socket.IO'))
const io = new Server(server, { transports: ['websocket'], serveClient: false })
io.on('connection', (socket) => {
  socket.on('home', (answer) => answer('hello from Socket.IO'))
  socket.on('slow', (ms, answer) => slow(ms).then(answer))
  socket.on('echo', (body, answer) => answer(body))
  const comeAgain = () => socket.emit('come again')
  // A client may just have come when the order does.
  if (cluster.worker?.exitedAfterDisconnect) comeAgain()
  else socket.request.socket.once('draining', comeAgain)
})
server.listen(Number(process.env.PORT), '127.0.0.1')
