/**
 * A runner of an Effect cluster that answers for queries, and is known to the others by its certificate.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as RunnerAddress from "effect/cluster/RunnerAddress"
import * as RunnerHealth from "effect/cluster/RunnerHealth"
import * as Runners from "effect/cluster/Runners"
import * as ShardingConfig from "effect/cluster/ShardingConfig"
import * as SocketRunner from "effect/cluster/SocketRunner"
import * as SqlMessageStorage from "effect/cluster/SqlMessageStorage"
import * as SqlRunnerStorage from "effect/cluster/SqlRunnerStorage"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RpcClient from "effect/rpc/RpcClient"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import { Socket } from "effect/socket/Socket"
import * as QueryEntity from "holdfast/cluster/QueryEntity"

/** What a runner shows, and whom it believes: all in PEM, from an authority that signs for runners only. */
export interface Certificates {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** A runner, and where it listens if not at its address. */
export interface Runner {
  readonly address: { readonly host: string; readonly port: number }
  readonly listen?: { readonly host: string; readonly port: number } | undefined
  readonly certificates: Certificates
  readonly config?: Partial<ShardingConfig.ShardingConfig["Service"]> | undefined
}

// #region cluster
/** How a runner calls others: it shows its certificate, and believes those of the same authority only. */
const layerCalls = (certificates: Certificates) =>
  Layer.effect(
    Runners.RpcClientProtocol,
    Effect.gen(function* () {
      const serialization = yield* RpcSerialization.RpcSerialization
      return {
        codecFor: serialization.codecFor,
        make: Effect.fnUntraced(
          function* ({ host, port }) {
            const socket = yield* NodeSocket.makeTls({ ...certificates, host, port, openTimeout: "1 second" })
            return yield* Effect.provideService(RpcClient.makeProtocolSocket(), Socket, socket)
          },
          Effect.orDie,
          Effect.provideService(RpcSerialization.RpcSerialization, serialization)
        )
      }
    })
  )

/** What all members of the cluster stand on: the tables in the database of the `SqlClient`, and calls. */
const layerMember = (certificates: Certificates, config: Partial<ShardingConfig.ShardingConfig["Service"]>) =>
  Layer.mergeAll(
    layerCalls(certificates),
    SqlMessageStorage.layer.pipe(Layer.provide(NodeCrypto.layerDigest)),
    Layer.orDie(SqlRunnerStorage.layer)
  ).pipe(Layer.provideMerge(ShardingConfig.layer(config)), Layer.provideMerge(RpcSerialization.layerSchemaBinary()))

/** A runner that others call at an address. A caller without a certificate of the authority is not heard. */
export const layerRunner = ({ address, certificates, config, listen = address }: Runner) =>
  SocketRunner.layer.pipe(
    Layer.provide(
      NodeSocketServer.layerTls({
        ...certificates,
        ...listen,
        requestCert: true,
        rejectUnauthorized: true,
        // An answer does not wait for the next one (Nagle's algorithm, RFC 896).
        noDelay: true
      })
    ),
    Layer.provide(RunnerHealth.layerPing.pipe(Layer.provide(Runners.layerRpc))),
    Layer.provide(
      layerMember(certificates, {
        ...config,
        runnerAddress: Option.some(RunnerAddress.make(address.host, address.port))
      })
    )
  )

/** A program that runs nothing itself, and calls runners. */
export const layerCaller = (certificates: Certificates, config?: Runner["config"]) =>
  SocketRunner.layerClientOnly.pipe(
    Layer.provide(layerMember(certificates, { ...config, runnerAddress: Option.none() }))
  )

/** A runner that answers for queries: over `layerSharedQueries`, and over the database of the cluster's own tables. */
export const layerQueries = (runner: Runner) => QueryEntity.layer.pipe(Layer.provide(layerRunner(runner)))
// #endregion
