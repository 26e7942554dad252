'use strict'
// What Node's own servers answer here; both HTTP/1 and HTTP/2 have this interface.

const slow = require('./slow.js')

module.exports = (name) => async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost')
  if (pathname === '/echo') return request.pipe(response)
  response.end(pathname === '/slow' ? await slow(searchParams.get('ms')) : `hello from ${name}, pid ${process.pid}`)
}
