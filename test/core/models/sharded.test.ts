/** Checkpoints opened over eight virtual devices: each has its part, and the model computes what it computes on one. */
import "../../support/eight-devices.js";
import "../../support/runtime.js";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkpoint, jit, llm, Mesh, random, type Tensor } from "aronnax";
import { expect, it } from "vitest";

const fixtures = fileURLToPath(new URL("../../fixtures/verify", import.meta.url));
const mesh = new Mesh({ fsdp: 2, tensor: 2, expert: 2 });
const forward = jit((m: llm.Decoder, x: Tensor) => m.forward(x));

it.each(["mixtral", "gpt2"])("%s", async (name) => {
  const [whole, parted] = [
    await llm.load(join(fixtures, name)),
    await llm.load(join(fixtures, name), { mesh }),
  ];
  const layer = parted.model.layers[0]!;
  const weight =
    layer.mlp instanceof Object && "experts" in layer.mlp
      ? layer.mlp.experts.gateProj
      : layer.selfAttn.qkvProj!.weight;
  expect(weight.buffer!.sharding!.spec).toEqual(
    name === "mixtral" ? [["expert"], ["tensor"], ["fsdp"]] : [["tensor"], ["fsdp"]],
  );
  const tokens = random.integers(1, [2, 16], 0, 40);
  const [expected, actual] = [await forward(whole, tokens).data(), await forward(parted, tokens).data()];
  for (let i = 0; i < expected.length; i++) expect(Number(actual[i])).toBeCloseTo(Number(expected[i]), 4);

  const out = mkdtempSync(join(tmpdir(), "aronnax-sharded-"));
  try {
    await llm.save(parted, out);
    const [ours, theirs] = [
      await checkpoint.TensorFiles.open(out),
      await checkpoint.TensorFiles.open(join(fixtures, name)),
    ];
    for (const tensor of theirs.tensors.keys())
      expect(
        Buffer.from(await ours.read(tensor)).equals(Buffer.from(await theirs.read(tensor))),
        tensor,
      ).toBe(true);
    await Promise.all([ours.close(), theirs.close()]);
  } finally {
    rmSync(out, { recursive: true });
  }
});
