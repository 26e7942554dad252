// What an app of CommonJS modules in TypeScript writes; it is compiled, never run.

import worker = require('dutch-master-worker')

const id: number = worker.id + worker.generation + worker.slot
if (worker.standalone) console.log(id)
worker.holdReady()
worker.ready()
worker.requestRestart()
worker.requestRestart('memory')
worker.leave('done')
worker.on('disconnect', ({ reason, deadline }) => console.log(reason === 'restart', deadline.getTime())).once('disconnect', () => {})
const order = (order: worker.Order): worker.Reason => order.reason
worker.off('disconnect', order)

// @ts-expect-error: it is the master who says the id
worker.id = 7
// @ts-expect-error: there is no such event
worker.on('exit', () => {})
// @ts-expect-error: there is no such reason
const reason: worker.Reason = 'whim'
// @ts-expect-error: an order is not to be changed
worker.on('disconnect', (order) => (order.reason = reason))
