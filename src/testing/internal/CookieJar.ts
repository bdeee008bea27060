/**
 * The cookies of a browser that only ever visits one origin.
 *
 * They live as long as the jar. RFC 6265bis, as far as one origin goes: a cookie of the same name takes the place of the one
 * before, `Max-Age` counts before `Expires`, and what has expired is gone. By which clock, the caller says.
 */
import type * as Cookies from "effect/http/Cookies"
import * as Duration from "effect/Duration"

interface Kept {
  readonly value: string
  readonly expiresAt: number
}

export class CookieJar {
  private readonly kept = new Map<string, Kept>()

  /** Keeps a cookie, or forgets it where it has expired. */
  keep({ name, options, valueEncoded }: Cookies.Cookie, now: number): void {
    const { expires, maxAge } = options ?? {}
    const age = maxAge === undefined ? undefined : Duration.toMillis(Duration.fromInputUnsafe(maxAge))
    const expiresAt = age !== undefined ? now + age : (expires?.getTime() ?? Infinity)
    if (expiresAt <= now) this.kept.delete(name)
    else this.kept.set(name, { value: valueEncoded, expiresAt })
  }

  set(name: string, value: string, expiresAt: number): void {
    this.kept.set(name, { value, expiresAt })
  }

  /** By name, as they are sent. */
  get(now: number): ReadonlyMap<string, string> {
    for (const [name, { expiresAt }] of this.kept) if (expiresAt <= now) this.kept.delete(name)
    return new Map(Array.from(this.kept, ([name, { value }]) => [name, value]))
  }

  clear(): void {
    this.kept.clear()
  }

  header(now: number): string {
    return Array.from(this.get(now), ([name, value]) => `${name}=${value}`).join("; ")
  }
}
