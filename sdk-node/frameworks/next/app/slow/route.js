// A response that takes its time: so many milliseconds, or until the file `RELEASE` exists.
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export async function GET(request) {
  const ms = request.nextUrl.searchParams.get('ms')
  if (ms) await sleep(Number(ms))
  else while (!existsSync(process.env.RELEASE)) await sleep(20)
  return new Response('slow')
}
