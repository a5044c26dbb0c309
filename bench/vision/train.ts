/**
 * Training images/s of a vision model: uint8 pictures that stay on the device, augmented inside the step, BF16 with float32 masters, AdamW. A line
 * of JSON.
 *
 * usage: vision [--model vit_base|clip_base_32|resnet50|...] [--batch 256] [--steps 30] [--precision bf16] [--tiny] [--peer PYTHON]
 *
 * `--tiny` takes a small model of the same family, for CPUs. `--peer PYTHON` runs the same training in PyTorch (bench/peers/vision_torch.py, eager and
 * compiled) with that Python beside it.
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { adamw, data, image, nn, random, type Tensor, Trainer, vision } from "aronnax";
import { Sfc32 } from "../../core/src/data/random.js";
import { Runtime } from "../../core/src/runtime/runtime.js";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "vit_base" },
    batch: { type: "string", default: "256" },
    steps: { type: "string", default: "30" },
    precision: { type: "string", default: "bf16" },
    tiny: { type: "boolean", default: false },
    peer: { type: "string" },
  },
});
const [name, batch, steps] = [values.model, Number(values.batch), Number(values.steps)];
const clip = name.startsWith("clip");
const tiny = { imageSize: 32, patchSize: 8, hiddenSize: 32, layers: 2, heads: 2 };

function imageModel(): vision.ImageModel {
  if (values.tiny) return vision.vit({ ...tiny, classes: 10 });
  const config = vision.configs[name as keyof typeof vision.configs];
  if (name.startsWith("resnet")) return vision.resNet({ ...(config as vision.ResNetConfig), classes: 1000 });
  if (name.startsWith("convnext"))
    return vision.convNextV2({ ...(config as vision.ConvNextV2Config), classes: 1000 });
  return vision.vit({ ...(config as vision.VitConfig), classes: 1000 });
}
const pairs = (): vision.Clip =>
  vision.clip(
    values.tiny
      ? {
          vision: tiny,
          text: { hiddenSize: 32, layers: 1, heads: 2, vocabSize: 100, maxPositions: 16, endId: 2 },
          projection: 16,
        }
      : (vision.configs[name as "clip_base_32"] as vision.ClipConfig),
  );

const side = values.tiny ? 32 : 224;
const [length, words, classes] = values.tiny ? [16, 100, 10] : [77, 49_408, 1000];
const draw = new Sfc32([5]);
const rows = 2 * batch;
const pictures = { data: new Uint8Array(rows * side * side * 3), shape: [rows, side, side, 3] };
for (let i = 0; i < pictures.data.length; i++) pictures.data[i] = draw.uint32();
const source = data.arrays(
  {
    pictures,
    label: Int32Array.from({ length: rows }, () => draw.below(classes)),
    tokens: {
      data: Int32Array.from({ length: rows * length }, () => draw.below(words)),
      shape: [rows, length],
    },
  },
  { batchSize: batch },
);

const normalized = (x: Tensor): Tensor => x.sub(0.5).div(0.5).transpose([0, 3, 1, 2]);
const half = values.precision === "bf16" ? "bfloat16" : "float32";
const prepared = (x: Tensor, key: random.Key): Tensor =>
  normalized(image.augment(x, random.bits(key, [batch]), { flip: 0.5 })).astype(half);

const common = {
  name: `bench-${name}`,
  data: source,
  optimizer: adamw({ learningRate: 1e-4, weightDecay: 0.1 }),
  precision: values.precision as "bf16" | "float32",
  steps,
  printEvery: 0,
};
const trainer = clip
  ? new Trainer({
      ...common,
      model: pairs(),
      loss: (model, { pictures: x, tokens }, { key }) => model.loss({ pixels: prepared(x, key!), tokens }),
    })
  : new Trainer({
      ...common,
      model: imageModel(),
      loss: (model, { pictures: x, label }, { key, training }) =>
        nn.crossEntropy(model.forward(prepared(x, key!), { training }), label, { labelSmoothing: 0.1 }),
    });
await trainer.fit();
const times = trainer.rows
  .slice(Math.min(5, Math.floor(steps / 2)))
  .map((row) => Number(row.step_seconds ?? Number.NaN))
  .filter((x) => x > 0)
  .sort((a, b) => a - b);
const seconds = times[Math.floor(times.length / 2)];
const info = await Runtime.default().ready;
console.log(
  JSON.stringify({
    benchmark: "vision-train",
    model: values.tiny ? `${name} (tiny)` : name,
    batch,
    steps,
    precision: values.precision,
    parameters: trainer.model.parameterCount,
    secondsPerStep: seconds,
    imagesPerSecond: seconds === undefined ? undefined : batch / seconds,
    loss: trainer.rows.at(-1)?.loss,
    devices: info.devices.length,
  }),
);
if (values.peer !== undefined) {
  const script = fileURLToPath(new URL("../peers/vision_torch.py", import.meta.url));
  const sizes = ["--model", name, "--batch", String(batch), "--steps", String(steps)];
  execFileSync(values.peer, [script, ...sizes, ...(values.tiny ? ["--tiny"] : [])], { stdio: "inherit" });
}
Runtime.default().close();
