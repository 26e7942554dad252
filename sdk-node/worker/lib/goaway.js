'use strict'
// The end of an HTTP/2 session: first a GOAWAY that rules out no stream, so that requests which are on their way are served, then the one that does.

const { NGHTTP2_NO_ERROR } = require('node:http2').constants

/** The highest stream that there can be: names none that would not be served. */
const LAST_STREAM = 2 ** 31 - 1
/** How long after the first GOAWAY requests may still arrive that were sent before it did: a long round trip. */
const NOTICE_MS = 1_000

/**
 * Ends a session once its streams are finished. One that rests is served once more, as an HTTP/1 connection is, for which it has `graceMs`:
 * Node reads on after a GOAWAY only while there is a stream, so saying it now would lose a request that is on its way.
 */
function endSession(session, graceMs) {
  if (isOver(session)) return
  if (hasStreams(session)) return giveNotice(session)
  const timer = setTimeout(() => session.close(), graceMs)
  session.once('stream', () => {
    clearTimeout(timer)
    giveNotice(session)
  })
  session.once('close', () => clearTimeout(timer))
}

/** Before the response of the stream that there is, so that a client which waits for that knows. */
function giveNotice(session) {
  if (isOver(session)) return
  session.goaway(NGHTTP2_NO_ERROR, LAST_STREAM)
  const timer = setTimeout(() => session.close(), NOTICE_MS)
  session.once('close', () => clearTimeout(timer))
}

function isOver(session) {
  return session.closed || session.destroyed
}

/** Node keeps them under a symbol. */
function hasStreams(session) {
  const symbol = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'state')
  return session[symbol]?.streams?.size > 0
}

module.exports = { endSession }
