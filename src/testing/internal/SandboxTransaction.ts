/**
 * The transactions of one session of a sandbox: what the app says of them, and what the server is told.
 */
import { Buffer } from "node:buffer"
import * as Frames from "./SandboxFrames.ts"
import * as SandboxSql from "./SandboxSql.ts"
import type { Turns } from "./SandboxTurns.ts"

const undoTransaction = ["ROLLBACK TO SAVEPOINT holdfast_transaction", "RELEASE SAVEPOINT holdfast_transaction"]

/** What is deferred to the end of the transaction is checked, and still deferred afterwards. */
const checkDeferred = [
  "SAVEPOINT holdfast_deferred",
  "SET CONSTRAINTS ALL IMMEDIATE",
  "ROLLBACK TO SAVEPOINT holdfast_deferred",
  "RELEASE SAVEPOINT holdfast_deferred"
]
/** What is committed is not undone with what comes behind it. */
const keep = [
  "RELEASE SAVEPOINT holdfast_transaction",
  "RELEASE SAVEPOINT holdfast_statement",
  "SAVEPOINT holdfast_statement"
]

const warning = (code: string, message: string) => Frames.report({ severity: "WARNING", code, message })

/** Statements that the server is given for one of the app's, and what the app is told of them. */
export interface Translation {
  readonly statements: ReadonlyArray<string>
  readonly said: Frames.Frame
  readonly then?: (() => void) | undefined
}

export class Transaction {
  /** It was begun by the app, and not ended. */
  isOpen = false
  private hasFailed = false
  /** Whether it will be open when the server has done what it was given. */
  private willBeIn = false
  private isCommitting = false
  private readonly turns: Turns
  private readonly deallocate: () => ReadonlyArray<string>

  constructor(turns: Turns, deallocate: () => ReadonlyArray<string>) {
    this.turns = turns
    this.deallocate = deallocate
  }

  /** Whether it is open after what the server has done; a commit that fails ends it. */
  goesOn(hasFailed: boolean): boolean {
    if (!this.isOpen || (this.isCommitting && hasFailed)) return false
    this.hasFailed = hasFailed
    this.willBeIn = true
    return true
  }

  end(): void {
    this.isOpen = false
    this.hasFailed = false
    this.willBeIn = false
    this.isCommitting = false
  }

  /** What the server is given for a statement that speaks of transactions, or of the whole connection. */
  translate(control: SandboxSql.Control): Translation {
    const tagged = (tag: string, statements: ReadonlyArray<string> = [], then?: () => void): Translation => ({
      statements,
      said: Frames.complete(tag),
      then
    })
    const warned = (tag: string, code: string, message: string): Translation => ({
      statements: [],
      said: Buffer.concat([warning(code, message), Frames.complete(tag)])
    })
    const left = () => {
      this.isOpen = false
      this.isCommitting = false
    }
    switch (control._tag) {
      case "Begin": {
        if (this.willBeIn) return warned("BEGIN", "25001", "there is already a transaction in progress")
        this.willBeIn = true
        const began = "SELECT pg_catalog.set_config('holdfast.began', pg_catalog.statement_timestamp()::text, false)"
        const statements = ["SAVEPOINT holdfast_transaction", ...(this.turns.live ? [began] : [])]
        return tagged("BEGIN", statements, () => (this.isOpen = true))
      }
      case "Commit": {
        if (!this.willBeIn) return warned("COMMIT", "25P01", "there is no transaction in progress")
        this.willBeIn = false
        if (this.hasFailed) return tagged("ROLLBACK", undoTransaction, left)
        this.isCommitting = true
        const over = this.turns.live ? ["SELECT pg_catalog.set_config('holdfast.began', '', false)"] : []
        return tagged("COMMIT", [...checkDeferred, ...over, ...keep], left)
      }
      case "Rollback": {
        if (!this.willBeIn) return warned("ROLLBACK", "25P01", "there is no transaction in progress")
        this.willBeIn = false
        return tagged("ROLLBACK", undoTransaction, left)
      }
      case "Refused": {
        const message = SandboxSql.quoted(`${control.what} cannot be had in a sandbox, which is one transaction`)
        const hint = SandboxSql.quoted("Give the test a database of its own with TestSql.layerTemplate.")
        return tagged("DO", [
          `do $holdfast$ begin raise exception using errcode = '0A000', message = ${message}, hint = ${hint}; end $holdfast$`
        ])
      }
      case "Nothing":
        return tagged(control.tag)
      case "ResetAll":
        return tagged("RESET", ["RESET ALL"], () => this.turns.unsettle())
      case "DiscardTemporary":
        return tagged("DISCARD TEMP", this.dropTemporary())
      case "DeallocateAll":
        return tagged("DEALLOCATE ALL", this.deallocate())
      case "DiscardAll": {
        const statements = [
          ...SandboxSql.discard.split(";"),
          "SELECT pg_catalog.pg_advisory_unlock_all()",
          ...this.dropTemporary(),
          ...this.deallocate()
        ]
        return tagged("DISCARD ALL", statements, () => this.turns.unsettle())
      }
    }
  }

  private dropTemporary = () => (this.turns.isTemporary ? [SandboxSql.dropTemporary] : [])
}
