/**
 * A connection of an app to a sandbox: what the app says is said to the one connection to the server, in other words where it
 * speaks of transactions.
 *
 * A session lives as long as its socket.
 */
import { Buffer } from "node:buffer"
import type { Socket } from "node:net"
import * as Frames from "./SandboxFrames.ts"
import * as SandboxSql from "./SandboxSql.ts"
import { Transaction } from "./SandboxTransaction.ts"
import type { Expected, Session as Turn, Turns } from "./SandboxTurns.ts"

const undoStatement = "ROLLBACK TO SAVEPOINT holdfast_statement"

const noParameters = Frames.frame("t", Buffer.alloc(2))
const [parsed, bound, closed, noData] = ["1", "2", "3", "n"].map((type) => Frames.frame(type)) as [
  Buffer,
  Buffer,
  Buffer,
  Buffer
]

let sessions = 0

export class Session implements Turn {
  readonly name: string
  readonly settings: Readonly<Record<string, string>>
  private readonly turns: Turns
  private readonly socket: Socket
  private readonly prefix = `holdfast ${++sessions} `
  private readonly inbox: Array<Frames.Frame> = []
  /** Statements and portals that are not the server's to know. */
  private readonly controls = new Map<string, SandboxSql.Control>()
  private readonly portals = new Map<string, SandboxSql.Control>()
  /** The server's names of statements that are prepared. */
  private readonly prepared = new Set<string>()
  private isAdmitted: boolean
  /** The server is given what belongs together, and has not been told that it is all. */
  private isWithin = false
  /** It was told so, and has not answered. */
  private isAwaiting = false
  private isSkipping = false
  private isGone = false
  private readonly transaction: Transaction
  private lastText = ""

  constructor(turns: Turns, socket: Socket, name: string, settings: Readonly<Record<string, string>>) {
    this.turns = turns
    this.socket = socket
    this.name = name
    this.settings = settings
    this.isAdmitted = turns.isKnown(this)
    this.transaction = new Transaction(turns, () => this.deallocate())
    turns.sessions.add(this)
    socket.on(
      "data",
      Frames.reader((frame) => this.hear(frame))
    )
    socket.on("close", () => this.leave())
  }

  /** Says that statements may come, as soon as the settings are known to be possible. */
  start(greeting: Frames.Frame): void {
    this.greeting = greeting
    if (this.isAdmitted) this.write(greeting)
    else this.turns.take(this)
  }
  private greeting: Frames.Frame = Buffer.alloc(0)

  isIdleInTransaction = (): boolean => this.transaction.isOpen && this.inbox.length === 0 && !this.isWithin
  last = (): string => this.lastText
  write = (frame: Frames.Frame): void => {
    if (!this.isGone) this.socket.write(frame)
  }
  end = (report: Frames.Report): void => {
    this.isGone = true
    this.socket.end(Frames.report(report))
  }
  refuse = (report: Frames.Report): void => {
    if (!this.isAdmitted) return this.end({ ...report, severity: "FATAL" })
    this.write(Frames.report(report))
    this.isSkipping = true
    this.pump()
  }

  /** Cancels what runs, or waits. */
  cancel(): void {
    if (this.turns.owner === this) {
      if (this.isWithin || this.isAwaiting) this.turns.backend.cancel()
    } else if (this.turns.leave(this)) {
      this.refuse({ severity: "ERROR", code: "57014", message: "canceling statement due to user request" })
    }
  }

  begin = (): void => {
    if (this.isAdmitted) return this.pump()
    this.turns.admit(this, (problem) => {
      this.isAdmitted = true
      if (problem === undefined) return this.write(this.greeting)
      this.write(problem)
      this.socket.end()
    })
  }

  private hear(frame: Frames.Frame): void {
    const type = Frames.typeOf(frame)
    if (type === "X") return void this.socket.end()
    if (type === "Q") this.lastText = Frames.textAt(frame, 5)[0]
    if (type === "P") this.lastText = Frames.textAt(frame, Frames.textAt(frame, 5)[1])[0]
    if (this.isAwaiting && /[dcf]/.test(type)) return this.turns.backend.send(frame)
    this.inbox.push(frame)
    this.pump()
  }

  private pump(): void {
    while (this.inbox.length > 0 && !this.isAwaiting && this.turns.broken === undefined) {
      if (this.isSkipping) this.skip()
      else if (this.turns.owner !== this) return this.turns.take(this)
      else this.forward()
    }
  }

  private skip(): void {
    const type = Frames.typeOf(this.inbox.shift() ?? Frames.sync)
    if (!/[SQF]/.test(type)) return
    this.isSkipping = false
    this.write(Frames.ready("I"))
  }

  private forward(): void {
    const frame = this.inbox.shift() ?? Frames.sync
    if (!this.isWithin) {
      this.isWithin = true
      if (!this.transaction.isOpen) this.turns.beginStatement(this)
    }
    const type = Frames.typeOf(frame)
    if (type === "Q") this.forwardQuery(Frames.textAt(frame, 5)[0])
    else if (type === "P") this.forwardParse(frame)
    else if (type === "B") this.forwardBind(frame)
    else if (type === "D" || type === "C") this.forwardNamed(type, frame)
    else if (type === "E") this.forwardExecute(frame)
    else if (type === "F") this.give(frame, { ends: "V" })
    else if (type === "S") this.give(frame)
    else this.turns.backend.send(frame)
    if (/[SQF]/.test(type)) {
      this.isAwaiting = true
      this.turns.expect({ ends: "Z", hidden: true, then: (ready) => this.onReady(ready[5] === "E".charCodeAt(0)) })
    }
  }

  private give(frame: Frames.Frame, ...expected: ReadonlyArray<Expected>): void {
    this.turns.backend.send(frame)
    this.turns.expect(...expected)
  }

  private forwardQuery(text: string): void {
    const given: Array<string> = []
    const expected: Array<Expected> = []
    if (SandboxSql.mayBeTemporary(text)) this.turns.isTemporary = true
    for (const { control, sql } of SandboxSql.statementsOf(text, this.turns.live)) {
      if (control === undefined) {
        given.push(sql)
        expected.push({ ends: "CI" })
        continue
      }
      const { said, statements, then } = this.transaction.translate(control)
      given.push(...statements)
      expected.push(...statements.map(() => ({ ends: "CI", hidden: true })), { ends: "", said, then })
    }
    const isEmpty = given.length === 0
    const isSilent = expected.length === 0
    this.give(Frames.query(given.join(";")), ...expected, ...(isEmpty ? [{ ends: "I", hidden: !isSilent }] : []))
  }

  private forwardParse(frame: Frames.Frame): void {
    const [name, next] = Frames.textAt(frame, 5)
    const [text, rest] = Frames.textAt(frame, next)
    const [statement, ...more] = SandboxSql.statementsOf(text, this.turns.live)
    if (SandboxSql.mayBeTemporary(text)) this.turns.isTemporary = true
    if (statement?.control !== undefined && more.length === 0) {
      this.controls.set(name, statement.control)
      return this.turns.expect({ ends: "", said: parsed })
    }
    this.controls.delete(name)
    const known = this.prefix + name
    // The statement without a name would be another session's, too.
    if (name === "") this.give(Frames.closeStatement(known), { ends: "3", hidden: true })
    const sql = statement === undefined || more.length > 0 ? text : statement.sql
    this.give(Frames.frame("P", Frames.text(known), Frames.text(sql), frame.subarray(rest)), {
      ends: "1",
      then: () => this.prepared.add(known)
    })
  }

  private forwardBind(frame: Frames.Frame): void {
    const [portal, next] = Frames.textAt(frame, 5)
    const [name, rest] = Frames.textAt(frame, next)
    const control = this.controls.get(name)
    if (control !== undefined) {
      this.portals.set(portal, control)
      return this.turns.expect({ ends: "", said: bound })
    }
    this.portals.delete(portal)
    this.give(Frames.frame("B", Frames.text(portal), Frames.text(this.prefix + name), frame.subarray(rest)), {
      ends: "2"
    })
  }

  /** A `Describe` or a `Close`, of a statement or of a portal. */
  private forwardNamed(type: "D" | "C", frame: Frames.Frame): void {
    const isStatement = frame[5] === "S".charCodeAt(0)
    const [name] = Frames.textAt(frame, 6)
    const ours = isStatement ? this.controls : this.portals
    if (ours.has(name)) {
      if (type === "C") {
        ours.delete(name)
        return this.turns.expect({ ends: "", said: closed })
      }
      return this.turns.expect({ ends: "", said: isStatement ? Buffer.concat([noParameters, noData]) : noData })
    }
    const known = isStatement ? this.prefix + name : name
    const kind = frame.subarray(5, 6)
    if (type === "D") return this.give(Frames.frame("D", kind, Frames.text(known)), { ends: "Tn" })
    return this.give(Frames.frame("C", kind, Frames.text(known)), {
      ends: "3",
      then: () => this.prepared.delete(known)
    })
  }

  private forwardExecute(frame: Frames.Frame): void {
    const control = this.portals.get(Frames.textAt(frame, 5)[0])
    if (control === undefined) return this.give(frame, { ends: "CsI" })
    const { said, statements, then } = this.transaction.translate(control)
    for (const sql of statements) {
      this.give(Frames.unnamed(sql), ...["1", "2", "CsI"].map((ends) => ({ ends, hidden: true })))
    }
    this.turns.expect({ ends: "", said, then })
  }

  private deallocate(): ReadonlyArray<string> {
    const statements = Array.from(this.prepared, (name) => `DEALLOCATE "${name.replaceAll('"', '""')}"`)
    this.prepared.clear()
    this.controls.clear()
    return statements
  }

  private onReady(hasFailed: boolean): void {
    this.isWithin = false
    if (this.isGone) return this.undo(undoStatement)
    if (this.transaction.goesOn(hasFailed)) {
      this.isAwaiting = false
      this.write(Frames.ready(hasFailed ? "E" : "T"))
      return this.pump()
    }
    if (hasFailed) return this.undo(undoStatement)
    return this.over()
  }

  /** The server forgets what failed, or what nobody wants any more. */
  private undo(statement: string): void {
    this.turns.ask([statement], () => this.over())
  }

  private over(): void {
    this.transaction.end()
    this.isAwaiting = false
    this.portals.clear()
    this.write(Frames.ready("I"))
    this.turns.pass()
    this.pump()
  }

  /** The app is gone. What it had begun is undone. */
  private leave(): void {
    this.isGone = true
    this.inbox.length = 0
    this.turns.sessions.delete(this)
    this.turns.leave(this)
    if (this.turns.owner !== this || !this.isAdmitted) return
    if (this.isAwaiting) return this.turns.backend.cancel()
    if (!this.isWithin) return this.undo(undoStatement)
    this.isAwaiting = true
    this.turns.backend.cancel()
    this.give(Frames.sync, { ends: "Z", hidden: true, then: () => this.onReady(true) })
  }
}
