'use strict'
// One line on stderr: stdout belongs to the app.

exports.say = function say(text) {
  process.stderr.write(`dutch-master-worker[${process.pid}]: ${text}\n`)
}
