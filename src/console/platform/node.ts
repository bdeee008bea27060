/**
 * What the schemas of the API need of Node, in a browser.
 */
export const randomUUID = (): string => crypto.randomUUID()

const encoder = new TextEncoder()

/** Only what counts bytes: nothing here reads or writes any. */
export const Buffer = { byteLength: (text: string): number => encoder.encode(text).length }

/** Tokens are the server's. */
const ofServer = (): never => {
  throw new Error("Only the service makes tokens.")
}
export { ofServer as createHmac, ofServer as hash, ofServer as randomBytes }
