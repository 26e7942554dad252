'use strict'
// Express 5.

const express = require('express')
const slow = require('../slow.js')

const app = express()
app.get('/', (req, res) => res.send(`hello from Express 5, pid ${process.pid}`))
app.get('/slow', async (req, res) => res.send(await slow(req.query.ms)))
app.post('/echo', express.raw({ type: () => true }), (req, res) => res.send(req.body))
app.listen(Number(process.env.PORT), '127.0.0.1')
