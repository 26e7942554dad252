'use strict'
// The control: Node's http, ended by `server.close()` as people end it without the SDK, which closes idle connections at once. The SDK keeps it from doing so: what Node does is called by its name.

const http = require('node:http')
const handler = require('../handler.js')

const server = http.createServer(handler('a server that closes'))
server.listen(Number(process.env.PORT), '127.0.0.1')
process[Symbol.for('dutch-master-worker')].on('disconnect', () => http.Server.prototype.closeIdleConnections.call(server))
