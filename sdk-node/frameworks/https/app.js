'use strict'
// Node's own https.

const { readFileSync } = require('node:fs')
const https = require('node:https')
const { join } = require('node:path')
const handler = require('../handler.js')

const pem = readFileSync(join(__dirname, '../../worker/test/apps/localhost.pem'))
https.createServer({ key: pem, cert: pem }, handler('https')).listen(Number(process.env.PORT), '127.0.0.1')
