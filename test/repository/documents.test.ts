import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const documents = [
  ...readdirSync(repository).filter((name) => name.endsWith(".md")),
  ...readdirSync(join(repository, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => join("docs", name)),
];
const read = (file: string) => readFileSync(join(repository, file), "utf8");

describe("the documents", () => {
  it("that a reader expects are there", () => {
    expect(documents).toEqual(
      expect.arrayContaining([
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/architecture.md",
        "docs/set-up.md",
      ]),
    );
  });

  it.each(documents)("%s names npm scripts that exist", (file) => {
    const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
    const named = [...read(file).matchAll(/\bnpm (?:run ([\w:-]+)|(test)\b)/g)].map(
      ([, run, test]) => run ?? test ?? "",
    );
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });

  it.each(documents)("%s links to files that exist", (file) => {
    const targets = [...read(file).matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g)].map(
      ([, target = ""]) => target,
    );
    expect(targets.filter((target) => !existsSync(join(repository, dirname(file), target)))).toEqual([]);
  });

  it("README.md draws folders that exist", () => {
    const layout = /```\n(core\/[\s\S]*?)```/.exec(read("README.md"))?.[1] ?? "";
    const folders = layout.split("\n").flatMap((line) => /^([\w.-]+\/)/.exec(line)?.[1] ?? []);
    expect(folders.length).toBeGreaterThan(5);
    expect(folders.filter((folder) => !existsSync(join(repository, folder)))).toEqual([]);
  });

  it("docs/set-up.md explains every step that the set-up shows", () => {
    const titles = [...read("jupyter-config/setup/setup.mjs").matchAll(/^ {2}title: "(.+)",$/gm)].map(
      ([, title = ""]) => title,
    );
    expect(titles.length).toBeGreaterThan(3);
    expect(titles.filter((title) => !read("docs/set-up.md").includes(title))).toEqual([]);
  });

  it("docs/architecture.md explains every environment variable that the program reads", () => {
    const sources = ["core/src", "kernel/src", "runtime/aronnax_runtime", "jupyter-config/setup"].flatMap(
      (folder) =>
        readdirSync(join(repository, folder), { recursive: true, encoding: "utf8" })
          .filter((name) => /\.(ts|py|mjs)$/.test(name))
          .map((name) => read(join(folder, name))),
    );
    const names = new Set(sources.flatMap((text) => text.match(/\bARONNAX_[A-Z_]+\b/g) ?? []));
    expect(names.size).toBeGreaterThan(5);
    expect([...names].filter((name) => !read("docs/architecture.md").includes(`| \`${name}\` |`))).toEqual(
      [],
    );
  });
});
