/**
 * The room in which attempts to log in wait for their turn, fair between networks of every size.
 *
 * A place lasts from when it was entered until it is left. It may be taken away while its holder waits, and no longer once it has
 * its turn.
 *
 * **Details**
 *
 * An attempt comes from a client, and a client is part of networks, the largest first: `/32`, `/48`, `/56`, `/64`. Turns go round
 * on each level: between the largest networks, within one of them between its parts, and so on. When the room is full, the newest
 * attempt of the network that has the most waiting makes room for one of a network that has fewer, on the first level where there
 * is such a network (longest queue drop on a tree). So a network that fills the room, however many addresses it has, keeps out
 * nobody of another one.
 */
import * as Effect from "effect/Effect"

/** How many attempts there may be. */
export interface Limits {
  /** Have their turn at a time. */
  readonly atOnce: number
  /** Wait at a time, or look up what they need. */
  readonly waiting: number
  /** Places of one client. */
  readonly ofClient: number
  /** Places of one user name at a client. */
  readonly ofUser: number
}

/** Who tries. */
export interface Who {
  /** The networks of the client, the largest first, and the client last: at least one. */
  readonly path: ReadonlyArray<string>
  readonly username: string
}

/** A place in the room. */
export interface Place {
  /** Calls back once, when the turn has come. */
  readonly turn: (begin: () => void) => void
  /** Calls back if the place is taken away. */
  readonly taken: (gone: () => void) => void
  /** Gives the place back, once however often it is called. */
  readonly leave: () => void
}

/** A client, or a network of some. */
class Network {
  readonly name: string
  /** In the order of their turns. */
  readonly parts = new Map<string, Network>()
  /** Of a client, the oldest first. */
  readonly attempts = new Set<Attempt>()
  readonly users = new Map<string, number>()
  /** Places here and in all parts, those that wait in any way, and those that wait for their turn. */
  places = 0
  waiting = 0
  ready = 0

  constructor(name: string) {
    this.name = name
  }
}

class Attempt implements Place {
  readonly networks: ReadonlyArray<Network>
  readonly who: Who
  state: "entered" | "ready" | "begun" | "gone" = "entered"
  begin: (() => void) | undefined
  private gone: (() => void) | undefined
  private readonly room: Room

  constructor(room: Room, who: Who, networks: ReadonlyArray<Network>) {
    this.room = room
    this.who = who
    this.networks = networks
  }

  turn(begin: () => void): void {
    if (this.state !== "entered") return
    this.begin = begin
    this.room.wait(this)
  }

  taken(gone: () => void): void {
    if (this.state === "gone") gone()
    else this.gone = gone
  }

  leave(): void {
    this.room.remove(this)
  }

  takeAway(): void {
    this.room.remove(this)
    this.gone?.()
  }
}

const waitsIn = (state: Attempt["state"]) => (state === "entered" || state === "ready" ? 1 : 0)

/** All attempts of a process. */
export class Room {
  private readonly root = new Network("")
  private readonly limits: Limits
  private begun = 0

  constructor(limits: Limits) {
    this.limits = limits
  }

  /** A place, or undefined where there is none for this client. */
  enter(who: Who): Place | undefined {
    const client = this.find(who.path)
    const { atOnce, ofClient, ofUser, waiting } = this.limits
    if (client !== undefined && (client.places >= ofClient || (client.users.get(who.username) ?? 0) >= ofUser)) {
      return undefined
    }
    if (this.root.places >= atOnce + waiting && !this.makeRoom(who.path)) return undefined
    const networks = [this.root]
    for (const name of who.path) {
      const { parts } = networks.at(-1) ?? this.root
      const part = parts.get(name) ?? new Network(name)
      parts.set(name, part)
      networks.push(part)
    }
    const attempt = new Attempt(this, who, networks)
    const last = networks.at(-1) ?? this.root
    last.attempts.add(attempt)
    last.users.set(who.username, (last.users.get(who.username) ?? 0) + 1)
    for (const network of networks) {
      network.places++
      network.waiting++
    }
    return attempt
  }

  private find(path: ReadonlyArray<string>): Network | undefined {
    let network: Network | undefined = this.root
    for (const name of path) network = network?.parts.get(name)
    return network
  }

  /** Takes a place away from the network that has the most, where the one that comes has fewer even with one more. */
  private makeRoom(path: ReadonlyArray<string>): boolean {
    let network: Network | undefined = this.root
    for (const name of path) {
      const own: Network | undefined = network.parts.get(name)
      const most = largest(network)
      if (most !== undefined && most !== own && (own?.waiting ?? 0) + 1 < most.waiting) {
        newest(most)?.takeAway()
        return true
      }
      if (own === undefined) return false
      network = own
    }
    return false
  }

  wait(attempt: Attempt): void {
    attempt.state = "ready"
    for (const network of attempt.networks) network.ready++
    this.next()
  }

  remove(attempt: Attempt): void {
    const { networks, state, who } = attempt
    if (state === "gone") return
    attempt.state = "gone"
    const waits = waitsIn(state)
    for (const network of networks) {
      network.places--
      network.waiting -= waits
      if (state === "ready") network.ready--
    }
    const client = networks.at(-1) ?? this.root
    client.attempts.delete(attempt)
    const left = (client.users.get(who.username) ?? 1) - 1
    if (left === 0) client.users.delete(who.username)
    else client.users.set(who.username, left)
    who.path.forEach((name, level) => {
      if (networks[level + 1]?.places === 0) networks[level]?.parts.delete(name)
    })
    if (state !== "begun") return
    this.begun--
    this.next()
  }

  /** Gives turns while there are some, and moves who had one behind the others, on every level. */
  private next(): void {
    while (this.begun < this.limits.atOnce && this.root.ready > 0) {
      let network = this.root
      for (let part = firstReady(network); part !== undefined; part = firstReady(network)) {
        network.parts.delete(part.name)
        network.parts.set(part.name, part)
        network = part
      }
      const attempt = Array.from(network.attempts).find(({ state }) => state === "ready")
      if (attempt === undefined) return
      attempt.state = "begun"
      this.begun++
      for (const each of attempt.networks) {
        each.ready--
        each.waiting--
      }
      attempt.begin?.()
    }
  }
}

/** Its first part in which somebody waits for a turn. */
const firstReady = ({ parts }: Network): Network | undefined => {
  for (const part of parts.values()) if (part.ready > 0) return part
  return undefined
}

/** The last one of those that have the most: the newest, or the one that had a turn last. */
const largest = ({ parts }: Network): Network | undefined => {
  let most: Network | undefined
  for (const part of parts.values()) if (part.waiting > 0 && part.waiting >= (most?.waiting ?? 0)) most = part
  return most
}

/** The newest that waits, of the client that has the most of the network that has the most, and so on. */
const newest = (network: Network): Attempt | undefined => {
  const part = largest(network)
  return part === undefined ? Array.from(network.attempts).findLast(({ state }) => waitsIn(state) === 1) : newest(part)
}

/** Who tries, and what is done in the place. */
export interface Use<A, E, R> extends Who {
  /** Begins at once; `inTurn` waits for the turn and runs an effect then. */
  readonly run: (
    inTurn: <B, E2, R2>(effect: Effect.Effect<B, E2, R2>) => Effect.Effect<B, E2, R2>
  ) => Effect.Effect<A, E, R>
}

/** Runs in a place of the room, and fails with `refused` where there is none or where it is taken away. */
export const within =
  <E3>(room: Room, refused: Effect.Effect<never, E3>) =>
  <A, E, R>({ run, ...who }: Use<A, E, R>): Effect.Effect<A, E | E3, R> =>
    Effect.acquireUseRelease(
      Effect.suspend(() => {
        const place = room.enter(who)
        return place === undefined ? refused : Effect.succeed(place)
      }),
      (place) =>
        Effect.raceFirst(
          run((effect) =>
            Effect.andThen(
              Effect.callback<void>((resume) => place.turn(() => resume(Effect.void))),
              effect
            )
          ),
          Effect.callback<never, E3>((resume) => place.taken(() => resume(refused)))
        ),
      (place) => Effect.sync(() => place.leave())
    )
