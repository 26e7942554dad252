'use strict'
// The end of a connection: half-close, read on for a while, then close. Closing with unread bytes sends a reset, which can destroy a response on its way.

/** How long the other side may be silent after our end before the connection is closed. */
const LINGER_MS = 1_000

/** Ends `socket` so. What still comes is thrown away: no answer to it could be sent. */
function endGently(socket) {
  if (socket.destroyed || socket.writableEnded) return
  let timer
  const wait = () => {
    clearTimeout(timer)
    timer = setTimeout(() => socket.destroy(), LINGER_MS)
  }
  // A long response takes its time to be sent; the silence counts from its end.
  socket.once('finish', wait)
  socket.once('close', () => clearTimeout(timer))
  socket.end()
  socket.removeAllListeners('data')
  socket.on('data', () => timer && wait())
  socket.resume()
  readOn(socket._handle)
}

/** HTTP reads by its parser, past the stream; where it had stopped, for a body that nobody reads, the stream does not know that it has to start again. */
function readOn(handle) {
  if (!handle || handle.reading) return
  handle.reading = true
  handle.readStart()
}

module.exports = { endGently, LINGER_MS }
