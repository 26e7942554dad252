'use strict'
// The signals of this process, passed on to its master. They are registered here and never by native code: libuv has one handler for each, and knows no other.

const { closeSync, openSync } = require('node:fs')

/** Passes on signals until `close()`. */
class Signals {
  #handlers

  constructor(running, restartSignal) {
    const hadTerminal = hasTerminal()
    this.#handlers = {
      SIGTERM: () => running.requestStop('SIGTERM'),
      SIGINT: () => running.requestStop('SIGINT'),
      SIGTTIN: () => running.requestScale(1),
      SIGTTOU: () => running.requestScale(-1),
      // The options are code, which is not read again: what a reload would evaluate anew, a restart does.
      SIGHUP: () => (hadTerminal && !hasTerminal() ? running.requestStop('SIGHUP') : running.requestRestart('SIGHUP')),
      [restartSignal]: () => running.requestRestart(restartSignal),
    }
    for (const [signal, handler] of Object.entries(this.#handlers)) process.on(signal, handler)
  }

  close() {
    for (const [signal, handler] of Object.entries(this.#handlers)) process.off(signal, handler)
  }
}

/** A process has a controlling terminal while this file can be opened. */
function hasTerminal() {
  try {
    closeSync(openSync('/dev/tty'))
    return true
  } catch {
    return false
  }
}

module.exports = { Signals }
