'use strict'
// Node's own HTTP/2 without TLS.

const http2 = require('node:http2')
const handler = require('../handler.js')

http2.createServer(handler('h2c')).listen(Number(process.env.PORT), '127.0.0.1')
