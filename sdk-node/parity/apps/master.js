'use strict'
// The drop-in's master of the parity suite: options come as JSON in `MASTER_OPTIONS`, and the log goes to standard error as the native master's does.

const { writeSync } = require('node:fs')
const { join } = require('node:path')

const LEVELS = ['debug', 'info', 'warn', 'error']

const loggerOf = (bound) => ({
  child: (fields) => loggerOf({ ...bound, ...fields }),
  ...Object.fromEntries(LEVELS.map((level) => [level, (fields, msg) => writeSync(2, `${JSON.stringify({ level, msg, ...bound, ...fields })}\n`)])),
})

require('../../dutch-master')({ worker: join(__dirname, 'app.js'), logger: loggerOf({}), ...JSON.parse(process.env.MASTER_OPTIONS) })
