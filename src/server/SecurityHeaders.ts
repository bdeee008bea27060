/**
 * What every answer tells a browser that shows it: to run, load and frame nothing, to guess no type, to tell no other site, and
 * to come back over https only. So does what the listener refuses before there is a router.
 *
 * A header that an answer has already is left as it is.
 *
 * **Details**
 *
 * The values are those of the OWASP Secure Headers project and of ASVS 5.0, 3.4 (browser security mechanism headers). A page runs
 * the scripts and styles that are written in it, which its policy names by their hashes (CSP Level 3, 2.3.1), and no others. What
 * is answered is somebody's, unless it says otherwise: no cache keeps it (OWASP Session Management; ASVS 5.0, 14.3.2).
 */
import * as Headers from "effect/http/Headers"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { createHash } from "node:crypto"

/** For everything that is no page: nothing in it is run, loaded or framed. */
const nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** What every answer has, also one that no router gives: nobody keeps it, nothing in it is run. */
export const everywhere: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy": nothing,
  "x-content-type-options": "nosniff",
  // For browsers that do not know `frame-ancestors`.
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin"
}

/** A year, as ASVS 5.0, 3.4.1 asks; only over https does a browser believe it (RFC 6797, 7.2). */
const httpsOnly = { "strict-transport-security": "max-age=31536000; includeSubDomains" }

/** What a page may not use although it could. */
const features = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"

/** A script that is data is not run, so it needs no leave. */
const inline = /<(script|style)\b([^>]*)>([^]*?)<\/\1\s*>/gi

/** The policy of a page: its own scripts and styles, images that are written into them, and the service's calls. */
export const policyOf = (page: string): string => {
  const hashes = { script: new Set<string>(), style: new Set<string>() }
  for (const [, tag, attributes = "", text = ""] of page.matchAll(inline)) {
    if (/\btype\s*=\s*["']?application\/json/i.test(attributes)) continue
    // A browser reads every line end as a line feed.
    const read = text.replace(/\r\n?/g, "\n")
    hashes[tag?.toLowerCase() === "style" ? "style" : "script"].add(
      `'sha256-${createHash("sha256").update(read).digest("base64")}'`
    )
  }
  const sources = (all: ReadonlySet<string>) => (all.size === 0 ? "'none'" : Array.from(all).join(" "))
  return [
    "default-src 'none'",
    `script-src ${sources(hashes.script)}`,
    `style-src ${sources(hashes.style)}`,
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'"
  ].join("; ")
}

/** Adds them to an answer; `origin` is where browsers find the service. */
export const adding = (origin: URL) => {
  const constant = Headers.fromInput({ ...everywhere, ...(origin.protocol === "https:" && httpsOnly) })
  const names = [...Object.keys(constant), "permissions-policy"]
  /** A page is made once, and so is its policy. */
  const pages = new WeakMap<object, Headers.Headers>()
  const headersOf = ({ body }: HttpServerResponse.HttpServerResponse) => {
    if (body._tag !== "Uint8Array" || !body.contentType.startsWith("text/html")) return constant
    const known = pages.get(body)
    if (known !== undefined) return known
    const policy = policyOf(new TextDecoder().decode(body.body))
    const page = Headers.setAll(constant, { "content-security-policy": policy, "permissions-policy": features })
    pages.set(body, page)
    return page
  }
  return (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse => {
    const headers = headersOf(response)
    const isSaid = names.some((name) => name in response.headers)
    return HttpServerResponse.setHeaders(response, isSaid ? Headers.merge(headers, response.headers) : headers)
  }
}
