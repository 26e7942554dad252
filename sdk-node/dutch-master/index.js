'use strict'
// The API: a function that starts a master in this process. `require('dutch-master')(options)` and `require('dutch-master').start(options)` are the same.

const { start } = require('./lib/start.js')

module.exports = start
module.exports.start = start
