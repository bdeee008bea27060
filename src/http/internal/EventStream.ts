/**
 * A response of server-sent events (HTML Standard 9.2).
 *
 * It lasts until its events are over or the client is gone; both end whatever the events hold.
 *
 * **Details**
 *
 * It begins with a comment, so that the client learns at once that it is connected, and has another one every 15 seconds: a
 * proxy takes a connection that says nothing for dead.
 */
import * as Sse from "effect/encoding/Sse"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Stream from "effect/Stream"
import * as Turns from "../../lifetime/internal/Turns.ts"

/** An event as it is sent. Its data may be pieces of a text without line breaks, which are made as they are sent. */
export interface Event extends Pick<Sse.Event, "id" | "event"> {
  readonly data: string | Iterable<string>
}

const heartbeat = Stream.as(Stream.tick("15 seconds"), undefined)

/** What is in the buffers between here and the reader are events, and not their texts. */
function* piecesOf(event: Event | undefined): Generator<string, void> {
  if (event === undefined) yield ":\n\n"
  else if (typeof event.data === "string") yield Sse.encoder.write({ _tag: "Event", ...event, data: event.data })
  else {
    const begin = Sse.encoder.write({ _tag: "Event", ...event, data: "" })
    let text = begin.slice(0, begin.lastIndexOf("data:"))
    text += "data: "
    for (const piece of event.data) {
      text += piece
      if (text.length < pieceLength) continue
      yield text
      text = ""
    }
    yield `${text}\n\n`
  }
}

/** Characters that are sent at once. */
const pieceLength = 32 * 1024

/** The bytes of the response. */
export const encode = <E, R>(events: Stream.Stream<Event, E, R>): Stream.Stream<Uint8Array, E, R> =>
  Stream.merge(heartbeat, events, { haltStrategy: "right" }).pipe(
    Stream.flatMap((event) => Stream.fromIterable(piecesOf(event), { chunkSize: 1 })),
    Stream.tap(() => Turns.next),
    Stream.encodeText
  )

/** Answers with events. No proxy may keep them back. */
export const response = <E>(events: Stream.Stream<Event, E>): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.stream(encode(events), {
    contentType: "text/event-stream",
    headers: { "cache-control": "no-store", "x-accel-buffering": "no" }
  })
