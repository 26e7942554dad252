'use strict'
// Without a master nothing changes, and every call is harmless.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { join } = require('node:path')
const { test } = require('node:test')
const { start, SDK } = require('./harness.js')

const PRELOAD = ['--require', join(SDK, 'preload.js')]

/** What a script says, once it has exited by itself. */
async function saidBy(t, script, options) {
  const running = start(t, 'script.js', { master: false, env: { SCRIPT: script, SDK }, ...options })
  const code = await running.exits()
  return { code, said: await running.hears('facts'), errors: running.errors.all }
}

test('the preload alone loads nothing and changes nothing', async (t) => {
  const script = `
    const cluster = require('cluster')
    say('facts', { isWorker: cluster.isWorker, send: typeof process.send, connected: process.connected, sdk: Object.keys(require.cache).filter((path) => path.startsWith(process.env.SDK) && !path.includes('/test/')) })`
  const { code, said, errors } = await saidBy(t, script, { nodeArgs: PRELOAD })
  assert.deepEqual([code, said.isWorker, said.send, said.connected, errors], [0, false, 'undefined', undefined, []])
  assert.deepEqual(said.sdk, [join(SDK, 'preload.js')])
})

test('a server binds for itself, and its process ends by itself', async (t) => {
  const script = `
    require(process.env.SDK)
    const server = require('http').createServer().listen(0, () => { say('facts', { port: server.address().port }); server.close() })`
  const { code, said } = await saidBy(t, script, { nodeArgs: PRELOAD })
  assert.ok(code === 0 && said.port > 0)
})

test('the API is there and does nothing', async (t) => {
  const script = `
    const worker = require(process.env.SDK)
    worker.on('disconnect', () => {})
    worker.ready(); worker.requestRestart('why'); worker.leave()
    say('facts', { id: worker.id, generation: worker.generation, slot: worker.slot, standalone: worker.standalone })`
  const { code, said } = await saidBy(t, script)
  assert.equal(code, 0)
  assert.deepEqual([said.id, said.generation, said.slot, said.standalone], [0, 0, 0, true])
})

test('the environment stays as it is', async (t) => {
  const script = `
    const before = JSON.stringify(process.env)
    require(process.env.SDK)
    say('facts', { same: before === JSON.stringify(process.env) })`
  const { said } = await saidBy(t, script, { env: { SCRIPT: script, SDK, DUTCH_MASTER_TOKEN: 'of nobody' } })
  assert.equal(said.same, true)
})

test('a master that cannot be reached ends the process with one line, and nothing is served without it', async (t) => {
  const running = start(t, 'http.js', { master: false, nodeArgs: PRELOAD, env: { DUTCH_MASTER_SOCKET: '/nowhere/socket', DUTCH_MASTER_TOKEN: 't', NODE_UNIQUE_ID: '1' } })
  const code = await running.exits()
  assert.equal(code, 1)
  assert.equal(running.errors.all.length, 1, running.errors.all.join('\n'))
  assert.match(running.errors.all[0], /cannot become a worker of the master at \/nowhere\/socket: .*No such file/)
  assert.deepEqual(running.said.all, [])
})

test('an addon that cannot be loaded says what to do', async (t) => {
  const env = { DUTCH_MASTER_SOCKET: '/nowhere/socket', DUTCH_MASTER_TOKEN: 't', NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere/addon.node' }
  const running = start(t, 'http.js', { master: false, nodeArgs: PRELOAD, env })
  const code = await running.exits()
  assert.equal(code, 1)
  assert.match(running.errors.all[0], /native addon cannot be loaded: .*addon\.node.*npm run build/)
})

test('a process that has another parent by IPC stays its child, and says so', async (t) => {
  const child = require('node:child_process').fork(join(__dirname, 'apps/script.js'), {
    execArgv: PRELOAD,
    silent: true,
    env: { ...process.env, SCRIPT: 'process.send({ cluster: require("cluster").isWorker, socket: process.env.DUTCH_MASTER_SOCKET })', DUTCH_MASTER_SOCKET: '/nowhere/socket', DUTCH_MASTER_TOKEN: 't' },
  })
  t.after(() => child.kill('SIGKILL'))
  let errors = ''
  child.stderr.on('data', (text) => (errors += text))
  const closed = once(child, 'close')
  const [message] = await once(child, 'message')
  assert.deepEqual(message, { cluster: false })
  await closed
  assert.match(errors, /another parent/)
})
