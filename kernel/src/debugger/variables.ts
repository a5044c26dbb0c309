import type { Debugger, Runtime } from "node:inspector";
import type { Json } from "../protocol/wire.js";
import type { InspectorClient } from "./inspector-client.js";

type RemoteObject = Runtime.RemoteObject;

/** V8's scopes beyond those of the function itself that a user of a notebook wants to see, as a front end shows them. */
const OUTER: Record<string, string> = {
  closure: "Closure",
  module: "Module",
  script: "Notebook",
};
/** What a function's own variables lie in: V8 has a scope for each block, and one for parameters that are taken apart. */
const OWN = new Set(["local", "block", "catch"]);
/** Children shown of one value. */
const MOST = 500;

/** Hands out the numbers by which a debug client asks for what is inside a value; they hold until the code goes on. */
export class Variables {
  /** The objects behind a number; what stands in an earlier one hides the same name in a later one. */
  readonly #objects = new Map<number, string[]>();
  #next = 1;

  constructor(private readonly inspector: InspectorClient) {}

  clear(): void {
    this.#objects.clear();
  }

  /** The frame's own variables as one scope, which front ends open first, then those around it. */
  scopes({ scopeChain }: Debugger.CallFrame): Json[] {
    const inner = scopeChain.findIndex(({ type }) => !OWN.has(type));
    const own = scopeChain.slice(0, inner < 0 ? undefined : inner).map(({ object }) => object);
    const outer = scopeChain.filter(({ type }) => type in OUTER);
    const scopes = outer.map(({ type, object }) => scope(OUTER[type]!, this.#reference([object])));
    if (own.length > 0) scopes.unshift(scope("Locals", this.#reference(own)));
    return scopes;
  }

  async children(reference: number): Promise<Json[]> {
    const children = new Map<string, RemoteObject>();
    for (const objectId of this.#objects.get(reference) ?? []) {
      const { result } = await this.inspector
        .ask<Runtime.GetPropertiesReturnType>("Runtime.getProperties", {
          objectId,
          ownProperties: true,
          generatePreview: true,
        })
        // The code has gone on meanwhile, and the value with it: JupyterLab takes nothing but a list.
        .catch(() => ({ result: [] }));
      for (const { name, value } of result) {
        if (!value || name === "__proto__" || name.endsWith("__hoisted") || children.has(name)) continue;
        children.set(name, value);
        if (children.size >= MOST) return this.#describeAll(children);
      }
    }
    return this.#describeAll(children);
  }

  #describeAll(children: Map<string, RemoteObject>): Json[] {
    return [...children].map(([name, value]) => this.describe(name, value));
  }

  /** Without a `type`: of one that is not Python's, JupyterLab shows the type in the place of the value. */
  describe(name: string, value: RemoteObject): Json {
    return {
      name,
      value: shown(value),
      evaluateName: name,
      variablesReference: value.objectId && value.type !== "function" ? this.#reference([value]) : 0,
    };
  }

  #reference(objects: RemoteObject[]): number {
    const reference = this.#next++;
    this.#objects.set(
      reference,
      objects.flatMap(({ objectId }) => objectId ?? []),
    );
    return reference;
  }
}

function scope(name: string, variablesReference: number): Json {
  return { name, variablesReference, expensive: false };
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
