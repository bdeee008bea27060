import { assert, describe, it } from "@effect/vitest"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as ClientAddress from "../../src/server/ClientAddress.ts"

const from = (remoteAddress: string) =>
  HttpServerRequest.fromWeb(new Request("http://localhost/")).modify({ remoteAddress: Option.some(remoteAddress) })
const clientOf = (address: string) => ClientAddress.clientOf(from(address)).client

describe("where a request comes from", () => {
  it("each IPv4 address is a client of its own, also as a socket for both families writes it", () => {
    assert.strictEqual(clientOf("::ffff:192.0.2.1"), "192.0.2.1")
    assert.strictEqual(clientOf("::ffff:c000:201"), clientOf("192.0.2.1"))
    assert.notStrictEqual(clientOf("::ffff:192.0.2.1"), clientOf("::ffff:192.0.2.2"))
    assert.deepStrictEqual(ClientAddress.of(from("::ffff:192.0.2.1")), Option.some("192.0.2.1"))
  })

  it("the addresses of one IPv6 customer are one client, those of another are another", () => {
    assert.strictEqual(clientOf("2001:db8:0:1::1"), clientOf("2001:db8:0:1:ffff:ffff:ffff:ffff"))
    assert.notStrictEqual(clientOf("2001:db8:0:1::1"), clientOf("2001:db8:0:2::1"))
    assert.strictEqual(clientOf("fe80::1%eth0"), clientOf("fe80::2%eth1"))
  })

  it("a client is part of networks, the largest first", () => {
    assert.deepStrictEqual(ClientAddress.clientOf(from("192.0.2.1")), {
      client: "192.0.2.1",
      networks: ["192.0.0.0/16", "192.0.2.0/24"]
    })
    assert.deepStrictEqual(ClientAddress.clientOf(from("2001:db8:1:234::5")), {
      client: "2001:db8:1:234::/64",
      networks: ["2001:db8::/32", "2001:db8:1::/48", "2001:db8:1:200::/56"]
    })
  })

  it("what is no address is one client that is not known", () => {
    assert.strictEqual(clientOf("somewhere"), "unknown")
    assert.deepStrictEqual(ClientAddress.of(from("somewhere")), Option.none())
  })
})
