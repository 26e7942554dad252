'use strict'
// The API: one object, whether a master is there or not. Loading it makes this process a worker where it can be one.

module.exports = require('./lib/attach.js').attach()
