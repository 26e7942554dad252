// Types of `require('dutch-master-worker')`: the worker object.

/** This process as a worker of dutch-master; without a master every call is a harmless no-op. */
declare const worker: worker.Worker

declare namespace worker {
  /** Why a worker is told to go. */
  type Reason =
    /** A rolling restart replaced it. */
    | 'restart'
    /** It asked for it. */
    | 'request'
    /** The master stops. */
    | 'stop'
    /** The pool became smaller. */
    | 'scale-down'
    /** It reached a limit of age, memory or requests. */
    | 'recycle'
    /** It leaves by itself: `leave()`, `cluster.worker.disconnect()` or `process.disconnect()`. */
    | 'leaving'
    /** The master is gone and did not come back. */
    | 'orphaned'
    /** A reason that this version does not know. */
    | 'other'

  /** The order to go. */
  interface Order {
    readonly reason: Reason
    /** When what is still open will be ended. */
    readonly deadline: Date
  }

  interface WorkerEvents {
    /**
     * The worker was told to go. It accepts no more, or is about to stop, and finishes what it has: requests are answered with `Connection: close`, idle connections stay for a while.
     * End here what the SDK knows nothing of, such as WebSockets. Node's own `'disconnect'` of `process` and `cluster.worker` comes later, when nothing is open any more.
     */
    disconnect: [order: Order]
  }

  interface Worker {
    /** The worker's id: 1, 2, 3…, never reused; 0 without a master. The same as `cluster.worker.id`. */
    readonly id: number
    /** Number of the worker's generation; 0 without a master. */
    readonly generation: number
    /** The worker's place in the pool, from 0; a replacement takes over its predecessor's. */
    readonly slot: number
    /** There is no master: servers bind for themselves. */
    readonly standalone: boolean
    /** Asks to be replaced: a replacement is started, and once it runs this worker is told to go. The same as `process.send({ event: 'request-restart', reason })`. */
    requestRestart(reason?: string): void
    /**
     * This app is not ready when its servers listen: the worker counts as running only once it calls `ready()`. To be called before the first server listens.
     * Until then connections wait in the queue, or go to other workers; a worker that is not ready within the master's start timeout is given up.
     */
    holdReady(): void
    /** Says that this worker serves: after `holdReady()`, and for a worker in which no server listens. Where neither is the case a server that listens says it. */
    ready(): void
    /** Ends this worker's service: it is replaced at once, drains, and disconnects. The same as `cluster.worker.disconnect()`. */
    leave(reason?: string): void
    on<E extends keyof WorkerEvents>(event: E, listener: (...args: WorkerEvents[E]) => void): this
    once<E extends keyof WorkerEvents>(event: E, listener: (...args: WorkerEvents[E]) => void): this
    off<E extends keyof WorkerEvents>(event: E, listener: (...args: WorkerEvents[E]) => void): this
  }
}

export = worker
