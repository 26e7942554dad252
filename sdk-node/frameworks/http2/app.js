'use strict'
// Node's own HTTP/2 over TLS.

const { readFileSync } = require('node:fs')
const http2 = require('node:http2')
const { join } = require('node:path')
const handler = require('../handler.js')

const pem = readFileSync(join(__dirname, '../../worker/test/apps/localhost.pem'))
http2.createSecureServer({ key: pem, cert: pem }, handler('http2')).listen(Number(process.env.PORT), '127.0.0.1')
