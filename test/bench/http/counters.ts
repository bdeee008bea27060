/**
 * What a server with sessions gets wrong, by count.
 *
 * - *lost*: changes that were answered with 200 and are not in the session, of eight at the same time in each session.
 * - *resurrected*: sessions that are accepted after their logout was answered, while another request of theirs was under way.
 * - *revoked*: sessions that are accepted after all others of their user were ended, while a request of theirs was under way.
 * - *expired*: sessions that are accepted two seconds after their idle time of two seconds.
 * - *wrong principal*: answers that name somebody else.
 */
import { setTimeout } from "node:timers/promises"
import * as Client from "./client.ts"
import type { Call } from "./load.ts"
import { slowMillis } from "./work.ts"

export const idleMillis = 2_000
const each = 40
const parallel = 8

/** The calls of a server with sessions. */
export interface Calls {
  readonly read: Call
  readonly logout: Call
  readonly revokeOthers: Call
  /** A request that changes the session and takes its time, or several. */
  readonly slow: ReadonlyArray<Call>
  /** A change of its own for each number. */
  readonly write: (index: number) => Call
  /** How many of these changes the session has now. */
  readonly written: (send: (call: Call) => Promise<Client.Answer>) => Promise<number>
}

export interface Counts {
  readonly lost: number
  readonly resurrected: number
  readonly revoked: number
  readonly wrongPrincipal: number
}

export type LogIn = (principals: ReadonlyArray<string>) => Promise<ReadonlyArray<string>>

const names = (prefix: string, count = each) => Array.from({ length: count }, (_, index) => `${prefix}-${index}`)

/** A visitor may read, too: nobody's name is told then. */
const isAccepted = ({ status, text }: Client.Answer) => status === 200 && text.includes('"principal":"')

/** Counts on a server. */
export const count = async (port: number, calls: Calls, logIn: LogIn): Promise<Counts> => {
  const { close, send } = Client.make(port, 64)
  let [lost, resurrected, revoked, wrongPrincipal] = [0, 0, 0, 0]
  const as = (cookie: string | undefined) => (call: Call) => send({ ...call, cookie })
  const accepted = async (cookie: string | undefined) => isAccepted(await as(cookie)(calls.read))
  const pairs = async (prefix: string, work: (cookie: string, name: string) => Promise<void>) => {
    const all = names(prefix)
    const cookies = await logIn(all)
    await Promise.all(all.map((name, index) => work(cookies[index] ?? "", name)))
  }

  await pairs("writer", async (cookie, name) => {
    const answers = await Promise.all(Array.from({ length: parallel }, (_, n) => as(cookie)(calls.write(n))))
    const done = answers.filter(({ status }) => status === 200).length
    const written = await calls.written(as(cookie))
    lost += done - written
    const { text } = await as(cookie)(calls.read)
    if (!text.includes(`"principal":"${name}"`)) wrongPrincipal++
  })

  /** Ends a session while requests of its own are under way, and tells whether it is accepted after that. */
  const outlives = async (cookie: string | undefined, end: () => Promise<Client.Answer>) => {
    const under = Promise.all(calls.slow.map(as(cookie)))
    await setTimeout(slowMillis / 3)
    const { status, text } = await end()
    if (status >= 300) throw new Error(`The end of a session was refused: ${status} ${text}`)
    const [first] = await Promise.all([accepted(cookie), under])
    return first || (await accepted(cookie))
  }
  await pairs("leaver", async (cookie) => {
    if (await outlives(cookie, () => as(cookie)(calls.logout))) resurrected++
  })
  const others = await logIn(names("revoked"))
  const mine = await logIn(names("revoked"))
  await Promise.all(
    others.map(async (cookie, index) => {
      if (await outlives(cookie, () => as(mine[index])(calls.revokeOthers))) revoked++
    })
  )
  close()
  return { lost, resurrected, revoked, wrongPrincipal }
}

/** Counts on a server whose sessions have an idle time of two seconds. */
export const expired = async (port: number, calls: Calls, logIn: LogIn) => {
  const { close, send } = Client.make(port, 64)
  const cookies = await logIn(names("idler"))
  // Stores that count in seconds get what they round up.
  await setTimeout(idleMillis + 2_000)
  const answers = await Promise.all(cookies.map((cookie) => send({ ...calls.read, cookie })))
  close()
  return answers.filter(isAccepted).length
}
