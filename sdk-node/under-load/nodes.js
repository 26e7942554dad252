'use strict'
// The versions of Node that everything is shown on; `node nodes.js ARGS…` runs `node ARGS…` with each. Those that are not the running one come from npm, into `target/nodes`.

const { spawnSync } = require('node:child_process')
const { existsSync, mkdirSync, realpathSync, writeFileSync } = require('node:fs')
const { delimiter, dirname, join } = require('node:path')

const MAJORS = [20, 22, 24, 26]

/** npm has a package of Node's binary for each platform, with Node's own version. */
const PACKAGE = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`
const FOLDER = join(__dirname, '../../target/nodes')

/** The path of this version's binary. */
function nodeOf(major) {
  if (process.versions.node.startsWith(`${major}.`)) return realpathSync(process.execPath)
  const folder = join(FOLDER, String(major))
  const binary = join(folder, 'node_modules', PACKAGE, 'bin/node')
  if (!existsSync(binary)) install(folder, major)
  return binary
}

function install(folder, major) {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  const npm = spawnSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', `${PACKAGE}@${major}`], { cwd: folder, encoding: 'utf8' })
  if (npm.status !== 0) throw new Error(`Node ${major} cannot be had: npm finds no ${PACKAGE}@${major}\n${npm.error?.message ?? npm.stderr}`)
}

/** Runs `node ARGS…` with this binary, also for what it starts; true if it succeeds. */
function run(node, args, env) {
  const path = dirname(node) + delimiter + process.env.PATH
  return spawnSync(node, args, { stdio: 'inherit', env: { ...process.env, ...env, PATH: path } }).status === 0
}

module.exports = { MAJORS, nodeOf, run }

if (require.main === module) {
  const failed = MAJORS.filter((major) => {
    console.log(`\n--- Node ${major}`)
    return !run(nodeOf(major), process.argv.slice(2))
  })
  if (failed.length > 0) {
    console.error(`failed with Node ${failed.join(', ')}`)
    process.exitCode = 1
  }
}
