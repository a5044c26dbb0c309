import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { arrowFiles, parquetFiles, type TextSource } from "../../../../core/src/data/text/index.js";
import { textSource } from "../../../../core/src/data/text/text-input.js";

// Made by test/fixtures/tables/make.py with PyArrow.
const fixture = (name: string) => fileURLToPath(new URL(`../../../fixtures/tables/${name}`, import.meta.url));
const rows = Array.from({ length: 50 }, (_, i) => `Row ${i}: naïve 鯨 🐋\n${"blubber ".repeat(i % 7)}`);
const expected = rows.filter((_, i) => i !== 10);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "aronnax-tables-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(source: TextSource): Promise<string[]> {
  const out: string[] = [];
  let last = 0;
  for await (const { text, consumed } of source.documents()) {
    expect(consumed).toBeGreaterThanOrEqual(last);
    last = consumed;
    out.push(text);
  }
  expect(last).toBeLessThanOrEqual(source.size!);
  return out;
}

describe("Parquet files", () => {
  test.each(["none", "snappy", "zstd", "gzip", "plain-v2"])("are read: %s", async (name) => {
    expect(await read(textSource(fixture(`${name}.parquet`)))).toEqual(expected);
  });

  test("give the column that is asked for, from several files", async () => {
    const source = parquetFiles([fixture("snappy.parquet"), fixture("zstd.parquet")], { column: "body" });
    const upper = expected.map((text) => text.toUpperCase());
    expect(await read(source)).toEqual([...upper, ...upper]);
  });

  test("with another column, other content or damage are refused by name", async () => {
    const path = fixture("snappy.parquet");
    const missing = read(parquetFiles(path, { column: "content" }));
    await expect(missing).rejects.toThrow(/snappy\.parquet has no column "content"/);
    await expect(missing).rejects.toMatchObject({ fix: "It has: id, text, body. Pass `column`." });
    await expect(read(parquetFiles(path, { column: "id" }))).rejects.toThrow(
      /row 0: the column "id" holds bigint/,
    );
    const broken = join(folder, "broken.parquet");
    await writeFile(broken, "PAR1 not really");
    await expect(read(textSource(broken))).rejects.toThrow(/broken\.parquet cannot be read as Parquet/);
    expect(() => parquetFiles(join(folder, "none.parquet"))).toThrow(/none\.parquet cannot be read/);
  });
});

describe("Arrow files", () => {
  test.each(["stream", "file", "large-string"])("are read: %s", async (name) => {
    expect(await read(textSource(fixture(`${name}.arrow`)))).toEqual(expected);
  });

  test("that are cut off are refused, not read short", async () => {
    const path = join(folder, "cut.arrow");
    await writeFile(
      path,
      await import("node:fs/promises").then((fs) => fs.readFile(fixture("stream.arrow"))),
    );
    await truncate(path, 6000);
    await expect(read(arrowFiles(path))).rejects.toThrow(/cut\.arrow cannot be read as Arrow/);
  });
});
