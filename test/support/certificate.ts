/**
 * A certificate for this machine, signed by itself and made when it is asked for: RFC 5280 in DER, no more of it than TLS needs.
 */
import * as Crypto from "node:crypto"

const tlv = (tag: number, ...parts: ReadonlyArray<Uint8Array>): Buffer => {
  const content = Buffer.concat(parts)
  const { length } = content
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}
const sequence = (...parts: ReadonlyArray<Uint8Array>) => tlv(0x30, ...parts)
const oid = (hex: string) => tlv(0x06, Buffer.from(hex, "hex"))
const bitString = (bytes: Uint8Array) => tlv(0x03, Buffer.from([0]), bytes)
const utcTime = (date: Date) =>
  tlv(0x17, Buffer.from(`${date.toISOString().replace(/[-:T]/g, "").slice(2, 14)}Z`, "latin1"))

const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"))
const name = (common: string) => sequence(tlv(0x31, sequence(oid("550403"), tlv(0x0c, Buffer.from(common)))))
const subjectAltName = oid("551d11")
const day = 86_400_000

/** For `localhost` and 127.0.0.1, good from yesterday until tomorrow. */
export const make = (): { readonly cert: string; readonly key: string } => {
  const { privateKey, publicKey } = Crypto.generateKeyPairSync("ec", { namedCurve: "P-256" })
  const names = sequence(tlv(0x82, Buffer.from("localhost")), tlv(0x87, Buffer.from([127, 0, 0, 1])))
  const toBeSigned = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, Buffer.from([1])),
    ecdsaWithSha256,
    name("localhost"),
    sequence(utcTime(new Date(Date.now() - day)), utcTime(new Date(Date.now() + day))),
    name("localhost"),
    publicKey.export({ type: "spki", format: "der" }),
    tlv(0xa3, sequence(sequence(subjectAltName, tlv(0x04, names))))
  )
  const signature = Crypto.sign("sha256", toBeSigned, privateKey)
  const der = sequence(toBeSigned, ecdsaWithSha256, bitString(signature))
  const base64 = der.toString("base64").replace(/.{64}/g, "$&\n")
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  }
}
