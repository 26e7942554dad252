'use strict'
// A worker that has answered as many requests as the master allows asks to be replaced. Where there is no such limit nothing is counted, and nothing hooked.

const diagnostics = require('node:diagnostics_channel')

const HTTP1_ANSWERED = 'http.server.response.finish'

/** Asks once, when `servers` have answered `session.maxRequests` requests. */
function limitRequests(session, servers) {
  const { maxRequests } = session
  if (!(maxRequests > 0)) return
  let answered = 0
  const count = () => {
    if (++answered !== maxRequests) return
    session.requestRestart('max-requests')
    diagnostics.unsubscribe(HTTP1_ANSWERED, countHttp1)
    servers.off('session', countHttp2)
  }
  const countHttp1 = ({ server }) => servers.has(server) && count()
  const countHttp2 = (session) => session.on('stream', (stream) => stream.once('close', count))
  diagnostics.subscribe(HTTP1_ANSWERED, countHttp1)
  servers.on('session', countHttp2)
}

module.exports = { limitRequests }
