/**
 * The few drawings of the page.
 */
import type { View } from "./router.ts"

export const Mark = () => (
  <svg viewBox="0 0 32 32" aria-hidden="true">
    <rect width="32" height="32" rx="8" fill="#0f766e" />
    <path d="M10 8v16M22 8v16M10 16h12" stroke="#fff" stroke-width="3.6" stroke-linecap="round" fill="none" />
  </svg>
)

const paths: Readonly<Record<View, string>> = {
  sql: "M4 6l5 6-5 6M12 18h8",
  queries: "M4 6h16M4 12h10M4 18h13",
  functions: "M8 4c-3 0-2 4-2 5s-.5 3-2 3c1.500 0 2 2 2 3s-1 5 2 5M16 4c3 0 2 4 2 5s.5 3 2 3c-1.500 0-2 2-2 3s1 5-2 5",
  sessions: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c0-4 3.500-6 8-6s8 2 8 6",
  holdings: "M5 4v13a2 2 0 0 0 2 2h5M5 9h7M15 6h5v5h-5zM15 16h5v5h-5z"
}

export const ViewIcon = ({ view }: { readonly view: View }) => (
  <svg viewBox="0 0 24 24" aria-hidden="true">
    <path
      d={paths[view]}
      stroke="currentColor"
      stroke-width="1.800"
      stroke-linecap="round"
      stroke-linejoin="round"
      fill="none"
    />
  </svg>
)
