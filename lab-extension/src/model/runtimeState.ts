import type { JSONObject } from "@lumino/coreutils";

/** Who holds memory of devices: a workspace, a client of the runtime, or another process on a GPU. */
export interface Holder {
  readonly kind: "workspace" | "client" | "process";
  readonly name: string;
  readonly number?: number;
  readonly buffers: number;
  readonly devices: readonly { readonly id: number; readonly bytes: number }[];
}

/** A program that is compiled, runs now, or is being compiled. */
export interface RuntimeProgram {
  readonly name: string;
  readonly client: string;
  readonly state: "compiled" | "compiling" | "running";
  /** Seconds that it took to compile, or that it takes so far. */
  readonly seconds: number;
  readonly cached?: string;
}

/** A device and what the runtime has of it. */
export interface RuntimeDevice {
  readonly id: number;
  readonly kind: string;
  /** Bytes that the runtime may use, where that is known. */
  readonly limit?: number;
}

/** The runtime process, as the kernel tells of it (docs/contracts.md §2, `aronnax.runtime`). */
export interface RuntimeState {
  readonly running: boolean;
  readonly deviceSet: string;
  readonly pid?: number;
  readonly uptimeSeconds?: number;
  readonly jaxlib?: string;
  readonly driver?: string;
  readonly log?: string;
  /** How the last one ended, where none runs. */
  readonly lastExit?: string;
  readonly platform?: string;
  readonly clients: readonly string[];
  readonly devices: readonly RuntimeDevice[];
  readonly holders: readonly Holder[];
  readonly programs: readonly RuntimeProgram[];
}

type Fields = { readonly [name: string]: unknown };

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const list = (value: unknown): Fields[] => (Array.isArray(value) ? value.filter(isFields) : []);
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const some = (value: unknown): string | undefined =>
  typeof value === "string" && value !== "" ? value : undefined;
const number = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isFinite(value) ? value : undefined;

/** Reads the `state` of a message; null where it says nothing. */
export function readRuntimeState(value: JSONObject[string] | undefined): RuntimeState | null {
  if (!isFields(value)) {
    return null;
  }
  const versions = isFields(value.versions) ? value.versions : {};
  const activity = isFields(value.activity) ? value.activity : {};
  const limits = new Map(
    list(isFields(value.memory) ? value.memory.devices : undefined).map(({ id, limit }) => [
      id,
      number(limit),
    ]),
  );
  const under = (entries: unknown, state: "running" | "compiling"): RuntimeProgram[] =>
    list(entries).map(({ program, client, seconds }) => ({
      name: text(program),
      client: text(client),
      state,
      seconds: number(seconds) ?? 0,
    }));
  const compiled = list(value.programs).map(
    ({ name, client, compileSeconds, cached }): RuntimeProgram => ({
      name: text(name),
      client: text(client),
      state: "compiled",
      seconds: number(compileSeconds) ?? 0,
      cached: some(cached),
    }),
  );
  return {
    running: value.running === true,
    deviceSet: text(value.deviceSet),
    pid: number(value.pid),
    uptimeSeconds: number(value.uptimeSeconds),
    jaxlib: some(versions.jaxlib),
    driver: some(versions.driver),
    log: some(value.log),
    lastExit: some(value.lastExit),
    platform: some(value.platform),
    clients: (Array.isArray(value.clients) ? value.clients : []).filter(
      (client): client is string => typeof client === "string",
    ),
    devices: list(value.devices).map(({ id, kind, memoryBytes }) => ({
      id: number(id) ?? 0,
      kind: text(kind),
      limit: number(memoryBytes) ?? limits.get(id),
    })),
    holders: list(value.holders).map(({ kind, name, number: pid, buffers, devices }) => ({
      kind: kind === "workspace" || kind === "process" ? kind : "client",
      name: text(name),
      number: number(pid),
      buffers: number(buffers) ?? 0,
      devices: list(devices).map(({ id, bytes }) => ({ id: number(id) ?? 0, bytes: number(bytes) ?? 0 })),
    })),
    // What runs and what is compiled now first, then those that took longest.
    programs: [
      ...under(activity.running, "running"),
      ...under(activity.compiling, "compiling"),
      ...compiled.sort((a, b) => b.seconds - a.seconds),
    ],
  };
}

/** Who holds memory of one device, most first. */
export function holdersOf({ holders }: RuntimeState, device: number): { holder: Holder; bytes: number }[] {
  return holders
    .map((holder) => ({
      holder,
      bytes: holder.devices.reduce((sum, { id, bytes }) => sum + (id === device ? bytes : 0), 0),
    }))
    .filter(({ bytes }) => bytes > 0)
    .sort((a, b) => b.bytes - a.bytes);
}
