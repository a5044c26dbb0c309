import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type NamedTensor,
  SafetensorsError,
  SafetensorsFile,
  tensorsOf,
  writeSafetensors,
} from "../../../core/src/checkpoint/index.js";
import { headerLength, layOut, parseHeader } from "../../../core/src/checkpoint/safetensors-header.js";
import { type DType, dtypes, itemSize } from "../../../core/src/graph/dtype.js";

interface Reference {
  files: {
    metadata: Record<string, string> | null;
    tensors: { name: string; dtype: DType; shape: number[]; data: string }[];
    file: string;
  }[];
  body: string;
  mutants: [header: string, accepted: boolean][];
}

// Made by test/fixtures/safetensors/make.py with the reference implementation.
const reference = JSON.parse(
  readFileSync(new URL("../../fixtures/safetensors/reference.json", import.meta.url), "utf8"),
) as Reference;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "aronnax-safetensors-"));
});
afterAll(() => rm(folder, { recursive: true }));

function tensor(name: string, dtype: DType, shape: number[], bytes: Uint8Array): NamedTensor {
  return { name, dtype, shape, bytes: async () => bytes };
}

function withHeader(header: string, body: Uint8Array): Uint8Array {
  const text = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, body]);
}

/** Reads a file held in memory. */
function parse(file: Uint8Array) {
  const length = headerLength(file.subarray(0, 8), file.length);
  return parseHeader(file.subarray(8, 8 + length), file.length);
}

/** What must be true of any header that was accepted. */
function expectSound(file: Uint8Array): void {
  const { tensors } = parse(file);
  let at = 8 + headerLength(file.subarray(0, 8), file.length);
  for (const [name, entry] of tensors) {
    expect(entry.name).toBe(name);
    expect(entry.offset).toBe(at);
    expect(entry.byteLength).toBe(
      entry.shape.reduce((product, size) => product * size, itemSize(entry.dtype)),
    );
    at += entry.byteLength;
  }
  expect(at).toBe(file.length);
}

describe("safetensors", () => {
  test("reads what the reference implementation wrote", async () => {
    for (const [i, { tensors, metadata, file }] of reference.files.entries()) {
      const path = join(folder, `read-${i}.safetensors`);
      await writeFile(path, Buffer.from(file, "base64"));
      const opened = await SafetensorsFile.open(path);
      expect(opened.header.metadata).toEqual(metadata ?? {});
      expect([...opened.tensors.keys()].sort()).toEqual(tensors.map(({ name }) => name).sort());
      for (const { name, dtype, shape, data } of tensors) {
        expect(opened.tensors.get(name)).toMatchObject({ dtype, shape });
        expect(Buffer.from(await opened.read(name)).toString("base64")).toBe(data);
      }
      await opened.close();
    }
  });

  test("writes byte for byte what the reference implementation writes", async () => {
    for (const [i, { tensors, metadata, file }] of reference.files.entries()) {
      const path = join(folder, `write-${i}.safetensors`);
      const given = tensors.map(({ name, dtype, shape, data }) =>
        tensor(name, dtype, shape, Buffer.from(data, "base64")),
      );
      const { bytes } = await writeSafetensors(path, given, metadata ?? undefined);
      const written = await readFile(path);
      expect(written.toString("base64")).toBe(file);
      expect(bytes).toBe(written.length);
    }
  });

  test("refuses what the reference implementation refuses, and also duplicate names and unknown fields", () => {
    const body = Buffer.from(reference.body, "base64");
    let accepted = 0;
    for (const [header, acceptedThere] of reference.mutants) {
      const file = withHeader(header, body);
      let refusal: unknown;
      try {
        expectSound(file);
        accepted++;
      } catch (error) {
        refusal = error;
      }
      if (refusal !== undefined) expect(refusal).toBeInstanceOf(SafetensorsError);
      if (!acceptedThere) expect(refusal, header).toBeDefined();
      else if (refusal !== undefined) expect(String(refusal)).toMatch(/stands twice|unknown field/);
    }
    expect(accepted).toBeGreaterThan(100);
  });

  test("gets any tensors back, aligned to their elements", async () => {
    const anyTensor = fc
      .record({
        name: fc.string({ unit: "grapheme", maxLength: 12 }).filter((name) => name !== "__metadata__"),
        dtype: fc.constantFrom(...dtypes),
        shape: fc.array(fc.nat(4), { maxLength: 3 }),
        seed: fc.nat(255),
      })
      .map(({ name, dtype, shape, seed }) => {
        const length = shape.reduce((product, size) => product * size, itemSize(dtype));
        return tensor(
          name,
          dtype,
          shape,
          Uint8Array.from({ length }, (_, i) => i * 31 + seed),
        );
      });
    const path = join(folder, "any.safetensors");
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(anyTensor, { selector: ({ name }) => name, maxLength: 8 }),
        async (tensors) => {
          await rm(path, { force: true });
          await writeSafetensors(path, tensors);
          const file = await SafetensorsFile.open(path);
          expect(file.tensors.size).toBe(tensors.length);
          for (const { name, dtype, shape, bytes } of tensors) {
            const entry = file.tensors.get(name)!;
            expect(entry).toMatchObject({ dtype, shape });
            expect(entry.offset % itemSize(dtype)).toBe(0);
            expect(await file.read(name)).toEqual(await bytes());
          }
          // Written again from the file, it is the same file.
          const copy = `${path}.copy`;
          await writeSafetensors(copy, tensorsOf(file));
          expect((await readFile(copy)).equals(await readFile(path))).toBe(true);
          await rm(copy);
          await file.close();
        },
      ),
      { numRuns: 100 },
    );
  });

  test("refuses or reads soundly any damaged file", () => {
    const whole = Buffer.from(reference.files[0]!.file, "base64");
    const change = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({ kind: fc.constant("set"), at: fc.nat(whole.length - 1), byte: fc.nat(255) }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant("insert"), at: fc.nat(whole.length), byte: fc.nat(255) }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant("remove"), at: fc.nat(whole.length - 1), byte: fc.nat(60) }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constant("cut"), at: fc.nat(whole.length), byte: fc.constant(0) }),
      },
    );
    let refused = 0;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        let file = Buffer.from(whole);
        for (const { kind, at, byte } of changes) {
          if (kind === "set") file[Math.min(at, file.length - 1)] = byte;
          else if (kind === "cut") file = file.subarray(0, at);
          else if (kind === "insert") {
            file = Buffer.concat([file.subarray(0, at), Buffer.from([byte]), file.subarray(at)]);
          } else file = Buffer.concat([file.subarray(0, at), file.subarray(at + byte + 1)]);
        }
        try {
          expectSound(file);
        } catch (error) {
          expect(error).toBeInstanceOf(SafetensorsError);
          refused++;
        }
      }),
      { numRuns: 3000 },
    );
    expect(refused).toBeGreaterThan(1000);
  });

  const entry = (dtype: string, shape: string, offsets: string) =>
    `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
  test.each([
    [
      "a name twice",
      `{"a":${entry("U8", "[1]", "[0,1]")},"a":${entry("U8", "[1]", "[1,2]")}}`,
      2,
      /"a" stands twice/,
    ],
    [
      "an overlap",
      `{"a":${entry("U8", "[2]", "[0,2]")},"b":${entry("U8", "[2]", "[1,3]")}}`,
      3,
      /"b" overlap/,
    ],
    [
      "a hole",
      `{"a":${entry("U8", "[1]", "[0,1]")},"b":${entry("U8", "[1]", "[2,3]")}}`,
      3,
      /"b" leave a hole of 1 byte/,
    ],
    ["a late start", `{"a":${entry("U8", "[1]", "[1,2]")}}`, 2, /"a" leave a hole/],
    [
      "bytes after the data",
      `{"a":${entry("U8", "[1]", "[0,1]")}}`,
      2,
      /describes 62 bytes, but the file has 63/,
    ],
    ["too few bytes", `{"a":${entry("U8", "[4]", "[0,4]")}}`, 2, /cut off|describes/],
    ["a wrong length", `{"a":${entry("F32", "[2]", "[0,4]")}}`, 4, /needs 8 bytes, but has 4/],
    ["an unknown type", `{"a":${entry("F99", "[1]", "[0,1]")}}`, 1, /type "F99"; known are BOOL, U8/],
    ["a fraction", `{"a":${entry("U8", "[1.0]", "[0,1]")}}`, 1, /plain integer/],
    ["a negative size", `{"a":${entry("U8", "[-1]", "[0,1]")}}`, 1, /plain integer/],
    ["offsets backwards", `{"a":${entry("U8", "[0]", "[1,0]")}}`, 1, /start <= end/],
    [
      "a size beyond all memory",
      `{"a":${entry("U8", "[9007199254740991,2]", "[0,1]")}}`,
      1,
      /larger than 2\^53/,
    ],
    ["metadata that are not text", `{"__metadata__":{"n":1}}`, 0, /not a string, under "n"/],
    ["deep nesting", `{"a":${"[".repeat(1000)}`, 0, /nested deeper/],
    ["no object", `[]`, 0, /does not begin with/],
    [
      "an unknown field",
      `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`,
      1,
      /unknown field "x"/,
    ],
  ])("names %s", (_, header, bodyBytes, message) => {
    expect(() => parse(withHeader(header, new Uint8Array(bodyBytes)))).toThrow(message);
  });

  test("refuses a header of absurd length without reading it", () => {
    const file = new Uint8Array(16).fill(0xff);
    expect(() => headerLength(file, 2 ** 52)).toThrow(/at most 100000000/);
    expect(() => headerLength(new Uint8Array([16, 0, 0, 0, 0, 0, 0, 0]), 10)).toThrow(
      /needs 24 bytes, but the file has 10/,
    );
    expect(() => headerLength(new Uint8Array(3), 3)).toThrow(/3 bytes, fewer than the 8/);
  });

  test("names the file", async () => {
    const path = join(folder, "empty.safetensors");
    await writeFile(path, "");
    await expect(SafetensorsFile.open(path)).rejects.toThrow(/empty\.safetensors: The file has 0 bytes/);
    await expect(SafetensorsFile.open(join(folder, "none"))).rejects.toThrow(/none cannot be opened/);
  });

  test("refuses tensors that do not fit together", async () => {
    const a = tensor("a", "float32", [2], new Uint8Array(8));
    expect(() => layOut([a, a])).toThrow(/Two tensors are named "a"/);
    expect(() => layOut([{ ...a, name: "__metadata__" }])).toThrow(/cannot be named/);
    expect(() => layOut([{ ...a, shape: [1.5] }])).toThrow(/has the shape \[1.5\]/);
    const short = tensor("short", "float32", [3], new Uint8Array(8));
    const path = join(folder, "short.safetensors");
    await expect(writeSafetensors(path, [short])).rejects.toThrow(
      /"short" of shape \[3\] .* 8 bytes instead of 12/,
    );
  });

  test("never overwrites a file", async () => {
    const path = join(folder, "there.safetensors");
    await writeFile(path, "precious");
    await expect(writeSafetensors(path, [])).rejects.toThrow(/EEXIST/);
    expect((await stat(path)).size).toBe(8);
  });
});
