import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { MessageChannel, Worker } from "node:worker_threads";
import { CellSources } from "./engine/cells.js";
import { ChildOutput } from "./engine/child-output.js";
import { Comms } from "./engine/comms.js";
import { captureDescriptors } from "./engine/descriptors.js";
import { DevicesWatch } from "./engine/devices-hub.js";
import { Displays } from "./engine/displays.js";
import { formatError, translateStacks } from "./engine/errors.js";
import { installGlobals } from "./engine/globals.js";
import { heapLimit, installHeapLook } from "./engine/heap.js";
import { Input } from "./engine/input.js";
import { makeInputs } from "./engine/inputs.js";
import { InterruptSource } from "./engine/interrupt-source.js";
import { metricsHub } from "./engine/metrics-hub.js";
import { CellModules } from "./engine/modules.js";
import { Outbox } from "./engine/outbox.js";
import { asRun, ownRun } from "./engine/owner.js";
import { CellResources } from "./engine/resources.js";
import { Runner } from "./engine/runner.js";
import { OutputStreams } from "./engine/streams.js";
import { makeTimersInterruptible } from "./engine/timers.js";
import { tslabModule } from "./engine/tslab.js";
import { Shared, type ToMain, type WorkerSetup } from "./link.js";
import { readSettings } from "./notebook-settings.js";
import { filterWarnings } from "./warnings.js";

/**
 * The main thread of the kernel: it starts the messaging thread and runs the cells that this hands over.
 *
 *     node <flags> kernel/dist/main.js <connection file>
 */
const connectionFile = process.argv[2];
if (!connectionFile) {
  process.stderr.write(
    "usage: node kernel/dist/main.js <connection file>; Jupyter starts it, see kernel/README.md\n",
  );
  process.exit(2);
}

// The kernelspec's, for large arrays, and in force since the process began. What a cell starts decides for itself.
if (process.env.GLIBC_TUNABLES === "glibc.malloc.hugetlb=1") delete process.env.GLIBC_TUNABLES;

const exitProcess = process.exit.bind(process);
const shared = new Int32Array(new SharedArrayBuffer(4 * Shared.length));
const inputChannel = new MessageChannel();
const setup: WorkerSetup = {
  connectionFile: resolve(connectionFile),
  shared: shared.buffer as SharedArrayBuffer,
  input: inputChannel.port2,
  heapLimit: heapLimit(),
};
const messaging = new Worker(new URL("./messaging/worker.js", import.meta.url), {
  workerData: setup,
  transferList: [inputChannel.port2],
});
messaging.on("error", (error) => {
  rawStderr(`aronnax kernel: the messaging thread failed: ${error.stack ?? error}\n`);
  exitProcess(1);
});

/** The runs of the cells that opened comms: what a front end sends there is theirs. */
const commRuns = new Map<string, number>();
const { tell } = new Outbox(shared, (message) => {
  const run = ownRun();
  if (message.type === "comm" && message.kind === "open" && run !== undefined)
    commRuns.set(String(message.content.comm_id), run);
  if (message.type === "comm" && message.kind === "close") commRuns.delete(String(message.content.comm_id));
  messaging.postMessage(message);
});
const rawStderr = process.stderr.write.bind(process.stderr);
const streams = new OutputStreams(tell);
const children = new ChildOutput(streams, tell);
const cells = new CellSources();
const report = (error: unknown) => {
  try {
    streams.write("stderr", `${formatError(error, cells).traceback.join("\n")}\n`);
  } catch (failure) {
    // A cell has replaced what printing needs; a throw from here would end the process.
    rawStderr(`aronnax kernel: an error of a cell could not be shown: ${failure}\n`);
  }
};
const displays = new Displays(streams, tell, report);
const interrupts = new InterruptSource(shared);
const comms = new Comms(tell);
const inputs = makeInputs(comms, displays);
const modules = new CellModules(
  fileURLToPath(new URL("../..", import.meta.url)),
  { tslab: tslabModule(displays), "@aronnax/kernel": { input: inputs, display: displays.display } },
  (url, map) => cells.addMap(url, map),
  readSettings(process.cwd()),
);
const resources = new CellResources();
const runner = new Runner({ cells, children, streams, displays, interrupts, resources, tell });

// A cell's frames must not be cut off by a deep framework call.
Error.stackTraceLimit = 30;
translateStacks(cells);
streams.install();
captureDescriptors(streams);
children.install();
filterWarnings((text) => streams.write("stderr", text));
modules.install();
makeTimersInterruptible();
installHeapLook(shared);
installGlobals({
  comms,
  displays,
  input: new Input(shared, inputChannel.port1, tell),
  inputs,
  interrupts,
  modules,
  resources,
  streams,
  tell,
});
metricsHub().subscribe((event) => {
  tell({ type: "metrics", event });
  // What a notebook keeps of a run is its end, however it came (docs/contracts.md §4).
  if (event.type === "status" && event.status !== "running") displays.refresh(`aronnax-run-${event.id}`);
});
const telemetry = new DevicesWatch((event) => tell({ type: "telemetry", event }));

// What goes wrong behind a cell's back is shown, and never ends the kernel.
process.on("unhandledRejection", report);
process.on("uncaughtException", report);
// Jupyter interrupts with a message; a signal reaches the kernel only with the whole process group.
process.on("SIGINT", () => {});

process.exit = ((code?: number | string | null) => {
  streams.flush();
  Atomics.store(shared, Shared.wake, 0);
  tell({ type: "exit", code: Number(code ?? process.exitCode ?? 0) });
  const deadline = performance.now() + 2_000;
  while (Atomics.load(shared, Shared.wake) !== 2 && performance.now() < deadline) {
    Atomics.wait(shared, Shared.wake, Atomics.load(shared, Shared.wake), 50);
  }
  exitProcess(code);
}) as typeof process.exit;

messaging.on("message", (message: ToMain) => {
  switch (message.type) {
    case "execute":
      void runner.run(message.run);
      return;
    case "interrupt":
      interrupts.interrupt(message.second);
      return;
    case "comm":
      try {
        asRun(commRuns.get(String(message.content.comm_id)), () => comms.receive(message));
      } catch (error) {
        report(error);
      }
      return;
    case "piped":
      children.opened(message.run);
      return;
    case "telemetry":
      telemetry.wanted = message.wanted;
      return;
    case "exit":
      exitProcess(message.code);
  }
});
tell({ type: "ready" });
