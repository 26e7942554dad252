'use strict'
// Koa.

const Koa = require('koa')
const slow = require('../slow.js')

const routes = {
  '/': () => `hello from Koa, pid ${process.pid}`,
  '/slow': (ctx) => slow(ctx.query.ms),
  '/echo': (ctx) => ctx.req,
}

const app = new Koa()
app.use(async (ctx) => {
  ctx.body = await routes[ctx.path](ctx)
})
app.listen(Number(process.env.PORT), '127.0.0.1')
