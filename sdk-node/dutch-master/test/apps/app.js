// An Express app as users of the original wrote it: an error that nobody caught answers 500 and asks for a new worker.
var cluster = require('cluster')
var domain = require('domain')
var express = require('express')

var app = express()

app.use(function (req, res, next) {
  var d = domain.create()
  d.add(req)
  d.add(res)
  d.on('error', function () {
    process.send({ event: 'request-restart' })
    res.status(500).send('sorry')
  })
  d.run(next)
})

app.get('/', function (req, res) {
  res.json({ id: cluster.worker.id, isWorker: cluster.isWorker, cwd: process.cwd(), colour: process.env.RELEASE_COLOUR, attempts: process.env.ATTEMPTS })
})

app.get('/slow', function (req, res) {
  console.log(JSON.stringify({ event: 'slow request', id: cluster.worker.id }))
  setTimeout(function () {
    res.json({ id: cluster.worker.id })
  }, Number(req.query.ms))
})

app.get('/broken', function () {
  process.nextTick(function () {
    throw new Error('nobody catches this')
  })
})

var server = app.listen(0, '127.0.0.1', function () {
  console.log(JSON.stringify({ event: 'up', port: server.address().port, id: cluster.worker.id, pid: process.pid, argv: process.argv.slice(2) }))
})
