/** What crosses the border between the array layer and the runtime client (docs/contracts.md, section 1). */
import type { DType } from "../graph/dtype.js";

/** How an array lies over a mesh of devices. */
export interface Sharding {
  /** Mesh axes with their sizes, outermost first. */
  mesh: [axis: string, size: number][];
  /** For each dimension the mesh axes that split it, or null; missing trailing dimensions are not split. */
  spec: (string[] | null)[];
  /** Device ids in row-major mesh order; default `0 .. n-1`. */
  devices?: number[];
}

/** What a buffer is for: memory reports add up by tag. */
export type BufferTag = "parameter" | "optimizer" | "gradient" | "cache" | "data" | "other";

export interface BufferOptions {
  shape: readonly number[];
  dtype: DType;
  /** Default: whole on the first device of the set (or, for a program's output, of the program's devices). */
  sharding?: Sharding;
  tag?: BufferTag;
  /** Shown in memory reports and errors, e.g. the parameter's path. */
  name?: string;
}

export interface PutOptions extends BufferOptions {
  /** Give the bytes up to the client, which then does not copy them: they must not change any more. */
  transfer?: boolean;
}

export interface CompileOptions {
  /**
   * XLA's effort, 0 to 3; 1 turns the latency-hiding scheduler on, and compiles for longer. Default 1 on several devices, else XLA's own.
   */
  optimizationLevel?: 0 | 1 | 2 | 3;
  /** XLA flags for this program only, without the leading dashes, e.g. `{ xla_gpu_autotune_level: "0" }`. */
  flags?: Record<string, string | number | boolean>;
  /** Keep the program out of the cache on disk. */
  noCache?: boolean;
}

export interface CompileRequest {
  /** StableHLO (with Shardy and CHLO) as MLIR text; its entry function is `@main`. */
  text: string;
  /** The results of `@main`, in order. */
  outputs: BufferOptions[];
  /** Device ids, default `[0]`. More than one makes an SPMD program over them. */
  devices?: number[];
  options?: CompileOptions;
  /** Shown in errors and profiles. */
  name?: string;
}

/** What the compiler found out about a program. Bytes are those on one device. */
export interface ProgramInfo {
  name: string;
  /** Where the executable came from. */
  cached: "memory" | "disk" | false;
  compileSeconds: number;
  /** Positions of the arguments that are donated. */
  donated: number[];
  inputs: { shape: number[]; dtype: DType; sharding: string }[];
  outputs: { shape: number[]; dtype: DType; sharding: string }[];
  memory: { arguments: number; outputs: number; aliased: number; temporaries: number; code: number };
  /** Absent where the compiler gives none. */
  cost: { flops?: number; bytesAccessed?: number; transcendentals?: number };
}

export interface DeviceInfo {
  id: number;
  platform: "cpu" | "cuda";
  /** e.g. `NVIDIA H200` or `cpu`. */
  kind: string;
  /** Node of a multi-host set that the device belongs to. */
  process: number;
  /** Bytes the runtime may use on it, where known. */
  memoryBytes?: number;
  /** e.g. `9.0`. */
  computeCapability?: string;
  /** Other devices of the set with a direct NVLink, and the number of links. */
  links?: { device: number; count: number }[];
}

export interface RuntimeInfo {
  platform: "cpu" | "cuda";
  devices: DeviceInfo[];
  versions: {
    runtime: string;
    protocol: number;
    jax: string;
    jaxlib: string;
    python: string;
    driver?: string;
  };
  pid: number;
  /** Path of the Unix socket. */
  socket: string;
  /** Path of the log file. */
  log: string;
  /** Milliseconds since the epoch. */
  startedAt: number;
  /** This client's number in the runtime. */
  client: number;
  /** What a later process knows this client by (`Runtime.recover`). */
  session: string;
  /** What of this client's was lost in a restart that kept the rest. */
  lost?: LostBuffer[];
}

/** A program that runs on its client's thread, and holds up what is queued behind it. */
export interface RunningProgram {
  program: string;
  /** The client, in words, and its number. */
  client: string;
  number: number;
  /** Whether it is this client's. */
  own: boolean;
  /** Whether its client has gone. */
  gone: boolean;
  devices: number[];
  /** Milliseconds since the epoch. */
  since: number;
  seconds: number;
}

/** A program that is compiled, or waits for that. */
export interface CompilingProgram {
  program: string;
  client: string;
  number: number;
  own: boolean;
  gone: boolean;
  seconds: number;
  begun: boolean;
}

/** What holds clients up, the oldest first. */
export interface RuntimeActivity {
  running: RunningProgram[];
  compiling: CompilingProgram[];
}

export interface LostBuffer {
  buffer: number | string;
  name: string;
  /** Why it could not be kept. */
  reason: string;
  /** The workspace or the client that had it. */
  workspace?: string;
  client?: string;
}

/** What a restart that ends a program has kept, ended and lost. */
export interface Recovery {
  /** Buffers that are there again, and their bytes. */
  buffers: number;
  bytes: number;
  ended: { client: string; program: string }[];
  lost: LostBuffer[];
}

export interface MemoryReport {
  devices: {
    id: number;
    /** Bytes in live buffers, by tag. */
    byTag: Partial<Record<BufferTag, number>>;
    /** Bytes in live buffers. */
    buffers: number;
    /** What the device's allocator says, where it has one: in use, the peak, the limit. */
    inUse?: number;
    peak?: number;
    limit?: number;
  }[];
  /** What holds memory, by tag and name over all devices, largest first. */
  table: { tag: BufferTag; name: string; buffers: number; bytes: number }[];
  host: { processBytes: number; availableBytes: number; totalBytes: number };
}

/** What `aronnax runtime status --json` prints, beside `running`. */
export interface RuntimeStatus extends RuntimeInfo {
  deviceSet: string;
  uptimeSeconds: number;
  /** Each attached client, in words. */
  clients: string[];
  workspaces: { name: string; buffers: number; bytes: number }[];
  /** Who holds how much of which device: what a workspace has is not counted again for the client that made it. */
  holders: {
    kind: "workspace" | "client" | "process";
    /** The workspace, the client in words, or the command of another process that has memory on a GPU. */
    name: string;
    /** Of the client in the runtime, or the process id. */
    number?: number;
    buffers: number;
    devices: { id: number; bytes: number }[];
  }[];
  /** The clients' programs that are compiled, at most 200 of each; `temporaries` and `code` are bytes on one device. */
  programs: {
    name: string;
    client: string;
    number: number;
    cached: "memory" | "disk" | false;
    compileSeconds: number;
    devices: number[];
    temporaries: number;
    code: number;
  }[];
  activity: { running: Omit<RunningProgram, "own">[]; compiling: Omit<CompilingProgram, "own">[] };
  memory: MemoryReport;
}

/** One sample of a telemetry subscription. Figures that the machine does not give are absent. */
export interface TelemetrySample {
  /** Milliseconds since the epoch. */
  time: number;
  host: {
    /** 0 to 1, over all processors. */
    cpuUtilization: number;
    cpuCount: number;
    /** Bytes of the runtime process, and those available and in all. */
    processBytes: number;
    availableBytes: number;
    totalBytes: number;
    diskReadBytesPerSecond?: number;
    diskWriteBytesPerSecond?: number;
  };
  devices: {
    id: number;
    /** Bytes that the runtime's allocator has given out. */
    memoryInUse?: number;
    /** Bytes used by everybody, and those the device has. */
    memoryUsed?: number;
    memoryTotal?: number;
    /** 0 to 1. */
    utilization?: number;
    memoryUtilization?: number;
    powerWatts?: number;
    powerLimitWatts?: number;
    temperatureCelsius?: number;
    smClockMegahertz?: number;
    memoryClockMegahertz?: number;
    pcieTxBytesPerSecond?: number;
    pcieRxBytesPerSecond?: number;
    nvlinkTxBytesPerSecond?: number;
    nvlinkRxBytesPerSecond?: number;
    /** 1 where the driver has lost the GPU; then there are no other figures. */
    lost?: number;
  }[];
}
