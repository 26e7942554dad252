// NestJS on its Express adapter, as a module, and without a compiler: decorators are functions.

import 'reflect-metadata'
import { Controller, Get, HttpCode, Module, Post, Query, Req, StreamableFile } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import slow from '../slow.js'

class AppController {
  home() {
    return `hello from NestJS, pid ${process.pid}`
  }

  slow(ms) {
    return slow(ms)
  }

  echo(request) {
    return new StreamableFile(request)
  }
}

class AppModule {}

/** Decorates a method as `@decorator() method(@parameter() value)` would. */
function decorate(name, decorators, parameter) {
  parameter?.(AppController.prototype, name, 0)
  for (const decorator of decorators) decorator(AppController.prototype, name, Object.getOwnPropertyDescriptor(AppController.prototype, name))
}

decorate('home', [Get('/')])
decorate('slow', [Get('/slow')], Query('ms'))
decorate('echo', [Post('/echo'), HttpCode(200)], Req())
Controller()(AppController)
Module({ controllers: [AppController] })(AppModule)

const app = await NestFactory.create(AppModule, { bodyParser: false, logger: ['error', 'warn'] })
await app.listen(Number(process.env.PORT), '127.0.0.1')
