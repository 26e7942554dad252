'use strict'
// An ordinary Express app: `node app.js` serves it by one process.

const cluster = require('node:cluster')
const express = require('express')

const app = express()
app.disable('x-powered-by')
app.use((req, res, next) => {
  res.set('x-worker', String(process.pid))
  next()
})

app.get('/', (req, res) => {
  res.type('text').send(`Hello from process ${process.pid}, worker ${cluster.worker?.id ?? 'none'}\n`)
})

app.get('/slow', (req, res) => {
  const ms = Math.min(Number(req.query.ms) || 200, 60_000)
  setTimeout(() => res.type('text').send(`This took ${ms} ms\n`), ms)
})

app.post('/echo', (req, res) => {
  res.type(req.get('content-type') ?? 'application/octet-stream')
  req.pipe(res)
})

app.get('/crash', async () => {
  throw new Error('a bug that leaves this process in doubt')
})

// After an unexpected error the process may be in a bad state: answer, and ask for a fresh one.
app.use((error, req, res, next) => {
  console.error(error.stack)
  process.send?.({ event: 'request-restart' })
  if (res.headersSent) return next(error)
  res.status(500).type('text').send('Something went wrong; a fresh worker takes over\n')
})

const port = Number(process.env.PORT || 8000)
const host = process.env.HOST || '127.0.0.1'
const server = app.listen(port, host, (error) => {
  if (error) throw error
  console.log(`process ${process.pid} listens on http://${host}:${server.address().port}/`)
})
