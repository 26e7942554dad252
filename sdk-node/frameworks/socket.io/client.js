'use strict'
// One client over Socket.IO's transport WebSocket, with the interface of `Http1Client`. It comes again when it is asked to, and never repeats a request.

const { once } = require('node:events')
const { io } = require('socket.io-client')

class SocketIoClient {
  #url
  #keepAlive
  #socket
  #isBusy = false

  constructor({ port }, { keepAlive }) {
    this.#url = `ws://127.0.0.1:${port}`
    this.#keepAlive = keepAlive
  }

  async request({ path = '/', body }) {
    this.#isBusy = true
    const socket = (this.#socket ??= await this.#connect())
    const lost = new Promise((resolve, reject) => socket.once('disconnect', (reason) => reject(new Error(`disconnected: ${reason}`))))
    const { pathname, searchParams } = new URL(path, this.#url)
    const words = { '/': ['home'], '/slow': ['slow', searchParams.get('ms')], '/echo': ['echo', body] }[pathname]
    const answer = await Promise.race([socket.emitWithAck(...words), lost])
    lost.catch(() => {}) // The end comes some day.
    this.#isBusy = false
    if (socket.isUnwanted || !this.#keepAlive) this.close()
    return { status: 200, body: Buffer.from(answer) }
  }

  async #connect() {
    const socket = io(this.#url, { transports: ['websocket'], reconnection: false, forceNew: true })
    socket.on('come again', () => {
      socket.isUnwanted = true
      if (!this.#isBusy && this.#socket === socket) this.close()
    })
    const failed = once(socket, 'connect_error').then(([error]) => Promise.reject(error))
    failed.catch(() => {})
    await Promise.race([once(socket, 'connect'), failed])
    return socket
  }

  close() {
    this.#socket?.disconnect()
    this.#socket = undefined
  }
}

module.exports = { SocketIoClient }
