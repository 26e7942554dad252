// An app of modules: what `cluster` and the package export by name.

import { createServer } from 'node:http'
import { isWorker, worker } from 'node:cluster'
import sdk, { id, generation, slot, standalone, requestRestart, ready, leave, on, once, off } from '../../index.mjs'

const say = (event, facts) => console.log(JSON.stringify({ event, pid: process.pid, ...facts }))

const server = createServer((req, res) => res.end('esm')).listen(0, () => {
  const functions = [requestRestart, ready, leave, on, once, off].every((member) => typeof member === 'function')
  say('listening', { port: server.address().port, isWorker, workerId: worker?.id, id, generation, slot, standalone, functions, same: sdk.id === id })
})
