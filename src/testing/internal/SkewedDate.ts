/**
 * Preloaded into a program (`NODE_OPTIONS=--import=…`), lets its clock go wrong by `HOLDFAST_TEST_CLOCK_SKEW` milliseconds, for as long as
 * the program runs.
 */
const skew = Number(process.env.HOLDFAST_TEST_CLOCK_SKEW ?? 0)
const RealDate = Date
const now = () => RealDate.now() + skew

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args: ReadonlyArray<unknown>, self) =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, self),
  apply: () => new RealDate(now()).toString(),
  get: (target, key) => (key === "now" ? now : Reflect.get(target, key))
})
Object.defineProperty(performance, "timeOrigin", { value: performance.timeOrigin + skew })
