/**
 * A listening socket that systemd hands over (sd_listen_fds(3)), in the place of one that the service opens itself.
 *
 * systemd listens before the service starts and while it restarts, so a client that comes meanwhile waits and is not refused.
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { SettingsError } from "./SettingsReading.ts"

/** `SD_LISTEN_FDS_START`: the first descriptor behind standard error. */
const first = 3

const variables = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] as const

export type Environment = Readonly<Record<string, string | undefined>>

const refuse = (problem: string) => Effect.fail(new SettingsError({ variable: "LISTEN_FDS", problem }))

/** The descriptor that is meant for a process. None where nothing is, or where the variables are another process's. */
export const handed = (environment: Environment, pid: number): Effect.Effect<Option.Option<number>, SettingsError> => {
  const { LISTEN_FDS: count, LISTEN_PID: whose } = environment
  if (count === undefined || whose !== String(pid)) return Effect.succeedNone
  return count === "1"
    ? Effect.succeedSome(first)
    : refuse(`is ${count}, and Holdfast listens on one socket. Give its socket unit one ListenStream`)
}

/** What the service starts itself must not take the socket for its own. Node has marked it so that no other program inherits it. */
export const forget = Effect.sync(() => {
  for (const variable of variables) delete process.env[variable]
})
