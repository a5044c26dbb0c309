/** Parameter-efficient fine-tuning: small parameters beside a model that stays as it is. A method a file. */

export { type BitFitOptions, bitfit } from "./bitfit.js";
export { type BottleneckOptions, houlsby, pfeiffer } from "./bottleneck.js";
export { type Ia3Options, ia3 } from "./ia3.js";
export { type LoraOptions, type LoraPlusOptions, lora, loraPlus } from "./lora.js";
export { type MergeOptions, merge, unmerge } from "./merge.js";
export { activate, adapterNames, remove } from "./model.js";
export { type PTuningOptions, pTuning } from "./p-tuning.js";
export { type PrefixTuningOptions, prefixTuning } from "./prefix-tuning.js";
export { type PromptTuningOptions, promptTuning } from "./prompt-tuning.js";
export { type QloraOptions, qlora } from "./qlora.js";
export { mixed, stackAdapters, withRows } from "./rows.js";
export { type AdapterLoadOptions, type AdapterSaveOptions, adapterTypes, load, save } from "./save.js";
export type { Targets } from "./targets.js";
