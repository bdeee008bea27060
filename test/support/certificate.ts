/**
 * Certificates for this machine, made when they are asked for: RFC 5280 in DER, no more of it than TLS needs.
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
const basicConstraints = oid("551d13")
const day = 86_400_000

/** A certificate and its private key, both in PEM. */
export interface Certified {
  readonly cert: string
  readonly key: string
}

const authorityName = "Holdfast test authority"
const hosts = tlv(0x04, sequence(tlv(0x82, Buffer.from("localhost")), tlv(0x87, Buffer.from([127, 0, 0, 1]))))
const isAuthority = tlv(0x04, sequence(tlv(0x01, Buffer.from([0xff]))))

const certify = (options: {
  readonly serial: number
  readonly subject: string
  readonly issuer: string
  readonly extension: Buffer
  /** Default: the certificate's own key. */
  readonly signer?: Crypto.KeyObject
}) => {
  const { privateKey, publicKey } = Crypto.generateKeyPairSync("ec", { namedCurve: "P-256" })
  const toBeSigned = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, Buffer.from([options.serial])),
    ecdsaWithSha256,
    name(options.issuer),
    sequence(utcTime(new Date(Date.now() - day)), utcTime(new Date(Date.now() + day))),
    name(options.subject),
    publicKey.export({ type: "spki", format: "der" }),
    tlv(0xa3, sequence(options.extension))
  )
  const signature = Crypto.sign("sha256", toBeSigned, options.signer ?? privateKey)
  const der = sequence(toBeSigned, ecdsaWithSha256, bitString(signature))
  const base64 = der.toString("base64").replace(/.{64}/g, "$&\n")
  return { privateKey, cert: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n` }
}

const forHosts = sequence(subjectAltName, hosts)
const pem = ({ cert, privateKey }: ReturnType<typeof certify>): Certified => ({
  cert,
  key: privateKey.export({ type: "pkcs8", format: "pem" }).toString()
})

/** For `localhost` and 127.0.0.1, signed by itself, good from yesterday until tomorrow. */
export const make = (): Certified =>
  pem(certify({ serial: 1, subject: "localhost", issuer: "localhost", extension: forHosts }))

/** A private authority, and a certificate as that of {@link make} that it signed. */
export const issued = (): Certified & { readonly authority: string } => {
  const critical = tlv(0x01, Buffer.from([0xff]))
  const { cert: authority, privateKey: signer } = certify({
    serial: 1,
    subject: authorityName,
    issuer: authorityName,
    extension: sequence(basicConstraints, critical, isAuthority)
  })
  const own = certify({ serial: 2, subject: "localhost", issuer: authorityName, extension: forHosts, signer })
  return { ...pem(own), authority }
}
