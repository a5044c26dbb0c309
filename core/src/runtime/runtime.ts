/**
 * The client of the runtime process: buffers, programs, and the queue between them (docs/contracts.md, section 1).
 *
 * Nothing here waits. Handles are numbers that this side allocates, frames are queued and carried out in order; a failure poisons
 * the outputs of the operation that failed and rejects the next `await` on one of them.
 */
import { type DType, itemSize } from "../graph/dtype.js";
import { offerActivity } from "./activity-hub.js";
import type { Link, Reply } from "./connection.js";
import { BufferDeleted, InvalidArgument, RuntimeLost } from "./errors.js";
import { attach, type LaunchOptions, restarted } from "./launch.js";
import { joinParts } from "./nodes.js";
import { Outstanding } from "./outstanding.js";
import { donatedArguments } from "./signature.js";
import { offerTelemetry } from "./telemetry.js";
import type {
  BufferOptions,
  BufferTag,
  CompileRequest,
  MemoryReport,
  ProgramInfo,
  PutOptions,
  Recovery,
  RuntimeActivity,
  RuntimeInfo,
  Sharding,
} from "./types.js";
import { type WaitListener, WaitWatch } from "./waiting.js";
import { Workspace } from "./workspace.js";

export type {
  BufferOptions,
  BufferTag,
  CompileRequest,
  MemoryReport,
  ProgramInfo,
  RuntimeInfo,
  Sharding,
} from "./types.js";

let shared: Runtime | undefined;

/** How a process ended that was asked to: the supervisor's words. */
const stopped = "stopped on request";
/** Handles that one request names at most. */
const mostHandles = 65_536;

export class Runtime {
  /** Known at once, from the device set that was asked for. */
  readonly platform: "cpu" | "cuda";
  readonly #options: LaunchOptions;
  #connection!: Link;
  #ready!: Promise<RuntimeInfo>;
  readonly #waits = new WaitWatch(
    () => this.#connection.waitingSince(),
    () => this.activity(),
  );
  /** Told when this client is back after a restart, or is not coming back. */
  #returning: { back: (info: RuntimeInfo) => void; failed: (error: Error) => void }[] = [];
  #info: RuntimeInfo | undefined;
  #waiting: { job: (info: RuntimeInfo) => void; failed?: (error: Error) => void }[] = [];
  #failure: Error | undefined;
  #nextHandle = 1;
  readonly #released: { op: "free" | "delete"; handles: number[] }[] = [];
  readonly #outstanding = new Outstanding();
  readonly #collected: FinalizationRegistry<{ op: "free" | "delete"; handle: number }>;

  /** The runtime of this process: attached to, or started, on first use. After it is lost the next call starts another. */
  static default(): Runtime {
    if (shared === undefined || shared.lost !== undefined) {
      shared = new Runtime();
      offerTelemetry(shared);
      offerActivity(shared);
    }
    return shared;
  }

  constructor(options: LaunchOptions = {}) {
    this.#collected = new FinalizationRegistry(({ op, handle }) => {
      if (op === "delete" || this.#outstanding.finalized(handle)) this.#release(op, handle);
    });
    this.#options = options;
    this.platform = this.#join().startsWith("cpu") ? "cpu" : "cuda";
  }

  /** Attaches, as the session of the process before where one is named. @returns the device set */
  #join(resume?: string): string {
    const attachment = attach(this.#options, {
      resume,
      ended: (error) => this.#ended(error),
      reclaim: () => this.#reclaim(),
    });
    this.#connection = attachment.link;
    this.#ready = attachment.info.then(
      (info) => {
        this.#info = info;
        if (info.platform === "cuda") this.#outstanding.memory = info.devices[0]?.memoryBytes;
        for (const { job } of this.#waiting.splice(0)) job(info);
        return info;
      },
      (error: Error) => {
        this.#failure = error;
        for (const { failed } of this.#waiting.splice(0)) failed?.(error);
        throw error;
      },
    );
    this.#ready.catch(() => {});
    return attachment.devices;
  }

  /** A process that was restarted to end a program has this client's buffers and programs under the same handles again. */
  #ended(error: RuntimeLost): void {
    const session = this.#info?.session;
    if (error.exit !== restarted || session === undefined) {
      for (const { failed } of this.#returning.splice(0)) failed(error);
      return;
    }
    this.#info = undefined;
    this.#join(session);
    if (shared === this) offerTelemetry(this);
    const link = this.#connection;
    this.#ready.then(
      (info) => {
        if (info.lost === undefined) {
          link.fail(
            new RuntimeLost("the runtime was restarted, and nothing of this client was kept", {
              exit: "restarted",
            }),
          );
        } else for (const { back } of this.#returning.splice(0)) back(info);
      },
      () => {},
    );
  }

  /** Resolves once attached; rejects with RuntimeLost if no process can be started. */
  get ready(): Promise<RuntimeInfo> {
    return this.#ready;
  }

  /** Why the connection ended, once it has. Every operation of this object then fails with it. */
  get lost(): RuntimeLost | undefined {
    return this.#connection.lost;
  }

  /** Runs `job` once attached, at once if that is already so; jobs run in order. `failed` is called if attaching fails. */
  whenReady(job: (info: RuntimeInfo) => void, failed?: (error: Error) => void): void {
    if (this.#info !== undefined) job(this.#info);
    else if (this.#failure !== undefined) failed?.(this.#failure);
    else this.#waiting.push({ job, failed });
  }

  /**
   * Sends an array, dense and row-major, to the devices. The bytes are copied before this returns, unless `transfer` is set.
   * @throws InvalidArgument if the number of bytes is not that of the shape and dtype.
   */
  put(data: ArrayBufferView, options: PutOptions): DeviceBuffer {
    this.#alive();
    const { transfer, ...described } = options;
    const expected = byteLength(options.shape, options.dtype);
    if (data.byteLength !== expected) {
      throw new InvalidArgument(
        `put: ${data.byteLength} bytes were given for a ${options.dtype}[${options.shape.join(", ")}] of ${expected} bytes`,
        { fix: "Pass a typed array whose element type and length match the shape and dtype." },
      );
    }
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const [buffer] = this.#allocate([described]);
    this.#send({ op: "put", buffer: buffer!.id, ...described }, transfer === true ? bytes : bytes.slice());
    return buffer!;
  }

  /** The same array laid over other devices. Errors surface at the next await of the result. */
  copy(buffer: DeviceBuffer, sharding: Sharding): DeviceBuffer {
    this.#alive();
    const { shape, dtype, tag, name } = buffer;
    const described = { shape, dtype, tag, name, sharding };
    const source = this.handle(buffer);
    const [made] = this.#allocate([described]);
    this.#send({ op: "copy", source, buffer: made!.id, ...described });
    return made!;
  }

  /** The bytes of a buffer: dense, row-major, little-endian. Rejects with the error of whatever should have produced it. */
  async get(buffer: DeviceBuffer): Promise<Uint8Array<ArrayBuffer>> {
    const header = { op: "get", buffer: this.handle(buffer) };
    this.#sendReleased();
    this.#waits.begin();
    const replies = await this.#connection.requestAll(header);
    return (
      joinParts(buffer.shape, itemSize(buffer.dtype), replies) ?? replies[0]!.payload ?? new Uint8Array(0)
    );
  }

  /** Compiles in the background; the program may be executed at once. Its `info` rejects with CompileError. */
  compile(request: CompileRequest): Program {
    this.#alive();
    const { text, ...header } = request;
    const id = this.#handles(1);
    const payload = new TextEncoder().encode(text);
    const info = this.request({ op: "compile", program: id, ...header }, payload).then(
      ({ result }) => result as ProgramInfo,
    );
    info.catch(() => {});
    const program = new Program(this, id, request, donatedArguments(text), info);
    this.#collected.register(program, { op: "delete", handle: id });
    return program;
  }

  /**
   * Queues one run of a program and returns its outputs at once. Inputs that the program takes by donation are dead afterwards.
   * @throws BufferDeleted if an input is freed or donated already.
   */
  execute(program: Program, inputs: readonly DeviceBuffer[]): DeviceBuffer[] {
    this.#alive();
    if (program.runtime !== this) throw foreign(program);
    const handles = new Array<number>(inputs.length);
    for (let i = 0; i < inputs.length; i++) {
      const input = inputs[i]!;
      if (input.runtime !== this) throw foreign(input);
      if (input.state !== "live") throw deleted(input, `input ${i} of ${program.name}`);
      handles[i] = input.id;
    }
    const outputs = this.#allocate(program.outputs, program.temporaries);
    for (const i of program.donated) {
      const input = inputs[i];
      if (input === undefined) continue;
      input.markDonated(program.name, outputs[0]?.id ?? 0);
      this.#outstanding.remove(input.id);
    }
    this.#send({
      op: "execute",
      program: program.id,
      inputs: handles,
      outputs: outputs[0]?.id ?? 0,
    });
    return outputs;
  }

  /**
   * Resolves when the buffers are computed, or rejects with the error of the first that failed. Without buffers: when everything
   * queued so far has run; rejects with the first failure since the last such call.
   */
  async sync(buffers?: readonly DeviceBuffer[]): Promise<void> {
    await this.request({ op: "sync", buffers: buffers?.map((buffer) => this.handle(buffer)) ?? null });
  }

  /**
   * Back-pressure: resolves when at most so many bytes wait to be sent to the runtime, by default 64 MiB. A loop that sends data awaits it
   * once a step; it holds nothing up while the runtime keeps pace.
   */
  async drain(bytes = 64 * 2 ** 20): Promise<void> {
    this.#sendReleased();
    await this.#connection.drain(bytes);
  }

  /**
   * What holds memory, by device, tag and name.
   *
   * @param options.trim - whether the process first returns to the host what it keeps for the next programs; those take longer then
   */
  async memory(options: { trim?: boolean } = {}): Promise<MemoryReport> {
    const { trim } = options;
    return (await this.request({ op: "memory", ...(trim === true && { trim }) })).result as MemoryReport;
  }

  /**
   * Which programs run now and hold up what is queued behind them, and which are being compiled, for whom. Answered whatever this client
   * waits for.
   */
  async activity(): Promise<RuntimeActivity> {
    const { client } = await this.ready;
    const { running, compiling } = (await this.#aside({ op: "running" })) as RuntimeActivity;
    const own = <T extends { number: number }>(entry: T) => ({ ...entry, own: entry.number === client });
    return { running: running.map(own), compiling: compiling.map(own) };
  }

  /**
   * Ends programs that do not end. XLA cannot stop one, so the process keeps what can be read of workspaces and of all clients' buffers and
   * starts again; buffers and programs are then there as before, but for what is listed as lost.
   *
   * @throws RuntimeError where it cannot be kept: the process goes on as it was
   */
  async recover(): Promise<Recovery> {
    await this.ready;
    const returned = new Promise<RuntimeInfo>((back, failed) => this.#returning.push({ back, failed }));
    returned.catch(() => {});
    const recovery = (await this.#aside({ op: "recover" })) as Recovery;
    await returned;
    return recovery;
  }

  /**
   * Gives up the programs of this client that are not compiled yet: their `info`, and what was to be computed with them, rejects with
   * CompileError. @returns how many they were
   */
  async giveUpCompiling(): Promise<number> {
    return (await this.request({ op: "compile.give_up" })).result as number;
  }

  /** Calls `listener` every few seconds while a request of this client waits for long, with what holds it up. */
  onWait(listener: WaitListener): () => void {
    return this.#waits.listen(listener);
  }

  /** A request by a connection of its own, which waits for nothing that this client has queued. */
  async #aside(header: object): Promise<unknown> {
    const { link, info } = attach({ ...this.#options, start: false });
    try {
      await info;
      return (await link.request(header)).result;
    } finally {
      link.close();
    }
  }

  /** A named set of buffers that outlives this client. */
  workspace(name: string): Workspace {
    return new Workspace(this, name);
  }

  /** Round trip through the runtime's queue. */
  async ping(): Promise<void> {
    await this.request({ op: "ping" });
  }

  /** Ends this client's connection; the runtime frees its unnamed buffers and lives on. */
  close(): void {
    if (shared === this) shared = undefined;
    this.#connection.close();
  }

  /** Asks the process to end; resolves when it has taken the request, or has ended by somebody's. */
  async shutdown(): Promise<void> {
    try {
      await this.request({ op: "shutdown" });
    } catch (error) {
      // Where this client writes in the moment in which the process ends, the socket is closed before the answer is read.
      if (!(error instanceof RuntimeLost && error.exit === stopped)) throw error;
    }
  }

  /** Sends any request of the protocol. Other parts of the client build on it; programs use the methods above. */
  request(header: object, payload?: Uint8Array): Promise<Reply> {
    this.#sendReleased();
    this.#waits.begin();
    return this.#connection.request(header, payload);
  }

  /** Queues a request that has no answer; its failure poisons its outputs. */
  send(header: object, payload?: Uint8Array): void {
    this.#alive();
    this.#send(header, payload);
  }

  /** Handles for buffers that a request just being sent will create. */
  adopt(described: readonly BufferOptions[]): DeviceBuffer[] {
    return this.#allocate(described);
  }

  /** The handle of a live buffer. @throws BufferDeleted */
  handle(buffer: DeviceBuffer): number {
    if (buffer.runtime !== this) throw foreign(buffer);
    if (buffer.state !== "live") throw deleted(buffer, "buffer");
    return buffer.id;
  }

  /** Whether a buffer outlived its donation to a run, which failed; asked once. */
  outlived(buffer: DeviceBuffer, run: number): boolean {
    const { kept } = this.#connection;
    return kept.get(buffer.id) === run && kept.delete(buffer.id);
  }

  /** Calls `listener` with each event of a subscription. */
  listen(subscription: number, listener: (data: unknown) => void): () => void {
    return this.#connection.listen(subscription, listener);
  }

  #alive(): void {
    const error = this.lost ?? this.#failure;
    if (error !== undefined) throw error;
  }

  #handles(count: number): number {
    const first = this.#nextHandle;
    this.#nextHandle += count;
    return first;
  }

  /** Handles for new buffers; frees dead ones first where memory may become short. */
  #allocate(described: readonly BufferOptions[], temporaries = 0): DeviceBuffer[] {
    const bytes = described.map(({ shape, dtype }) => byteLength(shape, dtype));
    const dead = this.#outstanding.before(bytes.reduce((sum, n) => sum + n, temporaries));
    for (const handle of dead) this.#release("free", handle);
    const first = this.#handles(described.length);
    const buffers = new Array<DeviceBuffer>(described.length);
    for (let i = 0; i < described.length; i++) {
      const buffer = new DeviceBuffer(this, first + i, described[i]!, this.#free);
      this.#collected.register(buffer, { op: "free", handle: buffer.id }, buffer);
      this.#outstanding.add(buffer.id, bytes[i]!, buffer);
      buffers[i] = buffer;
    }
    return buffers;
  }

  /** The runtime has no memory for a run: gives up what is garbage here. */
  #reclaim(): void {
    const dead = this.#outstanding.sweep();
    // Before the frees, which stand behind the run that waits.
    this.#connection.send({ op: "reclaimed", handles: dead.slice(0, mostHandles) });
    for (const handle of dead) this.#release("free", handle);
  }

  readonly #free = (buffer: DeviceBuffer): void => {
    this.#collected.unregister(buffer);
    this.#outstanding.remove(buffer.id);
    this.#release("free", buffer.id);
  };

  /** Queues a frame, after the frees that came before it. */
  #send(header: object, payload?: Uint8Array): void {
    this.#sendReleased();
    this.#connection.send(header, payload);
  }

  /** Frees are gathered, and sent together before the next frame, or at the end of the tick. */
  #release(op: "free" | "delete", handle: number): void {
    if (this.lost !== undefined) return;
    const last = this.#released.at(-1);
    if (last !== undefined && last.op === op && last.handles.length < mostHandles) {
      last.handles.push(handle);
      return;
    }
    if (this.#released.length === 0) queueMicrotask(() => this.#sendReleased());
    this.#released.push({ op, handles: [handle] });
  }

  #sendReleased(): void {
    if (this.#released.length === 0) return;
    for (const batch of this.#released.splice(0)) this.#connection.send(batch);
  }
}

/** An array on the devices of the runtime. Freed by `free()`, by `using`, or when it is garbage-collected. */
export class DeviceBuffer {
  /** The process that holds it. */
  readonly runtime: Runtime;
  readonly id: number;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly sharding: Sharding | undefined;
  readonly tag: BufferTag;
  readonly name: string | undefined;
  #state: "live" | "donated" | "freed" = "live";
  #takenBy: string | undefined;
  #takenIn = 0;
  readonly #free: (buffer: DeviceBuffer) => void;

  /** Made by Runtime only. */
  constructor(runtime: Runtime, id: number, options: BufferOptions, free: (buffer: DeviceBuffer) => void) {
    this.runtime = runtime;
    this.id = id;
    this.shape = options.shape;
    this.dtype = options.dtype;
    this.sharding = options.sharding;
    this.tag = options.tag ?? "other";
    this.name = options.name;
    this.#free = free;
  }

  /** A buffer that was donated to a run which failed without taking it is live again once that error has come. */
  get state(): "live" | "donated" | "freed" {
    if (this.#state === "donated" && this.runtime.outlived(this, this.#takenIn)) this.#state = "live";
    return this.#state;
  }

  /** The program that took the buffer by donation. */
  get takenBy(): string | undefined {
    return this.#takenBy;
  }

  /** Bytes of the whole array. */
  get byteLength(): number {
    return byteLength(this.shape, this.dtype);
  }

  /** Releases the device memory once the operations queued before have run. Harmless when already freed or donated. */
  free(): void {
    if (this.#state === "freed") return;
    this.#state = "freed";
    this.#free(this);
  }

  [Symbol.dispose](): void {
    this.free();
  }

  /** Called by Runtime when a program takes the buffer, in the run whose first output has the handle `run`. */
  markDonated(program: string, run: number): void {
    if (this.#state === "live") this.#state = "donated";
    this.#takenBy = program;
    this.#takenIn = run;
  }
}

/** A compiled program, or one that is being compiled. Freed in the runtime when it is garbage-collected. */
export class Program {
  /** The process that holds it. */
  readonly runtime: Runtime;
  readonly id: number;
  readonly name: string;
  readonly outputs: readonly BufferOptions[];
  /** Positions of the arguments that a run takes by donation. */
  readonly donated: readonly number[];
  /** Rejects with CompileError. */
  readonly info: Promise<ProgramInfo>;
  /** Bytes that a run needs beside its arguments and outputs, once they are known. */
  temporaries = 0;

  /** Made by Runtime only. */
  constructor(
    runtime: Runtime,
    id: number,
    request: CompileRequest,
    donated: readonly number[],
    info: Promise<ProgramInfo>,
  ) {
    this.runtime = runtime;
    this.id = id;
    this.name = request.name ?? "program";
    this.outputs = request.outputs;
    this.donated = donated;
    this.info = info;
    info.then(
      ({ memory }) => {
        this.temporaries = memory.temporaries;
      },
      () => {},
    );
  }

  /** What XLA made of the program, as HLO text. */
  async optimizedHlo(): Promise<string> {
    const { payload } = await this.runtime.request({ op: "hlo", program: this.id });
    return new TextDecoder().decode(payload);
  }
}

function byteLength(shape: readonly number[], dtype: DType): number {
  let elements = 1;
  for (const size of shape) elements *= size;
  return elements * itemSize(dtype);
}

/** The error for what another process holds, or held: its handles mean nothing here. */
function foreign(held: DeviceBuffer | Program): Error {
  const what = held instanceof Program ? `program ${held.name}` : `buffer ${held.name ?? held.id}`;
  return (
    held.runtime.lost ??
    new InvalidArgument(`${what} belongs to another runtime`, {
      fix: "Fetch its bytes there with get() and put() them here, or compile the program here too.",
    })
  );
}

function deleted(buffer: DeviceBuffer, role: string): BufferDeleted {
  const what = `${role}, a ${buffer.dtype}[${buffer.shape.join(", ")}]${buffer.name === undefined ? "" : ` named ${buffer.name}`}`;
  return buffer.state === "donated"
    ? new BufferDeleted(`${what}, was donated to ${buffer.takenBy ?? "a program"} and no longer exists`, {
        fix: "Use the program's outputs from now on, or compile it without donating this argument.",
      })
    : new BufferDeleted(`${what}, was freed`, {
        fix: "Keep the buffer until its last use; check scopes and `using` declarations around it.",
      });
}
