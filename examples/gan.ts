/** A generative adversarial network (Goodfellow et al. 2014) that learns a ring: two optimizers, and a step of one's own. */
import { adam, data, leakyRelu, nn, random, relu, type Tensor, Trainer } from "aronnax";

const mlp = (inputs: number, outputs: number, activation: (x: Tensor) => Tensor) =>
  nn.sequential(
    new nn.Linear(inputs, 64, { bias: true, init: nn.kaimingNormal() }),
    activation,
    new nn.Linear(64, 64, { bias: true, init: nn.kaimingNormal() }),
    activation,
    new nn.Linear(64, outputs, { bias: true, init: nn.xavierNormal() }),
  );

class Gan extends nn.Module {
  g = mlp(4, 2, relu);
  d = mlp(2, 1, leakyRelu);
}

const batchSize = 128;
const ring = data.generated({
  batchSize,
  make: ({ random }) => {
    const angles = Array.from({ length: batchSize }, () => 2 * Math.PI * random.uniform());
    return {
      x: {
        data: Float32Array.from(angles.flatMap((a) => [Math.cos(a), Math.sin(a)])),
        shape: [batchSize, 2],
      },
    };
  },
});

/** Mean distance of samples to the ring, and how far their mean is from its middle (1 where all are one point of it). */
async function measure({ g }: Gan) {
  const samples = g.forward(random.normal(7, [1024, 4]));
  const [distance, middle] = [samples.norm(-1).sub(1).abs().mean(), samples.mean(0).norm()];
  return { distance: await distance.item(), middle: await middle.item() };
}

export async function run() {
  const model = nn.initialize(new Gan(), 0);
  const trainer = new Trainer({
    name: "gan",
    model,
    data: ring,
    optimizers: {
      g: adam({ learningRate: 1e-3, beta1: 0.5 }),
      d: adam({ learningRate: 2e-3, beta1: 0.5 }),
    },
    steps: 500,
    printEvery: 0,
    step({ update, key }) {
      const z = random.normal(key, [batchSize, 4]);
      update("d", ({ g, d }, { x }) => {
        const fake = g.forward(z).stopGradient();
        return d.forward(x).neg().softplus().mean().add(d.forward(fake).softplus().mean());
      });
      update("g", ({ g, d }) => d.forward(g.forward(z)).neg().softplus().mean());
    },
  });
  await trainer.fit();
  return { ...(await measure(trainer.model)), untrained: (await measure(model)).distance };
}

if (import.meta.main) console.log(await run());
