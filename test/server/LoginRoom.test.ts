/** I3 whatever networks fill the room, an attempt from another one finds a place and its turn. */
import { assert, describe, it } from "@effect/vitest"
import * as LoginRoom from "../../src/server/LoginRoom.ts"

const limits = { atOnce: 2, waiting: 100, ofClient: 25, ofUser: 10 }

/** A room, and attempts in it that wait for their turn at once. */
const make = () => {
  const room = new LoginRoom.Room(limits)
  const order: Array<string> = []
  const taken: Array<string> = []
  const places = new Map<string, LoginRoom.Place>()
  const enter = (path: ReadonlyArray<string>, username = "user") => {
    const name = path.join(" ")
    const place = room.enter({ path, username })
    if (place !== undefined) places.set(name, place)
    place?.taken(() => taken.push(name))
    place?.turn(() => order.push(name))
    return place
  }
  return { room, order, taken, places, enter }
}

/** The `index`th /64 of a site. */
const of = (site: string, index: number) => ["/32", `/48 ${site}`, `/56 ${site} ${index >> 8}`, `/64 ${site} ${index}`]

describe("I3 a full room", () => {
  it("of one site, whatever addresses it has, lets in half of it from another, and gives it every second turn", () => {
    const { enter, order, places, taken } = make()
    const evil = Array.from({ length: 250 }, (_, index) => enter(of("evil", index), `user ${index}`))
    assert.lengthOf(
      evil.filter((place) => place !== undefined),
      102
    )
    const good = Array.from({ length: 49 }, (_, index) => enter(of("good", index)))
    assert.isTrue(good.every((place) => place !== undefined))
    assert.lengthOf(taken, 49)
    // The newest make room.
    assert.strictEqual(taken[0], of("evil", 101).join(" "))
    assert.isUndefined(enter(of("evil", 255)))
    // Each that is done lets the next one begin.
    for (let done = 0; done < 10; done++) places.get(order[done] ?? "")?.leave()
    assert.lengthOf(
      order.slice(2, 12).filter((name) => name.includes("good")),
      5
    )
  })

  it("of one network of a level leaves place for its sister on that level", () => {
    const levels = [
      [["a"], ["b"]],
      [
        ["n", "a"],
        ["n", "b"]
      ],
      [
        ["n", "m", "a"],
        ["n", "m", "b"]
      ]
    ] as const
    for (const [evil, good] of levels) {
      const { enter } = make()
      for (let index = 0; index < 200; index++) enter([...evil, `x ${index}`])
      for (let index = 0; index < 40; index++) assert.isDefined(enter([...good, `y ${index}`]), `${good.join(" ")}`)
    }
  })

  it("that a flood fills lets in an office by its one address, up to what a client may have", () => {
    const { enter } = make()
    for (let index = 0; index < 200; index++) enter(of("evil", index))
    for (let index = 0; index < 25; index++) {
      assert.isDefined(enter(["203.0.0.0/16", "203.0.113.0/24", "203.0.113.7"], `colleague ${index}`))
    }
    assert.isUndefined(enter(["203.0.0.0/16", "203.0.113.0/24", "203.0.113.7"], "one more"))
  })

  it("takes no place of an attempt that has its turn, nor of one of a network that has no more than the other", () => {
    const { enter, order, taken } = make()
    const places = Array.from({ length: 102 }, (_, index) => enter([`network ${index}`]))
    assert.isUndefined(enter(["one more"]))
    assert.deepStrictEqual([order.length, taken], [2, []])
    places[0]?.leave()
    assert.isDefined(enter(["one more"]))
  })

  it("whoever comes and goes in whatever order, two have their turn while anybody waits, and nothing is left", () => {
    let seed = 7
    const random = (below: number) => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed % below
    }
    for (let round = 0; round < 50; round++) {
      const room = new LoginRoom.Room({ atOnce: 2, waiting: 10, ofClient: 4, ofUser: 2 })
      const places = new Map<LoginRoom.Place, "entered" | "ready" | "begun">()
      for (let step = 0; step < 400; step++) {
        const all = Array.from(places)
        const [place, state] = all[random(all.length + 1)] ?? []
        if (place === undefined) {
          const path = [`${random(3)}`, `${random(3)}`, `${random(3)}`]
          const entered = room.enter({
            path: path.map((_, level) => path.slice(0, level + 1).join(".")),
            username: `${random(2)}`
          })
          if (entered !== undefined) {
            places.set(entered, "entered")
            entered.taken(() => {
              assert.notStrictEqual(places.get(entered), "begun")
              places.delete(entered)
            })
          }
        } else if (state === "entered") {
          places.set(place, "ready")
          place.turn(() => places.set(place, "begun"))
        } else {
          places.delete(place)
          place.leave()
          place.leave()
        }
        const states = Array.from(places.values())
        const begun = states.filter((it) => it === "begun").length
        assert.isAtMost(places.size, 12)
        assert.isAtMost(begun, 2)
        assert.isTrue(begun === 2 || !states.includes("ready"), `round ${round}, step ${step}`)
      }
      for (const place of places.keys()) place.leave()
      places.clear()
      assert.deepStrictEqual(
        [1, 2, 3].map((index) => room.enter({ path: [`${index}`], username: "" }) === undefined),
        [false, false, false]
      )
    }
  })
})
