'use strict'
// Runs all frameworks on all versions of Node, and keeps what came out in docs/frameworks.md. `node matrix.js [MAJOR…]`: these versions only, and nothing is kept.

const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { MAJORS, nodeOf, run } = require('../under-load/nodes.js')
const { frameworks } = require('./table.js')

const PAGE = join(__dirname, '../../docs/frameworks.md')
/** The page is written by hand up to here. */
const MARK = '<!-- the last run -->\n'

const chosen = process.argv.slice(2).map(Number)
const majors = chosen.length > 0 ? chosen : MAJORS
const folder = mkdtempSync(join(tmpdir(), 'dm-'))
const file = join(folder, 'results')
writeFileSync(file, '')
const failed = majors.filter((major) => !run(nodeOf(major), ['--test', join(__dirname, 'frameworks.test.js')], { FRAMEWORKS_ALL: '1', FRAMEWORKS_RESULTS: file }))
const results = readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line))
rmSync(folder, { recursive: true })

const page = table(results)
console.log(page)
if (chosen.length === 0) writeFileSync(PAGE, readFileSync(PAGE, 'utf8').split(MARK)[0] + MARK + page)
if (failed.length > 0) {
  console.error(`failed with Node ${failed.join(', ')}`)
  process.exitCode = 1
}

/** A line for each framework and the control, a column for each version of Node: failed of all requests. */
function table(results) {
  const [date] = new Date().toISOString().split('T')
  const resultOf = (wanted, major) => results.find(({ name, nodeVersion }) => name === wanted && nodeVersion.startsWith(`${major}.`))
  const versions = majors.map((major) => `Node ${resultOf('control', major)?.nodeVersion ?? major}`)
  const cell = (result) => (result ? `${result.failed} of ${result.requests}${result.refused ? ` (${result.refused} repeated)` : ''}` : 'did not run')
  const line = (name, version, how) => `| ${[name, version, how, ...majors.map((major) => cell(resultOf(name, major)))].join(' | ')} |`
  return `
${date}, Linux ${process.arch}, \`node sdk-node/frameworks/matrix.js\` (a part of \`make test-all\`), ${results[0]?.restarts} restarts of 2 workers for each cell, of the control until a request failed: failed requests of all that were sent.

| framework | version | | ${versions.join(' | ')} |
|---|---|---|${'---|'.repeat(majors.length)}
${frameworks().map(({ name, version = 'Node\'s own', note = '' }) => line(name, version, note)).join('\n')}
${line('control', 'Node\'s own', 'ended by `server.close()`')}
`
}
