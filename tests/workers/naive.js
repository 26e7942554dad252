'use strict'
// The Express example, ended as people end a server without the SDK's draining: `server.close()`, which closes idle connections at once. The negative control of the load test.
// The SDK keeps it from doing so: what Node does is called by its name.

const http = require('node:http')

const servers = []
const { listen } = http.Server.prototype
http.Server.prototype.listen = function (...args) {
  servers.push(this)
  return listen.apply(this, args)
}

require('../../sdk-node/worker').on('disconnect', () => servers.forEach((server) => http.Server.prototype.closeIdleConnections.call(server)))
require('../../examples/express/app.js')
