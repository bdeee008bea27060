/**
 * Where I am logged in, and an end for each at a click.
 */
import { useCallback, useEffect, useState } from "preact/hooks"
import { client, run } from "../api/client.ts"
import { say, sayError } from "../app/status.ts"
import { useWords } from "../text/text.ts"
import { moment } from "../text/times.ts"
import { Sure } from "./Sure.tsx"
import { nameOf } from "./userAgent.ts"

const ask = () => run(client.sessions.devices())
type Device = Awaited<ReturnType<typeof ask>>[number]

export const SessionsView = () => {
  const words = useWords()
  const [devices, setDevices] = useState<ReadonlyArray<Device> | null>(null)
  const [problem, setProblem] = useState("")
  const [isSure, setSure] = useState(false)
  const [busy, setBusy] = useState("")

  const load = useCallback(async () => {
    setProblem("")
    await ask().then(setDevices, (error: unknown) => setProblem(error instanceof Error ? error.message : String(error)))
  }, [])
  useEffect(() => {
    void load()
  }, [])

  const act = async (name: string, work: () => Promise<unknown>, done: string) => {
    setBusy(name)
    setSure(false)
    try {
      await work()
      say(done)
    } catch (error) {
      sayError(error)
    }
    await load()
    setBusy("")
  }
  const end = (id: Device["id"]) => act(id, () => run(client.sessions.end({ params: { id } })), words.sessionEnded)
  const endOthers = () => act("others", () => run(client.sessions.endOthers()), words.othersEnded)

  const others = (devices ?? []).filter(({ current }) => !current).length
  return (
    <section class="view" aria-label={words.views.sessions}>
      <div class="head">
        <h1>{words.views.sessions}</h1>
        {others > 0 &&
          (isSure ? (
            <Sure question={words.endOthersSure} onYes={() => void endOthers()} onNo={() => setSure(false)} />
          ) : (
            <button class="danger" disabled={busy !== ""} onClick={() => setSure(true)}>
              {words.endOthers}
            </button>
          ))}
      </div>
      {problem !== "" && (
        <p class="note bad row" role="alert">
          {problem}
          <button class="compact" onClick={() => void load()}>
            {words.retry}
          </button>
        </p>
      )}
      {devices === null ? (
        problem === "" && <p class="panel empty">{words.loading}</p>
      ) : (
        <div class="panel">
          <table class="list cards">
            <thead>
              <tr>
                <th scope="col">{words.device}</th>
                <th scope="col">{words.address}</th>
                <th scope="col">{words.since}</th>
                <th scope="col">{words.lastSeen}</th>
                <th scope="col">{words.expires}</th>
                <th scope="col">
                  <span class="hidden">{words.end}</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {devices.map(({ createdAt, current, expiresAt, id, ip, lastSeenAt, userAgent }) => (
                <tr key={id}>
                  <td class="wide">
                    <span class="row">
                      <b title={userAgent ?? ""}>{nameOf(userAgent) ?? words.unknownDevice}</b>
                      {current && <span class="badge ok">{words.thisSession}</span>}
                    </span>
                  </td>
                  <td class="mono" data-label={words.address}>
                    {ip ?? "–"}
                  </td>
                  <td data-label={words.since}>{moment(createdAt)}</td>
                  <td data-label={words.lastSeen}>{moment(lastSeenAt)}</td>
                  <td data-label={words.expires}>{moment(expiresAt)}</td>
                  <td class="num">
                    {!current && (
                      <button class="compact danger" disabled={busy !== ""} onClick={() => void end(id)}>
                        {words.end}
                      </button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {devices !== null && others === 0 && <p class="muted small">{words.sessionOne}</p>}
    </section>
  )
}
