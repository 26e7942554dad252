'use strict'
// What the master preloads (`node --require …/preload.js app.js`): makes the process its worker. Without a master, and in worker threads, it does nothing.

if (process.env.DUTCH_MASTER_SOCKET && require('node:worker_threads').isMainThread) require('./index.js')
