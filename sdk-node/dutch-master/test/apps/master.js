// A master as users of the original wrote it: nothing of it was changed for this package.
var path = require('path')
var fs = require('fs')
var bunyan = require('bunyan')

var root = __dirname
var logger = bunyan.createLogger({ name: 'shop-master' })

require('dutch-master')({
  worker: 'app.js',
  numWorkers: function () {
    return fs.readFileSync(path.join(root, 'workers'), 'utf8').trim()
  },
  beforeFork: function () {
    process.chdir(path.join(root, 'current'))
  },
  logger: logger,
  workerEnvironment: { RELEASE_COLOUR: 'blue', ATTEMPTS: 3 },
  restartSignal: process.env.RESTART_SIGNAL || 'SIGUSR2',
})
