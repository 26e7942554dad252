// The API for `import`: the same object as default, and its members as names.

import worker from './index.js'

export default worker
export const { id, generation, slot, standalone } = worker
export const requestRestart = worker.requestRestart.bind(worker)
export const holdReady = worker.holdReady.bind(worker)
export const ready = worker.ready.bind(worker)
export const leave = worker.leave.bind(worker)
export const on = worker.on.bind(worker)
export const once = worker.once.bind(worker)
export const off = worker.off.bind(worker)
