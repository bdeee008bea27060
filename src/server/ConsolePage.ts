/**
 * The console: a page for people, and its assets beside it. What it may do is less than any other page of the web may.
 *
 * The page is read when the service starts and kept in memory, about half a megabyte; it holds nothing of anybody's. Where it was
 * not built, as in a checkout without development dependencies, the service runs all the same and says so at `/console`.
 *
 * **Details**
 *
 * The page itself is asked for every time. Its assets have the hash of what is in them in their names, so that a browser keeps them
 * for good (RFC 8246). Its policy allows no script, style or connection but the service's own, no inline code, and no text as
 * code (CSP Level 3; Trusted Types).
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { promises as Fs } from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { brotliCompress, constants, gzip } from "node:zlib"
import * as Problem from "../http/Problem.ts"

/** The page was not built. */
export class ConsoleMissing extends Problem.Class<ConsoleMissing>()(
  "ConsoleMissing",
  503,
  "The console was not built"
) {}

/** Where the build puts it, seen from the sources and from what is built of them. */
const built = new URL("../../dist/console/", import.meta.url)

const types: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2"
}

/** No script, style or connection of others', none inline, and no text that becomes code. */
export const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "font-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'"
].join("; ")

/** A file of the page, and how it is sent. */
interface Asset {
  readonly bytes: Uint8Array
  readonly type: string
  readonly headers: Readonly<Record<string, string>>
  readonly encodings: Map<string, Promise<Uint8Array>>
}

const encoders = {
  br: (bytes: Uint8Array) => promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }),
  gzip: (bytes: Uint8Array) => promisify(gzip)(bytes, { level: 9 })
}

const assetOf = async (directory: URL, name: string): Promise<Asset> => ({
  bytes: await Fs.readFile(new URL(name, directory)),
  type: types[Path.extname(name)] ?? "application/octet-stream",
  headers: name.endsWith(".html")
    ? { "cache-control": "no-cache", "content-security-policy": policy }
    : { "cache-control": "public, max-age=31536000, immutable" },
  encodings: new Map()
})

/** Every file of a directory by its path; none where there is no directory. */
const load = async (directory: URL) => {
  const root = fileURLToPath(directory)
  const names = await Fs.readdir(root, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = names
    .filter((entry) => entry.isFile())
    .map((entry) => Path.relative(root, Path.join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
  return new Map(await Promise.all(files.map(async (name) => [name, await assetOf(directory, name)] as const)))
}

/** How a client takes it, made when somebody asks for the first time. */
const encoded = async ({ bytes, encodings }: Asset, accepted: string): Promise<readonly [string, Uint8Array]> => {
  const encoding = /\bbr\b/.test(accepted) ? "br" : /\bgzip\b/.test(accepted) ? "gzip" : undefined
  if (encoding === undefined || bytes.length < 1024) return ["identity", bytes]
  let made = encodings.get(encoding)
  if (made === undefined) encodings.set(encoding, (made = encoders[encoding](bytes)))
  return [encoding, await made]
}

const answer = (asset: Asset) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const [encoding, bytes] = yield* Effect.promise(() => encoded(asset, request.headers["accept-encoding"] ?? ""))
    return HttpServerResponse.uint8Array(bytes, {
      contentType: asset.type,
      headers: {
        ...asset.headers,
        vary: "accept-encoding",
        ...(encoding !== "identity" && { "content-encoding": encoding })
      }
    })
  })

/** `GET /console`, and what the page asks for, as it was built into a directory, whose URL ends with a slash. */
export const layerOf = (directory: URL) =>
  HttpRouter.use(
    Effect.fnUntraced(function* (router) {
      const assets = yield* Effect.promise(() => load(directory))
      const page = assets.get("index.html")
      const missing = HttpServerRespondable.toResponse(
        new ConsoleMissing({
          detail: "Run `npm run build:console` in the checkout of this service, then start it again."
        })
      )
      yield* router.add("GET", "/console", page === undefined ? missing : answer(page))
      const nothing = HttpServerRespondable.toResponse(
        new Problem.NotFound({ detail: "The console has no such file." })
      )
      yield* router.add(
        "GET",
        "/console/assets/:name",
        Effect.flatMap(HttpRouter.params, ({ name = "" }) => {
          const asset = assets.get(`assets/${name}`)
          return asset === undefined ? nothing : answer(asset)
        })
      )
    })
  )

/** {@link layerOf} the directory that the build fills. */
export const layer = layerOf(built)
