// Next.js makes a server of its own, with what it needs beside it.
module.exports = { output: 'standalone', outputFileTracingRoot: __dirname }
