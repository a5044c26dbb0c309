// Every notebook of the repository, run by nbclient on the kernel that its own metadata names.
import { execFile, spawn } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { endAll, processesWith } from "../support/whole-run.js";

const SECONDS_A_CELL = 600;
const MINUTES_A_NOTEBOOK = 15;

/** How a notebook is run: with Jupyter's own files in a folder of the test, and the runtime of the whole run of tests. */
const environment = () => ({
  ...process.env,
  JUPYTER_DATA_DIR: join(folder, "jupyter"),
  JUPYTER_RUNTIME_DIR: join(folder, "jupyter", "runtime"),
  JUPYTER_CONFIG_DIR: join(folder, "jupyter", "config"),
});

const here = dirname(fileURLToPath(import.meta.url));
const repository = dirname(dirname(here));
const python = join(repository, ".venv", "bin", "python");
const notebooks = readdirSync(join(repository, "notebooks")).filter((name) => name.endsWith(".ipynb"));

interface Output {
  output_type: string;
  ename?: string;
  evalue?: string;
  traceback?: string[];
}

interface Cell {
  cell_type: string;
  source: string | string[];
  outputs?: Output[];
  execution_count?: number | null;
}

interface Notebook {
  cells: Cell[];
  metadata: { kernelspec?: { name: string } };
}

const read = (path: string) => JSON.parse(readFileSync(path, "utf8")) as Notebook;
const sourceOf = ({ source }: Cell) => (typeof source === "string" ? source : source.join(""));

function codeCells(path: string): Cell[] {
  return read(path).cells.filter((cell) => cell.cell_type === "code" && sourceOf(cell).trim() !== "");
}

function errorsIn(cells: Cell[]): string[] {
  return cells.flatMap((cell) =>
    (cell.outputs ?? [])
      .filter(({ output_type }) => output_type === "error")
      .map(
        ({ ename, evalue, traceback }) =>
          `${sourceOf(cell)}\n--> ${ename}: ${evalue}\n${(traceback ?? []).join("\n")}`,
      ),
  );
}

let folder: string;

async function execute(notebook: string, result: string): Promise<void> {
  const options = [join(here, "execute.py"), notebook, result, String(SECONDS_A_CELL)];
  await promisify(execFile)(python, options, { env: environment() });
}

beforeAll(() => {
  // Elsewhere than in the repository, so that what a notebook writes does not stay. Its imports are found by the kernel's own place.
  folder = mkdtempSync(join(tmpdir(), "aronnax-notebooks-"));
  cpSync(join(repository, "notebooks"), folder, {
    recursive: true,
    filter: (path) => !/\/(runs|\.ipynb_checkpoints)$/.test(path),
  });
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe.each(notebooks)("%s", (name) => {
  it("is of the Aronnax kernel", () => {
    expect(read(join(repository, "notebooks", name)).metadata.kernelspec?.name).toBe("aronnax");
  });

  it("is kept with what its cells printed, and without an error", () => {
    const cells = codeCells(join(repository, "notebooks", name));
    expect(cells.filter(({ execution_count }) => !execution_count).map(sourceOf)).toEqual([]);
    expect(cells.some(({ outputs = [] }) => outputs.length > 0)).toBe(true);
    expect(errorsIn(cells)).toEqual([]);
  });

  it(
    "runs from the first cell to the last without an error, and prints where it printed before",
    async () => {
      const result = join(folder, `${name}.result.ipynb`);
      await execute(join(folder, name), result);
      const cells = codeCells(result);
      expect(errorsIn(cells)).toEqual([]);
      const silent = (path: string) =>
        codeCells(path)
          .filter(({ outputs = [] }) => outputs.length === 0)
          .map(sourceOf);
      expect(silent(result)).toEqual(silent(join(repository, "notebooks", name)));
    },
    MINUTES_A_NOTEBOOK * 60_000,
  );
});

describe("README.md", () => {
  it(
    "shows code that runs as it stands, in a cell",
    async () => {
      const code =
        /```ts\n([\s\S]*?)```/.exec(readFileSync(join(repository, "README.md"), "utf8"))?.[1] ?? "";
      const few = code.replace("steps: 400", "steps: 2");
      expect(few).not.toBe(code);
      const [notebook, result] = [join(folder, "readme.ipynb"), join(folder, "readme.result.ipynb")];
      const cell = {
        cell_type: "code",
        id: "taste",
        source: few,
        metadata: {},
        outputs: [],
        execution_count: null,
      };
      const metadata = { kernelspec: { name: "aronnax", display_name: "Aronnax", language: "typescript" } };
      writeFileSync(notebook, JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata, cells: [cell] }));
      await execute(notebook, result);
      expect(errorsIn(codeCells(result))).toEqual([]);
      expect(JSON.stringify(codeCells(result))).toContain("application/vnd.aronnax.run+json");
    },
    MINUTES_A_NOTEBOOK * 60_000,
  );
});

describe("a run of the tests", () => {
  it("has a runtime and a program cache of its own, and finds what it has started", async () => {
    const { ARONNAX_TEST_RUN: mark, ARONNAX_RUNTIME_DIR, ARONNAX_CACHE_DIR } = process.env;
    expect(mark).toMatch(/aronnax-test-run-/);
    expect(ARONNAX_RUNTIME_DIR).toBe(join(mark!, "runtime"));
    expect(ARONNAX_CACHE_DIR).toBe(join(repository, ".cache", "test-programs"));
    const entry = `ARONNAX_LEFT_BEHIND=${process.pid}`;
    const left = spawn("sleep", ["600"], {
      detached: true,
      env: { ...process.env, ARONNAX_LEFT_BEHIND: String(process.pid) },
    });
    expect(processesWith(entry)).toEqual([left.pid]);
    expect(await endAll(entry)).toEqual([left.pid]);
    expect(processesWith(entry)).toEqual([]);
  });
});

describe("the tour", () => {
  it("keeps the record of its run, as nbconvert shows it", async () => {
    const convert = async (format: string) => {
      const options = [
        "-m",
        "nbconvert",
        "--to",
        format,
        "--stdout",
        join(repository, "notebooks", "00-tour.ipynb"),
      ];
      const { stdout } = await promisify(execFile)(python, options, {
        env: environment(),
        maxBuffer: 2 ** 26,
      });
      return stdout;
    };
    for (const format of ["html", "markdown"]) {
      const page = await convert(format);
      expect(page.includes("<td>1500 of 1500</td>")).toBe(true);
      expect(/<img[^>]+src="data:image\/svg\+xml;base64,/.test(page)).toBe(true);
    }
  });
});

describe("the notebooks", () => {
  it("are there", () => {
    expect(notebooks).toEqual(
      expect.arrayContaining([
        "00-tour.ipynb",
        "01-pretrain-a-language-model.ipynb",
        "03-load-a-checkpoint.ipynb",
      ]),
    );
  });
});
