// What an app of ES modules in TypeScript writes; it is compiled, never run.

import worker, { generation, holdReady, id, leave, off, on, once, ready, requestRestart, slot, standalone } from 'dutch-master-worker'
import type { Order, Reason, Worker, WorkerEvents } from 'dutch-master-worker'

const whole: Worker = worker
const numbers: number[] = [id, generation, slot, whole.id]
const alone: boolean = standalone
const last = (order: Order): Reason => order.reason
const args: WorkerEvents['disconnect'] | undefined = undefined
holdReady()
ready()
requestRestart('memory')
leave()
on('disconnect', last)
once('disconnect', ({ deadline }) => console.log(numbers, alone, args, deadline.toISOString()))
off('disconnect', last)

// @ts-expect-error: a reason is text
requestRestart(7)
