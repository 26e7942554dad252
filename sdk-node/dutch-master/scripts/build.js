'use strict'
// Builds the addon and puts it beside binding.js, under the name of this platform; see ../../build-addon.js.

const { join } = require('node:path')
const { buildAddon } = require('../../build-addon.js')
const { triples } = require('../lib/platform.js')

buildAddon('dutch-master-node', join(__dirname, '..', `dutch-master.${triples()[0]}.node`))
