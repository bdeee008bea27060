/**
 * Whose turn it is on the one connection of a sandbox, and what is expected of the server.
 *
 * It lives as long as the sandbox. A session has the turn for one statement, or from the beginning of a transaction to its end.
 */
import type * as SandboxBackend from "./SandboxBackend.ts"
import * as Frames from "./SandboxFrames.ts"
import * as SandboxSql from "./SandboxSql.ts"

/** What the server is to say next. */
export interface Expected {
  /** The types of message that end it. */
  readonly ends: string
  /** Nobody but the sandbox asked. */
  readonly hidden?: boolean | undefined
  /** It cannot fail unless the sandbox is broken. */
  readonly certain?: boolean | undefined
  /** What is said instead of the server's word. */
  readonly tag?: string | undefined
  /** What the sandbox says itself; nothing of the server's is expected. */
  readonly said?: Frames.Frame | undefined
  readonly then?: ((frame: Frames.Frame) => void) | undefined
}

/** Who has turns. */
export interface Session {
  readonly name: string
  readonly settings: Readonly<Record<string, string>>
  /** Whether its transaction is open, and it has nothing to say. */
  readonly isIdleInTransaction: () => boolean
  /** What it said last. */
  readonly last: () => string
  /** It has the turn now. */
  readonly begin: () => void
  /** Its turn does not come. */
  readonly refuse: (report: Frames.Report) => void
  readonly write: (frame: Frames.Frame) => void
  /** There are no more turns. */
  readonly end: (report: Frames.Report) => void
}

/** How often it is looked whether a transaction keeps others waiting, in milliseconds. A process that stands still counts as one look. */
const look = 100

const inTransaction = "The sandbox is a transaction. Give the test a database of its own with TestSql.layerTemplate."

/** Errors of what cannot be done in a transaction (25001), or within a function that is called in one (2D000). */
const impossible = new Set(["25001", "2D000"])

const short = (sql: string) => JSON.stringify(sql.length > 80 ? `${sql.slice(0, 80)}…` : sql)

export class Turns {
  readonly backend: SandboxBackend.Backend
  /** Whether `now()` is the sandbox's. */
  live = false
  /** Whether temporary tables may be there. */
  isTemporary = false
  /** What ended the sandbox before its end. */
  broken: string | undefined
  owner: Session | undefined
  readonly sessions = new Set<Session>()
  private readonly patience: number
  private readonly expected: Array<Expected> = []
  private readonly queue: Array<Session> = []
  private readonly known = new Set<string>()
  private readonly touched = new Set<string>()
  private settled: string | undefined = ""
  private isStatementOver = false
  private isClosing = false
  private isBegun = false
  private timer: NodeJS.Timeout | undefined
  private idle = 0

  constructor(backend: SandboxBackend.Backend, patience: number) {
    this.backend = backend
    this.patience = patience
    backend.listen(
      (frame) => this.hear(frame),
      () => this.break("The server ended the connection of the sandbox")
    )
  }

  /** Whether something is under way. */
  get isBusy(): boolean {
    return this.expected.length > 0
  }

  expect(...expected: ReadonlyArray<Expected>): void {
    this.expected.push(...expected)
    this.say()
  }

  /** Statements of the sandbox's own, at once. */
  ask(statements: ReadonlyArray<string>, then: (status: string) => void, certain = true): void {
    this.backend.send(Frames.query(statements.join(";")))
    this.expect(...statements.map(() => ({ ends: "CI", hidden: true, certain })), {
      ends: "Z",
      hidden: true,
      certain,
      then: (frame) => then(String.fromCharCode(frame[5] ?? 0))
    })
  }

  /** Waits for a turn. */
  take(session: Session): void {
    if (this.broken !== undefined || this.isClosing || this.queue.includes(session)) return
    if (this.owner === undefined) {
      this.owner = session
      session.begin()
      return
    }
    this.queue.push(session)
    this.watch()
  }

  /** Waits no longer. */
  leave(session: Session): boolean {
    const at = this.queue.indexOf(session)
    if (at !== -1) this.queue.splice(at, 1)
    return at !== -1
  }

  /** The turn is over; what the statement did can stay. */
  pass(): void {
    this.isStatementOver = true
    this.idle = 0
    this.owner = this.isClosing ? undefined : this.queue.shift()
    this.owner?.begin()
  }

  /** Before a statement that is in no transaction of its session: what it does can be undone from here. */
  beginStatement(session: Session): void {
    const settings = this.settingsOf(session)
    const before = this.isStatementOver ? ["RELEASE SAVEPOINT holdfast_statement"] : []
    this.isStatementOver = false
    this.ask([...before, ...settings, "SAVEPOINT holdfast_statement"], () => undefined)
  }

  /** Asks the server once whether it takes the settings of a session. The session has the turn. */
  admit(session: Session, then: (problem: Frames.Frame | undefined) => void): void {
    const key = JSON.stringify(session.settings)
    let problem: Frames.Frame | undefined
    this.problem = (frame) => (problem = frame)
    const done = () => {
      this.problem = undefined
      this.settled = undefined
      if (problem === undefined) this.known.add(key)
      then(problem)
      this.pass()
    }
    const before = this.isStatementOver ? ["RELEASE SAVEPOINT holdfast_statement"] : []
    this.isStatementOver = false
    this.ask([...before, "SAVEPOINT holdfast_statement"], () => undefined)
    this.ask(this.settingsOf(session), () => this.ask(["ROLLBACK TO SAVEPOINT holdfast_statement"], done), false)
  }

  /** Begins the transaction of the sandbox. On a connection that had none before, it is tried to give it clocks. */
  start(done: () => void): void {
    const begin = () => {
      this.isStatementOver = true
      this.live = this.backend.live === true
      this.ask(["BEGIN", "SAVEPOINT holdfast_statement"], done)
    }
    if (this.backend.live !== undefined) return begin()
    let isRefused = false
    this.problem = () => (isRefused = true)
    this.ask(
      SandboxSql.clocks.split(";"),
      () => {
        this.problem = undefined
        this.backend.live = !isRefused
        begin()
      },
      false
    )
  }

  isKnown({ settings }: Session): boolean {
    return Object.keys(settings).length === 0 || this.known.has(JSON.stringify(settings))
  }

  /** What was set is not what it was taken for. */
  unsettle(): void {
    this.settled = undefined
  }

  private problem: ((frame: Frames.Frame) => void) | undefined

  private settingsOf({ settings }: Session): ReadonlyArray<string> {
    const key = JSON.stringify(settings)
    if (key === this.settled) return []
    this.settled = key
    const others = Array.from(this.touched).filter((name) => settings[name] === undefined)
    const own = Object.entries(settings)
    for (const [name] of own) this.touched.add(name)
    return [
      ...others.map((name) => `RESET "${name.replaceAll('"', '""')}"`),
      ...own.map(
        ([name, value]) =>
          `SELECT pg_catalog.set_config(${SandboxSql.quoted(name)}, ${SandboxSql.quoted(value)}, false)`
      )
    ]
  }

  /** Says what the sandbox has to say itself, as far as it is its turn. */
  private say(): void {
    while (this.expected[0]?.said !== undefined) {
      const { said, then } = this.expected.shift() as Expected & { said: Frames.Frame }
      this.owner?.write(said)
      then?.(said)
    }
  }

  private hear(frame: Frames.Frame): void {
    const type = Frames.typeOf(frame)
    const head = this.expected[0]
    if (type === "E") return this.fail(frame, head)
    if (type === "A" || head === undefined) return
    const isEnd = type !== "N" && type !== "S" && head.ends.includes(type)
    if (head.hidden !== true && type !== "Z") {
      this.owner?.write(isEnd && head.tag !== undefined ? Frames.complete(head.tag) : frame)
    }
    if (!isEnd) return
    this.expected.shift()
    const status = type === "Z" ? String.fromCharCode(frame[5] ?? 0) : ""
    if (status === "T") this.isBegun = true
    if (status === "I" && this.isBegun && !this.isClosing) return this.ended()
    head.then?.(frame)
    this.say()
  }

  private fail(frame: Frames.Frame, head: Expected | undefined): void {
    const fields = Frames.fieldsOf(frame)
    const told = `${fields.get("M") ?? "an error"} (${fields.get("C") ?? ""})`
    if (fields.get("V") !== "ERROR") return this.break(`The server ended the connection of the sandbox: ${told}`)
    if (head?.certain === true && !this.isClosing) return this.break(`The sandbox's own statement failed: ${told}`)
    if (this.problem !== undefined) this.problem(frame)
    else this.owner?.write(impossible.has(fields.get("C") ?? "") ? Frames.withHint(frame, inTransaction) : frame)
    // What was sent behind it is not looked at until it is synchronised.
    while (this.expected.length > 0 && this.expected[0]?.ends !== "Z") this.expected.shift()
  }

  private ended(): void {
    const by = this.owner === undefined ? "" : ` by ${this.owner.name} with ${short(this.owner.last())}`
    this.break(`The transaction of the sandbox was ended inside the test${by}, so what was written is not rolled back`)
  }

  private break(problem: string): void {
    if (this.isClosing || this.broken !== undefined) return
    this.broken = problem
    clearInterval(this.timer)
    this.expected.length = 0
    this.queue.length = 0
    this.owner = undefined
    const hint = "No statement of this test can run any more. " + inTransaction
    for (const session of this.sessions) session.end({ severity: "FATAL", code: "57P01", message: problem, hint })
  }

  private watch(): void {
    this.timer ??= setInterval(() => {
      if (this.queue.length === 0) {
        clearInterval(this.timer)
        this.timer = undefined
        this.idle = 0
        return
      }
      this.idle = !this.isBusy && this.owner?.isIdleInTransaction() === true ? this.idle + 1 : 0
      if (this.idle * look < this.patience) return
      this.idle = 0
      const { owner } = this
      const detail = `The transaction is of connection ${owner?.name}, whose last statement was ${short(owner?.last() ?? "")}.`
      for (const session of this.queue.splice(0)) {
        session.refuse({
          severity: "ERROR",
          code: "40P01",
          message: `${short(session.last())} waits for a transaction of the same test, and that transaction has run nothing for ${this.patience} ms. A sandbox has one connection: a statement outside of the transaction waits for its end`,
          detail,
          hint: "Run the statement inside of the transaction, or after it. If the app needs both at once, give the test TestSql.layerTemplate."
        })
      }
    }, look)
  }

  /** Nobody has a turn any more; what runs is cancelled, and everything is rolled back. */
  close(done: () => void): void {
    this.isClosing = true
    clearInterval(this.timer)
    this.queue.length = 0
    if (this.broken !== undefined) return done()
    this.backend.listen(
      (frame) => this.hear(frame),
      () => done()
    )
    if (this.isBusy) this.backend.cancel()
    // A copy, or what was not brought to its end.
    this.backend.send(Frames.frame("f", Frames.text("closing")), Frames.sync)
    this.expected.push({ ends: "Z", hidden: true })
    this.ask(["ROLLBACK"], () => this.ask(SandboxSql.reset, done))
  }
}
