'use strict'
// Workers of another user, started by a Node process that is root.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { chmodSync } = require('node:fs')
const { test } = require('node:test')
const { PACKAGE, folder, run } = require('./harness.js')

const UID = 210_000 + (process.pid % 100_000)

const APP = `const http = require('http')
const { readFileSync } = require('fs')
const server = http.createServer((request, response) => response.end('hello'))
server.listen(0, '127.0.0.1', () => {
  const status = readFileSync('/proc/self/status', 'utf8')
  const of = (name) => status.match(new RegExp(name + ':\\\\s*(.*)'))[1]
  console.log(JSON.stringify({ event: 'up', pid: process.pid, uid: process.getuid(), gid: process.getgid(), umask: of('Umask'), noNewPrivs: of('NoNewPrivs') }))
})
`

/** Another user has to come to Node and to what is tested here. */
const isReachable = () => {
  if (process.getuid() !== 0) return false
  const seen = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(`${PACKAGE}/../worker/package.json`)})`], { uid: UID, gid: UID, cwd: '/' })
  return seen.status === 0
}

test('workers run as the user that was asked for, and the master stays what it is', { skip: !isReachable() && 'only root can, where another user can reach Node and the packages' }, async (t) => {
  const master = `dutchMaster({ worker: 'app.js', logger: log, user: ${UID}, group: ${UID}, umask: '027', limit: ['core=0'] })
say('master', { uid: process.getuid() })`
  const dir = folder(t, { 'app.js': APP, 'master.js': `const log = require('bunyan').createLogger({ name: 'master', level: 'debug' })\nconst dutchMaster = require('dutch-master')\nconst say = (event, more) => console.log(JSON.stringify({ event, ...more }))\n${master}` })
  chmodSync(dir, 0o755)
  const running = run(t, undefined, { dir })
  assert.equal((await running.hears('master')).uid, 0)
  for (let n = 0; n < 2; n++) {
    const { pid: _, event: __, ...worker } = await running.hears('up')
    assert.deepEqual(worker, { uid: UID, gid: UID, umask: '0027', noNewPrivs: '1' })
  }
  await running.logs('Cluster ready')
  running.signal('SIGTERM')
  assert.equal(await running.exits(), 0)
})

test('a user that workers cannot run as ends the start, and the reason says what to do', async (t) => {
  const running = run(t, `dutchMaster({ worker: 'app.js', logger: log, user: 'nobody-at-all' })`)
  const { reason } = await running.logs('Cluster could not be started')
  assert.match(reason, /no user "nobody-at-all".*getent passwd/)
  assert.equal(await running.exits(), 1)
})
