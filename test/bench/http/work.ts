/** What every server of `npm run bench -- http` has to do, and where: the same data, the same waits. */
const env = process.env

export const port = Number(env.BENCH_PORT)
export const storeUrl = env.BENCH_STORE_URL ?? ""
export const idleMillis = Number(env.BENCH_IDLE_MILLIS ?? 1_800_000)
/** How long a slow handler takes between reading its session and writing it. */
export const slowMillis = 30

/** Of the size that a shop's session has. */
export const initial = {
  count: 0,
  locale: "de-CH",
  cart: [1, 2, 3].map((n) => ({ sku: `A-${n}`, quantity: n, price: 1990 + n }))
}

/** Says that a server answers, and ends it in order, so that a profile is written. */
export const listening = (close: () => void) => {
  process.stdout.write(`listening on http://127.0.0.1:${port}\n`)
  process.once("SIGTERM", () => {
    close()
    process.exit(0)
  })
}
