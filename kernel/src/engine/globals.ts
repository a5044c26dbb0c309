import { IMPORT_HELPER, META_HELPER, USING_HELPER } from "../language/compile.js";
import type { ToMessaging } from "../link.js";
import type { Json } from "../protocol/wire.js";
import { asBytes, type CommOptions, type Comms } from "./comms.js";
import type { Displays } from "./displays.js";
import type { Input } from "./input.js";
import type { Inputs } from "./inputs.js";
import type { InterruptSource } from "./interrupt-source.js";
import { asJsonObject } from "./json.js";
import type { CellModules } from "./modules.js";
import type { CellResources } from "./resources.js";
import { Progress, rich, withProgress } from "./rich.js";
import type { OutputStreams } from "./streams.js";

export interface GlobalParts {
  comms: Comms;
  displays: Displays;
  input: Input;
  inputs: Inputs;
  interrupts: InterruptSource;
  modules: CellModules;
  resources: CellResources;
  streams: OutputStreams;
  tell(message: ToMessaging): void;
}

/** Puts what cells may use onto `globalThis`; `checker/prelude.ts` holds the types. */
export function installGlobals({
  comms,
  displays,
  input,
  inputs,
  interrupts,
  modules,
  resources,
  streams,
  tell,
}: GlobalParts): void {
  const ask = (message: string, password = false): string => {
    streams.flush();
    return input.ask(message, password);
  };
  const jupyter = {
    ...rich,
    progress: (work: number | Iterable<unknown>, label = "") =>
      typeof work === "number" ? new Progress(displays, work, label) : withProgress(displays, work, label),
    display: displays.display,
    input: inputs,
    clearOutput: displays.clear,
    get signal() {
      return interrupts.signal;
    },
    comms: { register: comms.register, open: comms.open },
    broadcast(type: string, content: Json, { metadata = {}, buffers = [] }: CommOptions = {}): void {
      streams.flush();
      tell({
        type: "broadcast",
        messageType: type,
        content: asJsonObject(content),
        metadata: asJsonObject(metadata),
        buffers: buffers.map(asBytes),
      });
    },
    password: (message = "Password:"): string => ask(message, true),
  };
  const define = (name: string | symbol, descriptor: PropertyDescriptor) =>
    Object.defineProperty(globalThis, name, { configurable: true, enumerable: false, ...descriptor });
  define("jupyter", { value: jupyter, writable: true });
  define("display", { value: displays.display, writable: true });
  define("prompt", {
    value: (message = "", fallback?: string) => ask(String(message)) || (fallback ?? ""),
    writable: true,
  });
  define("require", { get: () => modules.require });
  define(IMPORT_HELPER, { value: modules.import });
  define(USING_HELPER, { value: resources.use });
  define(META_HELPER, { get: () => modules.meta });
  define(Symbol.for("aronnax.interrupt"), { value: interrupts });
}
