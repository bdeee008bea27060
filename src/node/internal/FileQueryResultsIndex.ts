/**
 * Where in a file of lines a row begins, roughly: every so many bytes the place of one row is written down.
 *
 * It lives as long as the file it belongs to, and takes the same room for a large file as for an enormous one: when it has
 * `capacity` places, every second one is dropped and the new ones are twice as far apart.
 */

/** The byte at which a row begins. Rows and bytes are counted from 0. */
export interface Place {
  readonly row: number
  readonly byte: number
}

/** The places of some rows. */
export interface Index {
  /** Called for each row, in order, with the byte at which it begins. */
  readonly add: (row: number, byte: number) => void
  /** The last known place at or before the row. */
  readonly before: (row: number) => Place
  /** The first known place at or after the row, if there is one. */
  readonly after: (row: number) => Place | undefined
  readonly size: () => number
}

/** An index that knows the first row only. `span` is the distance between two places, in bytes. */
export const make = (options: { readonly span: number; readonly capacity: number }): Index => {
  let span = options.span
  let places: Array<Place> = [{ row: 0, byte: 0 }]
  let last = 0

  /** How many places lie at or before the row. */
  const upTo = (row: number): number => {
    let low = 0
    let high = places.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((places[middle] as Place).row <= row) low = middle + 1
      else high = middle
    }
    return low
  }

  return {
    add: (row, byte) => {
      if (byte - last < span) return
      if (places.length >= options.capacity) {
        places = places.filter((_, position) => position % 2 === 0)
        span *= 2
      }
      places.push({ row, byte })
      last = byte
    },
    before: (row) => places[upTo(row) - 1] ?? { row: 0, byte: 0 },
    after: (row) => places[upTo(row - 1)],
    size: () => places.length
  }
}
