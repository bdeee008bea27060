/**
 * Cuts a socket that a driver opens, at any moment: also before there is one.
 *
 * Node connects a socket whose signal was aborted before the socket was made, and then nobody has it to close it. So the signal
 * of a cut is not aborted before somebody listens to it, which is what a new socket does first.
 */

/** A cut that may be made once. */
export interface SocketCut {
  /** For the options of the socket. */
  readonly signal: AbortSignal
  /** Ends the socket, or the one that comes. */
  readonly cut: () => void
}

/** Makes a cut for one socket. */
export const make = (): SocketCut => {
  const controller = new AbortController()
  const { signal } = controller
  let isListenedTo = false
  let isCut = false
  const listen: typeof signal.addEventListener = signal.addEventListener.bind(signal)
  signal.addEventListener = (...added: Parameters<typeof listen>) => {
    listen(...added)
    isListenedTo = true
    // The socket has to be made first.
    if (isCut) queueMicrotask(() => controller.abort())
  }
  return {
    signal,
    cut: () => {
      isCut = true
      if (isListenedTo) controller.abort()
    }
  }
}
