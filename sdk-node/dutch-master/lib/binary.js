'use strict'
// Finds the native program `dutch-master` and prints its path: in the package of the platform, or in a checkout's target folder.

const { accessSync, constants } = require('node:fs')
const { join } = require('node:path')
const { triples, whyMissing } = require('./platform.js')

const inPackage = (name) => {
  try {
    return require.resolve(`dutch-master-${name}/dutch-master`)
  } catch {
    return undefined
  }
}
const candidates = [...triples().map(inPackage), ...['release', 'debug'].map((profile) => join(__dirname, '../../../target', profile, 'dutch-master'))]
const found = candidates.find((path) => path && isExecutable(path))

if (found) {
  process.stdout.write(found)
} else {
  console.error(`dutch-master: the native program cannot be found: ${whyMissing('make build')}`)
  process.exitCode = 1
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
