/** `aronnax train RECIPE`: a training outside a notebook. */
import { existsSync } from "node:fs";
import * as nodeModule from "node:module";
import { extname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { projectNode, runUnder } from "../files/project-node.js";
import { ArgumentError } from "../graph/errors.js";
import { Runtime } from "../runtime/runtime.js";
import { Trainer, type TrainerConfig } from "../train/index.js";
import { parseAssignment, withField } from "./overrides.js";

export const trainUsage = `aronnax train RECIPE [--set PATH=VALUE]... [--resume] [--dry-run]

  RECIPE            a .ts, .mts, .js or .mjs file whose default export (or whose export named \`recipe\`) is a
                    TrainerConfig, or a function that returns one or a promise of one
  --set PATH=VALUE  changes a field: --set steps=100 --set optimizer.learningRate.peak=1e-3; fields of the
                    function's own argument as --set recipe.batchSize=8
  --resume          goes on from the newest checkpoint of the run
  --dry-run         checks the configuration and ends

Ctrl-C stops at the next step boundary, with a checkpoint if the recipe saves any; a second one ends at once.`;

type Config = TrainerConfig<never>;
type Recipe = Config | ((options: Record<string, unknown>) => Config | Promise<Config>);

/** @returns the exit status: 0 finished, 130 interrupted */
export async function trainCommand(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      set: { type: "string", multiple: true, default: [] },
      resume: { type: "boolean", default: false },
      "dry-run": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help || positionals.length !== 1) {
    console.log(`usage: ${trainUsage}`);
    return values.help ? 0 : 2;
  }
  const file = positionals[0]!;
  // A Node that does not run TypeScript gives over to the project's own, which does.
  if (isTyped(file) && !runsTypeScript()) {
    const node = projectNode();
    if (node !== undefined) return runUnder(node);
  }
  const config = await configOf(await loadRecipe(file), values.set, values.resume);
  const trainer = new Trainer(config);
  if (values["dry-run"]) {
    console.log(`${file}: ${config.steps} steps of "${config.name}", nothing was started`);
    return 0;
  }
  const stop = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stop.signal.aborted) process.exit(130);
    stop.abort();
    console.error(`\n${signal}: stopping at the next step boundary; once more ends at once`);
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  try {
    const { status, step, loss, validationLoss } = await trainer.fit({ signal: stop.signal });
    const validation = validationLoss === undefined ? "" : `, validation loss ${validationLoss.toFixed(4)}`;
    console.log(`${status} at step ${step} of ${config.steps}: loss ${loss.toFixed(4)}${validation}`);
    if (status === "interrupted" && config.checkpoints !== undefined)
      console.log("go on with --resume and the same settings");
    return status === "interrupted" ? 130 : 0;
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
    Runtime.default().close();
  }
}

/** The configuration that a recipe gives, with what the command line changes. */
export async function configOf(recipe: Recipe, sets: readonly string[], resume: boolean): Promise<Config> {
  const assignments = sets.map(parseAssignment);
  const own = assignments.filter(({ path }) => path[0] === "recipe" && path.length > 1);
  if (own.length > 0 && typeof recipe !== "function") {
    throw new ArgumentError(
      `--set ${own[0]!.path.join(".")}: the recipe is no function`,
      "export a function of options from it",
    );
  }
  const options = Object.fromEntries(own.map(({ path, value }) => [path.slice(1).join("."), value]));
  let config: object = typeof recipe === "function" ? await recipe(options) : recipe;
  if (typeof config !== "object" || config === null)
    throw new ArgumentError("the recipe gave no configuration", "return a TrainerConfig from it");
  for (const assignment of assignments) {
    if (!own.includes(assignment)) config = withField(config, assignment.path, assignment.value);
  }
  if (!resume) return config as Config;
  if ((config as Partial<Config>).checkpoints === undefined) {
    throw new ArgumentError(
      "--resume: the recipe saves no checkpoints",
      "add checkpoints: { every } to it, or --set checkpoints.every=100",
    );
  }
  return { ...(config as Config), resume: true };
}

const isTyped = (path: string): boolean => [".ts", ".mts"].includes(extname(path));
const runsTypeScript = (): boolean => Boolean((process.features as { typescript?: unknown }).typescript);

async function loadRecipe(file: string): Promise<Recipe> {
  const path = resolve(file);
  if (!existsSync(path)) throw new ArgumentError(`there is no ${path}`, "give the path of a recipe file");
  const typed = isTyped(path);
  if (!typed && ![".js", ".mjs"].includes(extname(path)))
    throw new ArgumentError(`${file} is no recipe file`, "give a .ts, .mts, .js or .mjs file");
  if (typed && !runsTypeScript()) {
    throw new ArgumentError(
      `${file}: this Node (${process.version}) does not run TypeScript`,
      "use Node 22.18 or newer, for example the one of .venv, or write the recipe as .mjs",
    );
  }
  resolveAronnax();
  const found = (await import(pathToFileURL(path).href).catch((error: unknown) => {
    // Node tells the place of a syntax error only as it ends.
    if (!(error instanceof SyntaxError)) throw error;
    throw new ArgumentError(
      `${file} cannot be read: ${error.message}`,
      `node --check ${file} shows the place`,
    );
  })) as Record<string, unknown>;
  const recipe = found.default ?? found.recipe;
  if ((typeof recipe !== "object" || recipe === null) && typeof recipe !== "function") {
    const exported = Object.entries(found).map(([name, value]) => `${name}, a ${typeof value}`);
    throw new ArgumentError(
      `${file} exports no recipe; it exports ${exported.join("; ") || "nothing"}`,
      "export it as default, or under the name `recipe`",
    );
  }
  return recipe as Recipe;
}

interface Hooks {
  resolve(
    specifier: string,
    context: object,
    next: (specifier: string, context: object) => { url: string },
  ): { url: string; shortCircuit?: boolean };
}

/** Recipes anywhere on the disk import this very package as "aronnax". */
function resolveAronnax(): void {
  const url = new URL("../index.js", import.meta.url).href;
  const { registerHooks, register } = nodeModule as {
    registerHooks?: (hooks: Hooks) => void;
    register: (specifier: string) => void;
  };
  if (registerHooks !== undefined) {
    registerHooks({
      resolve: (specifier, context, next) =>
        specifier === "aronnax" ? { url, shortCircuit: true } : next(specifier, context),
    });
    return;
  }
  // Before Node 22.15 hooks live in a thread of their own.
  const hooks = `export const resolve = async (specifier, context, next) =>
    specifier === "aronnax" ? { url: ${JSON.stringify(url)}, shortCircuit: true } : next(specifier, context);`;
  register(`data:text/javascript,${encodeURIComponent(hooks)}`);
}
