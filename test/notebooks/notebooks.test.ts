// Every notebook of the repository, run by nbclient on the kernel that its own metadata names.
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const SECONDS_A_CELL = 600;
const MINUTES_A_NOTEBOOK = 15;

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
      await promisify(execFile)(python, [
        join(here, "execute.py"),
        join(folder, name),
        result,
        String(SECONDS_A_CELL),
      ]);
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
  it("shows code that runs as it stands, in a cell", async () => {
    const code = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(repository, "README.md"), "utf8"))?.[1] ?? "";
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
    await promisify(execFile)(python, [join(here, "execute.py"), notebook, result, String(SECONDS_A_CELL)]);
    expect(errorsIn(codeCells(result))).toEqual([]);
    expect(JSON.stringify(codeCells(result))).toContain("application/vnd.aronnax.run+json");
  }, 180_000);
});

describe("the notebooks", () => {
  it("are there", () => {
    expect(notebooks).toEqual(
      expect.arrayContaining(["01-pretrain-a-language-model.ipynb", "03-load-a-checkpoint.ipynb"]),
    );
  });
});
