/**
 * Whether a name is this machine's own. What goes there passes no network.
 */

/** By the name alone: nobody is asked where it leads. */
export const isLoopback = (hostname: string): boolean =>
  hostname === "localhost" || hostname === "[::1]" || hostname === "::1" || /^127(?:\.\d{1,3}){3}$/.test(hostname)
