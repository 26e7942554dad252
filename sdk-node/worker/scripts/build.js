'use strict'
// Builds the addon and puts it beside binding.js, under the name of this platform; see ../../build-addon.js.

const { join } = require('node:path')
const { buildAddon } = require('../../build-addon.js')
const { platformsHere } = require('../platforms.js')

const libc = process.report.getReport().header.glibcVersionRuntime ? 'glibc' : 'musl'
const platform = platformsHere().find((platform) => !platform.libc || platform.libc === libc)
if (!platform) throw new Error(`unknown platform ${process.platform}-${process.arch}; name it in platforms.js`)
buildAddon('dutch-master-worker-node', join(__dirname, '..', platform.file))
