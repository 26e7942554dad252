'use strict'
// The types are what a TypeScript app needs, and name what there is.

const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { test } = require('node:test')
const { promisify } = require('node:util')
const { SDK } = require('./harness.js')

test('tsc compiles apps of both kinds of modules, and finds their mistakes', async () => {
  const tsc = require.resolve('typescript/bin/tsc')
  const { stdout } = await promisify(execFile)(process.execPath, [tsc, '--project', join(__dirname, 'types')]).catch((error) => error)
  assert.equal(stdout, '')
})

test('every member has a type with its documentation, in both kinds of modules, and no other', async () => {
  const { Worker } = require('../lib/worker.js')
  const worker = new Worker()
  const own = [...Object.keys(worker).filter((name) => !name.startsWith('_')), ...Object.getOwnPropertyNames(Worker.prototype).filter((name) => name !== 'constructor')]
  const members = readFileSync(join(SDK, 'index.d.ts'), 'utf8').split('interface Worker {')[1]
  const typed = [...members.matchAll(/(\*\/\n) {4}(?:readonly )?(\w+)[(:]/g)].map(([, , name]) => name)
  assert.deepEqual(typed.sort(), own.sort())
  const { default: whole, ...named } = await import(join(SDK, 'index.mjs'))
  assert.equal(whole, require('../index.js'))
  assert.deepEqual(Object.keys(named).sort(), [...own, 'on', 'once', 'off'].sort())
  const constants = [...readFileSync(join(SDK, 'index.d.mts'), 'utf8').matchAll(/export const (\w+)/g)].map(([, name]) => name)
  assert.deepEqual(constants.sort(), Object.keys(named).sort())
})
