/**
 * Flat buffers, as far as Arrow's messages need them: tables, texts, lists and structs, written once from the root on
 * (FlatBuffers, "Internals": https://flatbuffers.dev/internals/).
 */

/** A number of `size` bytes. */
export interface Scalar {
  readonly size: 1 | 2 | 4 | 8
  readonly value: number
}

/** What a table or a list points at. */
export type Node =
  | { readonly kind: "table"; readonly fields: ReadonlyArray<Scalar | Node | undefined> }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "list"; readonly items: ReadonlyArray<Node> }
  /** Structs of two numbers of 64 bits each. */
  | { readonly kind: "pairs"; readonly items: ReadonlyArray<readonly [number, number]> }

const scalar = (size: Scalar["size"]) => (value: number) => ({ size, value })
export const int8 = scalar(1)
export const int16 = scalar(2)
export const int32 = scalar(4)
export const int64 = scalar(8)

/** The place of a field is its number in the schema of Arrow; undefined is a field that is left out. */
export const table = (...fields: ReadonlyArray<Scalar | Node | undefined>): Node => ({ kind: "table", fields })
export const text = (content: string): Node => ({ kind: "text", text: content })
export const list = (items: ReadonlyArray<Node>): Node => ({ kind: "list", items })
export const pairs = (items: ReadonlyArray<readonly [number, number]>): Node => ({ kind: "pairs", items })

const isNode = (field: Scalar | Node | undefined): field is Node => field !== undefined && "kind" in field

/** The bytes of a root and all that it points at; their number is a multiple of eight. */
export const bytesOf = (root: Node): Uint8Array<ArrayBuffer> => {
  let view = new DataView(new ArrayBuffer(1024))
  let end = 4
  /** Takes `size` bytes whose place `lead` bytes on is a multiple of `align`. */
  const take = (size: number, align: number, lead = 0): number => {
    const at = Math.ceil((end + lead) / align) * align - lead
    end = at + size
    if (end > view.byteLength) {
      const larger = new Uint8Array(new ArrayBuffer(Math.max(end, view.byteLength * 2)))
      larger.set(new Uint8Array(view.buffer))
      view = new DataView(larger.buffer)
    }
    return at
  }
  const put = (at: number, { size, value }: Scalar) => {
    if (size === 8) view.setBigInt64(at, BigInt(value), true)
    else if (size === 4) view.setInt32(at, value, true)
    else if (size === 2) view.setInt16(at, value, true)
    else view.setInt8(at, value)
  }
  /** An offset at a place points forward, to what is written next. */
  const point = (from: number, node: Node) => {
    const at = write(node)
    view.setUint32(from, at - from, true)
  }

  const write = (node: Node): number => {
    if (node.kind === "text") {
      const bytes = new TextEncoder().encode(node.text)
      const at = take(4 + bytes.length + 1, 4)
      view.setUint32(at, bytes.length, true)
      new Uint8Array(view.buffer).set(bytes, at + 4)
      return at
    }
    if (node.kind === "pairs") {
      const at = take(4 + 16 * node.items.length, 8, 4)
      view.setUint32(at, node.items.length, true)
      for (const [index, [first, second]] of node.items.entries()) {
        put(at + 4 + 16 * index, int64(first))
        put(at + 12 + 16 * index, int64(second))
      }
      return at
    }
    if (node.kind === "list") {
      const at = take(4 + 4 * node.items.length, 4)
      view.setUint32(at, node.items.length, true)
      for (const [index, item] of node.items.entries()) point(at + 4 + 4 * index, item)
      return at
    }
    // The table of places lies before the table: its length, the table's, and the place of each field or 0.
    const { fields } = node
    const places: Array<number> = []
    let size = 4
    for (const field of fields) {
      const width = field === undefined ? 0 : isNode(field) ? 4 : field.size
      if (width > 0) size = Math.ceil(size / width) * width
      places.push(width === 0 ? 0 : size)
      size += width
    }
    const virtual = take(4 + 2 * fields.length, 2)
    const at = take(size, 8)
    put(virtual, int16(4 + 2 * fields.length))
    put(virtual + 2, int16(size))
    view.setInt32(at, at - virtual, true)
    for (const [index, field] of fields.entries()) {
      const place = places[index] ?? 0
      put(virtual + 4 + 2 * index, int16(place))
      if (isNode(field)) point(at + place, field)
      else if (field !== undefined) put(at + place, field)
    }
    return at
  }
  point(0, root)
  take(0, 8)
  return new Uint8Array(view.buffer, 0, end)
}
