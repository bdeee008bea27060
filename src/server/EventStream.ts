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

/** An event as it is sent. */
export type Event = Pick<Sse.Event, "id" | "event" | "data">

const heartbeat = Stream.as(Stream.tick("15 seconds"), ":\n\n")

const textOf = (event: Event) => Sse.encoder.write({ _tag: "Event", ...event })

/** The bytes of the response. */
export const encode = <E, R>(events: Stream.Stream<Event, E, R>): Stream.Stream<Uint8Array, E, R> =>
  Stream.encodeText(Stream.merge(heartbeat, Stream.map(events, textOf), { haltStrategy: "right" }))

/** Answers with events. No proxy may keep them back. */
export const response = <E>(events: Stream.Stream<Event, E>): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.stream(encode(events), {
    contentType: "text/event-stream",
    headers: { "cache-control": "no-store", "x-accel-buffering": "no" }
  })
