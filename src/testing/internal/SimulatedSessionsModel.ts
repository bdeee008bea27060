/**
 * What must be true of sessions, whatever happens: what is certain (what has returned) and what is possible (what has begun).
 *
 * What contradicts the certain is a broken law, and so is a refusal that is not even possible.
 */
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { SessionError } from "../../session/SessionError.ts"
import type { SessionId } from "../../session/SessionId.ts"
import type { SessionRecord } from "../../session/SessionRecord.ts"
import type { SessionToken } from "../../session/SessionToken.ts"
import type { World } from "./SimulatedScenario.ts"
import {
  type Held,
  isEnder,
  type Known,
  latestOf,
  mayBeExpired,
  newlyKnown,
  nobody,
  reasonOf,
  type Seen,
  whose
} from "./SimulatedSessionsKnown.ts"

type Loaded = Exit.Exit<SessionRecord, SessionError>

export class Model {
  readonly world: World
  readonly sessions = new Map<SessionId, Known>()
  readonly tokens = new Map<string, Held>()
  readonly works: Array<{
    readonly id: SessionId
    readonly instance: object
    readonly fiber: Fiber.Fiber<unknown, unknown>
  }> = []
  readonly #open = new Set<Seen>()
  /** Marks whose session nobody knows, because its maker gave up. */
  readonly #loose = new Set<number>()
  /** Tokens that were presented before anybody could say whose they are, and by what. */
  readonly #strange = new Map<string, Array<Seen>>()
  /** When the last operation was over that ends sessions of others. */
  #lastEnder = 0
  /** The highest time of day that there was. */
  #highest = 0
  #tick = 0
  faults = 0
  isQuiet = false

  constructor(world: World) {
    this.world = world
  }

  get now(): number {
    return this.world.process.timeOfDay
  }

  clockMoved(move: () => void): void {
    this.#look()
    const before = this.now
    move()
    this.#look()
    // What was over is live again, and what ends others meanwhile may end it.
    if (this.now < before && Array.from(this.#open).some(isEnder))
      for (const known of this.sessions.values()) known.mayEnd = true
  }

  #look(): void {
    this.#highest = Math.max(this.#highest, this.now)
    for (const known of this.sessions.values()) known.peak = Math.max(known.peak, this.now)
    for (const seen of this.#open) {
      seen.low = Math.min(seen.low, this.now)
      seen.high = Math.max(seen.high, this.now)
    }
  }

  #known(id: SessionId): Known {
    const found = this.sessions.get(id) ?? newlyKnown(`s${this.sessions.size + 1}`, this.now)
    this.sessions.set(id, found)
    return found
  }

  begin(kind: string, principal: string, token: Option.Option<SessionToken>): Seen {
    const held = Option.isSome(token) ? this.tokens.get(Redacted.value(token.value)) : undefined
    const must = new Map(Array.from(this.sessions.values(), (known) => [known, new Set(known.marks)] as const))
    const seen: Seen = {
      kind,
      tick: ++this.#tick,
      token,
      held,
      faults: this.faults,
      low: this.now,
      high: this.now,
      must,
      whose: kind === "revokeOthers" ? whose(this.sessions.values()) : nobody,
      issued: undefined,
      known: held?.known
    }
    this.#open.add(seen)
    if (Option.isSome(token) && held === undefined) {
      const text = Redacted.value(token.value)
      this.#strange.set(text, [...(this.#strange.get(text) ?? []), seen])
    }
    if (held !== undefined) {
      held.known.active++
      if (kind === "login") held.known.logins.add(seen)
      if (kind === "logout") held.known.mayEnd = true
      if (kind === "login" || kind === "rotate" || kind === "renew") this.#mayDie(held.known)
      // Where it is presented in vain, it may become a token of the session that is made instead.
      if (kind === "change") held.mayBeDead = true
      // The principal of a session whose login is under way may be another by now.
      if (kind === "login" && held.known.principal !== principal) held.known.principal = null
    }
    // Any session may have to make room, or be one of the others, which one's own is not.
    if (kind === "login" || kind === "revokeOthers")
      for (const known of this.sessions.values())
        if ((kind === "login" || known !== held?.known) && !this.#isCertainlyOver(known)) known.mayEnd = true
    return seen
  }

  end(seen: Seen): void {
    this.#look()
    this.#open.delete(seen)
    if (seen.kind === "login" || seen.kind === "revokeOthers") this.#lastEnder = ++this.#tick
    if (seen.held === undefined) return
    seen.held.known.active--
    seen.held.known.seenHigh = Math.max(seen.held.known.seenHigh, seen.high)
  }

  /** Its time is up, and nobody does anything with it. An end that comes now finds it so, and it stays expired. */
  #isCertainlyOver(known: Known): boolean {
    return known.active === 0 && known.logins.size === 0 && this.now > latestOf(known)
  }

  #mayDie(known: Known): void {
    for (const held of this.tokens.values()) if (held.known === known) held.mayBeDead = true
  }

  /** A client was told of a token, or that it has none any more. */
  told(seen: Seen, token: Option.Option<SessionToken>): void {
    seen.issued = Option.getOrUndefined(token)
    const isSameSession = seen.kind === "renew" || seen.kind === "rotate"
    if (isSameSession && seen.held !== undefined && Option.isSome(token)) this.#issued(token.value, seen.held.id)
  }

  #issued(token: SessionToken, id: SessionId): void {
    const text = Redacted.value(token)
    if (this.tokens.has(text)) return
    // Another that began before may have replaced it already.
    const mayBeDead =
      this.#strange.has(text) || Array.from(this.#open).some(({ held, kind }) => held?.id === id && kind !== "visit")
    const known = this.#known(id)
    this.tokens.set(text, { known, id, deadAt: undefined, mayBeDead })
    for (const seen of this.#strange.get(text) ?? []) {
      if (seen.kind === "logout") known.mayEnd = true
      if (seen.kind === "login") known.logins.add(seen)
    }
  }

  loaded(seen: Seen, exit: Loaded): void {
    this.#look()
    const { held } = seen
    if (held === undefined) {
      // Whose token it is will be known when the login that it came from has returned.
      if (Option.isSome(seen.token) && Exit.isSuccess(exit)) {
        this.#issued(seen.token.value, exit.value.id)
        this.#known(exit.value.id).mayEnd = true
      }
      return
    }
    const { known } = held
    if (Exit.isSuccess(exit)) {
      if (exit.value.id !== held.id) this.world.broke("a token leads to one session", `${known.name}, then another`)
      if (known.endedAt !== undefined && known.endedAt < seen.tick)
        this.world.broke("S3 nothing brings a session back after its end", `${known.name} was loaded`)
      if (held.deadAt !== undefined && held.deadAt < seen.tick)
        this.world.broke("S6 a token that was replaced at once is dead", `${known.name} was loaded with an old token`)
      const latest = latestOf(known)
      if (known.active === 1 && seen.low > latest)
        this.world.broke(
          "S4 a session is over when its time is up",
          `${known.name} was loaded ${seen.low - latest} ms late`
        )
      known.seenLow = Math.max(known.seenLow, seen.low)
      known.peak = seen.high
      // Where nobody knows when it was born, that may have been before the clock was set back.
      known.seenHigh = known.seenHigh === Infinity ? this.#highest : Math.max(known.seenHigh, seen.high)
      return
    }
    const reason = reasonOf(exit)
    const isPossible = {
      SessionRevoked: known.mayEnd,
      SessionSuperseded: held.mayBeDead,
      SessionExpired: mayBeExpired(known, Math.max(seen.high, known.peak)),
      SessionsUnavailable: this.faults > seen.faults
    }
    const isRight =
      reason === undefined ? Exit.hasInterrupts(exit) : isPossible[reason as keyof typeof isPossible] === true
    if (!isRight)
      this.world.broke("S5 S11 a live session is refused to nobody", `${known.name}: ${reason ?? String(exit.cause)}`)
  }

  mayMark(_: Seen, id: SessionId | undefined, mark: number): void {
    if (id !== undefined) this.#known(id).mayMarks.add(mark)
    else this.#loose.add(mark)
  }

  changed(
    seen: Seen,
    before: SessionId | undefined,
    after: SessionId | undefined,
    mark: number,
    exit: Exit.Exit<unknown, SessionError>
  ): void {
    this.#look()
    const id = after ?? before
    if (id === undefined) return
    const known = this.#known(id)
    known.mayMarks.add(mark)
    if (Exit.isFailure(exit)) return
    if (before !== undefined && known.endedAt !== undefined && known.endedAt < seen.tick)
      this.world.broke("S3 nothing brings a session back after its end", `${known.name} was changed`)
    known.marks.add(mark)
    if (before === undefined) this.#born(seen, id, null)
  }

  #born(seen: Seen, id: SessionId, principal: string | null): void {
    const known = this.#known(id)
    Object.assign(known, {
      // The times of a session begin anew with each login in it, at an earlier moment where the clock was set back.
      bornLow: seen.low,
      bornHigh: known.bornHigh === Infinity ? seen.high : Math.max(known.bornHigh, seen.high),
      seenLow: seen.low,
      peak: seen.high,
      seenHigh: known.seenHigh === Infinity ? seen.high : Math.max(known.seenHigh, seen.high),
      principal
    })
    // Another login or revocation may have been under way since it began, for which this one had to go.
    const isBusy = Array.from(this.#open).some((other) => other !== seen && isEnder(other))
    if (this.#lastEnder > seen.tick || isBusy) known.mayEnd = true
    if (seen.issued !== undefined) this.#issued(seen.issued, id)
  }

  loggedIn(seen: Seen, principal: string, asked: Loaded, exit: Loaded): void {
    this.#look()
    if (Exit.isFailure(exit)) return
    const { id } = exit.value
    // A login of somebody else ends the session that was another's.
    if (Exit.isSuccess(asked) && asked.value.principal !== null && asked.value.principal !== principal)
      this.ended(asked.value.id, "another login")
    seen.held?.known.logins.delete(seen)
    const before = Array.from(this.tokens).filter(
      ([text, { id: other }]) => other === id && text !== (seen.issued && Redacted.value(seen.issued))
    )
    this.#born(
      seen,
      id,
      Array.from(this.#open).some((other) => other !== seen && other.kind === "login") ? null : principal
    )
    if (exit.value.principal !== principal)
      this.world.broke("S6 a login is its principal's", String(exit.value.principal))
    // Tokens that somebody was told before it began are dead at once.
    if (seen.held?.id === id)
      for (const [text, held] of before)
        if (Option.isSome(seen.token) && text === Redacted.value(seen.token.value)) held.deadAt ??= this.#tick
    this.#tick++
  }

  rotated(seen: Seen, exit: Loaded): void {
    this.#look()
    if (Exit.isSuccess(exit) && seen.held !== undefined) seen.held.deadAt ??= this.#tick
    this.#tick++
  }

  othersRevoked(seen: Seen, asked: Loaded, exit: Exit.Exit<ReadonlyArray<SessionId>, SessionError>): void {
    this.#look()
    if (Exit.isFailure(asked)) return
    const { id, principal } = asked.value
    const mine = this.sessions.get(id)
    if (Exit.isSuccess(exit) && exit.value.includes(id))
      this.world.broke("S9 an end of all other sessions leaves one's own", this.#known(id).name)
    if (Exit.isFailure(exit) || mine?.principal == null) return
    // Whose it was when it was asked: somebody may have logged in since.
    if (principal !== mine.principal) return
    // All that were certainly the principal's before it began, and are nobody else's by now.
    const isBusy = Array.from(this.#open).some((other) => other !== seen && other.kind === "login")
    if (isBusy) return
    for (const [other, known] of this.sessions)
      if (known !== mine && known.principal === principal && seen.whose.get(known) === principal)
        this.ended(other, "revokeOthers")
  }

  ended(id: SessionId, by: string): void {
    const known = this.#known(id)
    if (!this.#isCertainlyOver(known)) known.mayEnd = true
    known.endedAt ??= this.#tick
    this.#tick++
    this.world.note(`${known.name} is over: ${by}`)
  }

  read(seen: Seen, id: SessionId | undefined, exit: Exit.Exit<ReadonlyArray<number>, SessionError>): void {
    if (id === undefined || Exit.isFailure(exit)) return
    const known = this.#known(id)
    const marks = new Set(exit.value)
    for (const mark of seen.must.get(known) ?? [])
      if (!marks.has(mark))
        this.world.broke("S1 S2 every change takes effect and is read back", `${known.name} lost mark ${mark}`)
    for (const mark of marks)
      if (!known.mayMarks.has(mark) && !this.#loose.has(mark))
        this.world.broke("S1 nothing is read that nobody wrote", `${known.name} has mark ${mark}`)
    if (marks.size !== exit.value.length)
      this.world.broke("S2 a change takes effect once", `${known.name}: ${exit.value.join(" ")}`)
  }

  listed(seen: Seen, exit: Exit.Exit<ReadonlyArray<{ readonly id: SessionId }>, SessionError>): void {
    if (Exit.isFailure(exit)) return
    for (const { id } of exit.value) {
      const known = this.#known(id)
      if (known.endedAt !== undefined && known.endedAt < seen.tick)
        this.world.broke("S3 a session that is over is in no list", known.name)
    }
  }

  /** Of what an instance did for a session that has ended there, nothing goes on. */
  checkWorks(instance: object): void {
    for (const work of this.works) {
      if (work.instance !== instance || work.fiber.pollUnsafe() !== undefined) continue
      const known = this.#known(work.id)
      if (known.endedAt === undefined || !this.isQuiet) continue
      this.world.broke("S9 the end of a session ends its work here before it returns", known.name)
    }
  }

  /** When every instance has asked its store once more. */
  checkAllWorks(isDead: (instance: object) => boolean): void {
    for (const { fiber, id, instance } of this.works) {
      if (isDead(instance)) continue
      const known = this.#known(id)
      const isOver = fiber.pollUnsafe() !== undefined
      if (known.endedAt !== undefined && !isOver)
        this.world.broke(
          "S9 the end of a session ends its work on every instance, also when hints are lost",
          known.name
        )
      const mayBeOver = known.mayEnd || mayBeExpired(known, this.now)
      if (isOver && !mayBeOver) this.world.broke("S16 work goes on while its session lives", known.name)
    }
  }
}
