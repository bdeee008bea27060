/**
 * Asks once more before something that cannot be taken back.
 */
import { useWords } from "../text/text.ts"

export interface SureProps {
  readonly question: string
  readonly onYes: () => void
  readonly onNo: () => void
}

export const Sure = ({ onNo, onYes, question }: SureProps) => {
  const words = useWords()
  return (
    <span class="sure" role="group" aria-label={question}>
      <span>{question}</span>
      <button class="compact danger" onClick={onYes}>
        {words.yes}
      </button>
      <button class="compact" onClick={onNo}>
        {words.no}
      </button>
    </span>
  )
}
