'use strict'
// Signs of life, where the master wants them: from a timer of the main thread, so that a worker whose event loop is blocked goes silent.

/** Begins to beat. The timer keeps nobody alive. */
function startHeartbeat(session) {
  if (!(session.heartbeatMs > 0)) return
  session.beat()
  setInterval(() => session.beat(), session.heartbeatMs).unref()
}

module.exports = { startHeartbeat }
