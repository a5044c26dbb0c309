/** Language models as transformers computes them, for `verify`. */
import { broadcastTo } from "../array/broadcast.js";
import { add, cast, mul, notEqual, sub, where } from "../array/elementwise.js";
import { slice } from "../array/indexing.js";
import { concatenate } from "../array/joining.js";
import { pad } from "../array/shaping.js";
import type { Tensor } from "../array/tensor.js";
import { cumsum } from "../array/windows.js";
import { CheckpointError } from "../checkpoint/errors.js";
import type { Decoder } from "../models/llm/decoder.js";
import { storedAs } from "../models/llm/family.js";
import { load } from "../models/llm/pretrained.js";
import { storedTensors } from "../models/pretrained/weights.js";
import { ExpertMlp } from "../nn/experts.js";
import { crossEntropy } from "../nn/losses.js";
import type { Alias, Computed, HostArray, Verifiable, Way } from "./verifiable.js";

/** Of labels that do not count. */
const ignored = -100;

/** The padding token that transformers takes where `config.json` names none. */
const silentPadding: Readonly<Record<string, number>> = { gemma2: 0, gemma3_text: 0, phi3: 32_000 };

export async function openLanguageModel(folder: string): Promise<Verifiable<Decoder>> {
  const model = await load(folder, { dtype: "float32" });
  return {
    model,
    inputs: ["input_ids", "attention_mask", "position_ids", "labels"],
    ways: (inputs) => ways(model, inputs),
    stored,
    aliases,
  };
}

function ways(model: Decoder, inputs: ReadonlyMap<string, HostArray>): Way<Decoder>[] {
  const refuse = (what: string, fix: string): never => {
    throw new CheckpointError(`the reference's ${what}`, fix);
  };
  const ids = inputs.get("input_ids");
  if (ids === undefined)
    return refuse("input.input_ids is missing", "save the tokens that the model was given");
  const [batch, time] = ids.shape;
  if (ids.shape.length !== 2 || time! < 1)
    refuse(`input.input_ids has the shape [${ids.shape.join(", ")}]`, "give tokens [batch, time]");
  for (const [name, { shape }] of inputs) {
    const rows = name === "position_ids" ? [1, batch] : [batch];
    if (shape.length !== 2 || !rows.includes(shape[0]) || shape[1] !== time)
      refuse(
        `input.${name} has the shape [${shape.join(", ")}] for tokens [${batch}, ${time}]`,
        "save the arguments of one call",
      );
  }
  const { vocabSize, maxPositions } = model.config;
  within("input_ids", ids, 0, vocabSize);
  const positions = inputs.get("position_ids");
  if (positions !== undefined) within("position_ids", positions, 0, maxPositions ?? Number.POSITIVE_INFINITY);
  const labels = inputs.get("labels");
  if (labels !== undefined) {
    within("labels", labels, 0, vocabSize, ignored);
    if (!Array.from(labels.data, Number).some((label, i) => i % time! > 0 && label !== ignored))
      refuse("input.labels are all -100", "its loss is no number: label at least one token after the first");
  }
  const mask = inputs.get("attention_mask");
  if (mask !== undefined) within("attention_mask", mask, 0, 2);
  const padded = mask !== undefined && Array.from(mask.data, Number).includes(0);
  const routed = model.config.experts !== undefined && model.source?.output_router_logits === true;
  if (padded && routed)
    refuse(
      "config has output_router_logits and its attention_mask padding",
      "make the reference without one of them: the experts' auxiliary loss over padded texts is not computed",
    );
  const way = (name: string, options: Partial<Setting> = {}): Way<Decoder> => ({
    name,
    compute: (m, tensors) =>
      compute(m, tensors, { fixedToken: paddingOf(model), padded, routed, ...options }),
  });
  if (padded && !seesAll(mask, model.config.window)) {
    // What a token that sees none gives is another thing in each of torch's kernels.
    return [
      way("a token that sees none gets zeros (scaled_dot_product_attention)", { blind: "zero" }),
      way("a token that sees none gets the mean (eager attention)", { blind: "mean" }),
    ];
  }
  if (mask === undefined && positions !== undefined && jumps(positions)) {
    return [
      way("positions that jump begin another text (use_cache=False)", { packed: true }),
      way("positions that jump are of one text (with a cache)"),
    ];
  }
  return [way("as torch")];
}

/** What the inputs make of a computation. */
interface Setting {
  readonly fixedToken: number | undefined;
  /** Whether the mask leaves tokens out. */
  readonly padded: boolean;
  /** Whether the loss has the experts' auxiliary one. */
  readonly routed: boolean;
  readonly blind?: "zero" | "mean";
  /** Whether positions that jump divide the texts. */
  readonly packed?: boolean;
}

function compute(
  model: Decoder,
  inputs: Readonly<Record<string, Tensor>>,
  { fixedToken, padded, routed, blind = "zero", packed = false }: Setting,
): Computed {
  const { input_ids: tokens, attention_mask: mask, position_ids: given, labels } = inputs;
  const [batch, time] = tokens!.shape as [number, number];
  const positions = given && broadcastTo(given, [batch, time]);
  const { hidden, balance } = model.hiddenAndBalance(tokens!, {
    fixedToken,
    withLead: true,
    ...(positions !== undefined && { positions }),
    ...(packed && { segments: textsOf(positions!) }),
    ...(padded && { padding: { mask: mask!, blind } }),
  });
  const logits = model.logits(hidden);
  const outputs = { logits, ...(routed && { aux_loss: balance! }) };
  if (labels === undefined) return { outputs };
  // Of what comes before the tokens the last position has the first token's label.
  const before = hidden.shape[1]! - time;
  const whole = pad(
    labels,
    [
      [0, 0],
      [before, 0],
    ],
    ignored,
  );
  // The label of a token is the next one; the last has none.
  const next = pad(
    slice(whole, null, [1]),
    [
      [0, 0],
      [0, 1],
    ],
    ignored,
  );
  const counted = notEqual(next, ignored);
  const loss = crossEntropy(logits, where(counted, next, 0), cast(counted, "float32"));
  const weight = model.config.experts?.auxiliaryWeight ?? 0.001;
  return { outputs, loss: routed ? add(loss, mul(balance!, weight)) : loss };
}

/** The number of the text that each position is of: another begins where positions do not go on by one. */
function textsOf(positions: Tensor): Tensor {
  const steps = sub(slice(positions, null, [1]), slice(positions, null, [0, -1]));
  return pad(cumsum(cast(notEqual(steps, 1), "int32"), 1), [
    [0, 0],
    [1, 0],
  ]);
}

function jumps({ shape, data }: HostArray): boolean {
  const time = shape[1]!;
  return Array.from(data, Number).some((p, i, all) => i % time > 0 && p !== all[i - 1]! + 1);
}

/** Whether every token sees one. */
function seesAll({ shape, data }: HostArray, window = Number.POSITIVE_INFINITY): boolean {
  const time = shape[1]!;
  let newest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < data.length; i++) {
    if (i % time === 0) newest = Number.NEGATIVE_INFINITY;
    if (Number(data[i]) !== 0) newest = i;
    if (i - newest >= window) return false;
  }
  return true;
}

function within(name: string, { data }: HostArray, from: number, to: number, other?: number): void {
  const wrong = Array.from(data, Number).find(
    (x) => !(Number.isInteger(x) && x >= from && x < to) && x !== other,
  );
  if (wrong !== undefined)
    throw new CheckpointError(
      `the reference's input.${name} holds ${wrong}`,
      `give integers from ${from} to ${to - 1}${other === undefined ? "" : `, or ${other}`}`,
    );
}

/** A tree of the model's structure by the names that its checkpoint has. */
function stored(tree: Decoder): Map<string, Tensor> {
  return storedTensors(tree, (path, shape) => storedAs(tree.family!, path, shape));
}

/** Names that torch's parameters have where the checkpoint's are others: the shared table's second one, experts in one Tensor. */
function aliases(tree: Decoder): Map<string, Alias> {
  const found = new Map<string, Alias>();
  const namesOf = (path: string, { shape }: Tensor): readonly string[] =>
    storedAs(tree.family!, path, shape).names;
  const { weight } = tree.model.embedTokens;
  if (tree.lmHead === null)
    found.set("lm_head.weight", {
      covers: namesOf("model.embedTokens.weight", weight),
      tensor: () => weight,
    });
  for (const [i, { mlp }] of tree.model.layers.entries()) {
    if (!(mlp instanceof ExpertMlp)) continue;
    const at = `model.layers.${i}.mlp`;
    const { gateProj, upProj, downProj } = mlp.experts;
    const names = (field: string, tensor: Tensor) => namesOf(`${at}.experts.${field}`, tensor);
    found.set(`${at}.experts.gate_up_proj`, {
      covers: [...names("gateProj", gateProj), ...names("upProj", upProj)],
      tensor: () => concatenate([gateProj, upProj], 1),
    });
    found.set(`${at}.experts.down_proj`, { covers: names("downProj", downProj), tensor: () => downProj });
    const router = mlp.gate.weight;
    found.set(`${at}.gate.weight`, { covers: namesOf(`${at}.gate.weight`, router), tensor: () => router });
  }
  return found;
}

/** The token whose embedding torch does not learn. */
function paddingOf({ family, source }: Decoder): number | undefined {
  // GPT-2's table is learned whole.
  if (family?.modelType === "gpt2") return undefined;
  const token = source?.pad_token_id;
  if (token === undefined) return silentPadding[family?.modelType ?? ""];
  return Number.isInteger(token) ? (token as number) : undefined;
}
