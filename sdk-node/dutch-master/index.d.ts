// Types of `require('dutch-master')`: the function that starts a master.

import type { EventEmitter } from 'node:events'

/**
 * Starts a master in this process: it runs the worker script in several processes, hands them their listeners, and replaces them without a failed request.
 * Throws a TypeError where the options are wrong. What else keeps it from starting is logged, and ends this process with exit code 1.
 */
declare function start(options: start.Options): start.Master

declare namespace start {
  /** The same function. */
  const start: (options: Options) => Master

  /** Milliseconds, or a string with units: `"500ms"`, `"30s"`, `"1m30s"`. */
  type Time = number | string

  /** A logger of bunyan, pino, or of their shape. */
  interface Logger {
    info(fields: object, message: string): void
    warn?(fields: object, message: string): void
    error?(fields: object, message: string): void
    debug?(fields: object, message: string): void
    /** Asked with `{ workerId, workerPid }` for the lines about one worker. */
    child?(fields: { workerId: number; workerPid: number }): Logger
  }

  interface Options {
    /** The script that the workers run; a relative path is seen from the directory of each worker. */
    worker: string
    /** How many workers; a function is asked before the start and again at each restart. `"auto"`: one per processor. Default: 2. */
    numWorkers?: number | string | (() => number | string | Promise<number | string>)
    /**
     * Called in this process before each start of a worker. The working directory and the environment are the worker's as they are when it returns, or its promise is fulfilled.
     * One that throws, rejects or takes longer than 30 s is a failed start of that worker.
     */
    beforeFork?: () => unknown
    /** Added to this process's environment for the workers; looked at again at each start. Values are made strings. */
    workerEnvironment?: Record<string, unknown>
    /** The signal that asks for a rolling restart. Default: `"SIGUSR2"`. */
    restartSignal?: 'SIGHUP' | 'SIGQUIT' | 'SIGUSR1' | 'SIGUSR2' | 'SIGALRM' | 'SIGVTALRM' | 'SIGPROF' | 'SIGWINCH' | 'SIGURG'
    /** Where the log goes. Default: lines for people on standard error. */
    logger?: Logger
    /** The least important level that is shown where there is no `logger`. Default: `"info"`. */
    logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error'
    /** Arguments of the workers. Default: those of this process. */
    args?: readonly string[]
    /** Arguments for their `node` itself. Default: those of this process's. */
    nodeArgs?: readonly string[]
    /** Listeners that the master opens before the first worker starts: `8000`, `"127.0.0.1:8000"`, `"[::1]:8000"`, `"unix:PATH"`, each with `NAME=` before it if it has a name; a Unix one may have `,mode=0660`, `,owner=USER` and `,group=GROUP` behind it. */
    listen?: number | string | readonly (number | string)[]
    /** The directory that workers start in, links resolved anew for each. Default: this process's. */
    dir?: string
    /** The user that workers run as, by name or number; this process has to be root. Default: this process's. */
    user?: string | number
    /** Their group. Default: the user's. */
    group?: string | number
    /** Their supplementary groups. Default: those of the user. */
    groups?: readonly (string | number)[]
    /** Permissions that files which workers make do not get: `0o027` or `"027"`. Default: this process's mask. */
    umask?: number | string
    /** Limits of the system for each worker: `"nofile=65536"`, `"core=0:unlimited"`. */
    limit?: readonly string[]
    /** Nothing that a worker runs can gain privileges. Default: true where `user`, `group` or `groups` is set. */
    noNewPrivs?: boolean
    /** From its start to listening; a worker that takes longer is killed. Default: `"60s"`. */
    startTimeout?: Time
    /** From the order to go to SIGKILL; workers are told a tenth less. Default: `"30s"`. */
    killTimeout?: Time
    /** How long the first new worker must last before old ones are told to go. Default: `"2s"`. */
    settleTime?: Time
    /** How long a worker whose master was killed serves on; `"never"`: without end. Default: `"60s"`. */
    orphanTimeout?: Time | 'never'
    /** Extra workers during a restart: a share like `"25%"`, a number, or `"all"`, which is the default here. */
    surge?: number | string
    /** Failed starts in a row after which a restart is given up and the old workers stay. Default: 3. */
    restartAttempts?: number
    /** Replace a worker that has run so long. Default: `"never"`. */
    maxLifetime?: Time | 'never'
    /** Replace a worker that has more memory, with all that it started: bytes, or a string like `"512M"`. Default: `"never"`. */
    maxMemory?: number | string
    /** Replace a worker that has answered so many requests. Default: `"never"`. */
    maxRequests?: number | 'never'
    /** Kill and replace a worker whose event loop was blocked for so long. Default: `"never"`. */
    heartbeat?: Time | 'never'
    /** Go on trying when the very first start fails. Default: false. */
    keepTrying?: boolean
    /** What tells that a worker serves: its first `listening`, or that it said hello to the master. Default: `"listening"`. */
    readyOn?: 'listening' | 'hello'
    /** What the commands of `dutch-master` call this master. Default: made from worker and directory. */
    name?: string
    /** The control socket. Default: in the runtime directory. */
    socket?: string
    /** A file that receives this process's id. */
    pidFile?: string
    /** The folder of the package dutch-master-worker. Default: the one that this package depends on. */
    nodeSdk?: string
  }

  /** One worker in a status. */
  interface WorkerStatus {
    id: number
    slot: number
    generation: number
    state: 'starting' | 'running' | 'draining' | 'lost' | 'killing'
    /** Not there before its process is. */
    pid?: number
    /** How long ago it was ordered. */
    ageMs: number
    /** Name and version of its SDK, once it said hello. */
    sdk?: string
    /** How many workers its slot had before it. */
    restarts?: number
  }

  /** One listener in a status. */
  interface ListenerStatus {
    key: string
    name?: string
    address: { kind: 'tcp' | 'unix' | 'udp'; host?: string; port?: number; path?: string }
    configured: boolean
    /** Connections that wait to be accepted. */
    queued?: number
    backlog?: number
  }

  interface Status {
    name?: string
    pid: number
    phase: 'starting' | 'serving' | 'restarting' | 'stopping' | 'stopped'
    /** How many workers there should be. */
    size: number
    /** How many serve. */
    running: number
    /** The generation that new workers belong to. */
    generation: number
    /** The last generation whose restart completed. */
    committed?: number
    /** Workers of more than one generation serve, and no restart is under way. */
    mixed?: boolean
    /** Why the last restart was given up. */
    givenUp?: string
    /** Workers fail one after the other; not there once one has lasted. Without `retryInMs` one is being tried. */
    failing?: { failures: number; reason: string; worker?: number; code?: number; signal?: string; retryInMs?: number }
    /** Rolling restarts that completed. */
    restarts?: number
    /** Running workers that ended unexpectedly, lost their connection, or were blocked. */
    crashes?: number
    /** Starts that ended before the worker served. */
    failedStarts?: number
    command?: string[]
    dir?: string
    uptimeMs?: number
    version?: string
    workers: WorkerStatus[]
    listeners: ListenerStatus[]
  }

  /** Why a restart, or a change of the size, did not come to its end. */
  interface RestartError extends Error {
    name: 'RestartError'
    /** `given-up`: the new workers failed and the old ones stay; `superseded`: a newer request took its place; `stopped`: the master stops; `refused`: it was not begun. */
    outcome: 'given-up' | 'superseded' | 'stopped' | 'refused'
    reason?: string
    /** The generation of the newer restart. */
    by?: number
  }

  interface WorkerFields {
    workerId: number
    workerPid: number
    generation: number
  }

  interface MasterEvents {
    /** All first workers serve. */
    ready: [fields: { workers: number }]
    /** A worker serves. */
    listening: [fields: WorkerFields]
    /** A worker's process has ended. */
    workerExit: [fields: WorkerFields & { code?: number; signal?: string }]
    /** Every replacement serves, and every old worker was told to go. */
    restarted: [fields: { generation: number }]
    /** The new workers failed, the old ones stay. */
    givenUp: [fields: { generation: number; attempts: number; reason: string }]
    /** The master has ended. Unless `stop()` was called the process ends too, with this code. */
    exit: [code: number]
  }

  interface Master extends EventEmitter {
    /** What the commands of `dutch-master` call it. */
    readonly name: string | undefined
    /** Its control socket. */
    readonly socket: string | undefined
    /** A rolling restart. Rejects with a RestartError; whoever does not look at the promise is not ended by that. */
    restart(): Promise<{ generation: number }>
    /** Another number of workers: `4`, `"+1"`, `"-1"`. Resolves once that many serve; rejects with a RestartError. */
    scale(size: number | string): Promise<{ size: number }>
    /** A graceful stop, `now` without waiting for requests. Resolves with 0, or 1 where a worker had to be killed. The process goes on. */
    stop(options?: { now?: boolean }): Promise<number>
    /** The pool as it is now. */
    status(): Status
    on<E extends keyof MasterEvents>(event: E, listener: (...args: MasterEvents[E]) => void): this
    once<E extends keyof MasterEvents>(event: E, listener: (...args: MasterEvents[E]) => void): this
    off<E extends keyof MasterEvents>(event: E, listener: (...args: MasterEvents[E]) => void): this
  }
}

export = start
