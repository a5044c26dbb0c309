/** What each method computes on a language model: fresh, merged, with others, by row; and what is refused. */
import { type DType, jit, llm, nn, peft, quantize, type Tensor, tree } from "aronnax";
import { describe, expect, it, vi } from "vitest";
import { distance, llama, moved, numbers, size, tokens } from "./support.js";

vi.setConfig({ testTimeout: 240_000 });

const forward = jit((model: llm.Llama, x: Tensor): Tensor => model.forward(x), { manyTraces: true });
const base = llama();
const biased = nn.initialize(
  llm.gpt2({ vocabSize: 40, hiddenSize: 16, layers: 2, heads: 4, maxPositions: 32 }),
  5,
);
const all = { targetModules: "all-linear" } as const;
const trained = (model: nn.Module): string[] => {
  const specs = nn.parameterSpecs(model);
  return [...specs].filter(([, { kind }]) => kind === "parameter").map(([path]) => path);
};

describe("a fresh adapter", () => {
  it.each<[string, (m: llm.Llama) => llm.Llama, llm.Llama?]>([
    ["LoRA", (m) => peft.lora(m, all)],
    ["rsLoRA", (m) => peft.lora(m, { ...all, rsLora: true, alpha: 32 })],
    [
      "LoRA of embeddings and output layer",
      (m) => peft.lora(m, { targetModules: ["embed_tokens", "lmHead"] }),
    ],
    ["LoRA of parameters", (m) => peft.lora(m, { targetParameters: ["q_proj.weight"] })],
    ["IA3", (m) => peft.ia3(m)],
    ["Houlsby's adapters", (m) => peft.houlsby(m)],
    ["Pfeiffer's adapters", (m) => peft.pfeiffer(m, { features: 3 })],
    ["BitFit", (m) => peft.bitfit(m), biased],
    ["modules and rows", (m) => peft.lora(m, { modulesToSave: ["lm_head"], trainableTokenIndices: [3, 9] })],
  ])("of %s changes nothing, to the last bit", async (_, attach, model = base) => {
    const adapted = attach(model);
    expect(await numbers(forward(adapted, tokens()))).toEqual(await numbers(forward(model, tokens())));
    expect(trained(adapted).length).toBeGreaterThan(0);
    expect(trained(adapted).every((path) => /adapters\.|[bB]ias/.test(path))).toBe(true);
  });

  it("of DoRA changes nothing to 1e-6", async () => {
    const adapted = peft.lora(base, { ...all, dora: true });
    expect(await distance(forward(adapted, tokens()), forward(base, tokens()))).toBeLessThan(1e-6);
  });

  it.each(["nf4", "int8", "fp8"] as const)(
    "on a base in %s computes what the base in these bits does",
    async (format) => {
      const rounded = quantize.linears(base, { format });
      const adapted = peft.qlora(base, { quantize: { format } });
      expect(await numbers(forward(adapted, tokens()))).toEqual(await numbers(forward(rounded, tokens())));
      if (format === "fp8") return;
      const plain = nn.replace(
        rounded,
        (module) => module instanceof quantize.QuantizedLinear,
        (module) => {
          const { weight } = module as quantize.QuantizedLinear;
          return Object.assign(new nn.Linear(weight.shape[1]!, weight.shape[0]!), { weight });
        },
      );
      expect(await distance(forward(adapted, tokens()), forward(plain, tokens()))).toBeLessThan(2e-6);
      expect(rounded.parameterCount).toBe(base.parameterCount);
    },
  );
});

describe("merged", () => {
  it.each<[string, (m: llm.Llama) => llm.Llama, llm.Llama?]>([
    ["LoRA", (m) => peft.lora(m, { ...all, rank: 4, alpha: 8 })],
    ["DoRA", (m) => peft.lora(m, { ...all, rank: 4, dora: true })],
    ["embeddings and output layer", (m) => peft.lora(m, { targetModules: ["embed_tokens", "lm_head"] })],
    ["DoRA of embeddings", (m) => peft.lora(m, { targetModules: ["embed_tokens"], dora: true })],
    ["IA3", (m) => peft.ia3(m)],
    ["IA3 with biases", (m) => peft.ia3(m), biased],
    ["parameters", (m) => peft.lora(m, { rank: 2, targetParameters: ["up_proj.weight"] })],
    ["modules and rows", (m) => peft.lora(m, { modulesToSave: ["lm_head"], trainableTokenIndices: [3, 9] })],
  ])("%s in float32 compute the same to 1e-5, and come apart again", async (_, attach, model = base) => {
    const adapted = moved(attach(model));
    const logits = forward(adapted, tokens());
    expect(await distance(logits, forward(model, tokens()))).toBeGreaterThan(1e-3);
    const merged = peft.merge(adapted);
    expect([...tree.named(merged).keys()]).toEqual([...tree.named(model).keys()]);
    expect(merged.constructor).toBe(model.constructor);
    expect(await distance(forward(merged, tokens()), logits)).toBeLessThan(1e-5);
    const apart = peft.unmerge(merged, adapted);
    expect(await distance(forward(apart, tokens()), logits)).toBeLessThan(1e-5);
    expect(await distance(forward(peft.remove(apart), tokens()), forward(model, tokens()))).toBeLessThan(
      1e-5,
    );
  });

  it.each<[string, number, (m: llm.Llama) => llm.Llama]>([
    ["bfloat16", 0.05, (m) => peft.lora(nn.castTree(m, "bfloat16"), all)],
    ["NF4", 1e-5, (m) => peft.qlora(m)],
    ["NF4, merged into bfloat16", 0.02, (m) => peft.qlora(m)],
    ["INT8", 1e-5, (m) => peft.qlora(m, { quantize: { format: "int8" } })],
  ])("onto %s compute the same to rounding, which is printed", async (name, limit, attach) => {
    const adapted = moved(attach(base));
    const dtype: DType | undefined = name.endsWith("into bfloat16") ? "bfloat16" : undefined;
    const merged = peft.merge(adapted, { ...(dtype !== undefined && { dtype }) });
    const q = merged.model.layers[0]!.selfAttn.qProj!;
    expect(q).toBeInstanceOf(nn.Linear);
    expect(q.weight.dtype).toBe(name === "bfloat16" ? "bfloat16" : (dtype ?? "float32"));
    const error = await distance(forward(merged, tokens()), forward(adapted, tokens()));
    console.log(`merged onto ${name}: relative error ${error.toExponential(2)}`);
    expect(error).toBeLessThan(limit);
  });

  it("onto the weights before they were quantized would be another model", async () => {
    const adapted = moved(peft.qlora(base));
    const onto = peft.merge(moved(peft.lora(base, all)));
    expect(await distance(forward(onto, tokens()), forward(adapted, tokens()))).toBeGreaterThan(1e-3);
  });

  it("is refused where no weight holds what was learnt", () => {
    expect(() => peft.merge(peft.houlsby(base))).toThrow(/no change of a weight/);
    expect(() => peft.merge(base)).toThrow(/no adapters/);
    expect(() => peft.merge(peft.activate(peft.lora(base), null))).toThrow(/no adapter is active/);
  });
});

describe("several adapters", () => {
  const first = moved(peft.lora(base, { ...all, rank: 2, name: "first" }), 0.3, 1);
  const both = moved(
    peft.lora(first, { targetModules: ["q_proj", "embed_tokens"], rank: 5, name: "second" }),
    0.3,
    2,
  );
  const only = (name: string) => forward(peft.activate(both, name), tokens());

  it("are switched, and the newest is active at first", async () => {
    expect(peft.adapterNames(both).sort()).toEqual(["first", "second"]);
    expect(await numbers(forward(both, tokens()))).toEqual(await numbers(only("second")));
    expect(await numbers(forward(peft.activate(both, null), tokens()))).toEqual(
      await numbers(forward(base, tokens())),
    );
    expect(await distance(only("first"), only("second"))).toBeGreaterThan(1e-2);
    expect(trained(both).every((path) => path.includes("adapters.second"))).toBe(true);
    expect(trained(peft.activate(both, "first")).every((path) => path.includes("adapters.first"))).toBe(true);
    expect(await numbers(forward(peft.activate(peft.remove(both, "second"), "first"), tokens()))).toEqual(
      await numbers(only("first")),
    );
  });

  it("are added, with weights", async () => {
    const added = peft.activate(both, { first: 0.7, second: -0.5 });
    const { qProj } = added.model.layers[0]!.selfAttn;
    const x = base.model.embedTokens.forward(tokens());
    const one = (name: string) => {
      const layer = peft.activate(both, name).model.layers[0]!.selfAttn.qProj!;
      return layer.forward(x).sub(base.model.layers[0]!.selfAttn.qProj!.forward(x));
    };
    const wanted = base.model.layers[0]!.selfAttn.qProj!.forward(x)
      .add(one("first").mul(0.7))
      .sub(one("second").mul(0.5));
    expect(await distance(qProj!.forward(x), wanted)).toBeLessThan(1e-5);
    const merged = peft.merge(added);
    expect(await distance(forward(merged, tokens()), forward(added, tokens()))).toBeLessThan(1e-5);
  });

  it("are mixed by row in one batch, each row as by its own, and other rows are no other program", async () => {
    const x = tokens(4);
    const run = jit((m: llm.Llama, t: Tensor) => m.forward(t));
    const away = (a: readonly number[], b: readonly number[]): number =>
      Math.hypot(...a.map((v, k) => v - b[k]!)) / Math.hypot(...a);
    const check = async (rows: (string | null)[]) => {
      const mixed = await numbers(run(peft.mixed(both, rows), x));
      const per = mixed.length / rows.length;
      for (const [i, name] of rows.entries()) {
        const alone = await numbers(forward(peft.activate(both, name), x));
        const own = alone.slice(i * per, (i + 1) * per);
        // What another order of the same products does to this row: some amplify rounding more, by the processor.
        const merged =
          name === null ? alone : await numbers(forward(peft.merge(peft.activate(both, name)), x));
        const rounding = away(own, merged.slice(i * per, (i + 1) * per));
        expect(away(own, mixed.slice(i * per, (i + 1) * per))).toBeLessThan(Math.max(2e-6, 4 * rounding));
      }
    };
    const warn = vi.spyOn(console, "warn");
    await check(["first", null, "second", "first"]);
    await check([null, "second", "second", "first"]);
    expect(warn.mock.calls.filter(([text]) => /traced/.test(String(text)))).toEqual([]);
    expect(() => peft.mixed(both, ["third"])).toThrow(/no adapter "third"/);
    expect(() => peft.mixed(peft.ia3(base), ["default"])).toThrow(/more than add a product/);
  });
});

describe("what cannot be done is refused", () => {
  const cases: [string, () => unknown, RegExp, RegExp?][] = [
    [
      "names that match nothing",
      () => peft.lora(base, { targetModules: ["q_prj"] }),
      /\(q_prj\) matches nothing/,
      /q_proj/,
    ],
    [
      "one of several names",
      () => peft.lora(base, { targetModules: ["q_proj", "nothing"] }),
      /\(nothing\) matches/,
    ],
    ["a regular expression", () => peft.lora(base, { targetModules: /foo.*/ }), /matches nothing/],
    [
      "an exclusion that matches nothing",
      () => peft.lora(base, { ...all, excludeModules: ["bar"] }),
      /excludeModules/,
    ],
    [
      "an exclusion of all",
      () => peft.lora(base, { targetModules: ["q_proj"], excludeModules: ["q_proj"] }),
      /none/,
    ],
    [
      "layers that there are not",
      () => peft.lora(base, { layersToTransform: [0, 7] }),
      /layersToTransform has 7/,
      /0, 1/,
    ],
    [
      "a rank above the size",
      () => peft.lora(base, { ...all, rank: 9 }),
      /rank 9 at .*k_proj.* 8 x 16/,
      /at most 8/,
    ],
    ["a rank that is none", () => peft.lora(base, { rank: 0 }), /rank is 0/],
    ["an alpha that is none", () => peft.lora(base, { alpha: Number.NaN }), /alpha is NaN/],
    ["a dropout that is none", () => peft.lora(base, { dropout: 1 }), /dropout is 1/],
    [
      "a pattern of no target",
      () => peft.lora(base, { rankPattern: { up_proj: 2 } }),
      /rankPattern has "up_proj"/,
    ],
    [
      "layers without a product",
      () => peft.lora(base, { targetModules: ["norm"] }),
      /RMSNorm, which low-rank/,
    ],
    ["containers", () => peft.lora(base, { targetModules: ["mlp"] }), /GatedMlp, which low-rank/],
    ["a name that is taken", () => peft.lora(peft.lora(base)), /has an adapter "default" already/],
    ["a name with a point", () => peft.lora(base, { name: "a.b" }), /name is "a.b"/],
    ["an unknown option", () => peft.lora(base, { ranks: 3 } as never), /no option ranks/, /rank/],
    [
      "parameters that there are not",
      () => peft.lora(base, { targetParameters: ["foo"] }),
      /targetParameters \(foo\)/,
    ],
    [
      "modules to save that there are not",
      () => peft.lora(base, { modulesToSave: ["head"] }),
      /modulesToSave \(head\)/,
    ],
    ["rows beyond the table", () => peft.lora(base, { trainableTokenIndices: [40] }), /has 40/, /0 to 39/],
    [
      "two changes of one layer",
      () => peft.lora(base, { targetModules: ["embed_tokens"], trainableTokenIndices: [1] }),
      /two ways/,
    ],
    ["biases that there are not", () => peft.bitfit(base), /no biases/],
    ["trained biases that there are not", () => peft.lora(base, { bias: "all" }), /no biases/],
    [
      "feed-forward layers that are no target",
      () => peft.ia3(base, { feedforwardModules: ["up_proj"] }),
      /no target/,
    ],
    [
      "a quantized module to train whole",
      () => peft.lora(quantize.linears(base), { modulesToSave: ["up_proj"] }),
      /quantized weights, which cannot be trained/,
    ],
    ["weights without values, to quantize", () => quantize.linears(llm.llama(size)), /no values yet/],
    ["DoRA of weights without values", () => peft.lora(llm.llama(size), { dora: true }), /no values yet/],
    ["a format", () => quantize.linears(base, { format: "nf3" as never }), /format is "nf3"/],
    ["quantizing what is quantized", () => quantize.linears(quantize.linears(base)), /matches nothing/],
    ["an unknown adapter", () => peft.activate(peft.lora(base), "other"), /no adapter "other"/],
    ["weights of what is no sum", () => peft.activate(peft.ia3(base), { default: 0.5 }), /more than add/],
    ["a prompt of no tokens", () => peft.promptTuning(base, { virtualTokens: 0 }), /virtualTokens is 0/],
    ["a prompt of other tokens", () => peft.promptTuning(base, { init: [41] }), /init has 41/],
    ["a prompt of no language model", () => peft.promptTuning(new nn.Linear(2, 2)), /no tokens/],
    [
      "packed texts after a prompt",
      () => peft.promptTuning(base).forward(tokens(), { segments: tokens() }),
      /packed texts/,
    ],
  ];
  it.each(cases)("%s", (_, call, message, fix) => {
    let error: unknown;
    try {
      call();
    } catch (caught) {
      error = caught;
    }
    expect(error).toMatchObject({ message: expect.stringMatching(message) });
    if (fix !== undefined) expect(error).toMatchObject({ fix: expect.stringMatching(fix) });
  });
});
