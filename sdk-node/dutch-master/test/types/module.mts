// What a TypeScript module may write.

import start, { start as byName, type Options } from 'dutch-master'

const options: Options = { worker: 'app.mjs', listen: [8000, 'admin=127.0.0.1:9000'], surge: '25%' }
const code: number = await byName(options).stop({ now: true })
const size: { size: number } = await start(options).scale('+1')
void [code, size]
