'use strict'
// `node embedded.js N SCRIPT`: the script under the master inside this Node process, with the options of the benchmark's native master.

const [numWorkers, worker] = process.argv.slice(2)
const silent = () => {}
const logger = { debug: silent, info: silent, warn: silent, error: silent }

require('../../sdk-node/dutch-master')({ worker, numWorkers, args: [], surge: '25%', logger })
