/** `checkpoint.saveTree` and `loadTree`. */
import "../../support/runtime.js";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkpoint, nn, ones, type Tensor, tensor, tree, zeros } from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "aronnax-trees-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const fresh = (): string => join(folder, `tree-${count++}`);

class Net extends nn.Module {
  firstLayer = new nn.Linear(3, 4, { bias: true });
  blocks = [new nn.Linear(4, 4), new nn.Linear(4, 2)];
}

const mixed = () => ({
  net: nn.initialize(new Net(), 3),
  counts: [tensor([1, 2, 3], { dtype: "int32" }), tensor([true, false])],
  half: ones([2, 2]).astype("bfloat16"),
  name: "static",
});

const values = async (of: unknown): Promise<unknown[]> =>
  Promise.all(tree.leaves(of).map((leaf: Tensor) => leaf.astype("float32").array()));

describe("a tree", () => {
  it.each([
    ["one file", {}],
    ["several", { maxFileBytes: 60 }],
  ])("comes back from %s as it was", async (_, options) => {
    const at = fresh();
    const saved = mixed();
    await checkpoint.saveTree(saved, at, options);
    expect(readdirSync(at).length > 1).toBe("maxFileBytes" in options);
    const like = { ...mixed(), net: new Net(), name: "another" };
    const back = await checkpoint.loadTree(like, at);
    expect(back.net).toBeInstanceOf(Net);
    expect(back.name).toBe("another");
    expect(tree.leaves(back).map(({ dtype }) => dtype)).toEqual(tree.leaves(saved).map(({ dtype }) => dtype));
    expect(await values(back)).toEqual(await values(saved));
  });

  it("is safetensors under the names that were asked for, with what was given beside it", async () => {
    const at = fresh();
    const names = (path: string) => `net.${path}`;
    await checkpoint.saveTree(new Net(), at, { names, metadata: { made: "here" }, config: { width: 4 } });
    await using files = await checkpoint.TensorFiles.open(at);
    expect([...files.tensors.keys()].sort()).toEqual(
      ["net.blocks.0.weight", "net.blocks.1.weight", "net.firstLayer.bias", "net.firstLayer.weight"].sort(),
    );
    await using file = await checkpoint.SafetensorsFile.open(join(at, "model.safetensors"));
    expect(file.header.metadata).toEqual({ made: "here" });
    expect(JSON.parse(readFileSync(join(at, "config.json"), "utf8"))).toEqual({ width: 4 });
    const back = await checkpoint.loadTree(new Net(), at, { names });
    expect(back.firstLayer.weight.shape).toEqual([4, 3]);
    await expect(checkpoint.loadTree(new Net(), at)).rejects.toThrow(
      /4 missing \(first_layer.weight, .*4 unexpected \(net\./,
    );
  });

  it("replaces an earlier save, and nothing else", async () => {
    const at = fresh();
    await checkpoint.saveTree({ a: ones([2]), b: ones([3]) }, at, { maxFileBytes: 4 });
    await checkpoint.saveTree({ a: zeros([2]) }, at);
    expect(readdirSync(at)).toEqual(["model.safetensors"]);
    expect(await (await checkpoint.loadTree({ a: ones([2]) }, at)).a.array()).toEqual([0, 0]);
    writeFileSync(join(at, "notes.txt"), "mine");
    await expect(checkpoint.saveTree({ a: ones([2]) }, at)).rejects.toThrow(/other things.*notes.txt/);
    expect(readFileSync(join(at, "notes.txt"), "utf8")).toBe("mine");
  });

  it("has the values of the moment of the call", async () => {
    const at = fresh();
    const value = ones([1000]).add(1);
    const saved = checkpoint.saveTree({ value }, at);
    value.dispose();
    await saved;
    expect(
      ((await (await checkpoint.loadTree({ value: ones([1000]) }, at)).value.array()) as number[])[999],
    ).toBe(2);
  });
});

describe("what does not fit", () => {
  const like = () => ({ a: ones([2]), b: ones([3]), c: ones([4]) });
  const saved = (async () => {
    const at = fresh();
    await checkpoint.saveTree({ a: zeros([2]), b: zeros([5]), d: zeros([1]) }, at);
    return at;
  })();

  it("is refused by name", async () => {
    await expect(checkpoint.loadTree(like(), await saved)).rejects.toThrow(
      /1 missing \(c\); 1 unexpected \(d\); 1 different \(b is float32\[5\], the tree's is float32\[3\]\)/,
    );
  });

  it("keeps its values where that was asked for, and is reported", async () => {
    const onReport = vi.fn();
    const back = await checkpoint.loadTree(like(), await saved, { match: "partial", onReport });
    expect(onReport).toHaveBeenCalledExactlyOnceWith({
      missing: ["c"],
      unexpected: ["d"],
      different: ["b is float32[5], the tree's is float32[3]"],
    });
    expect(await values(back)).toEqual([
      [0, 0],
      [1, 1, 1],
      [1, 1, 1, 1],
    ]);
    const warned = vi.spyOn(console, "warn").mockImplementation(() => {});
    await checkpoint.loadTree(like(), await saved, { match: "partial" });
    expect(warned.mock.calls.join()).toMatch(/in part: 1 missing \(c\)/);
    warned.mockRestore();
  });

  it("is refused in part", async () => {
    const options = { match: "partial", missing: "refuse" } as const;
    await expect(checkpoint.loadTree(like(), await saved, options)).rejects.toThrow(/tree: 1 missing \(c\)$/);
    const onReport = vi.fn();
    const two = { a: ones([2]), b: ones([5]), c: ones([1]), d: ones([1]) };
    const back = await checkpoint.loadTree(two, await saved, { missing: "keep", onReport });
    expect(await values(back)).toEqual([[0, 0], [0, 0, 0, 0, 0], [1], [0]]);
    await expect(
      checkpoint.loadTree({ a: ones([2]), b: ones([5]) }, await saved, { missing: "keep" }),
    ).rejects.toThrow(/1 unexpected \(d\)/);
    const otherType = { a: ones([2]).astype("float16"), b: ones([5]), d: ones([1]) };
    await expect(checkpoint.loadTree(otherType, await saved)).rejects.toThrow(
      /a is float32\[2\], the tree's is float16/,
    );
  });

  it.each([
    [
      "two Tensors of one name",
      { qProj: ones([1]), q_proj: ones([1]) },
      /"qProj" and "q_proj" would both be called q_proj/,
    ],
    ["a Tensor without one", ones([1]), /at "" has the name ""/],
  ])("are %s", async (_, of, message) => {
    await expect(checkpoint.saveTree(of, fresh())).rejects.toThrow(message);
  });

  it.each([
    [{ match: "some" }, /match is "some"/],
    [{ missing: "skip" }, /missing is "skip"/],
    [{ mach: "exact" }, /no option mach/],
  ])("are the options %o", async (options, message) => {
    await expect(checkpoint.loadTree(like(), await saved, options as never)).rejects.toThrow(message);
  });
});

describe("a save that was killed", () => {
  // A process that has ended: its id and when it started are of no live one.
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  const leftover = (at: string, kind: string) =>
    join(folder, `.${kind}-${at.split("/").at(-1)}-${pid}.1-0123456789ab`);

  it("leaves the earlier one, wherever it was killed, and the next clears up", async () => {
    const at = fresh();
    await checkpoint.saveTree({ a: ones([2]) }, at);
    mkdirSync(leftover(at, "tmp"));
    writeFileSync(join(leftover(at, "tmp"), "model.safetensors"), "half");
    // Between the two renames.
    renameSync(at, leftover(at, "old"));
    expect(await (await checkpoint.loadTree({ a: zeros([2]) }, at)).a.array()).toEqual([1, 1]);
    expect(existsSync(at)).toBe(false);
    await checkpoint.saveTree({ a: zeros([2]) }, at);
    expect(await (await checkpoint.loadTree({ a: ones([2]) }, at)).a.array()).toEqual([0, 0]);
    expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
  });

  it("does not touch the draft of a process that lives", async () => {
    const at = fresh();
    const start = readFileSync("/proc/self/stat", "utf8").split(") ")[1]!.split(" ")[19];
    const draft = join(folder, `.tmp-${at.split("/").at(-1)}-${process.pid}.${start}-0123456789ab`);
    mkdirSync(draft);
    await checkpoint.saveTree({ a: ones([2]) }, at);
    expect(existsSync(draft)).toBe(true);
    rmSync(draft, { recursive: true });
  });
});
