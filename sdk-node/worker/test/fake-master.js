'use strict'
// A master that says what a test wants, for what the real one never says. It hands over no listener.

const { mkdtempSync, rmSync } = require('node:fs')
const net = require('node:net')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { Lines } = require('./harness.js')

const WELCOME = { event: 'welcome', protocol: 1, worker: 1, generation: 1, slot: 0, size: 1, names: [] }

/** Answers `hello` with `answer`; what the worker says is in `heard`, `env` is what its environment must have. */
async function fakeMaster(t, answer) {
  const dir = mkdtempSync(join(tmpdir(), 'dm-fake-'))
  const socket = join(dir, 'socket')
  const heard = new Lines()
  const server = net.createServer((connection) => {
    let bytes = Buffer.alloc(0)
    connection.on('error', () => {})
    connection.on('data', (more) => {
      bytes = Buffer.concat([bytes, more])
      while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE()) {
        const frame = bytes.subarray(4, 4 + bytes.readUInt32BE())
        bytes = bytes.subarray(4 + frame.length)
        const message = decode({ bytes: frame, at: 0 })
        if (message.event === 'hello') connection.write(frameOf({ ...WELCOME, ...answer }))
        heard.add(message)
      }
    })
  }).listen(socket)
  t.after(() => {
    server.close()
    rmSync(dir, { recursive: true, force: true })
  })
  return { heard, env: { DUTCH_MASTER_SOCKET: socket, DUTCH_MASTER_TOKEN: 't', NODE_UNIQUE_ID: '1' } }
}

function frameOf(message) {
  const body = encode(message)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  return Buffer.concat([length, body])
}

/** MessagePack, as much of it as is needed here. */
function encode(value) {
  if (typeof value === 'number') return Buffer.from([0xcd, value >> 8, value & 255])
  if (typeof value === 'string') return Buffer.concat([Buffer.from([0xd9, Buffer.byteLength(value)]), Buffer.from(value)])
  if (Array.isArray(value)) return Buffer.concat([Buffer.from([0x90 | value.length]), ...value.map(encode)])
  return Buffer.concat([Buffer.from([0x80 | Object.keys(value).length]), ...Object.entries(value).flat().map(encode)])
}

function decode(reader) {
  const take = (length) => reader.bytes.subarray(reader.at, (reader.at += length))
  const number = (length) => take(length).readUIntBE(0, length)
  const list = (length) => Array.from({ length }, () => decode(reader))
  const byte = number(1)
  if (byte < 0x80) return byte
  if (byte < 0x90) return Object.fromEntries(Array.from({ length: byte & 15 }, () => list(2)))
  if (byte < 0xa0) return list(byte & 15)
  if (byte < 0xc0) return String(take(byte & 31))
  switch (byte) {
    case 0xc0:
      return null
    case 0xc2:
    case 0xc3:
      return byte === 0xc3
    case 0xcc:
      return number(1)
    case 0xcd:
      return number(2)
    case 0xce:
      return number(4)
    case 0xd9:
      return String(take(number(1)))
    case 0xda:
      return String(take(number(2)))
    default:
      throw new Error(`unexpected byte ${byte} of MessagePack`)
  }
}

module.exports = { fakeMaster }
