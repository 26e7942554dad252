'use strict'
// Express 4.

const express = require('express')
const slow = require('../slow.js')

const app = express()
app.get('/', (req, res) => res.send(`hello from Express 4, pid ${process.pid}`))
app.get('/slow', (req, res, next) => slow(req.query.ms).then((text) => res.send(text), next))
app.post('/echo', express.raw({ type: () => true }), (req, res) => res.send(req.body))
app.listen(Number(process.env.PORT), '127.0.0.1')
