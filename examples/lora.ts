/** LoRA (Hu et al. 2022): a frozen network learns another task by products of thin matrices beside its own. */
import { adamw, data, metrics, nn, peft, relu, type Tensor, Trainer } from "aronnax";
import { digits } from "./digits.ts";

class Classifier extends nn.Module {
  layers = nn.sequential(
    (x: Tensor) => x.flatten(1),
    new nn.Linear(64, 128, { bias: true, init: nn.kaimingNormal() }),
    relu,
    new nn.Linear(128, 10, { bias: true }),
  );
}

/** @param image - of the classifier's task, from a digit */
const trainerOf = (name: string, model: Classifier, image: (x: Tensor) => Tensor) =>
  new Trainer({
    name,
    model,
    data: data.arrays(digits, { batchSize: 64, validation: 0.2 }),
    optimizer: adamw({ learningRate: 5e-3 }),
    steps: 200,
    printEvery: 0,
    loss: ({ layers }, batch) => {
      const logits = layers.forward(image(batch.image));
      const right = logits.argmax(-1).equal(batch.label).astype("float32");
      return { loss: nn.crossEntropy(logits, batch.label), metrics: { accuracy: metrics.mean(right) } };
    },
  });

export async function run() {
  const pretraining = trainerOf("lora-base", new Classifier(), (x) => x);
  await pretraining.fit();
  const base = pretraining.model;
  const adapted = peft.lora(base, { rank: 4, alpha: 4, targetModules: "all-linear" });
  const trainer = trainerOf("lora", adapted, (x) => x.flip(-1));
  const before = (await trainer.evaluate())!.valid_accuracy!;
  await trainer.fit();
  const after = (await trainer.evaluate())!.valid_accuracy!;
  const onFirst = (await pretraining.evaluate())!.valid_accuracy!;
  return {
    before,
    after,
    onFirst,
    added: trainer.model.parameterCount - base.parameterCount,
    frozen: base.parameterCount,
  };
}

if (import.meta.main) console.log(await run());
