'use strict'
// How workers are run: by the Node that runs this process, with its options and arguments as `cluster` passes them on, and the SDK preloaded.

const { existsSync } = require('node:fs')
const { dirname, join } = require('node:path')

/** `execArgv` without the program text of `node -e`, and with a free port for each worker's inspector. */
function nodeArgs() {
  const args = [...process.execArgv]
  const at = process._eval == null ? -1 : args.lastIndexOf(process._eval)
  if (at > 0) args.splice(at - 1, 2)
  return args.some((arg) => /^--inspect(?!-port|-publish)/.test(arg)) ? [...args, '--inspect-port=0'] : args
}

/** The folder of the SDK: what this package depends on, or its neighbour in a checkout. */
function sdk() {
  try {
    return dirname(require.resolve('dutch-master-worker/package.json'))
  } catch {
    const neighbour = join(__dirname, '../../worker')
    if (existsSync(join(neighbour, 'preload.js'))) return neighbour
    throw new Error('the package dutch-master-worker is not installed; install dutch-master again, or name its folder by the option `nodeSdk`')
  }
}

module.exports = { nodeArgs, sdk }
