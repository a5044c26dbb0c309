import type { Debugger, Runtime } from "node:inspector";
import type { Json } from "../protocol/wire.js";
import type { InspectorClient } from "./inspector-client.js";

type RemoteObject = Runtime.RemoteObject;

/** Scopes of V8 that a user of a notebook wants to see, in the words that JupyterLab shows. */
const SCOPES: Record<string, string> = {
  local: "Locals",
  block: "Block",
  catch: "Catch",
  closure: "Closure",
  module: "Module",
  script: "Notebook",
};

/** Hands out the numbers by which a debug client asks for what is inside a value; they hold until the code goes on. */
export class Variables {
  readonly #objects = new Map<number, string>();
  #next = 1;

  constructor(private readonly inspector: InspectorClient) {}

  clear(): void {
    this.#objects.clear();
  }

  scopes(frame: Debugger.CallFrame): Json[] {
    return frame.scopeChain
      .filter(({ type }) => type in SCOPES)
      .map(({ type, object }) => ({
        name: SCOPES[type],
        variablesReference: this.#reference(object),
        expensive: false,
      }));
  }

  async children(reference: number): Promise<Json[]> {
    const objectId = this.#objects.get(reference);
    if (!objectId) return [];
    const { result } = await this.inspector.post<Runtime.GetPropertiesReturnType>("Runtime.getProperties", {
      objectId,
      ownProperties: true,
      generatePreview: true,
    });
    return result
      .filter(({ value, name }) => value && name !== "__proto__" && !name.endsWith("__hoisted"))
      .slice(0, 500)
      .map(({ name, value }) => this.describe(name, value!));
  }

  describe(name: string, value: RemoteObject): Json {
    return {
      name,
      value: shown(value),
      type: value.className ?? value.subtype ?? value.type,
      evaluateName: name,
      variablesReference: value.objectId && value.type !== "function" ? this.#reference(value) : 0,
    };
  }

  #reference(object: RemoteObject): number {
    const reference = this.#next++;
    if (object.objectId) this.#objects.set(reference, object.objectId);
    return reference;
  }
}

/** A value in one line. */
export function shown(value: RemoteObject): string {
  if (value.type === "string") return JSON.stringify(value.value);
  if (value.unserializableValue) return value.unserializableValue;
  const { preview } = value;
  if (preview && value.subtype !== "error") {
    const list = value.subtype === "array" || value.subtype === "typedarray";
    const parts = preview.properties.map((part) =>
      list ? (part.value ?? "") : `${part.name}: ${part.value ?? ""}`,
    );
    if (preview.overflow) parts.push("…");
    const body = parts.join(", ");
    return list ? `${value.description} [${body}]` : `${value.className ?? "Object"} {${body}}`;
  }
  return value.description ?? String(value.value);
}
