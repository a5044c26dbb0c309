/** Lists of pictures and their batches: folders, tables, tar files; what is broken is named. */
import "../../support/runtime.js";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { image } from "aronnax";
import { afterAll, describe, expect, it } from "vitest";

const fixtures = fileURLToPath(new URL("../../fixtures/image", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "aronnax-pictures-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const size = { width: 8, height: 6 };
const names = ["plain.png", "progressive.jpg", "gray.png", "cmyk.jpg", "deep.png", "moving.gif"];

/** A folder of classes with a picture that ends in the middle. */
function classed(broken: boolean): string {
  const at = mkdtempSync(join(folder, "classes-"));
  for (const [i, name] of names.entries()) {
    const within = join(at, ["cat", "dog", "emu"][i % 3]!);
    mkdirSync(within, { recursive: true });
    copyFileSync(join(fixtures, name), join(within, name));
  }
  if (broken)
    writeFileSync(join(at, "cat", "half.png"), readFileSync(join(fixtures, "plain.png")).subarray(0, 200));
  return at;
}

async function expected(name: string): Promise<Uint8Array> {
  const { data } = image.resize(await image.decode(join(fixtures, name)), 8, 6, "bilinear");
  return data;
}

describe("a folder of pictures", () => {
  it("has a class for each folder within, and decodes in workers as here", async () => {
    const list = await image.folder(classed(false));
    expect(list.classes).toEqual(["cat", "dog", "emu"]);
    const source = image.batches(list, { size, batchSize: 6, shuffle: false, workers: 1 });
    const { image: pixels, label, seed } = await source.next();
    expect(pixels.shape).toEqual([6, 6, 8, 3]);
    expect(pixels.data).toBeInstanceOf(Uint8Array);
    expect([...label.data]).toEqual([0, 0, 1, 1, 2, 2]);
    expect(new Set(seed.data as Uint32Array).size).toBe(6);
    const order = ["cmyk.jpg", "plain.png", "deep.png", "progressive.jpg", "gray.png", "moving.gif"];
    for (const [i, name] of order.entries())
      expect((pixels.data as Uint8Array).subarray(144 * i, 144 * (i + 1)), name).toEqual(
        await expected(name),
      );
    const again = await source.next();
    expect([...(again.seed.data as Uint32Array)]).not.toEqual([...(seed.data as Uint32Array)]);
    source.close();
  });

  it("names a broken picture, or leaves it out and counts it", async () => {
    const list = await image.folder(classed(true));
    const strict = image.batches(list, { size, batchSize: 7, shuffle: false, workers: 1 });
    await expect(strict.next()).rejects.toThrow(/half\.png/);
    strict.close();
    const source = image.batches(list, { size, batchSize: 6, shuffle: false, workers: 1, broken: "skip" });
    const { label } = await source.next();
    expect([...label.data]).toEqual([0, 0, 1, 1, 2, 2]);
    await source.next();
    expect(source.skipped.count).toBeGreaterThanOrEqual(1);
    expect(JSON.stringify(source.skipped.items)).toMatch(/half\.png/);
    source.close();
  });

  it("is refused without classes, without pictures, and where a class is none of those named", async () => {
    await expect(image.folder(fixtures)).rejects.toThrow(/has no classes/);
    const empty = mkdtempSync(join(folder, "empty-"));
    await expect(image.folder(empty)).rejects.toThrow(/holds no pictures/);
    await expect(image.folder(join(folder, "nowhere"))).rejects.toThrow(/cannot be read/);
    await expect(image.folder(classed(false), { classes: ["cat", "dog"] })).rejects.toThrow(
      /of the class "emu"/,
    );
  });

  it("has captions of metadata.jsonl, or of texts beside the pictures", async () => {
    const at = mkdtempSync(join(folder, "captions-"));
    for (const name of ["plain.png", "gray.png"]) copyFileSync(join(fixtures, name), join(at, name));
    writeFileSync(join(at, "metadata.jsonl"), '{"file_name": "plain.png", "text": "as it is"}\n');
    writeFileSync(join(at, "gray.txt"), "no colour\n");
    const { items } = await image.folder(at, { labelled: false });
    expect(items.map(({ caption }) => caption)).toEqual(["no colour", "as it is"]);
    const encode = (text: string) => [...text].map((c) => c.charCodeAt(0));
    const source = image.batches(
      { items },
      { size, batchSize: 2, shuffle: false, tokens: { encode, length: 8 } },
    );
    const { tokens } = await source.next();
    expect(tokens.shape).toEqual([2, 8]);
    expect([...tokens.data].slice(0, 8)).toEqual(encode("no colou"));
    source.close();
    const some = { items: items.map(({ caption: _, ...rest }) => rest) };
    expect(() => image.batches(some, { size, batchSize: 2, tokens: { encode, length: 8 } })).toThrow(
      /no caption/,
    );
  });
});

describe("tables", () => {
  it.each(["pictures.parquet", "pictures.arrow"])("give pictures, labels and texts: %s", async (file) => {
    const list = await image.table(join(fixtures, file));
    const source = image.batches(list, { size, batchSize: 3, shuffle: false, workers: 1 });
    const { image: pixels, label } = await source.next();
    expect([...label.data]).toEqual([1, 0, 2]);
    for (const [i, name] of ["plain.png", "progressive.jpg", "gray.png"].entries())
      expect((pixels.data as Uint8Array).subarray(144 * i, 144 * (i + 1)), name).toEqual(
        await expected(name),
      );
    expect(list.items.map(({ caption }) => caption)).toEqual(["a plain one", "in waves", "without colour"]);
    source.close();
  });

  it("name a column that is not there, and a label outside of the classes", async () => {
    await expect(image.table(join(fixtures, "pictures.parquet"), { image: "img" })).rejects.toThrow(
      /no column "img"/,
    );
    const list = await image.table(join(fixtures, "pictures.parquet"), { classes: ["a", "b"] });
    expect(() => image.batches(list, { size, batchSize: 3 })).toThrow(/row 2 has the label 2/);
  });
});

describe("tar files of webdataset", () => {
  it.each(["ustar", "gnu", "pax"])("are read where they lie: %s", async (format) => {
    const at = mkdtempSync(join(folder, "shard-"));
    const long = `${"very-".repeat(30)}long`;
    for (const [i, name] of ["plain.png", "progressive.jpg"].entries()) {
      const key = i === 0 || format === "ustar" ? `000${i}` : long;
      copyFileSync(join(fixtures, name), join(at, `${key}.${name.slice(-3)}`));
      writeFileSync(join(at, `${key}.cls`), String(1 - i));
      writeFileSync(join(at, `${key}.json`), JSON.stringify({ caption: name }));
    }
    const path = `${at}.tar`;
    execFileSync("tar", [`--format=${format}`, "--sort=name", "-C", at, "-cf", path, "."]);
    const list = await image.tar(path, { classes: ["a", "b"] });
    expect(list.items.map(({ caption, label }) => [caption, label])).toEqual([
      ["plain.png", 1],
      ["progressive.jpg", 0],
    ]);
    const source = image.batches(list, { size, batchSize: 2, shuffle: false, workers: 1 });
    const { image: pixels } = await source.next();
    expect((pixels.data as Uint8Array).subarray(0, 144)).toEqual(await expected("plain.png"));
    expect((pixels.data as Uint8Array).subarray(144)).toEqual(await expected("progressive.jpg"));
    source.close();
    const cut = join(folder, `cut-${format}.tar`);
    writeFileSync(cut, readFileSync(path).subarray(0, 1024 + 700));
    await expect(image.tar(cut)).rejects.toThrow(/ends within/);
  });

  it("are refused where they are none", async () => {
    await expect(image.tar(join(fixtures, "plain.png"))).rejects.toThrow(/is no tar file/);
  });
});

describe("bad pictures", () => {
  it("are refused by the number of their pixels before they are unpacked", async () => {
    const items = [{ name: "tall", picture: { path: join(fixtures, "tall.png") } }];
    const source = image.batches({ items }, { size, batchSize: 1, maxPixels: 10, workers: 1 });
    await expect(source.next()).rejects.toThrow(/more than 10 pixels/);
    source.close();
  });

  it("are refused where the options make no sense", async () => {
    const list = { items: [] };
    expect(() => image.batches(list, { size, batchSize: 1, broken: "ignore" } as never)).toThrow(
      /broken is "ignore"/,
    );
    expect(() => image.batches(list, { size, batchsize: 1 } as never)).toThrow(/batchsize/);
  });
});
