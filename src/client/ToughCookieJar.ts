/**
 * A cookie jar for a `ClientSession`, by the rules of RFC 6265 as `tough-cookie` (an optional peer) has them: domains and public
 * suffixes, paths, `Secure`, prefixes and expiry.
 *
 * A jar lives as long as the session it is made for, in memory. It is stricter than a browser in one thing: a cookie goes back to
 * the origin that set it, and to no other, neither to another port or scheme nor to a sister host that `Domain` would allow.
 *
 * ```ts
 * ClientSession.layer({ cookies: ToughCookieJar.make })
 * ```
 *
 * Install `tough-cookie` beside Holdfast.
 */
import { CookieJar as Jar, MemoryCookieStore } from "tough-cookie"
import type { CookieJar } from "./internal/ClientSessionOptions.ts"

/** What RFC 6265 (6.1) asks a client to keep at least: bytes of a cookie, and cookies of one server. */
const longest = 4096
const most = 50

interface Kept {
  readonly jar: Jar
  readonly store: MemoryCookieStore
}

/** An empty jar. Cookies of more than 4,096 bytes are ignored, and of more than 50 of an origin the oldest are forgotten. */
export const make = (): CookieJar => {
  const origins = new Map<string, Kept>()
  const of = (origin: string): Kept => {
    const known = origins.get(origin)
    if (known !== undefined) return known
    const store = new MemoryCookieStore()
    const made = { jar: new Jar(store, { allowSecureOnLocal: false }), store }
    origins.set(origin, made)
    return made
  }
  return {
    cookieFor: (url) => origins.get(url.origin)?.jar.getCookieStringSync(url.href) || undefined,
    keep: (url, setCookies) => {
      const { jar, store } = of(url.origin)
      for (const setCookie of setCookies) {
        if (setCookie.length <= longest) jar.setCookieSync(setCookie, url.href, { ignoreError: true })
      }
      const all = jar.getCookiesSync(url.href, { allPaths: true })
      if (all.length <= most) return
      const oldestFirst = all.toSorted((a, b) => a.creationIndex - b.creationIndex)
      for (const { domain, key, path } of oldestFirst.slice(0, all.length - most)) {
        void store.removeCookie(domain ?? url.hostname, path ?? "/", key)
      }
    }
  }
}
