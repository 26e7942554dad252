'use strict'
// Notes every server that begins to listen, by the master or for itself. Two hooks where Node's own paths meet; nothing is hooked per connection or request. Datagram sockets have no connections, and are closed by Node's own disconnect.

const net = require('node:net')

const REUSE_PORT = 2 // UV_TCP_REUSEPORT

/** Fills `servers`. `onReusePort` is called with a server that listens on a port which it shares with the other workers by `reusePort`: it serves the pool's port, and Node tells no master of it. */
function watchListen(cluster, servers, onReusePort) {
  const asked = new WeakSet()

  const getServer = cluster._getServer
  cluster._getServer = function (server, ...rest) {
    asked.add(server)
    return getServer.call(this, server, ...rest)
  }

  // Node's name for it since ever, kept "to avoid breaking code that wraps this method". Servers with `exclusive`, `reusePort` or a handle of the app's come this way alone.
  const setUp = net.Server.prototype._listen2
  net.Server.prototype._listen2 = function (address, port, addressType, backlog, fd, flags) {
    const own = !(asked.delete(this) && this._handle)
    servers.add(this, { own })
    if (own && flags & REUSE_PORT) this.once('listening', () => onReusePort(this))
    return setUp.apply(this, arguments)
  }
}

module.exports = { watchListen }
