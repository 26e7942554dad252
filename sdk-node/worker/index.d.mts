// Types of `import worker, { … } from 'dutch-master-worker'`: the worker object and its members as names.

import worker from './index.js'

export type Worker = worker.Worker
export type WorkerEvents = worker.WorkerEvents
export type Order = worker.Order
export type Reason = worker.Reason

export default worker
export const id: Worker['id']
export const generation: Worker['generation']
export const slot: Worker['slot']
export const standalone: Worker['standalone']
export const requestRestart: Worker['requestRestart']
export const holdReady: Worker['holdReady']
export const ready: Worker['ready']
export const leave: Worker['leave']
export const on: Worker['on']
export const once: Worker['once']
export const off: Worker['off']
