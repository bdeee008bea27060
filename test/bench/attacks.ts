/**
 * Single attacks of one user on the event loop and the memory of the service, and what another user's `GET /session` takes
 * meanwhile, against the quiet service.
 *
 * Each attack has a service of its own with its embedded database and default settings. Attacker, victim, service and
 * database share the processors of one machine; the memory is that of the service's process.
 */
import type { Socket } from "node:net"
import { login, residentMb, start, unread, type User } from "./isolationWorld.ts"
import { quantile } from "./measure.ts"

const pause = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

const finished = async (user: User, sql: string): Promise<string> => {
  const { json } = await user.send("POST", "/queries", { sql })
  const { id } = json as { readonly id: string }
  for (;;) {
    const { json } = await user.send("GET", `/queries/${id}`)
    const { state } = json as { readonly state: string }
    if (["Succeeded", "Failed", "Canceled"].includes(state)) return id
    await pause(20)
  }
}

interface World {
  readonly url: string
  readonly alice: User
  readonly streams: Set<Socket>
}

const all = (count: number, one: () => Promise<unknown>) => Promise.all(Array.from({ length: count }, one))

const attacks: Readonly<Record<string, (world: World) => Promise<unknown>>> = {
  "a json array of 16 MB, five together": ({ alice }) =>
    all(5, () => finished(alice, "select ('['||repeat('1,',8000000)||'1]')::json")),
  "an int[] of 2 million, five together": ({ alice }) =>
    all(5, () => finished(alice, "select array_agg(n) from generate_series(1, 2000000) n")),
  "16 MB of chr(1), five together": ({ alice }) => all(5, () => finished(alice, "select repeat(chr(1), 16000000)")),
  "1,600 columns, three together": ({ alice }) =>
    all(3, () =>
      finished(
        alice,
        `select ${Array.from({ length: 1600 }, (_, index) => `n c${index}`).join(",")} from generate_series(1, 1000) n`
      )
    ),
  "a row of 96 MB that 40 sockets do not read": async ({ alice, streams, url }) => {
    const id = await finished(alice, "select repeat(chr(1), 16000000)")
    for (let count = 0; count < 40; count++) unread(url, alice.cookie(), `/queries/${id}/rows`, streams)
    await pause(5000)
  },
  "pages of 10,000 rows that 200 sockets do not read": async ({ alice, streams, url }) => {
    const id = await finished(alice, "select n, repeat('x', 400) from generate_series(1, 10000) n")
    for (let count = 0; count < 200; count++) unread(url, alice.cookie(), `/queries/${id}/rows?limit=10000`, streams)
    await pause(5000)
  },
  "lists of waiting statements of 1 MB that 20 sockets do not read": async ({ alice, streams, url }) => {
    await all(60, () => alice.send("POST", "/queries", { sql: `select pg_sleep(60) -- ${"x".repeat(900_000)}` }))
    for (let count = 0; count < 20; count++) unread(url, alice.cookie(), "/queries?limit=1000", streams)
    await pause(5000)
  },
  "1,500 event streams": async ({ alice, streams, url }) => {
    const { json } = await alice.send("POST", "/queries", { sql: "select pg_sleep(60)" })
    const { id } = json as { readonly id: string }
    for (let count = 0; count < 1500; count++) {
      unread(url, alice.cookie(), `/queries/${id}/events`, streams, 1500)
      if (count % 50 === 0) await pause(10)
    }
    await pause(5000)
  },
  "bodies of 1 MiB full of values": async ({ alice }) => {
    for (let round = 0; round < 10; round++) {
      await all(5, () => alice.send("POST", "/queries", `{"sql":"select 1","params":[${"1,".repeat(500_000)}1]}`))
    }
  },
  "a million notices of 1,000 characters": ({ alice }) =>
    finished(alice, "do $$ begin for i in 1..1000000 loop raise notice '%', repeat('x', 1000); end loop; end $$")
}

const latencies = async (victim: User, isOver: () => boolean): Promise<ReadonlyArray<number>> => {
  const taken: Array<number> = []
  while (!isOver()) {
    const began = performance.now()
    const { status } = await victim.send("GET", "/session")
    if (status !== 200) throw new Error(`GET /session: ${status}`)
    taken.push(performance.now() - began)
    await pause(5)
  }
  return taken
}

const measured = async (name: string, attack: (world: World) => Promise<unknown>) => {
  const service = await start()
  const streams = new Set<Socket>()
  try {
    const [alice, carol] = await Promise.all([login(service.url, "alice"), login(service.url, "carol")])
    const until = performance.now() + 4000
    const quiet = await latencies(carol, () => performance.now() > until)
    const before = residentMb(service.pid)
    let most = before
    const watch = setInterval(() => (most = Math.max(most, residentMb(service.pid))), 50)
    let isOver = false
    const under = latencies(carol, () => isOver)
    await attack({ url: service.url, alice, streams })
    isOver = true
    const attacked = await under
    clearInterval(watch)
    const [calm, wild] = [quantile(quiet, 0.99), quantile(attacked, 0.99)]
    console.log(
      `${name}: GET /session p99 quiet ${calm.toFixed(1)} ms, attacked ${wild.toFixed(1)} ms (${(wild - calm).toFixed(1)} more), most ${Math.max(...attacked).toFixed(0)} ms; memory +${(most - before).toFixed(0)} MB`
    )
  } finally {
    for (const stream of streams) stream.destroy()
    await service.stop()
  }
}

export const run = async () => {
  for (const [name, attack] of Object.entries(attacks)) await measured(name, attack)
}
