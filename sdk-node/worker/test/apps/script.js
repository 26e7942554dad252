'use strict'
// Runs the code in SCRIPT, in a worker or without a master: `say(event, facts)` prints what the tests wait for.

const say = (event, facts) => console.log(JSON.stringify({ event, pid: process.pid, ...facts }))
const run = new (async () => {}).constructor('require', 'say', process.env.SCRIPT)
run(require, say)
