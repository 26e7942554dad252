'use strict'
// Values of options, read as strictly as the command line reads them; each refusal says what would have been right.

const net = require('node:net')
const { availableParallelism, cpus } = require('node:os')
const { resolve } = require('node:path')

const UNITS = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }
const SIZE_MAX = 4_096 // as the master has it
const HEARTBEAT_MIN = 300 // as the master has it
const MEMORY_MIN = 1_024 ** 2 // as the master has it
const TIME_MAX = 366 * UNITS.d

/** The signals that neither the system nor another order needs. */
const RESTART_SIGNALS = ['SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGVTALRM', 'SIGPROF', 'SIGWINCH', 'SIGURG']

/** Throws what the caller says of an option of the wrong value. */
function wanted(what) {
  throw new TypeError(`${what} is wanted`)
}

/** Milliseconds: a number of them, or a string with units. */
function time(value) {
  const forms = 'a number of milliseconds, or a string like "30s", "1m30s" or "500ms",'
  const parts = typeof value === 'string' ? value.match(/\d+(?:ms|s|min|m|h|d)/g) : undefined
  let ms = value
  if (typeof value === 'string') {
    if (parts?.join('') !== value.replaceAll(' ', '')) wanted(forms)
    ms = parts.reduce((sum, part) => sum + parseInt(part, 10) * UNITS[part.replace(/\d+/, '')], 0)
  }
  if (typeof ms !== 'number' || !(ms >= 0)) wanted(forms)
  if (ms > TIME_MAX) wanted('at most "366d"')
  return ms
}

function positiveTime(value) {
  return time(value) || wanted('more than nothing')
}

/** As the addon takes it: negative for never. */
function limit(value) {
  return isNever(value) ? -1 : time(value)
}

const isNever = (value) => value === 'never' || value === Infinity

/** These four, as the addon takes them: negative for never. */
function lifetime(value) {
  return isNever(value) ? -1 : positiveTime(value)
}

function heartbeat(value) {
  if (isNever(value)) return -1
  const ms = time(value)
  return ms >= HEARTBEAT_MIN ? ms : wanted('at least "300ms", or "never",')
}

function requests(value) {
  return isNever(value) ? -1 : count(value)
}

/** Bytes: a number of them, or a string with a unit, which is a power of 1024. */
function memory(value) {
  if (isNever(value)) return -1
  const [, number, unit] = /^(\d+(?:\.\d+)?) ?([KMGT])(?:i?B)?$/i.exec(String(value)) ?? [undefined, value, '']
  const bytes = Math.floor(Number(number) * 1_024 ** ' KMGT'.indexOf(unit.toUpperCase() || ' '))
  return bytes >= MEMORY_MIN ? bytes : wanted('a size like "512M" or "2G", at least "1M", or "never",')
}

function size(value) {
  if (value === 'auto') return availableParallelism?.() ?? cpus().length
  const number = typeof value === 'string' && /^\d+$/.test(value.trim()) ? Number(value) : value
  return Number.isInteger(number) && number >= 1 && number <= SIZE_MAX ? number : wanted(`a whole number from 1 to ${SIZE_MAX}, or "auto",`)
}

function count(value) {
  return Number.isInteger(value) && value >= 1 ? value : wanted('a whole number from 1')
}

/** As the addon takes it: nothing for `all`. */
function surge(value) {
  if (value === 'all') return {}
  const percent = typeof value === 'string' && /^\d+%$/.test(value) ? parseInt(value, 10) : 0
  if (percent > 0) return { surgePercent: percent }
  return Number.isInteger(value) && value > 0 ? { surgeCount: value } : wanted('a share like "25%", a number from 1, or "all"')
}

function signal(value) {
  return RESTART_SIGNALS.includes(value) ? value : wanted(`one of ${RESTART_SIGNALS.join(', ')}`)
}

/** The name or number of a user or group. */
function account(value) {
  if (Number.isInteger(value) && value >= 0) return String(value)
  return typeof value === 'string' && /^[^\0:,]+$/.test(value) ? value : wanted('a name or a number')
}

/** Permission bits: a number, or octal digits. */
function mode(value) {
  const bits = typeof value === 'string' && /^[0-7]{1,4}$/.test(value) ? parseInt(value, 8) : value
  return Number.isInteger(bits) && bits >= 0 && bits <= 0o777 ? bits : wanted('a mode like 0o027 or "027"')
}

/** `[NAME=]ADDR`: 8000, `127.0.0.1:8000`, `[::1]:8000`, `unix:PATH`. */
function listener(value) {
  const text = String(value)
  const named = /^([A-Za-z][\w.-]*)=(.*)$/.exec(text)
  return { name: named?.[1], ...address(named ? named[2] : text) }
}

function address(text) {
  if (/^unix:./.test(text)) return socket(text.slice('unix:'.length))
  const [, ipv6, ipv4, digits] = /^(?:(?:\[(.*)\]|([\d.]+)):)?(\d+)$/.exec(text) ?? wanted('an address like 8000, "127.0.0.1:8000", "[::1]:8000" or "unix:PATH"')
  const [host, port] = [ipv6 ?? ipv4, Number(digits)]
  if (host !== undefined && !net.isIP(host)) wanted('an IP address before the port')
  return port <= 65_535 ? { host, port } : wanted('a port up to 65535')
}

/** `PATH[,mode=…][,owner=…][,group=…]` */
function socket(text) {
  const [, path, tail] = /^(.*?)((?:,(?:mode|owner|group)=[^,]*)*)$/s.exec(text)
  const access = Object.fromEntries(tail.split(',').slice(1).map((part) => part.split('=')))
  return { path: resolve(path), ...(access.mode !== undefined && { mode: mode(access.mode) }), ...(access.owner !== undefined && { owner: account(access.owner) }), ...(access.group !== undefined && { group: account(access.group) }) }
}

module.exports = { wanted, time, positiveTime, limit, lifetime, heartbeat, requests, memory, size, count, surge, signal, account, mode, listener }
