/** What a runtime does, as lines: for panels and recordings that are no part of what runs on it. */
import { setTimeout as sleep } from "node:timers/promises";
import type { DevicesEvent } from "./devices-hub.js";
import { RuntimeLost } from "./errors.js";
import { readExitNote } from "./launch.js";
import type { Place } from "./locate.js";
import { Runtime } from "./runtime.js";
import { subscribeTelemetry } from "./telemetry.js";
import type { RuntimeStatus } from "./types.js";

/** Milliseconds between two looks at the state, and between two at whether a process has come. */
const [stateEvery, lookEvery] = [2000, 1000];

/** Of the table of what holds memory: the largest. */
const mostRows = 40;

/** The state of the runtime of a place, without the watcher. */
export type WatchedState =
  | { running: false; deviceSet: string; socket: string; log: string; lastExit: string | null }
  | ({ running: true } & RuntimeStatus);

export type WatchLine =
  | { type: "state"; time: number; state: WatchedState }
  | { type: "telemetry"; event: DevicesEvent };

/**
 * Attaches to the runtime of a place while there is one, and starts none; emits its state every two seconds, its telemetry every
 * second, and that it is gone, until the input ends or fails.
 */
export async function watchRuntime(
  where: Place,
  input: NodeJS.ReadableStream,
  emit: (line: WatchLine) => void,
): Promise<number> {
  let ended = false;
  const end = new AbortController();
  for (const event of ["end", "close", "error"] as const)
    input.once(event, () => {
      ended = true;
      end.abort();
    });
  input.resume();
  const pause = (milliseconds: number): Promise<void> =>
    sleep(milliseconds, undefined, { signal: end.signal }).catch(() => {});
  let said: string | undefined;
  while (!ended) {
    const runtime = new Runtime({ directory: where.directory, devices: where.devices, start: false });
    try {
      await attached(runtime, emit, () => ended, pause);
    } catch (error) {
      if (!(error instanceof RuntimeLost)) throw error;
    } finally {
      runtime.close();
    }
    if (ended) break;
    const { devices: deviceSet, socket, log } = where;
    const lastExit = readExitNote(where.exitNote) ?? null;
    const state: WatchedState = { running: false, deviceSet, socket, log, lastExit };
    if (JSON.stringify(state) !== said) emit({ type: "state", time: Date.now(), state });
    said = JSON.stringify(state);
    await pause(lookEvery);
  }
  return 0;
}

/** One process, until it is gone. */
async function attached(
  runtime: Runtime,
  emit: (line: WatchLine) => void,
  ended: () => boolean,
  pause: (milliseconds: number) => Promise<void>,
): Promise<void> {
  const { platform, devices, client } = await runtime.ready;
  const own = devices.map(({ id, kind }) => ({ id, kind }));
  const stop = await subscribeTelemetry(runtime, (sample) =>
    emit({ type: "telemetry", event: { node: 0, platform, devices: own, sample } }),
  );
  try {
    while (!ended()) {
      const status = (await runtime.request({ op: "status" })).result as RuntimeStatus;
      const holders = status.holders.filter(({ kind, number }) => kind !== "client" || number !== client);
      const clients = holders.flatMap(({ kind, name }) => (kind === "client" ? [name] : []));
      const memory = { ...status.memory, table: status.memory.table.slice(0, mostRows) };
      emit({
        type: "state",
        time: Date.now(),
        state: { running: true, ...status, clients, holders, memory },
      });
      await pause(stateEvery);
    }
  } finally {
    stop();
  }
}
