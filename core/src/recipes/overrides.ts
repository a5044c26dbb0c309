/** Changing fields of a training's configuration by their paths, as the command line does: `optimizer.learningRate.peak=1e-3`. */
import { ArgumentError } from "../graph/errors.js";
import { refuseUnknown } from "../graph/spelling.js";
import { configFields } from "../train/index.js";

type Fields = Readonly<Record<string, unknown>>;

/** What is made again when one of its options changes: optimizers and schedules. */
interface Configurable {
  readonly options: Fields;
  with(changes: Fields): unknown;
}

/** A path and a value of `path=value`; the value is JSON where it is valid JSON, else a text. */
export function parseAssignment(text: string): { path: string[]; value: unknown } {
  const at = text.indexOf("=");
  if (at < 1)
    throw new ArgumentError(
      `--set ${text} has no value`,
      "write --set path=value, for example --set steps=100",
    );
  const [path, raw] = [text.slice(0, at), text.slice(at + 1)];
  let value: unknown = raw;
  try {
    value = JSON.parse(raw);
  } catch {
    // A text.
  }
  return { path: path.split("."), value };
}

/**
 * The configuration with one field changed; everything around it is made anew and stays as it was.
 *
 * @throws ArgumentError for a field that there is not, with the nearest name
 */
export function withField(config: object, path: readonly string[], value: unknown): object {
  return replaced(config, path, value, "") as object;
}

function replaced(target: unknown, path: readonly string[], value: unknown, above: string): unknown {
  const [name, ...rest] = path as [string, ...string[]];
  const at = above + name;
  if (isConfigurable(target)) {
    const inner = rest.length === 0 ? value : replaced(target.options[name], rest, value, `${at}.`);
    return target.with({ [name]: inner });
  }
  const plain =
    target === undefined ||
    (typeof target === "object" && target !== null && Object.getPrototypeOf(target) === Object.prototype);
  if (!plain) {
    throw new ArgumentError(
      `--set ${at}: ${above.slice(0, -1)} has no fields that can be set`,
      "export a function of options from the recipe, and set them with --set recipe.name=value",
    );
  }
  const fields = (target as Fields | undefined) ?? {};
  const known = configFields.filter(
    (field) => field.startsWith(above) && !field.slice(above.length).includes("."),
  );
  const own = Object.keys(fields).map((each) => above + each);
  refuseUnknown("--set: there is no field", [at], [...new Set([...known, ...own])]);
  return {
    ...fields,
    [name]: rest.length === 0 ? value : replaced(fields[name], rest, value, `${at}.`),
  };
}

function isConfigurable(value: unknown): value is Configurable {
  return (
    ((typeof value === "object" && value !== null) || typeof value === "function") &&
    typeof (value as Partial<Configurable>).with === "function" &&
    typeof (value as Partial<Configurable>).options === "object"
  );
}
