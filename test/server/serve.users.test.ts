import { randomBytes } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { page, problemOf, queriesOf, run, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

/** Runs `holdfast user add` beside a service. */
const addUser = (
  service: Pick<Service.Service, "env">,
  args: ReadonlyArray<string>,
  password: Pick<Service.Command, "input"> & { readonly env?: Service.Environment | undefined }
) =>
  Service.run({
    args: ["user", "add", ...args],
    env: { DATABASE_URL: service.env["DATABASE_URL"], ...password.env },
    input: password.input
  })

/** Runs another subcommand of `holdfast user`, which asks for no password. */
const user = (service: Pick<Service.Service, "env">, ...args: ReadonlyArray<string>) =>
  Service.run({ args: ["user", ...args], env: { DATABASE_URL: service.env["DATABASE_URL"] } })

const attempt = (service: Service.Service, username: string, password: string) =>
  service.browser().send("POST", "/login", { json: { username, password } })

/** A file of a secret, with a line end, for the current scope. */
const fileOf = (text: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const directory = mkdtempSync(Path.join(tmpdir(), "holdfast-users-"))
      const file = Path.join(directory, "password")
      writeFileSync(file, text)
      return { directory, file }
    }),
    ({ directory }) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
  ).pipe(Effect.map(({ file }) => file))

layer(Service.layerShared(), {
  concurrent: true,
  excludeTestServices: true,
  timeout: "60 seconds"
})("users of the service", (it) => {
  it.effect("Q4 a user sees, reads and cancels only their own queries", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const file = yield* fileOf("wonderland\n")
      const added = yield* addUser(service, ["alice"], { env: { HOLDFAST_PASSWORD_FILE: file } })
      assert.deepStrictEqual([added.code, added.stderr], [0, ""])
      assert.notInclude(added.stdout, "wonderland")

      const demo = yield* service.login()
      const { id } = yield* run(demo, "select 'secret'")
      const running = yield* submit(demo, "select pg_sleep(60), 'of demo'")
      yield* Service.runs(service.queries.name, "of demo")

      const alice = yield* service.login("alice", "wonderland")
      for (const [method, path] of [
        ["GET", `/queries/${id}`],
        ["GET", `/queries/${id}/rows`],
        ["DELETE", `/queries/${id}`],
        ["DELETE", `/queries/${running}`]
      ] as const) {
        const answer = yield* alice.send(method, path)
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [404, "QueryNotFound"], `${method} ${path}`)
      }
      const unknown = yield* alice.send("GET", "/queries/q_00000000-0000-4000-8000-000000000000")
      assert.strictEqual((yield* alice.send("GET", `/queries/${id}`)).text, unknown.text)
      assert.deepStrictEqual(queriesOf(yield* alice.send("GET", "/queries")), [])
      yield* Service.runs(service.queries.name, "of demo")
      assert.strictEqual((yield* demo.send("DELETE", `/queries/${running}`)).status, 200)
    })
  )

  it.effect("S7 a new password ends the user's sessions", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const put = (password: string) => addUser(service, ["bertha"], { env: { HOLDFAST_PASSWORD: password } })
      assert.strictEqual((yield* put("the first one")).code, 0)
      const bertha = yield* service.login("bertha", "the first one")
      const changed = yield* put("the second one")
      assert.deepStrictEqual([changed.code, changed.stderr], [0, ""])
      const answer = yield* bertha.send("GET", "/session")
      assert.deepStrictEqual([answer.status, problemOf(answer).code], [401, "SessionRevoked"])
      assert.strictEqual((yield* attempt(service, "bertha", "the first one")).status, 401)
      assert.strictEqual((yield* attempt(service, "bertha", "the second one")).status, 200)
    })
  )

  it.effect("S7 a user who is removed has no session any more and cannot log in", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      yield* addUser(service, ["greta"], { input: "open sesame" })
      const greta = yield* service.login("greta", "open sesame")
      const removed = yield* user(service, "remove", "greta")
      assert.deepStrictEqual([removed.code, removed.stderr], [0, ""])
      assert.strictEqual(removed.stdout, "user greta is removed; 1 session of greta ended\n")
      const answer = yield* greta.send("GET", "/session")
      assert.deepStrictEqual([answer.status, problemOf(answer).code], [401, "SessionRevoked"])
      assert.strictEqual((yield* attempt(service, "greta", "open sesame")).status, 401)
      const again = yield* user(service, "remove", "greta")
      assert.strictEqual(again.code, 1)
      assert.match(again.stderr, /^holdfast: There is no user "greta"\. /)
    })
  )

  it.effect("S7 an operator ends the sessions of a user, who keeps the password and logs in again", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      yield* addUser(service, ["hanna"], { input: "open sesame" })
      const browsers = [yield* service.login("hanna", "open sesame"), yield* service.login("hanna", "open sesame")]
      const running = yield* submit(browsers[0] ?? assert.fail(), "select pg_sleep(60), 'hanna'")
      yield* Service.runs(service.queries.name, "hanna")
      const ended = yield* user(service, "end-sessions", "hanna")
      assert.deepStrictEqual([ended.code, ended.stdout], [0, "2 sessions of hanna ended\n"])
      for (const browser of browsers) assert.strictEqual((yield* browser.send("GET", "/session")).status, 401)
      const again = yield* service.login("hanna", "open sesame")
      yield* eventually(again.send("GET", `/queries/${running}`), ({ text }) => text.includes('"state":"Canceled"'))
    })
  )

  it.effect("Q4 a user's queries outlive the session they were submitted in, for the same user", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const first = yield* service.login()
      const { id } = yield* run(first, "select 'kept'")
      yield* first.send("POST", "/logout")
      const { rows } = yield* page(yield* service.login(), id)
      assert.deepStrictEqual(rows, [["kept"]])
    })
  )

  it.effect("a password can be piped to user add, up to its last line end", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      for (const [name, input] of [
        ["bob", "the builder \n"],
        ["bert", "the builder "]
      ] as const) {
        assert.strictEqual((yield* addUser(service, [name], { input })).code, 0)
        assert.strictEqual((yield* attempt(service, name, "the builder ")).status, 200)
        assert.strictEqual((yield* attempt(service, name, "the builder")).status, 401)
      }
    })
  )

  it.effect("user add gives a user who exists another password; the old one is no good any more", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      for (const password of ["the first one", "the second one"]) {
        const args = ["carol", "--operator"]
        assert.strictEqual((yield* addUser(service, args, { env: { HOLDFAST_PASSWORD: password } })).code, 0)
        assert.strictEqual((yield* attempt(service, "carol", password)).status, 200)
      }
      assert.strictEqual((yield* attempt(service, "carol", "the first one")).status, 401)
    })
  )

  it.effect("user add refuses what cannot be a name or a password, in one line and with exit code 1", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const long = randomBytes(513).toString("hex")
      for (const input of ["\n", "1234567", "Football", long]) {
        const { code, stderr } = yield* addUser(service, ["dave"], { input })
        assert.strictEqual(code, 1)
        assert.match(stderr, /^holdfast: HOLDFAST_PASSWORD [^\n]+\n$/)
        assert.notInclude(stderr, long)
      }
      // What is no UTF-8 would be another password, and the same one for many.
      const bytes = yield* addUser(service, ["dave"], {
        input: Buffer.from([...Buffer.from("a password"), 0xff, 0x65])
      })
      assert.deepStrictEqual([bytes.code, bytes.stderr.split(" ")[1]], [1, "HOLDFAST_PASSWORD"])
      for (const name of ["", "da\tve", "d".repeat(129), "da\ufffdve"]) {
        assert.strictEqual((yield* addUser(service, [name], { input: "open sesame" })).code, 1, JSON.stringify(name))
      }
      assert.strictEqual((yield* attempt(service, "dave", "open sesame")).status, 401)
    })
  )

  it.effect("user add takes every name that can log in, and no other", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      for (const [name, code] of [
        ["\u{1F600}".repeat(64), 0],
        ["\u{1F600}".repeat(65), 1],
        ["\u{1F600}".repeat(100), 1],
        ["e\u0301".repeat(64), 0],
        ["n".repeat(128), 0]
      ] as const) {
        assert.strictEqual((yield* addUser(service, [name], { input: "open sesame" })).code, code, name)
        if (code === 0) assert.strictEqual((yield* attempt(service, name, "open sesame")).status, 200, name)
      }
    })
  )

  it.effect("the answer to a wrong password and to an unknown user is the same", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const wrong = yield* attempt(service, "demo", "wrong")
      assert.deepStrictEqual([wrong.status, problemOf(wrong).code], [401, "InvalidCredentials"])
      assert.deepStrictEqual(wrong.headers.getSetCookie(), [])
      for (const name of ["nobody", "Demo", "demo ", "de\u0000mo", "' or true --"]) {
        const unknown = yield* attempt(service, name, Service.demoPassword)
        assert.deepStrictEqual([unknown.status, unknown.text], [401, wrong.text], name)
        assert.deepStrictEqual(unknown.headers.getSetCookie(), [])
      }
    })
  )

  it.effect("a login that fails leaves the session as it is", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const browser = yield* service.login()
      const before = yield* browser.send("GET", "/session")
      yield* browser.send("POST", "/login", { json: { username: "demo", password: "wrong" } })
      assert.strictEqual((yield* browser.send("GET", "/session")).status, before.status)
    })
  )
})

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("all users of the service", (it) => {
  it.effect("S7 an operator ends the sessions of all users, who keep their passwords", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      yield* addUser(service, ["ida"], { input: "open sesame" })
      const browsers = [yield* service.login(), yield* service.login("ida", "open sesame")]
      const ended = yield* user(service, "end-all-sessions")
      // Demo's own browser is another one.
      assert.deepStrictEqual([ended.code, ended.stdout], [0, "2 sessions of demo ended\n1 session of ida ended\n"])
      for (const browser of browsers) assert.strictEqual((yield* browser.send("GET", "/session")).status, 401)
      yield* service.login()
    })
  )
})
