// What a TypeScript program of CommonJS may write, and what it may not.

import start = require('dutch-master')
import bunyan = require('bunyan')
import pino = require('pino')

const master: start.Master = start({ worker: 'app.js', numWorkers: async () => '3', beforeFork: () => process.chdir('current'), killTimeout: '30s', logger: bunyan.createLogger({ name: 'master' }) })
start.start({ worker: 'app.js', logger: pino.pino() })

master.on('workerExit', ({ workerId, signal }) => console.log(workerId.toFixed(), signal?.toLowerCase()))
master.restart().then(
  ({ generation }) => generation.toFixed(),
  (error: start.RestartError) => error.outcome === 'given-up',
)
const phase: 'serving' | string = master.status().phase
void phase

// @ts-expect-error the worker is missing
start({})
// @ts-expect-error there is no such option
start({ worker: 'app.js', numworkers: 2 })
// @ts-expect-error this signal stops the master
start({ worker: 'app.js', restartSignal: 'SIGTERM' })
// @ts-expect-error there is no such event
master.on('exited', () => {})
