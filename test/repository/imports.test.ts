// The import graph of the repository, drawn from the sources and held against docs/architecture.md.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { describe, expect, it } from "vitest";

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const PACKAGES = ["core", "kernel", "lab-extension"];

interface Import {
  from: string;
  /** A file of the repository, or the name of a package. */
  to: string;
}

function sourcesUnder(folder: string): string[] {
  return readdirSync(join(repository, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.tsx?$/.test(name) && !name.endsWith(".d.ts"))
    .map((name) => join(folder, name));
}

/** What every source file imports when it runs, as esbuild resolves it. */
async function runtimeImports(): Promise<Import[]> {
  const { metafile } = await build({
    absWorkingDir: repository,
    entryPoints: PACKAGES.flatMap((folder) => sourcesUnder(join(folder, "src"))),
    bundle: true,
    packages: "external",
    format: "esm",
    platform: "node",
    loader: { ".css": "empty", ".svg": "text" },
    outdir: "unused",
    write: false,
    metafile: true,
    logLevel: "silent",
  });
  return Object.entries(metafile.inputs).flatMap(([from, { imports }]) =>
    imports.map(({ path }) => ({ from, to: path })),
  );
}

/** Everything that a file names in an import, types too. */
function namesImported(file: string): Import[] {
  const text = readFileSync(join(repository, file), "utf8");
  return [...text.matchAll(/^(?:import|export)\b[^;"']*?["']([^"'\n]+)["']/gm)].map(([, to = ""]) => ({
    from: file,
    to,
  }));
}

const imports = await runtimeImports();

/** `core/src/array/tensor.ts` is of the folder `core/src/array`; a file beside the folders stands for itself. */
function folderOf(file: string): string {
  return file.split("/").slice(0, 3).join("/");
}

const shown = ({ from, to }: Import) => `${from} -> ${to}`;

/** The first cycle of a graph, as a path, or undefined. */
function cycleIn(graph: Map<string, Set<string>>): string[] | undefined {
  const finished = new Set<string>();
  const visit = (node: string, path: string[]): string[] | undefined => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node];
    if (finished.has(node)) return undefined;
    for (const next of graph.get(node) ?? []) {
      const cycle = visit(next, [...path, node]);
      if (cycle) return cycle;
    }
    finished.add(node);
    return undefined;
  };
  for (const node of graph.keys()) {
    const cycle = visit(node, []);
    if (cycle) return cycle;
  }
  return undefined;
}

/** Between folders of `core/src`; what stands on no line may be imported by any. */
const LAYERS: Record<string, readonly string[]> = {
  graph: [],
  runtime: ["graph"],
  array: ["graph", "runtime"],
  transform: ["array", "graph", "runtime"],
  sharding: ["array", "graph", "transform"],
  nn: ["array", "graph", "transform", "sharding"],
  models: ["array", "graph", "transform", "sharding", "nn", "data"],
  optim: ["array", "graph", "transform", "sharding", "nn"],
  data: ["array", "graph", "transform", "sharding"],
  train: ["array", "graph", "transform", "sharding", "nn", "optim", "data", "runtime"],
};

describe("the import graph", () => {
  it("is read from every package", () => {
    for (const folder of PACKAGES)
      expect(sourcesUnder(join(folder, "src")).length, folder).toBeGreaterThan(0);
    expect(
      imports.filter(({ from, to }) => from.startsWith("core/") && to.startsWith("core/")).length,
    ).toBeGreaterThan(0);
  });

  it("has no cycle between folders", () => {
    const graph = new Map<string, Set<string>>();
    for (const { from, to } of imports) {
      const [a, b] = [folderOf(from), folderOf(to)];
      if (to.includes("/src/") && a !== b) graph.set(a, (graph.get(a) ?? new Set()).add(b));
    }
    expect(cycleIn(graph)?.join(" -> ")).toBeUndefined();
  });

  it("stays inside each package, and never leads from kernel or lab-extension to core", () => {
    const across = imports.filter(
      ({ from, to }) => to.includes("/src/") && to.split("/")[0] !== from.split("/")[0],
    );
    expect(across.map(shown)).toEqual([]);
    const named = PACKAGES.flatMap((folder) => sourcesUnder(join(folder, "src")).flatMap(namesImported));
    expect(named.length).toBeGreaterThan(0);
    const intoCore = named.filter(
      ({ from, to }) => !from.startsWith("core/") && /^aronnax(\/|$)|\bcore\/(src|dist)\//.test(to),
    );
    expect(intoCore.map(shown)).toEqual([]);
    const intoJupyter = named.filter(
      ({ from, to }) => from.startsWith("core/") && /^@(aronnax|jupyter|jupyterlab)\//.test(to),
    );
    expect(intoJupyter.map(shown)).toEqual([]);
  });

  it("inside core points from the models to the graph", () => {
    const wrong = imports.filter(({ from, to }) => {
      const [layer, target] = [from, to].map((file) => /^core\/src\/(\w+)\//.exec(file)?.[1] ?? "");
      return (
        layer !== target &&
        LAYERS[target ?? ""] &&
        LAYERS[layer ?? ""] &&
        !LAYERS[layer ?? ""]?.includes(target ?? "")
      );
    });
    expect(wrong.map(shown)).toEqual([]);
  });
});

describe("cycleIn", () => {
  it("finds a cycle where there is one", () => {
    const graph = new Map([
      ["a", new Set(["b"])],
      ["b", new Set(["c"])],
      ["c", new Set(["b"])],
    ]);
    expect(cycleIn(graph)).toEqual(["b", "c", "b"]);
  });
});
