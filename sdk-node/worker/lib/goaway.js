'use strict'
// The end of an HTTP/2 session: a GOAWAY at the moment at which its client is least likely to be sending a request, and then its streams are finished.

/**
 * Node has only the GOAWAY after which no new stream is served: a request that crosses it is refused, unprocessed, and clients may repeat it (RFC 9113, 6.8 and 8.7).
 * A client that waits for a response does not send, so it is said while there is one to come: now, or for a session that rests with its next request, for which it has `graceMs`.
 */
function endSession(session, graceMs) {
  if (hasStreams(session)) return session.close()
  const timer = setTimeout(() => session.close(), graceMs)
  session.once('stream', () => session.close())
  session.once('close', () => clearTimeout(timer))
}

/** Node keeps them under a symbol. */
function hasStreams(session) {
  const symbol = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'state')
  return session[symbol]?.streams?.size > 0
}

module.exports = { endSession }
