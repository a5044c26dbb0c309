/** Flow matching (Lipman et al. 2023) with a small U-Net: a straight path from noise to a digit, an averaged model, Euler steps. */
import {
  adamw,
  concatenate,
  cosine,
  data,
  foriLoop,
  jit,
  nn,
  random,
  type Tensor,
  Trainer,
  tensor,
} from "aronnax";
import { digits } from "./digits.ts";

const width = 16;

class Block extends nn.Module {
  norm: nn.GroupNorm;
  conv: nn.Conv2d;
  time: nn.Linear;
  constructor(inputs: number, outputs: number, strides = 1) {
    super();
    this.norm = new nn.GroupNorm(4, inputs);
    this.conv = new nn.Conv2d(inputs, outputs, 3, { padding: 1, strides });
    this.time = new nn.Linear(width, outputs, { bias: true });
  }
  forward(x: Tensor, time: Tensor): Tensor {
    return this.conv.forward(this.norm.forward(x).silu()).add(this.time.forward(time).expandDims([-2, -1]));
  }
}

class UNet extends nn.Module {
  enter = new nn.Conv2d(1, width, 3, { padding: 1 });
  same = new Block(width, width);
  down = new Block(width, 2 * width, 2);
  middle = new Block(2 * width, 2 * width);
  up = new nn.ConvTranspose2d(2 * width, width, 2, { strides: 2 });
  joined = new Block(2 * width, width);
  leave = new nn.Conv2d(width, 1, 3, { padding: 1, init: nn.constantInit(0) });

  /** The velocity at x [rows, 1, 8, 8] and times [rows]. */
  forward(x: Tensor, times: Tensor): Tensor {
    const time = nn.sinusoidalPositions(times.mul(1000), width);
    const high = this.same.forward(this.enter.forward(x), time);
    const low = this.down.forward(high, time);
    const back = this.up.forward(low.add(this.middle.forward(low, time)).silu());
    return this.leave.forward(
      this.joined
        .forward(concatenate([back, high], 1), time)
        .add(high)
        .silu(),
    );
  }
}

/** Euler's method from noise at time 0 to images at time 1. */
const sample = jit((model: UNet, noise: Tensor, steps: number) =>
  foriLoop(
    0,
    steps,
    (i, x) => {
      const time = i.astype("float32").div(steps).broadcastTo([x.shape[0]!]);
      return x.add(model.forward(x, time).div(steps));
    },
    noise,
  ),
);

/** Twice the mean distance between the sets less those within them (Székely & Rizzo 2013): 0 where they are alike. */
async function energyDistance(a: Tensor, b: Tensor): Promise<number> {
  const within = (x: Tensor, y: Tensor) =>
    x.flatten(1).expandDims(1).sub(y.flatten(1).expandDims(0)).square().sum(-1).add(1e-12).sqrt().mean();
  return within(a, b).mul(2).sub(within(a, a)).sub(within(b, b)).item();
}

export async function run() {
  const real = tensor(digits.image.data, digits.image).mul(2).sub(1);
  const trainer = new Trainer({
    name: "flow-unet",
    model: new UNet(),
    data: data.arrays(digits, { batchSize: 32 }),
    optimizer: adamw({ learningRate: cosine({ peak: 5e-3, warmup: 20 }), clipNorm: 1 }),
    steps: 150,
    average: { decay: 0.95 },
    printEvery: 0,
    loss: (model, { image }, { key }) => {
      const [forTime, forNoise] = random.splitKeys(key ?? 0) as [Tensor, Tensor];
      const [x1, x0] = [image.mul(2).sub(1), random.normal(forNoise, image.shape)];
      const time = random.uniform(forTime, [image.shape[0]!]);
      const at = time.reshape([-1, 1, 1, 1]);
      return model
        .forward(x0.add(x1.sub(x0).mul(at)), time)
        .sub(x1.sub(x0))
        .square()
        .mean();
    },
  });
  await trainer.fit();
  const noise = random.normal(1, [64, 1, 8, 8]);
  const drawn = sample(trainer.averaged!, noise, 10);
  return {
    distance: await energyDistance(drawn, real.slice([0, 256])),
    noise: await energyDistance(noise, real.slice([0, 256])),
    other: await energyDistance(real.slice([256, 320]), real.slice([0, 256])),
  };
}

if (import.meta.main) console.log(await run());
