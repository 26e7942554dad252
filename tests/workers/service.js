'use strict'
// The service of the comparison of rolling restarts: what the load client asks for, reporting as hello.js does. It knows nothing of whoever keeps it running.

const fs = require('node:fs')
const http = require('node:http')

const server = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost')
  if (pathname === '/echo') request.pipe(response)
  else if (pathname === '/slow') setTimeout(() => response.end('slow\n'), Number(searchParams.get('ms')))
  else response.end('hello\n')
})

server.listen({ host: '127.0.0.1', port: 0 }, () => {
  const line = `ready ${process.pid} ${process.hrtime.bigint()} ${server.address().port}\n`
  if (process.env.BENCH_REPORTS) fs.writeFileSync(process.env.BENCH_REPORTS, line)
})
