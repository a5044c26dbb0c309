/** LoRA (Hu et al. 2022): a frozen network learns another task by products of thin matrices beside its own. */
import { adamw, data, metrics, nn, relu, type Tensor, Trainer } from "aronnax";
import { digits } from "./digits.ts";

class Lora extends nn.Module {
  base: nn.Linear;
  down: nn.Linear;
  up: nn.Linear;
  constructor(base: nn.Linear, rank = 4) {
    super();
    const [outputs, inputs] = base.weight.shape as [number, number];
    this.base = base;
    this.down = new nn.Linear(inputs, rank, { init: nn.kaimingUniform() });
    this.up = new nn.Linear(rank, outputs, { init: nn.constantInit(0) });
  }
  forward(x: Tensor): Tensor {
    return this.base.forward(x).add(this.up.forward(this.down.forward(x)));
  }
}

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
  const base = nn.freeze(pretraining.model);
  const adapted = nn.replace(base, "layers.*", (layer) =>
    layer instanceof nn.Linear ? new Lora(layer) : layer,
  );
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
