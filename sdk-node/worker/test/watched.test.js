'use strict'
// What a master may want to know of a worker: that its event loop turns, and that it has answered enough.

const assert = require('node:assert/strict')
const http2 = require('node:http2')
const { test } = require('node:test')
const { fakeMaster } = require('./fake-master.js')
const { start, SDK } = require('./harness.js')

async function worker(t, welcome, script) {
  const master = await fakeMaster(t, welcome)
  const app = start(t, 'script.js', { master: false, env: { ...master.env, SDK, SCRIPT: `const worker = require(process.env.SDK)\n${script}` } })
  return { ...master, app }
}

const heartbeat = ({ event }) => event === 'heartbeat'

test('the SDK says what it can do', async (t) => {
  const { heard } = await worker(t, {}, '')
  assert.deepEqual((await heard.find(({ event }) => event === 'hello')).features, ['resume', 'heartbeat', 'max-requests'])
})

test('heartbeats begin with the first listening, go on, and stop while the event loop is blocked', async (t) => {
  const { heard } = await worker(t, { heartbeat_ms: 30 }, `
    process.send('before')
    for (const start = Date.now(); Date.now() - start < 300; );
    worker.ready()
    setTimeout(() => {
      process.send('blocked')
      for (const start = Date.now(); Date.now() - start < 500; );
      process.send('free')
    }, 200)`)
  const json = (text) => ({ json }) => json === JSON.stringify(text)
  await heard.find(json('free'))
  const all = heard.all
  const [blocked, free, first] = [all.findIndex(json('blocked')), all.findIndex(json('free')), all.findIndex(heartbeat)]
  assert.ok(first > all.findIndex(({ event }) => event === 'listening') && first < blocked)
  assert.equal(free, blocked + 1, 'silent while it is blocked')
  const count = all.filter(heartbeat).length
  await heard.find(() => heard.all.filter(heartbeat).length > count + 1, 'more of them')
})

test('where none are wanted there are none', async (t) => {
  const { heard } = await worker(t, {}, `worker.ready(); setTimeout(() => process.send('later'), 300)`)
  await heard.find(({ json }) => json === '"later"')
  assert.ok(!heard.all.some(heartbeat))
})

test('a worker whose event loop is blocked is killed by the master and replaced, and one that works is not', async (t) => {
  const pool = start(t, 'script.js', { options: ['--heartbeat', '1s'], env: { SDK, SCRIPT: `
    const worker = require(process.env.SDK)
    require('http').createServer().listen(0, () => worker.id === 1 && setTimeout(() => { for (;;); }, 50))` } })
  const blocked = await pool.log.find(({ msg }) => msg === 'Worker is blocked, killing it')
  assert.equal(blocked.workerId, 1)
  const replacement = await pool.log.find(({ msg, workerId }) => msg === 'Worker listening' && workerId === 2)
  pool.stop()
  assert.equal(await pool.exits(), 0)
  assert.equal(pool.log.all.filter(({ msg }) => msg === 'Worker is blocked, killing it').length, 1, JSON.stringify(replacement))
})

test('after as many answers as the master allows, over whatever HTTP, the worker asks once to be replaced', async (t) => {
  const { heard, app } = await worker(t, { max_requests: 4 }, `
    const one = require('http').createServer((req, res) => res.end('ok'))
    const two = require('http2').createServer((req, res) => res.end('ok'))
    one.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => two.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => say('facts', { one: one.address().port, two: two.address().port })))`)
  const { one, two } = await app.hears('facts')
  const asks = ({ event }) => event === 'request-restart'
  const session = http2.connect(`http://127.0.0.1:${two}`)
  t.after(() => session.destroy())
  const get2 = () => new Promise((resolve, reject) => session.request({ ':path': '/' }).on('error', reject).on('close', resolve).resume())
  const get1 = async () => (await fetch(`http://127.0.0.1:${one}/`)).text()
  await get2()
  await get1()
  await get1()
  assert.ok(!heard.all.some(asks))
  await get2()
  assert.equal((await heard.find(asks)).reason, 'max-requests')
  for (let n = 0; n < 9; n++) await Promise.all([get1(), get2()])
  assert.equal(heard.all.filter(asks).length, 1)
})
