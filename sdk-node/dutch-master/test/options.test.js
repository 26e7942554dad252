'use strict'
// The options as they are read; those that are wrong name themselves and what would be right.

const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { test } = require('node:test')
const { check, NAMES } = require('../lib/options.js')
const { PACKAGE } = require('./harness.js')

const read = (option, value) => check({ worker: 'app.js', [option]: value })[option]

test('values have every form that is written in the documentation', () => {
  for (const [option, value, expected] of [
    ['numWorkers', 3, 3],
    ['numWorkers', '3', 3],
    ['startTimeout', 1500, 1500],
    ['startTimeout', '30s', 30_000],
    ['killTimeout', '1m30s', 90_000],
    ['settleTime', '500ms', 500],
    ['orphanTimeout', 'never', -1],
    ['maxLifetime', '1d', 86_400_000],
    ['maxMemory', '512M', 512 * 1024 ** 2],
    ['maxMemory', '1.5GiB', 1.5 * 1024 ** 3],
    ['maxMemory', 104_857_600, 104_857_600],
    ['maxRequests', 1000, 1000],
    ['maxRequests', 'never', -1],
    ['heartbeat', '5s', 5_000],
    ['surge', 'all', {}],
    ['surge', '50%', { surgePercent: 50 }],
    ['surge', 2, { surgeCount: 2 }],
    ['listen', 8000, [{ name: undefined, host: undefined, port: 8000 }]],
    ['listen', ['web=127.0.0.1:80', '[::1]:81'], [{ name: 'web', host: '127.0.0.1', port: 80 }, { name: undefined, host: '::1', port: 81 }]],
    ['listen', 'unix:/run/a.sock', [{ name: undefined, path: '/run/a.sock' }]],
    ['listen', 'a=unix:/run/a,b.sock,mode=0660,owner=www,group=7', [{ name: 'a', path: '/run/a,b.sock', mode: 0o660, owner: 'www', group: '7' }]],
    ['user', 33, '33'],
    ['groups', ['www', 7], ['www', '7']],
    ['umask', '027', 0o27],
    ['umask', 0o27, 0o27],
  ]) {
    assert.deepEqual(read(option, value), expected, `${option}: ${value}`)
  }
  assert.ok(read('numWorkers', 'auto') >= 1)
})

test('what is left out, undefined or null has its default', () => {
  const { numWorkers, workerEnvironment, restartSignal } = check({ worker: 'app.js', numWorkers: undefined, workerEnvironment: null, beforeFork: undefined })
  assert.deepEqual({ numWorkers, workerEnvironment, restartSignal }, { numWorkers: 2, workerEnvironment: {}, restartSignal: 'SIGUSR2' })
})

test('a wrong value is refused, and the refusal names the option and what is wanted', () => {
  for (const [option, value, wanted] of [
    ['numWorkers', 0, /whole number/],
    ['numWorkers', 1.5, /whole number/],
    ['numWorkers', '2x', /whole number/],
    ['startTimeout', '30', /milliseconds/],
    ['startTimeout', 0, /more than nothing/],
    ['killTimeout', 0, /more than nothing/],
    ['killTimeout', -1, /milliseconds/],
    ['killTimeout', NaN, /milliseconds/],
    ['maxLifetime', 0, /more than nothing/],
    ['maxMemory', '512', /"512M"/],
    ['maxMemory', 'much', /"512M"/],
    ['maxRequests', 0, /whole number/],
    ['heartbeat', 10, /300ms/],
    ['surge', '0%', /share/],
    ['restartSignal', 'SIGTERM', /SIGUSR2/],
    ['restartSignal', 'constructor', /SIGUSR2/],
    ['listen', 'localhost:80', /address/],
    ['listen', '999.1.1.1:80', /IP address/],
    ['listen', 70_000, /port/],
    ['listen', 'unix:/a,mode=9', /mode/],
    ['user', -1, /name or a number/],
    ['groups', 'www', /array/],
    ['umask', 0o1777, /mode/],
    ['umask', '8', /mode/],
    ['beforeFork', 'true', /function/],
    ['workerEnvironment', ['A=1'], /object/],
    ['logger', {}, /bunyan or pino/],
    ['keepTrying', 'yes', /true or false/],
    ['readyOn', 'start', /"listening" or "hello"/],
  ]) {
    assert.throws(() => read(option, value), (error) => error instanceof TypeError && error.message.includes(`\`${option}\``) && wanted.test(error.message), `${option}: ${value}`)
  }
})

test('an unknown option is refused with the nearest known one', () => {
  assert.throws(() => read('num_workers', 2), /no option `num_workers`; did you mean `numWorkers`\?/)
  assert.throws(() => read('killtimeuot', 2), /did you mean `killTimeout`\?/)
  assert.throws(() => read('__proto__x', 2), /these are known: worker, /)
})

test('every key of the configuration file is an option, in camel case', () => {
  const table = readFileSync(join(PACKAGE, '../../docs/configuration.md'), 'utf8')
  const keys = [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, key]) => key)
  // The environment has one name here, the log and an address for metrics are the program's own, and what is not Node is not started here.
  const others = ['env', 'log_format', 'log_file', 'metrics', 'adapt']
  const expected = keys.filter((key) => !others.includes(key)).map((key) => key.replace(/_(\w)/g, (_, letter) => letter.toUpperCase()))
  assert.ok(keys.length > 20)
  assert.deepEqual(expected.filter((name) => !NAMES.includes(name)), [])
})

test('the types and the documentation have every option', () => {
  for (const file of ['index.d.ts', 'README.md']) {
    const text = readFileSync(join(PACKAGE, file), 'utf8')
    assert.deepEqual(NAMES.filter((name) => !new RegExp(`\\b${name}\\b`).test(text)), [], file)
  }
})
