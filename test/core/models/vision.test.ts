/** Vision models on checkpoints that transformers, timm and OpenCLIP made (fixtures/vision/make.py). */
import "../../support/runtime.js";
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type AronnaxError, checkpoint, nn, random, type VerifyReport, vision, zeros } from "aronnax";
import { afterAll, describe, expect, it, vi } from "vitest";
import { visionFamilies } from "../../../core/src/models/vision/pretrained.js";

const fixtures = fileURLToPath(new URL("../../fixtures/vision", import.meta.url));
const command = fileURLToPath(new URL("../../../core/bin/aronnax.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "aronnax-vision-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
vi.setConfig({ testTimeout: 240_000 });

const names = readdirSync(fixtures, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

const reports = new Promise<VerifyReport[]>((resolve, reject) => {
  const paths = names.map((name) => join(fixtures, name));
  const child = spawn(process.execPath, [command, "verify", "--json", ...paths], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let out = "";
  child.stdout.on("data", (data) => {
    out += data;
  });
  child.on("close", () => {
    try {
      resolve(JSON.parse(out) as VerifyReport[]);
    } catch (error) {
      reject(error);
    }
  });
});

describe("every family of vision models", () => {
  it("has a fixture", async () => {
    const made = new Set((await reports).map(({ architecture }) => architecture));
    for (const { architectures } of visionFamilies)
      expect(
        architectures.some((name) => made.has(name)),
        architectures.join(),
      ).toBe(true);
  });

  it.each(names.map((name, i) => [name, i] as const))(
    "computes here what it computed there: %s",
    async (name, i) => {
      const { comparisons, small, holds } = (await reports)[i]!;
      for (const { kind, name: of, error } of comparisons)
        expect(error, `${kind} ${of}`).toBeLessThanOrEqual(1e-5);
      expect(holds).toBe(true);
      await using gradients = await checkpoint.TensorFiles.open(
        join(fixtures, name, "reference-grads.safetensors"),
      );
      // Each gradient was looked at; one that the reference has not must be nothing here.
      const seen = new Set([...comparisons, ...small].map((each) => each.name));
      expect([...gradients.tensors.keys()].filter((each) => !seen.has(each))).toEqual([]);
      expect(comparisons.filter(({ kind }) => kind === "output").length).toBeGreaterThan(0);
    },
  );
});

describe("vision.save", () => {
  it.each(names)("writes the bytes that vision.load read: %s", async (name) => {
    const model = await vision.load(join(fixtures, name));
    const at = join(folder, `saved-${name}`);
    await vision.save(model, at);
    const files = readdirSync(at);
    expect(files).toHaveLength(2);
    for (const file of files)
      expect(readFileSync(join(at, file)).equals(readFileSync(join(fixtures, name, file))), file).toBe(true);
  });
});

/** A copy of a fixture with another configuration. */
function changed(name: string, change: (json: Record<string, unknown>) => void): string {
  const at = mkdtempSync(join(folder, "changed-"));
  cpSync(join(fixtures, name), at, { recursive: true });
  const path = join(at, "config.json");
  const json = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  change(json);
  writeFileSync(path, JSON.stringify(json));
  return at;
}

describe("a folder that cannot be computed", () => {
  it.each([
    [
      "an architecture",
      (json) => Object.assign(json, { architectures: ["BeitModel"] }),
      /architecture is BeitModel/,
    ],
    ["an activation", (json) => Object.assign(json, { hidden_act: "mish" }), /hidden_act is "mish"/],
    ["a pooler", (json) => Object.assign(json, { pooler_act: "relu" }), /pooler_act is "relu"/],
    [
      "sizes",
      (json) => Object.assign(json, { intermediate_size: 20 }),
      /layer\.0\.intermediate\.dense\.weight is \[16, 12\], .* says \[20, 12\]/,
    ],
    ["heads", (json) => Object.assign(json, { num_attention_heads: 5 }), /12 features in 5 heads/],
    ["layers", (json) => Object.assign(json, { num_hidden_layers: 1 }), /unexpected: vit\.encoder\.layer\.1/],
  ] as const satisfies [string, (json: Record<string, unknown>) => void, RegExp][])(
    "is refused by what it is: %s",
    async (_what, change, said) => {
      await expect(vision.load(changed("vit", change))).rejects.toThrow(said);
    },
  );

  it("is refused where OpenCLIP's has another tower", async () => {
    const at = mkdtempSync(join(folder, "openclip-"));
    cpSync(join(fixtures, "openclip"), at, { recursive: true });
    const config = {
      model_cfg: { embed_dim: 8, vision_cfg: { timm_model_name: "convnext_base" }, text_cfg: {} },
    };
    writeFileSync(join(at, "open_clip_config.json"), JSON.stringify(config));
    await expect(vision.load(at)).rejects.toThrow(/vision_cfg has timm_model_name/);
  });
});

describe("a model of one's own", () => {
  const sizes = { imageSize: 8, patchSize: 4, hiddenSize: 8, layers: 2, heads: 2 };

  it("says what is wrong with pictures", () => {
    const model = vision.vit({ ...sizes, classes: 3 });
    const wrong = (shape: number[]) => {
      try {
        return String(model.forward(zeros(shape)).shape);
      } catch (error) {
        return `${(error as AronnaxError).message}: ${(error as AronnaxError).fix}`;
      }
    };
    expect(wrong([2, 8, 8, 3])).toMatch(/\[2, 8, 8, 3\]: channels come second/);
    expect(wrong([2, 1, 8, 8])).toMatch(/takes 3 channels/);
    expect(() => model.forward(zeros([3, 8, 8]))).toThrow(/have shape \[3, 8, 8\]/);
    expect(() => vision.vit({ ...sizes, heads: 3 })).toThrow(/8 features in 3 heads/);
    expect(() => vision.vit({ ...sizes, labels: ["cat"], classes: 2 })).toThrow(/1 labels for 2 classes/);
    expect(() => vision.vit({ ...sizes, patchsize: 4 } as never)).toThrow(/patchsize/);
  });

  it.each([
    ["vit", () => vision.vit({ ...sizes, classes: 2, labels: ["cat", "dog"] })],
    ["mae", () => vision.mae({ ...sizes, decoder: { hiddenSize: 8, layers: 1, heads: 2 } })],
    ["resNet", () => vision.resNet({ hiddenSizes: [8], depths: [1], embeddingSize: 4 })],
    [
      "swin",
      () => vision.swin({ imageSize: 8, patchSize: 2, embedSize: 4, depths: [1], heads: [1], windowSize: 4 }),
    ],
  ] as const)("is opened again as it was saved: %s", async (name, make) => {
    const model = nn.initialize(make() as vision.VisionModel, 1);
    const at = join(folder, `own-${name}`);
    await vision.save(model, at);
    const opened = await vision.load(at);
    expect(opened.config).toEqual(model.config);
    const again = join(folder, `again-${name}`);
    await vision.save(opened, again);
    for (const file of readdirSync(at))
      expect(readFileSync(join(again, file)).equals(readFileSync(join(at, file))), file).toBe(true);
  });

  it.each(["vit", "dinov2", "resnet-basic", "timm"])("gets another classifier: %s", async (name) => {
    const model = (await vision.load(join(fixtures, name))) as vision.ImageModel;
    const other = vision.withClasses(model, ["cat", "dog"]);
    const pixels = random.normal(1, [2, 3, 12, 12]);
    expect(await other.forward(pixels).shape).toEqual([2, 2]);
    const [ours, theirs] = [other.encode(pixels).states, model.encode(pixels).states];
    expect(await ours.data()).toEqual(await theirs.data());
    const at = join(folder, `classes-${name}`);
    await vision.save(other, at);
    const opened = (await vision.load(at)) as vision.ImageModel;
    expect(opened.config.labels).toEqual(["cat", "dog"]);
    expect(await opened.forward(pixels).data()).toEqual(await other.forward(pixels).data());
  });

  it("is told that it can have no classifier", () => {
    const model = vision.mae({ ...sizes, decoder: { hiddenSize: 8, layers: 1, heads: 2 } });
    expect(() => vision.withClasses(model as never, 2)).toThrow(/mae has no classifier/);
  });

  it("is not saved as what it is no more", async () => {
    const model = nn.initialize(vision.vit({ ...sizes, classes: 3 }), 1);
    model.classifier = nn.initialize(new nn.Linear(8, 5, { bias: true }), 2);
    await expect(vision.save(model, join(folder, "other"))).rejects.toThrow(
      /classifier\.weight is \[5, 8\], the configuration says \[3, 8\]/,
    );
  });

  it("drops whole pictures' branches in training only, and more often in later layers", async () => {
    const model = nn.initialize(vision.vit({ ...sizes, dropPath: 0.5, layers: 3 }), 1);
    const rates = model.tower.layers.map(({ drop1 }) => drop1?.rate ?? 0);
    expect(rates).toEqual([0, 0.25, 0.5]);
    const pixels = random.normal(0, [64, 3, 8, 8]);
    const [still, again] = await Promise.all([model.forward(pixels).data(), model.forward(pixels).data()]);
    expect(still).toEqual(again);
    const drop = new nn.StochasticDepth(0.25);
    const kept = nn.withKeys(drop, 3).forward(pixels.mul(0).add(1));
    const rows = (await kept.reshape([64, -1]).array()) as number[][];
    for (const row of rows) expect(new Set(row).size).toBe(1);
    const share = rows.filter(([x]) => x! > 0).length / 64;
    expect(share).toBeGreaterThan(0.5);
    expect(share).toBeLessThan(0.95);
    expect(rows.find(([x]) => x! > 0)![0]).toBeCloseTo(4 / 3);
  });
});
