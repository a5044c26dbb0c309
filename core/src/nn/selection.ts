/** Choosing parts of a model by name: to keep them as they are, or to put others in their place. */
import { Tensor } from "../array/tensor.js";
import { ArgumentError } from "../graph/errors.js";
import { flatten, treeNode } from "../transform/tree.js";
import { checkpointName, Module, redeclare } from "./module.js";

/**
 * Which parameters: a path in the model with all that is below it (`model.embedTokens`; `*` stands for one name: `model.layers.*.mlp`;
 * names as in the model or as in Hugging Face's checkpoints), a regular expression on the path, or a test.
 */
export type Pattern = string | RegExp | ((path: string, parameter: Tensor) => boolean);

/** Whether a pattern takes the parameter at `path`. */
export function matches(pattern: Pattern, path: string, parameter: Tensor): boolean {
  return typeof pattern === "function" ? pattern(path, parameter) : matchesPath(pattern, path);
}

/** @param whole - whether nothing may come below what the pattern names */
function matchesPath(pattern: string | RegExp, path: string, whole = false): boolean {
  const checkpoint = checkpointName(path);
  if (pattern instanceof RegExp) return pattern.test(path) || pattern.test(checkpoint);
  const wanted = checkpointName(pattern).split(".");
  const names = checkpoint.split(".");
  return (
    (!whole || wanted.length === names.length) && wanted.every((name, i) => name === "*" || name === names[i])
  );
}

/**
 * The model with some of its parameters frozen: a training leaves them as they are, and needs no gradient, optimizer state, copy or checkpoint of
 * them.
 *
 * @param pattern - default all parameters
 * @throws ArgumentError if it matches none
 */
export function freeze<M>(model: M, pattern: Pattern = () => true): M {
  return marked(model, pattern, "freeze", "frozen");
}

/** The model with some of its frozen parameters trained again; default all. */
export function unfreeze<M>(model: M, pattern: Pattern = () => true): M {
  return marked(model, pattern, "unfreeze", "parameter");
}

function marked<M>(model: M, pattern: Pattern, call: string, kind: "frozen" | "parameter"): M {
  const flat = flatten(model);
  const copy = flat.rebuild(flat.leaves) as M;
  let found = 0;
  const visit = (value: unknown, path: string): void => {
    if (typeof value !== "object" || value === null || value instanceof Tensor || ArrayBuffer.isView(value))
      return;
    const below = path === "" ? "" : `${path}.`;
    const fields = Object.entries(value);
    if (value instanceof Module) {
      const chosen = fields.filter(([name, field]) => {
        const own = value.ownParameters[name]?.kind;
        const parameter = own === "parameter" || own === "frozen";
        return parameter && field instanceof Tensor && matches(pattern, below + name, field);
      });
      found += chosen.length;
      if (chosen.length > 0) redeclare(value, Object.fromEntries(chosen.map(([name]) => [name, kind])));
    }
    for (const [name, field] of fields) visit(field, below + name);
  };
  visit(copy, "");
  if (found === 0) throw noMatch(call, pattern, flat.paths);
  return copy;
}

function noMatch(call: string, pattern: unknown, paths: readonly string[]): ArgumentError {
  return new ArgumentError(
    `${call}: ${String(pattern)} matches nothing`,
    paths.length === 0 ? "the model has no parameters" : `paths are like ${paths.slice(0, 3).join(", ")}`,
  );
}

/**
 * The model with other modules in the places of some: `nn.replace(model, "layers.*.attention.qProj", (linear) => new Lora(linear))`.
 *
 * @param pattern - a path (`*` stands for one name) or a regular expression on it, or a test of module and path
 * @param make - the module that takes the place of one at a path; what it keeps of it keeps its values
 * @throws ArgumentError if it matches none
 */
export function replace<M extends Module>(
  model: M,
  pattern: string | RegExp | ((module: Module, path: string) => boolean),
  make: (module: Module, path: string) => Module,
): M {
  const paths: string[] = [];
  let found = 0;
  const visit = (value: unknown, path: string): unknown => {
    if (typeof value !== "object" || value === null || value instanceof Tensor || ArrayBuffer.isView(value))
      return value;
    if (value instanceof Module && path !== "") {
      paths.push(path);
      if (typeof pattern === "function" ? pattern(value, path) : matchesPath(pattern, path, true)) {
        found++;
        const made = make(value, path);
        if (!(made instanceof Module)) {
          throw new ArgumentError(
            `replace: make returned ${String(made)} for "${path}"`,
            "return the Module that takes its place",
          );
        }
        return made;
      }
    }
    const below = path === "" ? "" : `${path}.`;
    if (Array.isArray(value)) return value.map((item, i) => visit(item, `${below}${i}`));
    const prototype: object | null = Object.getPrototypeOf(value);
    if (!(treeNode in value) && prototype !== Object.prototype && prototype !== null) return value;
    const copy = Object.create(prototype) as Record<string | symbol, unknown>;
    for (const [name, field] of Object.entries(value)) copy[name] = visit(field, below + name);
    for (const symbol of Object.getOwnPropertySymbols(value))
      Object.defineProperty(copy, symbol, Object.getOwnPropertyDescriptor(value, symbol)!);
    return copy;
  };
  const replaced = visit(model, "") as M;
  if (found === 0) throw noMatch("replace", pattern, paths);
  return replaced;
}
