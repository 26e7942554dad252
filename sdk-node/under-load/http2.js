'use strict'
// One client over HTTP/2, with TLS or without: one session, used until the server says GOAWAY. What the server refuses unprocessed is repeated on a new one, as every HTTP/2 client does; nothing else is.

const http2 = require('node:http2')

class Http2Client {
  #url
  #session
  #keepAlive
  /** How many requests were refused unprocessed, and repeated. */
  refused = 0

  constructor({ port, host = '127.0.0.1', secure = false }, { keepAlive = true } = {}) {
    this.#url = `http${secure ? 's' : ''}://${host}:${port}`
    this.#keepAlive = keepAlive
  }

  /** As `Http1Client.request`. */
  async request(what) {
    for (;;) {
      const reused = isOpen(this.#session)
      if (!reused) this.#session = this.#connect()
      try {
        const response = await this.#exchange(this.#session, what)
        const last = !isOpen(this.#session)
        if (!this.#keepAlive) this.#session.close()
        return { ...response, reused, last }
      } catch (error) {
        if (error.refused !== true) throw error
        this.refused++
      }
    }
  }

  #connect() {
    const session = http2.connect(this.#url, { rejectUnauthorized: false })
    session.failure = new Promise((resolve) => session.on('error', resolve))
    return session
  }

  #exchange(session, { method = 'GET', path = '/', body, paused }) {
    return new Promise((resolve, reject) => {
      session.failure.then(reject)
      const stream = session.request({ ':method': method, ':path': path }, { endStream: !body })
      const chunks = []
      let status
      stream.on('response', (headers) => (status = headers[':status']))
      stream.on('data', (chunk) => chunks.push(chunk))
      stream.on('error', (error) => reject(Object.assign(error, { refused: stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM })))
      stream.on('close', () => {
        if (stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM) reject(Object.assign(new Error('refused'), { refused: true }))
        else if (status === undefined || stream.rstCode !== http2.constants.NGHTTP2_NO_ERROR) reject(new Error(`stream closed with code ${stream.rstCode}, status ${status}`))
        else resolve({ status, body: Buffer.concat(chunks) })
      })
      if (!body) return
      if (!paused) return stream.end(body)
      const half = body.length >> 1
      stream.write(body.subarray(0, half))
      paused.then(() => stream.end(body.subarray(half)))
    })
  }

  close() {
    this.#session?.destroy()
  }
}

function isOpen(session) {
  return Boolean(session && !session.closed && !session.destroyed)
}

module.exports = { Http2Client }
