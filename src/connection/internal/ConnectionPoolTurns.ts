/** Work that may ask for itself while it runs: it is done once more after it, and never within itself. */
export const inTurns = (work: () => void): (() => void) => {
  let asked = 0
  return () => {
    asked++
    if (asked > 1) return
    for (let begun = 0; begun < asked;) {
      begun = asked
      work()
    }
    asked = 0
  }
}
