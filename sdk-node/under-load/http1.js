'use strict'
// One client over HTTP/1, with TLS or without: at most one connection, used again while the server keeps it. Nothing is ever tried twice.

const http = require('node:http')
const https = require('node:https')

class Http1Client {
  #module
  #agent
  #where

  constructor({ port, host = '127.0.0.1', secure = false }, { keepAlive = true } = {}) {
    this.#module = secure ? https : http
    this.#agent = new this.#module.Agent({ keepAlive, maxSockets: 1, rejectUnauthorized: false })
    this.#where = { host, port, agent: this.#agent }
  }

  /**
   * One request: `{ status, body, reused, last }` of its response, `reused` telling whether the connection had been used before, and `last` whether it cannot be used again. Half of `body` is sent before `paused` is fulfilled, the rest after.
   */
  request({ method = 'GET', path = '/', body, paused }) {
    return new Promise((resolve, reject) => {
      const headers = body && { 'content-type': 'application/octet-stream', 'content-length': body.length }
      const request = this.#module.request({ ...this.#where, method, path, headers }, (response) => {
        const chunks = []
        response.on('data', (chunk) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(chunks), reused: request.reusedSocket, last: response.headers.connection === 'close' }))
      })
      request.on('error', reject)
      if (!paused) return request.end(body)
      const half = body.length >> 1
      request.write(body.subarray(0, half))
      paused.then(() => request.end(body.subarray(half)))
    })
  }

  close() {
    this.#agent.destroy()
  }
}

module.exports = { Http1Client }
