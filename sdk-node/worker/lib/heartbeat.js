'use strict'
// Signs of life, where the master wants them: from a timer of the main thread, so that a worker whose event loop is blocked goes silent.

/** How many beats fall into the time after which the master takes a worker for blocked: some may be late. */
const BEATS = 3

/** Begins to beat. The timer keeps nobody alive. */
function startHeartbeat(session) {
  if (!(session.heartbeatMs > 0)) return
  session.beat()
  setInterval(() => session.beat(), session.heartbeatMs / BEATS).unref()
}

module.exports = { startHeartbeat }
