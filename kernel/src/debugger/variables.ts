import type { Debugger, Runtime } from "node:inspector";
import type { Json } from "../protocol/wire.js";
import { PART_OF, TEXTS_OF } from "./in-debuggee.js";
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

/** What a number stands for: an object, or scopes one in the other. */
type Held = { value: string } | { scopes: string[] };

/**
 * Hands out the numbers by which a debug client asks for what is inside a value; they hold until the code goes on. V8 lists all
 * that an object has, and takes half a minute for a million elements, in which nothing else runs: large ones are cut down first.
 */
export class Variables {
  readonly #held = new Map<number, Held>();
  #next = 1;

  constructor(private readonly inspector: InspectorClient) {}

  clear(): void {
    this.#held.clear();
  }

  /** The frame's own variables as one scope, which front ends open first, then those around it. */
  scopes({ scopeChain }: Debugger.CallFrame): Json[] {
    const inner = scopeChain.findIndex(({ type }) => !OWN.has(type));
    const own = scopeChain.slice(0, inner < 0 ? undefined : inner);
    const outer = scopeChain.filter(({ type }) => type in OUTER);
    const scopes = outer.map((one) => this.#scope(OUTER[one.type]!, [one]));
    if (own.length > 0) scopes.unshift(this.#scope("Locals", own));
    return scopes;
  }

  #scope(name: string, scopes: Debugger.Scope[]): Json {
    const held = { scopes: scopes.flatMap(({ object }) => object.objectId ?? []) };
    return { name, variablesReference: this.#reference(held), expensive: false };
  }

  /** An empty list where the code has gone on meanwhile, and the value with it: JupyterLab takes nothing but a list. */
  async children(reference: number): Promise<Json[]> {
    const held = this.#held.get(reference);
    if (!held) return [];
    try {
      const children = new Map<string, RemoteObject>();
      const objects = "scopes" in held ? held.scopes : [await this.#part(held.value)];
      // What stands in an inner scope hides the same name in an outer one.
      for (const objectId of objects) {
        for (const { name, value } of await this.#properties(objectId)) {
          if (!value || name === "__proto__" || name.endsWith("__hoisted") || children.has(name)) continue;
          if (children.size < MOST) children.set(name, value);
        }
      }
      return await this.describe([...children].map(([name, value]) => ({ name, value })));
    } catch {
      return [];
    }
  }

  async #properties(objectId: string): Promise<{ name: string; value?: RemoteObject }[]> {
    const { result, privateProperties = [] } = await this.inspector.ask<{
      result: Runtime.PropertyDescriptor[];
      privateProperties?: { name: string; value?: RemoteObject }[];
    }>("Runtime.getProperties", { objectId, ownProperties: true });
    return [...result, ...privateProperties];
  }

  /** The object itself, or one with the first of what it has. */
  async #part(objectId: string): Promise<string> {
    const { result } = await this.#call(PART_OF, [{ objectId }, { value: MOST - 1 }]);
    return result.objectId ?? objectId;
  }

  /** Without a `type`: of one that is not Python's, JupyterLab shows the type in the place of the value. */
  async describe(variables: { name: string; value: RemoteObject }[]): Promise<Json[]> {
    const objects = variables.flatMap(({ value: { objectId } }) => (objectId ? [{ objectId }] : []));
    const texts = objects.length > 0 ? await this.#texts(objects) : [];
    return variables.map(({ name, value }) => ({
      name,
      value: value.objectId ? (texts.shift() ?? String(value.description)) : shownPrimitive(value),
      evaluateName: name,
      variablesReference:
        value.objectId && value.type === "object" ? this.#reference({ value: value.objectId }) : 0,
    }));
  }

  /** None where the thread that has them does not answer. */
  async #texts(objects: { objectId: string }[]): Promise<(string | null)[]> {
    try {
      return (await this.#call(TEXTS_OF, objects, true)).result.value as (string | null)[];
    } catch {
      return [];
    }
  }

  #call(
    functionDeclaration: string,
    values: Runtime.CallArgument[],
    returnByValue = false,
  ): Promise<Runtime.CallFunctionOnReturnType> {
    const objectId = values[0]!.objectId;
    const call = { functionDeclaration, objectId, arguments: values, returnByValue, silent: true };
    return this.inspector.ask("Runtime.callFunctionOn", call);
  }

  #reference(held: Held): number {
    const reference = this.#next++;
    this.#held.set(reference, held);
    return reference;
  }
}

function shownPrimitive(value: RemoteObject): string {
  if (value.type === "string") return JSON.stringify(value.value);
  return value.unserializableValue ?? value.description ?? String(value.value);
}
